//! Small requests one after another over one open connection: the latency that the tunnel adds.

use super::{Sample, Target, connect_and_echo};
use crate::error::Error;
use crate::meter::Meter;
use crate::stats::percentile;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes of a request and of its answer.
const REQUEST: usize = 64;
/// Longest wait for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Sends `requests`; the values are the 50th and 99th percentile of the round trips in µs.
///
/// The user is a blocking thread: its wake-up goes through no event loop, so little of what is measured is its own.
pub(super) async fn run(target: &Target, requests: u64) -> Result<Sample, Error> {
    let connection = connect_and_echo(target.address).await?.into_std()?;
    let pids = target.pids.clone();
    tokio::task::spawn_blocking(move || converse(connection, &pids, requests))
        .await
        .map_err(|e| Error::Load(e.to_string()))?
}

fn converse(mut connection: TcpStream, pids: &[u32], requests: u64) -> Result<Sample, Error> {
    connection.set_nonblocking(false)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut nanos = Vec::with_capacity(requests as usize);
    let mut answer = [0; REQUEST];
    let meter = Meter::start(pids)?;
    for number in 0..requests {
        let request = [number as u8; REQUEST];
        let sent = Instant::now();
        connection.write_all(&request)?;
        connection.read_exact(&mut answer)?;
        nanos.push(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        if answer != request {
            return Err(Error::Load(format!("request {number} came back changed")));
        }
    }
    let spent = meter.stop()?;
    nanos.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and times are far below 2^52"
    )]
    let micros = |per_mille| percentile(&nanos, per_mille).map_or(f64::NAN, |n| n as f64 / 1e3);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let work = requests as f64;
    Ok(Sample {
        work,
        values: vec![micros(500), micros(990)],
        spent,
    })
}
