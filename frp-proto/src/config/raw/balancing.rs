//! Keys of load balancing that upstream does not have (balancing.md §6): of a proxy's `loadBalancer`, and of the server's.
//!
//! What the values mean is not known here: on the wire each key is a text of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::ser::Serializer;

use crate::config::decode::{DecodeError, Decoder, Field, record};
use crate::config::encode::{Encode, Encoded};
use crate::config::value::{Data, Value};

/// A text, number, switch, or list of them, as text; absent = not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting(pub Option<String>);

impl Field for Setting {
    fn go() -> Cow<'static, str> {
        Cow::Borrowed("string")
    }

    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
        let text = |value: &Value| match &value.data {
            Data::Bool(b) => Some(b.to_string()),
            Data::Number(text) | Data::String(text) => Some(text.clone()),
            _ => None,
        };
        self.0 = match &value.data {
            Data::Null => return Ok(()),
            Data::Array(items) => {
                let texts: Option<Vec<String>> = items.iter().map(text).collect();
                texts.map(|texts| texts.join(","))
            }
            _ => text(value),
        };
        if self.0.is_none() {
            return Err(d.mismatch(value, value.kind(), go));
        }
        Ok(())
    }
}

impl Encode for Setting {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_deref().unwrap_or_default())
    }
}

record! {
    /// How members of a group share their users.
    BalancingKeys = "v1.LoadBalancerConfig" {
        strategy: Setting = ["strategy"],
        choices: Setting = ["choices"],
        stream_weight: Setting = ["streamWeight"],
        ewma: Option<EwmaKeys> = ["ewma"],
        hash: Option<HashKeys> = ["hash"],
        sticky: Option<StickyKeys> = ["sticky"],
        retry: Option<RetryKeys> = ["retry"],
        hedge: Option<HedgeKeys> = ["hedge"],
        load_report: Setting = ["loadReport"],
        outlier: Option<OutlierKeys> = ["outlier"],
        check: Option<CheckKeys> = ["check"],
        panic_threshold: Setting = ["panicThreshold"],
        fail_open: Setting = ["failOpen"],
        slow_start: Setting = ["slowStart"],
        aggression: Setting = ["aggression"],
        max_requests: Setting = ["maxRequests"],
        max_pending: Setting = ["maxPending"],
        overflow: Setting = ["overflow"],
        weight: Setting = ["weight"],
        priority: Setting = ["priority"],
        zone: Setting = ["zone"],
        max_connections: Setting = ["maxConnections"],
        member_id: Setting = ["memberId"],
        replicas: Setting = ["replicas"],
        drain: Setting = ["drain"],
        drain_timeout: Setting = ["drainTimeout"],
        revision: Setting = ["revision"],
        agent: Option<AgentKeys> = ["agent"],
    }
}

record! {
    /// `ewma` of [`BalancingKeys`].
    EwmaKeys = "v1.LoadBalancerEwma" {
        decay: Setting = ["decay"],
        default_rtt: Setting = ["defaultRtt"],
        tolerance: Setting = ["tolerance"],
        failure_penalty: Setting = ["failurePenalty"],
        cap: Setting = ["cap"],
        ignore_paths: Setting = ["ignorePaths"],
    }
}

record! {
    /// `hash` of [`BalancingKeys`].
    HashKeys = "v1.LoadBalancerHash" {
        key: Setting = ["key"],
        algorithm: Setting = ["algorithm"],
        table_size: Setting = ["tableSize"],
        bounded_load: Setting = ["boundedLoad"],
    }
}

record! {
    /// `sticky` of [`BalancingKeys`].
    StickyKeys = "v1.LoadBalancerSticky" {
        mode: Setting = ["mode"],
        name: Setting = ["name"],
        path: Setting = ["path"],
        ttl: Setting = ["ttl"],
        same_site: Setting = ["sameSite"],
        strict: Setting = ["strict"],
        rewrite: Setting = ["rewrite"],
    }
}

