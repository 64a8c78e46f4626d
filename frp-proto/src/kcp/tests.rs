use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::engine::{MSS, MTU};
use super::session::Session;
use super::*;
use crate::net::dial::DialOptions;
use crate::net::listen::bind_transport;
use crate::testing::{hex, unhex};

/// When a datagram arrives, a number that keeps order, to whom it goes, what it is.
type Flying = (u32, u64, usize, Vec<u8>);

/// Two sessions and the path between them, in made-up time.
struct Path {
    ends: [Session; 2],
    /// Datagrams on their way.
    flight: BinaryHeap<Reverse<Flying>>,
    now: u32,
    random: u64,
    /// One way, in milliseconds, and how much later some arrive.
    delay: u32,
    jitter: u32,
    /// Lost datagrams in a thousand.
    loss: u64,
    sent: u64,
}

impl Path {
    fn new(delay: u32, jitter: u32, loss: u64) -> Self {
        Self {
            ends: [
                Session::new(7, Windows::CLIENT),
                Session::new(7, Windows::SERVER),
            ],
            flight: BinaryHeap::new(),
            now: u32::MAX - 5_000,
            random: 0x9e37_79b9_7f4a_7c15,
            delay,
            jitter,
            loss,
            sent: 0,
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Carries what is to be carried, for one millisecond.
    fn step(&mut self) {
        for from in 0..2 {
            while let Some(datagram) = self.ends[from].output(self.now) {
                assert!(datagram.len() <= MTU + 8);
                self.sent += 1;
                if self.random() % 1000 < self.loss {
                    continue;
                }
                let late = self.random() as u32 % (self.jitter + 1);
                let at = self
                    .now
                    .wrapping_add(self.delay + late)
                    .wrapping_add(10_000);
                self.flight
                    .push(Reverse((at, self.sent, 1 - from, datagram)));
            }
        }
        self.now = self.now.wrapping_add(1);
        while let Some(Reverse((at, ..))) = self.flight.peek()
            && *at <= self.now.wrapping_add(10_000)
        {
            if let Some(Reverse((_, _, to, datagram))) = self.flight.pop() {
                self.ends[to].input(&Bytes::from(datagram), self.now);
            }
        }
    }

    /// Sends `len` bytes from one end to the other; milliseconds that took.
    fn transfer(&mut self, from: usize, len: usize) -> u32 {
        let data: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
        let (mut written, mut got) = (0, Vec::new());
        let start = self.now;
        let mut out = vec![0; 64 * 1024];
        while got.len() < len {
            written += self.ends[from].write(&data[written..], self.now);
            self.step();
            let mut buf = ReadBuf::new(&mut out);
            self.ends[1 - from].read(&mut buf, self.now);
            got.extend_from_slice(buf.filled());
            assert!(
                self.now.wrapping_sub(start) < 600_000,
                "{} of {len}",
                got.len()
            );
        }
        assert!(got == data);
        self.now.wrapping_sub(start)
    }
}

#[test]
fn data_survives_loss_delay_and_reordering() {
    for (delay, jitter, loss) in [(0, 0, 0), (10, 0, 10), (10, 30, 50), (50, 10, 200)] {
        let mut path = Path::new(delay, jitter, loss);
        path.transfer(0, 300_000);
        path.transfer(1, 300_000);
        path.transfer(0, 1);
    }
}

#[test]
fn error_correction_saves_time() {
    let lossy = Path::new(50, 0, 30).transfer(1, 2_000_000);
    let clean = Path::new(50, 0, 0).transfer(1, 2_000_000);
    assert!(lossy < clean * 3, "{lossy} ms, without loss {clean} ms");
}

#[test]
fn nothing_is_sent_when_all_is_said() {
    let mut path = Path::new(5, 0, 0);
    path.transfer(0, 10_000);
    for _ in 0..1_000 {
        path.step();
    }
    let sent = path.sent;
    for _ in 0..10_000 {
        path.step();
    }
    assert_eq!(path.sent, sent);
    assert_eq!(path.ends[0].engine().due(), None);
    assert_eq!(path.ends[1].engine().due(), None);
}

#[test]
fn a_reader_that_pauses_stops_the_writer_and_starts_it_again() {
    let mut path = Path::new(5, 0, 0);
    let data = vec![9; 4 << 20];
    let mut written = 0;
    for _ in 0..5_000 {
        written += path.ends[1].write(&data[written..], path.now);
        path.step();
    }
    // What the reader's window and the writer's queue hold.
    assert!(written <= (512 + 1_024) * MSS, "{written}");
    let (mut got, mut out) = (0, vec![0; 64 * 1024]);
    for _ in 0..300_000 {
        if got == data.len() {
            break;
        }
        let mut buf = ReadBuf::new(&mut out);
        got += path.ends[0].read(&mut buf, path.now);
        written += path.ends[1].write(&data[written..], path.now);
        path.step();
    }
    assert_eq!(got, data.len());
}

#[test]
fn a_clock_that_goes_back_a_little_kills_nobody() {
    let mut session = Session::new(1, Windows::CLIENT);
    session.write(b"hello", 1_000);
    session.output(1_000).unwrap();
    assert!(!session.engine().is_stuck(999, 60_000));
    assert!(!session.engine().is_stuck(60_999, 60_000));
    assert!(session.engine().is_stuck(61_000, 60_000));
}

#[test]
fn the_first_datagram_is_upstreams() {
    let mut session = Session::new(0x5550_59a6, Windows::CLIENT);
    session.write(b"hello", 0x17);
    assert_eq!(
        hex(&session.output(0x17).unwrap()),
        "00000000f1001f00a6595055510000021700000000000000000000000500000068656c6c6f"
    );
}

#[test]
fn captured_datagrams_of_upstream_are_read() {
    let mut session = Session::new(0x5550_59a6, Windows::CLIENT);
    session.write(&[0; 203], 0);
    session.output(0).unwrap();
    for datagram in [
        "00000000f1001a00a65950555200000417000000000000000100000000000000",
        "01000000f1009e00a659505551000004e30400000000000001000000840000000001000200000001005c00000000000000000001000000393100000000000000307b2276657273696f6e223a22302e37302e31222c2272756e5f6964223a2236653762363332323064393731333734227d000000000000000100000010f97d68ff1f0c014a744c8f1048bc22c400000000000000010000000b1c2540ff278447a02a3bd6",
    ] {
        session.input(&unhex(datagram).into(), 20);
    }
    assert!(session.engine().is_idle());
    let mut out = [0; 1000];
    let mut buf = ReadBuf::new(&mut out);
    assert_eq!(session.read(&mut buf, 20), 132);
    assert_eq!(buf.filled()[..12], unhex("0001000200000001005c0000"));
}

fn dial_options(port: u16) -> DialOptions {
    DialOptions {
        host: "127.0.0.1".into(),
        port,
        timeout: Duration::from_secs(10),
        keepalive_secs: -1,
        local_ip: None,
    }
}

async fn listener() -> (Listener, DialOptions) {
    let socket = bind_transport("127.0.0.1", 0).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    (
        Listener::new(socket, Windows::SERVER).unwrap(),
        dial_options(port),
    )
}

/// Sends both ways at once.
async fn exchange(client: Stream, server: Stream, len: usize) {
    let data: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
    let one = async |stream: Stream| {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut got = vec![0; len];
        let (sent, received) = tokio::join!(write.write_all(&data), read.read_exact(&mut got));
        sent.unwrap();
        received.unwrap();
        assert!(got == data);
        (read, write)
    };
    // Neither is dropped before both are done.
    let _ends = tokio::join!(one(client), one(server));
}

#[tokio::test]
async fn sessions_over_sockets() {
    let (listener, dial) = listener().await;
    for _ in 0..3 {
        let mut client = connect(&dial, Windows::CLIENT).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let mut server = listener.accept().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        exchange(client, server, 500_000).await;
    }
}

/// Between a client and a server: loses, delays and reorders in both directions.
async fn bad_relay(server: SocketAddr) -> u16 {
    let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    far.connect(server).await.unwrap();
    let port = near.local_addr().unwrap().port();
    tokio::spawn(async move {
        let random = AtomicU64::new(88_172_645_463_325_252);
        let next = || {
            let mut r = random.load(Ordering::Relaxed);
            r ^= r << 13;
            r ^= r >> 7;
            r ^= r << 17;
            random.store(r, Ordering::Relaxed);
            r
        };
        let (mut there, mut back) = ([0; 2000], [0; 2000]);
        let mut client = None;
        loop {
            let (datagram, to, socket) = tokio::select! {
                r = near.recv_from(&mut there) => {
                    let (n, from) = r.unwrap();
                    client = Some(from);
                    (there[..n].to_vec(), server, far.clone())
                }
                r = far.recv(&mut back) => {
                    let Some(client) = client else { continue };
                    (back[..r.unwrap()].to_vec(), client, near.clone())
                }
            };
            if next() % 100 < 10 {
                continue;
            }
            let delay = Duration::from_millis(5 + next() % 20);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = if to == server {
                    socket.send(&datagram).await
                } else {
                    socket.send_to(&datagram, to).await
                };
            });
        }
    });
    port
}

