//! What a group and its members are told (balancing.md §6). Defaults leave a group as upstream's groups are: equal turns.

mod parse;

use std::time::Duration;

pub use parse::{ConfigError, Parsed, parse};

/// How a member is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Turns in proportion to the weights.
    #[default]
    RoundRobin,
    /// Draws in proportion to the weights.
    Random,
    /// The least loaded for its weight: requests in flight, or open connections.
    LeastRequest,
    /// The smallest product of peak latency and load.
    Ewma,
    /// The first, by priority and order of joining, that is below its `max_connections`.
    First,
    /// The same key goes to the same member.
    Hash,
}

/// Which consistent hash [`Strategy::Hash`] uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashAlgorithm {
    /// Highest random weight: exact shares, O(members) a pick.
    #[default]
    Rendezvous,
    /// Table look-up: O(1), for large groups.
    Maglev,
    /// Places keys as nginx's consistent hash does.
    Ring,
}

/// What a key is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The user's address: IPv4 as it is, IPv6 by its /64.
    SourceIp,
    /// All values of this request header.
    Header(String),
    /// This cookie.
    Cookie(String),
    /// All values of this query parameter.
    Query(String),
    /// The request's path.
    Path,
    /// The host the user asked for.
    Host,
    /// The server name of TLS.
    Sni,
    /// The user name of the credential.
    User,
}

/// `ewma.*`
#[derive(Debug, Clone, PartialEq)]
pub struct EwmaConfig {
    /// Time constant: after it an estimate has fallen to 1/e. 100 ms to 10 min.
    pub decay: Duration,
    /// Stands for the latency of members when none has been measured.
    pub default_rtt: Duration,
    /// Costs within this share of the smallest count as equal.
    pub tolerance: f32,
    /// The latency a failure counts as, at least.
    pub failure_penalty: Duration,
    /// No sample counts for more.
    pub cap: Duration,
    /// Requests with these path prefixes are not measured (long polls).
    pub ignore_paths: Vec<String>,
}

impl Default for EwmaConfig {
    fn default() -> Self {
        Self {
            decay: Duration::from_secs(10),
            default_rtt: Duration::from_millis(30),
            tolerance: 0.1,
            failure_penalty: Duration::from_secs(1),
            cap: Duration::from_secs(5),
            ignore_paths: Vec::new(),
        }
    }
}

/// `hash.*`
#[derive(Debug, Clone, PartialEq)]
pub struct HashConfig {
    /// `None`: no request has a key.
    pub key: Option<HashKey>,
    /// Which hash.
    pub algorithm: HashAlgorithm,
    /// Entries of a Maglev table, a prime.
    pub table_size: u32,
    /// A member may have this multiple of the mean load; 0 = any.
    pub bounded_load: f64,
}

impl Default for HashConfig {
    fn default() -> Self {
        Self {
            key: None,
            algorithm: HashAlgorithm::default(),
            table_size: 65_537,
            bounded_load: 0.0,
        }
    }
}

/// `SameSite` of the sticky cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameSite {
    /// Sent with top-level navigation.
    #[default]
    Lax,
    /// Sent by the site itself only.
    Strict,
    /// Sent always; needs TLS.
    None,
}

/// `sticky.*` with mode `cookie`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyConfig {
    /// Name of the cookie; empty = derived from the group.
    pub name: String,
    /// `Path` of the cookie.
    pub path: String,
    /// How long it holds; `None` = as long as the browser runs.
    pub ttl: Option<Duration>,
    /// `SameSite` of the cookie.
    pub same_site: SameSite,
    /// Rather no answer than one of another member.
    pub strict: bool,
    /// Issue a new cookie also when the member may come back.
    pub rewrite_always: bool,
}

impl Default for StickyConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            path: "/".into(),
            ttl: None,
            same_site: SameSite::Lax,
            strict: false,
            rewrite_always: false,
        }
    }
}

/// `retry.*`
#[derive(Debug, Clone, PartialEq)]
pub struct RetryConfig {
    /// Tries after the first, 0 to 5.
    pub attempts: u32,
    /// Statuses that are tried again.
    pub on: Vec<u16>,
    /// Body kept for a replay, up to 1 MiB.
    pub max_body_bytes: usize,
    /// Wait for a work connection while other members remain.
    pub connect_timeout: Duration,
    /// Whether POST is tried again on a status of `on`.
    pub non_idempotent: bool,
    /// Retries per first attempt.
    pub budget: f64,
    /// Retries a second that need no first attempts.
    pub min_per_sec: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: Vec::new(),
            max_body_bytes: 64 * 1024,
            connect_timeout: Duration::from_secs(3),
            non_idempotent: false,
            budget: 0.2,
            min_per_sec: 10,
        }
    }
}

