//! [`Path`]: what a way over the internet does to packets. It delays, limits and loses them; it does not reorder.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a way is like, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// From one end to the other, besides what a queue takes: half of the round trip.
    pub delay: Duration,
    /// Bits a second.
    pub rate: u64,
    /// Packets that would have to wait longer for their turn are lost.
    pub queue: Duration,
    /// Share of packets that are lost for no reason.
    pub loss: f64,
}

/// One direction of a path, without sockets and clock.
#[derive(Debug)]
pub(super) struct Line {
    path: Path,
    random: u64,
    /// When the next packet can have its turn.
    free: Option<Instant>,
    /// In the order of arrival, with the place where they go.
    under_way: VecDeque<(Instant, usize, Vec<u8>)>,
}

impl Line {
    /// Loses packets by chance, and the same ones for the same seed.
    pub(super) fn new(path: Path, seed: u64) -> Self {
        Self {
            path,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            free: None,
            under_way: VecDeque::new(),
        }
    }

    /// Takes a packet for the host at `to`; whether it will arrive.
    pub(super) fn send(&mut self, now: Instant, to: usize, packet: &[u8]) -> bool {
        let turn = self.free.map_or(now, |free| free.max(now));
        if turn - now > self.path.queue || self.draw() < self.path.loss {
            return false;
        }
        let bits = packet.len() as u64 * 8;
        let takes = Duration::from_nanos(bits * 1_000_000_000 / self.path.rate.max(1));
        let sent = turn + takes;
        self.free = Some(sent);
        let arrival = sent + self.path.delay;
        self.under_way.push_back((arrival, to, packet.to_vec()));
        true
    }

    /// The next packet that has arrived.
    pub(super) fn arrived(&mut self, now: Instant) -> Option<(usize, Vec<u8>)> {
        let (_, to, packet) = self.under_way.pop_front_if(|(at, ..)| *at <= now)?;
        Some((to, packet))
    }

    /// When the next one arrives.
    pub(super) fn next(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, ..)| *at)
    }

    /// A number from 0 to 1, by xorshift64*.
    fn draw(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let mixed = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d);
        f64::from((mixed >> 32) as u32) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn packets_take_their_time_and_their_turn() {
        let path = Path {
            delay: 10 * MS,
            rate: 8_000_000,
            queue: 2 * MS,
            loss: 0.0,
        };
        let (mut line, now) = (Line::new(path, 1), Instant::now());
        // A millisecond each: the first goes at once, and two wait.
        let sent: Vec<bool> = (0..5).map(|to| line.send(now, to, &[0; 1_000])).collect();
        assert_eq!(sent, [true, true, true, false, false]);
        assert_eq!(line.next(), Some(now + 11 * MS));
        assert_eq!(line.arrived(now + 10 * MS), None);
        for at in 0..3 {
            let arrival = now + (11 + at) * MS;
            assert_eq!(line.next(), Some(arrival));
            let (to, packet) = line.arrived(arrival).unwrap();
            assert_eq!((to, packet.len()), (at as usize, 1_000));
        }
        assert_eq!(line.next(), None);
    }

    #[test]
    fn as_many_are_lost_as_was_said() {
        let path = Path {
            delay: MS,
            rate: u64::MAX,
            queue: MS,
            loss: 0.05,
        };
        let (mut line, now) = (Line::new(path, 7), Instant::now());
        let arrive = (0..100_000).filter(|_| line.send(now, 0, &[0])).count();
        assert!((94_700..95_300).contains(&arrive), "{arrive}");
    }
}