#[tokio::test]
async fn a_path_that_loses_delays_and_reorders() {
    let (listener, dial) = listener().await;
    let relay = bad_relay(([127, 0, 0, 1], dial.port).into()).await;
    let mut client = connect(&dial_options(relay), Windows::CLIENT)
        .await
        .unwrap();
    client.write_all(b"x").await.unwrap();
    let mut server = listener.accept().await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x');
    let exchanged = exchange(client, server, 200_000);
    timeout(Duration::from_mins(1), exchanged).await.unwrap();
}

#[tokio::test]
async fn what_was_written_before_a_drop_arrives() {
    let (listener, dial) = listener().await;
    let mut client = connect(&dial, Windows::CLIENT).await.unwrap();
    client.write_all(&vec![1; 100_000]).await.unwrap();
    drop(client);
    let mut server = listener.accept().await.unwrap();
    server.read_exact(&mut vec![0; 100_000]).await.unwrap();
}

#[tokio::test]
async fn garbage_and_forged_conversations_harm_nobody() {
    let (listener, dial) = listener().await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.connect(("127.0.0.1", dial.port)).await.unwrap();
    let mut garbage = vec![
        Vec::new(),
        vec![0; 23],
        vec![0; 24],
        vec![0xff; 1_500],
        unhex("00000000f2000000").repeat(20),
        // An acknowledgement, and a segment that is far ahead.
        unhex("01000000 52000000 00000000 00000000 00000000 00000000"),
        unhex("01000000 51000000 00000000 00040000 00000000 00000000"),
    ];
    garbage.push(unhex("00000000f100ffff").repeat(4));
    for datagram in garbage {
        stranger.send(&datagram).await.unwrap();
    }
    let mut client = connect(&dial, Windows::CLIENT).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let mut server = listener.accept().await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x');
    exchange(client, server, 10_000).await;
}

