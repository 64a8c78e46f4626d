//! Picks: who serves a request, and why nobody does.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Group, Shared};
use crate::Random;
use crate::clock::ticks;
use crate::config::Overflow;
use crate::health::State;
use crate::lease::Lease;
use crate::member::MemberKey;
use crate::pick::{Choice, Slot};
use crate::snapshot::Snapshot;
use crate::sticky::Tag;

/// Choices after one that turned out to have left or to be full meanwhile.
const TRIES: usize = 3;

/// What a pick goes by.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The key of [`Strategy::Hash`](crate::Strategy::Hash).
    pub key: Option<&'a [u8]>,
    /// The member a valid cookie names.
    pub sticky: Option<Tag>,
    /// Members that have been tried for this request, at most 8.
    pub tried: &'a [MemberKey],
    /// Whether nothing is lost if the member turns out not to work.
    pub safe: bool,
    /// Whether the time to the first byte says something of the member: not for long polls.
    pub measured: bool,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            key: None,
            sticky: None,
            tried: &[],
            safe: false,
            measured: true,
        }
    }
}

/// Why a member was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// By the strategy.
    Strategy,
    /// By the user's cookie.
    Sticky,
    /// To see whether it works again.
    Probe,
    /// Nobody better was there.
    FailOpen,
}

/// A member that is to be used, and the use.
#[derive(Debug)]
pub struct Picked<E> {
    /// The use of the member, held as long as it lasts.
    pub lease: Lease<E>,
    /// Why this one.
    pub reason: Reason,
    /// Whether the user's cookie, if there was one, names a member that will not come back.
    pub reissue: bool,
}

/// Why nobody can be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMember {
    /// The group has no members.
    #[error("the group has no members")]
    Empty,
    /// All have a weight of 0, or are draining or switched off.
    #[error("all members are drained")]
    Drained,
    /// All have failed, and the group does not fail open.
    #[error("no member is available")]
    Unavailable,
    /// All have as much to do as they may.
    #[error("all members are at their limit")]
    Full,
    /// Those that were chosen had just left.
    #[error("the members have just left")]
    Left,
    /// All have been tried.
    #[error("all members have been tried")]
    Tried,
    /// The member of the user's cookie cannot serve, and no other may.
    #[error("the user's member is not available")]
    Sticky,
}

impl<E> Group<E> {
    /// Chooses a member and counts the use. Takes no lock and allocates nothing.
    pub fn pick(
        &self,
        now: Instant,
        request: &Request<'_>,
        random: &mut Random,
    ) -> Result<Picked<E>, NoMember> {
        let shared = &self.shared;
        let tick = shared.at(now);
        let mut reissue = false;
        // Those that have left or filled up since the snapshot was made; empty nearly always.
        let mut late_ones: Vec<MemberKey> = Vec::new();
        // Who was late last had left, rather than too much to do.
        let mut left = false;
        for _ in 0..=TRIES {
            let snapshot = shared.snapshot.load();
            let config = &snapshot.config;
            if config.max_requests > 0 && snapshot.active() >= u64::from(config.max_requests) {
                return Err(NoMember::Full);
            }
            let attempt = Request {
                tried: if late_ones.is_empty() {
                    request.tried
                } else {
                    &late_ones
                },
                ..*request
            };
            let (slot, reason) = match shared.choose(&snapshot, tick, &attempt, random) {
                Ok((slot, reason, stale)) => {
                    reissue |= stale;
                    (slot, reason)
                }
                Err(cause) if late_ones.is_empty() => return Err(cause),
                Err(_) => break,
            };
            let member = &slot.member;
            if reason == Reason::Probe && member.hot.probing.swap(true, Ordering::AcqRel) {
                continue;
            }
            let before = member.hot.active.fetch_add(1, Ordering::Relaxed);
            let gone = member.is_gone();
            if gone || (slot.max > 0 && before >= slot.max) {
                left = gone;
                member.hot.active.fetch_sub(1, Ordering::Relaxed);
                if reason == Reason::Probe {
                    member.hot.probing.store(false, Ordering::Release);
                }
                if late_ones.is_empty() {
                    late_ones.extend(request.tried);
                }
                late_ones.push(member.key);
                continue;
            }
            return Ok(Picked {
                lease: Lease::new(
                    member.clone(),
                    snapshot.learning,
                    now,
                    tick,
                    reason == Reason::Probe,
                    request.measured,
                ),
                reason,
                reissue,
            });
        }
        Err(if left { NoMember::Left } else { NoMember::Full })
    }
}

