//! Pairs: what to start for a case, and the running programs.
//!
//! A [`Kind`] knows how its programs are told what the tunnel shall be; everything else (starting, waiting until the
//! tunnel answers, logs, stopping) is the same for all kinds. Another kind of tunnel is one more variant with its own
//! [`Kind::plan`].

mod frp;
mod haproxy;
mod rathole;

use crate::case::Tunnel;
use crate::error::Error;
use crate::load::http::connect_and_get;
use crate::load::{Addresses, Target, connect, connect_and_echo};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long a pair may take until its tunnel answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks whether it does.
const START_POLL: Duration = Duration::from_millis(20);
/// How often a pair is started anew when it did not come up: a port may have been taken since it was found free.
const START_TRIES: u32 = 3;
/// How much of a log an error shows.
const LOG_LINES: usize = 15;

/// A pair under its name in the table.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// Column header.
    pub(crate) name: String,
    /// What it is made of.
    pub(crate) kind: Kind,
}

/// What a pair is made of.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// `frps` and `frpc`, of whichever implementation.
    Frp(frp::Frp),
    /// `HAProxy`, straight to the members of a group: the peer of balancing.
    Haproxy(haproxy::Haproxy),
    /// rathole at both ends: another reverse tunnel.
    Rathole(rathole::Rathole),
}

/// Where the tunnel begins and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// The port at which the pair's programs meet.
    pub(crate) server: u16,
    /// The port users connect to.
    pub(crate) user: u16,
    /// The local service.
    pub(crate) local: Addresses,
}

/// A program to start: all its files are in its directory.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What it is called in results.
    pub(crate) role: &'static str,
    /// What to run.
    pub(crate) program: PathBuf,
    /// Its arguments; paths are relative to the pair's directory, which is its working directory.
    pub(crate) arguments: Vec<OsString>,
    /// Files it needs there: name and content.
    pub(crate) files: Vec<(String, String)>,
    /// A port it listens on once it is up, for which the next program is kept waiting: a client that finds no server
    /// would back off for a second.
    pub(crate) listens: Option<u16>,
}

impl Kind {
    /// The programs for `tunnel` between `ends`, in the order to start them.
    fn plan(&self, tunnel: Tunnel, ends: Ends) -> Vec<Plan> {
        match self {
            Self::Frp(frp) => frp.plan(tunnel, ends),
            Self::Haproxy(haproxy) => haproxy.plan(tunnel, ends),
            Self::Rathole(rathole) => rathole.plan(tunnel, ends),
        }
    }

    fn version_flag(&self) -> &'static str {
        match self {
            Self::Frp(_) => "--version",
            Self::Haproxy(_) => "-v",
            // The long flag's answer begins with a line that does not say it.
            Self::Rathole(_) => "-V",
        }
    }

    /// What a reader of the figures has to know, if its tunnel is not what the cases say.
    pub(crate) fn note(&self) -> Option<&'static str> {
        match self {
            Self::Frp(_) => None,
            Self::Haproxy(_) => Some("straight to the services, without a tunnel"),
            Self::Rathole(_) => Some(
                "where the case has TLS its transport is `noise`, else `tcp`; a connection for each user instead of a mux",
            ),
        }
    }

    /// Whether there is such a tunnel of this kind.
    pub(crate) fn carries(&self, tunnel: Tunnel) -> bool {
        match self {
            Self::Frp(_) => true,
            Self::Haproxy(_) => haproxy::strategy(tunnel).is_some(),
            Self::Rathole(_) => rathole::transport(tunnel).is_some(),
        }
    }

    /// The program files, by role.
    pub(crate) fn programs(&self) -> Vec<(&'static str, &Path)> {
        match self {
            Self::Frp(frp) => frp.programs(),
            Self::Haproxy(haproxy) => haproxy.programs(),
            Self::Rathole(rathole) => rathole.programs(),
        }
    }
}

