//! The `frpc` client as a library: `run` logs in, keeps the session, and serves the configured proxies until told to stop.

use frp_proto::auth::Secret;
use frp_proto::config::raw::client::ClientConfig;
use tokio_util::sync::CancellationToken;

/// Why the client could not start or go on. `Display` is what `frpc` prints.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Runs a client with this (loaded and validated) configuration until `stop` is cancelled.
pub async fn run(
    _config: ClientConfig,
    _token: Secret,
    _stop: CancellationToken,
) -> Result<(), Error> {
    todo!()
}
