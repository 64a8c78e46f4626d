//! JSON that both versions of the API have in common.

use std::collections::BTreeMap;

use frp_proto::msg::Version;
use serde::Serialize;

use crate::clients::Record;
use crate::proxy::spec::Spec;
use crate::stats::Summary;

/// The running totals of the server.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Totals {
    total_traffic_in: u64,
    total_traffic_out: u64,
    cur_conns: i64,
    client_counts: i64,
    proxy_type_count: BTreeMap<&'static str, i64>,
}

impl From<Summary> for Totals {
    fn from(s: Summary) -> Self {
        Self {
            total_traffic_in: s.traffic_in,
            total_traffic_out: s.traffic_out,
            cur_conns: s.connections,
            client_counts: s.clients,
            proxy_type_count: s.kinds,
        }
    }
}

/// One client.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientItem<'a> {
    key: &'a str,
    user: &'a str,
    #[serde(rename = "clientID")]
    client_id: &'a str,
    #[serde(rename = "runID")]
    run_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    wire_protocol: &'static str,
    hostname: &'a str,
    #[serde(rename = "clientIP", skip_serializing_if = "str::is_empty")]
    client_ip: &'a str,
    first_connected_at: i64,
    last_connected_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnected_at: Option<i64>,
    online: bool,
}

impl<'a> From<&'a Record> for ClientItem<'a> {
    fn from(r: &'a Record) -> Self {
        Self {
            key: &r.key,
            user: &r.user,
            client_id: r.client_id(),
            run_id: &r.run_id,
            version: &r.version,
            wire_protocol: wire(r.wire),
            hostname: &r.hostname,
            client_ip: &r.ip,
            first_connected_at: r.first_connected,
            last_connected_at: r.last_connected,
            disconnected_at: r.disconnected,
            online: r.is_online(),
        }
    }
}

/// Name of a wire version.
pub(super) fn wire(version: Version) -> &'static str {
    match version {
        Version::V1 => "v1",
        Version::V2 => "v2",
    }
}

/// The keys that only some proxy types have.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TypeKeys<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_port: Option<u16>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    custom_domains: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    subdomain: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<OrNull<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_header_rewrite: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiplexer: Option<&'a str>,
    #[serde(rename = "routeByHTTPUser", skip_serializing_if = "Option::is_none")]
    route_by_http_user: Option<&'a str>,
}

/// `null` if there is none.
#[derive(Serialize)]
struct OrNull<'a>(Option<&'a [String]>);

impl<'a> TypeKeys<'a> {
    /// Those of `kind`. `empty`: whether some are shown although they say nothing, as v1 does.
    pub(super) fn new(kind: &str, spec: &'a Spec, empty: bool) -> Self {
        let has_domains = matches!(kind, "http" | "https" | "tcpmux");
        let text =
            |of: &str, text: &'a str| (kind == of && (empty || !text.is_empty())).then_some(text);
        let locations = Some(&*spec.locations).filter(|l| !l.is_empty());
        Self {
            remote_port: spec.remote_port,
            custom_domains: if has_domains {
                &spec.custom_domains
            } else {
                &[]
            },
            subdomain: if has_domains { &spec.subdomain } else { "" },
            locations: (kind == "http" && (empty || locations.is_some()))
                .then_some(OrNull(locations)),
            host_header_rewrite: text("http", &spec.host_header_rewrite),
            multiplexer: text("tcpmux", &spec.multiplexer),
            route_by_http_user: text("tcpmux", &spec.route_by_http_user),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(kind: &str, spec: &Spec, empty: bool) -> Value {
        serde_json::to_value(TypeKeys::new(kind, spec, empty)).unwrap()
    }

    #[test]
    fn each_type_shows_its_own_keys() {
        let spec = Spec {
            custom_domains: vec!["www.example.com".into()],
            subdomain: "web".into(),
            locations: vec!["/".into(), "/api".into()],
            host_header_rewrite: "inner".into(),
            multiplexer: "httpconnect".into(),
            route_by_http_user: "ru".into(),
            ..Spec::default()
        };
        let domains = json!({"customDomains": ["www.example.com"], "subdomain": "web"});
        assert_eq!(shown("https", &spec, true), domains);
        let http = json!({
            "customDomains": ["www.example.com"], "subdomain": "web",
            "locations": ["/", "/api"], "hostHeaderRewrite": "inner",
        });
        assert_eq!(shown("http", &spec, true), http);
        assert_eq!(shown("http", &spec, false), http);
        let tcpmux = json!({
            "customDomains": ["www.example.com"], "subdomain": "web",
            "multiplexer": "httpconnect", "routeByHTTPUser": "ru",
        });
        assert_eq!(shown("tcpmux", &spec, false), tcpmux);
        assert_eq!(shown("stcp", &spec, true), json!({}));
        let tcp = Spec {
            remote_port: Some(64_200),
            ..Spec::default()
        };
        assert_eq!(shown("tcp", &tcp, false), json!({"remotePort": 64_200}));
    }

    #[test]
    fn v1_shows_what_says_nothing() {
        let spec = Spec::default();
        let http = json!({"locations": null, "hostHeaderRewrite": ""});
        assert_eq!(shown("http", &spec, true), http);
        assert_eq!(shown("http", &spec, false), json!({}));
        let tcpmux = json!({"multiplexer": "", "routeByHTTPUser": ""});
        assert_eq!(shown("tcpmux", &spec, true), tcpmux);
        assert_eq!(shown("tcpmux", &spec, false), json!({}));
    }
}
