//! An event as a line: `YYYY-MM-DD HH:MM:SS.mmm [L] [dir/file:LINE] [run id] [proxy] MESSAGE key=value`, or as a JSON object.

use std::fmt::{self, Write as _};

use chrono::{DateTime, SecondsFormat, TimeZone};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Upstream's.
    Text {
        /// Whether levels have colours.
        coloured: bool,
    },
    /// One object a line: `time`, `level`, `source`, `message`, and the fields of the event under their names.
    Json,
}

/// Formats an event.
pub(super) fn format<Tz>(event: &Event<'_>, now: &DateTime<Tz>, format: Format) -> String
where
    Tz: TimeZone<Offset: fmt::Display>,
{
    match format {
        Format::Text { coloured } => text(event, now, coloured),
        Format::Json => json(event, now),
    }
}

/// Colour wraps the line break too, as upstream does.
fn text<Tz>(event: &Event<'_>, now: &DateTime<Tz>, coloured: bool) -> String
where
    Tz: TimeZone<Offset: fmt::Display>,
{
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let (letter, colour) = match *metadata.level() {
        Level::TRACE => ('T', None),
        Level::DEBUG => ('D', Some("1;36")),
        Level::INFO => ('I', Some("1;34")),
        Level::WARN => ('W', Some("1;33")),
        Level::ERROR => ('E', Some("1;31")),
    };
    let colour = colour.filter(|_| coloured);
    let mut line = String::with_capacity(128 + fields.message.len());
    if let Some(code) = colour {
        let _ = write!(line, "\x1b[{code}m");
    }
    let _ = write!(
        line,
        "{} [{letter}] [{}] ",
        now.format("%Y-%m-%d %H:%M:%S%.3f"),
        Source(metadata)
    );
    for prefix in [&fields.run_id, &fields.proxy] {
        if !prefix.is_empty() {
            let _ = write!(line, "[{prefix}] ");
        }
    }
    line.push_str(&fields.message);
    line.push_str(&fields.others);
    line.push('\n');
    if colour.is_some() {
        line.push_str("\x1b[0m");
    }
    line
}

fn json<Tz>(event: &Event<'_>, now: &DateTime<Tz>) -> String
where
    Tz: TimeZone<Offset: fmt::Display>,
{
    let metadata = event.metadata();
    let level = match *metadata.level() {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warn",
        Level::ERROR => "error",
    };
    let mut object = Object(String::with_capacity(256));
    object.text("time", &now.to_rfc3339_opts(SecondsFormat::Millis, false));
    object.text("level", level);
    object.text("source", &Source(metadata).to_string());
    event.record(&mut object);
    object.0.push_str("}\n");
    object.0
}

/// An object in the making.
struct Object(String);

impl Object {
    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.string(key);
        self.0.push(':');
    }

    fn string(&mut self, text: &str) {
        // A string can always be written as JSON.
        self.0
            .push_str(&serde_json::to_string(text).unwrap_or_default());
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.string(text);
    }

    /// `value` is written as it is.
    fn literal(&mut self, key: &str, value: impl fmt::Display) {
        self.key(key);
        let _ = write!(self.0, "{value}");
    }
}

impl Visit for Object {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field.name(), &value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.literal(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.literal(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.literal(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.literal(field.name(), value);
        } else {
            self.text(field.name(), &value.to_string());
        }
    }
}

/// The last two parts of the emitting file's path, without the `src` that every crate has, and the line.
struct Source<'a>(&'a Metadata<'a>);

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.file().unwrap_or(self.0.target());
        let mut parts = path.rsplit(['/', '\\']).filter(|part| *part != "src");
        let file = parts.next().unwrap_or_default();
        if let Some(dir) = parts.next() {
            write!(f, "{dir}/")?;
        }
        write!(f, "{file}:{}", self.0.line().unwrap_or_default())
    }
}

/// An event's fields, sorted by where they go.
#[derive(Default)]
struct Fields {
    run_id: String,
    proxy: String,
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let place = match field.name() {
            "run_id" => &mut self.run_id,
            "proxy" => &mut self.proxy,
            "message" => &mut self.message,
            name => {
                let _ = write!(self.others, " {name}=");
                &mut self.others
            }
        };
        let _ = write!(Escaped(place), "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Escapes control characters, so that no peer can end a line or speak to a terminal.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            match part.char_indices().next_back() {
                Some((at, last)) if last.is_control() => {
                    write!(self.0, "{}{}", &part[..at], last.escape_default())?;
                }
                _ => self.0.push_str(part),
            }
        }
        Ok(())
    }
}