record! {
    /// `retry` of [`BalancingKeys`].
    RetryKeys = "v1.LoadBalancerRetry" {
        attempts: Setting = ["attempts"],
        on: Setting = ["on"],
        max_body_bytes: Setting = ["maxBodyBytes"],
        connect_timeout: Setting = ["connectTimeout"],
        non_idempotent: Setting = ["nonIdempotent"],
        budget: Setting = ["budget"],
        min_per_sec: Setting = ["minPerSec"],
    }
}

record! {
    /// `hedge` of [`BalancingKeys`].
    HedgeKeys = "v1.LoadBalancerHedge" {
        enabled: Setting = ["enabled"],
    }
}

record! {
    /// `outlier` of [`BalancingKeys`].
    OutlierKeys = "v1.LoadBalancerOutlier" {
        enabled: Setting = ["enabled"],
        consecutive: Setting = ["consecutive"],
        failure_percent: Setting = ["failurePercent"],
        min_requests: Setting = ["minRequests"],
        stdev_factor: Setting = ["stdevFactor"],
        base_time: Setting = ["baseTime"],
        max_time: Setting = ["maxTime"],
        max_percent: Setting = ["maxPercent"],
        keep_on_check: Setting = ["keepOnCheck"],
    }
}

record! {
    /// `check` of [`BalancingKeys`].
    CheckKeys = "v1.LoadBalancerCheck" {
        type_: Setting = ["type"],
        path: Setting = ["path"],
        interval: Setting = ["interval"],
        timeout: Setting = ["timeout"],
        fall: Setting = ["fall"],
        rise: Setting = ["rise"],
        expect: Setting = ["expect"],
    }
}

record! {
    /// `agent` of [`BalancingKeys`].
    AgentKeys = "v1.LoadBalancerAgent" {
        port: Setting = ["port"],
        address: Setting = ["address"],
        interval: Setting = ["interval"],
        send: Setting = ["send"],
    }
}

record! {
    /// `loadBalancer` of the server.
    ServerBalancing = "v1.ServerLoadBalancer" {
        /// `true`, `false`, or a list of keys that clients may set.
        allow_client_config: Setting = ["allowClientConfig"],
        /// Whether groups without any key try another member when no work connection comes.
        stock_failover: Setting = ["stockFailover"],
        /// The first signs sticky cookies, all verify.
        sticky_secrets: Vec<String> = [secret "stickySecrets"],
        /// A file with one of them a line, in place of the list.
        sticky_secrets_file: String = ["stickySecretsFile"],
        /// `first` or `reject`.
        on_conflict: Setting = ["onConflict"],
        zone: String = ["zone"],
        defaults: BalancingKeys = ["defaults"],
        rules: Vec<BalancingRule> = ["rules"],
    }
}

record! {
    /// Keys for the groups it names, above what their members say.
    BalancingRule = "v1.LoadBalancerRule" {
        /// `tcp`, `http`, `https` or `tcpmux`; empty = all.
        kind: String = ["kind"],
        /// Name of a group, with `*` for any text; empty = all.
        group: String = ["group"],
        keys: BalancingKeys = [embed "LoadBalancerConfig"],
    }
}

impl BalancingKeys {
    /// Each key that is said, such as `ewma.decay`, with its text.
    pub fn flat(&self) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        // Texts and tables of texts: nothing in it can fail to be one.
        if let Ok(serde_json::Value::Object(members)) = serde_json::to_value(Encoded(self)) {
            flatten("", members, &mut flat);
        }
        flat
    }
}

fn flatten(
    prefix: &str,
    members: serde_json::Map<String, serde_json::Value>,
    flat: &mut BTreeMap<String, String>,
) {
    for (key, value) in members {
        let key = format!("{prefix}{key}");
        match value {
            serde_json::Value::String(text) => {
                flat.insert(key, text);
            }
            serde_json::Value::Object(members) => flatten(&format!("{key}."), members, flat),
            _ => {}
        }
    }
}