impl Pair {
    /// Reads `NAME=DIR`, `NAME=frps:PATH,frpc:PATH`, `NAME=haproxy:PATH` or `NAME=rathole:PATH`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Usage(format!(
                "--pair {text}: expected NAME=DIR, NAME=frps:PATH,frpc:PATH, NAME=haproxy:PATH or NAME=rathole:PATH"
            ))
        };
        let (name, made_of) = text.split_once('=').ok_or_else(wrong)?;
        if name.is_empty() || made_of.is_empty() {
            return Err(wrong());
        }
        let kind = match made_of.split_once(':') {
            Some(("haproxy" | "rathole", "")) => return Err(wrong()),
            Some(("haproxy", path)) => Kind::Haproxy(haproxy::Haproxy::new(Path::new(path))),
            Some(("rathole", path)) => Kind::Rathole(rathole::Rathole::new(Path::new(path))),
            _ => Kind::Frp(frp::Frp::parse(made_of).ok_or_else(wrong)?),
        };
        Ok(Self {
            name: name.to_owned(),
            kind,
        })
    }

    /// `frps` and `frpc` in one directory.
    pub(crate) fn frp_in(name: &str, directory: &Path) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Frp(frp::Frp::in_directory(directory)),
        }
    }

    /// The first program file that is not there, if any.
    pub(crate) fn missing(&self) -> Option<&Path> {
        self.kind
            .programs()
            .into_iter()
            .map(|(_, path)| path)
            .find(|path| !path.is_file())
    }

    /// What each program answers when asked for its version, by role; for the record only.
    pub(crate) fn versions(&self) -> Vec<(&'static str, String)> {
        let ask = |path: &Path| {
            let output = Command::new(path)
                .arg(self.kind.version_flag())
                .stdin(Stdio::null())
                .output();
            output.map_or_else(
                |e| e.to_string(),
                |o| {
                    let text = String::from_utf8_lossy(&o.stdout);
                    let first = text.trim().lines().next().unwrap_or_default();
                    first.chars().take(80).collect()
                },
            )
        };
        self.kind
            .programs()
            .into_iter()
            .map(|(role, path)| (role, ask(path)))
            .collect()
    }

    /// Starts the programs and waits until a byte sent into the tunnel comes back.
    pub(crate) async fn start(&self, tunnel: Tunnel, local: Addresses) -> Result<Running, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_start(tunnel, local).await {
                Err(Error::Pair { .. }) if tries < START_TRIES => {}
                result => return result,
            }
        }
    }

    async fn try_start(&self, tunnel: Tunnel, local: Addresses) -> Result<Running, Error> {
        let directory = tempfile::Builder::new()
            .prefix("compare-")
            .tempdir()
            .map_err(Error::io("a temporary directory"))?;
        let [server, user] = free_ports().map_err(Error::io("finding free ports"))?;
        let mut running = Running {
            programs: Vec::new(),
            directory,
            user: (Ipv4Addr::LOCALHOST, user).into(),
        };
        let ends = Ends {
            server,
            user,
            local,
        };
        for plan in self.kind.plan(tunnel, ends) {
            running.spawn(&plan)?;
            if let Some(port) = plan.listens {
                running.wait_until_it_listens(&self.name, port).await?;
            }
        }
        running
            .wait_until_it_answers(&self.name, tunnel.proxies.is_http())
            .await?;
        Ok(running)
    }
}

/// Programs run in another working directory, so their paths must not depend on ours.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Two different ports that are free now.
fn free_ports() -> std::io::Result<[u16; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (one, two) = (bind()?, bind()?);
    Ok([one.local_addr()?.port(), two.local_addr()?.port()])
}

/// A started pair. Dropping it ends its programs and removes their files.
pub(crate) struct Running {
    programs: Vec<(&'static str, Child)>,
    directory: TempDir,
    user: SocketAddr,
}

impl Running {
    /// Where to send load, and whose resources it uses.
    pub(crate) fn target(&self) -> Target {
        Target {
            address: self.user,
            pids: self.programs.iter().map(|(_, child)| child.id()).collect(),
        }
    }

    /// Names of the programs, in the order of [`Target::pids`].
    pub(crate) fn roles(&self) -> Vec<&'static str> {
        self.programs.iter().map(|&(role, _)| role).collect()
    }

    /// The error for something that went wrong with the pair `name`: with the programs that have ended, if any, and
    /// the end of the logs.
    pub(crate) fn failure(&mut self, name: &str, what: &str) -> Error {
        let mut what = format!("{name}: {what}");
        for ended in self.ended() {
            let _ = write!(what, "; {ended}");
        }
        Error::Pair {
            what,
            log: self.log_tail(),
        }
    }

    /// Programs that are no longer running, and how they ended.
    fn ended(&mut self) -> Vec<String> {
        let status = |(role, child): &mut (&'static str, Child)| {
            let status = child.try_wait().ok().flatten()?;
            Some(format!("{role} ended: {status}"))
        };
        self.programs.iter_mut().filter_map(status).collect()
    }

