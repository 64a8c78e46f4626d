//! `tcpmux` proxies: routed by the target of an HTTP `CONNECT` (server.md §8.2).

use std::io;
use std::sync::Arc;

use balancer::First;
use bytes::Buf;
use frp_proto::auth::Secret;
use frp_proto::msg::NewProxy;
use frp_proto::text::VERSION;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::connect_head::{Decoder, MAX_LEN};
use super::http::credential::{self, Login};
use super::http::pages;
use super::muxer::{Routed, Step, read_head};
use super::router::{Claim, Router};
use crate::Shared;
use crate::balance::{Asked, Balanced, Balancing, Turn};
use crate::group::{Groups, Member, Newcomer};
use crate::proxy::Context;
use crate::proxy::connect::Ends;

const CONNECTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const UNAUTHORIZED: &[u8] = b"HTTP/1.1 407 Proxy Authentication Required\r\n\
    Proxy-Authenticate: Basic realm=\"Restricted\"\r\nContent-Length: 0\r\n\r\n";

/// The routes of the port and who takes turns at them.
pub(crate) struct Tcpmux {
    router: Router<Route>,
    groups: Arc<Groups<Terms, Claim<Route>>>,
}

pub(crate) struct Route {
    members: Arc<Balanced<Context>>,
    /// `httpUser`; its password alone would let everybody in.
    user: String,
    login: Option<Login>,
}

/// What the members of a group must agree on, as they wrote it.
#[derive(PartialEq)]
pub(crate) struct Terms {
    domain: String,
    route_user: String,
    user: String,
    password: Secret,
}

/// A domain that a proxy serves, alone or with its group.
pub(crate) type Place = Member<Terms, Claim<Route>>;

impl Tcpmux {
    pub(crate) fn new(balancing: &Arc<Balancing>) -> Self {
        Self {
            router: Router::default(),
            groups: Groups::new(balancing, "tcpmux", First::Oldest, "group params invalid"),
        }
    }

    /// Lets a proxy serve a domain. The error is the text for the client.
    pub(crate) async fn join(
        &self,
        context: &Arc<Context>,
        m: &NewProxy,
        domain: &str,
    ) -> Result<Place, String> {
        let terms = Terms {
            domain: domain.to_owned(),
            route_user: m.route_by_http_user.clone(),
            user: m.http_user.clone(),
            password: Secret::from(m.http_pwd.as_str()),
        };
        let claim = |members| async {
            let closed = !m.http_user.is_empty();
            let route = Route {
                members,
                user: m.http_user.clone(),
                login: closed
                    .then(|| Login::new(&m.http_user, &m.http_pwd))
                    .flatten(),
            };
            let user = &m.route_by_http_user;
            let claimed = self.router.claim(domain, user, "", Arc::new(route));
            claimed.map_err(|e| e.to_string())
        };
        let newcomer = Newcomer::new(context, m);
        self.groups.join(newcomer, terms, claim).await
    }
}

/// Reads the request, finds who serves its target, and answers, if that is for this server to do.
pub(super) async fn route(
    shared: &Shared,
    user: &mut TcpStream,
    ends: Ends,
) -> io::Result<Option<Routed>> {
    let mut decoder = Decoder::default();
    let decode = |bytes: &[u8]| match decoder.decode(bytes) {
        Ok(Some(head)) => Ok(Step::Done(head)),
        Ok(None) => Ok(Step::Need(bytes.len() + 1)),
        Err(e) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
    };
    let (request, mut head) = read_head(user, MAX_LEN, decode).await?;
    let credential = request
        .proxy_authorization
        .as_ref()
        .and_then(credential::basic)
        .unwrap_or_default();
    let host = &request.host;
    let http_user = &credential.user;
    let route = shared.tcpmux.router.find(host, b"", http_user);
    let picked = route.and_then(|route| {
        let asked = Asked::of_stream(&route.members.config(), ends.src, host, http_user);
        let turn = Turn::begin(&route.members, asked).ok()?;
        Some((route, turn))
    });
    let Some((route, turn)) = picked else {
        tracing::debug!("http request for host [{host}] path [] httpUser [{http_user}] not found");
        user.write_all(&not_found(shared).await).await?;
        return Ok(None);
    };
    let proxy = turn.endpoint();
    let (run_id, name) = (&proxy.session.run_id, &proxy.name);
    tracing::debug!(
        run_id = %run_id, proxy = %name,
        "new request host [{host}] path [] httpUser [{http_user}]"
    );
    if route.login.as_ref().is_some_and(|l| !l.admits(&credential)) {
        tracing::debug!(run_id = %run_id, proxy = %name, "auth failed for user: {}", route.user);
        user.write_all(UNAUTHORIZED).await?;
        return Ok(None);
    }
    if !shared.settings.vhost_ports.tcpmux_passthrough {
        head.advance(request.len);
        user.write_all(CONNECTED).await?;
    }
    Ok(Some(Routed { turn, head }))
}

async fn not_found(shared: &Shared) -> Vec<u8> {
    let custom = pages::custom(shared).await;
    let page = custom.as_deref().unwrap_or(pages::NOT_FOUND.as_bytes());
    let mut answer = format!(
        "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\nContent-Type: text/html\r\nServer: frp/{VERSION}\r\n\r\n",
        page.len()
    )
    .into_bytes();
    answer.extend_from_slice(page);
    answer
}
