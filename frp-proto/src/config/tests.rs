//! Whole files: the specification's worked examples and bad inputs, and that nothing panics.

mod balancing;
mod client_rows;
mod server_rows;

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::raw::client::{ClientConfig, PluginConfig, ProxyKind, VisitorKind};
use super::raw::common::PortsRange;
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
fn a_legacy_server_with_every_key() {
    let text = include_str!("tests/examples/frps.ini");
    let ini = server("frps.ini", text, &env(&[("FRPS_PORT", "17000")]));
    let mut toml = server(
        "frps.toml",
        include_str!("tests/examples/frps.toml"),
        &env(&[]),
    );
    assert_eq!((ini.allow_ports.len(), ini.http_plugins.len()), (2, 1));
    assert_eq!(ini.http_plugins[0].ops, ["Login", "Ping"]);
    // What INI cannot say.
    toml.version.clear();
    toml.transport.tls.tls.server_name.clear();
    toml.ssh_tunnel_gateway = ini.ssh_tunnel_gateway.clone();
    toml.allow_ports.clone_from(&ini.allow_ports);
    toml.http_plugins.clone_from(&ini.http_plugins);
    toml.auth.token_source.clone_from(&ini.auth.token_source);
    assert_eq!(ini.auth.token, "12345");
    toml.auth.token.clone_from(&ini.auth.token);
    assert_eq!(ini, toml);
    let refused = server_from_text(
        "[common]\nallow_ports = 1-x",
        Path::new("f.ini"),
        true,
        &env(&[]),
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "invalid allow_ports: range number is invalid, strconv.ParseInt: parsing \"x\": invalid syntax"
    );
}

#[test]
fn a_server_with_every_key() {
    let c = server(
        "frps.toml",
        include_str!("tests/examples/frps.toml"),
        &env(&[]),
    );
    assert_eq!(
        (c.bind_port, c.kcp_bind_port, c.udp_packet_size),
        (17000, 17000, 1400)
    );
    assert_eq!(c.detailed_errors_to_client, Some(false));
    let single = |single| PortsRange {
        single,
        ..PortsRange::default()
    };
    assert_eq!(
        c.allow_ports,
        [
            PortsRange {
                start: 20000,
                end: 20100,
                single: 0
            },
            single(21000),
            single(21001),
            single(21002),
            single(21010)
        ]
    );
    assert_eq!(c.transport.heartbeat_timeout, 60);
    assert!(c.transport.tls.force && c.transport.tls.tls.trusted_ca_file == "./ca.crt");
    assert_eq!(
        c.http_plugins[1].ops,
        ["NewProxy", "CloseProxy", "NewUserConn"]
    );
    assert_eq!(c.web_server.tls.unwrap().key_file, "./web.key");

    let text = include_str!("tests/examples/frps.toml");
    let error =
        server_from_text(text, Path::new("f.toml"), true, &env(&[("FRPS_PORT", "x")])).unwrap_err();
    assert!(
        error.0.starts_with("toml: line 3, column 12: toml: "),
        "{error}"
    );
}

