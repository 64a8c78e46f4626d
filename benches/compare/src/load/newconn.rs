//! Short connections: connect, echo one byte, close; as fast as 32 workers can.

use super::{Sample, Target, connect_and_echo};
use crate::error::Error;
use crate::meter::Meter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

/// Connections in progress at a time.
const WORKERS: u64 = 32;

/// Makes `connections` in all; each worker takes the next as soon as it is free.
pub(super) async fn run(target: &Target, connections: u64) -> Result<Sample, Error> {
    let taken = Arc::new(AtomicU64::new(0));
    let address = target.address;
    let meter = Meter::start(&target.pids)?;
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS.min(connections) {
        let taken = Arc::clone(&taken);
        workers.spawn(async move {
            while taken.fetch_add(1, Ordering::Relaxed) < connections {
                connect_and_echo(address).await?;
            }
            std::io::Result::Ok(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|e| Error::Load(e.to_string()))??;
    }
    let spent = meter.stop()?;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let work = connections as f64;
    Ok(Sample {
        work,
        values: vec![work / spent.seconds],
        spent,
    })
}
