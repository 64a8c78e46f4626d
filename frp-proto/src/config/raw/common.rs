//! Records both programs share.
use std::collections::BTreeMap;
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ValueSource {
    pub type_: String,
    pub file: Option<FileSource>,
    pub exec: Option<ExecSource>,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileSource {
    pub path: String,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecSource {
    pub command: String,
    pub args: Vec<String>,
    pub env: Vec<ExecEnvVar>,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecEnvVar {
    pub name: String,
    pub value: String,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogConfig {
    pub to: String,
    pub level: String,
    pub max_days: i64,
    pub disable_print_color: bool,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WebServerConfig {
    pub addr: String,
    pub port: i64,
    pub user: String,
    pub password: String,
    pub assets_dir: String,
    pub pprof_enable: bool,
    pub tls: Option<TlsConfig>,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsConfig {
    pub cert_file: String,
    pub key_file: String,
    pub trusted_ca_file: String,
    pub server_name: String,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuicOptions {
    pub keepalive_period: i64,
    pub max_idle_timeout: i64,
    pub max_incoming_streams: i64,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortsRange {
    pub start: i64,
    pub end: i64,
    pub single: i64,
}
pub type StringMap = BTreeMap<String, String>;
