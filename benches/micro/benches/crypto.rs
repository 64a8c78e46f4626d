//! The layers over a work connection, 64 KiB at a time: AES-128-CFB and snappy frames; and key derivation.

use divan::Bencher;
use divan::counter::BytesCount;
use frp_proto::compress::SnappyStream;
use frp_proto::crypto::{CfbStream, derive_key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
    let mut stream = CfbStream::new(tokio::io::empty(), &KEY);
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
    let mut stream = CfbStream::new(tokio::io::repeat(0x5a), &KEY);
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
    let mut stream = SnappyStream::new(tokio::io::empty());
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
    let mut compressed = Vec::new();
    runtime.block_on(async {
        let mut stream = SnappyStream::new(&mut compressed);
        stream
            .write_all(&text_like())
            .await
            .expect("memory takes everything");
        stream.flush().await.expect("memory takes everything");
    });
    let mut buffer = vec![0; CHUNK];
    bencher.counter(BytesCount::new(CHUNK)).bench_local(|| {
        let mut stream = SnappyStream::new(&compressed[..]);
        runtime
            .block_on(stream.read_exact(&mut buffer))
            .expect("all that was compressed comes back")
    });
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
