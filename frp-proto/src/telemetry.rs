//! Logs in upstream's format (config-frps.md §10) over `tracing`.
//!
//! An event becomes one line in the thread that emits it; `queue` holds lines, bounded in bytes, until a thread of its own
//! writes them to standard output or a [`file`] that rotates. A destination that blocks costs lines, which are counted and
//! reported, and never stalls a connection. A [`Sink`] is a log of records beside it.

mod file;
mod line;
mod queue;
mod sink;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use chrono::{Local, NaiveDateTime};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::config::raw::common::LogConfig;
use file::RotatingFile;
use line::Format;
use queue::{Note, Queue};
pub use sink::{RecordLogs, Sink, millis};

/// How long the end of the program waits for lines that are not written yet.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest sleep of the writer of a file, so that a clock set forward is noticed.
const MAX_SLEEP: Duration = Duration::from_mins(1);

/// The level of this process's log.
static LEVEL: OnceLock<Threshold> = OnceLock::new();

/// A level that can be changed: its place in [`LEVELS`].
#[derive(Clone)]
struct Threshold(Arc<AtomicU8>);

impl Threshold {
    fn new(level: LevelFilter) -> Self {
        let threshold = Self(Arc::default());
        threshold.set(level);
        threshold
    }

    fn set(&self, level: LevelFilter) {
        let place = LEVELS.iter().position(|l| *l == level);
        self.0.store(place.unwrap_or(0) as u8, Ordering::Relaxed);
    }

    fn get(&self) -> LevelFilter {
        LEVELS[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

const LEVELS: [LevelFilter; 5] = [
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// Writes what is queued when dropped; keep it until nothing more is logged.
#[must_use = "dropping it waits for the lines logged so far"]
pub struct Guard(Arc<Queue>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.wait_empty(FLUSH_TIMEOUT);
    }
}

/// Sends the events of this process to the log that `settings` describe. Only the first call of a process has an effect.
///
/// A file is opened at the first line. While it cannot be written, lines are lost; standard error tells so once.
pub fn init(settings: &LogConfig) -> Guard {
    let console = settings.to == "console";
    let (format, note) = if settings.format == "json" {
        (Format::Json, Note::Json)
    } else {
        let coloured = console && !settings.disable_print_color;
        (Format::Text { coloured }, Note::Text)
    };
    let queue = Arc::new(Queue::new(note));
    let level = Threshold::new(settings.level.parse().unwrap_or(LevelFilter::INFO));
    let logger = Logger {
        level: level.clone(),
        format,
        queue: queue.clone(),
    };
    if tracing::subscriber::set_global_default(logger).is_ok() {
        LEVEL.get_or_init(|| level);
        let file =
            (!console).then(|| RotatingFile::new(Path::new(&settings.to), settings.max_days));
        let queue = queue.clone();
        let writer = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || match file {
                Some(file) => write_file(&queue, file),
                None => write_console(&queue),
            });
        if let Err(e) = writer {
            eprintln!("the log cannot be written: {e}");
        }
    }
    Guard(queue)
}

/// Lines that logs of this process have lost so far because their destinations did not take them.
pub fn dropped_lines() -> u64 {
    queue::dropped()
}

/// Changes the level of the log of this process. What is no level changes nothing.
pub fn set_level(level: &str) {
    if let (Some(threshold), Ok(level)) = (LEVEL.get(), level.parse()) {
        threshold.set(level);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Local time, as every line and every rotation sees it.
fn now() -> NaiveDateTime {
    Local::now().naive_local()
}

fn write_console(queue: &Queue) {
    let mut batch = Vec::new();
    while queue.take(&mut batch, None) {
        let mut stdout = std::io::stdout().lock();
        // Upstream dies of a closed console; a tunnel is worth more than its log.
        let _ = stdout.write_all(&batch).and_then(|()| stdout.flush());
    }
}

fn write_file(queue: &Queue, mut file: RotatingFile) {
    let mut batch = Vec::new();
    let mut reported = false;
    loop {
        let sleep = file
            .until_rotation(now())
            .map_or(MAX_SLEEP, |left| left.min(MAX_SLEEP));
        if !queue.take(&mut batch, Some(sleep)) {
            return;
        }
        let rotated = file.rotate_if_due(now());
        let written = file.write(&batch, now());
        if let Err(e) = rotated.and(written)
            && !std::mem::replace(&mut reported, true)
        {
            eprintln!("log lines are lost: {}: {e}", file.path().display());
        }
    }
}

/// The subscriber: formats and queues. It knows no spans.
struct Logger {
    level: Threshold,
    format: Format,
    queue: Arc<Queue>,
}

impl Subscriber for Logger {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = ["frp", "balancer"]
            .iter()
            .any(|prefix| metadata.target().starts_with(prefix));
        // What libraries tell below a warning is about themselves.
        metadata.is_event()
            && *metadata.level() <= self.level.get()
            && (own || *metadata.level() <= Level::WARN)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.get())
    }

    fn event(&self, event: &Event<'_>) {
        self.queue
            .push(&line::format(event, &Local::now(), self.format));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests;
