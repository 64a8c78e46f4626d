//! One pick in use: what it adds to its member's load, and what becomes known of the member by it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::group::Learning;
use crate::member::{Member, MemberKey};
use crate::report::LoadReport;

/// How a request or connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, whatever it says of the request.
    Ok,
    /// The member could not be reached, or broke off or was silent before the first byte.
    Local,
    /// 502, 503, 504: what is behind the member could not be reached. With `Retry-After`, if there was one.
    Gateway(Option<Duration>),
    /// Another 5xx.
    Error,
    /// 429 or the like. With `Retry-After`, if there was one.
    Busy(Option<Duration>),
}

impl Outcome {
    /// What an HTTP status says.
    pub fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            502..=504 => Self::Gateway(retry_after),
            429 => Self::Busy(retry_after),
            501 | 505 => Self::Ok,
            500..=599 => Self::Error,
            _ => Self::Ok,
        }
    }

    /// What a gRPC status says.
    pub fn of_grpc(status: u32, pushback: Option<Duration>) -> Self {
        match status {
            14 => Self::Gateway(pushback),
            8 => Self::Busy(pushback),
            4 => Self::Local,
            2 | 13 | 15 => Self::Error,
            _ => Self::Ok,
        }
    }

    fn is_ok(self) -> bool {
        self == Self::Ok
    }
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and a state machine would have a state for each combination"
)]
/// A pick in use. Dropping it without a word means that the user went away.
#[derive(Debug)]
#[must_use = "dropping it ends the use"]
pub struct Lease<E> {
    member: Arc<Member<E>>,
    /// As the settings were at the pick.
    learning: Learning,
    start: Instant,
    start_tick: u64,
    /// It is the one request of a half-open member.
    probe: bool,
    /// Before the first byte.
    waiting: bool,
    stream: bool,
    /// Whether its time says something of the member.
    measured: bool,
    reported: bool,
}

impl<E> Lease<E> {
    pub(crate) fn new(
        member: Arc<Member<E>>,
        learning: Learning,
        now: Instant,
        tick: u64,
        probe: bool,
        measured: bool,
    ) -> Self {
        if measured {
            member.hot.waiting.begin(tick);
        }
        Self {
            member,
            learning,
            start: now,
            start_tick: tick,
            probe,
            waiting: measured,
            stream: false,
            measured,
            reported: false,
        }
    }

    /// Which member it is, for [`Request::tried`](crate::Request::tried).
    pub fn key(&self) -> MemberKey {
        self.member.key
    }

    /// What to connect to.
    pub fn endpoint(&self) -> &Arc<E> {
        &self.member.endpoint
    }

    /// The member's id.
    pub fn id(&self) -> &Arc<str> {
        &self.member.id
    }

    /// The request has been sent in full only now: the member's time counts from here.
    pub fn sent(&mut self, now: Instant) {
        if !self.waiting {
            return;
        }
        let tick = self.member.group.clock.tick(now);
        (self.member.hot.waiting).move_start(self.start_tick, tick);
        (self.start, self.start_tick) = (now, tick);
    }

    /// The first byte of the answer, or a failure that stands for it.
    pub fn first_byte(&mut self, now: Instant, outcome: Outcome) {
        self.stop_waiting();
        if !self.reported {
            self.report(now, outcome);
        }
    }

    /// The head of an answer that tells only at its end how it went: gRPC. Its time counts now, its outcome with
    /// [`Lease::finish`].
    pub fn answered(&mut self, now: Instant) {
        if self.stop_waiting() && std::mem::take(&mut self.measured) {
            self.sample(now, self.member.group.at(now), Outcome::Ok);
        }
    }

    /// The member says how busy it is.
    pub fn load(&self, now: Instant, report: &LoadReport) {
        let tick = self.member.group.clock.tick(now);
        self.member.reports.take(tick, report);
    }

    /// How long ago the request was sent.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// From now on it has no end in sight: an upgraded connection, an event stream.
    pub fn into_stream(mut self) -> Self {
        if !self.stream {
            self.stream = true;
            self.stop_waiting();
            self.member.hot.streams.fetch_add(1, Ordering::Relaxed);
            self.member.hot.active.fetch_sub(1, Ordering::Relaxed);
        }
        self
    }

    /// The end. After a first byte only a failure says something new.
    pub fn finish(mut self, now: Instant, outcome: Outcome) {
        self.stop_waiting();
        if !self.reported {
            self.report(now, outcome);
        } else if !outcome.is_ok() {
            let tick = self.member.group.at(now);
            self.member.failed(tick, outcome);
        }
    }

    /// Another member was faster: this use says nothing of its member.
    pub fn cancel(mut self) {
        self.stop_waiting();
    }

    /// What the member's latency and health learn from it.
    fn report(&mut self, now: Instant, outcome: Outcome) {
        self.reported = true;
        let tick = self.member.group.at(now);
        if self.measured {
            self.sample(now, tick, outcome);
        }
        if self.probe {
            self.probe = false;
            self.member.probed(tick, outcome);
            self.member.hot.probing.store(false, Ordering::Release);
        } else if outcome.is_ok() {
            self.member.succeeded(tick);
        } else {
            self.member.failed(tick, outcome);
        }
    }

    fn sample(&self, now: Instant, tick: u64, outcome: Outcome) {
        let elapsed = now.saturating_duration_since(self.start);
        self.member.sample(&self.learning, tick, elapsed, outcome);
    }

    /// Whether it was waiting.
    fn stop_waiting(&mut self) -> bool {
        let was = std::mem::take(&mut self.waiting);
        if was {
            self.member.hot.waiting.end(self.start_tick);
        }
        was
    }
}

impl<E> Drop for Lease<E> {
    fn drop(&mut self) {
        if self.stop_waiting() {
            // A user who gave up has waited for at least so long.
            self.member.abandoned(&self.learning, self.start_tick);
        }
        let hot = &self.member.hot;
        let counter = if self.stream {
            &hot.streams
        } else {
            &hot.active
        };
        counter.fetch_sub(1, Ordering::Relaxed);
        if self.probe {
            hot.probing.store(false, Ordering::Release);
        }
    }
}
