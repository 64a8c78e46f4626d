//! Keepalive and time-outs.

use std::mem;
use std::time::{Duration, Instant};

use super::super::frame::{Kind, flags};
use super::{Engine, Fault};

/// Limit of the answer to a ping, and of a write.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_TIMEOUT: Duration = Duration::from_secs(75);
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_mins(5);
/// A call that comes this much after its deadline means that this machine stood still, not the peer.
pub(super) const LATE: Duration = Duration::from_secs(5);

impl Engine {
    /// When to call [`Engine::tick`].
    pub(in crate::mux) fn deadline(&self) -> Instant {
        let ping = match self.ping {
            // A busy peer may be slow to answer, but it is alive as long as it sends or takes anything.
            Some((_, sent)) => sent.max(self.last_sign) + REPLY_TIMEOUT,
            None => self.next_ping,
        };
        [
            self.blocked.map(|since| since + REPLY_TIMEOUT),
            self.unacknowledged
                .first_key_value()
                .map(|(_, &since)| since + OPEN_TIMEOUT),
            self.lingering
                .first()
                .map(|&(since, _)| since + CLOSE_TIMEOUT),
        ]
        .into_iter()
        .flatten()
        .fold(ping, Instant::min)
    }

    /// Does what is due.
    pub(in crate::mux) fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        self.idle = false;
        if now < self.last_tick || now > self.deadline() + LATE {
            self.restart_clock(now);
        }
        self.last_tick = now;
        if self
            .blocked
            .is_some_and(|since| since + REPLY_TIMEOUT <= now)
        {
            return Err(Fault::Write);
        }
        match self.ping {
            Some((_, sent)) if sent.max(self.last_sign) + REPLY_TIMEOUT <= now => {
                return Err(Fault::Keepalive);
            }
            None if self.next_ping <= now => self.send_ping(now),
            _ => {}
        }
        if let Some((_, &since)) = self.unacknowledged.first_key_value()
            && since + OPEN_TIMEOUT <= now
        {
            return Err(Fault::Open);
        }
        while let Some(&(since, id)) = self.lingering.first()
            && since + CLOSE_TIMEOUT <= now
        {
            self.reset(id);
        }
        // Gives back what a burst of streams has taken.
        self.streams.shrink_to(2 * self.streams.len());
        Ok(())
    }

    fn send_ping(&mut self, now: Instant) {
        self.push_control(Kind::Ping, flags::SYN, 0, self.ping_counter);
        self.ping = Some((self.ping_counter, now));
        self.ping_counter = self.ping_counter.wrapping_add(1);
    }

    /// The time has jumped, so what has passed says nothing about the peer: it is asked again, and all limits start anew.
    fn restart_clock(&mut self, now: Instant) {
        self.last_sign = now;
        self.send_ping(now);
        self.blocked = self.blocked.map(|_| now);
        for since in self.unacknowledged.values_mut() {
            *since = now;
        }
        for (_, id) in mem::take(&mut self.lingering) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.orphaned = Some(now);
                self.lingering.insert((now, id));
            }
        }
    }
}
