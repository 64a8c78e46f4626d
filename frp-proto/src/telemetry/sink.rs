//! [`Sink`]: a log of its own, one JSON object a line, for what is finished (access) or was done (audit).

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chrono::{Local, SecondsFormat};
use serde::Serialize;

use super::file::RotatingFile;
use super::queue::Queue;
use super::{FLUSH_TIMEOUT, Note, write_console, write_file};
use crate::config::raw::common::LogConfig;

/// Where records go; clones share it. Writing never waits: what the destination does not take fast enough is lost and
/// counted. The last clone waits a second at most for what is queued when it is dropped.
#[derive(Clone, Default)]
pub struct Sink(Option<Arc<Open>>);

struct Open(Arc<Queue>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
        self.0.wait_empty(FLUSH_TIMEOUT);
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_on() {
            "Sink(on)"
        } else {
            "Sink(off)"
        })
    }
}

/// Where the records of a program go: `console` or a file; empty = nowhere.
#[derive(Debug, Clone, Default)]
pub struct RecordLogs {
    access: String,
    audit: String,
    max_days: i64,
}

impl RecordLogs {
    /// `log.access` and `log.audit`.
    pub fn new(c: &LogConfig) -> Self {
        Self {
            access: c.access.clone(),
            audit: c.audit.clone(),
            max_days: c.max_days,
        }
    }

    /// Opens the log of finished connections and requests.
    pub fn access(&self) -> Sink {
        Sink::new(&self.access, self.max_days)
    }

    /// Opens the log of logins and changes.
    pub fn audit(&self) -> Sink {
        Sink::new(&self.audit, self.max_days)
    }
}

/// Milliseconds to three places, as records have durations.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A record with the time it was written at.
#[derive(Serialize)]
struct Line<'a, T> {
    time: String,
    #[serde(flatten)]
    record: &'a T,
}

impl Sink {
    /// `to` is empty (no log), `console` or a file, which is opened at the first record and rotates as the main log does.
    pub fn new(to: &str, max_days: i64) -> Self {
        if to.is_empty() {
            return Self::default();
        }
        let queue = Arc::new(Queue::new(Note::Json));
        let file = (to != "console").then(|| RotatingFile::new(Path::new(to), max_days));
        let writer = {
            let queue = queue.clone();
            move || match file {
                Some(file) => write_file(&queue, file),
                None => write_console(&queue),
            }
        };
        if let Err(e) = thread::Builder::new()
            .name("records".to_owned())
            .spawn(writer)
        {
            eprintln!("{to} cannot be written: {e}");
            return Self::default();
        }
        Self(Some(Arc::new(Open(queue))))
    }

    /// Whether records go anywhere: making one may cost something.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a record, which must be an object.
    pub fn write<T: Serialize>(&self, record: &T) {
        let Some(open) = &self.0 else {
            return;
        };
        let time = Local::now().to_rfc3339_opts(SecondsFormat::Millis, false);
        if let Ok(mut line) = serde_json::to_string(&Line { time, record }) {
            line.push('\n');
            open.0.push(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn milliseconds_have_three_places() {
        for (nanos, expected) in [(0, 0.0), (1_499, 0.001), (1_234_567_000, 1_234.567)] {
            let given = millis(Duration::from_nanos(nanos));
            assert!((given - expected).abs() < 1e-9, "{given}");
        }
    }

    #[derive(Serialize)]
    struct Record {
        proxy: &'static str,
        bytes_in: u64,
    }

    #[test]
    fn records_are_lines_of_json_and_none_is_lost_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/access.log");
        let sink = Sink::new(path.to_str().unwrap(), 3);
        let clone = sink.clone();
        assert!(clone.is_on() && !Sink::new("", 3).is_on());
        for bytes_in in 0..1_000 {
            clone.write(&Record {
                proxy: "evil\n\"",
                bytes_in,
            });
        }
        drop((sink, clone));
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1_000);
        for (n, line) in text.lines().enumerate() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["bytes_in"], n);
            assert_eq!(value["proxy"], "evil\n\"");
            let time = value["time"].as_str().unwrap();
            assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
        }
    }
}
