//! A clock that moves only when the test says so.
//!
//! tokio moves a paused clock to the next timer whenever nothing is ready. A connection of the system may be on its way then,
//! and the next timer may be its time limit. It never does that while a blocking task runs; so one runs all the time,
//! and the test moves the clock itself when the process is waiting for nothing else.

use std::panic::Location;
use std::pin::pin;
use std::sync::mpsc;
use std::time::Duration;

use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{Instant, advance, sleep};

use crate::held::descriptors;

/// After this time, which is the real one, the test has failed: the clock runs by itself, and time limits say who waits
/// in vain.
const REAL_LIMIT: Duration = Duration::from_mins(10);
/// What is awaited for longer than that, by this clock, does not happen.
const LIMIT: Duration = Duration::from_mins(10);
/// The first step of the clock; each is twice the one before. Much less than the shortest pause would only cost time.
const FIRST_STEP: Duration = Duration::from_millis(50);
/// The longest step: a tenth of the shortest time limit of a connection, so that a step at a wrong moment ends none.
const LONGEST_STEP: Duration = Duration::from_secs(1);
/// Times that every task runs, and that the system is asked what is ready, before nothing is taken to be going on.
const TURNS: usize = 4;
/// How long at most something that is evidently going on is waited for, in real time, before the next step.
const MOTION: Duration = Duration::from_millis(500);
/// Looks within that time whether it still goes on.
const MOTION_LOOKS: u32 = 100;

/// The clock. It is released by dropping.
pub(crate) struct Clock {
    start: Instant,
    _held: mpsc::Sender<()>,
}

impl Clock {
    /// Takes hold of the clock, which must be paused, of a runtime of one thread.
    pub(crate) fn hold() -> Self {
        let (held, released) = mpsc::channel();
        spawn_blocking(move || {
            // Either way it is over.
            let _ = released.recv_timeout(REAL_LIMIT);
        });
        Self {
            start: Instant::now(),
            _held: held,
        }
    }

    /// Since it was taken hold of.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits for `what`, and moves the clock while nothing else happens.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: impl Future<Output = T>) -> impl Future<Output = T> {
        moving(self, what, Location::caller())
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        self.until(sleep(time)).await;
    }
}

/// See [`Clock::until`].
async fn moving<T>(clock: &Clock, what: impl Future<Output = T>, place: &Location<'_>) -> T {
    let (mut what, deadline) = (pin!(what), clock.elapsed() + LIMIT);
    let (mut held, mut step) = (usize::MAX, FIRST_STEP);
    loop {
        tokio::select! {
            biased;
            done = &mut what => return done,
            () = turns() => {}
        }
        // A connection that has just been begun is on its way without the clock.
        let mut now = descriptors();
        for _ in 0..MOTION_LOOKS {
            if now <= held {
                break;
            }
            tokio::select! {
                biased;
                done = &mut what => return done,
                () = real_pause(MOTION / MOTION_LOOKS) => {}
            }
            now = descriptors();
        }
        held = now;
        advance(step).await;
        step = (step * 2).min(LONGEST_STEP);
        let in_time = clock.elapsed() < deadline;
        assert!(in_time, "it does not happen at {place}");
    }
}

/// Lets every task run several times.
async fn turns() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

/// Waits for so long in real time, while tasks run and the clock stands still.
pub(crate) async fn real_pause(time: Duration) {
    spawn_blocking(move || std::thread::sleep(time))
        .await
        .unwrap();
}
