//! Lines between those who log and the one who writes.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may wait. A line that does not fit is dropped and counted.
const MAX_QUEUED: usize = 1 << 20;
/// Buffers larger than this are given back after a burst.
const KEPT_CAPACITY: usize = 64 * 1024;

/// Lines that all queues of this process have dropped.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// See [`DROPPED`].
pub(super) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// How it is written that lines are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Note {
    /// A line of text.
    #[default]
    Text,
    /// An object.
    Json,
}

impl Note {
    fn write(self, dropped: u64) -> String {
        match self {
            Self::Text => {
                format!("... {dropped} log lines dropped: the log cannot be written fast enough\n")
            }
            Self::Json => format!("{{\"dropped\":{dropped}}}\n"),
        }
    }
}

/// A bounded buffer of whole lines. Nobody who pushes ever waits for the destination.
#[derive(Default)]
pub(super) struct Queue {
    note: Note,
    state: Mutex<State>,
    pushed: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    dropped: u64,
    /// The writer has taken lines and not come back.
    writing: bool,
    /// Nobody pushes any more.
    closed: bool,
}

impl Queue {
    pub(super) fn new(note: Note) -> Self {
        Self {
            note,
            ..Self::default()
        }
    }

    /// Adds a line, or counts it when there is no room.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.lock();
        if state.lines.len() + line.len() > MAX_QUEUED {
            state.dropped += 1;
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line.as_bytes());
        drop(state);
        if was_empty {
            self.pushed.notify_one();
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.pushed.notify_one();
    }

    /// Waits for lines and swaps them into `batch`; what `batch` held counts as written. `batch` is empty after `timeout`.
    /// Whether there may be more: not once the queue is closed and empty.
    pub(super) fn take(&self, batch: &mut Vec<u8>, timeout: Option<Duration>) -> bool {
        batch.clear();
        batch.shrink_to(KEPT_CAPACITY);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.lock();
        state.writing = false;
        if state.lines.is_empty() {
            self.written.notify_all();
        }
        while state.lines.is_empty() {
            if state.closed {
                return false;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return true,
                Some(left) => {
                    let woken = self.pushed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .pushed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.writing = true;
        mem::swap(&mut state.lines, batch);
        let dropped = mem::take(&mut state.dropped);
        drop(state);
        if dropped > 0 {
            batch.extend_from_slice(self.note.write(dropped).as_bytes());
        }
        true
    }

    /// Waits until everything pushed so far is written, or `timeout`.
    pub(super) fn wait_empty(&self, timeout: Duration) {
        let pending = |state: &mut State| state.writing || !state.lines.is_empty();
        drop(
            self.written
                .wait_timeout_while(self.lock(), timeout, pending),
        );
    }

    /// The state is whole at every unlock, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn lines_come_out_in_order_and_whole() {
        let queue = Queue::default();
        queue.push("a\n");
        queue.push("b\n");
        let mut batch = b"old".to_vec();
        queue.take(&mut batch, None);
        assert_eq!(batch, b"a\nb\n");
        queue.take(&mut batch, Some(Duration::ZERO));
        assert!(batch.is_empty());
    }

    #[test]
    fn a_full_queue_drops_and_says_so_once() {
        let queue = Queue::default();
        let line = "x".repeat(MAX_QUEUED / 2);
        for _ in 0..5 {
            queue.push(&line);
        }
        let mut batch = Vec::new();
        queue.take(&mut batch, None);
        let note = &batch[MAX_QUEUED..];
        assert!(note.starts_with(b"... 3 log lines dropped"), "{note:?}");
        queue.push("next\n");
        queue.take(&mut batch, None);
        assert_eq!(batch, b"next\n");
        assert!(batch.capacity() <= KEPT_CAPACITY);
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_ends() {
        let queue = Queue::default();
        queue.push("last\n");
        queue.close();
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, None));
        assert_eq!(batch, b"last\n");
        assert!(!queue.take(&mut batch, None) && batch.is_empty());
    }

    #[test]
    fn a_flush_waits_for_the_writer_but_not_for_ever() {
        let queue = Arc::new(Queue::default());
        queue.push("stuck\n");
        queue.wait_empty(Duration::from_millis(1));
        let mut batch = Vec::new();
        queue.take(&mut batch, None);
        queue.wait_empty(Duration::from_millis(1));
        let writer = {
            let queue = queue.clone();
            thread::spawn(move || queue.take(&mut batch, Some(Duration::ZERO)))
        };
        let begin = Instant::now();
        queue.wait_empty(Duration::from_mins(1));
        assert!(begin.elapsed() < Duration::from_secs(30));
        writer.join().unwrap();
    }
}
