//! The same load on whole pairs of tunnel programs, side by side.
//!
//! `compare` starts each pair on loopback, sends the same load through its tunnel, and reports medians of several
//! rounds with ratios and with the CPU time the pair needed. Build with `--release`: the load generator shares the
//! machine with what it measures.

mod case;
mod error;
mod load;
mod meter;
mod pair;
mod proc;
mod report;
mod runner;
mod stats;

use case::{CASES, Case};
use clap::Parser;
use error::Error;
use load::payload::Payload;
use pair::Pair;
use report::{PairInfo, Report};
use runner::Settings;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the same load on pairs of frps and frpc in alternating rounds and compares them.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// A pair: a directory with frps and frpc, `NAME=frps:PATH,frpc:PATH`, for the cases of groups `NAME=haproxy:PATH`,
    /// or for those of plain TCP and UDP `NAME=rathole:PATH`. May be repeated; `ours` (next to this program) and `go` (`$FRP_UPSTREAM_DIR`, or
    /// frp-upstream in the user's cache directory) are there when no pair of frps and frpc is named.
    #[arg(long = "pair", value_name = "NAME=DIR")]
    pairs: Vec<String>,
    /// How often everything is repeated.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Cases to run, by name.
    #[arg(long, value_delimiter = ',', value_name = "CASE")]
    cases: Vec<String>,
    /// Choose the volume of each case so that the baseline needs about this long.
    #[arg(long, value_parser = positive)]
    seconds: Option<f64>,
    /// Multiply the volume of every case.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    scale: f64,
    /// What streams carry, over and over; default: text-like data that compresses to about half.
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// The pair that ratios are relative to; default: `go`, or else the last.
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Write the report as Markdown.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the report with all rounds as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the names of the cases and end.
    #[arg(long)]
    list: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("expected a number above 0".to_owned()),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        for case in CASES {
            println!("{}", case.name);
        }
        return ExitCode::SUCCESS;
    }
    let result = default_pairs(&cli).and_then(|pairs| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(Error::io("starting the runtime"))?;
        runtime.block_on(async {
            // Whichever ends first: dropping the run ends every program it started.
            tokio::select! {
                result = compare(&cli, &pairs) => result,
                () = told_to_stop() => Err(Error::Usage("stopped".to_owned())),
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("compare: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(cli: &Cli, pairs: &[Pair]) -> Result<(), Error> {
    let open_files = proc::raise_open_files();
    let machine = proc::Machine::look(open_files);
    let cases = choose_cases(&cli.cases, open_files)?;
    let baseline = choose_baseline(cli.baseline.as_deref(), pairs)?;
    let settings = Settings {
        rounds: cli.rounds,
        scale: cli.scale,
        seconds: cli.seconds,
        baseline,
        payload: Arc::new(payload(cli.payload.as_deref())?),
    };
    let records = runner::run(&cases, pairs, &settings).await?;
    let names: Vec<&str> = pairs.iter().map(|p| p.name.as_str()).collect();
    let report = Report {
        machine,
        pairs: pairs.iter().map(describe).collect(),
        baseline: pairs[baseline].name.clone(),
        summary: report::summarize(&cases, &names, baseline, &records),
        cases,
        records,
    };
    let failed = report.failed();
    let markdown = report.markdown();
    println!("{markdown}");
    if let Some(path) = &cli.out {
        std::fs::write(path, &markdown).map_err(Error::at("writing", path))?;
    }
    if let Some(path) = &cli.json {
        let json = serde_json::to_vec_pretty(&report).expect("figures and names are plain data");
        std::fs::write(path, json).map_err(Error::at("writing", path))?;
    }
    match failed {
        0 => Ok(()),
        n => Err(Error::Load(format!(
            "{n} measurements failed; the rest is in the report"
        ))),
    }
}

fn payload(file: Option<&Path>) -> Result<Payload, Error> {
    let Some(file) = file else {
        return Ok(Payload::new());
    };
    let bytes = std::fs::read(file).map_err(Error::at("reading", file))?;
    Payload::of(&bytes).ok_or_else(|| Error::Usage(format!("{} is empty", file.display())))
}

fn describe(pair: &Pair) -> PairInfo {
    let programs = pair.kind.programs().into_iter();
    PairInfo {
        name: pair.name.clone(),
        programs: programs
            .map(|(role, path)| (role, path.display().to_string()))
            .collect(),
        versions: pair.versions().into_iter().collect(),
        note: pair.kind.note(),
    }
}

/// The pairs of the command line, which must be there, or those of the default places that are.
fn default_pairs(cli: &Cli) -> Result<Vec<Pair>, Error> {
    let mut pairs = Vec::new();
    let named: Vec<Pair> =
        (cli.pairs.iter().map(|text| Pair::parse(text))).collect::<Result<_, _>>()?;
    if !named
        .iter()
        .any(|pair| matches!(pair.kind, pair::Kind::Frp(_)))
    {
        let ours = std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_owned));
        for (name, directory) in [("ours", ours), ("go", upstream_directory())] {
            let pair = directory
                .as_deref()
                .map(|directory| Pair::frp_in(name, directory));
            match pair {
                None => eprintln!("{name}: skipped: no place to look for it is known"),
                Some(pair) => match pair.missing() {
                    Some(path) => eprintln!("{name}: skipped: no {}", path.display()),
                    None => pairs.push(pair),
                },
            }
        }
    }
    for pair in named {
        if let Some(path) = pair.missing() {
            return Err(Error::Usage(format!(
                "{}: no {}",
                pair.name,
                path.display()
            )));
        }
        if pairs.iter().any(|other| other.name == pair.name) {
            return Err(Error::Usage(format!("two pairs are named {}", pair.name)));
        }
        pairs.push(pair);
    }
    if pairs.is_empty() {
        return Err(Error::Usage("no pair to run; see --pair".to_owned()));
    }
    Ok(pairs)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the `main` that reads the environment"
)]
fn upstream_directory() -> Option<PathBuf> {
    let variable = |name: &str| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("FRP_UPSTREAM_DIR").or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        Some(cache?.join("frp-upstream"))
    })
}

