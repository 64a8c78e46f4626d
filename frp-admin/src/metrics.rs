//! Prometheus's text format, as upstream's library writes it.

#[cfg(target_os = "linux")]
mod process;

use std::fmt::Write as _;

use crate::Response;

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// The text of a scrape, in the making.
#[derive(Default)]
pub struct Metrics(String);

impl Metrics {
    /// Adds a metric with its samples: a value for each label of `labels`, both sorted, and the number. Without samples
    /// it adds nothing.
    pub fn add<'a, const N: usize>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        labels: [&str; N],
        samples: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        let mut first = true;
        for (values, number) in samples {
            if std::mem::take(&mut first) {
                let kind = match kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                };
                self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
            }
            self.0.push_str(name);
            for (i, (label, value)) in labels.iter().zip(values).enumerate() {
                let open = if i == 0 { '{' } else { ',' };
                self.write(format_args!("{open}{label}=\"{}\"", escape(value)));
            }
            if N > 0 {
                self.0.push('}');
            }
            self.write(format_args!(" {}\n", number_text(number)));
        }
    }

    /// Adds a histogram with its samples: values of the labels, how many fell into each bucket, and the sum. There is one
    /// bucket more than `bounds`, for what lies above all.
    pub fn add_histogram<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        bounds: &[f64],
        samples: impl IntoIterator<Item = ([&'a str; N], Vec<u64>, f64)>,
    ) {
        let mut first = true;
        for (values, counts, sum) in samples {
            if std::mem::take(&mut first) {
                self.write(format_args!(
                    "# HELP {name} {help}\n# TYPE {name} histogram\n"
                ));
            }
            let mut of = String::new();
            for (label, value) in labels.iter().zip(values) {
                // Writing to a String cannot fail.
                let _ = write!(of, "{label}=\"{}\",", escape(value));
            }
            let mut total = 0;
            let bounds = bounds.iter().map(|bound| number_text(*bound));
            let bounds = bounds.chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(counts) {
                total += count;
                self.write(format_args!(
                    "{name}_bucket{{{of}le=\"{bound}\"}} {total}\n"
                ));
            }
            let of = of.trim_end_matches(',');
            let sum = number_text(sum);
            self.write(format_args!(
                "{name}_sum{{{of}}} {sum}\n{name}_count{{{of}}} {total}\n"
            ));
        }
    }

    /// Adds what is known of this process: `process_*`, on Linux only.
    pub fn add_process(&mut self) {
        #[cfg(target_os = "linux")]
        process::add(self);
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

impl From<Metrics> for Response {
    fn from(metrics: Metrics) -> Self {
        Self::body(
            "text/plain; version=0.0.4; charset=utf-8; escaping=values",
            metrics.0,
        )
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('"', "\\\"")
}

/// The shortest digits that say the number, with an exponent below 1e-4 and from 1e6 up, as Go has it.
fn number_text(number: f64) -> String {
    let scientific = format!("{number:e}");
    match scientific
        .split_once('e')
        .map(|(d, e)| (d, e.parse::<i32>()))
    {
        Some((digits, Ok(exponent))) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_a_histogram_are_cumulative() {
        let mut metrics = Metrics::default();
        let samples = [(["a\"b"], vec![2, 0, 1], 7.5)];
        metrics.add_histogram("h", "Help", ["l"], &[0.005, 1.0], samples);
        let expected = "# HELP h Help\n# TYPE h histogram\n\
            h_bucket{l=\"a\\\"b\",le=\"0.005\"} 2\n\
            h_bucket{l=\"a\\\"b\",le=\"1\"} 2\n\
            h_bucket{l=\"a\\\"b\",le=\"+Inf\"} 3\n\
            h_sum{l=\"a\\\"b\"} 7.5\nh_count{l=\"a\\\"b\"} 3\n";
        assert_eq!(metrics.0, expected);
    }

    #[test]
    fn numbers_read_as_in_go() {
        for (number, text) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (300.0, "300"),
            (0.13, "0.13"),
            (999_999.0, "999999"),
            (1e6, "1e+06"),
            (1_052_271.0, "1.052271e+06"),
            (18_446_744_073_709_552_000.0, "1.8446744073709552e+19"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
        ] {
            assert_eq!(number_text(number), text);
        }
    }

    #[test]
    fn text_of_a_metric() {
        let mut metrics = Metrics::default();
        metrics.add(Kind::Gauge, "a", "All of it", [], [([], 2.0)]);
        metrics.add(Kind::Counter, "none", "Not there", ["x"], []);
        let samples = [(["q\"\\\n", "tcp"], 1.0), (["r", "udp"], 2e6)];
        metrics.add(Kind::Counter, "b", "Parts", ["name", "type"], samples);
        assert_eq!(
            Response::from(metrics).bytes(),
            "# HELP a All of it\n# TYPE a gauge\na 2\n\
             # HELP b Parts\n# TYPE b counter\n\
             b{name=\"q\\\"\\\\\\n\",type=\"tcp\"} 1\nb{name=\"r\",type=\"udp\"} 2e+06\n"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_described() {
        let mut metrics = Metrics::default();
        metrics.add_process();
        let names: Vec<_> = metrics
            .0
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(' '))
            .map(|(name, number)| (name, number.parse::<f64>().unwrap() > 0.0))
            .collect();
        for name in [
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_virtual_memory_bytes",
        ] {
            assert!(names.contains(&(name, true)), "{name}: {names:?}");
        }
    }
}
