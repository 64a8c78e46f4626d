//! Dialling TCP.
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    pub host: String,
    pub port: u16,
    pub timeout: Duration,
    pub keepalive_secs: i64,
    pub local_ip: Option<std::net::IpAddr>,
}
/// Resolves afresh, tries every address (happy eyeballs, RFC 8305), sets options. Error text as Go's `dial tcp IP:PORT: connect: connection refused`.
pub async fn dial(_o: &DialOptions) -> io::Result<TcpStream> {
    todo!()
}
