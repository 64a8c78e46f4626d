//! Agents of local services (balancing.md §7), as `HAProxy` has them: a port that says in a line how the service is. The line
//! goes to the server that balances it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use balancer::{AgentReport, MAX_AGENT_LINE};
use frp_proto::config::raw::client::ProxyBase;
use frp_proto::net::dial::{DialOptions, dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

/// An answer takes no longer, however seldom the agent is asked.
const MAX_LIMIT: Duration = Duration::from_secs(10);
/// Of the connections to agents; they never live as long.
const KEEPALIVE_SECS: i64 = -1;

/// Where an agent is, and how it is asked.
#[derive(Debug)]
pub(crate) struct Agent {
    address: DialOptions,
    send: String,
    interval: Duration,
}

impl Agent {
    /// What the configuration asks for. The agent of a service that is in no group has nobody to talk to.
    pub(crate) fn new(base: &ProxyBase) -> Option<Self> {
        let balancing = &base.load_balancer;
        // Only these keys: the others may not be complete without rules of the server.
        let mut keys: BTreeMap<String, String> = balancing.keys.flat();
        keys.retain(|key, _| key.starts_with("agent."));
        let config = balancer::parse(&keys, true).ok()?.agent;
        if config.port == 0 || balancing.group.is_empty() {
            return None;
        }
        let host = if config.address.is_empty() {
            base.local_ip.clone()
        } else {
            config.address
        };
        Some(Self {
            address: DialOptions {
                host,
                port: config.port,
                timeout: config.interval.min(MAX_LIMIT),
                keepalive_secs: KEEPALIVE_SECS,
                local_ip: None,
            },
            send: config.send,
            interval: config.interval,
        })
    }

    /// Where it is.
    pub(crate) fn target(&self) -> (&str, u16) {
        (&self.address.host, self.address.port)
    }

    /// What it says now. An agent that cannot be reached says nothing.
    async fn ask(&self) -> io::Result<String> {
        let mut stream = dial(&self.address).await.map_err(io::Error::other)?;
        stream.write_all(self.send.as_bytes()).await?;
        let mut line = Vec::new();
        while !line.contains(&b'\n') && line.len() <= MAX_AGENT_LINE {
            if stream.read_buf(&mut line).await? == 0 {
                break;
            }
        }
        let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        line.truncate(end.unwrap_or(line.len()));
        String::from_utf8(line).map_err(|_| io::Error::other("what it says is no text"))
    }
}

/// Asks an agent over and over. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Watch {
    latest: Arc<Latest>,
    _task: AbortOnDropHandle<()>,
}

/// The line that was said last, and whether the server knows it.
#[derive(Debug, Default)]
struct Latest(Mutex<(String, bool)>);

impl Latest {
    fn lock(&self) -> MutexGuard<'_, (String, bool)> {
        // Both are replaced at once.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a line; whether it is another one.
    fn hear(&self, line: &str) -> bool {
        let mut latest = self.lock();
        let news = latest.0 != line;
        if news {
            *latest = (line.to_owned(), false);
        }
        news
    }
}

impl Watch {
    /// The agent is asked at once. Whoever waits for `wake` is told when it says something else.
    pub(super) fn start(agent: Arc<Agent>, name: &str, wake: Arc<Notify>) -> Self {
        let latest = Arc::<Latest>::default();
        let task = watch(agent, name.to_owned(), latest.clone(), wake);
        Self {
            latest,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    /// What the server does not know yet; it does from now on.
    pub(super) fn take(&self) -> Option<String> {
        let mut latest = self.latest.lock();
        let news = !latest.0.is_empty() && !std::mem::replace(&mut latest.1, true);
        news.then(|| latest.0.clone())
    }

    /// The server knows nothing.
    pub(super) fn forget(&self) {
        self.latest.lock().1 = false;
    }
}

async fn watch(agent: Arc<Agent>, name: String, latest: Arc<Latest>, wake: Arc<Notify>) {
    let mut ticks = interval(agent.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let limit = agent.interval.min(MAX_LIMIT);
    let mut silent = false;
    loop {
        ticks.tick().await;
        let answer = timeout(limit, agent.ask()).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let line = answer.map_err(|e| e.to_string()).and_then(|line| {
            AgentReport::parse(&line).map_err(|e| e.to_string())?;
            Ok(line)
        });
        match line {
            Ok(line) => {
                silent = false;
                if latest.hear(&line) {
                    tracing::info!(proxy = %name, "agent says [{line}]");
                    wake.notify_one();
                }
            }
            // Once, and then again when it has answered in between.
            Err(e) if !std::mem::replace(&mut silent, true) => {
                tracing::warn!(proxy = %name, "agent: {e}");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    /// An agent that says these lines, one a connection, to whoever says hello.
    async fn agent(lines: &'static [&'static [u8]]) -> Agent {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for line in lines {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_exact(&mut [0; 3]).await.unwrap();
                stream.write_all(line).await.unwrap();
            }
        });
        let keys = crate::proxy::tests::config("web", 80).base;
        let mut base = keys;
        base.local_ip = "127.0.0.1".into();
        base.load_balancer.group = "g".into();
        let said = |text: &str| frp_proto::config::raw::balancing::Setting(Some(text.into()));
        base.load_balancer.keys.agent = Some(frp_proto::config::raw::balancing::AgentKeys {
            port: said(&port.to_string()),
            send: said("hi\n"),
            interval: said("100ms"),
            ..Default::default()
        });
        Agent::new(&base).unwrap()
    }

    #[tokio::test]
    async fn an_agent_is_asked_until_it_says_something_else() {
        let agent = agent(&[b"50%\n", b"50%", b"what?\n", b"\xff\n", b"drain\r\nup\n"]).await;
        let wake = Arc::new(Notify::new());
        let watch = Watch::start(Arc::new(agent), "web", wake.clone());
        wake.notified().await;
        assert_eq!(watch.take().as_deref(), Some("50%"));
        assert_eq!(watch.take(), None);
        watch.forget();
        assert_eq!(watch.take().as_deref(), Some("50%"));
        wake.notified().await;
        assert_eq!(watch.take().as_deref(), Some("drain"));
    }

    #[test]
    fn without_a_group_or_a_port_there_is_none() {
        assert!(Agent::new(&crate::proxy::tests::config("web", 80).base).is_none());
    }
}
