//! `[loadBalancer]` of the server, and what becomes of a proxy's own keys under it (balancing.md §6).
//!
//! For each key a rule comes before what the proxy says, and that before the defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use balancer::{GroupConfig, MemberConfig, Parsed};
use frp_proto::auth::Secret;
use frp_proto::config::raw::balancing::{BalancingRule, ServerBalancing, Setting};
use frp_proto::msg::NewProxy;

use crate::Error;

/// What keys of balancing begin with among a proxy's metadata.
const PREFIX: &str = "lb.";
/// Bytes of a secret made for the life of this process.
const SECRET_LEN: usize = 32;

/// How this server balances.
#[derive(Debug, Clone)]
pub struct BalancingSettings {
    allowed: Allowed,
    /// Whether groups that nobody has configured try another member when no work connection comes.
    pub(super) stock_failover: bool,
    /// Of sticky cookies; the first signs.
    pub(super) secrets: Secrets,
    /// Whether members that disagree are refused.
    pub(super) reject: bool,
    /// Members in it are preferred.
    pub(super) zone: Arc<str>,
    defaults: Keys,
    rules: Vec<Rule>,
    /// What holds where nobody says anything, for all groups of this kind.
    upstreams: Arc<GroupConfig>,
    /// The same for members.
    plain: Arc<MemberConfig>,
}

pub(super) type Keys = BTreeMap<String, String>;

/// Secrets, which are not shown.
#[derive(Clone)]
pub(super) struct Secrets(Vec<Secret>);

impl Secrets {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.len()).finish()
    }
}

/// Which keys clients may set.
#[derive(Debug, Clone)]
enum Allowed {
    All,
    Only(Vec<String>),
}

#[derive(Debug, Clone)]
struct Rule {
    kind: String,
    group: String,
    keys: Keys,
}

/// What a proxy brings to its group.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// The group's name; empty = it is alone.
    pub(super) name: Box<str>,
    /// Its id as a member.
    pub(super) id: Arc<str>,
    pub(super) member: Arc<MemberConfig>,
    /// What it says about the group; `None` if it leaves that to others.
    pub(super) group: Option<Box<Said>>,
    /// The settings of a group about which no member says anything.
    pub(super) base: Arc<GroupConfig>,
    /// Whether any key or rule is about it.
    pub(super) configured: bool,
    /// Whether others may have its name.
    pub(crate) replicas: bool,
}

/// What a member says about its group.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) config: GroupConfig,
    /// The keys behind it.
    pub(super) keys: Keys,
}

impl Offer {
    /// The proxy's name, not a second time where it is the id as well.
    pub(crate) fn shared_name(&self, name: &str) -> Arc<str> {
        if *self.id == *name {
            self.id.clone()
        } else {
            name.into()
        }
    }

    /// Whether it is for a group, which others may join.
    pub(crate) fn is_grouped(&self) -> bool {
        !self.name.is_empty()
    }
}

impl BalancingSettings {
    /// Takes over a validated section.
    pub(crate) fn new(c: Option<&ServerBalancing>) -> Result<Self, Error> {
        let none = ServerBalancing::default();
        let c = c.unwrap_or(&none);
        let is = |setting: &Setting, text: &str| setting.0.as_deref() == Some(text);
        let allowed = match c.allow_client_config.0.as_deref() {
            None | Some("true") => Allowed::All,
            Some("false") => Allowed::Only(Vec::new()),
            Some(list) => Allowed::Only(list.split(',').map(|key| key.trim().into()).collect()),
        };
        let rule = |rule: &BalancingRule| Rule {
            kind: rule.kind.clone(),
            group: rule.group.clone(),
            keys: rule.keys.flat(),
        };
        let settings = Self {
            allowed,
            stock_failover: !is(&c.stock_failover, "false"),
            secrets: Secrets(secrets(c)?),
            reject: is(&c.on_conflict, "reject"),
            zone: c.zone.as_str().into(),
            defaults: c.defaults.flat(),
            rules: c.rules.iter().map(rule).collect(),
            upstreams: Arc::default(),
            plain: Arc::default(),
        };
        Ok(settings)
    }

