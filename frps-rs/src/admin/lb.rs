//! Groups and their members (balancing.md §7): what they are doing, and what administrators decide about them.

use std::sync::Arc;
use std::time::Duration;

use balancer::{MemberView, Overrides, Strategy};
use frp_admin::{ApiError, Request, Response};
use serde::{Deserialize, Deserializer, Serialize};

use super::Answer;
use super::page::Page;
use crate::Shared;
use crate::balance::Managed;

/// Highest weight and priority.
const MAX_WEIGHT: u32 = 1_000;
/// Longest drain, in seconds.
const MAX_DRAIN: u64 = 7 * 24 * 3600;
/// Percent of a group's connections that may be ended in a second.
const MAX_SHED: f64 = 0.5;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupItem {
    kind: &'static str,
    group: String,
    strategy: &'static str,
    /// Percent of connections a second, while users are moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    shedding: Option<f64>,
    members: Vec<MemberItem>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberItem {
    id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// Seconds in this state.
    since: u64,
    weight: u32,
    effective_weight: f32,
    priority: u32,
    active: u32,
    streams: u32,
    waiting: u32,
    ewma_ms: Option<f32>,
    window_ok: u64,
    window_failed: u64,
    ejections: u32,
    next_probe: Option<u64>,
    last_check: Option<bool>,
    sticky_tag: Option<String>,
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    overrides: Option<OverrideItem>,
}

/// What was decided; absent = as configured.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OverrideItem {
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_timeout: Option<u64>,
}

impl From<MemberView> for MemberItem {
    fn from(m: MemberView) -> Self {
        let tag = |tag: [u8; 8]| format!("{:016x}", u64::from_be_bytes(tag));
        Self {
            state: m.state.as_str(),
            cause: m.cause.map(balancer::Cause::as_str),
            since: m.for_secs,
            weight: m.weight,
            effective_weight: m.effective_weight,
            priority: m.priority,
            active: m.active,
            streams: m.streams,
            waiting: m.waiting,
            ewma_ms: m.latency_ms,
            window_ok: m.window_ok,
            window_failed: m.window_failed,
            ejections: m.ejections,
            next_probe: m.next_probe_secs,
            last_check: m.last_check,
            sticky_tag: m.tag.map(tag),
            overrides: overrides(&m.overrides),
            id: m.id.to_string(),
        }
    }
}

fn overrides(o: &Overrides) -> Option<OverrideItem> {
    (*o != Overrides::default()).then(|| OverrideItem {
        weight: o.weight,
        priority: o.priority,
        max_connections: o.max_connections,
        state: match o.drain {
            _ if o.disabled => Some("disabled"),
            Some(true) => Some("draining"),
            Some(false) => Some("up"),
            None => None,
        },
        drain_timeout: o.drain_timeout.map(|timeout| timeout.as_secs()),
    })
}

fn item(group: &dyn Managed) -> GroupItem {
    GroupItem {
        kind: group.kind(),
        group: group.name().to_owned(),
        strategy: match group.config().strategy {
            Strategy::RoundRobin => "round-robin",
            Strategy::Random => "random",
            Strategy::LeastRequest => "least-request",
            Strategy::Ewma => "ewma",
            Strategy::First => "first",
            Strategy::Hash => "hash",
        },
        shedding: group.shedding(),
        members: group.members().into_iter().map(MemberItem::from).collect(),
    }
}

/// `GET /api/v2/lb/groups`
pub(super) fn groups(shared: &Shared, request: &Request) -> Answer {
    let page = Page::of(request)?;
    let groups = shared.balancing.registry.named();
    Ok(Response::envelope(
        page.cut(&groups, |group| item(&**group)),
    ))
}

/// `GET /api/v2/lb/groups/{kind}/{group}`
pub(super) fn group(shared: &Shared, request: &Request) -> Answer {
    let group = find(shared, request)?;
    Ok(Response::envelope(item(&*group)))
}

fn find(shared: &Shared, request: &Request) -> Result<Arc<dyn Managed>, ApiError> {
    let (kind, name) = (request.param("kind"), request.param("group"));
    let found = shared.balancing.registry.find(kind, name);
    found.ok_or_else(|| ApiError::not_found(format!("no group [{name}] of type [{kind}]")))
}

/// The member that a request is about.
fn member(group: &dyn Managed, request: &Request) -> Result<MemberView, ApiError> {
    let id = request.param("id");
    let found = group.members().into_iter().find(|m| *m.id == *id);
    found.ok_or_else(|| ApiError::not_found(format!("no member [{id}] in the group")))
}

/// What is to be changed.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Change {
    weight: Said<u32>,
    priority: Said<u32>,
    max_connections: Said<u32>,
    state: Said<Wanted>,
    ejected: Option<bool>,
}

/// What is said of a value.
#[derive(Clone, Copy, Default)]
enum Said<T> {
    /// Nothing: it stays.
    #[default]
    Nothing,
    /// `null`: it is as configured again.
    Back,
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Said<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::deserialize(deserializer)?;
        Ok(value.map_or(Self::Back, Self::Value))
    }
}

