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
use url::{OuterProxy, Scheme};

/// For each step after the TCP connection is there.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Dials the proxy with the options of `o`, and has it connect to `o.host`, whose name the proxy resolves.
pub async fn dial_via(proxy: &ProxyUrl, o: &DialOptions) -> io::Result<Conn> {
    let proxy = proxy.parse()?;
    let mut conn = reach(&proxy, o).await?;
    let target = join_host_port(&o.host, o.port);
    let credentials = proxy.credentials.as_ref();
    match proxy.scheme {
        Scheme::Http | Scheme::Https => {
            limited(http::connect(&mut conn, &target, credentials)).await?;
        }
        Scheme::Ntlm => limited(ntlm::connect(&mut conn, &target, credentials)).await?,
        Scheme::Socks5 => {
            let connected = socks5::connect(&mut conn, &o.host, o.port, credentials);
            limited(connected)
                .await
                .map_err(|e| io::Error::new(e.kind(), format!("socks connect tcp: {e}")))?;
        }
    }
    Ok(conn)
}

/// Dials an HTTP proxy ([`ProxyUrl::forwards`]) with the options of `o`, to tell it whole URLs. Also gives the value of
/// `Proxy-Authorization`, if it is to have one.
pub async fn dial_forwarding(
    proxy: &ProxyUrl,
    o: &DialOptions,
) -> io::Result<(Conn, Option<String>)> {
    let proxy = proxy.parse()?;
    let conn = reach(&proxy, o).await?;
    Ok((conn, proxy.credentials.as_ref().map(http::authorization)))
}

/// A connection to the proxy itself.
async fn reach(proxy: &OuterProxy, o: &DialOptions) -> io::Result<Conn> {
    let to_proxy = DialOptions {
        host: proxy.host.clone(),
        port: proxy.port,
        ..o.clone()
    };
    let stream = dial(&to_proxy).await?;
    if proxy.scheme != Scheme::Https {
        return Ok(Conn::Tcp(stream));
    }
    let tls = ClientTls::system_roots();
    match limited(tls.connect(stream, &proxy.host)).await {
        Ok(stream) => Ok(Conn::Other(Box::new(stream))),
        Err(e) => {
            let text = format!("TLS handshake with HTTPS proxy: {e}");
            Err(io::Error::new(e.kind(), text))
        }
    }
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
