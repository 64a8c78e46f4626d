//! [`Lab`]: what a running case has. [`Setup`] says how a pair shall be, [`Pair`] is one that runs.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::config::{Config, Keys, Proxy, Value};
use crate::peers::Programs;
use crate::process::Process;
use crate::wait::{self, LIMIT};
use crate::{Failure, Outcome, ports, service};

/// The token of programs that are told no other.
pub const TOKEN: &str = "conformance";
/// The name of the proxy in [`Setup`].
pub const PROXY: &str = "web";
/// The name of visitors.
pub const VISITOR: &str = "visitor";
/// Lines of each log in the report of a failure.
const LOG_LINES: usize = 25;
/// How often a start is tried anew because a port was taken between choosing and binding it.
const TRIES: usize = 3;

/// What a case has: the two programs, a directory, and the logs of all it started.
pub struct Lab {
    /// Makes frps.
    pub frps: Programs,
    /// Makes frpc.
    pub frpc: Programs,
    /// Whether minutes do not matter.
    pub long: bool,
    directory: TempDir,
    logs: RefCell<Vec<PathBuf>>,
    variables: RefCell<Vec<(&'static str, String)>>,
}

impl Lab {
    /// An empty directory and two programs.
    pub fn new(frps: Programs, frpc: Programs, long: bool) -> Outcome<Self> {
        Ok(Self {
            frps,
            frpc,
            long,
            directory: tempfile::Builder::new().prefix("conformance-").tempdir()?,
            logs: RefCell::default(),
            variables: RefCell::default(),
        })
    }

    /// Where the case keeps its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file for the programs and returns its path for configurations.
    pub fn file(&self, name: &str, content: &str) -> Outcome<String> {
        let path = self.directory().join(name);
        std::fs::write(&path, content)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Adds an environment variable to the programs that are started from now on.
    pub fn variable(&self, name: &'static str, value: &str) {
        let mut variables = self.variables.borrow_mut();
        variables.push((name, value.to_owned()));
    }

    /// Runs a program of somebody else.
    pub fn run(&self, role: &str, command: Command) -> Outcome<Process> {
        Process::run(command, self.log(role))
    }

    /// Another log.
    fn log(&self, role: &str) -> PathBuf {
        let mut logs = self.logs.borrow_mut();
        let log = self.directory().join(format!("{}-{role}.log", logs.len()));
        logs.push(log.clone());
        log
    }

    /// Runs frps with this configuration.
    pub fn start_frps(&self, config: &Config) -> Outcome<Process> {
        self.start(&self.frps, "frps", config)
    }

    /// Runs frpc with this configuration.
    pub fn start_frpc(&self, config: &Config) -> Outcome<Process> {
        self.start(&self.frpc, "frpc", config)
    }

    /// Runs frpc with a file of this directory.
    pub fn start_frpc_with(&self, file: &str) -> Outcome<Process> {
        self.start_with(&self.frpc, "frpc", ["-c", file].map(str::to_owned))
    }

    /// Runs a program (`role` is its name) with these arguments.
    pub fn start_with(
        &self,
        programs: &Programs,
        role: &str,
        arguments: impl IntoIterator<Item = String>,
    ) -> Outcome<Process> {
        let log = self.log(role);
        let arguments: Vec<String> = arguments.into_iter().collect();
        let variables = self.variables.borrow();
        Process::start(&programs.path(role), &arguments, log, &variables)
    }

    /// Runs a program of anybody's with this configuration.
    pub fn start(&self, programs: &Programs, role: &str, config: &Config) -> Outcome<Process> {
        let file = self.config_file(programs, role, config)?;
        self.start_with(programs, role, ["-c".to_owned(), file])
    }

    /// The same on a host of its own.
    #[cfg(target_os = "linux")]
    pub fn start_on(
        &self,
        host: &crate::namespace::Host,
        programs: &Programs,
        role: &str,
        config: &Config,
    ) -> Outcome<Process> {
        let mut command = host.command(&programs.path(role));
        command.args(["-c", &self.config_file(programs, role, config)?]);
        self.run(role, command)
    }

    /// Writes the configuration of the program that is started next.
    fn config_file(&self, programs: &Programs, role: &str, config: &Config) -> Outcome<String> {
        let ini = programs.maker.reads_ini();
        let number = self.logs.borrow().len();
        let file = format!("{number}-{role}.{}", if ini { "ini" } else { "toml" });
        self.file(&file, &config.render(ini))
    }

    /// A pair with upstream's defaults: token, TLS, mux, one `tcp` proxy to an echo service.
    pub fn setup(&self) -> Setup<'_> {
        let mut setup = Setup {
            lab: self,
            frps: Config::default(),
            frpc: Config::default(),
            proxy: Proxy {
                name: PROXY.into(),
                keys: Keys::default(),
            },
            service: service::Kind::Echo,
            udp_port: None,
        };
        for config in [&mut setup.frps, &mut setup.frpc] {
            config.keys.set("auth.token", TOKEN);
            config.keys.set("log.level", "trace");
            config.keys.set("log.disablePrintColor", true);
        }
        setup.frps.keys.set("bindAddr", "127.0.0.1");
        setup.frps.keys.set("proxyBindAddr", "127.0.0.1");
        setup.frpc.keys.set("serverAddr", "127.0.0.1");
        setup
    }

