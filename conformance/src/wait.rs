//! Waiting for conditions, never for a length of time.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::{Failure, Outcome};

/// How long a condition may take that should hold at once; generous, because the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Looks until `look` gives something, at most `limit` long.
#[track_caller]
pub fn until<T>(
    what: impl std::fmt::Display,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = Outcome<T>> {
    let otherwise = Failure::new(format!("not within {limit:?}: {what}"));
    async move {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(found)) = timeout_at(deadline, look()).await {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                return Err(otherwise);
            }
            sleep(POLL).await;
        }
    }
}

/// Gives `work` at most `limit`.
#[track_caller]
pub fn within<T>(
    what: impl std::fmt::Display,
    limit: Duration,
    work: impl Future<Output = T>,
) -> impl Future<Output = Outcome<T>> {
    let otherwise = Failure::new(format!("not within {limit:?}: {what}"));
    async move {
        tokio::time::timeout(limit, work)
            .await
            .map_err(|_| otherwise)
    }
}
