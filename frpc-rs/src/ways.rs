//! The ways to frps, and which of them is taken: the only one, or with `transport.protocol = "auto"` the first that works.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use frp_proto::net::Conn;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use crate::connector::{Connector, Link};
use crate::settings::Settings;

/// Head start of a way over the next one: a QUIC handshake over a slow path has time, and a blocked port is hardly felt.
const HEAD_START: Duration = Duration::from_millis(500);

/// All ways, in the order in which the settings prefer them.
pub(crate) struct Ways {
    connectors: Vec<Arc<Connector>>,
    /// Place of the way to try first: the one over which the last login went.
    first: AtomicUsize,
}

impl Ways {
    pub(crate) fn new(settings: &Settings, tasks: &TaskTracker) -> Self {
        let ways = settings.ways.iter();
        Self {
            connectors: ways
                .map(|way| Arc::new(Connector::new(settings, way, tasks.clone())))
                .collect(),
            first: AtomicUsize::new(0),
        }
    }

    /// An attempt to reach frps.
    pub(crate) fn attempt(&self) -> Attempt<'_> {
        let first = self.first.load(Ordering::Relaxed);
        let rest = (0..self.connectors.len()).filter(|place| *place != first);
        Attempt {
            ways: self,
            untried: std::iter::once(first).chain(rest).collect(),
            failures: Vec::new(),
        }
    }

    /// A login over this way has succeeded: the next attempt begins with it.
    pub(crate) fn remember(&self, run_id: &str, taken: &Taken) {
        let before = self.first.swap(taken.place, Ordering::Relaxed);
        if self.connectors.len() > 1 {
            let name = self.name(taken.place);
            let remembered = if taken.place == before {
                ""
            } else {
                ", remembered for reconnections"
            };
            tracing::info!(run_id = %run_id, "protocol auto: connected over [{name}]{remembered}");
        }
    }

    fn failed(&self, failures: &mut Vec<(usize, String)>, place: usize, error: String) {
        if self.connectors.len() > 1 {
            let name = self.name(place);
            tracing::warn!("protocol auto: [{name}] does not lead to the server: {error}");
        }
        failures.push((place, error));
    }

    fn name(&self, place: usize) -> &'static str {
        self.connectors[place].protocol().name()
    }

    #[cfg(test)]
    pub(crate) fn any(&self) -> Arc<Connector> {
        self.connectors[0].clone()
    }
}

/// A way that leads to something that listens.
pub(crate) struct Taken {
    place: usize,
    pub(crate) connector: Arc<Connector>,
}

/// One attempt, over each way once at most.
pub(crate) struct Attempt<'a> {
    ways: &'a Ways,
    /// Places, in the order to try them.
    untried: Vec<usize>,
    failures: Vec<(usize, String)>,
}

impl Attempt<'_> {
    /// The first of the untried ways to lead somewhere, what a session over it shares, and its first connection; `None` when
    /// no way is left. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<(Taken, Link, Conn)> {
        let Self {
            ways,
            untried,
            failures,
        } = self;
        let reach = |place: usize| reach(&ways.connectors[place]);
        let failed = |place, e: io::Error| ways.failed(failures, place, e.to_string());
        let (place, (link, conn)) = race(untried, reach, failed).await?;
        let connector = ways.connectors[place].clone();
        Some((Taken { place, connector }, link, conn))
    }

    /// What listens there is not frps, or does not answer.
    pub(crate) fn misled(&mut self, taken: &Taken, error: String) {
        self.ways.failed(&mut self.failures, taken.place, error);
    }

    /// Why no way is left.
    pub(crate) fn error(self) -> String {
        if let [(_, only)] = &self.failures[..] {
            return only.clone();
        }
        let failures = self.failures.iter();
        let failures = failures.map(|(place, e)| format!("{}: {e}", self.ways.name(*place)));
        failures.collect::<Vec<_>>().join("; ")
    }
}

async fn reach(connector: &Arc<Connector>) -> io::Result<(Link, Conn)> {
    let link = connector.open().await?;
    let conn = link.connect().await?;
    Ok((link, conn))
}

/// The first place that can be reached, out of the untried ones. Each has a head start over the next one, which also begins
/// as soon as nothing else is under way. Places that were overtaken stay untried. Cancel safe.
async fn race<T, F>(
    untried: &mut Vec<usize>,
    reach: impl Fn(usize) -> F,
    mut failed: impl FnMut(usize, io::Error),
) -> Option<(usize, T)>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = untried.clone().into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut next_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some((place, ended)) = under_way.next() => {
                untried.retain(|untried| *untried != place);
                match ended {
                    Ok(reached) => return Some((place, reached)),
                    Err(e) => {
                        failed(place, e);
                        next_at = Instant::now();
                    }
                }
            }
            () = sleep_until(next_at), if waiting.len() > 0 => {
                if let Some(place) = waiting.next() {
                    let reached = reach(place);
                    under_way.push(async move { (place, reached.await) });
                    next_at = Instant::now() + HEAD_START;
                }
            }
            else => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    /// A way that answers after so many milliseconds, or refuses then.
    #[derive(Clone, Copy)]
    enum Kind {
        Answers(u64),
        Refuses(u64),
    }
    use Kind::{Answers, Refuses};

    /// Which place wins, after how many milliseconds, and which are untried then.
    async fn raced(ways: &[Kind], mut untried: Vec<usize>) -> (Option<usize>, u128, Vec<usize>) {
        let start = Instant::now();
        let reach = |place: usize| {
            let kind = ways[place];
            async move {
                match kind {
                    Answers(after) => {
                        sleep(Duration::from_millis(after)).await;
                        Ok(())
                    }
                    Refuses(after) => {
                        sleep(Duration::from_millis(after)).await;
                        Err(io::ErrorKind::ConnectionRefused.into())
                    }
                }
            }
        };
        let won = race(&mut untried, reach, |_, _| {}).await;
        let won = won.map(|(place, ())| place);
        (won, start.elapsed().as_millis(), untried)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_has_a_head_start() {
        let ways = [Answers(400), Answers(0), Answers(0)];
        assert_eq!(
            raced(&ways, vec![0, 1, 2]).await,
            (Some(0), 400, vec![1, 2])
        );
        assert_eq!(raced(&ways, vec![2, 0, 1]).await, (Some(2), 0, vec![0, 1]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_way_holds_the_next_up_for_a_moment_only() {
        let ways = [Answers(60_000), Answers(20), Answers(0)];
        assert_eq!(
            raced(&ways, vec![0, 1, 2]).await,
            (Some(1), 520, vec![0, 2])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_begins_the_next_and_leaves_those_under_way() {
        let ways = [Answers(900), Refuses(100), Refuses(10)];
        let (won, after, untried) = raced(&ways, vec![0, 1, 2]).await;
        assert_eq!((won, after, untried), (Some(0), 900, vec![]));
        let ways = [Refuses(10), Refuses(10), Answers(10)];
        assert_eq!(raced(&ways, vec![0, 1, 2]).await, (Some(2), 30, vec![]));
        let ways = [Refuses(10), Refuses(700)];
        assert_eq!(raced(&ways, vec![0, 1]).await, (None, 710, vec![]));
    }
}
