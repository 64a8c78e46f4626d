//! Tunnels by an SSH client: the OpenSSH client of the machine.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use conformance::lab::TOKEN;
use conformance::process::Process;
use conformance::wait::{self, LIMIT};
use conformance::{Case, Lab, Outcome, Setup, ports, service};
use tokio::net::TcpStream;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        Case::frps("ssh/texts", texts),
        Case::frps("ssh/help", help),
        Case::frps("ssh/tcp", tcp),
        Case::frps("ssh/host_key", host_key),
        Case::frps("ssh/many_users", many_users),
        Case::frps("ssh/closed_by_the_client", closed_by_the_client),
        Case::frps("ssh/no_service", no_service),
        Case::frps("ssh/authorized_keys", authorized_keys),
        Case::frps("ssh/unknown_key", unknown_key),
        Case::frps("ssh/unreadable_keys", unreadable_keys),
        Case::frps("ssh/no_command", no_command),
        Case::frps("ssh/name_taken", name_taken),
        Case::frps("ssh/undetailed", undetailed),
        Case::frps("ssh/bad_host_key", bad_host_key),
        Case::frps("ssh/trailing_lines", trailing_lines)
            .ours_only("a comment or blank line at the end makes the file unusable"),
        Case::frps("ssh/heartbeat_timeout", heartbeat_timeout)
            .ours_only("the tunnel ends though its SSH client is alive"),
        Case::frps("ssh/scopes", scopes).ours_only("work connections of tunnels are refused"),
    ];
    cases.into_iter().map(|case| case.needs("ssh")).collect()
}

/// A server with a gateway.
struct Gateway {
    frps: Process,
    port: u16,
    directory: PathBuf,
}

