use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, SigningKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex, split};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::testing::unhex;

/// Far more than any of these tests takes.
const LIMIT: Duration = Duration::from_secs(60);

type Pair<A, B> = (io::Result<A>, io::Result<B>);

/// Handshakes both ends of a pipe.
async fn pair(
    server: &ServerTls,
    client: &ClientTls,
    name: &str,
) -> Pair<TlsStream<DuplexStream>, TlsStream<DuplexStream>> {
    let (near, far) = duplex(1 << 16);
    timeout(LIMIT, async {
        tokio::join!(server.accept(near), client.connect(far, name))
    })
    .await
    .unwrap()
}

async fn established() -> (TlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let server = ServerTls::new(TlsFiles::default()).unwrap();
    let (server, client) = pair(&server, &ClientTls::new(TlsFiles::default()), "frps").await;
    (server.unwrap(), client.unwrap())
}

/// A rustls configuration with the versions given, for peers that are not ours.
fn oracle_server(versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
    let key = files::self_signed().unwrap();
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
}

fn oracle_client(
    versions: &[&'static rustls::SupportedProtocolVersion],
    suite: Option<rustls::CipherSuite>,
) -> ClientConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    provider
        .cipher_suites
        .retain(|s| suite.is_none_or(|suite| s.suite() == suite));
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::VerifyServer {
            roots: None,
            algorithms,
        }))
        .with_no_client_auth()
}

fn noise(len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    getrandom::fill(&mut data).unwrap();
    data
}

/// Sends `data` both ways at once and closes each direction after it.
async fn exchange<A, B>(a: A, b: B, data: &[u8], piece: usize)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let ((mut ar, mut aw), (mut br, mut bw)) = (split(a), split(b));
    let write = async |w: &mut (dyn AsyncWrite + Unpin)| {
        for piece in data.chunks(piece) {
            w.write_all(piece).await.unwrap();
        }
        w.shutdown().await.unwrap();
    };
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    timeout(LIMIT, async {
        tokio::join!(
            write(&mut aw),
            write(&mut bw),
            async { ar.read_to_end(&mut at_a).await.unwrap() },
            async { br.read_to_end(&mut at_b).await.unwrap() },
        )
    })
    .await
    .unwrap();
    assert!(at_a == data && at_b == data);
}

#[tokio::test]
async fn ours_with_ours() {
    for (len, piece) in [(3_000, 1), (3 << 20, 1 << 20), (100_000, 16_385), (0, 1)] {
        let (server, client) = established().await;
        exchange(server, client, &noise(len), piece).await;
    }
}

