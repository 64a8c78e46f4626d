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
pub enum Phase {
    /// Not announced yet.
    New,
    /// Announced, no answer yet.
    WaitStart,
    /// Refused.
    StartError,
    /// Users can connect.
    Running,
    /// Withdrawn, because its local service is not healthy.
    CheckFailed,
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
            Self::CheckFailed => "check failed",
            Self::Closed => "closed",
        })
    }
}

/// What the server has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// `NewProxy`
    Announce,
    /// `CloseProxy`
    Withdraw,
}

/// State of one proxy.
#[derive(Debug)]
pub(crate) struct State {
    phase: Phase,
    /// When it was last announced or refused.
    since: Instant,
    /// Announcements of this proxy that the server has not answered.
    unanswered: u32,
    /// Why it was last refused. Stays while it is tried again.
    error: String,
    /// Where its users connect to, as the server put it.
    remote_addr: String,
}

impl State {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::New,
            since: now,
            unanswered: 0,
            error: String::new(),
            remote_addr: String::new(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn error(&self) -> &str {
        &self.error
    }

    pub(crate) fn remote_addr(&self) -> &str {
        &self.remote_addr
    }

    /// How many answers are still to come that will not be about what is announced next. They are forgotten here.
    pub(crate) fn take_unanswered(&mut self) -> u32 {
        std::mem::take(&mut self.unanswered)
    }

    /// What is to be done now; it counts as done then.
    pub(crate) fn check(&mut self, now: Instant, healthy: bool) -> Option<Action> {
        let waited = now.saturating_duration_since(self.since);
        let due = match self.phase {
            Phase::Running | Phase::WaitStart if !healthy => {
                self.phase = Phase::CheckFailed;
                return Some(Action::Withdraw);
            }
            Phase::New | Phase::CheckFailed => healthy,
            Phase::WaitStart => waited > ANSWER_LIMIT,
            Phase::StartError => healthy && waited > RETRY_AFTER,
            Phase::Running | Phase::Closed => false,
        };
        due.then(|| {
            self.phase = Phase::WaitStart;
            self.since = now;
            self.unanswered += 1;
            Action::Announce
        })
    }

    /// Takes the server's answer; an empty error = success. The error is what to tell the user.
    pub(crate) fn answer<'a>(
        &mut self,
        now: Instant,
        remote_addr: &str,
        error: &'a str,
    ) -> Result<(), &'a str> {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.phase != Phase::WaitStart {
            return Err(NOT_WAITING);
        }
        remote_addr.clone_into(&mut self.remote_addr);
        error.clone_into(&mut self.error);
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
            .filter(|s| {
                let action = state.check(start + Duration::from_secs(*s), true);
                action == Some(Action::Announce)
            })
            .collect()
    }

    #[test]
    fn an_unanswered_proxy_is_announced_every_21_seconds() {
        let start = Instant::now();
        let mut state = State::new(start);
        assert_eq!(announcements(&mut state, start, 45), [0, 21, 42]);
        assert_eq!(state.phase(), Phase::WaitStart);
        assert_eq!(state.take_unanswered(), 3);
    }

    #[test]
    fn a_refused_proxy_is_announced_again_after_30_seconds() {
        let start = Instant::now();
        let mut state = State::new(start);
        assert!(state.check(start, true).is_some());
        assert_eq!(
            state.answer(start, "", "port already used"),
            Err("port already used")
        );
        assert_eq!(state.phase(), Phase::StartError);
        assert_eq!(announcements(&mut state, start, 36), [33]);
        assert_eq!(state.error(), "port already used");
        assert_eq!(state.answer(start, ":6000", ""), Ok(()));
        assert_eq!(state.phase(), Phase::Running);
        assert_eq!((state.error(), state.remote_addr()), ("", ":6000"));
        assert!(announcements(&mut state, start, 120).is_empty());
    }

    #[test]
    fn answers_nobody_waits_for_change_nothing() {
        let start = Instant::now();
        let mut state = State::new(start);
        assert_eq!(state.answer(start, "", ""), Err(NOT_WAITING));
        assert_eq!(state.phase(), Phase::New);
        state.check(start, true);
        state.answer(start, "", "").unwrap();
        assert_eq!(state.answer(start, "", "late"), Err(NOT_WAITING));
        assert_eq!(state.phase(), Phase::Running);
        state.close();
        assert_eq!(state.answer(start, "", ""), Err(NOT_WAITING));
        assert!(announcements(&mut state, start, 120).is_empty());
        assert_eq!(state.phase().to_string(), "closed");
    }

    #[test]
    fn health_withdraws_and_announces() {
        let start = Instant::now();
        let mut state = State::new(start);
        // Nothing is announced before it is healthy.
        assert_eq!(state.check(start, false), None);
        assert_eq!(state.phase(), Phase::New);
        assert_eq!(state.check(start, true), Some(Action::Announce));
        state.answer(start, ":1", "").unwrap();
        assert_eq!(state.check(start, false), Some(Action::Withdraw));
        assert_eq!(state.phase().to_string(), "check failed");
        assert_eq!(state.check(start, false), None);
        assert_eq!(state.check(start, true), Some(Action::Announce));
        // A proxy that waits for its answer is withdrawn, too; a refused one is left alone.
        assert_eq!(state.check(start, false), Some(Action::Withdraw));
        assert_eq!(state.check(start, true), Some(Action::Announce));
        assert!(state.answer(start, "", "no").is_err());
        let later = start + Duration::from_mins(1);
        assert_eq!(state.check(later, false), None);
        assert_eq!(state.check(later, true), Some(Action::Announce));
    }
}
