//! Load reports of members in response headers (balancing.md §7): ORCA's `endpoint-load-metrics`, as text or JSON.

use balancer::LoadReport;
use http::header::{HeaderMap, HeaderName};

static LOAD: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// Takes the report out of an answer: it is nobody's business in front of this server.
pub(super) fn take(headers: &mut HeaderMap) -> Option<LoadReport> {
    let value = headers.remove(&LOAD)?;
    parse(value.to_str().ok()?)
}

/// `TEXT key=value, …` or `JSON {…}`; what else there may be in it does not count.
fn parse(text: &str) -> Option<LoadReport> {
    let (format, rest) = text.trim().split_once(' ')?;
    let mut report = LoadReport::default();
    if format.eq_ignore_ascii_case("TEXT") {
        for (key, value) in rest.split(',').filter_map(|pair| pair.split_once('=')) {
            set(&mut report, key.trim(), value.trim().parse().ok());
        }
    } else if format.eq_ignore_ascii_case("JSON") {
        let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(rest).ok()?;
        for (key, value) in &map {
            set(&mut report, key, value.as_f64());
        }
    } else {
        return None;
    }
    Some(report)
}

/// Keys are those of the protocol buffer, or its short ones.
fn set(report: &mut LoadReport, key: &str, value: Option<f64>) {
    let field = match key {
        "application_utilization" | "applicationUtilization" => &mut report.application_utilization,
        "cpu_utilization" | "cpuUtilization" | "cpu" => &mut report.cpu_utilization,
        "rps_fractional" | "rpsFractional" | "rps" => &mut report.rps,
        "eps" => &mut report.eps,
        _ => return,
    };
    if let Some(value) = value {
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn text_and_json_say_the_same() {
        let expected = LoadReport {
            application_utilization: 0.7,
            cpu_utilization: 0.3,
            rps: 12.5,
            eps: 1.0,
        };
        for text in [
            "TEXT application_utilization=0.7, cpu_utilization=0.3,rps_fractional=12.5,eps=1,named_metrics.q=4",
            r#"JSON {"application_utilization": 0.7, "cpu_utilization": 0.3, "rps_fractional": 12.5, "eps": 1, "named_metrics": {"q": 4}}"#,
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn the_header_is_taken_whatever_it_says() {
        for text in ["", "TEXT", "BIN AAAA", "JSON [1]", "JSON {"] {
            let mut headers = HeaderMap::new();
            headers.insert(&LOAD, HeaderValue::from_static(text));
            assert_eq!(take(&mut headers), None, "{text}");
            assert!(headers.is_empty());
        }
        assert_eq!(parse("TEXT cpu=x,=,rps"), Some(LoadReport::default()));
    }
}
