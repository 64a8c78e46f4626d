//! Tables of medians, as Markdown and as JSON.

use crate::case::Case;
use crate::proc::Machine;
use crate::runner::{Measured, Outcome, Record};
use crate::stats::{Summary, ratio};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Everything a comparison found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where.
    pub(crate) machine: Machine,
    /// What was compared, in column order.
    pub(crate) pairs: Vec<PairInfo>,
    /// The pair that ratios are relative to.
    pub(crate) baseline: String,
    /// What was run.
    pub(crate) cases: Vec<Case>,
    /// The table.
    pub(crate) summary: Vec<Row>,
    /// All that it was made from.
    pub(crate) records: Vec<Record>,
}

/// A pair, for the record.
#[derive(Debug, Serialize)]
pub(crate) struct PairInfo {
    /// Column header.
    pub(crate) name: String,
    /// Program files by role.
    pub(crate) programs: BTreeMap<&'static str, String>,
    /// What each answers when asked for its version.
    pub(crate) versions: BTreeMap<&'static str, String>,
    /// How its tunnel differs from what the cases say, if it does.
    pub(crate) note: Option<&'static str>,
}

/// One metric of one case.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    case: &'static str,
    metric: &'static str,
    more_is_better: bool,
    cpu_unit: Option<&'static str>,
    cells: Vec<Cell>,
}

/// One pair's part of a row.
#[derive(Debug, Serialize)]
struct Cell {
    pair: String,
    value: Option<Summary>,
    ratio: Option<f64>,
    /// Of all the pair's programs, in the row's `cpu_unit`.
    cpu: Option<Summary>,
    cpu_ratio: Option<f64>,
    /// Of the load generator, in the row's `cpu_unit`.
    generator_cpu: Option<Summary>,
    failed: usize,
}

/// Sums up `records`; `pairs` gives the columns, of which the one at `baseline` is the 1 of all ratios.
pub(crate) fn summarize(
    cases: &[Case],
    pairs: &[&str],
    baseline: usize,
    records: &[Record],
) -> Vec<Row> {
    let mut rows = Vec::new();
    for case in cases {
        for (number, metric) in case.load.metrics().iter().enumerate() {
            // CPU time belongs to the case: it stands in its first row.
            let unit = case.load.cpu_unit().filter(|_| number == 0);
            let cell = |pair: &&str| {
                let of_pair = || {
                    records
                        .iter()
                        .filter(|r| r.case == case.name && r.pair == *pair)
                };
                let measured: Vec<&Measured> = of_pair().filter_map(measured).collect();
                let figures = |f: &dyn Fn(&Measured) -> Option<f64>| {
                    Summary::of(&measured.iter().filter_map(|m| f(m)).collect::<Vec<_>>())
                };
                Cell {
                    pair: (*pair).to_owned(),
                    value: figures(&|m| m.values.get(metric.name).copied()),
                    ratio: None,
                    cpu: figures(&|m| Some(unit?.of(m.cpu_seconds.values().sum(), m.work))),
                    cpu_ratio: None,
                    generator_cpu: figures(&|m| Some(unit?.of(m.generator_cpu_seconds, m.work))),
                    failed: of_pair().count() - measured.len(),
                }
            };
            let mut cells: Vec<Cell> = pairs.iter().map(cell).collect();
            let (base, base_cpu) = (cells[baseline].value, cells[baseline].cpu);
            for cell in &mut cells {
                cell.ratio = relative(cell.value, base);
                cell.cpu_ratio = relative(cell.cpu, base_cpu);
            }
            rows.push(Row {
                case: case.name,
                metric: metric.name,
                more_is_better: metric.more_is_better,
                cpu_unit: unit.map(|u| u.name),
                cells,
            });
        }
    }
    rows
}

fn measured(record: &Record) -> Option<&Measured> {
    match &record.outcome {
        Outcome::Measured(measured) => Some(measured),
        Outcome::Failed(_) => None,
    }
}

fn relative(value: Option<Summary>, base: Option<Summary>) -> Option<f64> {
    ratio(value?.median, base?.median)
}

