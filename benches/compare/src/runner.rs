//! Rounds: every case, every pair in turn, again and again.
//!
//! Pairs alternate inside a case, in an order that rotates, so that what else the machine does hits all of them alike.
//! Each measurement has freshly started programs and a warm-up whose data is verified.

use crate::case::{Case, Load};
use crate::error::Error;
use crate::load::payload::Payload;
use crate::load::{self, Sample, Sink, Target};
use crate::pair::Pair;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest time one warm-up or measurement may take before it counts as failed.
const LIMIT: Duration = Duration::from_mins(5);

/// What to run.
pub(crate) struct Settings {
    /// Rounds, at least 1.
    pub(crate) rounds: u32,
    /// Multiplies every volume.
    pub(crate) scale: f64,
    /// Sets the volume of each timed case to what the baseline does in this time, instead.
    pub(crate) seconds: Option<f64>,
    /// Index of the pair that calibrates.
    pub(crate) baseline: usize,
    /// What streams carry.
    pub(crate) payload: Arc<Payload>,
}

/// What one pair did in one case of one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Record {
    /// From 0.
    pub(crate) round: u32,
    /// [`Case::name`].
    pub(crate) case: &'static str,
    /// [`Pair::name`].
    pub(crate) pair: String,
    /// What came out.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// A measurement or the reason why there is none.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It went through.
    Measured(Measured),
    /// It did not; the text says why.
    Failed(String),
}

/// The figures of one measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    /// By metric.
    pub(crate) values: BTreeMap<&'static str, f64>,
    /// Bytes, connections or requests.
    pub(crate) work: f64,
    /// Wall-clock time.
    pub(crate) seconds: f64,
    /// By program.
    pub(crate) cpu_seconds: BTreeMap<&'static str, f64>,
    /// Resident memory at the end, by program.
    pub(crate) resident_kib: BTreeMap<&'static str, u64>,
    /// Of this process.
    pub(crate) generator_cpu_seconds: f64,
}

/// Runs everything. A measurement that fails is recorded and the rest goes on.
pub(crate) async fn run(
    cases: &[Case],
    pairs: &[Pair],
    settings: &Settings,
) -> Result<Vec<Record>, Error> {
    let payload = Arc::clone(&settings.payload);
    let sink = Sink::start(Arc::clone(&payload))
        .await
        .map_err(Error::io("starting the local service"))?;
    let bench = Bench { payload, sink };
    let mut loads = Vec::new();
    for case in cases {
        loads.push(
            bench
                .volume(case, &pairs[settings.baseline], settings)
                .await,
        );
    }
    let mut records = Vec::new();
    for round in 0..settings.rounds {
        for (number, (case, &load)) in cases.iter().zip(&loads).enumerate() {
            for turn in 0..pairs.len() {
                let pair = &pairs[(turn + number + round as usize) % pairs.len()];
                if !pair.kind.carries(case.tunnel) {
                    continue;
                }
                let outcome = match bench.measure(case, load, pair).await {
                    Ok(measured) => Outcome::Measured(measured),
                    Err(e) => Outcome::Failed(e.to_string()),
                };
                let record = Record {
                    round,
                    case: case.name,
                    pair: pair.name.clone(),
                    outcome,
                };
                eprintln!("{}", progress(&record, settings.rounds));
                records.push(record);
            }
        }
    }
    Ok(records)
}

struct Bench {
    payload: Arc<Payload>,
    sink: Sink,
}

impl Bench {
    /// The load of a case, the same for all pairs and rounds.
    async fn volume(&self, case: &Case, baseline: &Pair, settings: &Settings) -> Load {
        let load = case.load.scaled(settings.scale);
        let (Some(seconds), true) = (settings.seconds, load.is_timed()) else {
            return load;
        };
        if !baseline.kind.carries(case.tunnel) {
            eprintln!(
                "{}: not calibrated: {} has no such tunnel",
                case.name, baseline.name
            );
            return load;
        }
        match self.measure(case, load.scaled(0.25), baseline).await {
            Ok(trial) => load.scaled(seconds / (trial.seconds * 4.0)),
            Err(e) => {
                eprintln!("{}: not calibrated: {e}", case.name);
                load
            }
        }
    }

    async fn measure(&self, case: &Case, load: Load, pair: &Pair) -> Result<Measured, Error> {
        let mut running = pair.start(case.tunnel, self.sink.addresses()).await?;
        let sample = self
            .through(&running.target(), load)
            .await
            .map_err(|e| running.failure(&pair.name, &e.to_string()))?;
        let names = load.metrics().iter().map(|m| m.name);
        Ok(Measured {
            values: names.zip(sample.values).collect(),
            work: sample.work,
            seconds: sample.spent.seconds,
            cpu_seconds: running.roles().into_iter().zip(sample.spent.cpu).collect(),
            resident_kib: running
                .roles()
                .into_iter()
                .zip(sample.spent.resident_kib)
                .collect(),
            generator_cpu_seconds: sample.spent.generator,
        })
    }

    /// Warms the pair up and measures it.
    async fn through(&self, target: &Target, load: Load) -> Result<Sample, Error> {
        if let Some(warm_up) = load.warm_up() {
            self.once(target, warm_up, true).await?;
        }
        self.once(target, load, false).await
    }

    async fn once(&self, target: &Target, load: Load, verify: bool) -> Result<Sample, Error> {
        tokio::time::timeout(
            LIMIT,
            load::run(load, target, &self.payload, &self.sink, verify),
        )
        .await
        .unwrap_or_else(|_| Err(Error::Load(format!("not done after {} s", LIMIT.as_secs()))))
    }
}

fn progress(record: &Record, rounds: u32) -> String {
    let Record {
        round, case, pair, ..
    } = record;
    let what = match &record.outcome {
        Outcome::Measured(m) => {
            let values: Vec<String> = m
                .values
                .iter()
                .map(|(k, v)| format!("{v:.2} {k}"))
                .collect();
            let cpu: f64 = m.cpu_seconds.values().sum();
            format!(
                "{} in {:.1} s, CPU {cpu:.2} s",
                values.join(", "),
                m.seconds
            )
        }
        Outcome::Failed(why) => format!("FAILED: {why}"),
    };
    format!("[{}/{rounds}] {case} {pair}: {what}", round + 1)
}
