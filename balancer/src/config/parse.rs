//! Keys such as `ewma.decay` with their values as text, as metadata and rules bring them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    AgentConfig, CheckConfig, CheckKind, GroupConfig, HashAlgorithm, HashKey, MemberConfig,
    Overflow, SameSite, StickyConfig, Strategy,
};

/// How often an agent may be asked.
const MIN_AGENT_INTERVAL: Duration = Duration::from_millis(100);
/// How seldom.
const MAX_AGENT_INTERVAL: Duration = Duration::from_hours(1);

/// A value that is not one. `Display` is what a client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("loadBalancer: lb.{key}: \"{value}\": want {want}")]
pub struct ConfigError {
    key: String,
    value: String,
    want: &'static str,
}

/// What a set of keys says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// The group's settings; `None` when no key is about the group.
    pub group: Option<GroupConfig>,
    /// The member's settings.
    pub member: MemberConfig,
    /// Replaces the member's id.
    pub member_id: Option<String>,
    /// Whether several members may have one name, as replicas of one service have.
    pub replicas: bool,
    /// The agent of the service, which is for whoever is beside it.
    pub agent: AgentConfig,
    /// Keys that mean nothing here.
    pub unknown: Vec<String>,
}

/// Reads `keys` (without the prefix `lb.`). `http` says whether requests have headers, cookies and paths.
pub fn parse(keys: &BTreeMap<String, String>, http: bool) -> Result<Parsed, ConfigError> {
    let mut parsed = Parsed::default();
    let mut group = GroupConfig::default();
    // A strategy brings ejection along; an explicit key, later in the order, decides otherwise.
    group.outlier.enabled = keys.contains_key("strategy");
    let mut any = false;
    // These two decide what the keys below them belong to.
    if let Some(mode) = keys.get("sticky.mode") {
        group.sticky = Value("sticky.mode", mode).one_of(
            "off or cookie",
            &[("off", None), ("cookie", Some(StickyConfig::default()))],
        )?;
    }
    if let Some(kind) = keys.get("check.type") {
        let kinds = [
            ("off", None),
            ("tcp", Some(CheckKind::Tcp)),
            ("http", Some(CheckKind::Http)),
            ("grpc", Some(CheckKind::Grpc)),
        ];
        group.check = Value("check.type", kind)
            .one_of("tcp, http or grpc", &kinds)?
            .map(CheckConfig::new);
    }
    for (key, value) in keys {
        let value = Value(key, value);
        if member_key(&value, &mut parsed)? {
            continue;
        }
        if group_key(&value, &mut group, http)? {
            any = true;
        } else {
            parsed.unknown.push(key.clone());
        }
    }
    if any {
        whole(keys, &group, &parsed.member)?;
        parsed.group = Some(group);
    }
    Ok(parsed)
}

/// What only several keys together can get wrong.
fn whole(
    keys: &BTreeMap<String, String>,
    group: &GroupConfig,
    member: &MemberConfig,
) -> Result<(), ConfigError> {
    let value = |key: &'static str| Value(key, keys.get(key).map_or("", String::as_str));
    if group.strategy == Strategy::First && member.max_connections == 0 {
        return Err(value("strategy").want("lb.maxConnections beside strategy first"));
    }
    if let Some(check) = &group.check
        && check.timeout >= check.interval
    {
        return Err(value("check.timeout").want("less than check.interval"));
    }
    Ok(())
}

fn member_key(value: &Value<'_>, parsed: &mut Parsed) -> Result<bool, ConfigError> {
    let member = &mut parsed.member;
    match value.0 {
        "weight" => member.weight = value.within(0, 1000, "an integer from 0 to 1000")?,
        "priority" => member.priority = value.within(0, 1000, "an integer from 0 to 1000")?,
        "zone" => value.1.clone_into(&mut member.zone),
        "maxConnections" => member.max_connections = value.count()?,
        "drain" => member.drain = value.bool()?,
        "drainTimeout" => member.drain_timeout = value.duration()?,
        "revision" => {
            member.revision = value.1.parse().map_err(|_| value.want("an integer"))?;
        }
        "memberId" => {
            if value.1.is_empty() || value.1.len() > 256 {
                return Err(value.want("1 to 256 bytes"));
            }
            parsed.member_id = Some(value.1.to_owned());
        }
        "replicas" => parsed.replicas = value.bool()?,
        "agent.port" => {
            let port = value.within(1, 65_535, "a port from 1 to 65535")?;
            parsed.agent.port = u16::try_from(port).unwrap_or_default();
        }
        "agent.address" => value.1.clone_into(&mut parsed.agent.address),
        "agent.interval" => {
            let interval = value.duration()?;
            if !(MIN_AGENT_INTERVAL..=MAX_AGENT_INTERVAL).contains(&interval) {
                return Err(value.want("a duration from 100ms to 1h"));
            }
            parsed.agent.interval = interval;
        }
        "agent.send" => value.1.clone_into(&mut parsed.agent.send),
        _ => return Ok(false),
    }
    Ok(true)
}