fn choose_cases(names: &[String], open_files: u64) -> Result<Vec<Case>, Error> {
    let mut cases = CASES.to_vec();
    if !names.is_empty() {
        if let Some(unknown) = names
            .iter()
            .find(|name| CASES.iter().all(|c| c.name != **name))
        {
            return Err(Error::Usage(format!(
                "no case is named {unknown}; see --list"
            )));
        }
        cases.retain(|case| names.iter().any(|name| case.name == name));
    }
    for case in &cases {
        // This process holds both ends of every idle connection: the user's and the service's.
        if let case::Load::Idle { connections } = case.load
            && open_files < connections * 2 + 100
        {
            eprintln!(
                "{}: the limit of {open_files} open files is too low for it",
                case.name
            );
        }
    }
    Ok(cases)
}

fn choose_baseline(name: Option<&str>, pairs: &[Pair]) -> Result<usize, Error> {
    let find = |name: &str| pairs.iter().position(|pair| pair.name == name);
    match name {
        Some(name) => {
            find(name).ok_or_else(|| Error::Usage(format!("--baseline {name}: no such pair")))
        }
        None => Ok(find("go").unwrap_or(pairs.len() - 1)),
    }
}

#[cfg(unix)]
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

#[cfg(not(unix))]
async fn told_to_stop() {
    drop(tokio::signal::ctrl_c().await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["compare", "--scale", "0"]).is_err());
        let cli = Cli::try_parse_from(["compare", "--cases", "newconn,pingpong"]).unwrap();
        let cases = choose_cases(&cli.cases, u64::MAX).unwrap();
        assert_eq!(
            cases.iter().map(|c| c.name).collect::<Vec<_>>(),
            ["newconn", "pingpong"]
        );
        assert!(choose_cases(&["nothing".to_owned()], u64::MAX).is_err());
    }

    #[test]
    fn go_is_the_baseline_or_else_the_last() {
        let pairs = |names: &[&str]| -> Vec<Pair> {
            names
                .iter()
                .map(|name| Pair::frp_in(name, Path::new("/")))
                .collect()
        };
        assert_eq!(choose_baseline(None, &pairs(&["go", "old"])).unwrap(), 0);
        assert_eq!(choose_baseline(None, &pairs(&["ours", "old"])).unwrap(), 1);
        assert_eq!(
            choose_baseline(Some("ours"), &pairs(&["ours", "go"])).unwrap(),
            0
        );
        assert!(choose_baseline(Some("x"), &pairs(&["ours"])).is_err());
    }
}