#[tokio::test]
async fn ours_with_rustls_in_every_suite() {
    use rustls::CipherSuite::*;
    let server = ServerTls::new(TlsFiles::default()).unwrap();
    let suites = [
        (&rustls::version::TLS13, TLS13_AES_128_GCM_SHA256),
        (&rustls::version::TLS13, TLS13_AES_256_GCM_SHA384),
        (&rustls::version::TLS13, TLS13_CHACHA20_POLY1305_SHA256),
        (
            &rustls::version::TLS12,
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
        (
            &rustls::version::TLS12,
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            &rustls::version::TLS12,
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
    ];
    for (version, suite) in suites {
        let connector = TlsConnector::from(Arc::new(oracle_client(&[version], Some(suite))));
        let (near, far) = duplex(1 << 16);
        let name = ServerName::try_from("frps").unwrap();
        let (ours, theirs) = tokio::join!(server.accept(near), connector.connect(name, far));
        exchange(ours.unwrap(), theirs.unwrap(), &noise(1 << 20), 100_000).await;
    }
    let client = ClientTls::new(TlsFiles::default());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        // This one sends session tickets.
        let acceptor = TlsAcceptor::from(Arc::new(oracle_server(&[version])));
        let (near, far) = duplex(1 << 16);
        let (theirs, ours) = tokio::join!(acceptor.accept(near), client.connect(far, "frps"));
        exchange(theirs.unwrap(), ours.unwrap(), &noise(1 << 20), 100_000).await;
    }
}

/// One byte at a time in both directions.
struct Byte<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Byte<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Byte<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn transport_of_single_bytes() {
    let server = ServerTls::new(TlsFiles::default()).unwrap();
    let client = ClientTls::new(TlsFiles::default());
    let (near, far) = duplex(64);
    let (server, client) =
        tokio::join!(server.accept(Byte(near)), client.connect(Byte(far), "frps"));
    exchange(server.unwrap(), client.unwrap(), &noise(40_000), 7_000).await;
}

#[tokio::test]
async fn slices_are_packed_into_full_records() {
    let (mut server, mut client) = established().await;
    let data = noise(40_000);
    let slices: Vec<_> = [0..5, 5..5, 5..100, 100..20_000, 20_000..40_000]
        .map(|range| io::IoSlice::new(&data[range]))
        .to_vec();
    assert!(client.is_write_vectored());
    let n = client.write_vectored(&slices).await.unwrap();
    assert_eq!(n, data.len());
    let mut got = vec![0; data.len()];
    server.read_exact(&mut got).await.unwrap();
    assert!(got == data);

    // One write takes a bounded number of records, and all of them leave though the pipe holds less.
    let data = noise(1 << 20);
    let n = client.write(&data).await.unwrap();
    assert_eq!(n, 8 * 16_384);
    let mut got = vec![0; n];
    let (read, flush) = tokio::join!(server.read_exact(&mut got), client.flush());
    read.unwrap();
    flush.unwrap();
    assert!(got == data[..n]);
}

#[tokio::test]
async fn a_large_read_takes_several_records() {
    let (mut server, mut client) = established().await;
    client.write_all(&[7; 50_000]).await.unwrap();
    let mut buf = vec![0; 100_000];
    let n = server.read(&mut buf).await.unwrap();
    assert!(n >= 2 * 16_384, "{n}");
}

#[tokio::test]
async fn half_close_leaves_the_other_direction_open() {
    let (mut server, mut client) = established().await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = String::new();
    server.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "last words");
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    server.write_all(b"still here").await.unwrap();
    server.shutdown().await.unwrap();
    let mut got = String::new();
    client.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "still here");
    let e = client.write(b"x").await.unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn the_end_of_the_transport_is_an_end_except_inside_a_record() {
    let (mut server, client) = established().await;
    drop(client);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);

    let (mut server, mut client) = established().await;
    client.io.write_all(&[23, 3, 3, 0, 99, 1]).await.unwrap();
    drop(client);
    let e = server.read(&mut [0]).await.unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_idle_stream_holds_no_buffer() {
    let (mut server, mut client) = established().await;
    client.write_all(&[7; 30_000]).await.unwrap();
    server.read_exact(&mut [0; 30_000]).await.unwrap();
    assert!(server.read(&mut [0]).now_or_never().is_none());
    for stream in [&server, &client] {
        assert_eq!((stream.incoming.held(), stream.outgoing.held()), (0, 0));
    }
}

#[tokio::test]
async fn keys_change_when_the_peer_asks_and_when_they_are_worn() {
    let server = ServerTls::new(TlsFiles::default()).unwrap();
    let connector = TlsConnector::from(Arc::new(oracle_client(&[&rustls::version::TLS13], None)));
    let (near, far) = duplex(1 << 16);
    let name = ServerName::try_from("frps").unwrap();
    let (ours, theirs) = tokio::join!(server.accept(near), connector.connect(name, far));
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    let mut buf = [0; 4];
    for round in 0..5 {
        if round % 2 == 0 {
            theirs.get_mut().1.refresh_traffic_keys().unwrap();
        } else {
            ours.session.tx.wear_out();
        }
        theirs.write_all(b"ping").await.unwrap();
        ours.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"ping");
        ours.write_all(b"pong").await.unwrap();
        theirs.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"pong");
    }
    // Without data in between that is no conversation any more.
    for _ in 0..20 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.flush().await.unwrap();
    }
    assert!(ours.read(&mut buf).await.is_err());
}

#[tokio::test]
async fn alerts_are_told() {
    let (mut server, mut client) = established().await;
    client.io.write_all(&[23, 3, 3, 0, 20]).await.unwrap();
    client.io.write_all(&[0; 20]).await.unwrap();
    for _ in 0..2 {
        let e = server.read(&mut [0]).await.unwrap_err();
        assert_eq!(e.to_string(), "local error: tls: bad record MAC");
    }
    server.flush().await.unwrap();
    let e = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(e.to_string(), "remote error: tls: bad record MAC");
}

