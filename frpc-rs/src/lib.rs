//! The `frpc` client as a library: `run` logs in, keeps the session, and serves the configured proxies until told to stop.
//!
//! | module | holds |
//! |--|--|
//! | `settings` | the checked form of the configuration |
//! | `connector` | from a dial to a connection that carries frp messages |
//! | `auth` | how the client proves who it is |
//! | `login` | one login attempt, and attempts until one succeeds |
//! | `backoff` | the pauses between attempts |
//! | `session` | one control session: messages, heartbeats, end |
//! | `work` | work connections, from the server's request to the join |
//! | `proxy` | proxies: what is announced, where they stand, their local side |
//! | `proxy_protocol` | the header that tells a local service who the user is |

mod auth;
mod backoff;
mod connector;
mod login;
mod proxy;
mod proxy_protocol;
mod session;
mod settings;
mod work;

use std::sync::Arc;
use std::time::Duration;

use frp_proto::auth::Secret;
use frp_proto::config::raw::client::ClientConfig;
use frp_proto::{crypto, host};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use settings::{Scopes, Settings, TlsSettings};

use auth::Auth;
use backoff::Backoff;
use connector::Connector;

/// How long a stop waits for tasks to end by themselves before they are dropped.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Why the client could not start or go on. `Display` is what `frpc` prints.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// What every task of the client shares.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) token: Secret,
    pub(crate) auth: Auth,
    /// AES key of proxies with `useEncryption`, derived once.
    pub(crate) payload_key: [u8; 16],
    pub(crate) connector: Arc<Connector>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// A client that is ready to log in.
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Makes a client; nothing is dialled before [`Client::run`].
    pub fn new(settings: Settings, token: Secret, stop: &CancellationToken) -> Self {
        let tasks = TaskTracker::new();
        Self {
            shared: Arc::new(Shared {
                payload_key: crypto::derive_key(token.expose()),
                connector: Arc::new(Connector::new(&settings, tasks.clone())),
                auth: match &settings.oidc {
                    Some(source) => Auth::Oidc(source.clone()),
                    None => Auth::Token(token.clone()),
                },
                settings,
                token,
                tasks,
                stop: stop.child_token(),
            }),
        }
    }

    /// Serves until the stop token given to [`Client::new`] is cancelled, then closes proxies, session and connections.
    /// Sessions that end are replaced without end; only a first login can fail. Dropping the future ends all at once.
    pub async fn run(self) -> Result<(), Error> {
        let shared = self.shared;
        let _stop_all = shared.stop.clone().drop_guard();
        sessions(&shared).await?;
        shared.stop.cancel();
        shared.tasks.close();
        // A task that outlives the grace is dropped with the runtime.
        let _ = timeout(STOP_GRACE, shared.tasks.wait()).await;
        Ok(())
    }
}

/// One session after the other, until the stop.
async fn sessions(shared: &Arc<Shared>) -> Result<(), Error> {
    let mut backoff = Backoff::session();
    let mut run_id = None;
    let mut ends = 0_u64;
    loop {
        let login = login::until_success(shared, run_id.as_ref());
        let Some(session) = shared.stop.run_until_cancelled(login).await else {
            return Ok(());
        };
        let session = session?;
        run_id = Some(session.run_id().clone());
        session.run().await;
        ends += 1;
        // The login after the first end is immediate.
        if ends > 1 {
            let pause = sleep(backoff.pause(Instant::now(), host::random()));
            shared.stop.run_until_cancelled(pause).await;
        }
    }
}

/// Runs a client with this (loaded and validated) configuration until `stop` is cancelled.
pub async fn run(
    config: ClientConfig,
    token: Secret,
    stop: CancellationToken,
) -> Result<(), Error> {
    let settings = Settings::new(&config)?;
    Client::new(settings, token, &stop).run().await
}