fn group_key(value: &Value<'_>, group: &mut GroupConfig, http: bool) -> Result<bool, ConfigError> {
    let (section, key) = value.0.split_once('.').unwrap_or(("", value.0));
    match section {
        "" => return top_key(value, group, http),
        "ewma" => {
            let ewma = &mut group.ewma;
            match key {
                "decay" => {
                    let bounds = Duration::from_millis(100)..=Duration::from_mins(10);
                    ewma.decay = value.duration()?;
                    if !bounds.contains(&ewma.decay) {
                        return Err(value.want("a duration from 100ms to 10m"));
                    }
                }
                "defaultRtt" => ewma.default_rtt = value.duration()?,
                "tolerance" => ewma.tolerance = value.share()? as f32,
                "failurePenalty" => ewma.failure_penalty = value.duration()?,
                "cap" => ewma.cap = value.duration()?,
                "ignorePaths" => ewma.ignore_paths = value.list(),
                _ => return Ok(false),
            }
        }
        "hash" => match key {
            "key" => group.hash.key = Some(hash_key(value, http)?),
            "algorithm" => {
                group.hash.algorithm = value.one_of(
                    "rendezvous, maglev or ring",
                    &[
                        ("rendezvous", HashAlgorithm::Rendezvous),
                        ("maglev", HashAlgorithm::Maglev),
                        ("ring", HashAlgorithm::Ring),
                    ],
                )?;
            }
            "tableSize" => {
                let size = value.within(2, 655_373, "a prime up to 655373")?;
                if !is_prime(size) {
                    return Err(value.want("a prime up to 655373"));
                }
                group.hash.table_size = size;
            }
            "boundedLoad" => {
                let bound: f64 = value.1.parse().unwrap_or(f64::NAN);
                if bound != 0.0 && !(1.05..=10.0).contains(&bound) {
                    return Err(value.want("0, or a number from 1.05 to 10"));
                }
                group.hash.bounded_load = bound;
            }
            _ => return Ok(false),
        },
        "sticky" => return sticky_key(value, key, group, http),
        "retry" => {
            let retry = &mut group.retry;
            match key {
                "attempts" => retry.attempts = value.within(0, 5, "an integer from 0 to 5")?,
                "on" => retry.on = value.statuses()?,
                "maxBodyBytes" => {
                    let most = 1 << 20;
                    let bytes = value.within(0, most, "an integer from 0 to 1048576")?;
                    retry.max_body_bytes = bytes as usize;
                }
                "connectTimeout" => retry.connect_timeout = value.duration()?,
                "nonIdempotent" => retry.non_idempotent = value.bool()?,
                "budget" => retry.budget = value.share()?,
                "minPerSec" => retry.min_per_sec = value.count()?,
                _ => return Ok(false),
            }
        }
        "hedge" => match key {
            "enabled" => {
                group.hedge = value.bool()?;
                if group.hedge && !http {
                    return Err(value.want("a group of http proxies for hedging"));
                }
            }
            _ => return Ok(false),
        },
        "outlier" => {
            let outlier = &mut group.outlier;
            match key {
                "enabled" => outlier.enabled = value.bool()?,
                "consecutive" => outlier.consecutive = value.count()?,
                "failurePercent" => outlier.failure_percent = value.percent()?,
                "minRequests" => outlier.min_requests = value.count()?,
                "stdevFactor" => outlier.stdev_factor = value.number()?,
                "baseTime" => outlier.base_time = value.duration()?,
                "maxTime" => outlier.max_time = value.duration()?,
                "maxPercent" => outlier.max_percent = value.percent()?,
                "keepOnCheck" => outlier.keep_on_check = value.bool()?,
                _ => return Ok(false),
            }
        }
        "check" => return check_key(value, key, group),
        _ => return Ok(false),
    }
    Ok(true)
}

