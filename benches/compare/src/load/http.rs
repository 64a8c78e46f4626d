//! Requests to an `http` proxy over kept-alive connections, and the backend that answers them.

use super::payload::Payload;
use super::sink::{receive, send};
use super::{Sample, Target, connect};
use crate::error::Error;
use crate::meter::Meter;
use crate::stats::percentile;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Users at a time, each with a connection of its own.
const USERS: u64 = 64;
/// What a small answer says.
const SMALL: &[u8] = b"Hello from behind the tunnel: this is a small answer of 64 bytes";
/// Longest head that is understood.
const MAX_HEAD: usize = 4096;
/// Longest wait for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How requests to the backend of all cases begin; see [`serve`].
pub(super) const FIRST: u8 = b'G';

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: compare\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

/// `requests` small ones; the values are requests a second and the 50th and 99th percentile of their times in µs.
pub(super) async fn run(target: &Target, requests: u64) -> Result<Sample, Error> {
    let mut users = Vec::new();
    for _ in 0..USERS {
        users.push(connect_and_get(target.address).await?);
    }
    let meter = Meter::start(&target.pids)?;
    let mut running = JoinSet::new();
    for connection in users {
        running.spawn(ask(connection, requests.div_ceil(USERS)));
    }
    let mut nanos = Vec::with_capacity(requests as usize);
    while let Some(ended) = running.join_next().await {
        nanos.append(&mut ended.map_err(|e| Error::Load(e.to_string()))??);
    }
    let spent = meter.stop()?;
    nanos.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and times are far below 2^52"
    )]
    let (work, micros) = (nanos.len() as f64, |per_mille| {
        percentile(&nanos, per_mille).map_or(f64::NAN, |n| n as f64 / 1e3)
    });
    Ok(Sample {
        work,
        values: vec![work / spent.seconds, micros(500), micros(990)],
        spent,
    })
}

/// Sends requests one after another; gives the time of each in ns.
async fn ask(mut connection: TcpStream, requests: u64) -> Result<Vec<u64>, Error> {
    let request = request("/");
    let mut nanos = Vec::with_capacity(requests as usize);
    for _ in 0..requests {
        let sent = Instant::now();
        connection.write_all(&request).await?;
        small_answer(&mut connection).await?;
        nanos.push(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(nanos)
}

/// Opens a connection and has a small request answered: afterwards the whole way to the backend is known to stand.
pub(crate) async fn connect_and_get(address: SocketAddr) -> io::Result<TcpStream> {
    let mut connection = connect(address).await?;
    connection.set_nodelay(true)?;
    connection.write_all(&request("/")).await?;
    tokio::time::timeout(ANSWER_LIMIT, small_answer(&mut connection)).await??;
    Ok(connection)
}

async fn small_answer(connection: &mut TcpStream) -> io::Result<()> {
    let (length, mut body) = head(connection).await?;
    let read = body.len();
    let length = usize::try_from(length).map_err(io::Error::other)?;
    if length == SMALL.len() && read <= length {
        body.resize(length, 0);
        connection.read_exact(&mut body[read..]).await?;
        if body == SMALL {
            return Ok(());
        }
    }
    Err(io::Error::other("the answer is not the backend's"))
}

/// One body of `bytes`, service to user; the value is Gbit/s.
pub(super) async fn large(
    target: &Target,
    payload: &Arc<Payload>,
    bytes: u64,
    verify: bool,
) -> Result<Sample, Error> {
    let mut connection = connect_and_get(target.address).await?;
    let meter = Meter::start(&target.pids)?;
    connection.write_all(&request(&format!("/{bytes}"))).await?;
    let (length, start) = head(&mut connection).await?;
    if length != bytes || !payload.matches(0, &start) {
        return Err(Error::Load("the answer is not the backend's".to_owned()));
    }
    let begun = start.len() as u64;
    if !receive(&mut connection, payload, begun, bytes, verify).await? {
        return Err(Error::Load("what arrived is not what was sent".to_owned()));
    }
    let spent = meter.stop()?;
    #[expect(clippy::cast_precision_loss, reason = "volumes are far below 2^52")]
    let work = bytes as f64;
    Ok(Sample {
        work,
        values: vec![work * 8.0 / 1e9 / spent.seconds],
        spent,
    })
}

/// Reads the head of a good answer; gives the length of the body and what has come of it.
async fn head(connection: &mut TcpStream) -> io::Result<(u64, Vec<u8>)> {
    let mut read = Vec::with_capacity(MAX_HEAD);
    let end = read_head(connection, &mut read).await?;
    let body = read.split_off(end);
    let head = String::from_utf8_lossy(&read);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.parse().ok()).flatten()
    });
    match length {
        Some(length) if head.starts_with("HTTP/1.1 200 ") => Ok((length, body)),
        _ => Err(io::Error::other(format!("answered {head:?}"))),
    }
}

/// Reads on until a head is complete; gives its length.
async fn read_head(connection: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            return Ok(end + 4);
        }
        if read.len() >= MAX_HEAD {
            return Err(io::Error::other("the head is too long"));
        }
        if connection.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The backend: `/` has a small answer, `/N` one of N bytes of the payload. [`FIRST`] has been read already. Each answer
/// waits for `delay`, if that is not zero.
pub(super) async fn serve(
    mut connection: TcpStream,
    payload: &Payload,
    delay: Duration,
) -> io::Result<()> {
    let small = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{}",
        SMALL.len(),
        String::from_utf8_lossy(SMALL)
    );
    let mut read = vec![FIRST];
    loop {
        let end = read_head(&mut connection, &mut read).await?;
        let rest = read.split_off(end);
        let head = String::from_utf8_lossy(&read);
        let path = head.split(' ').nth(1).unwrap_or_default();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match path.trim_start_matches('/').parse() {
            Ok(bytes) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
                connection.write_all(head.as_bytes()).await?;
                send(&mut connection, payload, bytes).await?;
            }
            Err(_) => connection.write_all(small.as_bytes()).await?,
        }
        read = rest;
    }
}