    /// The end of every log, for the report of a failure.
    pub fn report(&self) -> String {
        let mut report = String::new();
        for path in self.logs.borrow().iter() {
            let text = std::fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                let _ = writeln!(report, "  {name}: {line}");
            }
        }
        report
    }
}

/// How a pair shall be: upstream's defaults but for what is set.
#[derive(Clone)]
#[must_use]
pub struct Setup<'a> {
    lab: &'a Lab,
    frps: Config,
    frpc: Config,
    proxy: Proxy,
    service: service::Kind,
    /// Key of a UDP port of frps that has the number of the TCP port.
    udp_port: Option<&'static str>,
}

impl Setup<'_> {
    /// Sets a key of frps.
    pub fn frps(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.frps.keys.set(key, value);
        self
    }

    /// Sets a key of frpc.
    pub fn frpc(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.frpc.keys.set(key, value);
        self
    }

    /// Sets a key of both.
    pub fn both(self, key: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.frps(key, value.clone()).frpc(key, value)
    }

    /// Sets a key of the proxy.
    pub fn proxy(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.proxy.keys.set(key, value);
        self
    }

    /// frps also serves clients on UDP, on the port of the same number.
    pub fn udp_port(mut self, key: &'static str) -> Self {
        self.udp_port = Some(key);
        self
    }

    /// What is behind the proxy.
    pub fn service(mut self, kind: service::Kind) -> Self {
        self.service = kind;
        self
    }

    /// Another name for the proxy.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.proxy.name);
        self
    }

    /// The wire protocol, `v1` or `v2`. Programs that know only v1 are not told.
    pub fn wire(self, version: &str) -> Self {
        if version == "v1" {
            self
        } else {
            self.frpc("transport.wireProtocol", version)
        }
    }

    /// Starts frps and waits until it serves.
    pub async fn start_server(&self) -> Outcome<(Process, u16)> {
        for _ in 1..TRIES {
            match self.try_start_server(ports::free()).await {
                Ok((_, _, true)) => {}
                other => return other.map(|(process, port, _)| (process, port)),
            }
        }
        let last = self.try_start_server(ports::free()).await;
        last.map(|(process, port, _)| (process, port))
    }

    /// Starts frps on a port; also says whether the port was taken.
    async fn try_start_server(&self, port: u16) -> Outcome<(Process, u16, bool)> {
        let config = self.server(port);
        let mut process = self.lab.start_frps(&config)?;
        let taken = wait::until("frps serves", LIMIT, async || {
            let log = process.log();
            if log.contains("frps started successfully") {
                Some(Ok(false))
            } else if log.contains("address already in use") {
                Some(Ok(true))
            } else {
                process.ended().map(Err)
            }
        });
        match taken.await? {
            Ok(taken) => Ok((process, port, taken)),
            Err(status) => Err(Failure::new(format!("frps ended: {status}"))),
        }
    }

    /// Starts frpc towards a server on `port`, with the proxy on `remote`, and does not wait.
    pub async fn start_client(&self, port: u16, remote: u16) -> Outcome<Process> {
        let service = service::start(self.service).await?;
        self.lab.start_frpc(&self.client(port, remote, service))
    }

    fn server(&self, port: u16) -> Config {
        let mut config = self.frps.clone();
        config.keys.set("bindPort", port);
        if let Some(key) = self.udp_port {
            config.keys.set(key, port);
        }
        config
    }

    /// Starts an frpc of `programs` whose only task is a visitor of the proxy; users reach it at the returned address.
    /// `visitor` has its keys but for the address; its type is the proxy's.
    pub async fn start_visitor(
        &self,
        programs: &Programs,
        port: u16,
        visitor: Keys,
    ) -> Outcome<(Process, SocketAddr)> {
        let bind_port = ports::free();
        let mut process = self.start_visitor_on(programs, port, bind_port.into(), visitor)?;
        process.logs("start visitor success").await?;
        Ok((process, (Ipv4Addr::LOCALHOST, bind_port).into()))
    }

    /// As [`Setup::start_visitor`], on a port, and does not wait.
    pub fn start_visitor_on(
        &self,
        programs: &Programs,
        port: u16,
        bind_port: i64,
        mut visitor: Keys,
    ) -> Outcome<Process> {
        let mut config = self.frpc_config(programs, port);
        visitor.set("type", self.proxy.kind());
        if visitor.text("serverName").is_none() {
            visitor.set("serverName", self.proxy.name.as_str());
        }
        visitor.set("bindPort", bind_port);
        config.visitors.push(Proxy {
            name: VISITOR.into(),
            keys: visitor,
        });
        self.lab.start(programs, "frpc", &config)
    }

    /// What an frpc of `programs` needs besides proxies and visitors.
    fn frpc_config(&self, programs: &Programs, port: u16) -> Config {
        let mut config = self.frpc.clone();
        if self.lab.frps.maker.reads_ini() && !programs.maker.reads_ini() {
            // Such a server takes for TLS only what begins with the byte 0x17.
            config
                .keys
                .set("transport.tls.disableCustomTLSFirstByte", false);
        }
        config.keys.set("serverPort", port);
        config
    }

    fn client(&self, port: u16, remote: u16, service: SocketAddr) -> Config {
        let mut config = self.frpc_config(&self.lab.frpc, port);
        let mut proxy = self.proxy.clone();
        proxy.keys.set("localIP", service.ip().to_string());
        proxy.keys.set("localPort", service.port());
        if matches!(proxy.kind(), "tcp" | "udp") {
            proxy.keys.set("remotePort", remote);
        }
        config.proxies.push(proxy);
        config
    }

    /// Starts both and waits until the proxy is there.
    pub async fn start(&self) -> Outcome<Pair> {
        let service = service::start(self.service).await?;
        for tries in 1.. {
            let (frps, server_port) = self.start_server().await?;
            let remote = ports::free();
            let config = self.client(server_port, remote, service);
            let mut pair = Pair {
                frpc: self.lab.start_frpc(&config)?,
                frps,
                server_port,
                user: (Ipv4Addr::LOCALHOST, remote).into(),
                setup: (self.server(server_port), config),
            };
            match pair.proxy_started().await {
                Err(_) if tries < TRIES && pair.frpc.log().contains("port unavailable") => {}
                started => return started.map(|()| pair),
            }
        }
        unreachable!("the loop ends by returning")
    }
}

