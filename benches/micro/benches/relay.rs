//! The relay between two TCP connections on loopback.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use frp_proto::net::Conn;
use frp_proto::net::relay::relay;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

/// Bytes moved in one iteration.
const VOLUME: usize = 16 << 20;
/// Size of the sender's and the receiver's buffers.
const BUFFER: usize = 256 << 10;

/// Bulk data one way.
#[divan::bench]
fn tcp_to_tcp_bulk(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let (mut user, mut service) = runtime.block_on(relayed());
    let (data, mut buffer) = (vec![0x5a; BUFFER], vec![0; BUFFER]);
    bencher.counter(BytesCount::new(VOLUME)).bench_local(|| {
        runtime.block_on(async {
            let send = async {
                for _ in 0..VOLUME / BUFFER {
                    user.write_all(&data).await.expect("the relay stands");
                }
            };
            let receive = async {
                let mut left = VOLUME;
                while left > 0 {
                    let n = service.read(&mut buffer).await.expect("the relay stands");
                    assert_ne!(n, 0, "the relay ended early");
                    left -= n;
                }
            };
            tokio::join!(send, receive);
        });
    });
}

/// 64 bytes there and back.
#[divan::bench]
fn tcp_to_tcp_ping_pong(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let (mut user, mut service) = runtime.block_on(relayed());
    let mut buffer = [0x5a; 64];
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        runtime.block_on(async {
            user.write_all(&buffer).await.expect("the relay stands");
            service
                .read_exact(&mut buffer)
                .await
                .expect("the relay stands");
            service.write_all(&buffer).await.expect("the relay stands");
            user.read_exact(&mut buffer)
                .await
                .expect("the relay stands");
        });
    });
}

/// From the start of a relay to its end after both sides closed, with one byte each way; without the connections.
#[divan::bench]
fn start_and_end(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    bencher
        .with_inputs(|| runtime.block_on(async { (connected().await, connected().await) }))
        .bench_local_values(|((mut user, a), (b, mut service))| {
            runtime.block_on(async {
                let users = async {
                    user.write_all(b"x").await.expect("the relay stands");
                    user.read_u8().await.expect("the relay stands");
                    drop(user);
                };
                let services = async {
                    let byte = service.read_u8().await.expect("the relay stands");
                    service.write_all(&[byte]).await.expect("the relay stands");
                    drop(service);
                };
                tokio::join!(relay(Conn::Tcp(a), Conn::Tcp(b)), users, services).0
            })
        });
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Both ends of a relay that runs in the background.
async fn relayed() -> (TcpStream, TcpStream) {
    let ((user, a), (b, service)) = (connected().await, connected().await);
    tokio::spawn(relay(Conn::Tcp(a), Conn::Tcp(b)));
    (user, service)
}

/// A connection on loopback: who connected, who accepted.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback is there");
    let address = listener
        .local_addr()
        .expect("a bound listener has an address");
    let (connecting, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (
        connecting.expect("the listener is there"),
        accepted.expect("somebody connects").0,
    );
    near.set_nodelay(true).expect("TCP has the option");
    far.set_nodelay(true).expect("TCP has the option");
    (near, far)
}
