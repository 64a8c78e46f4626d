//! `https` proxies: routed by the server name of the `ClientHello`, and passed through untouched (server.md §8.1).

use std::io;
use std::sync::Arc;

use balancer::First;
use frp_proto::msg::NewProxy;
use frp_proto::tls::client_hello::{self, Decoded};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::muxer::{Routed, Step, read_head};
use super::router::{Claim, Router};
use crate::Shared;
use crate::balance::{Asked, Balanced, Balancing, Turn};
use crate::group::{Groups, Member, Newcomer};
use crate::proxy::Context;
use crate::proxy::connect::Ends;

/// Fatal alert `unrecognized_name`, in a record of TLS 1.2.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// Fatal alert `protocol_version`, in a record that any version understands.
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

type Route = Balanced<Context>;

/// The routes of the port and who takes turns at them.
pub(crate) struct Https {
    router: Router<Route>,
    /// Members agree on the domain, as they wrote it.
    groups: Arc<Groups<String, Claim<Route>>>,
}

/// A domain that a proxy serves, alone or with its group.
pub(crate) type Place = Member<String, Claim<Route>>;

impl Https {
    pub(crate) fn new(balancing: &Arc<Balancing>) -> Self {
        Self {
            router: Router::default(),
            groups: Groups::new(balancing, "https", First::Oldest, "group params invalid"),
        }
    }

    /// Lets a proxy serve a domain. The error is the text for the client.
    pub(crate) async fn join(
        &self,
        context: &Arc<Context>,
        m: &NewProxy,
        domain: &str,
    ) -> Result<Place, String> {
        let claim = |members| async {
            let claimed = self.router.claim(domain, "", "", members);
            claimed.map_err(|e| e.to_string())
        };
        let newcomer = Newcomer::new(context, m);
        self.groups.join(newcomer, domain.to_owned(), claim).await
    }
}

/// Reads the `ClientHello` and finds who serves that name; tells the user if nobody does.
pub(super) async fn route(
    shared: &Shared,
    user: &mut TcpStream,
    ends: Ends,
) -> io::Result<Option<Routed>> {
    let decode = |bytes: &[u8]| match client_hello::decode(bytes) {
        Ok(Decoded::Hello(hello)) => Ok(Step::Done(hello)),
        Ok(Decoded::Incomplete { need }) => Ok(Step::Need(need)),
        Err(e) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
    };
    let (hello, head) = read_head(user, client_hello::MAX_LEN, decode).await?;
    let host = hello.server_name.to_lowercase();
    let route = shared.https.router.find(&host, b"", "");
    if let Some(turn) = route.and_then(|group| {
        let asked = Asked {
            // A hello by itself asks for nothing: another member may have it as well.
            safe: !hello.early_data,
            ..Asked::of_stream(&group.config(), ends.src, &host, "")
        };
        Turn::begin(&group, asked).ok()
    }) {
        let proxy = turn.endpoint();
        tracing::debug!(
            run_id = %proxy.session.run_id, proxy = %proxy.name,
            "new request host [{host}] path [] httpUser []"
        );
        return Ok(Some(Routed { turn, head }));
    }
    tracing::debug!("http request for host [{host}] path [] httpUser [] not found");
    let alert = if hello.modern {
        UNRECOGNIZED_NAME
    } else {
        PROTOCOL_VERSION
    };
    user.write_all(&alert).await?;
    Ok(None)
}