impl Gateway {
    async fn start(lab: &Lab, change: impl for<'a> Fn(Setup<'a>) -> Setup<'a>) -> Outcome<Self> {
        let directory = lab.directory().to_owned();
        let port = ports::free();
        let key = directory.join("host_key");
        let setup = lab
            .setup()
            .frps("sshTunnelGateway.bindPort", port)
            .frps("sshTunnelGateway.autoGenPrivateKeyPath", text(&key));
        let (frps, _) = change(setup).start_server().await?;
        Ok(Self {
            frps,
            port,
            directory,
        })
    }

    /// Runs an SSH client that forwards to `service`.
    fn ssh(&self, name: &str, service: SocketAddr, words: &[&str]) -> Outcome<Ssh> {
        let forward = format!(":80:{service}");
        self.ssh_with(name, &["-R", &forward], words)
    }

    fn ssh_with(&self, name: &str, options: &[&str], words: &[&str]) -> Outcome<Ssh> {
        let output = self.directory.join(format!("{name}.out"));
        let errors = self.directory.join(format!("{name}.err"));
        let child = Command::new("ssh")
            .args(["-F", "none", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"])
            .args(["-o", "IdentityAgent=none", "-p", &self.port.to_string()])
            .args(options)
            .arg("v0@127.0.0.1")
            .args(words)
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()?;
        Ok(Ssh {
            child,
            output,
            errors,
        })
    }
}

/// A running SSH client. Dropping it kills it.
struct Ssh {
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Ssh {
    fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// What the server has told at the end.
    async fn last_words(mut self) -> Outcome<(ExitStatus, String)> {
        let status = wait::until("the end of ssh", LIMIT, async || {
            self.child.try_wait().ok().flatten()
        });
        let status = status.await?;
        Ok((status, self.output()))
    }

    /// Waits until the tunnel runs; what the server says about it.
    async fn runs(&self) -> Outcome<String> {
        wait::until("the tunnel runs", LIMIT, async || {
            Some(self.output()).filter(|text| text.contains("RemoteAddress: "))
        })
        .await
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        // Both fail only for a program that has already ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Nobody is there, and nobody is asked.
const NO_SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

async fn texts(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| setup).await?;
    let login = format!("tcp -t {TOKEN}");
    for (n, (command, expected)) in [
        (
            "udp",
            "invalid proxy type: udp, support types: [tcp http https tcpmux stcp]\n",
        ),
        ("tcp --bad", "unknown flag: --bad\n"),
        ("tcp --proxy-nam x", "unknown flag: --proxy-nam\n"),
        ("tcp --token", "flag needs an argument: --token\n"),
        ("tcp -x 1", "unknown shorthand flag: 'x' in -x\n"),
        ("tcp --=x", "bad flag syntax: --=x\n"),
        (
            "tcp -r abc",
            "invalid argument \"abc\" for \"-r, --remote-port\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax\n",
        ),
        (
            "tcp --metadatas a",
            "invalid argument \"a\" for \"--metadatas\" flag: a must be formatted as key=value\n",
        ),
        (
            "tcp --token other",
            "login to the server failed: token in login doesn't match token from configuration. With loginFailExit enabled, no additional retries will be attempted\n",
        ),
        (
            &format!("{login} -r {}", gateway.port),
            "port unavailable\n",
        ),
        (
            &format!("http -t {TOKEN} -d a.test"),
            "type [http] not supported when vhost http port is not set\n",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let ssh = gateway.ssh(&format!("texts-{n}"), NO_SERVICE, &[command])?;
        let (status, output) = ssh.last_words().await?;
        assert_eq!(output, expected, "{command}");
        assert_eq!(status.code(), Some(255), "{command}");
    }
    Ok(())
}

async fn help(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| setup).await?;
    for (kind, lines) in [
        (
            "tcp",
            &["  -r, --remote-port int              remote port\n"][..],
        ),
        (
            "http",
            &[
                "  -d, --custom-domain strings        custom domains\n",
                "      --host-header-rewrite string   host header rewrite\n",
                "      --http-pwd string              http auth password\n",
                "      --http-user string             http auth user\n",
                "      --locations strings            locations\n",
                "      --sd string                    sub domain\n",
            ],
        ),
        (
            "https",
            &[
                "  -d, --custom-domain strings        custom domains\n",
                "      --sd string                    sub domain\n",
            ],
        ),
        (
            "tcpmux",
            &["      --mux string                   multiplexer\n"],
        ),
        (
            "stcp",
            &[
                "      --allow-users strings          allow visitor users\n",
                "      --sk string                    secret key\n",
            ],
        ),
    ] {
        let ssh = gateway.ssh(kind, NO_SERVICE, &[kind, "--help"])?;
        let (_, output) = ssh.last_words().await?;
        assert!(
            output.starts_with("Usage:\n  ssh v0@{address} [command] [flags]\n\nFlags:\n      --a"),
            "{output}"
        );
        assert!(
            output.ends_with("  -u, --user string                  user\n\n"),
            "{output}"
        );
        for line in lines {
            assert!(output.contains(line), "{kind}: {line}");
        }
    }
    Ok(())
}

async fn tcp(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| setup).await?;
    let service = service::start(service::Kind::Echo).await?;
    let remote = ports::free();
    let command = format!("tcp --proxy_name web --remote_port {remote} --user alice -t {TOKEN}");
    let ssh = gateway.ssh("ssh", service, &[&command])?;
    let expected = format!(
        "\nfrp (via SSH) (Ctrl+C to quit)\n\nUser: alice\nProxyName: web\nType: tcp\nRemoteAddress: :{remote}\n\n"
    );
    assert_eq!(ssh.runs().await?, expected);
    for len in [1, 1000, 3_000_000] {
        service::echo(local(remote), len).await?;
    }
    let mut frps = gateway.frps;
    frps.logs("client login info: ip [pipe] version [").await?;
    frps.logs("new proxy [alice.web] type [tcp] success").await
}

async fn host_key(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| setup).await?;
    let path = gateway.directory.join("host_key");
    let key = std::fs::read_to_string(&path)?;
    assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o600);
    }
    drop(gateway);
    // It is kept, and one of another maker's server serves as well.
    let gateway = Gateway::start(lab, |setup| setup).await?;
    assert_eq!(std::fs::read_to_string(&path)?, key);
    let (_, output) = gateway.ssh("ssh", NO_SERVICE, &["x"])?.last_words().await?;
    assert!(output.starts_with("invalid proxy type: x"));
    Ok(())
}

