//! One user's way through a group: a member is picked, and another one when that did not work.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer::{
    GroupConfig, HashKey, Lease, LoadReport, MemberKey, NoMember, Outcome, Random, Reason, Request,
    RetryPermit, Strategy, Tag,
};

use http::StatusCode;

use super::group::Balanced;

/// Before a second try after an answer, at most; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_millis(25);
/// Before any of them.
const MAX_BACK_OFF: Duration = Duration::from_millis(250);

/// What the pick goes by.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The key for a consistent hash.
    pub(crate) key: Option<Vec<u8>>,
    /// The member that the user's cookie names.
    pub(crate) sticky: Option<Tag>,
    /// Whether it may be asked twice without harm.
    pub(crate) safe: bool,
    /// Whether it is a long poll, whose time says nothing.
    pub(crate) long_poll: bool,
}

impl Asked {
    /// Of a user whose connection is a byte stream. `host` and `user` are what it says of itself.
    pub(crate) fn of_stream(
        config: &GroupConfig,
        src: Option<SocketAddr>,
        host: &str,
        user: &str,
    ) -> Self {
        let key = hash_key(config).and_then(|key| match key {
            HashKey::SourceIp => src.map(|src| source_key(src.ip())),
            HashKey::Sni | HashKey::Host => Some(host.as_bytes().to_vec()),
            HashKey::User => Some(user.as_bytes().to_vec()),
            HashKey::Header(_) | HashKey::Cookie(_) | HashKey::Query(_) | HashKey::Path => None,
        });
        Self {
            key: key.filter(|key| !key.is_empty()),
            ..Self::default()
        }
    }
}

/// The key of an address: all of IPv4, the network of IPv6.
pub(crate) fn source_key(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string().into_bytes(),
        IpAddr::V6(ip) => ip.octets()[..8].to_vec(),
    }
}

/// How far a try came that failed (balancing.md §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was handed over.
    A,
    /// It was sent, and nothing came back.
    B,
    /// The head of an answer came that calls for another try.
    C,
}