    /// What a proxy brings along. The error is the text for the client.
    pub(super) fn offer(&self, m: &NewProxy, kind: &str, run_id: &str) -> Result<Offer, String> {
        let http = kind == "http";
        let parse = |keys: &Keys| balancer::parse(keys, http).map_err(|e| e.to_string());
        let own = self.own(m);
        let mut rules = Keys::new();
        for rule in self.rules.iter().filter(|rule| rule.is_for(kind, &m.group)) {
            rules.extend(rule.keys.clone());
        }
        let mut all = self.defaults.clone();
        all.extend(own.clone());
        all.extend(rules.clone());
        let Parsed {
            group,
            member,
            member_id,
            replicas,
            unknown,
            agent: _,
        } = parse(&all)?;
        if !unknown.is_empty() {
            tracing::warn!(run_id = %run_id, proxy = %m.proxy_name, "loadBalancer: unknown keys are ignored: {unknown:?}");
        }
        let mut base = self.defaults.clone();
        base.extend(rules);
        // What a member says by itself may make sense with the rest only, and then it says something.
        let speaks = balancer::parse(&own, http).map_or(true, |own| own.group.is_some());
        let base = if speaks {
            // Only with the member's own keys may it be complete.
            balancer::parse(&base, http)
                .ok()
                .and_then(|base| base.group)
        } else {
            group.clone()
        };
        let replicas = replicas && !m.group.is_empty();
        let id = member_id.unwrap_or_else(|| {
            if replicas {
                format!("{}@{run_id}", m.proxy_name)
            } else {
                m.proxy_name.clone()
            }
        });
        Ok(Offer {
            name: m.group.as_str().into(),
            id: id.into(),
            member: if all.is_empty() {
                self.plain.clone()
            } else {
                member.into()
            },
            base: base.map_or_else(|| self.upstreams.clone(), Arc::new),
            configured: !all.is_empty(),
            group: group.filter(|_| speaks).map(|config| {
                let keys = of_group(all, http);
                Box::new(Said { config, keys })
            }),
            replicas,
        })
    }

    /// The keys that a client has set and may set.
    fn own(&self, m: &NewProxy) -> Keys {
        let keys = m.metas.iter();
        let keys = keys.filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)));
        keys.filter(|(key, _)| match &self.allowed {
            Allowed::All => true,
            Allowed::Only(allowed) => allowed.iter().any(|a| a == key),
        })
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
    }
}

/// Keys that are about the group, not about a member.
fn of_group(keys: Keys, http: bool) -> Keys {
    keys.into_iter()
        .filter(|(key, value)| {
            let one = Keys::from([(key.clone(), value.clone())]);
            // One that means something beside others only is about the group.
            balancer::parse(&one, http).map_or(true, |parsed| parsed.group.is_some())
        })
        .collect()
}

impl Rule {
    fn is_for(&self, kind: &str, group: &str) -> bool {
        !group.is_empty()
            && (self.kind.is_empty() || self.kind == kind)
            && (self.group.is_empty() || matches(&self.group, group))
    }
}

/// Whether `text` is as `pattern` has it, where `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(begin) else {
        return false;
    };
    let (middle, end) = rest
        .rsplit_once('*')
        .map_or((None, rest), |(m, e)| (Some(m), e));
    let Some(mut text) = text.strip_suffix(end) else {
        return false;
    };
    // The first place where a part occurs leaves the most for the others.
    for part in middle.into_iter().flat_map(|middle| middle.split('*')) {
        match text.split_once(part) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    true
}

/// The configured secrets, or one that nobody else has.
fn secrets(c: &ServerBalancing) -> Result<Vec<Secret>, Error> {
    if !c.sticky_secrets_file.is_empty() {
        let file = &c.sticky_secrets_file;
        let text = std::fs::read_to_string(file)
            .map_err(|e| Error(format!("loadBalancer.stickySecretsFile: {file}: {e}")))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return Ok(lines.map(Secret::from).collect());
    }
    if !c.sticky_secrets.is_empty() {
        return Ok(c
            .sticky_secrets
            .iter()
            .map(|s| Secret::from(s.as_str()))
            .collect());
    }
    let mut secret = [0; SECRET_LEN];
    getrandom::fill(&mut secret)
        .map_err(|e| Error(format!("loadBalancer.stickySecrets: no randomness: {e}")))?;
    Ok(vec![Secret::new(secret)])
}