#[tokio::test]
async fn a_new_conversation_replaces_the_old_one_of_its_address() {
    let (listener, dial) = listener().await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(("127.0.0.1", dial.port)).await.unwrap();
    let push = |conv: &str, sn: &str| {
        unhex(&format!(
            "{conv} 51002000 00000000 {sn} 00000000 01000000 78"
        ))
    };
    client.send(&push("01000000", "00000000")).await.unwrap();
    let mut first = listener.accept().await.unwrap();
    assert_eq!(first.read_u8().await.unwrap(), b'x');
    // Another number of a conversation that does not exist changes nothing.
    client.send(&push("02000000", "01000000")).await.unwrap();
    client.send(&push("01000000", "01000000")).await.unwrap();
    assert_eq!(first.read_u8().await.unwrap(), b'x');
    client.send(&push("02000000", "00000000")).await.unwrap();
    let mut second = listener.accept().await.unwrap();
    assert_eq!(second.read_u8().await.unwrap(), b'x');
    assert!(first.read_u8().await.is_err());
    assert!(first.write_all(b"x").await.is_err());
    drop(listener);
    assert!(second.read_u8().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_is_dead_after_a_minute() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let dial = dial_options(silent.local_addr().unwrap().port());
    let mut client = connect(&dial, Windows::CLIENT).await.unwrap();
    let start = tokio::time::Instant::now();
    client.write_all(b"x").await.unwrap();
    let error = client.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(
        start.elapsed() < Duration::from_secs(130),
        "{:?}",
        start.elapsed()
    );
}
