//! What runs, for `/debug/pprof/goroutine`. Anybody may read it, so it names no client, no proxy and no run id.

use std::fmt::Write as _;

use crate::Shared;

pub(super) fn list(shared: &Shared) -> String {
    let mut out = String::new();
    let runtime = tokio::runtime::Handle::current().metrics();
    let sessions = shared.sessions.running();
    let proxies = shared.stats.proxies();
    let online: Vec<_> = proxies.iter().filter(|p| p.online.is_some()).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{} tasks alive, {} of the server; {} worker threads",
        runtime.num_alive_tasks(),
        shared.tasks.len(),
        runtime.num_workers()
    );
    let _ = writeln!(out, "\n{} sessions", sessions.len());
    for (n, session) in sessions.iter().enumerate() {
        let _ = writeln!(
            out,
            "session {} [running]: wire {:?}, pool {}",
            n + 1,
            session.version,
            session.pool_count
        );
    }
    let _ = writeln!(out, "\n{} proxies", online.len());
    for (n, proxy) in online.iter().enumerate() {
        let _ = writeln!(
            out,
            "proxy {} [{}]: {} user connections",
            n + 1,
            proxy.kind,
            proxy.connections
        );
    }
    out
}
