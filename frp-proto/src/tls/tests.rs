//! Streams between ours and rustls's; certificates and files below.

mod certificates;
mod reload;

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex, split};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::testing::unhex;

/// Far more than any of these tests takes.
const LIMIT: Duration = Duration::from_mins(1);

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
    client.write_all(&vec![7; 50_000]).await.unwrap();
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
    client.write_all(&vec![7; 30_000]).await.unwrap();
    server.read_exact(&mut vec![0; 30_000]).await.unwrap();
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
    assert!(server.write(b"x").await.is_err());
    let e = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(e.to_string(), "remote error: tls: bad record MAC");
    assert!(client.write(b"x").await.is_err());
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