#[test]
fn a_server_in_yaml_and_in_json() {
    let c = server(
        "frps.yaml",
        include_str!("tests/examples/frps.yaml"),
        &env(&[]),
    );
    let transport = &c.transport;
    assert_eq!(
        (
            transport.max_pool_count,
            transport.heartbeat_timeout,
            transport.tcp_keepalive
        ),
        (10, 30, 3600)
    );
    let ports: Vec<_> = c.allow_ports.iter().map(|r| (r.start, r.end)).collect();
    assert_eq!(ports, [(20000, 20100), (30000, 30100), (30001, 30101)]);
    assert_eq!(c.auth.token, "12345");

    let c = server(
        "frps.json",
        include_str!("tests/examples/frps.json"),
        &env(&[]),
    );
    assert_eq!((c.log.max_days, c.web_server.tls.is_none()), (3, true));
    assert_eq!(c.auth.oidc.issuer, "https://id.example.test");
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
fn one_client_in_four_formats() {
    let toml = client(
        "f.toml",
        include_str!("tests/examples/frpc-four.toml"),
        &env(&[]),
    );
    let yaml = client(
        "f.yaml",
        include_str!("tests/examples/frpc-four.yaml"),
        &env(&[]),
    );
    let json = client(
        "f.json",
        include_str!("tests/examples/frpc-four.json"),
        &env(&[]),
    );
    let ini = client(
        "f.ini",
        include_str!("tests/examples/frpc-four.ini"),
        &env(&[]),
    );
    assert_eq!(toml, yaml);
    assert_eq!(toml, json);
    assert_eq!(toml, ini);
    assert_eq!((toml.user.as_str(), toml.transport.pool_count), ("acme", 2));
    let names: Vec<_> = toml.proxies.iter().map(|p| p.base.name.as_str()).collect();
    assert_eq!(names, ["db", "vault", "www"]);
    assert_eq!(toml.proxies[0].kind, ProxyKind::Tcp { remote_port: 63760 });
    assert_eq!(toml.proxies[0].base.local_ip, "127.0.0.1");
    let ProxyKind::Http(http) = &toml.proxies[2].kind else {
        panic!("www is http");
    };
    assert_eq!(
        http.domains.custom_domains,
        ["www.example.net", "alt.example.net"]
    );
    assert_eq!(http.request_headers.set["X-Via"], "frp");
}

#[test]
fn a_legacy_client_with_ranges_and_plugins() {
    let c = client("f.ini", include_str!("tests/examples/frpc.ini"), &env(&[]));
    let names: Vec<_> = c.proxies.iter().map(|p| p.base.name.as_str()).collect();
    assert_eq!(names, ["bulk_0", "bulk_1", "db", "files", "vault", "www"]);
    assert_eq!(c.proxies[1].base.local_port, 6011);
    assert_eq!(c.proxies[1].kind, ProxyKind::Udp { remote_port: 16011 });
    assert_eq!(c.proxies[2].base.health_check.interval_seconds, 5);
    let Some(PluginConfig::StaticFile(files)) = &c.proxies[3].base.plugin else {
        panic!("files is a plugin");
    };
    assert_eq!(
        (files.local_path.as_str(), files.strip_prefix.as_str()),
        ("/srv/files", "dl")
    );
    assert_eq!(c.visitors[0].base.bind_port, 18200);
    assert_eq!(c.auth.additional_scopes, ["HeartBeats", "NewWorkConns"]);
    assert_eq!(
        (c.transport.heartbeat_timeout, c.login_fail_exit),
        (45, Some(false))
    );
    let files = "[common]\nstart = t_1\n[range:t]\ntype = http\nlocal_port = 1-2\nremote_port = 5,7\nsubdomain = x";
    let c = client("f.ini", files, &env(&[]));
    assert_eq!(
        (c.proxies.len(), c.proxies[0].base.name.as_str()),
        (1, "t_1")
    );
}

#[test]
fn legacy_includes_merge_sections() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "x.ini",
        "[common]\nuser = other\n[a]\nremote_port = 9\n[b]\nbare\nlocal_port = 2",
    );
    let text = format!(
        "[common]\nuser = main\nincludes = {}/*.ini\n[a]\nlocal_port = 1\nremote_port = 1\n",
        dir.path().display()
    );
    let c = client("f.ini", &text, &env(&[]));
    assert_eq!((c.user.as_str(), c.proxies.len()), ("main", 2));
    assert_eq!(c.proxies[0].kind, ProxyKind::Tcp { remote_port: 9 });
    write("y.ini", "{{ parseNumberRange \"1\" }}");
    let e = client_from_text(&text, Path::new("f.ini"), true, &env(&[])).unwrap_err();
    assert!(
        e.to_string()
            .starts_with("getIncludeContents error: render extra config ")
            && e.to_string().ends_with(
                "y.ini error: template: frp:1: function \"parseNumberRange\" not defined"
            ),
        "{e}"
    );
}

#[test]
fn a_client_with_every_type() {
    let c = client(
        "f.toml",
        include_str!("tests/examples/frpc-all.toml"),
        &env(&[]),
    );
    let types: Vec<_> = c.proxies.iter().map(|p| p.base.type_.as_str()).collect();
    assert_eq!(
        types,
        [
            "tcp", "udp", "sudp", "tcpmux", "xtcp", "https", "stcp", "http"
        ]
    );
    assert_eq!(c.proxies[0].base.health_check.max_failed, 3);
    let Some(PluginConfig::Https2Http(plugin)) = &c.proxies[5].base.plugin else {
        panic!("portal has a plugin");
    };
    assert_eq!(
        (plugin.enable_http2, plugin.crt_path.as_str()),
        (Some(true), "/etc/frp/portal.crt")
    );
    let VisitorKind::Xtcp(xtcp) = &c.visitors[1].kind else {
        panic!("to-p2p is xtcp");
    };
    assert_eq!(
        (xtcp.min_retry_interval, xtcp.fallback_to.as_str()),
        (120, "to-vault")
    );
}