#[cfg(test)]
mod tests {
    use balancer::Strategy;
    use frp_proto::config::server_from_text;

    use super::*;

    fn settings(section: &str) -> BalancingSettings {
        let c = server_from_text(
            section,
            std::path::Path::new("f.toml"),
            true,
            &BTreeMap::new(),
        );
        let c = c.unwrap();
        BalancingSettings::new(c.config.load_balancer.as_ref()).unwrap()
    }

    fn proxy(group: &str, keys: &[(&str, &str)]) -> NewProxy {
        NewProxy {
            proxy_name: "web".into(),
            group: group.into(),
            metas: keys
                .iter()
                .map(|(k, v)| (format!("lb.{k}"), (*v).to_owned()))
                .collect(),
            ..NewProxy::default()
        }
    }

    fn offer(s: &BalancingSettings, group: &str, keys: &[(&str, &str)]) -> Offer {
        s.offer(&proxy(group, keys), "http", "run").unwrap()
    }

    #[test]
    fn without_any_key_a_group_is_as_upstreams() {
        let offer = offer(&settings(""), "g", &[]);
        assert!(!offer.configured && offer.group.is_none());
        assert_eq!(*offer.base, GroupConfig::default());
        assert_eq!(&*offer.id, "web");
    }

    #[test]
    fn rules_come_before_members_and_members_before_defaults() {
        let s = settings(
            "[loadBalancer.defaults]\nstrategy = \"random\"\nweight = 2\n\
             [[loadBalancer.rules]]\ngroup = \"shop-*\"\nstrategy = \"ewma\"\n\
             [[loadBalancer.rules]]\ngroup = \"*-eu\"\nstrategy = \"least-request\"\n",
        );
        let strategy = |group, keys: &[_]| {
            let offer = offer(&s, group, keys);
            (
                offer
                    .group
                    .map_or(offer.base.strategy, |said| said.config.strategy),
                offer.member.weight,
            )
        };
        let own = [("strategy", "hash"), ("weight", "7")];
        assert_eq!(strategy("g", &[]), (Strategy::Random, 2));
        assert_eq!(strategy("g", &own), (Strategy::Hash, 7));
        assert_eq!(strategy("shop-1", &own), (Strategy::Ewma, 7));
        assert_eq!(strategy("shop-eu", &[]), (Strategy::LeastRequest, 2));
    }

    #[test]
    fn members_that_say_nothing_about_the_group_are_neutral() {
        let s = settings("");
        let weight = offer(&s, "g", &[("weight", "3")]);
        assert!(weight.configured && weight.group.is_none());
        assert_eq!(weight.member.weight, 3);
        let ewma = offer(&s, "g", &[("weight", "3"), ("strategy", "ewma")]);
        let said = ewma.group.unwrap();
        assert_eq!(said.keys.into_keys().collect::<Vec<_>>(), ["strategy"]);
    }

    #[test]
    fn the_server_says_which_keys_clients_may_set() {
        let own = [("weight", "3"), ("strategy", "ewma")];
        let none = settings("[loadBalancer]\nallowClientConfig = false\n");
        assert!(!offer(&none, "g", &own).configured);
        let some = settings("[loadBalancer]\nallowClientConfig = [\"weight\"]\n");
        let offer = offer(&some, "g", &own);
        assert_eq!((offer.member.weight, offer.group.is_none()), (3, true));
    }

    #[test]
    fn errors_are_told_to_the_client() {
        let wrong = proxy("g", &[("strategy", "best")]);
        let error = settings("").offer(&wrong, "tcp", "run").unwrap_err();
        assert!(
            error.starts_with("loadBalancer: lb.strategy: \"best\": want "),
            "{error}"
        );
    }

    #[test]
    fn replicas_are_told_apart_by_their_client() {
        let s = settings("");
        assert_eq!(
            offer(&s, "g", &[("replicas", "true")]).id.as_ref(),
            "web@run"
        );
        let named = [("replicas", "true"), ("memberId", "blue")];
        assert_eq!(offer(&s, "g", &named).id.as_ref(), "blue");
        assert!(!offer(&s, "", &[("replicas", "true")]).replicas);
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*b", "ab", true),
            ("ab*ba", "aba", false),
            ("a*c*e", "abcde", true),
            ("a*d*c*e", "abcde", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
