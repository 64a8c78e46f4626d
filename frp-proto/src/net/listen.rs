//! Listening sockets and accepted sockets' options.
use std::io;
use tokio::net::{TcpListener, TcpStream};

/// Binds `addr:port`; `0.0.0.0` and `::` are dual-stack where IPv6 is available (wire.md §0), IPv4 only otherwise. Error text as Go's: `listen tcp A:P: bind: address already in use`.
pub async fn bind(_addr: &str, _port: u16) -> io::Result<TcpListener> {
    todo!()
}
/// Host and port as Go prints them: `[::1]:80`, `127.0.0.1:80`.
pub fn join_host_port(_host: &str, _port: u16) -> String {
    todo!()
}
/// Options of an accepted or dialled socket: TCP_NODELAY, keepalive idle `keepalive_secs` (negative: off; interval 15 s, 9 probes).
pub fn set_options(_s: &TcpStream, _keepalive_secs: i64) -> io::Result<()> {
    todo!()
}
/// Accepts for ever: temporary errors back off 5 ms doubling to 1 s. IPv4-mapped peers come back as plain IPv4. Cancel safe.
pub async fn accept(_l: &TcpListener) -> io::Result<(TcpStream, std::net::SocketAddr)> {
    todo!()
}
