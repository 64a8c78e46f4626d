//! The `frps` binary as users and their scripts meet it: arguments in; streams, exit code and log out.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

fn frps(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frps"));
    command.current_dir(dir).env("TZ", "UTC");
    command
}

/// Runs to its end; the arguments are the words of `line`.
fn output(dir: &Path, line: &str) -> Output {
    frps(dir).args(line.split_whitespace()).output().unwrap()
}

#[track_caller]
fn assert_output(output: &Output, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(code));
}

/// Failures are upstream's lines; where they are in the file may follow each one.
#[track_caller]
fn assert_failures(output: &Output, expected: &str) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let failures: Vec<&str> = stdout
        .lines()
        .filter(|line| !line.starts_with(' '))
        .collect();
    assert_eq!(failures, expected.lines().collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1));
}

/// A server on a free port. Nobody reads its console before it has ended.
struct Running {
    child: Child,
    port: u16,
}

impl Running {
    /// Starts `frps -p PORT` with more arguments; another port if someone takes the first one in between.
    fn start(dir: &Path, args: &[&str]) -> Self {
        for _ in 0..10 {
            let port = free_port();
            let child = frps(dir)
                .args(["--bind-addr", "127.0.0.1", "-p", &port.to_string()])
                .args(args)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut running = Self { child, port };
            if running.accepts() {
                return running;
            }
        }
        panic!("no frps came up");
    }

    /// Waits until it accepts connections or ends.
    fn accepts(&mut self) -> bool {
        let deadline = Instant::now() + DEADLINE;
        while self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            assert!(Instant::now() < deadline, "neither up nor ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Connects without TLS, which a server that forces it logs, and waits for the end.
    fn annoy(&self) {
        let mut stranger = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stranger.set_read_timeout(Some(DEADLINE)).unwrap();
        stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        if let Err(e) = stranger.read_to_end(&mut Vec::new()) {
            assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// The exit code once it has ended.
    #[cfg(unix)]
    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "still running");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it printed.
    #[cfg(unix)]
    fn stdout(&mut self) -> String {
        let mut text = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn version_is_the_upstream_version_whatever_else_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    for line in ["-v", "--version", "-c missing -v"] {
        assert_output(&output(dir.path(), line), 0, "0.70.1\n", "");
    }
}

#[test]
fn verify() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ok.toml"), "bindPort = 7100\n").unwrap();
    std::fs::write(
        dir.path().join("bad.toml"),
        "bindPort = 70000\nlog.level = \"loud\"\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("typo.toml"), "bindPrt = 1\n").unwrap();
    let verify = |line| output(dir.path(), line);
    assert_output(
        &verify("verify -c ok.toml"),
        0,
        "frps: the configuration file ok.toml syntax is ok\n",
        "",
    );
    assert_output(
        &verify("verify"),
        0,
        "frps: the configuration file is not specified\n",
        "",
    );
    assert_output(
        &verify("-c missing.toml verify"),
        1,
        "open missing.toml: no such file or directory\n",
        "",
    );
    let failures = "invalid log level, optional values are [trace debug info warn error]\n\
                    bindPort: port number 70000 must be in the range 0..65535\n";
    for line in ["verify --config=bad.toml", "-c bad.toml"] {
        assert_failures(&verify(line), failures);
    }
    assert_failures(
        &verify("verify -c typo.toml"),
        "json: unknown field \"bindPrt\"
",
    );
    assert_output(
        &verify("verify -c typo.toml --strict_config=false"),
        0,
        "frps: the configuration file typo.toml syntax is ok\n",
        "",
    );
}

#[test]
fn command_line_errors_go_to_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let unknown = output(dir.path(), "--nope");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(unknown.stdout.is_empty());
    assert!(
        unknown.stderr.starts_with(
            b"Error: unknown flag: --nope\nUsage:\n  frps [flags]\n  frps [command]\n"
        ),
        "{unknown:?}"
    );
    assert_output(
        &output(dir.path(), "verfy"),
        1,
        "",
        "Error: unknown command \"verfy\" for \"frps\"\n\nDid you mean this?\n\tverify\n\nRun 'frps --help' for usage.\n",
    );
}

#[test]
fn a_taken_port_is_told_without_log_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = output(
        dir.path(),
        &format!(
            "--bind-addr 127.0.0.1 -p {} --disable-log-color",
            address.port()
        ),
    );
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last =
        format!("create server listener error, listen tcp {address}: bind: address already in use");
    assert_eq!(stdout.lines().last(), Some(last.as_str()), "{stdout}");
    assert_eq!(output.status.code(), Some(1));
}

#[cfg(unix)]
#[test]
fn a_signal_stops_it_cleanly_and_every_line_is_written() {
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Running::start(dir.path(), &["-t", "secret"]);
        server.signal(signal);
        assert_eq!(server.exit_code(), Some(0), "{signal}");
        let stdout = server.stdout();
        let messages: Vec<&str> = stdout
            .lines()
            .filter_map(|line| Some(line.split_once("\x1b[1;34m")?.1.split_once("] [")?.1))
            .filter_map(|line| Some(line.split_once("] ")?.1))
            .collect();
        assert_eq!(
            messages,
            [
                "frps uses command line arguments for config",
                &format!("frps tcp listen on 127.0.0.1:{}", server.port),
                "frps started successfully",
                "frps stopped",
            ],
            "{stdout}"
        );
        // The colour ends after the line does.
        assert!(stdout.ends_with("frps stopped\n\x1b[0m"));
        assert!(!stdout.contains("secret"));
    }
}

#[cfg(unix)]
#[test]
fn a_log_file_takes_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &["--log_file", "logs/frps.log"]);
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.stdout(), "");
    let log = std::fs::read_to_string(dir.path().join("logs/frps.log")).unwrap();
    assert!(
        !log.contains('\x1b') && log.ends_with(" frps stopped\n"),
        "{log}"
    );
}

#[cfg(unix)]
#[test]
fn a_log_that_cannot_be_written_does_not_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "in the way").unwrap();
    let mut server = Running::start(dir.path(), &["--log_file", "file/frps.log"]);
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.stdout(), "");
}

/// Upstream dies of it; here only the log ends.
#[test]
fn a_closed_console_does_not_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &["--tls-only"]);
    drop(server.child.stdout.take());
    for _ in 0..10 {
        server.annoy();
    }
    assert!(server.child.try_wait().unwrap().is_none());
}

/// Strangers cause more lines than the pipe holds.
#[cfg(unix)]
#[test]
fn a_blocked_console_delays_neither_clients_nor_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &["--tls-only"]);
    for _ in 0..1000 {
        server.annoy();
    }
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    // Its last line found no room, so the console was blocked indeed.
    assert!(!server.stdout().contains("frps stopped"));
}
