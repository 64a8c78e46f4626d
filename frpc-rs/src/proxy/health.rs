//! Health checks of local services (client.md §7): a proxy is announced only while its service answers.

mod http;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use frp_proto::config::raw::client::ProxyBase;
use frp_proto::net::dial::{DialOptions, dial};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// Seconds between two checks, where the configuration does not say.
const INTERVAL_SECS: u64 = 10;
/// Seconds a check may take, where the configuration does not say.
const TIMEOUT_SECS: u64 = 3;
/// Longest time that can be configured; the clock must be able to hold what is added to it.
const MAX_SECS: u64 = 365 * 24 * 3600;
/// Of the connections that checks make; they never live as long.
const KEEPALIVE_SECS: i64 = -1;

/// How a service is checked.
#[derive(Debug)]
pub(crate) struct Check {
    probe: Probe,
    /// From the end of a check to the next one.
    interval: Duration,
    max_failed: u64,
}

#[derive(Debug)]
enum Probe {
    /// It accepts connections.
    Tcp(DialOptions),
    /// It answers a request with a status 2xx.
    Http(http::Probe),
}

impl Check {
    /// What the configuration asks for. A proxy without a local port has nothing to check.
    pub(super) fn new(base: &ProxyBase) -> Option<Self> {
        let config = &base.health_check;
        let port = u16::try_from(base.local_port).ok().filter(|p| *p != 0)?;
        let local = DialOptions {
            host: base.local_ip.clone(),
            port,
            timeout: Duration::from_secs(or_default(config.timeout_seconds, TIMEOUT_SECS)),
            keepalive_secs: KEEPALIVE_SECS,
            local_ip: None,
        };
        let probe = match config.type_.as_str() {
            "tcp" => Probe::Tcp(local),
            "http" => Probe::Http(http::Probe::new(local, config)),
            _ => return None,
        };
        Some(Self {
            probe,
            interval: Duration::from_secs(or_default(config.interval_seconds, INTERVAL_SECS)),
            max_failed: or_default(config.max_failed, 1),
        })
    }

    /// One check, within its time limit.
    async fn run(&self) -> Result<(), String> {
        match &self.probe {
            Probe::Tcp(local) => dial(local).await.map(drop).map_err(|e| e.to_string()),
            Probe::Http(probe) => probe.run().await,
        }
    }
}

/// A positive number, or the default.
fn or_default(n: i64, default: u64) -> u64 {
    let configured = u64::try_from(n).ok().filter(|n| *n > 0);
    configured.unwrap_or(default).min(MAX_SECS)
}

/// Whether a service counts as healthy: not before one success, and until so many failures in a row.
#[derive(Debug, Default)]
struct Health {
    ok: bool,
    failed: u64,
}

impl Health {
    /// Takes the outcome of a check; says whether that changed anything.
    fn record(&mut self, success: bool, max_failed: u64) -> bool {
        let before = self.ok;
        if success {
            (self.ok, self.failed) = (true, 0);
        } else {
            self.failed += 1;
            self.ok &= self.failed < max_failed;
        }
        before != self.ok
    }
}

/// Checks one service over and over. Dropping it ends the checks.
#[derive(Debug)]
pub(super) struct Monitor {
    ok: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Monitor {
    /// The first check is made at once. Whoever waits for `wake` is told of every change.
    pub(super) fn start(
        check: Arc<Check>,
        run_id: Arc<str>,
        name: &str,
        wake: Arc<Notify>,
    ) -> Self {
        let ok = Arc::new(AtomicBool::new(false));
        let task = watch(check, run_id, name.to_owned(), ok.clone(), wake);
        Self {
            ok,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    /// Whether the service is healthy now.
    pub(super) fn is_ok(&self) -> bool {
        self.ok.load(Ordering::Acquire)
    }
}

async fn watch(
    check: Arc<Check>,
    run_id: Arc<str>,
    name: String,
    ok: Arc<AtomicBool>,
    wake: Arc<Notify>,
) {
    let mut health = Health::default();
    loop {
        let outcome = check.run().await;
        match &outcome {
            Ok(()) => {
                tracing::trace!(run_id = %run_id, proxy = %name, "do one health check success");
            }
            Err(e) => {
                tracing::warn!(run_id = %run_id, proxy = %name, "do one health check failed: {e}");
            }
        }
        if health.record(outcome.is_ok(), check.max_failed) {
            ok.store(health.ok, Ordering::Release);
            if health.ok {
                tracing::info!(run_id = %run_id, proxy = %name, "health check status change to success");
                tracing::info!(run_id = %run_id, proxy = %name, "health check success");
            } else {
                tracing::warn!(run_id = %run_id, proxy = %name, "health check status change to failed");
                tracing::info!(run_id = %run_id, proxy = %name, "health check failed");
            }
            wake.notify_one();
        }
        sleep(check.interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frp_proto::config::raw::client::HealthCheckConfig;
    use tokio::net::TcpListener;

    pub(super) fn base(port: u16, type_: &str) -> ProxyBase {
        ProxyBase {
            name: "web".into(),
            local_ip: "127.0.0.1".into(),
            local_port: port.into(),
            health_check: HealthCheckConfig {
                type_: type_.into(),
                path: "/".into(),
                ..HealthCheckConfig::default()
            },
            ..ProxyBase::default()
        }
    }

    #[test]
    fn healthy_after_one_success_until_so_many_failures_in_a_row() {
        let mut health = Health::default();
        let changes: Vec<bool> = [false, true, false, true, false, false, false, true]
            .into_iter()
            .map(|success| health.record(success, 2))
            .collect();
        assert_eq!(
            changes,
            [false, true, false, false, false, true, false, true]
        );
    }

    #[test]
    fn defaults_and_what_is_not_checked() {
        let check = Check::new(&base(80, "tcp")).unwrap();
        assert_eq!(
            (check.interval.as_secs(), check.max_failed),
            (INTERVAL_SECS, 1)
        );
        assert!(Check::new(&base(0, "tcp")).is_none());
        assert!(Check::new(&base(80, "")).is_none());
        let mut long = base(80, "http");
        long.health_check.interval_seconds = i64::MAX;
        long.health_check.max_failed = -1;
        let check = Check::new(&long).unwrap();
        assert_eq!((check.interval.as_secs(), check.max_failed), (MAX_SECS, 1));
    }

    #[tokio::test]
    async fn a_monitor_follows_its_service() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut base = base(address.port(), "tcp");
        base.health_check.interval_seconds = 1;
        let wake = Arc::new(Notify::new());
        let check = Arc::new(Check::new(&base).unwrap());
        let monitor = Monitor::start(check, "run".into(), "web", wake.clone());
        assert!(!monitor.is_ok());
        wake.notified().await;
        assert!(monitor.is_ok());
        drop(listener);
        wake.notified().await;
        assert!(!monitor.is_ok());
        let _listener = TcpListener::bind(address).await.unwrap();
        wake.notified().await;
        assert!(monitor.is_ok());
    }
}
