//! TLS towards users of a service, browsers among them: protocols are negotiated, and sessions may resume.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::server::{ServerSessionMemoryCache, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::files::{self, Contents};
use super::{TlsError, TlsFiles, TlsStream};

/// Sessions that can be resumed.
const SESSIONS: usize = 256;
/// Tickets for a TLS 1.3 client: browsers open two connections at once.
const TICKETS: usize = 2;

/// Server side. Files are read again for each connection (parsed only when changed); if they cannot be used then, the last good
/// ones stay. Without files a self-signed certificate is made once.
#[derive(Clone)]
pub struct SiteTls(Arc<Site>);

struct Site {
    files: TlsFiles,
    protocols: Vec<Vec<u8>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last good configuration, and the digest of its files.
    current: Option<([u8; 32], Arc<ServerConfig>)>,
    /// The generated certificate, if that is what is shown.
    own: Option<Arc<CertifiedKey>>,
    /// Told already.
    complaint: Option<TlsError>,
}

impl SiteTls {
    /// Nothing is read before [`SiteTls::load`] or the first connection. `protocols` are ALPN names, the preferred one first;
    /// none: no ALPN.
    pub fn new(files: TlsFiles, protocols: &[&str]) -> Self {
        Self(Arc::new(Site {
            files,
            protocols: protocols.iter().map(|p| p.as_bytes().to_vec()).collect(),
            state: Mutex::default(),
        }))
    }

    /// Reads the files, or makes the certificate, unless that was done.
    pub fn load(&self) -> Result<(), TlsError> {
        self.0.config().map(drop)
    }

    /// Handshakes as server. The caller sets the time limit. Files that cannot be used, and never could, are an error.
    pub async fn accept<S>(&self, io: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let side = UnbufferedServerConnection::new(self.config().await?)
            .map_err(|e| super::alert::handshake_error(&e))?;
        TlsStream::handshake(io, side).await
    }

    /// As [`SiteTls::accept`], with a stream that knows which protocol and server name the client has asked for.
    pub async fn accept_negotiated<S>(
        &self,
        io: S,
    ) -> io::Result<tokio_rustls::server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config().await?).accept(io).await
    }

    async fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let site = self.0.clone();
        let config = if site.has_files() {
            tokio::task::spawn_blocking(move || site.config()).await?
        } else {
            site.config()
        };
        config.map_err(io::Error::other)
    }
}

impl Site {
    fn has_files(&self) -> bool {
        let TlsFiles {
            cert_file,
            key_file,
            ..
        } = &self.files;
        !cert_file.as_os_str().is_empty() && !key_file.as_os_str().is_empty()
    }

    /// The configuration for the next connection.
    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let contents = Contents::read(&self.files);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = contents.and_then(|contents| self.updated(&mut state, &contents));
        match (loaded, &state.current) {
            (Ok(config), _) => {
                state.complaint = None;
                Ok(config)
            }
            (Err(e), None) => Err(e),
            (Err(e), Some((_, config))) => {
                let config = config.clone();
                if state.complaint.as_ref() != Some(&e) {
                    tracing::warn!("changed TLS files are not used: {e}");
                    state.complaint = Some(e);
                }
                Ok(config)
            }
        }
    }

    fn updated(
        &self,
        state: &mut State,
        contents: &Contents,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let digest = contents.digest();
        if let Some((of, config)) = &state.current
            && *of == digest
        {
            return Ok(config.clone());
        }
        let own = &mut state.own;
        let mut config = contents.server(&self.files, || match own {
            Some(key) => Ok(key.clone()),
            None => Ok(own.insert(files::self_signed()?).clone()),
        })?;
        config.alpn_protocols.clone_from(&self.protocols);
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.send_tls13_tickets = TICKETS;
        let config = Arc::new(config);
        state.current = Some((digest, config.clone()));
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::ClientTls;
    use rcgen::{CertificateParams, KeyPair};
    use std::path::Path;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn write_pair(files: &TlsFiles, name: &str) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        std::fs::write(&files.cert_file, cert.pem()).unwrap();
        std::fs::write(&files.key_file, key.serialize_pem()).unwrap();
        cert.der().to_vec()
    }

    fn files(directory: &Path) -> TlsFiles {
        TlsFiles {
            cert_file: directory.join("crt"),
            key_file: directory.join("key"),
            ..TlsFiles::default()
        }
    }

    /// The certificate that a client sees.
    async fn shown(tls: &SiteTls) -> Vec<u8> {
        let (near, far) = duplex(4096);
        let verifier = crate::tls::files::Contents::read(&TlsFiles::default()).unwrap();
        let config = verifier.client(&TlsFiles::default(), false).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = "site.test".try_into().unwrap();
        let (client, server) =
            tokio::join!(connector.connect(name, near), tls.accept_negotiated(far));
        server.unwrap();
        client.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    #[tokio::test]
    async fn changed_files_are_shown_and_bad_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let tls = SiteTls::new(files.clone(), &[]);
        assert!(tls.load().unwrap_err().0.starts_with("open "));
        let first = write_pair(&files, "a.test");
        tls.load().unwrap();
        assert_eq!(shown(&tls).await, first);
        let second = write_pair(&files, "b.test");
        assert_eq!(shown(&tls).await, second);
        std::fs::write(&files.key_file, "no key").unwrap();
        assert_eq!(shown(&tls).await, second);
    }

    #[tokio::test]
    async fn the_own_certificate_stays() {
        let tls = SiteTls::new(TlsFiles::default(), &["h2", "http/1.1"]);
        assert_eq!(shown(&tls).await, shown(&tls).await);
    }

    #[tokio::test]
    async fn bytes_go_both_ways() {
        let tls = SiteTls::new(TlsFiles::default(), &[]);
        let (near, far) = duplex(4096);
        let client = ClientTls::new(TlsFiles::default());
        let (client, server) = tokio::join!(client.connect(near, "site.test"), tls.accept(far));
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        client.write_all(b"ping").await.unwrap();
        client.flush().await.unwrap();
        let mut got = [0; 4];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
    }
}
