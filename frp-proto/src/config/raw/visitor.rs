//! Visitors of every type (config-frpc.md §7).

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::plugin::VisitorPlugin;
use super::proxy::NatTraversalConfig;
use super::{Element, Entry};
use crate::config::decode::{DecodeError, Decoder, Record, Whole, record};
use crate::config::encode::{Encode, Members};
use crate::config::value::Value;
use crate::config::{ConfigError, definition, validate};

/// A visitor of any type: the common part and what its type adds.
#[derive(Debug, Clone, PartialEq)]
pub struct VisitorConfig {
    /// Keys of every type.
    pub base: VisitorBase,
    /// Keys of this type.
    pub kind: VisitorKind,
}

record! {
    /// Keys of every visitor.
    VisitorBase = "v1.VisitorBaseConfig" {
        name: String = [always "name"],
        type_: String = [always "type"],
        /// `Some(false)` drops the entry.
        enabled: Option<bool> = ["enabled"],
        transport: VisitorTransport = ["transport"],
        secret_key: String = [secret "secretKey"],
        /// Empty = the own user.
        server_user: String = ["serverUser"],
        server_name: String = ["serverName"],
        bind_addr: String = ["bindAddr"] or "127.0.0.1",
        /// Negative = do not listen, take connections handed over only.
        bind_port: i64 = ["bindPort" as "int"],
        plugin: Option<VisitorPlugin> = [always "plugin"],
    }
}

record! {
    /// `transport` of a visitor.
    VisitorTransport = "v1.VisitorTransport" {
        use_encryption: bool = ["useEncryption"],
        use_compression: bool = ["useCompression"],
    }
}

record! {
    /// What `stcp` adds: nothing.
    StcpVisitor = "v1.STCPVisitorConfig" {}
}

record! {
    /// What `sudp` adds: nothing.
    SudpVisitor = "v1.SUDPVisitorConfig" {}
}

record! {
    /// What `xtcp` adds.
    XtcpVisitor = "v1.XTCPVisitorConfig" {
        /// `quic` or `kcp`.
        protocol: String = ["protocol"] or "quic",
        keep_tunnel_open: bool = ["keepTunnelOpen"],
        max_retries_an_hour: i64 = ["maxRetriesAnHour" as "int"] or 8,
        /// Seconds.
        min_retry_interval: i64 = ["minRetryInterval" as "int"] or 90,
        /// Name of another visitor of this process.
        fallback_to: String = ["fallbackTo"],
        /// Milliseconds.
        fallback_timeout_ms: i64 = ["fallbackTimeoutMs" as "int"] or 1000,
        nat_traversal: Option<NatTraversalConfig> = ["natTraversal"],
    }
}

/// What a visitor's type adds.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "each variant is the type of its name, described at its record"
)]
pub enum VisitorKind {
    Stcp,
    Sudp,
    Xtcp(XtcpVisitor),
}

impl VisitorConfig {
    /// Fills the defaults; a second call changes nothing.
    pub fn complete(&mut self) {
        self.base.fill_defaults();
        if let VisitorKind::Xtcp(xtcp) = &mut self.kind {
            xtcp.fill_defaults();
        }
    }
}

impl Entry for VisitorConfig {
    const WHAT: &'static str = "visitor";
    const LIST: &'static str = "visitors";

    fn name(&self) -> &str {
        &self.base.name
    }

    fn type_name(&self) -> &str {
        &self.base.type_
    }

    fn enabled(&self) -> bool {
        self.base.enabled.unwrap_or(true)
    }

    fn complete(&mut self) {
        Self::complete(self);
    }

    fn validate(&self) -> Result<(), ConfigError> {
        validate::visitor(self)
    }

    fn from_definition(text: &str, expected_name: Option<&str>) -> Result<Self, ConfigError> {
        definition::parse(text, expected_name)
    }
}

impl Members for VisitorConfig {
    fn members<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        self.base.members(map)?;
        match &self.kind {
            VisitorKind::Stcp | VisitorKind::Sudp => Ok(()),
            VisitorKind::Xtcp(kind) => kind.members(map),
        }
    }
}

impl Serialize for VisitorConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encode(serializer)
    }
}

impl Element for VisitorConfig {
    const GO: &'static str = "model.VisitorDefinition";
    const TYPES: &'static [&'static str] = &["stcp", "sudp", "xtcp"];

    fn set_identity(&mut self, name: String, type_: String) {
        self.base.name = name;
        self.base.type_ = type_;
    }

    fn decode(type_: &str, value: &Value, d: &mut Decoder) -> Result<Self, DecodeError> {
        let (base, kind) = match type_ {
            "stcp" => decode_as(value, d, |_: StcpVisitor| VisitorKind::Stcp),
            "sudp" => decode_as(value, d, |_: SudpVisitor| VisitorKind::Sudp),
            "xtcp" => decode_as(value, d, VisitorKind::Xtcp),
            _ => {
                return Err(DecodeError::text(
                    value.member("type").unwrap_or(value).pos,
                    format!("unknown visitor type: {type_}"),
                ));
            }
        }
        .map_err(|e| e.within("unmarshal VisitorConfig error: "))?;
        if d.strict {
            VisitorPlugin::refuse_unknown_keys(value)
                .map_err(|e| e.within("unmarshal visitor plugin error: "))?;
        }
        Ok(Self { base, kind })
    }
}

fn decode_as<K: Record>(
    value: &Value,
    d: &mut Decoder,
    kind: impl FnOnce(K) -> VisitorKind,
) -> Result<(VisitorBase, VisitorKind), DecodeError> {
    let whole: Whole<VisitorBase, K> = d.root(value)?;
    Ok((whole.base, kind(whole.kind)))
}
