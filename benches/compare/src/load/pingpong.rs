//! Small requests one after another over one open connection: the latency that the tunnel adds.

use super::{Sample, Target, connect_and_echo};
use crate::error::Error;
use crate::meter::Meter;
use crate::stats::percentile;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of a request and of its answer.
const REQUEST: usize = 64;

/// Sends `requests`; the values are the 50th and 99th percentile of the round trips in µs.
pub(super) async fn run(target: &Target, requests: u64) -> Result<Sample, Error> {
    let mut connection = connect_and_echo(target.address).await?;
    connection.set_nodelay(true)?;
    let mut nanos = Vec::with_capacity(requests as usize);
    let mut answer = [0; REQUEST];
    let meter = Meter::start(&target.pids)?;
    for number in 0..requests {
        let request = [number as u8; REQUEST];
        let sent = Instant::now();
        connection.write_all(&request).await?;
        connection.read_exact(&mut answer).await?;
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
