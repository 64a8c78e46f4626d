//! Datagrams at an even rate, more than a pair may be able to carry: what arrives at the service is counted there.
//!
//! Sending and receiving have threads of their own with plain system calls: they cost less than tasks, and the same with
//! every pair.

use super::payload::Payload;
use super::{Sample, Sink, Target};
use crate::error::Error;
use crate::meter::Meter;
use socket2::SockRef;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a datagram.
const SIZE: usize = 1_200;
/// Datagrams are sent in bursts, one in each of these intervals.
const INTERVAL: Duration = Duration::from_millis(1);
/// What the sockets shall hold.
const BUFFER: usize = 4 << 20;
/// When nothing has arrived for so long, nothing will.
const QUIET: Duration = Duration::from_millis(300);
/// Pause between two probes whether datagrams come through at all.
const PROBE: Duration = Duration::from_millis(100);
/// Probes at most.
const PROBES: usize = 100;
/// How often the receiver looks whether it shall end.
const LOOK: Duration = Duration::from_millis(100);

/// Datagrams at the service.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    packets: AtomicU64,
    damaged: AtomicU64,
    stop: AtomicBool,
}

impl Arrived {
    fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }
}

/// Receives on the UDP port of the same number as the service's TCP port.
pub(super) struct Service(Arc<Arrived>);

impl Service {
    pub(super) fn start(port: u16, payload: Arc<Payload>) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
        SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
        socket.set_read_timeout(Some(LOOK))?;
        let arrived = Arc::new(Arrived::default());
        let count = Arc::clone(&arrived);
        std::thread::spawn(move || {
            let mut buffer = [0; 2 * SIZE];
            while !count.stop.load(Ordering::Relaxed) {
                if let Ok(n) = socket.recv(&mut buffer) {
                    count.packets.fetch_add(1, Ordering::Relaxed);
                    if n != SIZE || !payload.matches(0, &buffer[..n]) {
                        count.damaged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Ok(Self(arrived))
    }

    pub(super) fn arrived(&self) -> Arc<Arrived> {
        Arc::clone(&self.0)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends `packets` at `rate` a second and waits until no more arrive.
pub(super) async fn run(
    target: &Target,
    payload: &Arc<Payload>,
    sink: &Sink,
    rate: u32,
    packets: u64,
) -> Result<Sample, Error> {
    let arrived = sink.arrived();
    let user = Arc::new(connect(target.address)?);
    let payload = Arc::clone(payload);
    probe(&user, &payload, &arrived).await?;
    let (before, damaged) = (arrived.packets(), arrived.damaged.load(Ordering::Relaxed));
    let meter = Meter::start(&target.pids)?;
    let sending = tokio::task::spawn_blocking(move || send(&user, &payload, rate, packets));
    let seconds = sending
        .await
        .map_err(|e| Error::Load(e.to_string()))?
        .as_secs_f64();
    quiet(&arrived).await;
    let spent = meter.stop()?;
    if arrived.damaged.load(Ordering::Relaxed) != damaged {
        return Err(Error::Load("what arrived is not what was sent".to_owned()));
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let (sent, work) = (packets as f64, (arrived.packets() - before) as f64);
    Ok(Sample {
        work,
        values: vec![work / seconds, 100.0 * (sent - work) / sent],
        spent,
    })
}

fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    SockRef::from(&socket).set_send_buffer_size(BUFFER)?;
    socket.connect(address)?;
    Ok(socket)
}

/// Waits until datagrams come through, and all that was sent for that has arrived.
async fn probe(user: &UdpSocket, payload: &Payload, arrived: &Arrived) -> Result<(), Error> {
    let before = arrived.packets();
    for _ in 0..PROBES {
        // Fails while nobody listens.
        let _ = user.send(payload.piece(0, SIZE as u64));
        tokio::time::sleep(PROBE).await;
        if arrived.packets() > before {
            quiet(arrived).await;
            return Ok(());
        }
    }
    Err(Error::Load("no datagram comes through".to_owned()))
}

async fn quiet(arrived: &Arrived) {
    loop {
        let before = arrived.packets();
        tokio::time::sleep(QUIET).await;
        if arrived.packets() == before {
            return;
        }
    }
}

/// Sends evenly; a burst that comes late does not make the next ones later. The time it took.
fn send(user: &UdpSocket, payload: &Payload, rate: u32, packets: u64) -> Duration {
    let start = Instant::now();
    let datagram = payload.piece(0, SIZE as u64);
    let mut sent = 0;
    let mut burst = 1;
    while sent < packets {
        let due = (INTERVAL * burst).as_secs_f64() * f64::from(rate);
        while sent < packets && {
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let sent = sent as f64;
            sent < due
        } {
            // What the system does not take is lost.
            let _ = user.send(datagram);
            sent += 1;
        }
        burst += 1;
        std::thread::sleep((start + INTERVAL * burst).saturating_duration_since(Instant::now()));
    }
    start.elapsed()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the expected values are exact in binary")]
mod tests {
    use super::*;

    /// Without a tunnel in between nothing is lost at this rate.
    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_a_tunnel() {
        let payload = Arc::new(Payload::new());
        let sink = Sink::start(Arc::clone(&payload)).await.unwrap();
        let target = Target {
            address: sink.addresses().service,
            pids: vec![std::process::id()],
        };
        let sample = run(&target, &payload, &sink, 1_000, 200).await.unwrap();
        assert_eq!(sample.work, 200.0);
        assert_eq!(sample.values[1], 0.0);
    }
}