impl Report {
    /// The tables with what they are about, as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = String::from("# Pairs under the same load\n\n");
        let _ = writeln!(
            text,
            "{} × {}, {} MiB, {}; open files {}; load average at the start {}.\n",
            machine.cores,
            machine.cpu,
            machine.memory_kib / 1024,
            machine.kernel,
            machine.open_files,
            machine.load_average
        );
        for pair in &self.pairs {
            let programs: Vec<String> = pair
                .programs
                .iter()
                .map(|(role, path)| {
                    format!(
                        "{role} {} (`{path}`)",
                        pair.versions.get(role).map_or("?", |v| v)
                    )
                })
                .collect();
            let note = pair
                .note
                .map(|note| format!("; {note}"))
                .unwrap_or_default();
            let _ = writeln!(text, "* **{}**: {}{note}", pair.name, programs.join(", "));
        }
        let _ = writeln!(
            text,
            "\nMedian (smallest–largest) of the rounds; ratios are to {}; ↑ more is better, ↓ less is better. CPU is user \
             and system time of all programs of the pair.\n",
            self.baseline
        );
        self.main_table(&mut text);
        text.push_str("\nCPU time of the load generator itself:\n\n");
        self.generator_table(&mut text);
        text
    }

    /// How many measurements failed.
    pub(crate) fn failed(&self) -> usize {
        self.records
            .iter()
            .filter(|record| measured(record).is_none())
            .count()
    }

    /// Pairs that are compared with the baseline.
    fn others(&self) -> impl Iterator<Item = &str> {
        let names = self.pairs.iter().map(|p| p.name.as_str());
        names.filter(|name| *name != self.baseline)
    }

    fn main_table(&self, text: &mut String) {
        let mut header = vec!["case".to_owned(), "metric".to_owned()];
        header.extend(self.pairs.iter().map(|p| p.name.clone()));
        header.extend(
            self.others()
                .map(|name| format!("{name} / {}", self.baseline)),
        );
        header.push("CPU".to_owned());
        header.extend(self.pairs.iter().map(|p| format!("CPU {}", p.name)));
        header.extend(
            self.others()
                .map(|name| format!("CPU {name} / {}", self.baseline)),
        );
        let rows = self.summary.iter().map(|row| {
            let others = || row.cells.iter().filter(|cell| cell.pair != self.baseline);
            let better = if row.more_is_better { '↑' } else { '↓' };
            let mut line = vec![row.case.to_owned(), format!("{} {better}", row.metric)];
            line.extend(row.cells.iter().map(Cell::value));
            line.extend(others().map(|cell| times(cell.ratio)));
            line.push(row.cpu_unit.unwrap_or_default().to_owned());
            line.extend(row.cells.iter().map(|cell| figure(cell.cpu)));
            line.extend(others().map(|cell| times(cell.cpu_ratio)));
            line
        });
        table(text, &header, rows);
    }

    fn generator_table(&self, text: &mut String) {
        let mut header = vec!["case".to_owned(), "unit".to_owned()];
        header.extend(self.pairs.iter().map(|p| format!("with {}", p.name)));
        let rows = self.summary.iter().filter_map(|row| {
            let mut line = vec![row.case.to_owned(), row.cpu_unit?.to_owned()];
            line.extend(row.cells.iter().map(|cell| figure(cell.generator_cpu)));
            Some(line)
        });
        table(text, &header, rows);
    }
}

impl Cell {
    fn value(&self) -> String {
        let figure = figure(self.value);
        match self.failed {
            0 => figure,
            n => format!("{figure} **{n} failed**").trim_start().to_owned(),
        }
    }
}

