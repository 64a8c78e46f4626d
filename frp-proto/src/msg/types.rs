//! Message structs; fields as in wire.md §2.3.
use std::collections::BTreeMap;

/// Any message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Login(Box<Login>),
    LoginResp(LoginResp),
    NewProxy(Box<NewProxy>),
    NewProxyResp(NewProxyResp),
    CloseProxy(CloseProxy),
    NewWorkConn(NewWorkConn),
    ReqWorkConn,
    StartWorkConn(StartWorkConn),
    NewVisitorConn(NewVisitorConn),
    NewVisitorConnResp(NewVisitorConnResp),
    Ping(Ping),
    Pong(Pong),
    UdpPacket(UdpPacket),
    NatHoleVisitor(NatHoleVisitor),
    NatHoleClient(NatHoleClient),
    NatHoleResp(Box<NatHoleResp>),
    NatHoleSid(NatHoleSid),
    NatHoleReport(NatHoleReport),
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClientSpec {
    pub type_: String,
    pub always_auth_pass: bool,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Login {
    pub version: String,
    pub hostname: String,
    pub os: String,
    pub arch: String,
    pub user: String,
    pub privilege_key: String,
    pub timestamp: i64,
    pub run_id: String,
    pub client_id: String,
    pub metas: BTreeMap<String, String>,
    pub client_spec: ClientSpec,
    pub pool_count: i64,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoginResp {
    pub version: String,
    pub run_id: String,
    pub error: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewProxy {
    pub proxy_name: String,
    pub proxy_type: String,
    pub use_encryption: bool,
    pub use_compression: bool,
    pub bandwidth_limit: String,
    pub bandwidth_limit_mode: String,
    pub group: String,
    pub group_key: String,
    pub metas: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub remote_port: i64,
    pub custom_domains: Vec<String>,
    pub subdomain: String,
    pub locations: Vec<String>,
    pub http_user: String,
    pub http_pwd: String,
    pub host_header_rewrite: String,
    pub headers: BTreeMap<String, String>,
    pub response_headers: BTreeMap<String, String>,
    pub route_by_http_user: String,
    pub sk: String,
    pub allow_users: Vec<String>,
    pub multiplexer: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewProxyResp {
    pub proxy_name: String,
    pub remote_addr: String,
    pub error: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CloseProxy {
    pub proxy_name: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewWorkConn {
    pub run_id: String,
    pub privilege_key: String,
    pub timestamp: i64,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StartWorkConn {
    pub proxy_name: String,
    pub src_addr: String,
    pub dst_addr: String,
    pub src_port: u16,
    pub dst_port: u16,
    pub error: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewVisitorConn {
    pub run_id: String,
    pub proxy_name: String,
    pub sign_key: String,
    pub timestamp: i64,
    pub use_encryption: bool,
    pub use_compression: bool,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewVisitorConnResp {
    pub proxy_name: String,
    pub error: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ping {
    pub privilege_key: String,
    pub timestamp: i64,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pong {
    pub error: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UdpPacket {
    pub content: bytes::Bytes,
    pub local: Option<UdpAddr>,
    pub remote: Option<UdpAddr>,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UdpAddr {
    pub ip: String,
    pub port: i64,
    pub zone: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NatHoleVisitor {
    pub transaction_id: String,
    pub proxy_name: String,
    pub pre_check: bool,
    pub protocol: String,
    pub sign_key: String,
    pub timestamp: i64,
    pub mapped_addrs: Vec<String>,
    pub assisted_addrs: Vec<String>,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NatHoleClient {
    pub transaction_id: String,
    pub proxy_name: String,
    pub sid: String,
    pub mapped_addrs: Vec<String>,
    pub assisted_addrs: Vec<String>,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NatHoleResp {
    pub transaction_id: String,
    pub sid: String,
    pub protocol: String,
    pub candidate_addrs: Vec<String>,
    pub assisted_addrs: Vec<String>,
    pub detect_behavior: DetectBehavior,
    pub error: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DetectBehavior {
    pub role: String,
    pub mode: i64,
    pub ttl: i64,
    pub send_delay_ms: i64,
    pub read_timeout: i64,
    pub candidate_ports: Vec<PortsRange>,
    pub send_random_ports: i64,
    pub listen_random_ports: i64,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PortsRange {
    pub from: i64,
    pub to: i64,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NatHoleSid {
    pub transaction_id: String,
    pub sid: String,
    pub response: bool,
    pub nonce: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NatHoleReport {
    pub sid: String,
    pub success: bool,
}
