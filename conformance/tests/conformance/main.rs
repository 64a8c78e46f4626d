//! The conformance suite: every case over every pairing of programs found. CONTRIBUTING tells how to run it.

mod auth;
mod balancing;
mod bandwidth;
mod command_line;
mod dashboard;
mod frpc_admin;
mod frps_admin;
mod groups;
mod half_close;
mod health;
mod hostile;
mod http;
mod https;
mod load;
mod management;
#[cfg(target_os = "linux")]
mod nat;
mod negative;
mod observability;
mod oidc;
mod openapi;
mod outer_proxy;
mod panel;
mod plugins;
mod pool;
mod protocol_auto;
mod proxy_protocol_in;
mod push;
mod reconnect;
mod registration;
mod reload;
mod replay;
mod scale;
mod server_plugin;
mod shared_port;
mod silent;
mod software;
mod ssh_gateway;
mod stcp;
mod stop;
mod store;
mod sudp;
mod tcpmux;
mod tls;
mod transports;
mod tunnel;
mod udp;
mod verify;
#[cfg(target_os = "linux")]
mod virtual_network;
mod xtcp;

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
    suite.extend(transports::cases());
    suite.extend(outer_proxy::cases());
    suite.extend(protocol_auto::cases());
    suite.extend(auth::cases());
    suite.extend(frps_admin::cases());
    suite.extend(registration::cases());
    suite.extend(pool::cases());
    suite.extend(groups::cases());
    suite.extend(balancing::cases());
    suite.extend(https::cases());
    suite.extend(proxy_protocol_in::cases());
    suite.extend(shared_port::cases());
    suite.extend(tcpmux::cases());
    suite.extend(half_close::cases());
    suite.extend(reconnect::cases());
    suite.extend(silent::cases());
    suite.extend(stop::cases());
    suite.extend(hostile::cases());
    suite.extend(negative::cases());
    suite.extend(observability::cases());
    suite.extend(http::cases());
    suite.extend(plugins::cases());
    suite.extend(health::cases());
    suite.extend(reload::cases());
    suite.extend(frpc_admin::cases());
    suite.extend(store::cases());
    suite.extend(command_line::cases());
    suite.extend(dashboard::cases());
    suite.extend(management::cases());
    suite.extend(push::cases());
    suite.extend(openapi::cases());
    suite.extend(panel::cases());
    suite.extend(scale::cases());
    suite.extend(verify::cases());
    suite.extend(load::cases());
    suite.extend(udp::cases());
    suite.extend(stcp::cases());
    suite.extend(sudp::cases());
    suite.extend(xtcp::cases());
    #[cfg(target_os = "linux")]
    suite.extend(nat::cases());
    #[cfg(target_os = "linux")]
    suite.extend(virtual_network::cases());
    suite.extend(server_plugin::cases());
    suite.extend(bandwidth::cases());
    suite.extend(ssh_gateway::cases());
    suite.extend(oidc::cases());
    suite.extend(software::cases());
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
