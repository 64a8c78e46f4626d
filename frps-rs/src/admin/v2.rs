//! API v2 (admin-api.md §4).

use std::collections::BTreeMap;

use chrono::{Days, Local};
use frp_admin::{ApiError, Request, Response};
use frp_proto::text::VERSION;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::page::{Page, Status, given, phase};
use super::shown::{ClientItem, Totals, TypeKeys, wire};
use super::v1::{no_client, sort_clients};
use super::{Answer, info, no_proxy};
use crate::Shared;
use crate::proxy::spec::Spec;
use crate::settings::Info;
use crate::stats::{KINDS, View};

/// `GET /api/v2/system/info`
pub(super) fn system_info(shared: &Shared, _: &Request) -> Answer {
    #[derive(Serialize)]
    struct System<'a> {
        version: &'a str,
        config: Config<'a>,
        status: Totals,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Config<'a> {
        #[serde(flatten)]
        info: &'a Info,
        allow_ports_str: &'a str,
        tls_force: bool,
    }
    let info = info(shared)?;
    Ok(Response::envelope(System {
        version: VERSION,
        config: Config {
            info,
            allow_ports_str: &info.allow_ports,
            tls_force: info.tls_force,
        },
        status: shared.stats.summary().into(),
    }))
}

/// `POST /api/v2/system/prune?type=offline_proxies`
pub(super) fn prune(shared: &Shared, request: &Request) -> Answer {
    const OFFLINE: &str = "offline_proxies";
    #[derive(Serialize)]
    struct Done {
        r#type: &'static str,
        cleared: usize,
        total: usize,
    }
    let kind = given(request, "type").ok_or_else(|| ApiError::bad_request("type is required"))?;
    if kind.to_lowercase() != OFFLINE {
        let text = format!("type must be one of {OFFLINE}");
        return Err(ApiError::bad_request(text));
    }
    let pruned = shared.stats.prune();
    Ok(Response::envelope(Done {
        r#type: OFFLINE,
        cleared: pruned.cleared,
        total: pruned.total,
    }))
}

/// `GET /api/v2/users`
pub(super) fn users(shared: &Shared, request: &Request) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct UserItem {
        user: String,
        client_count: usize,
        proxy_count: usize,
    }
    let page = Page::of(request)?;
    let q = Search::of(request);
    let mut users: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for client in shared.sessions.clients().all() {
        users.entry(client.user).or_default().0 += 1;
    }
    for proxy in shared.stats.proxies() {
        users.entry(proxy.owner.user).or_default().1 += 1;
    }
    let users: Vec<_> = users.into_iter().filter(|(u, _)| q.finds([u])).collect();
    Ok(Response::envelope(page.cut(
        &users,
        |(user, (client_count, proxy_count))| UserItem {
            user: user.clone(),
            client_count: *client_count,
            proxy_count: *proxy_count,
        },
    )))
}

/// `GET /api/v2/clients`
pub(super) fn clients(shared: &Shared, request: &Request) -> Answer {
    let page = Page::of(request)?;
    let status = Status::of(request)?;
    let q = Search::of(request);
    let mut clients = shared.sessions.clients().all();
    clients.retain(|c| {
        status.includes(c.is_online())
            && request.query("user").is_none_or(|user| user == c.user)
            && given(request, "clientID").is_none_or(|id| id == c.client_id())
            && given(request, "runID").is_none_or(|id| id == &*c.run_id)
            && q.finds([
                &c.key,
                &c.user,
                c.client_id(),
                &c.run_id,
                &c.version,
                wire(c.wire),
                &c.hostname,
                &c.ip,
            ])
    });
    sort_clients(&mut clients);
    Ok(Response::envelope(page.cut(&clients, ClientItem::from)))
}

/// `GET /api/v2/clients/{key}`
pub(super) fn client(shared: &Shared, request: &Request) -> Answer {
    #[derive(Serialize)]
    struct WithStatus<'a> {
        #[serde(flatten)]
        client: ClientItem<'a>,
        status: ClientStatus,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ClientStatus {
        phase: &'static str,
        cur_conns: i64,
        proxy_count: usize,
    }
    let key = request.param("key");
    let found = shared.sessions.clients().find(key);
    let found = found.ok_or_else(|| no_client(key))?;
    let is_its = |p: &View| p.owner.user == found.user && p.owner.client_id == found.client_id();
    let mut proxies = shared.stats.proxies();
    proxies.retain(is_its);
    Ok(Response::envelope(WithStatus {
        client: ClientItem::from(&found),
        status: ClientStatus {
            phase: phase(found.is_online()),
            cur_conns: proxies.iter().map(|p| p.connections).sum(),
            proxy_count: proxies.len(),
        },
    }))
}

/// `GET /api/v2/proxies`
pub(super) fn proxies(shared: &Shared, request: &Request) -> Answer {
    let page = Page::of(request)?;
    let status = Status::of(request)?;
    let kind = kind(request)?;
    let q = Search::of(request);
    let mut proxies = shared.stats.proxies();
    proxies.retain(|p| {
        kind.is_none_or(|kind| kind == p.kind)
            && status.includes(p.online.is_some())
            && request
                .query("user")
                .is_none_or(|user| user == p.owner.user)
            && given(request, "clientID").is_none_or(|id| id == p.owner.client_id)
            && q.finds_proxy(p)
    });
    // By name they are already.
    proxies.sort_by_key(|p| p.kind);
    Ok(Response::envelope(page.cut(&proxies, ProxyItem::from)))
}

