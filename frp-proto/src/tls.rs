//! TLS (wire.md §1.2, transports.md §4): streams over rustls, and certificates that may change at any time.
//!
//! rustls makes the handshake and owns the key schedule; [`TlsStream`] protects the records itself, without a copy and without
//! an allocation a record.

mod alert;
pub mod client_hello;
mod files;
mod handshake;
mod record;
mod site;
mod stream;
mod verify;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::MissedTickBehavior;

use files::Contents;
pub use site::SiteTls;
pub use stream::TlsStream;

/// Why TLS material could not be used; `Display` is the text of config-frps.md §9.1 row 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);

/// Files of one side. Empty path = not configured; cert and key count only together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, the peer's own certificate first, then those that lead to its CA.
    pub cert_file: PathBuf,
    /// PEM, unencrypted: PKCS#8, PKCS#1 or SEC1.
    pub key_file: PathBuf,
    /// PEM. On a server, clients must show a certificate of these CAs; on a client, the server's certificate is verified
    /// against them, and not at all without.
    pub trusted_ca_file: PathBuf,
}

/// Server side: current certificate and client CA, replaced when the files change.
#[derive(Clone)]
pub struct ServerTls(Arc<Server>);

struct Server {
    files: TlsFiles,
    current: ArcSwap<ServerConfig>,
    /// Digest of the files of `current` as it was made first.
    first: [u8; 32],
    /// The generated certificate, if that is what is shown.
    own: Option<Arc<CertifiedKey>>,
}

impl ServerTls {
    /// Loads the files, or makes the in-memory self-signed certificate.
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let mut own = None;
        let config = contents.server(&files, || {
            let key = files::self_signed()?;
            own = Some(key.clone());
            Ok(key)
        })?;
        Ok(Self(Arc::new(Server {
            current: ArcSwap::from_pointee(config),
            first: contents.digest(),
            own,
            files,
        })))
    }

    /// The configuration for connections that begin now.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.0.current.load_full()
    }

    /// Handshakes as server. The caller sets the time limit.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: S,
    ) -> io::Result<TlsStream<S>> {
        let side = UnbufferedServerConnection::new(self.current())
            .map_err(|e| alert::handshake_error(&e))?;
        TlsStream::handshake(io, side).await
    }

    /// Looks at the files every `period` and swaps in what changed; a bad file is logged once and changes nothing. Runs until dropped.
    pub async fn watch(self, period: Duration) {
        if self.0.files == TlsFiles::default() {
            return std::future::pending().await;
        }
        let mut current = self.0.first;
        let mut complaint = None;
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let server = self.0.clone();
            let Ok(checked) = tokio::task::spawn_blocking(move || server.reload(current)).await
            else {
                continue;
            };
            match checked {
                Ok(Some(digest)) => {
                    tracing::info!("TLS certificates reloaded");
                    current = digest;
                    complaint = None;
                }
                Ok(None) => complaint = None,
                Err(e) if complaint.as_ref() == Some(&e) => {}
                Err(e) => {
                    tracing::warn!("changed TLS files are not used: {e}");
                    complaint = Some(e);
                }
            }
        }
    }
}

impl Server {
    /// Swaps in the files' contents if they are not those of digest `current`; returns the new digest.
    fn reload(&self, current: [u8; 32]) -> Result<Option<[u8; 32]>, TlsError> {
        let contents = Contents::read(&self.files)?;
        let digest = contents.digest();
        if digest == current {
            return Ok(None);
        }
        let own = || self.own.clone().map_or_else(files::self_signed, Ok);
        self.current
            .store(Arc::new(contents.server(&self.files, own)?));
        Ok(Some(digest))
    }
}

/// Client side. Files are read again for each connection (parsed only when changed).
#[derive(Clone)]
pub struct ClientTls(Arc<Client>);

struct Client {
    files: TlsFiles,
    /// The system's root certificates vouch for servers, and no file does.
    system_roots: bool,
    /// The last configuration, and the digest of its files.
    cached: Mutex<Option<([u8; 32], Arc<ClientConfig>)>>,
}

impl ClientTls {
    /// Nothing is read before the first connection.
    pub fn new(files: TlsFiles) -> Self {
        Self::with(files, false)
    }

    /// Verifies servers against the system's root certificates, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. They are
    /// read at the first connection.
    pub fn system_roots() -> Self {
        Self::with(TlsFiles::default(), true)
    }

    fn with(files: TlsFiles, system_roots: bool) -> Self {
        Self(Arc::new(Client {
            files,
            system_roots,
            cached: Mutex::new(None),
        }))
    }

    /// Handshakes as client. `server_name`: DNS name or IP literal. The caller sets the time limit.
    ///
    /// Files that cannot be used are an error of kind `InvalidInput`.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: S,
        server_name: &str,
    ) -> io::Result<TlsStream<S>> {
        let config = self.config().await?;
        let name = self.server_name(server_name)?;
        let side = UnbufferedClientConnection::new(config, name)
            .map_err(|e| alert::handshake_error(&e))?;
        TlsStream::handshake(io, side).await
    }

    /// The configuration for a connection that begins now.
    pub(crate) async fn config(&self) -> io::Result<Arc<ClientConfig>> {
        let client = self.0.clone();
        if client.files == TlsFiles::default() && !client.system_roots {
            client.config()
        } else {
            tokio::task::spawn_blocking(move || client.config()).await?
        }
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
    }

    /// The name to send and to verify. Where nothing is verified any name will do; one that cannot be sent is not.
    pub(crate) fn server_name(&self, name: &str) -> io::Result<ServerName<'static>> {
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        let host = bare.unwrap_or(name);
        let address = host
            .split_once('%')
            .map_or(host, |(address, _zone)| address);
        if let Ok(ip) = address.parse::<IpAddr>() {
            return Ok(ServerName::from(ip));
        }
        match ServerName::try_from(name.trim_end_matches('.').to_owned()) {
            Ok(name) => Ok(name),
            Err(_) if !self.0.verifies() => {
                Ok(ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)))
            }
            Err(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("tls: failed to verify certificate: x509: invalid server name \"{name}\""),
            )),
        }
    }
}

impl Client {
    /// Whether a server has to prove who it is.
    fn verifies(&self) -> bool {
        self.system_roots || !self.files.trusted_ca_file.as_os_str().is_empty()
    }

    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let contents = Contents::read(&self.files)?;
        let digest = contents.digest();
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*cached
            && *of == digest
        {
            return Ok(config.clone());
        }
        let config = Arc::new(contents.client(&self.files, self.system_roots)?);
        *cached = Some((digest, config.clone()));
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
