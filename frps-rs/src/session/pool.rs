//! A session's work connections: a short queue of ready ones, and the users that wait for one (server.md §2.5, §2.6).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use frp_proto::msg::Version;
use frp_proto::net::Conn;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Queue slots beyond the pool size.
const EXTRA: usize = 10;
/// What a client has not brought for so long it does not bring at all.
const LOST: Duration = Duration::from_secs(5);

/// A work connection that has said `NewWorkConn` and waits for `StartWorkConn`.
pub(crate) struct WorkConn {
    pub(crate) conn: Conn,
    /// Wire version the connection was opened with.
    pub(crate) version: Version,
}

/// Why there is no work connection; `Display` is the spec's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolError {
    #[error("control is closed")]
    Closed,
    #[error("timeout trying to get work connection")]
    Timeout,
    #[error("work connection pool is full, discarding")]
    Full,
}

struct State {
    ready: VecDeque<WorkConn>,
    waiting: VecDeque<oneshot::Sender<WorkConn>>,
    /// When the client was asked for those that it has not brought yet. The latest are taken for brought first, so that those
    /// that never come grow old, however much comes.
    asked: VecDeque<Instant>,
    open: bool,
}

impl State {
    fn forget_lost(&mut self) {
        while self.asked.front().is_some_and(|at| at.elapsed() > LOST) {
            self.asked.pop_front();
        }
    }
}

pub(crate) struct WorkPool {
    capacity: usize,
    state: Mutex<State>,
}