    fn spawn(&mut self, plan: &Plan) -> Result<(), Error> {
        for (name, content) in &plan.files {
            let path = self.directory.path().join(name);
            fs::write(&path, content).map_err(Error::at("writing", &path))?;
        }
        let path = self.directory.path().join(format!("{}.out", plan.role));
        let output = File::create(&path).map_err(Error::at("creating", &path))?;
        let errors = output.try_clone().map_err(Error::at("opening", &path))?;
        let child = Command::new(&plan.program)
            .args(&plan.arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::at("starting", &plan.program))?;
        self.programs.push((plan.role, child));
        Ok(())
    }

    async fn wait_until_it_listens(&mut self, name: &str, port: u16) -> Result<(), Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.wait_until(name, "nobody listens for the client", async || {
            connect(address).await
        })
        .await
    }

    async fn wait_until_it_answers(&mut self, name: &str, is_http: bool) -> Result<(), Error> {
        let user = self.user;
        self.wait_until(name, "no answer through the tunnel", async || {
            if is_http {
                connect_and_get(user).await
            } else {
                connect_and_echo(user).await
            }
        })
        .await
    }

    /// Makes `attempt`s until one succeeds, a program ends, or [`START_LIMIT`] is over.
    async fn wait_until(
        &mut self,
        name: &str,
        otherwise: &str,
        attempt: impl AsyncFn() -> std::io::Result<TcpStream>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let result = tokio::time::timeout_at(deadline, attempt()).await;
            if let Ok(Ok(_)) = result {
                return Ok(());
            }
            if Instant::now() >= deadline || !self.ended().is_empty() {
                return Err(self.failure(name, otherwise));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn log_tail(&self) -> String {
        let mut tail = String::new();
        let mut files: Vec<PathBuf> = fs::read_dir(self.directory.path())
            .map(|entries| entries.flatten().map(|e| e.path()).collect())
            .unwrap_or_default();
        files.sort();
        for path in files {
            if !path.extension().is_some_and(|e| e == "out" || e == "log") {
                continue;
            }
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let _ = writeln!(tail, "  {name}: {line}");
            }
        }
        tail
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Clients first: a server that is gone makes them log and retry.
        for (_, child) in self.programs.iter_mut().rev() {
            // Both fail only for a program that has already ended and been waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_from_the_command_line() {
        let pair = Pair::parse("go=/opt/frp").unwrap();
        assert_eq!(pair.name, "go");
        let roles: Vec<_> = pair.kind.programs();
        assert_eq!(roles[0], ("frps", Path::new("/opt/frp/frps")));
        let pair = Pair::parse("mix=frps:/a/s,frpc:/b/c").unwrap();
        assert_eq!(
            pair.kind.programs(),
            [("frps", Path::new("/a/s")), ("frpc", Path::new("/b/c"))]
        );
        for wrong in [
            "go",
            "=x",
            "go=",
            "mix=frps:/a",
            "mix=frps:/a,frps:/b",
            "h=haproxy:",
            "r=rathole:",
        ] {
            assert!(Pair::parse(wrong).is_err(), "{wrong}");
        }
        let pair = Pair::parse("h=haproxy:/usr/sbin/haproxy").unwrap();
        assert_eq!(
            pair.kind.programs(),
            [("haproxy", Path::new("/usr/sbin/haproxy"))]
        );
        assert_eq!(carried(&pair), 3);
        let pair = Pair::parse("r=rathole:/opt/rathole").unwrap();
        assert_eq!(
            pair.kind.programs(),
            [("rathole", Path::new("/opt/rathole"))]
        );
        assert_eq!(carried(&pair), 12);
    }

    /// Cases that `pair` takes part in.
    fn carried(pair: &Pair) -> usize {
        let tunnels = crate::case::CASES.iter().map(|case| case.tunnel);
        tunnels.filter(|t| pair.kind.carries(*t)).count()
    }

    #[tokio::test]
    async fn a_program_that_ends_is_reported_with_its_log() {
        let pair = Pair::parse("none=frps:/bin/ls,frpc:/bin/ls").unwrap();
        let tunnel = crate::case::CASES[0].tunnel;
        let nobody = "127.0.0.1:9".parse().unwrap();
        let local = Addresses {
            service: nobody,
            slow: nobody,
        };
        let Err(error) = pair.start(tunnel, local).await else {
            panic!("started");
        };
        assert!(error.to_string().contains("ended"), "{error}");
    }
}
