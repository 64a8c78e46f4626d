//! The conformance suite: every case over every pairing of programs found. CONTRIBUTING tells how to run it.

mod auth;
mod bandwidth;
mod half_close;
mod hostile;
mod load;
mod negative;
mod oidc;
mod pool;
mod reconnect;
mod registration;
mod replay;
mod server_plugin;
mod silent;
mod ssh_gateway;
mod stop;
mod tls;
mod tunnel;

use std::path::PathBuf;
use std::process::ExitCode;

use conformance::peers::{Environment, Peers};
use conformance::{Outcome, Suite};
use libtest_mimic::Arguments;

/// Trials at a time: most of them wait most of the time.
const THREADS_PER_CORE: usize = 3;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<ExitCode> {
    let mut arguments = Arguments::from_args();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    arguments
        .test_threads
        .get_or_insert(THREADS_PER_CORE * cores);
    let environment = environment();
    let peers = Peers::find(&environment, &std::env::current_exe()?)?;
    let mut suite = Suite::default();
    suite.extend(tunnel::cases());
    suite.extend(tls::cases());
    suite.extend(auth::cases());
    suite.extend(registration::cases());
    suite.extend(pool::cases());
    suite.extend(half_close::cases());
    suite.extend(reconnect::cases());
    suite.extend(silent::cases());
    suite.extend(stop::cases());
    suite.extend(hostile::cases());
    suite.extend(negative::cases());
    suite.extend(load::cases());
    suite.extend(server_plugin::cases());
    suite.extend(bandwidth::cases());
    suite.extend(ssh_gateway::cases());
    suite.extend(oidc::cases());
    suite.extend(replay::cases()?);
    Ok(libtest_mimic::run(&arguments, suite.trials(&peers, environment.long)).exit_code())
}

fn environment() -> Environment {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    Environment {
        upstream: path("FRP_UPSTREAM_DIR"),
        cache: path("XDG_CACHE_HOME"),
        home: path("HOME"),
        cargo: path("CARGO"),
        long: std::env::var_os("FRP_CONFORMANCE_LONG").is_some_and(|v| v != "0" && !v.is_empty()),
    }
}