impl<T> Said<T> {
    fn apply(self, to: &mut Option<T>) {
        match self {
            Self::Nothing => {}
            Self::Back => *to = None,
            Self::Value(value) => *to = Some(value),
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Up,
    Draining,
    Disabled,
}

fn parsed<T: for<'de> Deserialize<'de> + Default>(request: &Request) -> Result<T, ApiError> {
    if request.body().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(request.body()).map_err(|e| ApiError::bad_request(e.to_string()))
}

impl Change {
    fn apply(&self, to: &mut Overrides) -> Result<(), ApiError> {
        for (name, value) in [("weight", self.weight), ("priority", self.priority)] {
            if matches!(value, Said::Value(value) if value > MAX_WEIGHT) {
                let text = format!("{name} must be between 0 and {MAX_WEIGHT}");
                return Err(ApiError::bad_request(text));
            }
        }
        self.weight.apply(&mut to.weight);
        self.priority.apply(&mut to.priority);
        self.max_connections.apply(&mut to.max_connections);
        match self.state {
            Said::Nothing => {}
            Said::Back => (to.drain, to.disabled) = (None, false),
            Said::Value(Wanted::Up) => (to.drain, to.disabled) = (Some(false), false),
            Said::Value(Wanted::Draining) => (to.drain, to.disabled) = (Some(true), false),
            Said::Value(Wanted::Disabled) => to.disabled = true,
        }
        Ok(())
    }
}

/// `PATCH /api/v2/lb/groups/{kind}/{group}/members/{id}`
pub(super) fn change(shared: &Shared, request: &Request) -> Answer {
    let change: Change = parsed(request)?;
    let group = find(shared, request)?;
    let found = member(&*group, request)?;
    let mut overrides = found.overrides;
    change.apply(&mut overrides)?;
    match change.ejected {
        Some(true) => {
            return Err(ApiError::bad_request(
                "ejected can only be set to false; use state to switch a member off",
            ));
        }
        Some(false) => {
            group.restore(&found.id);
        }
        None => {}
    }
    group.set_overrides(&found.id, &overrides);
    tracing::info!(proxy = %found.id, "{} group [{}]: member changed by an administrator", group.kind(), group.name());
    Ok(Response::envelope(MemberItem::from(member(
        &*group, request,
    )?)))
}

/// `POST /api/v2/lb/groups/{kind}/{group}/members/{id}/drain`
pub(super) fn drain(shared: &Shared, request: &Request) -> Answer {
    #[derive(Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Drain {
        /// Seconds.
        timeout: Option<u64>,
    }
    let drain: Drain = parsed(request)?;
    if drain.timeout.is_some_and(|timeout| timeout > MAX_DRAIN) {
        let text = format!("timeout must be between 0 and {MAX_DRAIN} seconds");
        return Err(ApiError::bad_request(text));
    }
    let group = find(shared, request)?;
    let found = member(&*group, request)?;
    let overrides = Overrides {
        drain: Some(true),
        drain_timeout: drain.timeout.map(Duration::from_secs),
        ..found.overrides
    };
    group.set_overrides(&found.id, &overrides);
    tracing::info!(proxy = %found.id, "{} group [{}]: member is drained by an administrator", group.kind(), group.name());
    Ok(Response::envelope(MemberItem::from(member(
        &*group, request,
    )?)))
}

/// `POST /api/v2/lb/groups/{kind}/{group}/shed`
pub(super) fn shed(shared: &Shared, request: &Request) -> Answer {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Shed {
        percent_per_second: f64,
    }
    let shed: Shed =
        serde_json::from_slice(request.body()).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let percent = shed.percent_per_second;
    if !(0.0..=MAX_SHED).contains(&percent) {
        let text = format!("percentPerSecond must be between 0 and {MAX_SHED}");
        return Err(ApiError::bad_request(text));
    }
    let group = find(shared, request)?;
    group.shed(percent);
    let (kind, name) = (group.kind(), group.name());
    tracing::info!(
        "{kind} group [{name}]: {percent} % of connections a second are moved by an administrator"
    );
    Ok(Response::envelope(item(&*group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, mut to: Overrides) -> Result<Overrides, String> {
        let change: Change = serde_json::from_str(text).map_err(|e| e.to_string())?;
        change.apply(&mut to).map_err(|e| e.text)?;
        Ok(to)
    }

    #[test]
    fn what_is_absent_stays_and_null_goes_back() {
        let before = Overrides {
            weight: Some(3),
            drain: Some(true),
            ..Overrides::default()
        };
        assert_eq!(apply("{}", before.clone()), Ok(before.clone()));
        let weight = apply(r#"{"weight": 5}"#, before.clone()).unwrap();
        assert_eq!((weight.weight, weight.drain), (Some(5), Some(true)));
        let none = apply(r#"{"weight": null, "state": null}"#, before.clone());
        assert_eq!(none, Ok(Overrides::default()));
        let off = apply(r#"{"state": "disabled"}"#, Overrides::default()).unwrap();
        assert!(off.disabled);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            r#"{"weight": 1001}"#,
            r#"{"weight": -1}"#,
            r#"{"state": "gone"}"#,
            r#"{"colour": 1}"#,
        ] {
            assert!(apply(text, Overrides::default()).is_err(), "{text}");
        }
    }
}