impl Stage {
    pub(super) const ALL: [(Self, &'static str); 3] =
        [(Self::A, "A"), (Self::B, "B"), (Self::C, "C")];
}

/// A user's turn at a member.
pub(crate) struct Turn<E> {
    group: Arc<Balanced<E>>,
    pub(crate) config: Arc<GroupConfig>,
    asked: Asked,
    usage: Usage<E>,
    /// Whether the user's cookie names a member that will not come back.
    reissue: bool,
    tried: Vec<MemberKey>,
    begun: Instant,
    /// Of the retry that is under way.
    permit: Option<RetryPermit<E>>,
}

/// A member in use.
pub(crate) struct Usage<E> {
    lease: Lease<E>,
    group: Arc<Balanced<E>>,
    told: bool,
}

impl<E> Usage<E> {
    /// The answer has begun, or failed to.
    pub(crate) fn first_byte(&mut self, outcome: Outcome) {
        let now = Instant::now();
        self.tell(now, outcome);
        self.lease.first_byte(now, outcome);
    }

    /// The answer has begun; how it went is told at its end.
    pub(crate) fn answered(&mut self) {
        self.lease.answered(Instant::now());
    }

    /// The member says how busy it is.
    pub(crate) fn load(&self, report: &LoadReport) {
        self.lease.load(Instant::now(), report);
    }

    /// From now on it has no end in sight.
    pub(crate) fn into_stream(self) -> Self {
        let Self { lease, group, told } = self;
        let lease = lease.into_stream();
        Self { lease, group, told }
    }

    pub(crate) fn finish(mut self, outcome: Outcome) {
        let now = Instant::now();
        self.tell(now, outcome);
        self.lease.finish(now, outcome);
    }

    /// Another member was faster.
    fn cancel(self) {
        self.lease.cancel();
    }

    fn tell(&mut self, now: Instant, outcome: Outcome) {
        if !std::mem::replace(&mut self.told, true) {
            let counters = &self.group.counters();
            counters.result(outcome);
            if outcome == Outcome::Ok {
                counters.latency(self.lease.elapsed(now));
            }
        }
    }
}

/// A copy of a request that another member has, while the first one still works on it.
pub(crate) struct Hedge<E> {
    usage: Usage<E>,
    permit: RetryPermit<E>,
}

impl<E> Hedge<E> {
    pub(crate) fn endpoint(&self) -> &Arc<E> {
        self.usage.lease.endpoint()
    }

    /// The member did not do it.
    pub(crate) fn failed(mut self, outcome: Outcome) {
        self.usage.group.counters().hedge(false);
        self.usage.first_byte(outcome);
    }

    /// The first member was faster.
    pub(crate) fn lost(self) {
        self.usage.group.counters().hedge(false);
        self.usage.cancel();
    }
}

impl<E> Turn<E> {
    /// Picks a member.
    pub(crate) fn begin(group: &Arc<Balanced<E>>, asked: Asked) -> Result<Self, NoMember> {
        let begun = Instant::now();
        let config = group.group.config();
        let (usage, reissue) = pick(group, begun, &asked, &[], "retry")?;
        if group.is_configured() {
            group.group.first_attempt(begun);
        }
        Ok(Self {
            group: group.clone(),
            config,
            asked,
            usage,
            reissue,
            tried: Vec::new(),
            begun,
            permit: None,
        })
    }

    /// The member whose turn it is.
    pub(crate) fn endpoint(&self) -> &Arc<E> {
        self.usage.lease.endpoint()
    }

    pub(crate) fn group(&self) -> &Arc<Balanced<E>> {
        &self.group
    }

    /// What the user came with.
    pub(crate) fn asked(&self) -> &Asked {
        &self.asked
    }

    pub(crate) fn reissue(&self) -> bool {
        self.reissue
    }

    /// Whether somebody cares how the connection begins.
    pub(crate) fn is_watched(&self) -> bool {
        self.group.is_configured()
    }

    /// How long to wait for a work connection: not to the end while others could serve.
    pub(crate) fn patience(&self, limit: Duration) -> Duration {
        let left = limit.saturating_sub(self.begun.elapsed());
        if self.may_go_on(Stage::A) {
            left.min(self.config.retry.connect_timeout)
        } else {
            left
        }
    }

    /// The id of the member.
    pub(crate) fn member_id(&self) -> &str {
        self.usage.lease.id()
    }

    /// Whether a request may go to another member after this one has had it.
    pub(crate) fn may_repeat(&self) -> bool {
        self.may_go_on(Stage::B)
    }

    /// Whether an answer of this status calls for another try.
    pub(crate) fn is_retried(&self, status: StatusCode) -> bool {
        self.config.retry.on.contains(&status.as_u16())
    }

    /// How long to wait before another try after an answer.
    pub(crate) fn back_off(&self) -> Duration {
        let exponent = u32::try_from(self.tried.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let most = BACK_OFF.saturating_mul(2_u32.saturating_pow(exponent));
        let jitter = RANDOM.with_borrow_mut(Random::unit);
        most.min(MAX_BACK_OFF).mul_f64(jitter)
    }

    /// The member did not do it, and nobody else will.
    pub(crate) fn failed(&mut self, outcome: Outcome) {
        self.usage.first_byte(outcome);
    }

    /// Whether another member may be tried when this one cannot be reached.
    pub(crate) fn may_fail_over(&self) -> bool {
        self.may_go_on(Stage::A)
    }

    fn may_go_on(&self, stage: Stage) -> bool {
        let allowed = match stage {
            Stage::A => self.group.fails_over(),
            Stage::B | Stage::C => self.group.is_configured(),
        };
        allowed
            && self.tried.len() < self.config.retry.attempts as usize
            && (self.group.group).has_others(self.usage.lease.key(), &self.tried)
    }

    /// Gives the user another member after this one failed. False: there is none, or no more tries are allowed.
    pub(crate) fn again(&mut self, stage: Stage, outcome: Outcome) -> bool {
        let now = Instant::now();
        self.usage.first_byte(outcome);
        let counters = &self.group.counters();
        if !self.may_go_on(stage) {
            return false;
        }
        self.permit = None;
        if stage != Stage::A {
            self.permit = self.group.group.retry(now);
            if self.permit.is_none() {
                counters.retry(stage, false);
                return false;
            }
        }
        self.tried.push(self.usage.lease.key());
        let picked = pick(&self.group, now, &self.asked, &self.tried, "retry");
        counters.retry(stage, picked.is_ok());
        match picked {
            Ok((usage, reissue)) => {
                self.usage = usage;
                self.reissue |= reissue;
                true
            }
            Err(_) => false,
        }
    }

    /// How long to wait for an answer before a copy of the request is sent; `None`: none is to be.
    pub(crate) fn hedge_delay(&self) -> Option<Duration> {
        let others = self.may_go_on(Stage::B);
        (self.group.group.hedge_delay(Instant::now())).filter(|_| others)
    }

    /// Another member for a copy of the request. `None`: there is none, or there are too many copies.
    pub(crate) fn hedge(&self) -> Option<Hedge<E>> {
        let now = Instant::now();
        if !self.may_go_on(Stage::B) {
            return None;
        }
        let permit = self.group.group.hedge(now)?;
        let mut tried = self.tried.clone();
        tried.push(self.usage.lease.key());
        let picked = pick(&self.group, now, &self.asked, &tried, "hedge");
        let (usage, _) = picked.ok()?;
        Some(Hedge { usage, permit })
    }

    /// The copy was answered first: its member's turn it is now. `failed` says how the other one did, if it is over.
    pub(crate) fn won(&mut self, hedge: Hedge<E>, failed: Option<Outcome>) {
        self.group.counters().hedge(true);
        self.tried.push(self.usage.lease.key());
        self.permit = Some(hedge.permit);
        let mut slower = std::mem::replace(&mut self.usage, hedge.usage);
        match failed {
            Some(outcome) => slower.first_byte(outcome),
            None => slower.cancel(),
        }
    }

    /// The user has an answer, or nobody can give one.
    pub(crate) fn into_usage(self) -> Usage<E> {
        self.usage
    }
}

/// A use, and whether the user's cookie names a member that will not come back. `another`: the reason when others have
/// been tried.
fn pick<E>(
    group: &Arc<Balanced<E>>,
    now: Instant,
    asked: &Asked,
    tried: &[MemberKey],
    another: &'static str,
) -> Result<(Usage<E>, bool), NoMember> {
    let request = Request {
        key: asked.key.as_deref(),
        sticky: asked.sticky,
        tried,
        safe: asked.safe,
        measured: !asked.long_poll,
    };
    let picked = RANDOM.with_borrow_mut(|random| group.group.pick(now, &request, random));
    let picked = picked.inspect_err(|cause| group.counters().no_member(*cause))?;
    let reason = match picked.reason {
        Reason::Strategy if !tried.is_empty() => another,
        Reason::Strategy if asked.key.is_some() => "hash",
        Reason::Strategy => "strategy",
        Reason::Sticky => "sticky",
        Reason::Probe => "probe",
        Reason::FailOpen => "fail_open",
    };
    group.counters().pick(reason);
    let usage = Usage {
        lease: picked.lease,
        group: group.clone(),
        told: false,
    };
    Ok((usage, picked.reissue))
}

/// The key that picks go by, if they go by one.
pub(crate) fn hash_key(config: &GroupConfig) -> Option<&HashKey> {
    let hashed = config.strategy == Strategy::Hash;
    config.hash.key.as_ref().filter(|_| hashed)
}

thread_local! {
    static RANDOM: RefCell<Random> = RefCell::new(Random::new(seed()));
}

/// A number that other threads and processes do not have.
pub(super) fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without entropy all draw alike, which is as fair.
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
