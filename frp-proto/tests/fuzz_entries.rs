//! One entry per decoder for bytes that a stranger sends: what must hold for any input. The fuzz targets in `fuzz/` call
//! these; the test below replays the corpus kept there.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use frp_proto::config::{self, UnsafeFeatures};
use frp_proto::msg::{self, Decoded, Version, handshake};
use frp_proto::net::{Conn, proxy_protocol};
use frp_proto::tls::{TlsFiles, client_hello};
use futures::executor::block_on;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// A peer that says `0` and takes every answer.
struct Peer<'a>(Cursor<&'a [u8]>);

impl AsyncRead for Peer<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn messages(version: Version, mut data: &[u8]) {
    while let Ok(Decoded::Message(message, taken)) = msg::decode(version, data) {
        assert!(taken <= data.len() && taken > 0);
        data = &data[taken..];
        let Some(message) = message else { continue };
        let mut again = Vec::new();
        if msg::encode(version, &message, &mut again).is_ok() {
            let whole = Decoded::Message(Some(message), again.len());
            assert_eq!(msg::decode(version, &again), Ok(whole));
        }
    }
}

/// Messages of v1, one after the other.
pub fn msg_v1(data: &[u8]) {
    messages(Version::V1, data);
}

/// Message frames of v2, one after the other.
pub fn msg_v2(data: &[u8]) {
    messages(Version::V2, data);
}

/// What a fresh connection says to a server.
pub fn first_message(data: &[u8]) {
    // An error is a fine answer to garbage; a panic or a wait without end is not.
    let _ = block_on(handshake::accept(&mut Peer(Cursor::new(data))));
}

/// A compressed stream, and one to be compressed.
pub fn snappy(data: &[u8]) {
    let peer = tokio::io::join(Cursor::new(data.to_vec()), tokio::io::sink());
    let mut stream = Conn::Other(Box::new(peer)).layered(None, true);
    let mut plain = Vec::new();
    let _ = block_on(stream.read_to_end(&mut plain));

    let (near, far) = tokio::io::duplex(2 * data.len() + 100);
    let [mut near, mut far] = [near, far].map(|end| Conn::Other(Box::new(end)).layered(None, true));
    block_on(near.write_all(data)).expect("there is room");
    drop(near);
    plain.clear();
    block_on(far.read_to_end(&mut plain)).expect("what we compress is well-formed");
    assert_eq!(plain, data);
}

/// A client's side of a TLS handshake.
pub fn tls(data: &[u8]) {
    let server = frp_proto::tls::ServerTls::new(TlsFiles::default()).expect("no file is needed");
    let _ = block_on(server.accept(Peer(Cursor::new(data))));
}

/// What a balancer in front says first.
pub fn proxy_protocol(data: &[u8]) {
    if let Ok(proxy_protocol::Decoded::Header { len, .. }) = proxy_protocol::decode(data) {
        assert!(len <= data.len());
        // What follows a header changes nothing, and nothing of it is needed.
        let whole = proxy_protocol::decode(data);
        assert_eq!(proxy_protocol::decode(&data[..len]), whole);
        let shorter = proxy_protocol::decode(&data[..len - 1]);
        assert_eq!(shorter, Ok(proxy_protocol::Decoded::Incomplete));
    }
}

/// A TLS user's first bytes, read without an answer.
pub fn client_hello(data: &[u8]) {
    if let Ok(client_hello::Decoded::Incomplete { need }) = client_hello::decode(data) {
        assert!(need > data.len());
    }
}

/// A script for one mux session.
pub fn mux(data: &[u8]) {
    frp_proto::mux::fuzz(data);
}

/// What a WebSocket client says: its request and its frames.
pub fn websocket(data: &[u8]) {
    if let Ok(mut stream) = block_on(frp_proto::ws::accept(Peer(Cursor::new(data)))) {
        let mut payload = Vec::new();
        let _ = block_on(stream.read_to_end(&mut payload));
        assert!(payload.len() <= data.len());
    }
}

/// Datagrams for one KCP session.
pub fn kcp(data: &[u8]) {
    frp_proto::kcp::fuzz(data);
}

/// Datagrams for the error correction of one KCP session.
pub fn fec(data: &[u8]) {
    frp_proto::kcp::fuzz_fec(data);
}

/// What a DNS server answers.
pub fn dns(data: &[u8]) {
    frp_proto::net::resolve::fuzz(data);
}

/// A configuration file of either program, in any format.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (file, env) = (Path::new("fuzz"), BTreeMap::new());
    for strict in [true, false] {
        if let Ok(server) = config::server_from_text(text, file, strict, &env) {
            config::validate_server(&server.config, &UnsafeFeatures::default());
        }
        // Includes would read files.
        if !text.contains("ncludes")
            && let Ok(client) = config::client_from_text(text, file, strict, &env)
        {
            let _ = config::validate_client(&client.config, &UnsafeFeatures::default());
        }
    }
}

/// What a STUN server answers.
pub fn stun(data: &[u8]) {
    frp_proto::nathole::stun::fuzz(data);
}

/// A datagram of a peer that makes a hole.
pub fn punch(data: &[u8]) {
    frp_proto::nathole::punch::fuzz(data);
}

type Entry = (&'static str, fn(&[u8]));

const ENTRIES: [Entry; 15] = [
    ("msg_v1", msg_v1),
    ("msg_v2", msg_v2),
    ("first_message", first_message),
    ("snappy", snappy),
    ("tls", tls),
    ("proxy_protocol", proxy_protocol),
    ("client_hello", client_hello),
    ("mux", mux),
    ("websocket", websocket),
    ("kcp", kcp),
    ("fec", fec),
    ("dns", dns),
    ("stun", stun),
    ("punch", punch),
    ("config", config),
];

#[test]
fn the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, entry) in ENTRIES {
        let mut inputs = 0;
        for file in std::fs::read_dir(corpus.join(name)).unwrap() {
            let data = std::fs::read(file.unwrap().path()).unwrap();
            // Every beginning of an input is one as well.
            for end in (0..data.len()).step_by(data.len() / 64 + 1) {
                entry(&data[..end]);
            }
            entry(&data);
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has a corpus");
    }
}