/// A running pair.
pub struct Pair {
    /// The client.
    pub frpc: Process,
    /// The server.
    pub frps: Process,
    /// Where clients connect to.
    pub server_port: u16,
    /// Where users connect to.
    pub user: SocketAddr,
    /// Configurations of server and client.
    setup: (Config, Config),
}

impl Pair {
    /// Waits until frpc says that its proxy runs.
    async fn proxy_started(&mut self) -> Outcome {
        let frpc = &mut self.frpc;
        let started = wait::until("the proxy runs", LIMIT, async || {
            let log = frpc.log();
            if log.contains("start proxy success") {
                return Some(Ok(()));
            }
            let error = log.lines().find(|line| line.contains("start error"));
            match (error, frpc.ended()) {
                (Some(line), _) => Some(Err(line.to_owned())),
                (None, Some(status)) => Some(Err(format!("frpc ended: {status}"))),
                (None, None) => None,
            }
        });
        match started.await? {
            Ok(()) => Ok(()),
            Err(why) => Err(Failure::new(why)),
        }
    }

    /// Sends small and large data through the tunnel, in several connections.
    pub async fn echo(&self) -> Outcome {
        for len in [1, 1000, 300_000] {
            service::echo(self.user, len).await?;
        }
        Ok(())
    }

    /// Waits until the tunnel works. Over QUIC the loss of a server shows up to 40 s later: a ping after 10 s begins the idle
    /// time of 30 s anew (RFC 9000 §10.1).
    #[track_caller]
    pub fn works(&self) -> impl Future<Output = Outcome> {
        let user = self.user;
        wait::until("the tunnel works", 3 * LIMIT, async move || {
            service::echo(user, 100).await.ok()
        })
    }

    /// Runs frps again, on its old port.
    pub async fn start_frps_again(&mut self, lab: &Lab) -> Outcome {
        self.frps = lab.start_frps(&self.setup.0)?;
        self.frps.logs("frps started successfully").await
    }

    /// Runs frpc again and does not wait.
    pub fn start_frpc_only(&mut self, lab: &Lab) -> Outcome {
        self.frpc = lab.start_frpc(&self.setup.1)?;
        Ok(())
    }

    /// Runs frpc again.
    pub async fn start_frpc_again(&mut self, lab: &Lab) -> Outcome {
        self.start_frpc_only(lab)?;
        self.proxy_started().await
    }
}
