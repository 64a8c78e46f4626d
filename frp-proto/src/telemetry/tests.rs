//! What events look like in the log.

use super::*;

/// Formats with a fixed clock and gives the lines to the test.
struct Capture {
    logger: Logger,
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }
    fn event(&self, event: &Event<'_>) {
        let now = chrono::DateTime::parse_from_rfc3339("2026-01-02T03:04:05.678999+05:30");
        let line = line::format(event, &now.unwrap(), self.logger.format);
        self.logger.queue.push(&line);
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The lines that `events` give, with line numbers blotted out.
fn logged(level: &str, coloured: bool, events: impl FnOnce()) -> String {
    logged_as(Format::Text { coloured }, level, events)
}

fn logged_as(format: Format, level: &str, events: impl FnOnce()) -> String {
    let queue = Arc::new(Queue::default());
    let logger = Logger {
        level: Threshold::new(level.parse().unwrap()),
        format,
        queue: queue.clone(),
    };
    tracing::subscriber::with_default(Capture { logger }, events);
    let mut batch = Vec::new();
    queue.take(&mut batch, Some(Duration::ZERO));
    let text = String::from_utf8(batch).unwrap();
    text.split("tests.rs:")
        .enumerate()
        .map(|(i, part)| match i {
            0 => part.to_owned(),
            _ => format!(
                "tests.rs:N{}",
                part.trim_start_matches(|c: char| c.is_ascii_digit())
            ),
        })
        .collect()
}

#[test]
fn lines_have_upstreams_shape() {
    let text = logged("trace", false, || {
        tracing::trace!("t");
        tracing::debug!("d {}", 1);
        tracing::info!(proxy = "web", run_id = %"9c8cb38fd392d839", "start proxy success");
        tracing::warn!(run_id = "r", "w");
        tracing::error!(code = 7, peer = "p", "e");
    });
    let head = |letter| format!("2026-01-02 03:04:05.678 [{letter}] [telemetry/tests.rs:N] ");
    assert_eq!(
        text,
        [
            head('T') + "t\n",
            head('D') + "d 1\n",
            head('I') + "[9c8cb38fd392d839] [web] start proxy success\n",
            head('W') + "[r] w\n",
            head('E') + "e code=7 peer=p\n",
        ]
        .concat()
    );
}

#[test]
fn colours_wrap_the_line_break() {
    let text = logged("trace", true, || {
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!("d");
        tracing::trace!("t");
    });
    let line = |letter, message| {
        format!("2026-01-02 03:04:05.678 [{letter}] [telemetry/tests.rs:N] {message}\n")
    };
    assert_eq!(
        text,
        [
            "\x1b[1;31m".to_owned() + &line('E', "e") + "\x1b[0m",
            "\x1b[1;33m".to_owned() + &line('W', "w") + "\x1b[0m",
            "\x1b[1;34m".to_owned() + &line('I', "i") + "\x1b[0m",
            "\x1b[1;36m".to_owned() + &line('D', "d") + "\x1b[0m",
            line('T', "t"),
        ]
        .concat()
    );
}

#[test]
fn peers_cannot_forge_lines() {
    let evil = "a\n2026 [I] b\x1b[31m\r\x07\u{9b}é";
    let text = logged("info", false, || {
        tracing::info!(run_id = evil, proxy = evil, other = evil, "{evil}");
    });
    let escaped = "a\\n2026 [I] b\\u{1b}[31m\\r\\u{7}\\u{9b}é";
    assert!(
        text.ends_with(&format!(
            "[{escaped}] [{escaped}] {escaped} other={escaped}\n"
        )),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn levels_and_foreign_targets_are_filtered() {
    let text = logged("debug", false, || {
        tracing::trace!("below the level");
        tracing::debug!(target: "hyper::proto", "a library about itself");
        tracing::warn!(target: "hyper::proto", "shown");
        tracing::debug!(target: "frps_rs::session", "shown too");
        tracing::info_span!("span").in_scope(|| ());
    });
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains("shown\n") && text.contains("shown too\n"),
        "{text}"
    );
}

#[test]
fn lines_of_json() {
    let evil = "a\n\"\\\u{1b}";
    let text = logged_as(Format::Json, "trace", || {
        tracing::trace!("plain");
        tracing::warn!(proxy = evil, run_id = %"r", code = -7, size = 7_u64, part = 0.5, ok = true, peer = ?"p", "{evil}");
    });
    let head = |level| {
        format!(
            "{{\"time\":\"2026-01-02T03:04:05.678+05:30\",\"level\":\"{level}\",\"source\":\"telemetry/tests.rs:N\""
        )
    };
    let evil = "a\\n\\\"\\\\\\u001b";
    assert_eq!(
        text,
        [
            head("trace") + ",\"message\":\"plain\"}\n",
            head("warn")
                + &format!(
                    ",\"message\":\"{evil}\",\"proxy\":\"{evil}\",\"run_id\":\"r\",\"code\":-7,\"size\":7,\"part\":0.5,\"ok\":true,\"peer\":\"\\\"p\\\"\"}}\n"
                ),
        ]
        .concat()
    );
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value.is_object());
    }
}
