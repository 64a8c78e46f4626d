//! A day of connections that end in every way, on a fast clock: whoever stays, client or server, holds no more at its end than
//! after the first hours.
//!
//! A binary of its own, because what is counted is what the whole process holds.
//!
//! The other side is the test's own: for frpc a server that cuts it off ([`client`]), for frps clients that vanish
//! ([`server`]). What stays keeps its own pace, by a clock that only the test moves ([`clock`]); connections are real ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod clock;
mod held;
mod server;

use std::panic::Location;
use std::pin::pin;
use std::time::Duration;

use frp_proto::mux;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "secret";
/// By the fast clock, which does not move while anything is waited for with this limit, unless the test has failed.
const LIMIT: Duration = Duration::from_mins(1);
/// How long connections come and end, by the fast clock.
const DAY: Duration = Duration::from_hours(24);
/// When everything is held that will ever be needed, such as room in maps, and the series of metrics that there may be at
/// most.
const WARM_UP: Duration = Duration::from_hours(6);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Waits for what must happen.
#[track_caller]
fn within<T>(what: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = Location::caller();
    async move {
        let done = timeout(LIMIT, what).await;
        done.unwrap_or_else(|_| panic!("not in time at {place}"))
    }
}

/// Only one test of this process at a time: all would be counted.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// The driver of a mux session of the test. Dropping it cuts the connection.
struct Driver {
    frozen: CancellationToken,
    task: JoinHandle<()>,
}

impl Driver {
    fn spawn(driver: impl Future<Output = Result<(), mux::SessionError>> + Send + 'static) -> Self {
        let frozen = CancellationToken::new();
        let freeze = frozen.clone();
        let task = tokio::spawn(async move {
            let mut driver = pin!(driver);
            tokio::select! {
                // How it ended is seen by who uses the session.
                _ = &mut driver => {}
                () = freeze.cancelled() => std::future::pending().await,
            }
        });
        Self { frozen, task }
    }

    /// From now on the connection is there and nobody answers.
    fn freeze(&self) {
        self.frozen.cancel();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}