#[test]
fn loops_anchors_and_plugins() {
    let c = client(
        "f.toml",
        include_str!("tests/examples/frpc-loop.toml"),
        &env(&[("HOME", "/home/a")]),
    );
    let ports: Vec<_> = c
        .proxies
        .iter()
        .map(|p| (p.base.name.as_str(), p.base.local_port, &p.kind))
        .collect();
    assert_eq!(
        ports,
        [
            ("svc-0", 8000, &ProxyKind::Tcp { remote_port: 28000 }),
            ("svc-1", 8001, &ProxyKind::Tcp { remote_port: 28001 }),
            ("svc-2", 8002, &ProxyKind::Tcp { remote_port: 28002 }),
            ("svc-3", 8443, &ProxyKind::Tcp { remote_port: 28443 }),
        ]
    );
    assert_eq!(c.proxies[0].base.metadatas["home"], "/home/a");
    let visitors: Vec<_> = c.visitors.iter().map(|v| v.base.name.as_str()).collect();
    assert_eq!(visitors, ["v-9001", "v-9005", "v-9006"]);

    let c = client(
        "f.yaml",
        include_str!("tests/examples/frpc-anchors.yaml"),
        &env(&[]),
    );
    assert_eq!(
        (
            c.proxies[1].base.local_ip.as_str(),
            c.proxies[1].base.local_port
        ),
        ("10.0.0.9", 3389)
    );
    assert_eq!(
        c.auth.token_source.unwrap().file.unwrap().path,
        "/run/secrets/frp-token"
    );

    let c = client(
        "f.json",
        include_str!("tests/examples/frpc-plugins.json"),
        &env(&[]),
    );
    let plugins: Vec<_> = c
        .proxies
        .iter()
        .map(|p| p.base.plugin.as_ref().unwrap().type_name())
        .collect();
    assert_eq!(
        plugins,
        [
            "unix_domain_socket",
            "http2http",
            "http2https",
            "http_proxy",
            "tls2raw",
            "https2https",
            "socks5"
        ]
    );
}

#[test]
fn debug_shows_no_secret() {
    let text = include_str!("tests/examples/frpc-all.toml");
    let c = client("f.toml", text, &env(&[]));
    let shown = format!("{c:?}");
    assert!(shown.contains("frps.example.net"));
    for secret in ["s3cret", "ops-pw", "\"k1\"", "\"gk\""] {
        assert!(
            text.contains(secret.trim_matches('"')) && !shown.contains(secret),
            "{secret}"
        );
    }
}

#[test]
fn includes_start_and_enabled() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let proxy = |name: &str, more: &str| {
        format!("[[proxies]]\nname = \"{name}\"\ntype = \"tcp\"\n{more}\n")
    };
    let load = || load_client(&dir.path().join("frpc.toml"), true, &env(&[]));
    let pattern = dir.path().join("conf.d/*.toml");
    let head = format!("includes = [{pattern:?}]\n");
    write("frpc.toml", &(head.clone() + &proxy("m", "")));

    let error = load().unwrap_err().0;
    assert_eq!(
        error,
        format!(
            "stat {}: no such file or directory",
            dir.path().join("conf.d").display()
        )
    );
    write("conf.d", "");
    let error = load().unwrap_err().0;
    assert_eq!(
        error,
        format!(
            "open {}: not a directory",
            dir.path().join("conf.d").display()
        )
    );
    std::fs::remove_file(dir.path().join("conf.d")).unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    assert_eq!(load().unwrap().config.proxies.len(), 1);

    write(
        "conf.d/b.toml",
        &proxy("b", "enabled = false\nlocalPort = -1"),
    );
    write(
        "conf.d/a.toml",
        &format!(
            "serverPort = 9\nincludes = [\"/nonexistent/*\"]\n{}",
            proxy("a", "")
        ),
    );
    write("conf.d/c.yaml", "not: read");
    let config = load().unwrap().config;
    let names: Vec<_> = config
        .proxies
        .iter()
        .map(|p| p.base.name.as_str())
        .collect();
    assert_eq!((names, config.server_port), (vec!["a", "m"], 7000));

    write(
        "frpc.toml",
        &format!("start = [\"m\", \"nope\"]\n{head}{}", proxy("m", "")),
    );
    assert_eq!(load().unwrap().config.proxies.len(), 1);

    write("conf.d/d.toml", &proxy("b", ""));
    assert_eq!(load().unwrap_err().0, "proxy name [b] is duplicated");
    write("conf.d/a.toml", "foo = 1");
    let file = dir.path().join("conf.d/a.toml");
    assert_eq!(
        load().unwrap_err().0,
        format!(
            "load additional config from {0} error: json: unknown field \"foo\"\n  --> {0}:1:1",
            file.display()
        )
    );
    write("conf.d/a.toml", "[common]\nserver_port = 1");
    let error = load().unwrap_err().0;
    assert!(error.contains("json: unknown field \"common\""), "{error}");
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
