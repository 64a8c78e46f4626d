//! Memory: of a pair that has nothing to do, and of what an open, silent connection adds.

use super::{Sample, Target, connect_and_echo};
use crate::error::Error;
use crate::meter::{Meter, resident_kib};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long nothing happens before memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// Connections that are being opened at a time.
const OPENING: u64 = 32;

/// Opens `connections`, each proven by an echoed byte, and measures what they add to the resident memory of all the
/// pair's programs.
pub(super) async fn run(target: &Target, connections: u64) -> Result<Sample, Error> {
    tokio::time::sleep(SETTLE).await;
    let meter = Meter::start(&target.pids)?;
    let before: u64 = resident_kib(&target.pids)?.iter().sum();
    let mut open = Vec::with_capacity(connections as usize);
    let mut opening = JoinSet::new();
    for _ in 0..connections {
        if opening.len() as u64 >= OPENING
            && let Some(opened) = opening.join_next().await
        {
            open.push(opened.map_err(|e| Error::Load(e.to_string()))??);
        }
        opening.spawn(connect_and_echo(target.address));
    }
    while let Some(opened) = opening.join_next().await {
        open.push(opened.map_err(|e| Error::Load(e.to_string()))??);
    }
    tokio::time::sleep(SETTLE).await;
    let spent = meter.stop()?;
    let after: u64 = spent.resident_kib.iter().sum();
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and KiB are far below 2^52"
    )]
    let (work, added) = (open.len() as f64, after as f64 - before as f64);
    Ok(Sample {
        work,
        values: vec![added / work],
        spent,
    })
}

/// Resident memory in MiB of a pair that has been up and idle for a second.
pub(super) async fn start(target: &Target) -> Result<Sample, Error> {
    let meter = Meter::start(&target.pids)?;
    tokio::time::sleep(SETTLE).await;
    let spent = meter.stop()?;
    let kib: u64 = spent.resident_kib.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "KiB are far below 2^52")]
    let mib = kib as f64 / 1024.0;
    Ok(Sample {
        work: 1.0,
        values: vec![mib],
        spent,
    })
}
