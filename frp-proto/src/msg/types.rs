//! The messages (wire.md §2.2, §2.3): structs, their JSON keys, their type bytes and ids.
//!
//! Some are ours. [`PushProxy`] and [`RemoveProxy`] go only to a client that has said `accept_proxies` in its Login, and only who
//! has got one sends [`PushResult`]; [`AgentState`] goes only to a server that has asked for it in its answer to the proxy. So
//! other programs never see them. Their bytes are signs and their ids are large, since upstream takes letters, digits and the
//! next number.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::json::{Field, Json, JsonError, Record, records};

/// What an in-process client asks for; ignored on network connections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientSpec {
    /// Kind of client.
    pub type_: String,
    /// Skip authentication (in-process only).
    pub always_auth_pass: bool,
}

/// First message of a control connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Login {
    /// Sender's version, without `v`.
    pub version: String,
    /// Host name of the client.
    pub hostname: String,
    /// Operating system, Go's name.
    pub os: String,
    /// Architecture, Go's name.
    pub arch: String,
    /// `user` of frpc.
    pub user: String,
    /// Authentication key (wire.md §4.3).
    pub privilege_key: String,
    /// Unix seconds of this attempt.
    pub timestamp: i64,
    /// Empty at first, else the id got before.
    pub run_id: String,
    /// `clientID` of frpc.
    pub client_id: String,
    /// `metadatas` of frpc.
    pub metas: BTreeMap<String, String>,
    /// Always present on the wire.
    pub client_spec: ClientSpec,
    /// Work connections wanted in advance.
    pub pool_count: i64,
    /// The server may push proxies. Ours, not upstream's.
    pub accept_proxies: bool,
}

/// Answer to `Login`; the last plain message of a control connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoginResp {
    /// Server's version.
    pub version: String,
    /// Id of the session, on success.
    pub run_id: String,
    /// Empty = success.
    pub error: String,
}

/// Asks for a proxy; which fields count depends on the type (wire.md §2.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "keys of the message")]
pub struct NewProxy {
    /// Wire name, with the user prefix.
    pub proxy_name: String,
    /// Empty = `tcp`.
    pub proxy_type: String,
    /// Payload is encrypted.
    pub use_encryption: bool,
    /// Payload is compressed.
    pub use_compression: bool,
    /// Text such as `10MB`.
    pub bandwidth_limit: String,
    /// Empty = `client`.
    pub bandwidth_limit_mode: String,
    /// Load-balancing group.
    pub group: String,
    /// Secret of the group.
    pub group_key: String,
    /// Proxy metadata.
    pub metas: BTreeMap<String, String>,
    /// Proxy annotations.
    pub annotations: BTreeMap<String, String>,
    /// 0 = the server picks.
    pub remote_port: i64,
    /// Domains.
    pub custom_domains: Vec<String>,
    /// Label below the server's domain.
    pub subdomain: String,
    /// Path prefixes.
    pub locations: Vec<String>,
    /// Basic-auth user.
    pub http_user: String,
    /// Basic-auth password.
    pub http_pwd: String,
    /// Host header for the backend.
    pub host_header_rewrite: String,
    /// Request headers to set.
    pub headers: BTreeMap<String, String>,
    /// Response headers to set.
    pub response_headers: BTreeMap<String, String>,
    /// Route only this user.
    pub route_by_http_user: String,
    /// Secret key of visitors.
    pub sk: String,
    /// Users that may visit.
    pub allow_users: Vec<String>,
    /// `httpconnect`.
    pub multiplexer: String,
    /// The client can say how its dial of the local service went. Ours, not upstream's.
    pub dial_verdict: bool,
    /// The client has an agent of the service to listen to. Ours, not upstream's.
    pub agent: bool,
}

/// Answer to `NewProxy`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewProxyResp {
    /// Wire name.
    pub proxy_name: String,
    /// Where users connect to.
    pub remote_addr: String,
    /// Empty = success.
    pub error: String,
    /// The server wants to hear what the agent says. Ours, not upstream's.
    pub agent: bool,
}

/// Ends a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloseProxy {
    /// Wire name.
    pub proxy_name: String,
}