/// All that the client sends for a handshake and `data`, and then what the server says to it with one byte changed.
async fn corrupted(at: usize, flip: u8, data: &[u8]) -> io::Result<Vec<u8>> {
    let (mut server, mut client) = established().await;
    client.write_all(data).await.unwrap();
    client.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    server.io.read_to_end(&mut bytes).await.unwrap();
    let at = at % bytes.len();
    bytes[at] ^= flip;
    let (near, mut far) = duplex(1 << 20);
    far.write_all(&bytes).await.unwrap();
    drop(far);
    server.io = near;
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.map(|_| got)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_changed_byte_never_gets_through(at in any::<usize>(), flip in 1..=255u8, len in 1..40_000usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let data = noise(len);
        match runtime.block_on(async { timeout(LIMIT, corrupted(at, flip, &data)).await }).unwrap() {
            // A changed version is not looked at in TLS 1.3, but authenticated.
            Ok(got) => prop_assert!(false, "{} of {} bytes", got.len(), len),
            Err(e) => prop_assert!(
                matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
            ),
        }
    }

    #[test]
    fn garbage_ends_the_handshake(bytes in prop::collection::vec(any::<u8>(), 0..500), hello in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = ServerTls::new(TlsFiles::default()).unwrap();
            let (near, mut far) = duplex(1 << 16);
            if hello {
                far.write_all(&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]).await.unwrap();
            }
            far.write_all(&bytes).await.unwrap();
            far.shutdown().await.unwrap();
            let accepted = timeout(LIMIT, server.accept(near)).await.unwrap();
            assert!(accepted.is_err());
        });
    }
}

#[tokio::test]
async fn handshake_failures_name_their_cause() {
    let server = ServerTls::new(TlsFiles::default()).unwrap();
    let (near, mut far) = duplex(1 << 16);
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let e = server.accept(near).await.err().unwrap();
    assert_eq!(
        e.to_string(),
        "tls: first record does not look like a TLS handshake"
    );

    // Every part of a good hello, cut.
    let client = ClientTls::new(TlsFiles::default());
    let (near, mut far) = duplex(1 << 16);
    let mut hello = vec![0; 1 << 16];
    let connecting = tokio::spawn(async move { client.connect(near, "frps").await.map(drop) });
    let n = far.read(&mut hello).await.unwrap();
    assert!(n > 500, "{n}");
    drop(far);
    let e = connecting.await.unwrap().unwrap_err();
    assert_eq!(
        (e.kind(), e.to_string()),
        (io::ErrorKind::UnexpectedEof, "EOF".into())
    );
    for cut in [1, 4, 5, 6, 100, n - 1] {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(&hello[..cut]).await.unwrap();
        drop(far);
        let e = server.accept(near).await.err().unwrap();
        assert_eq!(e.to_string(), "unexpected EOF", "{cut}");
    }
}

#[tokio::test]
async fn a_hello_without_end_is_refused() {
    let server = ServerTls::new(TlsFiles::default()).unwrap();
    let (near, mut far) = duplex(1 << 16);
    let endless = async move {
        // A handshake message of 64 KiB in records of one byte.
        let message = [1, 0, 255, 255].into_iter().chain(std::iter::repeat(0));
        for byte in message.take(1 << 16) {
            if far.write_all(&[22, 3, 1, 0, 1, byte]).await.is_err() {
                return;
            }
        }
    };
    let (accepted, ()) = timeout(LIMIT, async { tokio::join!(server.accept(near), endless) })
        .await
        .unwrap();
    assert!(accepted.is_err());
}

// Certificates.

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        issuer: Issuer::new(params, key),
        pem,
    }
}

impl Authority {
    /// Certificate and key in PEM.
    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "cn.example");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
    fn pair(&self, name: &str, (cert, key): &(String, String)) -> TlsFiles {
        TlsFiles {
            cert_file: self.write(&format!("{name}.crt"), cert),
            key_file: self.write(&format!("{name}.key"), key),
            trusted_ca_file: PathBuf::new(),
        }
    }
    fn ca(&self, pem: &str) -> TlsFiles {
        TlsFiles {
            trusted_ca_file: self.write("ca.crt", pem),
            ..TlsFiles::default()
        }
    }
}

