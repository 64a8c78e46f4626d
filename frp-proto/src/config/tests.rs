//! Whole files: bad inputs, defaults, and that nothing panics. Worked examples are beside it, by program.

mod balancing;
mod client_files;
mod client_rows;
mod server_files;
mod server_rows;

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::raw::client::{ClientConfig, PluginConfig, ProxyKind, VisitorKind};
use super::raw::server::ServerConfig;
use super::*;

/// How a row's file is loaded and validated.
#[derive(Clone, Copy, PartialEq)]
enum Flags {
    /// Unknown keys are errors.
    Strict,
    /// `--strict_config=false`
    Lax,
    /// `--allow-unsafe=TokenSourceExec`
    Unsafe,
}

/// Flags, extension, content, output; `ok` for a valid file.
type Row = (Flags, &'static str, &'static str, &'static str);

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn server(name: &str, text: &str, env: &BTreeMap<String, String>) -> ServerConfig {
    server_from_text(text, Path::new(name), true, env)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
        .config
}

fn client(name: &str, text: &str, env: &BTreeMap<String, String>) -> ClientConfig {
    client_from_text(text, Path::new(name), true, env)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
        .config
}

/// What `verify` prints, or `ok`.
fn verify(program: &str, flags: Flags, extension: &str, text: &str) -> String {
    let path = Path::new("f").with_extension(extension);
    let allowed = UnsafeFeatures {
        token_source_exec: flags == Flags::Unsafe,
    };
    let strict = flags != Flags::Lax;
    let result = if program == "frps" {
        server_from_text(text, &path, strict, &BTreeMap::new()).and_then(|loaded| {
            let failures = validate_server(&loaded.config, &allowed);
            if failures.is_empty() {
                Ok(())
            } else {
                Err(ConfigError(failures.join("\n")))
            }
        })
    } else {
        client_from_text(text, &path, strict, &BTreeMap::new()).and_then(|loaded| {
            let (warnings, result) = validate_client(&loaded.config, &allowed);
            result.map_err(|e| {
                if warnings.is_empty() {
                    e
                } else {
                    ConfigError(format!("WARNING: {}\n{e}", warnings.join("\n")))
                }
            })
        })
    };
    result.map_or_else(|e| e.0, |()| "ok".to_owned())
}

/// Upstream's part of an output.
fn upstream_s(output: &str) -> String {
    let lines: Vec<_> = output.lines().filter(|l| !l.starts_with("  -->")).collect();
    lines.join("\n")
}

#[test]
fn bad_inputs_give_upstream_s_output() {
    for (program, rows) in [("frps", server_rows::ROWS), ("frpc", client_rows::ROWS)] {
        for (flags, extension, text, output) in rows {
            let seen = verify(program, *flags, extension, &format!("{text}\n"));
            assert_eq!(upstream_s(&seen), *output, "{program} .{extension} {text}");
        }
    }
}

#[test]
fn our_line_says_where_and_what_would_be_right() {
    for (program, extension, text, line) in [
        (
            "frps",
            "toml",
            "bindAddr = \"::\"\nbindProt = 7000",
            "  --> f.toml:2:1: did you mean `bindPort`?",
        ),
        (
            "frps",
            "toml",
            "[transport]\nheartbeat_timeout = 7000",
            "  --> f.toml:2:1: did you mean `heartbeatTimeout`?",
        ),
        ("frps", "toml", "a = 1\nzzzzzzzzzz = 2", "  --> f.toml:1:1"),
        (
            "frps",
            "yaml",
            "auth:\n  tokn: x",
            "  --> f.yaml:2:3: did you mean `token`?",
        ),
        (
            "frps",
            "json",
            "{\n \"bindPort\": \"x\"}",
            "  --> f.json:2:14: `bindPort` must be an integer",
        ),
        (
            "frps",
            "yaml",
            "transport:\n  tcpMux: 1",
            "  --> f.yaml:2:11: `tcpMux` must be true or false",
        ),
        (
            "frps",
            "toml",
            "bindPort = 1\nallowPorts = \"1-2\"",
            "  --> f.toml:2:14: `allowPorts` must be a list",
        ),
        (
            "frps",
            "toml",
            "log = 5",
            "  --> f.toml:1:7: `log` must be a table",
        ),
        (
            "frps",
            "toml",
            "auth.method = 5",
            "  --> f.toml:1:15: `method` must be a string",
        ),
        ("frps", "toml", "bindPort =", "  --> f.toml:1:11"),
        (
            "frpc",
            "toml",
            "\n[[proxies]]\nname = \"a\"\ntype = \"tpc\"",
            "  --> f.toml:4:8",
        ),
        (
            "frpc",
            "toml",
            "[[proxies]]\nname = \"a\"\ntype = \"tcp\"\nremoteport = \"1\"",
            "  --> f.toml:4:14: `remotePort` must be an integer",
        ),
        (
            "frpc",
            "toml",
            "[[proxies]]\nname = \"a\"\ntype = \"tcp\"\nplugin = { type = \"socks5\", user = \"x\" }",
            "  --> f.toml:4:29: did you mean `username`?",
        ),
        (
            "frpc",
            "yaml",
            "x: {{ len \"12\" }}\n",
            "  --> f.yaml:1:1 (after templates)",
        ),
    ] {
        let output = verify(program, Flags::Strict, extension, text);
        assert!(output.lines().any(|l| l == line), "{text}: {output}");
    }
}

#[test]
fn failures_of_validation_say_where() {
    let proxies =
        "[[proxies]]\nname = \"a\"\ntype = \"tcp\"\n[[proxies]]\nname = \"b.c\"\ntype = \"tcp\"\n";
    for (program, text, line) in [
        (
            "frps",
            "\nbindPort = 70000".to_owned(),
            "  --> f.toml:2:12: `bindPort`",
        ),
        (
            "frps",
            "[log]\nlevel = \"INFO\"".to_owned(),
            "  --> f.toml:2:9: `log.level`",
        ),
        (
            "frps",
            "webServer.tls = {}".to_owned(),
            "  --> f.toml:1:17: `webServer.tls.certFile`",
        ),
        (
            "frps",
            "TCPMUXHTTPConnectPort = -1".to_owned(),
            "  --> f.toml:1:25: `tcpmuxHTTPConnectPort`",
        ),
        (
            "frps",
            "\nkcpBindPort = 70000".to_owned(),
            "  --> f.toml:2:15: `kcpBindPort`",
        ),
        (
            "frpc",
            "transport.protocol = \"TCP\"".to_owned(),
            "  --> f.toml:1:22: `transport.protocol`",
        ),
        (
            "frpc",
            format!("{proxies}localPort = -1"),
            "  --> f.toml:7:13: `proxies[b.c].localPort`",
        ),
        (
            "frpc",
            format!("{proxies}healthCheck.type = \"x\""),
            "  --> f.toml:7:20: `proxies[b.c].healthCheck.type`",
        ),
        (
            "frpc",
            "[[proxies]]\ntype = \"tcp\"".to_owned(),
            "  --> f.toml:1:1: `proxies[].name`",
        ),
        (
            "frpc",
            "[[visitors]]\nname = \"v\"\ntype = \"stcp\"".to_owned(),
            "  --> f.toml:1:1: `visitors[v].serverName`",
        ),
    ] {
        let output = verify(program, Flags::Strict, "toml", &text);
        assert!(output.lines().any(|l| l == line), "{text}: {output}");
    }
}

#[test]
fn the_protocol_auto_has_tls_and_ports() {
    let checked = |more: &str| {
        let text = format!("transport.protocol = \"auto\"\n{more}");
        upstream_s(&verify("frpc", Flags::Strict, "toml", &text))
    };
    let ports = "transport.auto.quicPort = 7001\ntransport.auto.wssPort = 443";
    assert_eq!(checked(ports), "ok");
    assert_eq!(checked("transport.tls.enable = false"), AUTO_WITHOUT_TLS);
    assert_eq!(
        checked("transport.auto.wssPort = 65536"),
        "transport.auto.wssPort: port number 65536 must be in the range 0..65535"
    );
}

#[test]
fn what_is_done_passes() {
    let proxy = "[[proxies]]\nname = \"web\"\n";
    let text = format!("{proxy}type = \"tcp\"\nplugin.type = \"virtual_net\"");
    assert_eq!(
        upstream_s(&verify("frpc", Flags::Strict, "toml", &text)),
        "ok"
    );
    let gate = "featureGates = { VirtualNet = true }\nvirtualNet.address = \"100.86.0.1/24\"";
    assert_eq!(
        upstream_s(&verify("frpc", Flags::Strict, "toml", gate)),
        "ok"
    );
    // What is the server's affair is left to it.
    let text = format!(
        "{proxy}type = \"tcp\"\nloadBalancer.group = \"g\"\ntransport.bandwidthLimit = \"1MB\"\ntransport.bandwidthLimitMode = \"server\"\ntransport.proxyProtocolVersion = \"v2\""
    );
    assert_eq!(
        upstream_s(&verify("frpc", Flags::Strict, "toml", &text)),
        "ok"
    );
    let views = server(
        "f.toml",
        "webServer.port = 1\nenablePrometheus = true",
        &env(&[]),
    );
    assert_eq!(
        validate_server(&views, &UnsafeFeatures::default()),
        Vec::<String>::new()
    );
}

#[test]
fn an_empty_file_is_all_defaults() {
    for (name, text) in [
        ("f.toml", ""),
        ("f.yaml", "# nothing"),
        ("f.yaml", "null"),
        ("f.json", "{}"),
    ] {
        let c = server(name, text, &env(&[]));
        assert_eq!(
            (
                c.bind_addr.as_str(),
                c.bind_port,
                c.proxy_bind_addr.as_str()
            ),
            ("0.0.0.0", 7000, "0.0.0.0")
        );
        assert_eq!(
            (c.vhost_http_timeout, c.user_conn_timeout, c.udp_packet_size),
            (60, 10, 1500)
        );
        assert_eq!(
            (
                c.detailed_errors_to_client,
                c.nathole_analysis_data_reserve_hours
            ),
            (Some(true), 168)
        );
        let t = &c.transport;
        assert_eq!(
            (t.tcp_mux, t.tcp_mux_keepalive_interval, t.tcp_keepalive),
            (Some(true), 30, 7200)
        );
        assert_eq!(
            (t.max_pool_count, t.heartbeat_timeout, t.tls.force),
            (5, -1, false)
        );
        assert_eq!(
            (c.web_server.addr.as_str(), c.web_server.port),
            ("127.0.0.1", 0)
        );
        assert_eq!(
            c.ssh_tunnel_gateway.auto_gen_private_key_path,
            "./.autogen_ssh_key"
        );

        let c = client(name, text, &env(&[]));
        assert_eq!(
            (c.server_addr.as_str(), c.server_port, c.login_fail_exit),
            ("0.0.0.0", 7000, Some(true))
        );
        assert_eq!(
            (c.nat_hole_stun_server.as_str(), c.udp_packet_size),
            ("stun.easyvoip.com:3478", 1500)
        );
        let t = &c.transport;
        assert_eq!(
            (t.protocol.as_str(), t.wire_protocol.as_str(), t.pool_count),
            ("tcp", "v1", 1)
        );
        assert_eq!((t.dial_server_timeout, t.dial_server_keepalive), (10, 7200));
        assert_eq!((t.heartbeat_interval, t.heartbeat_timeout), (-1, -1));
        assert_eq!(
            (t.tls.enable, t.tls.disable_custom_tls_first_byte),
            (Some(true), Some(true))
        );
        assert_eq!(
            (
                t.quic.keepalive_period,
                t.quic.max_idle_timeout,
                t.quic.max_incoming_streams
            ),
            (10, 30, 100_000)
        );
        assert_eq!(
            (
                c.auth.method.as_str(),
                c.log.to.as_str(),
                c.log.level.as_str()
            ),
            ("token", "console", "info")
        );
    }
}

#[test]
fn defaults_that_depend_on_others() {
    let c = server(
        "f.toml",
        "bindAddr = \"::1\"\ntransport.tcpMux = false\ntransport.tls.trustedCaFile = \"x\"",
        &env(&[]),
    );
    assert_eq!(
        (
            c.proxy_bind_addr.as_str(),
            c.transport.heartbeat_timeout,
            c.transport.tls.force
        ),
        ("::1", 90, true)
    );
    let c = client(
        "f.toml",
        "transport.tcpMux = false\ntransport.poolCount = 0",
        &env(&[("http_proxy", "http://h:1")]),
    );
    let t = &c.transport;
    assert_eq!(
        (t.heartbeat_interval, t.heartbeat_timeout, t.pool_count),
        (30, 90, 1)
    );
    assert_eq!(t.proxy_url, "http://h:1");
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| load_server(path, true, &env(&[])).unwrap_err().0;
    assert_eq!(
        error(Path::new("/nonexistent/f.toml")),
        "open /nonexistent/f.toml: no such file or directory"
    );
    #[cfg(unix)]
    assert_eq!(
        error(dir.path()),
        format!("read {}: is a directory", dir.path().display())
    );
    let path = dir.path().join("f.toml");
    std::fs::write(&path, b"a = 1\nb = \"\xff\"").unwrap();
    assert_eq!(
        error(&path),
        format!("{}: line 2 is not UTF-8 text", path.display())
    );
    std::fs::write(&path, vec![b'#'; 9 << 20]).unwrap();
    assert_eq!(
        error(&path),
        format!("read {}: file is larger than 8 MiB", path.display())
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), extension in "toml|yaml|json|conf", strict: bool) {
        let text = String::from_utf8_lossy(&bytes);
        let path = Path::new("f").with_extension(extension);
        let _ = server_from_text(&text, &path, strict, &BTreeMap::new());
        let _ = client_from_text(&text, &path, strict, &BTreeMap::new());
    }

    #[test]
    fn no_mangled_example_panics(
        example in 0..6usize,
        at in 0.0..1.0f64,
        cut in 0..20usize,
        insert in "[\\[\\]{}:,.=\"'&*\n\t 0a-]{0,4}",
        strict: bool,
    ) {
        let (name, text) = [
            ("f.toml", include_str!("tests/examples/frps.toml")),
            ("f.yaml", include_str!("tests/examples/frps.yaml")),
            ("f.json", include_str!("tests/examples/frps.json")),
            ("f.toml", include_str!("tests/examples/frpc-all.toml")),
            ("f.yaml", include_str!("tests/examples/frpc-four.yaml")),
            ("f.json", include_str!("tests/examples/frpc-four.json")),
        ][example];
        #[expect(clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short text")]
        let at = (text.len() as f64 * at) as usize;
        let mangled = format!("{}{insert}{}", &text[..at], &text[(at + cut).min(text.len())..]);
        if let Ok(loaded) = server_from_text(&mangled, Path::new(name), strict, &BTreeMap::new()) {
            let _ = validate_server(&loaded.config, &UnsafeFeatures::default());
        }
        if let Ok(loaded) = client_from_text(&mangled, Path::new(name), strict, &BTreeMap::new()) {
            let _ = validate_client(&loaded.config, &UnsafeFeatures::default());
        }
    }
}
