//! The layers over a work connection, 64 KiB at a time: AES-128-CFB and snappy frames; and key derivation.

use std::io::Cursor;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use frp_proto::crypto::derive_key;
use frp_proto::net::Conn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

const CHUNK: usize = 64 << 10;
const KEY: [u8; 16] = *b"0123456789abcdef";

#[divan::bench]
fn key_derivation() -> [u8; 16] {
    derive_key(divan::black_box(b"a token of usual length"))
}

#[divan::bench]
fn cfb_encrypt(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let data = text_like();
    let mut stream = encrypted(tokio::io::empty());
    bencher.counter(BytesCount::new(CHUNK)).bench_local(|| {
        runtime
            .block_on(stream.write_all(&data))
            .expect("nothing refuses to be dropped");
    });
}

#[divan::bench]
fn cfb_decrypt(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let mut buffer = vec![0; CHUNK];
    let mut stream = encrypted(tokio::io::repeat(0x5a));
    bencher.counter(BytesCount::new(CHUNK)).bench_local(|| {
        runtime
            .block_on(stream.read_exact(&mut buffer))
            .expect("the source never ends")
    });
}

#[divan::bench]
fn snappy_compress(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let data = text_like();
    let mut stream = compressed(tokio::io::empty());
    bencher.counter(BytesCount::new(CHUNK)).bench_local(|| {
        runtime
            .block_on(stream.write_all(&data))
            .expect("nothing refuses to be dropped");
    });
}

/// A new stream for each chunk: a compressed stream cannot be repeated without its beginning.
#[divan::bench]
fn snappy_decompress(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let (near, mut far) = tokio::io::duplex(2 * CHUNK);
    let mut chunks = Vec::new();
    runtime.block_on(async {
        Conn::Other(Box::new(near))
            .layered(None, true)
            .write_all(&text_like())
            .await
            .expect("there is room");
        far.read_to_end(&mut chunks).await.expect("memory");
    });
    let chunks: Arc<[u8]> = chunks.into();
    let mut buffer = vec![0; CHUNK];
    bencher.counter(BytesCount::new(CHUNK)).bench_local(|| {
        let mut stream = compressed(Cursor::new(chunks.clone()));
        runtime
            .block_on(stream.read_exact(&mut buffer))
            .expect("all that was compressed comes back")
    });
}

/// A connection that says what `peer` gives, and whose peer drops what it is told.
fn conn(peer: impl AsyncRead + Send + Unpin + 'static) -> Conn {
    Conn::Other(Box::new(tokio::io::join(peer, tokio::io::sink())))
}

fn encrypted(peer: impl AsyncRead + Send + Unpin + 'static) -> Conn {
    conn(peer).layered(Some(&KEY), false)
}

fn compressed(peer: impl AsyncRead + Send + Unpin + 'static) -> Conn {
    conn(peer).layered(None, true)
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers")
}

/// A chunk of which some repeats and some does not.
fn text_like() -> Vec<u8> {
    let mut data = Vec::with_capacity(CHUNK + 64);
    let mut state = 0x9e37_79b9_u32;
    while data.len() < CHUNK {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        data.extend_from_slice(format!("level=info id={state:08x} msg=\"served\"\n").as_bytes());
    }
    data.truncate(CHUNK);
    data
}