fn top_key(value: &Value<'_>, group: &mut GroupConfig, http: bool) -> Result<bool, ConfigError> {
    match value.0 {
        "strategy" => {
            group.strategy = value.one_of(
                "round-robin, random, least-request, ewma, first or hash",
                &[
                    ("round-robin", Strategy::RoundRobin),
                    ("random", Strategy::Random),
                    ("least-request", Strategy::LeastRequest),
                    ("ewma", Strategy::Ewma),
                    ("first", Strategy::First),
                    ("hash", Strategy::Hash),
                ],
            )?;
        }
        "loadReport" => {
            group.load_report = value.bool()?;
            if group.load_report && !http {
                return Err(value.want("a group of http proxies for load reports"));
            }
        }
        "choices" => group.choices = value.within(1, 64, "an integer from 1 to 64")?,
        "streamWeight" => group.stream_weight = Some(value.share()? as f32),
        "panicThreshold" => group.panic_threshold = value.percent()?,
        "failOpen" => group.fail_open = value.bool()?,
        "slowStart" => group.slow_start = value.duration()?,
        "aggression" => {
            let aggression = value.number()?;
            if !(0.1..=10.0).contains(&aggression) {
                return Err(value.want("a number from 0.1 to 10"));
            }
            group.aggression = aggression as f32;
        }
        "maxRequests" => group.max_requests = value.count()?,
        "maxPending" => group.max_pending = value.count()?,
        "overflow" => {
            group.overflow = value.one_of(
                "strict or share",
                &[("strict", Overflow::Strict), ("share", Overflow::Share)],
            )?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn sticky_key(
    value: &Value<'_>,
    key: &str,
    group: &mut GroupConfig,
    http: bool,
) -> Result<bool, ConfigError> {
    let mut unused = StickyConfig::default();
    let on = group.sticky.is_some();
    let sticky = group.sticky.as_mut().unwrap_or(&mut unused);
    match key {
        "mode" => {
            if on && !http {
                return Err(value.want("a group of http proxies for cookies"));
            }
        }
        "name" => {
            if !is_token(value.1) {
                return Err(value.want("a cookie name"));
            }
            value.1.clone_into(&mut sticky.name);
        }
        "path" => {
            let valid = value.1.starts_with('/')
                && value.1.bytes().all(|b| b.is_ascii_graphic() && b != b';');
            if !valid {
                return Err(value.want("a path that begins with /"));
            }
            value.1.clone_into(&mut sticky.path);
        }
        "ttl" => sticky.ttl = Some(value.duration()?).filter(|ttl| !ttl.is_zero()),
        "sameSite" => {
            sticky.same_site = value.one_of(
                "lax, strict or none",
                &[
                    ("lax", SameSite::Lax),
                    ("strict", SameSite::Strict),
                    ("none", SameSite::None),
                ],
            )?;
        }
        "strict" => sticky.strict = value.bool()?,
        "rewrite" => {
            sticky.rewrite_always =
                value.one_of("gone or always", &[("gone", false), ("always", true)])?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn check_key(value: &Value<'_>, key: &str, group: &mut GroupConfig) -> Result<bool, ConfigError> {
    let mut unused = CheckConfig::new(CheckKind::Tcp);
    let check = group.check.as_mut().unwrap_or(&mut unused);
    match key {
        "type" => {}
        "path" => value.1.clone_into(&mut check.path),
        "interval" => {
            check.interval = value.duration()?;
            if check.interval < Duration::from_secs(1) {
                return Err(value.want("a duration of 1s or more"));
            }
        }
        "timeout" => {
            check.timeout = value.duration()?;
            if check.timeout.is_zero() {
                return Err(value.want("a duration above 0"));
            }
        }
        "fall" => check.fall = value.within(1, 100, "an integer from 1 to 100")?,
        "rise" => check.rise = value.within(1, 100, "an integer from 1 to 100")?,
        "expect" => check.expect = value.statuses()?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn hash_key(value: &Value<'_>, http: bool) -> Result<HashKey, ConfigError> {
    let (kind, name) = value.1.split_once(':').unwrap_or((value.1, ""));
    let key = match (kind, name) {
        ("source-ip", "") => HashKey::SourceIp,
        ("path", "") if http => HashKey::Path,
        ("host", "") => HashKey::Host,
        ("sni", "") if !http => HashKey::Sni,
        ("user", "") => HashKey::User,
        ("header", name) if http && is_token(name) => HashKey::Header(name.to_ascii_lowercase()),
        ("cookie", name) if http && is_token(name) => HashKey::Cookie(name.into()),
        ("query", name) if http && !name.is_empty() => HashKey::Query(name.into()),
        _ if http => {
            return Err(
                value.want("source-ip, path, host, user, header:NAME, cookie:NAME or query:NAME")
            );
        }
        _ => return Err(value.want("source-ip, sni, host or user for this type of proxy")),
    };
    Ok(key)
}

/// RFC 9110 `token`.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..=n.isqrt()).all(|d| !n.is_multiple_of(d))
}

/// A key and its value.
struct Value<'a>(&'a str, &'a str);

impl Value<'_> {
    fn want(&self, want: &'static str) -> ConfigError {
        ConfigError {
            key: self.0.into(),
            value: self.1.into(),
            want,
        }
    }

    fn one_of<T: Clone>(&self, want: &'static str, all: &[(&str, T)]) -> Result<T, ConfigError> {
        all.iter()
            .find(|(name, _)| *name == self.1)
            .map(|(_, value)| value.clone())
            .ok_or_else(|| self.want(want))
    }

    fn bool(&self) -> Result<bool, ConfigError> {
        self.one_of("true or false", &[("true", true), ("false", false)])
    }

    fn within(&self, low: u32, high: u32, want: &'static str) -> Result<u32, ConfigError> {
        match self.1.parse() {
            Ok(n) if (low..=high).contains(&n) => Ok(n),
            _ => Err(self.want(want)),
        }
    }

    fn count(&self) -> Result<u32, ConfigError> {
        self.within(0, 1_000_000_000, "an integer from 0 to 1000000000")
    }

    fn percent(&self) -> Result<u32, ConfigError> {
        self.within(0, 100, "an integer from 0 to 100")
    }

    fn number(&self) -> Result<f64, ConfigError> {
        match self.1.parse::<f64>() {
            Ok(n) if n.is_finite() && n >= 0.0 => Ok(n),
            _ => Err(self.want("a number of 0 or more")),
        }
    }

    fn share(&self) -> Result<f64, ConfigError> {
        match self.1.parse::<f64>() {
            Ok(n) if (0.0..=1.0).contains(&n) => Ok(n),
            _ => Err(self.want("a number from 0 to 1")),
        }
    }

    /// `10s`, `1m30s`, `250ms`, `0`; up to a week.
    fn duration(&self) -> Result<Duration, ConfigError> {
        const WANT: &str = "a duration such as 250ms, 10s or 5m";
        const MOST: f64 = 7.0 * 24.0 * 3600.0;
        let mut rest = self.1;
        if rest == "0" {
            return Ok(Duration::ZERO);
        }
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(|| self.want(WANT))?;
            let number: f64 = rest[..digits].parse().map_err(|_| self.want(WANT))?;
            rest = &rest[digits..];
            let letters = rest
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(rest.len());
            let unit = match &rest[..letters] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(self.want(WANT)),
            };
            rest = &rest[letters..];
            seconds += number * unit;
        }
        if self.1.is_empty() || seconds > MOST {
            return Err(self.want(WANT));
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    fn list(&self) -> Vec<String> {
        self.1
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn statuses(&self) -> Result<Vec<u16>, ConfigError> {
        self.list()
            .iter()
            .map(|item| match item.parse() {
                Ok(status @ 100..=599) => Ok(status),
                _ => Err(self.want("HTTP statuses, separated by commas")),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: &[(&str, &str)], http: bool) -> Result<Parsed, ConfigError> {
        let keys = keys
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        parse(&keys, http)
    }

    fn error(keys: &[(&str, &str)]) -> String {
        of(keys, false).unwrap_err().to_string()
    }

    #[test]
    fn no_keys_change_nothing() {
        assert_eq!(of(&[], true), Ok(Parsed::default()));
        let member_only = of(&[("weight", "3"), ("zone", "a")], true).unwrap();
        assert_eq!(member_only.group, None);
        assert_eq!(member_only.member.weight, 3);
    }

    #[test]
    fn a_strategy_brings_ejection_unless_told_otherwise() {
        let group = of(&[("strategy", "ewma")], true).unwrap().group.unwrap();
        assert_eq!(group.strategy, Strategy::Ewma);
        assert!(group.outlier.enabled);
        let keys = [("strategy", "ewma"), ("outlier.enabled", "false")];
        assert!(!of(&keys, true).unwrap().group.unwrap().outlier.enabled);
        let slow = of(&[("slowStart", "1m30s")], true).unwrap().group.unwrap();
        assert_eq!(slow.slow_start, Duration::from_secs(90));
        assert!(!slow.outlier.enabled);
    }

    #[test]
    fn every_section_is_read() {
        let keys = [
            ("strategy", "hash"),
            ("hash.key", "header:X-User"),
            ("hash.algorithm", "maglev"),
            ("hash.tableSize", "251"),
            ("hash.boundedLoad", "1.25"),
            ("sticky.mode", "cookie"),
            ("sticky.ttl", "24h"),
            ("sticky.sameSite", "strict"),
            ("retry.on", "502, 503"),
            ("check.type", "http"),
            ("check.path", "/healthz"),
            ("check.interval", "2s"),
            ("check.timeout", "500ms"),
            ("weight", "5"),
            ("memberId", "blue"),
            ("colour", "blue"),
        ];
        let parsed = of(&keys, true).unwrap();
        let group = parsed.group.unwrap();
        assert_eq!(group.hash.key, Some(HashKey::Header("x-user".into())));
        assert_eq!(group.hash.table_size, 251);
        let sticky = group.sticky.unwrap();
        assert_eq!(sticky.ttl, Some(Duration::from_hours(24)));
        assert_eq!(sticky.same_site, SameSite::Strict);
        assert_eq!(group.retry.on, [502, 503]);
        let check = group.check.unwrap();
        assert_eq!(
            (check.kind, check.path.as_str()),
            (CheckKind::Http, "/healthz")
        );
        assert_eq!(parsed.member.weight, 5);
        assert_eq!(parsed.member_id.as_deref(), Some("blue"));
        assert_eq!(parsed.unknown, ["colour"]);
    }

    #[test]
    fn errors_name_key_value_and_what_was_expected() {
        assert_eq!(
            error(&[("strategy", "fastest")]),
            "loadBalancer: lb.strategy: \"fastest\": want round-robin, random, least-request, ewma, first or hash"
        );
        for (key, value) in [
            ("weight", "-1"),
            ("weight", "1001"),
            ("weight", "99999999999999999999"),
            ("choices", "0"),
            ("streamWeight", "1.5"),
            ("ewma.decay", "50ms"),
            ("ewma.decay", "10"),
            ("ewma.cap", "5 s"),
            ("ewma.cap", ""),
            ("ewma.cap", "..s"),
            ("hash.tableSize", "100"),
            ("hash.boundedLoad", "NaN"),
            ("hash.boundedLoad", "1"),
            ("hash.key", "header:X"),
            ("hash.key", "colour"),
            ("sticky.mode", "cookie"),
            ("sticky.path", "a;b"),
            ("retry.attempts", "6"),
            ("retry.on", "5xx"),
            ("loadReport", "true"),
            ("outlier.maxPercent", "101"),
            ("outlier.stdevFactor", "inf"),
            ("check.interval", "0"),
            ("check.fall", "0"),
            ("failOpen", "yes"),
            ("aggression", "0"),
            ("revision", "1.0"),
            ("memberId", ""),
        ] {
            let text = error(&[(key, value)]);
            assert!(
                text.starts_with(&format!("loadBalancer: lb.{key}: \"{value}\": want ")),
                "{text}"
            );
        }
        assert!(error(&[("strategy", "first")]).contains("maxConnections"));
        let check = [("check.type", "tcp"), ("check.timeout", "10s")];
        assert!(error(&check).contains("check.interval"));
    }
}