impl WorkPool {
    pub(crate) fn new(pool_count: usize) -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            asked: VecDeque::new(),
            open: true,
        };
        Self {
            capacity: pool_count + EXTRA,
            state: Mutex::new(state),
        }
    }

    /// The client is asked for `count` work connections.
    pub(crate) fn asked(&self, count: usize) {
        let asked = std::iter::repeat_n(Instant::now(), count);
        let mut state = self.lock();
        state.forget_lost();
        state.asked.extend(asked);
    }

    /// The client is asked for one more, unless that would find no place: those beyond are refused, and the client says so in
    /// its log. Whether it is to be asked.
    pub(crate) fn asked_for_more(&self) -> bool {
        let mut state = self.lock();
        state.forget_lost();
        let has_use = state.ready.len() + state.asked.len() < self.capacity + state.waiting.len();
        if has_use {
            state.asked.push_back(Instant::now());
        }
        has_use
    }

    /// Gives a work connection to who waits longest, else queues it. Refused ones come back.
    pub(crate) fn offer(&self, mut work: WorkConn) -> Result<(), (WorkConn, PoolError)> {
        let mut state = self.lock();
        if !state.open {
            return Err((work, PoolError::Closed));
        }
        state.asked.pop_back();
        while let Some(user) = state.waiting.pop_front() {
            match user.send(work) {
                Ok(()) => return Ok(()),
                Err(back) => work = back,
            }
        }
        if state.ready.len() >= self.capacity {
            return Err((work, PoolError::Full));
        }
        state.ready.push_back(work);
        Ok(())
    }

    /// A ready work connection, if there is one. Those the client has closed meanwhile are dropped.
    pub(crate) fn take(&self) -> Result<Option<WorkConn>, PoolError> {
        loop {
            let mut work = {
                let mut state = self.lock();
                match state.ready.pop_front() {
                    Some(work) => work,
                    None if state.open => return Ok(None),
                    None => return Err(PoolError::Closed),
                }
            };
            if is_quiet(&mut work.conn) {
                return Ok(Some(work));
            }
        }
    }

    /// Waits for a work connection that the client has been asked for.
    pub(crate) async fn wait(&self, limit: Duration) -> Result<WorkConn, PoolError> {
        let mut receiver = {
            let mut state = self.lock();
            if !state.open {
                return Err(PoolError::Closed);
            }
            if let Some(work) = state.ready.pop_front() {
                return Ok(work);
            }
            // Users that gave up leave their place behind; it is swept before the queue can grow by them.
            if state.waiting.len() == state.waiting.capacity() {
                state.waiting.retain(|w| !w.is_closed());
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            receiver
        };
        if let Ok(given) = tokio::time::timeout(limit, &mut receiver).await {
            return given.map_err(|_| PoolError::Closed);
        }
        receiver.close();
        // Given in the very moment of the time-out: better late than lost.
        receiver.try_recv().map_err(|_| PoolError::Timeout)
    }

    /// Work connections that wait for users, and users that wait for one.
    pub(crate) fn depths(&self) -> (usize, usize) {
        let state = self.lock();
        let waiting = state.waiting.iter().filter(|user| !user.is_closed());
        (state.ready.len(), waiting.count())
    }

    /// Ends the pool: queued connections close, who waits is told.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        let dropped = (
            std::mem::take(&mut state.ready),
            std::mem::take(&mut state.waiting),
        );
        drop(state);
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one push or pop: a panic elsewhere leaves the queues whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a waiting work connection is as it must be: open, and silent until it is started.
fn is_quiet(conn: &mut Conn) -> bool {
    let mut byte = [0];
    let read: Poll<io::Result<()>> = Pin::new(conn).poll_read(
        &mut Context::from_waker(Waker::noop()),
        &mut ReadBuf::new(&mut byte),
    );
    read.is_pending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    fn work() -> (WorkConn, DuplexStream) {
        let (ours, peer) = duplex(64);
        (
            WorkConn {
                conn: Conn::Other(Box::new(ours)),
                version: Version::V1,
            },
            peer,
        )
    }

    #[tokio::test]
    async fn connections_beyond_the_capacity_are_refused() {
        let pool = WorkPool::new(0);
        let mut peers = Vec::new();
        for _ in 0..EXTRA {
            let (work, peer) = work();
            assert!(pool.offer(work).is_ok());
            peers.push(peer);
        }
        assert_eq!(
            pool.offer(work().0).err().map(|(_, e)| e),
            Some(PoolError::Full)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_asked_for_than_have_a_place() {
        let pool = WorkPool::new(0);
        let mut peers = Vec::new();
        let mut offer = |pool: &WorkPool| {
            let (work, peer) = work();
            peers.push(peer);
            pool.offer(work).is_ok()
        };
        pool.asked(EXTRA - 1);
        assert!(pool.asked_for_more());
        assert!(!pool.asked_for_more());
        // Of these one is taken by its user before the others are there.
        assert!(offer(&pool));
        assert!(!pool.asked_for_more());
        assert!(pool.take().unwrap().is_some());
        assert!(pool.asked_for_more());
        assert!(!pool.asked_for_more());
        // What it does not bring is asked for again, although it brings others.
        tokio::time::advance(LOST).await;
        pool.asked(1);
        assert!(offer(&pool));
        assert!(!pool.asked_for_more());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(pool.asked_for_more());
        // One that nobody has asked for takes a place like any other.
        for _ in 1..EXTRA {
            assert!(offer(&pool));
        }
        assert!(!pool.asked_for_more());
    }

    #[tokio::test]
    async fn a_connection_that_died_in_the_queue_is_not_handed_out() {
        let pool = WorkPool::new(1);
        let (dead, peer) = work();
        drop(peer);
        let (alive, _peer) = work();
        assert!(pool.offer(dead).is_ok() && pool.offer(alive).is_ok());
        assert!(pool.take().unwrap().is_some());
        assert!(pool.take().unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_a_connection_a_timeout_or_the_session() {
        let pool = std::sync::Arc::new(WorkPool::new(1));
        assert_eq!(
            pool.wait(Duration::from_secs(1)).await.err(),
            Some(PoolError::Timeout)
        );
        let spawn = |pool: &std::sync::Arc<WorkPool>| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.wait(Duration::from_secs(1)).await })
        };
        let user = spawn(&pool);
        tokio::task::yield_now().await;
        let (conn, _peer) = work();
        assert!(pool.offer(conn).is_ok());
        assert!(user.await.unwrap().is_ok());
        let user = spawn(&pool);
        tokio::task::yield_now().await;
        pool.close();
        assert_eq!(user.await.unwrap().err(), Some(PoolError::Closed));
        assert_eq!(pool.take().err(), Some(PoolError::Closed));
        assert_eq!(
            pool.offer(work().0).err().map(|(_, e)| e),
            Some(PoolError::Closed)
        );
    }
}
