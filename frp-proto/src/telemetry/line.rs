//! An event as a line: `YYYY-MM-DD HH:MM:SS.mmm [L] [dir/file:LINE] [run id] [proxy] MESSAGE key=value`.

use std::fmt::{self, Write as _};

use chrono::NaiveDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

/// Formats an event. Colour wraps the line break too, as upstream does.
pub(super) fn format(event: &Event<'_>, now: NaiveDateTime, coloured: bool) -> String {
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