/// First message of a work connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewWorkConn {
    /// Session it belongs to.
    pub run_id: String,
    /// With scope `NewWorkConns`.
    pub privilege_key: String,
    /// With scope `NewWorkConns`.
    pub timestamp: i64,
}

/// Tells a work connection what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartWorkConn {
    /// Wire name.
    pub proxy_name: String,
    /// User's address, bare.
    pub src_addr: String,
    /// Address the user connected to, bare.
    pub dst_addr: String,
    /// User's port.
    pub src_port: u16,
    /// Port the user connected to.
    pub dst_port: u16,
    /// Empty = start.
    pub error: String,
    /// A [`Verdict`](super::Verdict) is wanted. Ours, not upstream's.
    pub dial_verdict: bool,
}

/// First message of a visitor connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewVisitorConn {
    /// Visitor's session.
    pub run_id: String,
    /// Wire name of the target.
    pub proxy_name: String,
    /// MD5 of secret key and timestamp.
    pub sign_key: String,
    /// Unix seconds.
    pub timestamp: i64,
    /// Visitor's flag.
    pub use_encryption: bool,
    /// Visitor's flag.
    pub use_compression: bool,
}

/// Answer to `NewVisitorConn`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewVisitorConnResp {
    /// Wire name.
    pub proxy_name: String,
    /// Empty = success.
    pub error: String,
}

/// Heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ping {
    /// With scope `HeartBeats`.
    pub privilege_key: String,
    /// With scope `HeartBeats`.
    pub timestamp: i64,
}

/// Answer to Ping.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pong {
    /// Empty = fine.
    pub error: String,
}

/// One datagram.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UdpPacket {
    /// Payload.
    pub content: Bytes,
    /// Never set by upstream.
    pub local: Option<UdpAddr>,
    /// The end user.
    pub remote: Option<UdpAddr>,
}

/// A UDP address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UdpAddr {
    /// Address text.
    pub ip: String,
    /// Port.
    pub port: i64,
    /// IPv6 zone.
    pub zone: String,
}

/// A visitor's request to punch a hole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatHoleVisitor {
    /// Id of the exchange.
    pub transaction_id: String,
    /// Target.
    pub proxy_name: String,
    /// Only asks whether it is allowed.
    pub pre_check: bool,
    /// `quic` or `kcp`.
    pub protocol: String,
    /// MD5 of secret key and timestamp.
    pub sign_key: String,
    /// Unix seconds.
    pub timestamp: i64,
    /// Addresses seen by STUN.
    pub mapped_addrs: Vec<String>,
    /// Local addresses.
    pub assisted_addrs: Vec<String>,
}

/// The proxy side's part of the exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatHoleClient {
    /// Id of the exchange.
    pub transaction_id: String,
    /// Own proxy.
    pub proxy_name: String,
    /// Session id.
    pub sid: String,
    /// Addresses seen by STUN.
    pub mapped_addrs: Vec<String>,
    /// Local addresses.
    pub assisted_addrs: Vec<String>,
}

/// What each side shall do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatHoleResp {
    /// Id of the exchange.
    pub transaction_id: String,
    /// Session id.
    pub sid: String,
    /// `quic` or `kcp`.
    pub protocol: String,
    /// Peer's addresses.
    pub candidate_addrs: Vec<String>,
    /// Peer's local addresses.
    pub assisted_addrs: Vec<String>,
    /// Always present on the wire.
    pub detect_behavior: DetectBehavior,
    /// Empty = success.
    pub error: String,
}

/// How to punch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DetectBehavior {
    /// `sender` or `receiver`.
    pub role: String,
    /// Mode number.
    pub mode: i64,
    /// TTL of probes.
    pub ttl: i64,
    /// Milliseconds.
    pub send_delay_ms: i64,
    /// Milliseconds.
    pub read_timeout: i64,
    /// Ports to try.
    pub candidate_ports: Vec<PortsRange>,
    /// How many.
    pub send_random_ports: i64,
    /// How many.
    pub listen_random_ports: i64,
}

/// An inclusive range of ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortsRange {
    /// First.
    pub from: i64,
    /// Last.
    pub to: i64,
}

/// Probe between peers, and the session's announcement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatHoleSid {
    /// Id of the exchange.
    pub transaction_id: String,
    /// Session id.
    pub sid: String,
    /// Answers a probe.
    pub response: bool,
    /// Padding.
    pub nonce: String,
}