/// `outlier.*`; 0 turns a rule off.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierConfig {
    /// Whether members are ejected for their failures.
    pub enabled: bool,
    /// Failures in a row that eject at once.
    pub consecutive: u32,
    /// Share of failures in the window that ejects, in percent.
    pub failure_percent: u32,
    /// Requests in the window below which `failure_percent` does not count.
    pub min_requests: u32,
    /// Standard deviations below the group's mean success rate.
    pub stdev_factor: f64,
    /// Time of a first ejection.
    pub base_time: Duration,
    /// Time of any ejection.
    pub max_time: Duration,
    /// Share of members that may be ejected at a time, in percent.
    pub max_percent: u32,
    /// Whether an ejection goes on after a passed active check.
    pub keep_on_check: bool,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            consecutive: 5,
            failure_percent: 50,
            min_requests: 20,
            stdev_factor: 1.9,
            base_time: Duration::from_secs(30),
            max_time: Duration::from_mins(5),
            max_percent: 50,
            keep_on_check: false,
        }
    }
}

/// How the server checks members itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    /// A connection that stays open.
    Tcp,
    /// A GET with an expected status.
    Http,
    /// `grpc.health.v1`.
    Grpc,
}

/// `check.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckConfig {
    /// What is done.
    pub kind: CheckKind,
    /// Path of an HTTP check, service of a gRPC check.
    pub path: String,
    /// Time between checks, at least 1 s.
    pub interval: Duration,
    /// Time for one check, below the interval.
    pub timeout: Duration,
    /// Failures in a row that take a member down.
    pub fall: u32,
    /// Passes in a row that bring it back.
    pub rise: u32,
    /// Statuses that pass; empty = 2xx.
    pub expect: Vec<u16>,
}

impl CheckConfig {
    /// Defaults of a kind.
    pub fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            path: if kind == CheckKind::Http { "/" } else { "" }.into(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            fall: 3,
            rise: 2,
            expect: Vec::new(),
        }
    }
}

/// What spills over when members of the first priority fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The next priority serves when nobody of the former is available.
    #[default]
    Strict,
    /// The next priority takes a growing share.
    Share,
}

/// Everything about a group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    /// How a member is chosen.
    pub strategy: Strategy,
    /// Members looked at where looking at all would cost too much, 1 to 64.
    pub choices: u32,
    /// Load of a stream beside that of a request, 0 to 1; `None` = by strategy.
    pub stream_weight: Option<f32>,
    /// Of [`Strategy::Ewma`].
    pub ewma: EwmaConfig,
    /// Of [`Strategy::Hash`].
    pub hash: HashConfig,
    /// Cookies that keep a user with a member; `None` = off.
    pub sticky: Option<StickyConfig>,
    /// Retries on other members.
    pub retry: RetryConfig,
    /// Whether a request that takes long is sent to a second member, too.
    pub hedge: bool,
    /// Whether members' load reports change their weights.
    pub load_report: bool,
    /// Ejection of failing members.
    pub outlier: OutlierConfig,
    /// Active checks; `None` = off.
    pub check: Option<CheckConfig>,
    /// Share of available members, in percent, below which all are used; 0 = never.
    pub panic_threshold: u32,
    /// Whether unavailable members are used when nobody is available.
    pub fail_open: bool,
    /// Time in which a new member comes to its full weight; 0 = at once.
    pub slow_start: Duration,
    /// How steep `slow_start` is: 1 = linear.
    pub aggression: f32,
    /// Requests in flight in the group; 0 = any number.
    pub max_requests: u32,
    /// Users who may wait for a connection to a member at a time; 0 = any number.
    pub max_pending: u32,
    /// What spills over to the next priority.
    pub overflow: Overflow,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            choices: 8,
            stream_weight: None,
            ewma: EwmaConfig::default(),
            hash: HashConfig::default(),
            sticky: None,
            retry: RetryConfig::default(),
            hedge: false,
            load_report: false,
            outlier: OutlierConfig::default(),
            check: None,
            panic_threshold: 0,
            fail_open: true,
            slow_start: Duration::ZERO,
            aggression: 1.0,
            max_requests: 0,
            max_pending: 1_024,
            overflow: Overflow::default(),
        }
    }
}

impl GroupConfig {
    /// Load of a stream beside that of a request.
    pub fn stream_weight(&self) -> f32 {
        self.stream_weight
            .unwrap_or(if self.strategy == Strategy::Ewma {
                0.0
            } else {
                1.0
            })
    }
}

/// Everything about one member.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberConfig {
    /// Share of picks, 0 to 1000; 0 = none but sticky ones.
    pub weight: u32,
    /// Lower ones are used first.
    pub priority: u32,
    /// Members in the picker's zone are preferred.
    pub zone: String,
    /// Requests and streams at a time; 0 = any number.
    pub max_connections: u32,
    /// No new picks but sticky ones.
    pub drain: bool,
    /// How long streams may outlive the beginning of a drain.
    pub drain_timeout: Duration,
    /// The member with the highest one speaks for the group.
    pub revision: i64,
}

impl Default for MemberConfig {
    fn default() -> Self {
        Self {
            weight: 1,
            priority: 0,
            zone: String::new(),
            max_connections: 0,
            drain: false,
            drain_timeout: Duration::from_mins(5),
            revision: 0,
        }
    }
}

/// Where the agent of a service is, which says how the service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// 0 = there is none.
    pub port: u16,
    /// Host name or address; empty = that of the service.
    pub address: String,
    /// From one question to the next.
    pub interval: Duration,
    /// What it is told before it answers.
    pub send: String,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            port: 0,
            address: String::new(),
            interval: Duration::from_secs(2),
            send: String::new(),
        }
    }
}
