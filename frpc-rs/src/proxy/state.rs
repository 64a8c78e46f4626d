//! The life of one proxy in a session (client.md §6.2). Time is passed in.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// How often states are looked at.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// A `NewProxy` without an answer is sent again after this time.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// A refused proxy is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Answer of a server that was not asked, as far as we know.
const NOT_WAITING: &str = "status not wait start, ignore start message";

/// Where a proxy stands; `Display` is the text of logs and of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not announced yet.
    New,
    /// Announced, no answer yet.
    WaitStart,
    /// Refused.
    StartError,
    /// Users can connect.
    Running,
    /// Ended by this side.
    Closed,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::WaitStart => "wait start",
            Self::StartError => "start error",
            Self::Running => "running",
            Self::Closed => "closed",
        })
    }
}

/// State of one proxy.
#[derive(Debug)]
pub(crate) struct State {
    phase: Phase,
    /// When it was last announced or refused.
    since: Instant,
}

impl State {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::New,
            since: now,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the proxy is to be announced now; it counts as announced then.
    pub(crate) fn announce(&mut self, now: Instant) -> bool {
        let waited = now.saturating_duration_since(self.since);
        let due = match self.phase {
            Phase::New => true,
            Phase::WaitStart => waited > ANSWER_LIMIT,
            Phase::StartError => waited > RETRY_AFTER,
            Phase::Running | Phase::Closed => false,
        };
        if due {
            self.phase = Phase::WaitStart;
            self.since = now;
        }
        due
    }

    /// Takes the server's answer; empty = success. The error is what to tell the user.
    pub(crate) fn answer<'a>(&mut self, now: Instant, error: &'a str) -> Result<(), &'a str> {
        if self.phase != Phase::WaitStart {
            return Err(NOT_WAITING);
        }
        if error.is_empty() {
            self.phase = Phase::Running;
            return Ok(());
        }
        self.phase = Phase::StartError;
        self.since = now;
        Err(error)
    }

    pub(crate) fn close(&mut self) {
        self.phase = Phase::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds, counted by checks, at which the proxy is announced.
    fn announcements(state: &mut State, start: Instant, until: u64) -> Vec<u64> {
        (0..=until)
            .step_by(CHECK_INTERVAL.as_secs() as usize)
            .filter(|s| state.announce(start + Duration::from_secs(*s)))
            .collect()
    }

    #[test]
    fn an_unanswered_proxy_is_announced_every_21_seconds() {
        let start = Instant::now();
        let mut state = State::new(start);
        assert_eq!(announcements(&mut state, start, 45), [0, 21, 42]);
        assert_eq!(state.phase(), Phase::WaitStart);
    }

    #[test]
    fn a_refused_proxy_is_announced_again_after_30_seconds() {
        let start = Instant::now();
        let mut state = State::new(start);
        assert!(state.announce(start));
        assert_eq!(
            state.answer(start, "port already used"),
            Err("port already used")
        );
        assert_eq!(state.phase(), Phase::StartError);
        assert_eq!(announcements(&mut state, start, 36), [33]);
        assert_eq!(state.answer(start, ""), Ok(()));
        assert_eq!(state.phase(), Phase::Running);
        assert!(announcements(&mut state, start, 120).is_empty());
    }

    #[test]
    fn answers_nobody_waits_for_change_nothing() {
        let start = Instant::now();
        let mut state = State::new(start);
        assert_eq!(state.answer(start, ""), Err(NOT_WAITING));
        assert_eq!(state.phase(), Phase::New);
        state.announce(start);
        state.answer(start, "").unwrap();
        assert_eq!(state.answer(start, "late"), Err(NOT_WAITING));
        assert_eq!(state.phase(), Phase::Running);
        state.close();
        assert_eq!(state.answer(start, ""), Err(NOT_WAITING));
        assert!(announcements(&mut state, start, 120).is_empty());
        assert_eq!(state.phase().to_string(), "closed");
    }
}
