//! [`Managed`]: an frpc with its admin API, whose file and store a case changes while it runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Output;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::TOKEN;
use crate::peers::Programs;
use crate::process::Process;
use crate::wait::{LIMIT, until, within};
use crate::{Failure, Lab, Outcome, Setup, ports, service};

/// An answer of an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The value of `Content-Type`; empty without one.
    pub content_type: String,
    /// Its body.
    pub body: String,
}

/// Asks an HTTP server, with a connection of its own and HTTP/1.0, in which a body has no chunks.
#[track_caller]
pub fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> impl Future<Output = Outcome<Answer>> + use<> {
    let request = request(address, method, path, body);
    let what = format!("the answer to {method} {path}");
    let asked = within(what, LIMIT, async move {
        exchange(TcpStream::connect(address).await?, &request).await
    });
    async move { asked.await? }
}

/// As [`ask`] without a body, over a connection that is there.
pub async fn ask_over(stream: TcpStream, method: &str, path: &str) -> Outcome<Answer> {
    let request = request(stream.peer_addr()?, method, path, "");
    let what = format!("the answer to {method} {path}");
    within(what, LIMIT, exchange(stream, &request)).await?
}

fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn exchange(mut stream: TcpStream, request: &str) -> Outcome<Answer> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Outcome<Answer> {
    let no_answer = || Failure::new(format!("no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_answer)?;
    let status = head.split(' ').nth(1).ok_or_else(no_answer)?.parse()?;
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let content_type = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    Ok(Answer {
        status,
        content_type: content_type.map_or("", |(_, value)| value).to_owned(),
        body: body.to_owned(),
    })
}

/// An frpc that is managed, its frps, and an echo service.
pub struct Managed {
    /// The server.
    pub frps: Process,
    /// The client.
    pub frpc: Process,
    /// Path of its file.
    pub file: String,
    /// Its admin API.
    pub admin: SocketAddr,
    /// The service.
    pub echo: SocketAddr,
    common: String,
}

impl Managed {
    /// Starts all with these proxies, as TOML; `ECHO` stands for the port of the service. Waits until frpc is logged in.
    pub async fn start(lab: &Lab, proxies: &str) -> Outcome<Self> {
        Self::start_with(lab, &lab.setup(), proxies).await
    }

    /// As [`Managed::start`], with the frps of `setup`.
    pub async fn start_with(lab: &Lab, setup: &Setup<'_>, proxies: &str) -> Outcome<Self> {
        let (frps, port) = setup.start_server().await?;
        let echo = service::start(service::Kind::Echo).await?;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let common = format!(
            "serverAddr = \"127.0.0.1\"\nserverPort = {port}\nauth.token = \"{TOKEN}\"\nlog.level = \"trace\"\nlog.disablePrintColor = true\nwebServer.port = {}\nstore.path = \"store.json\"\n",
            admin.port()
        );
        let file = lab.file("managed.toml", "")?;
        let mut managed = Self {
            frps,
            frpc: {
                std::fs::write(&file, render(&common, proxies, echo))?;
                lab.start_frpc_with(&file)?
            },
            file,
            admin,
            echo,
            common,
        };
        managed.frpc.logs("login to server success").await?;
        Ok(managed)
    }

    /// Starts the client anew, once the last one has ended.
    pub async fn restart(&mut self, lab: &Lab) -> Outcome {
        self.frpc.kill()?;
        self.frpc = lab.start_frpc_with(&self.file)?;
        self.frpc.logs("login to server success").await
    }

    /// Replaces the proxies of the file.
    pub fn write(&self, proxies: &str) -> Outcome {
        Ok(std::fs::write(
            &self.file,
            render(&self.common, proxies, self.echo),
        )?)
    }

    /// Asks the admin API; `ECHO` stands for the port of the service.
    #[track_caller]
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> impl Future<Output = Outcome<Answer>> {
        let body = body.replace("ECHO", &self.echo.port().to_string());
        let asked = ask(self.admin, method, path, &body);
        let echo = self.echo.port().to_string();
        async move {
            let mut answer = asked.await?;
            answer.body = answer.body.replace(&echo, "ECHO");
            Ok(answer)
        }
    }

    /// Has the client read its file again, which must work.
    #[track_caller]
    pub fn reload(&self) -> impl Future<Output = Outcome> {
        let asked = self.ask("GET", "/api/reload", "");
        async move {
            match asked.await? {
                Answer { status: 200, .. } => Ok(()),
                other => Err(Failure::new(format!("{other:?}"))),
            }
        }
    }

    /// Waits until `/api/status` has all of these texts.
    #[track_caller]
    pub fn shows(&self, texts: &[&str]) -> impl Future<Output = Outcome<String>> {
        let what = format!("{texts:?} in the status");
        until(what, LIMIT, async move || {
            let status = self.ask("GET", "/api/status", "").await.ok()?.body;
            texts.iter().all(|t| status.contains(t)).then_some(status)
        })
    }

    /// Runs `frpc COMMAND -c FILE`.
    pub fn command(&self, programs: &Programs, command: &[&str]) -> Outcome<Output> {
        let program = programs.path("frpc");
        let mut run = std::process::Command::new(&program);
        Ok(run.args(command).args(["-c", &self.file]).output()?)
    }
}

fn render(common: &str, proxies: &str, echo: SocketAddr) -> String {
    format!(
        "{common}{}",
        proxies.replace("ECHO", &echo.port().to_string())
    )
}

/// A `tcp` proxy, as TOML.
pub fn tcp(name: &str, local: impl std::fmt::Display, remote: u16, more: &str) -> String {
    format!(
        "[[proxies]]\nname = \"{name}\"\ntype = \"tcp\"\nlocalPort = {local}\nremotePort = {remote}\n{more}\n"
    )
}
