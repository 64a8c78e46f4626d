//! The `frpc` binary as users and their scripts meet it: arguments in; streams, exit code and log out.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::Path;
use std::process::{Command, Output};

use tokio::net::TcpSocket;

/// Runs to its end; the arguments are the words of `line`.
fn output(dir: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_frpc"))
        .current_dir(dir)
        .env_remove("http_proxy")
        .args(line.split_whitespace())
        .output()
        .unwrap()
}

#[track_caller]
fn assert_output(output: &Output, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(code));
}

/// Messages of log lines, without colours and what stands before the message; other lines as they are.
fn messages(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.trim_start_matches("\x1b[0m"))
        .filter(|line| !line.is_empty())
        .map(|line| {
            let message = line
                .strip_prefix("\x1b[1;")
                .and_then(|line| line.split_once("] [")?.1.split_once("] "));
            message.map_or(line, |(_, message)| message).to_owned()
        })
        .collect()
}

/// A port that refuses connections as long as the socket is held, for it never listens.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
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
    let write = |name, text| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "ok.toml",
        "[[proxies]]\nname = \"a\"\ntype = \"tcp\"\nlocalPort = 1\n",
    );
    write(
        "warned.toml",
        "[transport.tls]\nenable = false\ncertFile = \"x\"\nkeyFile = \"y\"\n",
    );
    write(
        "nameless.toml",
        "[[proxies]]\ntype = \"tcp\"\nlocalPort = 1\n",
    );
    let run = |line| output(dir.path(), line);
    assert_output(
        &run("verify -c ok.toml"),
        0,
        "frpc: the configuration file ok.toml syntax is ok\n",
        "",
    );
    assert_output(
        &run("verify --config="),
        0,
        "frpc: the configuration file is not specified\n",
        "",
    );
    assert_output(
        &run("verify -c warned.toml"),
        0,
        "WARNING: transport.tls.certFile is invalid when transport.tls.enable is false\n\
         transport.tls.keyFile is invalid when transport.tls.enable is false\n\
         frpc: the configuration file warned.toml syntax is ok\n",
        "",
    );
    assert_output(
        &run("verify"),
        1,
        "open ./frpc.ini: no such file or directory\n",
        "",
    );
    let nameless = run("verify -c nameless.toml");
    assert!(
        nameless
            .stdout
            .starts_with(b"proxy : name should not be empty\n"),
        "{nameless:?}"
    );
    assert_eq!(nameless.status.code(), Some(1));
    assert_output(
        &run("-c nameless.toml"),
        1,
        "failed to set config source: proxy name cannot be empty\n",
        "",
    );
}

#[test]
fn command_line_errors_go_to_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    assert_output(
        &output(dir.path(), "verif"),
        1,
        "",
        "Error: unknown command \"verif\" for \"frpc\"\n\nDid you mean this?\n\tverify\n\nRun 'frpc --help' for usage.\n",
    );
    assert_output(
        &output(dir.path(), "tcp -l 1"),
        1,
        "name should not be empty\n",
        "",
    );
}

#[test]
fn commands_for_a_running_client_say_why_they_fail() {
    let dir = tempfile::tempdir().unwrap();
    let (_held, port) = closed_port();
    std::fs::write(dir.path().join("off.toml"), "").unwrap();
    std::fs::write(
        dir.path().join("on.toml"),
        format!("webServer.port = {port}\n"),
    )
    .unwrap();
    for (command, verb) in [("reload", "Get"), ("status", "Get"), ("stop", "Post")] {
        assert_output(
            &output(dir.path(), &format!("{command} -c off.toml")),
            1,
            "web server port should be set if you want to use this feature\n",
            "",
        );
        assert_output(
            &output(dir.path(), &format!("{command} -c missing.toml")),
            1,
            "open missing.toml: no such file or directory\n",
            "",
        );
        let query = match command {
            "reload" => "?strictConfig=true",
            _ => "",
        };
        let expected = format!(
            "{verb} \"http://127.0.0.1:{port}/api/{command}{query}\": dial tcp 127.0.0.1:{port}: connect: connection refused\n"
        );
        let refused = output(
            dir.path(),
            &format!("{command} -c on.toml --api-timeout 5s"),
        );
        assert_output(&refused, 1, &expected, "");
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    std::fs::write(
        dir.path().join("silent.toml"),
        format!("webServer.port = {port}\n"),
    )
    .unwrap();
    assert_output(
        &output(dir.path(), "status -c silent.toml --api-timeout 100ms"),
        1,
        &format!("Get \"http://127.0.0.1:{port}/api/status\": context deadline exceeded\n"),
        "",
    );
}

#[test]
fn a_failed_first_login_ends_it_with_the_reason_in_log_and_print() {
    let dir = tempfile::tempdir().unwrap();
    let (_held, port) = closed_port();
    let reason = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    let attempt = [
        "try to connect to server...".to_owned(),
        format!("connect to server error: {reason}"),
    ];
    let end = format!(
        "login to the server failed: {reason}. With loginFailExit enabled, no additional retries will be attempted"
    );

    let tcp = output(dir.path(), &format!("tcp -n a -l 1 -P {port}"));
    assert_eq!(
        messages(&tcp),
        [&attempt[..], std::slice::from_ref(&end)].concat()
    );
    assert_eq!(tcp.status.code(), Some(1));

    std::fs::write(
        dir.path().join("c.toml"),
        format!("serverAddr = \"127.0.0.1\"\nserverPort = {port}\n"),
    )
    .unwrap();
    let file = output(dir.path(), "-c c.toml");
    let begin =
        "start frpc service for config file [c.toml] with aggregated configuration".to_owned();
    let stopped = "frpc service for config file [c.toml] stopped".to_owned();
    assert_eq!(
        messages(&file),
        [&[begin], &attempt[..], &[stopped, end]].concat()
    );
    assert_eq!(file.status.code(), Some(1));
}

#[test]
fn files_of_a_directory_fail_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("d/sub")).unwrap();
    std::fs::write(dir.path().join("d/sub/README"), "text\n").unwrap();
    std::fs::write(dir.path().join("d/b.toml"), "serverPort = 70000\n").unwrap();
    let output = output(dir.path(), "--config_dir d -c missing");
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    for file in ["d/b.toml", "d/sub/README"] {
        let line = format!("frpc service error for config file [{file}]");
        assert!(stdout.lines().any(|l| l == line), "{stdout}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_stops_it_cleanly_while_it_waits_for_a_server() {
    use std::net::TcpListener;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let dir = tempfile::tempdir().unwrap();
    // It accepts and never answers.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::fs::write(
        dir.path().join("c.toml"),
        format!("serverAddr = \"127.0.0.1\"\nserverPort = {port}\nloginFailExit = false\n"),
    )
    .unwrap();
    let client = Command::new(env!("CARGO_BIN_EXE_frpc"))
        .current_dir(dir.path())
        .env_remove("http_proxy")
        .args(["-c", "c.toml"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _connection = server.accept().unwrap();
    let begin = Instant::now();
    let kill = Command::new("kill").arg(client.id().to_string()).status();
    assert!(kill.unwrap().success());
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // The attempt itself would go on for ten seconds.
    assert!(begin.elapsed() < Duration::from_secs(8));
    assert!(
        messages(&output).contains(&"frpc service for config file [c.toml] stopped".to_owned()),
        "{output:?}"
    );
}