/// Whether the hole was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatHoleReport {
    /// Session id.
    pub sid: String,
    /// Result.
    pub success: bool,
}

/// The server asks the client to serve one more proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushProxy {
    /// Chosen by the server; the answer has it.
    pub id: i64,
    /// An entry of `proxies`, as it could stand in a JSON file of frpc.
    pub proxy: serde_json::Value,
}

/// The server asks the client to serve a pushed proxy no longer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoveProxy {
    /// Chosen by the server; the answer has it.
    pub id: i64,
    /// Its name, without the user prefix.
    pub name: String,
}

/// The client's answer to [`PushProxy`] and [`RemoveProxy`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushResult {
    /// Of what is answered.
    pub id: i64,
    /// Empty = done.
    pub error: String,
}

/// What the agent of a proxy's service has said (balancing.md §7).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentState {
    /// Wire name.
    pub proxy_name: String,
    /// The agent's line.
    pub line: String,
}

records! {
    ClientSpec { type_: "type", always_auth_pass: "always_auth_pass" }
    Login { version: "version", hostname: "hostname", os: "os", arch: "arch", user: "user", privilege_key: "privilege_key", timestamp: "timestamp", run_id: "run_id", client_id: "client_id", metas: "metas", client_spec: "client_spec" record, pool_count: "pool_count", accept_proxies: "accept_proxies" }
    LoginResp { version: "version", run_id: "run_id", error: "error" }
    NewProxy { proxy_name: "proxy_name", proxy_type: "proxy_type", use_encryption: "use_encryption", use_compression: "use_compression", bandwidth_limit: "bandwidth_limit", bandwidth_limit_mode: "bandwidth_limit_mode", group: "group", group_key: "group_key", metas: "metas", annotations: "annotations", remote_port: "remote_port", custom_domains: "custom_domains", subdomain: "subdomain", locations: "locations", http_user: "http_user", http_pwd: "http_pwd", host_header_rewrite: "host_header_rewrite", headers: "headers", response_headers: "response_headers", route_by_http_user: "route_by_http_user", sk: "sk", allow_users: "allow_users", multiplexer: "multiplexer", dial_verdict: "dial_verdict", agent: "agent" }
    NewProxyResp { proxy_name: "proxy_name", remote_addr: "remote_addr", error: "error", agent: "agent" }
    CloseProxy { proxy_name: "proxy_name" }
    NewWorkConn { run_id: "run_id", privilege_key: "privilege_key", timestamp: "timestamp" }
    StartWorkConn { proxy_name: "proxy_name", src_addr: "src_addr", dst_addr: "dst_addr", src_port: "src_port", dst_port: "dst_port", error: "error", dial_verdict: "dial_verdict" }
    NewVisitorConn { run_id: "run_id", proxy_name: "proxy_name", sign_key: "sign_key", timestamp: "timestamp", use_encryption: "use_encryption", use_compression: "use_compression" }
    NewVisitorConnResp { proxy_name: "proxy_name", error: "error" }
    Ping { privilege_key: "privilege_key", timestamp: "timestamp" }
    Pong { error: "error" }
    UdpPacket { content: "c", local: "l", remote: "r" }
    UdpAddr { ip: "IP" always, port: "Port" always, zone: "Zone" always }
    NatHoleVisitor { transaction_id: "transaction_id", proxy_name: "proxy_name", pre_check: "pre_check", protocol: "protocol", sign_key: "sign_key", timestamp: "timestamp", mapped_addrs: "mapped_addrs", assisted_addrs: "assisted_addrs" }
    NatHoleClient { transaction_id: "transaction_id", proxy_name: "proxy_name", sid: "sid", mapped_addrs: "mapped_addrs", assisted_addrs: "assisted_addrs" }
    NatHoleResp { transaction_id: "transaction_id", sid: "sid", protocol: "protocol", candidate_addrs: "candidate_addrs", assisted_addrs: "assisted_addrs", detect_behavior: "detect_behavior" record, error: "error" }
    DetectBehavior { role: "role", mode: "mode", ttl: "ttl", send_delay_ms: "send_delay_ms", read_timeout: "read_timeout", candidate_ports: "candidate_ports", send_random_ports: "send_random_ports", listen_random_ports: "listen_random_ports" }
    PortsRange { from: "from", to: "to" }
    NatHoleSid { transaction_id: "transaction_id", sid: "sid", response: "response", nonce: "nonce" }
    NatHoleReport { sid: "sid", success: "success" }
    PushProxy { id: "id", proxy: "proxy" }
    RemoveProxy { id: "id", name: "name" }
    PushResult { id: "id", error: "error" }
    AgentState { proxy_name: "proxy_name", line: "line" }
}