fn kind(request: &Request) -> Result<Option<&'static str>, ApiError> {
    let Some(wanted) = given(request, "type") else {
        return Ok(None);
    };
    let wanted = wanted.to_lowercase();
    let kind = KINDS.into_iter().find(|kind| *kind == wanted);
    let error = || ApiError::bad_request(format!("type must be one of {}", KINDS.join(", ")));
    kind.ok_or_else(error).map(Some)
}

/// `GET /api/v2/proxies/{name}`
pub(super) fn proxy(shared: &Shared, request: &Request) -> Answer {
    let found = shared.stats.find(request.param("name"));
    let found = found.ok_or_else(no_proxy)?;
    Ok(Response::envelope(ProxyItem::from(&found)))
}

/// `GET /api/v2/proxies/{name}/traffic`
pub(super) fn traffic(shared: &Shared, request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Traffic<'a> {
        name: &'a str,
        unit: &'static str,
        granularity: &'static str,
        history: Vec<Point>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Point {
        date: String,
        traffic_in: u64,
        traffic_out: u64,
    }
    let found = shared.stats.find(request.param("name"));
    let found = found.ok_or_else(no_proxy)?;
    let today = Local::now().date_naive();
    let days = (0..).zip(found.traffic_in.into_iter().zip(found.traffic_out));
    let mut history: Vec<_> = days
        .map(|(ago, (traffic_in, traffic_out))| Point {
            date: (today - Days::new(ago)).to_string(),
            traffic_in,
            traffic_out,
        })
        .collect();
    history.reverse();
    Ok(Response::envelope(Traffic {
        name: &found.name,
        unit: "bytes",
        granularity: "day",
        history,
    }))
}

/// The parameter `q`: a part of any field, whatever its case.
struct Search(String);

impl Search {
    fn of(request: &Request) -> Self {
        Self(request.query("q").unwrap_or_default().to_lowercase())
    }

    fn finds<'a, T: AsRef<str> + ?Sized + 'a>(
        &self,
        fields: impl IntoIterator<Item = &'a T>,
    ) -> bool {
        let found = |field: &T| field.as_ref().to_lowercase().contains(&self.0);
        self.0.is_empty() || fields.into_iter().any(found)
    }

    fn finds_proxy(&self, p: &View) -> bool {
        let owner = &p.owner;
        let fields = [
            &*p.name,
            p.kind,
            &owner.user,
            &owner.client_id,
            phase(p.online.is_some()),
        ];
        self.finds(fields)
            || p.online.as_deref().is_some_and(|spec| {
                let port = spec.remote_port.map(|port| port.to_string());
                self.finds(port.as_slice())
                    || matches!(p.kind, "http" | "https" | "tcpmux")
                        && (self.finds(&spec.custom_domains) || self.finds([&spec.subdomain]))
            })
    }
}

/// One proxy.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyItem<'a> {
    name: &'a str,
    user: &'a str,
    #[serde(rename = "clientID")]
    client_id: &'a str,
    spec: ProxySpec<'a>,
    status: ProxyStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyStatus {
    phase: &'static str,
    today_traffic_in: u64,
    today_traffic_out: u64,
    cur_conns: i64,
    last_start_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_close_at: Option<i64>,
}

impl<'a> From<&'a View> for ProxyItem<'a> {
    fn from(v: &'a View) -> Self {
        Self {
            name: &v.name,
            user: &v.owner.user,
            client_id: &v.owner.client_id,
            spec: ProxySpec {
                kind: v.kind,
                block: v.online.as_deref().map(|spec| Block::new(v.kind, spec)),
            },
            status: ProxyStatus {
                phase: phase(v.online.is_some()),
                today_traffic_in: v.traffic_in[0],
                today_traffic_out: v.traffic_out[0],
                cur_conns: v.connections,
                last_start_at: v.started.timestamp(),
                last_close_at: v.closed.map(|closed| closed.timestamp()),
            },
        }
    }
}

/// `{"type":"tcp","tcp":{…}}`
struct ProxySpec<'a> {
    kind: &'static str,
    /// `None` = `{}`.
    block: Option<Block<'a>>,
}

impl Serialize for ProxySpec<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Nothing {}
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("type", self.kind)?;
        match &self.block {
            Some(block) => map.serialize_entry(self.kind, block)?,
            None => map.serialize_entry(self.kind, &Nothing {})?,
        }
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Block<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadatas: &'a BTreeMap<String, String>,
    transport: Transport<'a>,
    load_balancer: LoadBalancer<'a>,
    #[serde(flatten)]
    of_type: TypeKeys<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transport<'a> {
    use_encryption: bool,
    use_compression: bool,
    bandwidth_limit: &'a str,
    bandwidth_limit_mode: &'a str,
}

#[derive(Serialize)]
struct LoadBalancer<'a> {
    group: &'a str,
}

impl<'a> Block<'a> {
    fn new(kind: &str, spec: &'a Spec) -> Self {
        Self {
            annotations: &spec.annotations,
            metadatas: &spec.metadatas,
            transport: Transport {
                use_encryption: spec.use_encryption,
                use_compression: spec.use_compression,
                bandwidth_limit: &spec.bandwidth_limit,
                bandwidth_limit_mode: &spec.bandwidth_limit_mode,
            },
            load_balancer: LoadBalancer { group: &spec.group },
            of_type: TypeKeys::new(kind, spec, false),
        }
    }
}
