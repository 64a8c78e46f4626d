//! Dialling through an outer proxy (transports.md §6, `transport.proxyURL`).

mod http;
mod ntlm;
mod socks5;
mod url;

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::Conn;
use super::dial::{DialOptions, dial};
use super::listen::join_host_port;
use crate::tls::ClientTls;

pub use url::ProxyUrl;
use url::Scheme;

/// For each step after the TCP connection is there.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Dials the proxy with the options of `o`, and has it connect to `o.host`, whose name the proxy resolves.
pub async fn dial_via(proxy: &ProxyUrl, o: &DialOptions) -> io::Result<Conn> {
    let proxy = proxy.parse()?;
    let to_proxy = DialOptions {
        host: proxy.host.clone(),
        port: proxy.port,
        ..o.clone()
    };
    let mut stream = dial(&to_proxy).await?;
    let target = join_host_port(&o.host, o.port);
    let credentials = proxy.credentials.as_ref();
    match proxy.scheme {
        Scheme::Http => limited(http::connect(&mut stream, &target, credentials)).await?,
        Scheme::Ntlm => limited(ntlm::connect(&mut stream, &target, credentials)).await?,
        Scheme::Socks5 => {
            let connected = socks5::connect(&mut stream, &o.host, o.port, credentials);
            limited(connected)
                .await
                .map_err(|e| io::Error::new(e.kind(), format!("socks connect tcp: {e}")))?;
        }
        Scheme::Https => {
            let tls = ClientTls::system_roots();
            let secured = limited(tls.connect(stream, &proxy.host)).await;
            let mut stream = secured.map_err(|e| {
                io::Error::new(e.kind(), format!("TLS handshake with HTTPS proxy: {e}"))
            })?;
            limited(http::connect(&mut stream, &target, credentials)).await?;
            return Ok(Conn::Other(Box::new(stream)));
        }
    }
    Ok(Conn::Tcp(stream))
}

async fn limited<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STEP_LIMIT, step).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "proxy: i/o timeout",
        ))
    })
}

/// User and password.
type Credentials = (String, String);
