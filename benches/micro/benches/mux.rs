//! Two sessions over a duplex in memory, which is what the multiplexer costs without a network, and over TCP on loopback.
//! Both ends share one thread, so the time is the CPU time of the pair.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use frp_proto::mux::{Config, Role, Session, Stream, session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

fn main() {
    divan::main();
}

/// Buffer of the duplex, about a socket's.
const PIPE: usize = 256 << 10;
/// Bytes moved in one iteration.
const VOLUME: usize = 16 << 20;

/// Bulk data one way over so many streams at once.
#[divan::bench(args = [1, 16])]
fn bulk(bencher: Bencher<'_, '_>, streams: usize) {
    transfer(bencher, streams, Wire::Memory);
}

/// The same over TCP.
#[divan::bench(args = [1, 16])]
fn bulk_over_tcp(bencher: Bencher<'_, '_>, streams: usize) {
    transfer(bencher, streams, Wire::Tcp);
}

/// Each stream ends its share of the volume with one byte back.
fn transfer(bencher: Bencher<'_, '_>, streams: usize, wire: Wire) {
    let share = VOLUME / streams;
    let peers = Peers::start(wire, move |stream| acknowledge(stream, share));
    let mut open: Vec<Stream> = (0..streams).map(|_| peers.open()).collect();
    let data = Bytes::from(vec![0x5a; share]);
    bencher.counter(BytesCount::new(VOLUME)).bench_local(|| {
        peers.runtime.block_on(async {
            let mut sending = JoinSet::new();
            for mut stream in open.drain(..) {
                let mut data = data.clone();
                sending.spawn(async move {
                    while !data.is_empty() {
                        poll_fn(|cx| stream.poll_write_chunk(cx, &mut data))
                            .await
                            .expect("the session stands");
                    }
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
    let peers = Peers::start(Wire::Memory, echo);
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
    let peers = Peers::start(Wire::Memory, echo);
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

/// What connects the two ends.
#[derive(Clone, Copy)]
enum Wire {
    Memory,
    Tcp,
}

impl Peers {
    fn start<F>(wire: Wire, serve: impl Fn(Stream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let session = runtime.block_on(async {
            match wire {
                Wire::Memory => {
                    let (near, far) = tokio::io::duplex(PIPE);
                    connect(near, far, serve)
                }
                Wire::Tcp => {
                    let (near, far) = tcp().await.expect("loopback");
                    connect(near, far, serve)
                }
            }
        });
        Self { runtime, session }
    }

    fn open(&self) -> Stream {
        self.runtime
            .block_on(self.session.open())
            .expect("the session stands")
    }
}

async fn tcp() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let (far, _) = listener.accept().await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

/// Runs a session between two ends of a connection; gives the opening end.
fn connect<T, F>(near: T, far: T, serve: impl Fn(Stream) -> F + Send + 'static) -> Session
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (opener, _, driver) = session(near, Role::Client, Config::default());
    tokio::spawn(driver);
    let (_, mut incoming, driver) = session(far, Role::Server, Config::default());
    tokio::spawn(driver);
    tokio::spawn(async move {
        while let Some(stream) = incoming.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    opener
}

/// Reads shares and answers each with a byte, until the stream ends.
async fn acknowledge(mut stream: Stream, share: usize) {
    let mut left = share;
    while let Ok(chunk) = poll_fn(|cx| stream.poll_read_chunk(cx)).await
        && !chunk.is_empty()
    {
        left -= chunk.len();
        if left == 0 {
            left = share;
            if stream.write_all(&[1]).await.is_err() {
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
