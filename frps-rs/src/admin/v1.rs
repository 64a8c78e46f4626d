//! API v1 (admin-api.md §3).

use std::collections::BTreeMap;

use chrono::{DateTime, Local};
use frp_admin::{ApiError, Request, Response};
use frp_proto::text::VERSION;
use serde::Serialize;

use super::page::{Status, given, phase};
use super::shown::{ClientItem, Totals, TypeKeys};
use super::{Answer, info, no_proxy};
use crate::Shared;
use crate::clients::Record;
use crate::proxy::spec::Spec;
use crate::settings::Info;
use crate::stats::{History, View};

/// `GET /api/serverinfo`
pub(super) fn server_info(shared: &Shared, _: &Request) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ServerInfo<'a> {
        version: &'a str,
        #[serde(flatten)]
        info: &'a Info,
        #[serde(skip_serializing_if = "str::is_empty")]
        allow_ports_str: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        tls_force: bool,
        #[serde(flatten)]
        totals: Totals,
    }
    let info = info(shared)?;
    Ok(Response::json(&ServerInfo {
        version: VERSION,
        info,
        allow_ports_str: &info.allow_ports,
        tls_force: info.tls_force,
        totals: shared.stats.summary().into(),
    }))
}

/// `GET /api/proxy/{type}`
pub(super) fn proxies_of_type(shared: &Shared, request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Proxies<'a> {
        proxies: Vec<ProxyItem<'a>>,
    }
    let views = shared.stats.proxies();
    let wanted = views.iter().filter(|v| v.kind == request.param("type"));
    Ok(Response::json(&Proxies {
        proxies: wanted.map(ProxyItem::from).collect(),
    }))
}

/// `GET /api/proxy/{type}/{name}`
pub(super) fn proxy_of_type(shared: &Shared, request: &Request) -> Answer {
    let found = shared.stats.find(request.param("name"));
    let found = found.filter(|v| v.kind == request.param("type"));
    Ok(Response::json(&ProxyItem::from(
        &found.ok_or_else(no_proxy)?,
    )))
}

/// `GET /api/proxies/{name}`
pub(super) fn proxy(shared: &Shared, request: &Request) -> Answer {
    let found = shared.stats.find(request.param("name"));
    Ok(Response::json(&ProxyItem::from(
        &found.ok_or_else(no_proxy)?,
    )))
}

/// `GET /api/traffic/{name}`
pub(super) fn traffic(shared: &Shared, request: &Request) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Week<'a> {
        name: &'a str,
        traffic_in: History,
        traffic_out: History,
    }
    let found = shared.stats.find(request.param("name"));
    let found = found.ok_or_else(no_proxy)?;
    Ok(Response::json(&Week {
        name: &found.name,
        traffic_in: found.traffic_in,
        traffic_out: found.traffic_out,
    }))
}

/// `GET /api/clients`
pub(super) fn clients(shared: &Shared, request: &Request) -> Answer {
    let status = Status::parse(request.query("status").unwrap_or_default());
    let status = status.unwrap_or(Status::All);
    let fits = |wanted: &str, value: &str| given(request, wanted).is_none_or(|w| w == value);
    let mut clients = shared.sessions.clients().all();
    clients.retain(|c| {
        status.includes(c.is_online())
            && fits("user", &c.user)
            && fits("clientId", c.client_id())
            && fits("runId", &c.run_id)
    });
    sort_clients(&mut clients);
    let clients: Vec<_> = clients.iter().map(ClientItem::from).collect();
    Ok(Response::json(&clients))
}

/// The order of lists.
pub(super) fn sort_clients(clients: &mut [Record]) {
    clients.sort_by(|a, b| {
        let order = |r: &Record| (r.user.clone(), r.client_id().to_owned(), r.key.clone());
        order(a).cmp(&order(b))
    });
}

/// `GET /api/clients/{key}`
pub(super) fn client(shared: &Shared, request: &Request) -> Answer {
    let key = request.param("key");
    let found = shared.sessions.clients().find(key);
    let found = found.ok_or_else(|| no_client(key))?;
    Ok(Response::json(&ClientItem::from(&found)))
}

pub(super) fn no_client(key: &str) -> ApiError {
    ApiError::not_found(format!("client {key} not found"))
}

/// `DELETE /api/proxies?status=offline`
pub(super) fn prune(shared: &Shared, request: &Request) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Done {
        code: u16,
        msg: &'static str,
    }
    if request.query("status") != Some("offline") {
        return Err(ApiError::bad_request("status only support offline"));
    }
    let pruned = shared.stats.prune();
    tracing::info!(
        "cleared [{}] offline proxies, total [{}] proxies",
        pruned.cleared,
        pruned.total
    );
    Ok(Response::json(&Done {
        code: 200,
        msg: "success",
    }))
}

/// One proxy.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyItem<'a> {
    name: &'a str,
    conf: Option<Conf<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(rename = "clientID", skip_serializing_if = "str::is_empty")]
    client_id: &'a str,
    today_traffic_in: u64,
    today_traffic_out: u64,
    cur_conns: i64,
    last_start_time: String,
    last_close_time: String,
    status: &'static str,
}

impl<'a> From<&'a View> for ProxyItem<'a> {
    fn from(v: &'a View) -> Self {
        let time = |time: DateTime<Local>| time.format("%m-%d %H:%M:%S").to_string();
        Self {
            name: &v.name,
            conf: v.online.as_deref().map(|spec| Conf::new(v, spec)),
            user: &v.owner.user,
            client_id: &v.owner.client_id,
            today_traffic_in: v.traffic_in[0],
            today_traffic_out: v.traffic_out[0],
            cur_conns: v.connections,
            last_start_time: time(v.started),
            last_close_time: v.closed.map(time).unwrap_or_default(),
            status: phase(v.online.is_some()),
        }
    }
}

/// The definition of a proxy in the form of a client's file, with constants for what the server does not know.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Conf<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    transport: Transport<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadatas: &'a BTreeMap<String, String>,
    load_balancer: LoadBalancer<'a>,
    health_check: HealthCheck,
    #[serde(rename = "localIP")]
    local_ip: &'static str,
    plugin: (),
    #[serde(flatten)]
    of_type: TypeKeys<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transport<'a> {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    use_encryption: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    use_compression: bool,
    bandwidth_limit: &'a str,
    bandwidth_limit_mode: &'a str,
}

/// Without upstream's `groupKey`, which is a secret.
#[derive(Serialize)]
struct LoadBalancer<'a> {
    group: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HealthCheck {
    #[serde(rename = "type")]
    kind: &'static str,
    interval_seconds: u32,
}

impl<'a> Conf<'a> {
    fn new(view: &'a View, spec: &'a Spec) -> Self {
        Self {
            name: &view.name,
            kind: view.kind,
            annotations: &spec.annotations,
            transport: Transport {
                use_encryption: spec.use_encryption,
                use_compression: spec.use_compression,
                bandwidth_limit: &spec.bandwidth_limit,
                bandwidth_limit_mode: &spec.bandwidth_limit_mode,
            },
            metadatas: &spec.metadatas,
            load_balancer: LoadBalancer { group: &spec.group },
            health_check: HealthCheck {
                kind: "",
                interval_seconds: 0,
            },
            local_ip: "127.0.0.1",
            plugin: (),
            of_type: TypeKeys::new(view.kind, spec, true),
        }
    }
}
