//! Worked examples of frps.

use super::*;
use crate::config::raw::common::PortsRange;

#[test]
fn a_legacy_server_with_every_key() {
    let text = include_str!("examples/frps.ini");
    let ini = server("frps.ini", text, &env(&[("FRPS_PORT", "17000")]));
    let mut toml = server("frps.toml", include_str!("examples/frps.toml"), &env(&[]));
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
    let c = server("frps.toml", include_str!("examples/frps.toml"), &env(&[]));
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

    let text = include_str!("examples/frps.toml");
    let error =
        server_from_text(text, Path::new("f.toml"), true, &env(&[("FRPS_PORT", "x")])).unwrap_err();
    assert!(
        error.0.starts_with("toml: line 3, column 12: toml: "),
        "{error}"
    );
}

#[test]
fn a_server_in_yaml_and_in_json() {
    let c = server("frps.yaml", include_str!("examples/frps.yaml"), &env(&[]));
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

    let c = server("frps.json", include_str!("examples/frps.json"), &env(&[]));
    assert_eq!((c.log.max_days, c.web_server.tls.is_none()), (3, true));
    assert_eq!(c.auth.oidc.issuer, "https://id.example.test");
}