/// How the handshake ends for the client, which verifies `name` against `ca`.
async fn verify_server(pair_of: &(String, String), ca: &str, name: &str) -> Result<(), String> {
    let dir = Dir::new();
    let server = ServerTls::new(dir.pair("server", pair_of)).unwrap();
    let client = ClientTls::new(dir.ca(ca));
    let (server, client) = pair(&server, &client, name).await;
    if client.is_err() {
        assert!(server.is_err() || server.unwrap().read(&mut [0]).await.is_err());
    }
    client.map(|_| ()).map_err(|e| e.to_string())
}

#[tokio::test]
async fn server_names() {
    let ca = authority("ca");
    let leaf = ca.issue(|p| {
        p.subject_alt_names = vec![
            dns("frps.example"),
            dns("*.wild.example"),
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::IpAddress("::1".parse().unwrap()),
        ];
    });
    for name in [
        "frps.example",
        "FRPS.example.",
        "a.wild.example",
        "127.0.0.1",
        "::1",
        "[::1]",
    ] {
        assert_eq!(verify_server(&leaf, &ca.pem, name).await, Ok(()), "{name}");
    }
    let refused = "tls: failed to verify certificate: x509: certificate is valid for";
    for name in [
        "other.example",
        "a.b.wild.example",
        "wild.example",
        "cn.example",
    ] {
        assert_eq!(
            verify_server(&leaf, &ca.pem, name).await,
            Err(format!(
                "{refused} frps.example, *.wild.example, not {name}"
            ))
        );
    }
    assert_eq!(
        verify_server(&leaf, &ca.pem, "127.0.0.2").await,
        Err(format!("{refused} 127.0.0.1, ::1, not 127.0.0.2"))
    );
    let nameless = ca.issue(|_| ());
    assert_eq!(
        verify_server(&nameless, &ca.pem, "127.0.0.1")
            .await
            .unwrap_err(),
        "tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"
    );
    let e = verify_server(&leaf, &ca.pem, "not a name")
        .await
        .unwrap_err();
    assert!(e.contains("not a name"), "{e}");
}