async fn many_users(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| setup).await?;
    let service = service::start(service::Kind::Echo).await?;
    let remote = ports::free();
    let command = format!("tcp -r {remote} -t {TOKEN}");
    let ssh = gateway.ssh("ssh", service, &[&command])?;
    assert!(ssh.runs().await?.contains("\nProxyName: sshtunnel-tcp-"));
    let users = (0..20).map(|_| tokio::spawn(service::echo(local(remote), 100_000)));
    for user in users.collect::<Vec<_>>() {
        user.await??;
    }
    Ok(())
}

async fn closed_by_the_client(lab: &Lab) -> Outcome {
    let mut gateway = Gateway::start(lab, |setup| setup).await?;
    let service = service::start(service::Kind::Echo).await?;
    let remote = ports::free();
    let command = format!("tcp -r {remote} -t {TOKEN}");
    for name in ["first", "second"] {
        let ssh = gateway.ssh(name, service, &[&command])?;
        ssh.runs().await?;
        let mut user = TcpStream::connect(local(remote)).await?;
        service::exchange(&mut user, 10).await?;
        drop(ssh);
        wait::until("the port is free", LIMIT, async || {
            TcpStream::connect(local(remote)).await.err()
        })
        .await?;
        assert!(service::exchange(&mut user, 10).await.is_err());
    }
    gateway.frps.logs_times("client exit success", 2).await
}

/// The client refuses the channel; the user is let go, and the tunnel stays.
async fn no_service(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| setup).await?;
    let remote = ports::free();
    let command = format!("tcp -r {remote} -t {TOKEN}");
    let mut ssh = gateway.ssh("ssh", local(ports::free()), &[&command])?;
    ssh.runs().await?;
    for _ in 0..3 {
        let mut user = TcpStream::connect(local(remote)).await?;
        assert!(service::exchange(&mut user, 10).await.is_err());
    }
    assert!(ssh.child.try_wait()?.is_none());
    Ok(())
}

/// A key pair; gives the path of the private key and the public one's line without a comment.
fn key_pair(directory: &Path, name: &str) -> Outcome<(String, String)> {
    let path = text(&directory.join(name));
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &path])
        .status()?;
    assert!(made.success());
    let public = std::fs::read_to_string(format!("{path}.pub"))?;
    Ok((path, public.trim().to_owned()))
}

async fn with_keys(lab: &Lab, keys: &str) -> Outcome<Gateway> {
    let file = lab.file("authorized_keys", keys)?;
    Gateway::start(lab, |setup| {
        setup.frps("sshTunnelGateway.authorizedKeysFile", file.as_str())
    })
    .await
}

async fn opens_as(gateway: &Gateway, key: &str, words: &str, user: &str) -> Outcome {
    let ssh = gateway.ssh_with(user, &["-i", key, "-R", ":80:127.0.0.1:9"], &[words])?;
    let text = ssh.runs().await?;
    assert!(text.contains(&format!("\nUser: {user}\n")), "{text}");
    Ok(())
}

/// A key stands for the token, its comment for the user; the file is read for every client.
async fn authorized_keys(lab: &Lab) -> Outcome {
    let (alice, alice_public) = key_pair(lab.directory(), "alice")?;
    let (nobody, nobody_public) = key_pair(lab.directory(), "nobody")?;
    let keys = format!(
        "# who may come\n\n{alice_public} alice\n# between\ncommand=\"x y\",no-pty {nobody_public}\n"
    );
    let gateway = with_keys(lab, &keys).await?;
    opens_as(&gateway, &alice, "tcp --user bob", "alice").await?;
    opens_as(&gateway, &nobody, "tcp --user bob", "bob").await?;
    lab.file("authorized_keys", &format!("{alice_public} carol\n"))?;
    opens_as(&gateway, &alice, "tcp", "carol").await
}

async fn trailing_lines(lab: &Lab) -> Outcome {
    let (alice, public) = key_pair(lab.directory(), "alice")?;
    let gateway = with_keys(lab, &format!("{public} alice\n\n# end\n\n")).await?;
    opens_as(&gateway, &alice, "tcp", "alice").await
}

async fn denied(gateway: &mut Gateway, key: &str, log: &str) -> Outcome {
    let ssh = gateway.ssh_with("ssh", &["-i", key, "-R", ":80:127.0.0.1:9"], &["tcp"])?;
    let errors = ssh.errors.clone();
    let (status, output) = ssh.last_words().await?;
    assert_eq!((status.code(), output.as_str()), (Some(255), ""));
    let errors = std::fs::read_to_string(errors)?;
    assert!(
        errors.contains("Permission denied (publickey)."),
        "{errors}"
    );
    gateway.frps.logs(log).await
}