fn table(text: &mut String, header: &[String], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |", header.join(" | "));
    let _ = writeln!(text, "|{}", "--|".repeat(header.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

fn figure(summary: Option<Summary>) -> String {
    match summary {
        None => String::new(),
        Some(s) if s.rounds == 1 => number(s.median),
        Some(s) => format!("{} ({}–{})", number(s.median), number(s.min), number(s.max)),
    }
}

fn times(ratio: Option<f64>) -> String {
    ratio.map(|r| format!("{r:.2}×")).unwrap_or_default()
}

/// Three significant digits, more for large numbers.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::CASES;

    fn record(round: u32, case: &'static str, pair: &str, value: f64, cpu: f64) -> Record {
        let metric = CASES
            .iter()
            .find(|c| c.name == case)
            .unwrap()
            .load
            .metrics()[0]
            .name;
        Record {
            round,
            case,
            pair: pair.to_owned(),
            outcome: Outcome::Measured(Measured {
                values: [(metric, value)].into(),
                work: 1e9,
                seconds: 1.0,
                cpu_seconds: [("frps", cpu), ("frpc", cpu)].into(),
                resident_kib: [("frps", 1000), ("frpc", 2000)].into(),
                generator_cpu_seconds: 0.25,
            }),
        }
    }

    fn report() -> Report {
        let case = "stream1-up";
        let mut records = vec![
            record(0, case, "ours", 6.0, 0.5),
            record(0, case, "go", 3.0, 2.0),
            record(1, case, "ours", 6.2, 0.5),
            record(1, case, "go", 3.1, 1.5),
            record(2, case, "ours", 5.9, 0.5),
        ];
        records.push(Record {
            round: 2,
            case,
            pair: "go".to_owned(),
            outcome: Outcome::Failed("gone".to_owned()),
        });
        let info = |name: &str| PairInfo {
            name: name.to_owned(),
            programs: [("frps", "/x/frps".to_owned())].into(),
            versions: [("frps", "1.2.3".to_owned())].into(),
            note: None,
        };
        Report {
            machine: Machine {
                cores: 2,
                cpu: "Some CPU".to_owned(),
                kernel: "linux 6".to_owned(),
                memory_kib: 4096,
                open_files: 1000,
                load_average: "0.1 0.2 0.3".to_owned(),
            },
            pairs: vec![info("ours"), info("go")],
            baseline: "go".to_owned(),
            cases: CASES[..1].to_vec(),
            summary: summarize(&CASES[..1], &["ours", "go"], 1, &records),
            records,
        }
    }

    #[test]
    fn the_table_in_markdown() {
        let text = report().markdown();
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).collect();
        assert_eq!(
            lines,
            [
                "| case | metric | ours | go | ours / go | CPU | CPU ours | CPU go | CPU ours / go |",
                "|--|--|--|--|--|--|--|--|--|",
                "| stream1-up | Gbit/s ↑ | 6.00 (5.90–6.20) | 3.05 (3.00–3.10) **1 failed** | 1.97× | s/GB \
                 | 1.00 (1.00–1.00) | 3.50 (3.00–4.00) | 0.29× |",
                "| case | unit | with ours | with go |",
                "|--|--|--|--|",
                "| stream1-up | s/GB | 0.25 (0.25–0.25) | 0.25 (0.25–0.25) |",
            ]
        );
        assert_eq!(report().failed(), 1);
        assert!(text.contains("2 × Some CPU, 4 MiB, linux 6"));
        assert!(text.contains("* **go**: frps 1.2.3 (`/x/frps`)\n"));
        let mut noted = report();
        noted.pairs[1].note = Some("without TLS");
        assert!(noted.markdown().contains("(`/x/frps`); without TLS\n"));
    }

    #[test]
    fn a_pair_without_results_leaves_blanks() {
        let rows = summarize(
            &CASES[..1],
            &["ours", "go"],
            1,
            &[record(0, "stream1-up", "ours", 1.0, 1.0)],
        );
        assert_eq!(rows[0].cells[1].value, None);
        assert_eq!(rows[0].cells[0].ratio, None);
    }

    #[test]
    fn json_holds_every_round() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["records"].as_array().unwrap().len(), 6);
        assert_eq!(json["records"][0]["measured"]["values"]["Gbit/s"], 6.0);
        assert_eq!(json["records"][5]["failed"], "gone");
        assert_eq!(json["summary"][0]["cells"][0]["value"]["median"], 6.0);
        assert_eq!(json["machine"]["cores"], 2);
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(
            [0.205, 12.345, 4321.9].map(number),
            ["0.20", "12.3", "4322"]
        );
    }
}