#[tokio::test]
async fn server_chains() {
    let (ca, other) = (authority("ca"), authority("ca"));
    let named = |p: &mut CertificateParams| p.subject_alt_names = vec![dns("frps.example")];
    let check = async |leaf: &(String, String), ca: &str| {
        verify_server(leaf, ca, "frps.example").await.map_err(|e| {
            e.strip_prefix("tls: failed to verify certificate: x509: ")
                .unwrap()
                .to_owned()
        })
    };
    let unknown = Err("certificate signed by unknown authority".to_owned());

    let leaf = ca.issue(named);
    assert_eq!(check(&leaf, &other.pem).await, unknown);
    assert_eq!(
        check(&leaf, &format!("{}{}", other.pem, ca.pem)).await,
        Ok(())
    );
    // The certificate itself as the trust, and certificates that may act as a CA.
    assert_eq!(check(&leaf, &leaf.0).await, Ok(()));
    let acting = ca.issue(|p| {
        named(p);
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    assert_eq!(check(&acting, &ca.pem).await, Ok(()));
    assert_eq!(check(&acting, &acting.0).await, Ok(()));
    assert_eq!(check(&acting, &other.pem).await, unknown);

    let expired = ca.issue(|p| {
        named(p);
        p.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    let e = check(&expired, &expired.0).await.unwrap_err();
    assert!(
        e.starts_with("certificate has expired or is not yet valid: current time 20"),
        "{e}"
    );
    assert!(e.ends_with(" is after 2001-02-03T00:00:00Z"), "{e}");

    let client_only = ca.issue(|p| {
        named(p);
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(
        check(&client_only, &ca.pem).await,
        Err("certificate specifies an incompatible key usage".to_owned())
    );
    // One that is no CA cannot vouch, be it in the CA file or not.
    let impostor = Authority {
        issuer: Issuer::new(
            {
                let mut params = CertificateParams::default();
                params
                    .distinguished_name
                    .push(DnType::CommonName, "cn.example");
                params
            },
            KeyPair::from_pem(&leaf.1).unwrap(),
        ),
        pem: leaf.0.clone(),
    };
    let forged = impostor.issue(|p| {
        named(p);
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    assert_eq!(check(&forged, &leaf.0).await, unknown);
}

#[tokio::test]
async fn intermediates_lead_to_the_root() {
    let root = authority("root");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "middle");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.signed_by(&key, &root.issuer).unwrap().pem();
    let middle = Authority {
        issuer: Issuer::new(params, key),
        pem,
    };
    let (cert, key) = middle.issue(|p| p.subject_alt_names = vec![dns("frps.example")]);
    let chain = (format!("{cert}{}", middle.pem), key.clone());
    assert_eq!(
        verify_server(&chain, &root.pem, "frps.example").await,
        Ok(())
    );
    assert!(
        verify_server(&(cert, key), &root.pem, "frps.example")
            .await
            .is_err()
    );
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [hi, lo] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match (hi, lo) {
        (0, 0..=0x7f) => vec![lo],
        (0, _) => vec![0x81, lo],
        _ => vec![0x82, hi, lo],
    };
    [&[tag], &length[..], content].concat()
}

/// The same certificate as X.509 v1, as `openssl x509 -req` makes them: without its version, signed again.
fn version_1(pem: &str, signer: &KeyPair) -> String {
    const ECDSA_SHA256: &str = "300a06082a8648ce3d040302";
    let cert = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(&cert).unwrap();
    assert!(cert.extensions().is_empty());
    let v3 = cert.tbs_certificate.as_ref();
    let version = v3
        .windows(5)
        .position(|w| w == unhex("a003020102"))
        .unwrap();
    let tbs = der(0x30, &v3[version + 5..]);
    let signature = der(3, &[&[0], &signer.sign(&tbs).unwrap()[..]].concat());
    let cert = der(0x30, &[tbs, unhex(ECDSA_SHA256), signature].concat());
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, cert);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// A CA of version 1, and what it signed.
fn version_1_pair() -> (String, (String, String)) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "v1 ca");
    let key = KeyPair::generate().unwrap();
    let ca_pem = version_1(&params.self_signed(&key).unwrap().pem(), &key);
    let ca = Authority {
        issuer: Issuer::new(params, key),
        pem: ca_pem,
    };
    let (cert, key) = ca.issue(|_| ());
    (ca.pem, (version_1(&cert, ca.issuer.key()), key))
}

/// As frps's own: RSA-2048, version 3, self-signed, without subject and extensions.
fn bare() -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn any_certificate_is_accepted_without_a_ca() {
    let dir = Dir::new();
    let ca = authority("ca");
    let expired = ca.issue(|p| p.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let pairs = [version_1_pair().1, bare(), expired];
    let client = ClientTls::new(TlsFiles::default());
    for files in pairs.iter().map(|p| dir.pair("server", p)) {
        let server = ServerTls::new(files.clone()).unwrap();
        for name in [
            "frps.example",
            "127.0.0.1",
            "1.2.3.4:5",
            "",
            "no name at all",
        ] {
            let (server, client) = pair(&server, &client, name).await;
            exchange(server.unwrap(), client.unwrap(), b"hello", 5).await;
        }
        // TLS 1.2 has its own way of checking the signature.
        let server = ServerTls::new(files).unwrap();
        let connector =
            TlsConnector::from(Arc::new(oracle_client(&[&rustls::version::TLS12], None)));
        let (near, far) = duplex(1 << 16);
        let name = ServerName::try_from("frps").unwrap();
        let (ours, theirs) = tokio::join!(server.accept(near), connector.connect(name, far));
        exchange(ours.unwrap(), theirs.unwrap(), b"hello", 5).await;
    }
}

/// How the handshake ends for the server, which wants a certificate of `ca`; and for the client when it reads.
async fn verify_client(
    own: Option<&(String, String)>,
    ca: &str,
) -> (Result<(), String>, Result<(), String>) {
    let dir = Dir::new();
    let server = ServerTls::new(dir.ca(ca)).unwrap();
    let client = ClientTls::new(own.map_or_else(TlsFiles::default, |own| dir.pair("client", own)));
    let (server, client) = pair(&server, &client, "frps").await;
    let read = client.unwrap().read(&mut [0]).now_or_never();
    (
        server.map(drop).map_err(|e| e.to_string()),
        read.map_or(Ok(()), |read| read.map(drop).map_err(|e| e.to_string())),
    )
}

#[tokio::test]
async fn client_certificates() {
    let (ca, other) = (authority("ca"), authority("other"));
    let good = ca.issue(|_| ());
    let (v1_ca, v1) = version_1_pair();
    let bare = bare();
    let for_clients =
        ca.issue(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    for (own, ca) in [
        (&good, &ca.pem[..]),
        (&for_clients, &ca.pem),
        (&good, &good.0),
        (&v1, &v1_ca),
        (&v1, &v1.0),
        (&bare, &bare.0),
    ] {
        assert_eq!(verify_client(Some(own), ca).await, (Ok(()), Ok(())));
    }
    let verify = "tls: failed to verify certificate: x509: ";
    let for_servers =
        ca.issue(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    for (own, ca, server, client) in [
        (
            None,
            &ca.pem,
            "tls: client didn't provide a certificate".to_owned(),
            "certificate required",
        ),
        (
            Some(&good),
            &other.pem,
            format!("{verify}certificate signed by unknown authority"),
            "unknown certificate authority",
        ),
        (
            Some(&v1),
            &other.pem,
            format!("{verify}certificate signed by unknown authority"),
            "unknown certificate authority",
        ),
        (
            Some(&for_servers),
            &ca.pem,
            format!("{verify}certificate specifies an incompatible key usage"),
            "unsupported certificate",
        ),
    ] {
        let client = format!("remote error: tls: {client}");
        assert_eq!(verify_client(own, ca).await, (Err(server), Err(client)));
    }
}

// Files.

fn server_error(files: TlsFiles) -> String {
    ServerTls::new(files).err().unwrap().to_string()
}

#[test]
fn errors_of_files() {
    let dir = Dir::new();
    let ca = authority("ca");
    let (a, b) = (ca.issue(|_| ()), ca.issue(|_| ()));
    let good = dir.pair("good", &a);
    let missing = dir.0.path().join("missing");
    let with = |cert: &Path, key: &Path| TlsFiles {
        cert_file: cert.into(),
        key_file: key.into(),
        ..TlsFiles::default()
    };
    #[cfg(unix)]
    {
        let text = format!("open {}: no such file or directory", missing.display());
        assert_eq!(server_error(with(&missing, &good.key_file)), text);
        assert_eq!(server_error(with(&good.cert_file, &missing)), text);
        assert_eq!(
            server_error(with(dir.0.path(), &good.key_file)),
            format!("read {}: is a directory", dir.0.path().display())
        );
    }
    let empty = dir.write("empty", "not PEM");
    assert_eq!(
        server_error(with(&empty, &good.key_file)),
        "tls: failed to find any PEM data in certificate input"
    );
    assert_eq!(
        server_error(with(&good.cert_file, &empty)),
        "tls: failed to find any PEM data in key input"
    );
    assert_eq!(
        server_error(with(&good.key_file, &good.key_file)),
        "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [PRIVATE KEY]"
    );
    assert_eq!(
        server_error(with(&good.cert_file, &good.cert_file)),
        "tls: found a certificate rather than a key in the PEM for the private key"
    );
    assert_eq!(
        server_error(dir.pair("mixed", &(a.0.clone(), b.1))),
        "tls: private key does not match public key"
    );
    for text in ["", "no PEM", &a.1] {
        let files = dir.ca(text);
        let path = files.trusted_ca_file.display().to_string();
        assert_eq!(
            server_error(files),
            format!(
                "failed to parse CA certificate from file \"{path}\": no valid PEM certificates found"
            )
        );
    }
    // A certificate without its key is as none.
    assert!(ServerTls::new(with(&missing, Path::new(""))).is_ok());
    assert!(ServerTls::new(with(Path::new(""), &missing)).is_ok());
}

#[test]
fn the_own_certificate_says_nothing() {
    let key = files::self_signed().unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(&key.cert[0]).unwrap();
    assert_eq!(
        cert.subject().iter().count() + cert.issuer().iter().count(),
        0
    );
    assert!(cert.extensions().is_empty());
    assert_eq!(cert.version().0, 2);
    assert!(cert.raw_serial().len() == 16 && cert.raw_serial()[0] < 0x80);
    let validity = cert.validity();
    let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
    assert_eq!(days, 3_650);
    assert_ne!(files::self_signed().unwrap().cert, key.cert);
}

/// The certificate that a new connection is shown.
async fn shown(server: &ServerTls) -> CertificateDer<'static> {
    let connector = TlsConnector::from(Arc::new(oracle_client(&[&rustls::version::TLS13], None)));
    let (near, far) = duplex(1 << 16);
    let name = ServerName::try_from("frps").unwrap();
    let (ours, theirs) = tokio::join!(server.accept(near), connector.connect(name, far));
    ours.unwrap();
    theirs.unwrap().get_ref().1.peer_certificates().unwrap()[0].clone()
}

async fn until_shown(server: &ServerTls, pem: &str) {
    let wanted = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    timeout(LIMIT, async {
        while shown(server).await != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn changed_files_serve_new_connections() {
    let dir = Dir::new();
    let ca = authority("ca");
    let (first, second, third) = (ca.issue(|_| ()), ca.issue(|_| ()), ca.issue(|_| ()));
    let server = ServerTls::new(dir.pair("server", &first)).unwrap();
    let watch = tokio::spawn(server.clone().watch(Duration::from_millis(5)));
    until_shown(&server, &first.0).await;
    let client = ClientTls::new(TlsFiles::default());
    let (live_server, live_client) = pair(&server, &client, "frps").await;

    dir.pair("server", &second);
    until_shown(&server, &second.0).await;
    // Nonsense changes nothing.
    dir.write("server.crt", "nonsense");
    tokio::time::sleep(Duration::from_millis(50)).await;
    until_shown(&server, &second.0).await;
    dir.pair("server", &third);
    until_shown(&server, &third.0).await;

    exchange(
        live_server.unwrap(),
        live_client.unwrap(),
        b"still alive",
        3,
    )
    .await;
    watch.abort();
}

#[cfg(unix)]
#[tokio::test]
async fn a_swapped_directory_link_is_a_change() {
    let dir = Dir::new();
    let ca = authority("ca");
    let pairs = [ca.issue(|_| ()), ca.issue(|_| ())];
    for (name, (cert, key)) in ["one", "two"].iter().zip(&pairs) {
        std::fs::create_dir(dir.0.path().join(name)).unwrap();
        dir.write(&format!("{name}/tls.crt"), cert);
        dir.write(&format!("{name}/tls.key"), key);
    }
    let current = dir.0.path().join("current");
    std::os::unix::fs::symlink("one", &current).unwrap();
    let server = ServerTls::new(TlsFiles {
        cert_file: current.join("tls.crt"),
        key_file: current.join("tls.key"),
        ..TlsFiles::default()
    })
    .unwrap();
    let watch = tokio::spawn(server.clone().watch(Duration::from_millis(5)));
    until_shown(&server, &pairs[0].0).await;
    let next = dir.0.path().join("next");
    std::os::unix::fs::symlink("two", &next).unwrap();
    std::fs::rename(next, current).unwrap();
    until_shown(&server, &pairs[1].0).await;
    watch.abort();
}

#[tokio::test]
async fn a_client_reads_its_files_for_each_connection() {
    let dir = Dir::new();
    let (old, new) = (authority("old"), authority("new"));
    let named = |p: &mut CertificateParams| p.subject_alt_names = vec![dns("frps.example")];
    let server = ServerTls::new(dir.pair("server", &new.issue(named))).unwrap();
    let client = ClientTls::new(dir.ca(&old.pem));
    let connect = async || pair(&server, &client, "frps.example").await.1.map(|_| ());
    assert!(connect().await.is_err());
    let path = dir.ca(&new.pem).trusted_ca_file;
    connect().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let (near, _far) = duplex(1);
    let e = client.connect(near, "frps.example").await.err().unwrap();
    assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
    assert!(e.to_string().contains(&*path.to_string_lossy()), "{e}");
    dir.ca(&new.pem);
    connect().await.unwrap();
}
