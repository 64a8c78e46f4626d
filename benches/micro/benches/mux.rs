//! Two sessions over a duplex in memory: what the multiplexer costs without a network.

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use frp_proto::mux::{Config, Role, Session, Stream, session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

fn main() {
    divan::main();
}

/// Buffer of the duplex, about a socket's.
const PIPE: usize = 256 << 10;
/// Bytes moved in one iteration.
const VOLUME: usize = 4 << 20;

/// Bulk data one way over `streams` streams at once; each ends its share with one byte back.
#[divan::bench(args = [1, 16])]
fn bulk(bencher: Bencher<'_, '_>, streams: usize) {
    let share = VOLUME / streams;
    let peers = Peers::start(move |stream| acknowledge(stream, share));
    let mut open: Vec<Stream> = (0..streams).map(|_| peers.open()).collect();
    let data = Bytes::from(vec![0x5a; share]);
    bencher.counter(BytesCount::new(VOLUME)).bench_local(|| {
        peers.runtime.block_on(async {
            let mut sending = JoinSet::new();
            for mut stream in open.drain(..) {
                let data = data.clone();
                sending.spawn(async move {
                    stream.write_all(&data).await.expect("the session stands");
                    stream.flush().await.expect("the session stands");
                    stream.read_u8().await.expect("the peer acknowledges");
                    stream
                });
            }
            open = sending.join_all().await;
        });
    });
}

/// 64 bytes there and back.
#[divan::bench]
fn ping_pong(bencher: Bencher<'_, '_>) {
    let peers = Peers::start(echo);
    let mut stream = peers.open();
    let mut buffer = [0x5a; 64];
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        peers.runtime.block_on(async {
            stream.write_all(&buffer).await.expect("the session stands");
            stream.flush().await.expect("the session stands");
            stream
                .read_exact(&mut buffer)
                .await
                .expect("the peer echoes");
        });
    });
}

/// A stream from opening to the end of both directions, with one byte there and back.
#[divan::bench]
fn open_and_close(bencher: Bencher<'_, '_>) {
    let peers = Peers::start(echo);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let mut stream = peers.open();
        peers.runtime.block_on(async {
            stream.write_all(b"x").await.expect("the session stands");
            stream.shutdown().await.expect("the session stands");
            let mut echoed = Vec::with_capacity(1);
            stream
                .read_to_end(&mut echoed)
                .await
                .expect("the peer closes");
        });
    });
}

/// A session that opens streams, and a runtime in which its peer serves them. All of it works only inside `block_on`.
struct Peers {
    runtime: Runtime,
    session: Session,
}

impl Peers {
    fn start<F>(serve: impl Fn(Stream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let inside = runtime.enter();
        let (near, far) = tokio::io::duplex(PIPE);
        let (opener, _, driver) = session(near, Role::Client, Config::default());
        runtime.spawn(driver);
        let (_, mut incoming, driver) = session(far, Role::Server, Config::default());
        runtime.spawn(driver);
        runtime.spawn(async move {
            while let Some(stream) = incoming.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        drop(inside);
        Self {
            runtime,
            session: opener,
        }
    }

    fn open(&self) -> Stream {
        self.runtime
            .block_on(self.session.open())
            .expect("the session stands")
    }
}

/// Reads shares and answers each with a byte, until the stream ends.
async fn acknowledge(mut stream: Stream, share: usize) {
    let mut buffer = vec![0; 64 << 10];
    let mut left = share;
    while let Ok(n @ 1..) = stream.read(&mut buffer[..left.min(64 << 10)]).await {
        left -= n;
        if left == 0 {
            left = share;
            if stream.write_all(&[1]).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}

/// Gives back what comes, and ends after the peer does.
async fn echo(mut stream: Stream) {
    let mut buffer = [0; 64];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..n]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    // Fails only when the peer is gone, and then nobody waits for the end.
    let _ = stream.shutdown().await;
}