async fn unknown_key(lab: &Lab) -> Outcome {
    let (_, public) = key_pair(lab.directory(), "alice")?;
    let (mallory, _) = key_pair(lab.directory(), "mallory")?;
    let mut gateway = with_keys(lab, &format!("{public} alice\n")).await?;
    let log = "ssh tunnel server run error: [ssh: no auth passed yet, unknown public key for remoteAddr \"127.0.0.1:";
    denied(&mut gateway, &mallory, log).await
}

async fn unreadable_keys(lab: &Lab) -> Outcome {
    let (alice, _) = key_pair(lab.directory(), "alice")?;
    let mut gateway = with_keys(lab, "").await?;
    let path = lab.directory().join("authorized_keys");
    std::fs::remove_file(&path)?;
    let path = text(&path);
    let log = format!("load authorized keys file error: open {path}: no such file or directory");
    denied(&mut gateway, &alice, &log).await
}

/// Without a command the client is let go, and told nothing.
async fn no_command(lab: &Lab) -> Outcome {
    let mut gateway = Gateway::start(lab, |setup| setup).await?;
    let ssh = gateway.ssh_with("ssh", &["-N", "-R", ":80:127.0.0.1:9"], &[])?;
    let (status, output) = ssh.last_words().await?;
    assert_eq!((status.code(), output.as_str()), (Some(255), ""));
    let log = "ssh tunnel server run error: get addr and extra payload timeout";
    gateway.frps.logs(log).await
}

async fn name_taken(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| setup).await?;
    let command = format!("tcp -n web -u alice -t {TOKEN}");
    let first = gateway.ssh("first", NO_SERVICE, &[&command])?;
    first.runs().await?;
    let second = gateway.ssh("second", NO_SERVICE, &[&command])?;
    let (_, output) = second.last_words().await?;
    assert_eq!(output, "proxy [alice.web] already exists\n");
    Ok(())
}

async fn undetailed(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| setup.frps("detailedErrorsToClient", false)).await?;
    let command = format!("tcp -n web -r {} -t {TOKEN}", gateway.port);
    let ssh = gateway.ssh("ssh", NO_SERVICE, &[&command])?;
    let (_, output) = ssh.last_words().await?;
    assert_eq!(output, "new proxy [web] error\n");
    Ok(())
}

async fn bad_host_key(lab: &Lab) -> Outcome {
    let garbage = lab.file("garbage", "garbage\n")?;
    for (key, error) in [
        (
            "/nonexistent/key",
            "open /nonexistent/key: no such file or directory",
        ),
        (garbage.as_str(), "ssh: no key found"),
    ] {
        let mut config = conformance::config::Config::default();
        config.keys.set("bindAddr", "127.0.0.1");
        config.keys.set("log.disablePrintColor", true);
        config.keys.set("bindPort", ports::free());
        config.keys.set("sshTunnelGateway.bindPort", ports::free());
        config.keys.set("sshTunnelGateway.privateKeyFile", key);
        let mut frps = lab.start_frps(&config)?;
        assert_eq!(frps.exit(LIMIT).await?.code(), Some(1));
        let line = format!("create ssh gateway error: {error}");
        assert!(frps.log().lines().any(|l| l == line), "no line {line:?}");
    }
    Ok(())
}

async fn stays(gateway: &Gateway) -> Outcome {
    let service = service::start(service::Kind::Echo).await?;
    let remote = ports::free();
    let command = format!("tcp -r {remote} -t {TOKEN}");
    let ssh = gateway.ssh("ssh", service, &[&command])?;
    ssh.runs().await?;
    service::echo(local(remote), 100).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    service::echo(local(remote), 100).await
}

async fn heartbeat_timeout(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| setup.frps("transport.heartbeatTimeout", 1i64));
    stays(&gateway.await?).await
}

async fn scopes(lab: &Lab) -> Outcome {
    let gateway = Gateway::start(lab, |setup| {
        setup.frps("auth.additionalScopes", &["HeartBeats", "NewWorkConns"][..])
    });
    stays(&gateway.await?).await
}