impl Field for PortsRange {
    fn is_zero(&self) -> bool {
        false
    }
    fn write(&self, out: &mut Vec<u8>) {
        Record::write(self, out);
    }
    fn read(&mut self, _field: &'static str, value: &Json) -> Result<(), JsonError> {
        Record::read(self, value)
    }
}

/// `ReqWorkConn` has no fields.
#[derive(Default)]
struct Empty {}

records! { Empty {} }

/// Makes [`Message`] and its tables from one list: struct, v1 type byte, v2 id.
macro_rules! messages {
    ($($name:ident $(in $boxed:ident)?, $byte:literal, $id:literal;)*) => {
        /// Any message.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each variant is the struct of its name")]
        pub enum Message {
            /// Asks for a work connection; has no fields.
            ReqWorkConn,
            $($name(messages!(@type $name $(in $boxed)?)),)*
        }

        impl Message {
            /// Type byte of v1.
            pub fn type_byte(&self) -> u8 {
                match self {
                    Self::ReqWorkConn => b'r',
                    $(Self::$name(_) => $byte,)*
                }
            }

            /// Message id of v2.
            pub fn id(&self) -> u16 {
                match self {
                    Self::ReqWorkConn => 7,
                    $(Self::$name(_) => $id,)*
                }
            }

            /// Name of the message, for logs.
            pub fn name(&self) -> &'static str {
                match self {
                    Self::ReqWorkConn => "ReqWorkConn",
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            /// The v2 id of a v1 type byte.
            pub(super) fn id_of_byte(byte: u8) -> Option<u16> {
                match byte {
                    b'r' => Some(7),
                    $($byte => Some($id),)*
                    _ => None,
                }
            }

            /// Whether a message has this v2 id.
            pub(super) fn is_id(id: u16) -> bool {
                matches!(id, 7 $(| $id)*)
            }

            /// Appends the JSON object.
            pub(super) fn write_json(&self, out: &mut Vec<u8>) {
                match self {
                    Self::ReqWorkConn => Empty {}.write(out),
                    $(Self::$name(m) => m.write(out),)*
                }
            }

            /// Reads the object of the message with this v2 id; `None` if there is no such id.
            pub(super) fn read_json(id: u16, json: &Json) -> Option<Result<Self, JsonError>> {
                match id {
                    7 => Some(read::<Empty>(json).map(|_| Self::ReqWorkConn)),
                    $($id => Some(read::<$name>(json).map(|m| Self::$name(m.into()))),)*
                    _ => None,
                }
            }
        }
    };
    (@type $name:ident) => { $name };
    (@type $name:ident in $boxed:ident) => { $boxed<$name> };
}

messages! {
    Login in Box, b'o', 1;
    LoginResp, b'1', 2;
    NewProxy in Box, b'p', 3;
    NewProxyResp, b'2', 4;
    CloseProxy, b'c', 5;
    NewWorkConn, b'w', 6;
    StartWorkConn, b's', 8;
    NewVisitorConn, b'v', 9;
    NewVisitorConnResp, b'3', 10;
    Ping, b'h', 11;
    Pong, b'4', 12;
    UdpPacket, b'u', 13;
    NatHoleVisitor, b'i', 14;
    NatHoleClient, b'n', 15;
    NatHoleResp in Box, b'm', 16;
    NatHoleSid, b'5', 17;
    NatHoleReport, b'6', 18;
    PushProxy, b'+', 61_441;
    RemoveProxy, b'-', 61_442;
    PushResult, b'=', 61_443;
    AgentState, b'~', 61_444;
}

fn read<T: Record>(json: &Json) -> Result<T, JsonError> {
    let mut record = T::default();
    record.read(json)?;
    Ok(record)
}