impl<E> Shared<E> {
    /// The member for a request, why, and whether the cookie's one is gone for good.
    fn choose<'s>(
        &self,
        snapshot: &'s Snapshot<E>,
        tick: u64,
        request: &Request<'_>,
        random: &mut Random,
    ) -> Result<(&'s Slot<E>, Reason, bool), NoMember> {
        let config = &snapshot.config;
        let mut stale = false;
        if let (Some(tag), Some(sticky)) = (request.sticky, &config.sticky) {
            match snapshot.tagged(tag) {
                Some(slot) if !slot.is_full() && !request.tried.contains(&slot.member.key) => {
                    return Ok((slot, Reason::Sticky, false));
                }
                _ if sticky.strict => return Err(NoMember::Sticky),
                Some(_) => {}
                None => stale = sticky.rewrite_always || !self.may_return(snapshot, tag),
            }
        }
        if let Some(slot) = probe(snapshot, tick, request) {
            return Ok((slot, Reason::Probe, stale));
        }
        let choice = Choice {
            config,
            decay: snapshot.learning.decay,
            tick,
            turns: &self.turns,
            shift: self.shift,
            key: request.key,
            tried: request.tried,
        };
        let start = match config.overflow {
            Overflow::Share if snapshot.tiers.len() > 1 => {
                let mut left = random.below(100) as u32;
                let found = snapshot.tiers.iter().position(|t| {
                    let here = left < t.share;
                    left = left.saturating_sub(t.share);
                    here
                });
                found.unwrap_or(0)
            }
            _ => 0,
        };
        let (before, after) = snapshot.tiers.split_at(start);
        for ranked in after.iter().chain(before) {
            if let Some(slot) = ranked.tier.choose(&choice, random) {
                return Ok((slot, Reason::Strategy, stale));
            }
        }
        if config.fail_open
            && let Some(slot) = snapshot.unavailable.choose(&choice, random)
        {
            return Ok((slot, Reason::FailOpen, stale));
        }
        Err(snapshot.nobody(request))
    }

    /// Whether the member of a cookie is only out for now.
    fn may_return(&self, snapshot: &Snapshot<E>, tag: Tag) -> bool {
        let writer = self.writer();
        snapshot.members.iter().any(|member| {
            matches!(member.control().state(), State::Ejected | State::Down)
                && writer
                    .keys
                    .all()
                    .iter()
                    .any(|key| key.tag(&member.id) == tag)
        })
    }
}

/// A half-open member whose one request this may be. After five seconds any request will do.
fn probe<'s, E>(
    snapshot: &'s Snapshot<E>,
    tick: u64,
    request: &Request<'_>,
) -> Option<&'s Slot<E>> {
    const PATIENCE: Duration = Duration::from_secs(5);
    snapshot.half_open.iter().find(|slot| {
        let member = &slot.member;
        !member.hot.probing.load(Ordering::Acquire)
            && !request.tried.contains(&member.key)
            && !slot.is_full()
            && (request.safe
                || tick.saturating_sub(member.control().health.since) >= ticks(PATIENCE))
    })
}

impl<E> Snapshot<E> {
    /// Requests in flight in the group.
    pub(super) fn active(&self) -> u64 {
        self.members
            .iter()
            .map(|m| u64::from(m.hot.active.load(Ordering::Relaxed)))
            .sum()
    }

    /// Why nobody could be chosen.
    fn nobody(&self, request: &Request<'_>) -> NoMember {
        if self.members.is_empty() {
            return NoMember::Empty;
        }
        let all = || self.tiers.iter().flat_map(|t| &t.tier.slots);
        if all().next().is_none() {
            return if self.unavailable.slots.is_empty() {
                NoMember::Drained
            } else if self
                .unavailable
                .slots
                .iter()
                .all(|s| request.tried.contains(&s.member.key))
            {
                NoMember::Tried
            } else {
                NoMember::Unavailable
            };
        }
        if all().any(|s| s.is_full() && !request.tried.contains(&s.member.key)) {
            NoMember::Full
        } else {
            NoMember::Tried
        }
    }
}
