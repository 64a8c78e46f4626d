//! The checked form of the configuration: parsed once, nothing optional that must be present.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::config::AUTO_WITHOUT_TLS;
use frp_proto::config::raw::client::{ClientConfig, ClientTransportConfig};
use frp_proto::config::raw::common::QuicOptions;
use frp_proto::msg::Version;
use frp_proto::mux;
use frp_proto::net::dial::DialOptions;
use frp_proto::net::via_proxy::ProxyUrl;
use frp_proto::oidc::client::TokenSource;
use frp_proto::quic;
use frp_proto::telemetry::RecordLogs;
use frp_proto::tls::TlsFiles;
use frp_proto::udp;

use crate::Error;

/// Seconds for a TCP connect when the configuration does not say.
const DIAL_TIMEOUT_SECS: u64 = 10;

/// Messages that carry authentication besides Login (`auth.additionalScopes`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Ping is signed.
    pub heartbeats: bool,
    /// `NewWorkConn` is signed.
    pub new_work_conns: bool,
}

/// TLS towards frps.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// Own certificate and key, and the CA of the server; without a CA nothing is verified.
    pub files: TlsFiles,
    /// SNI and verified name: a DNS name or an IP literal.
    pub server_name: String,
    /// Send byte 0x17 before the handshake.
    pub custom_first_byte: bool,
}

/// How bytes travel to frps (`transport.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// KCP: a stream over UDP; TLS and mux are as with TCP.
    Kcp,
    /// QUIC; every frp connection is a stream of one connection, without the mux.
    Quic(quic::Options),
    /// A WebSocket that frps answers itself; TLS, if any, is inside.
    WebSocket,
    /// A WebSocket inside TLS, which a proxy in front of frps ends.
    Wss,
}

impl Protocol {
    /// The name in the configuration and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Kcp => "kcp",
            Self::Quic(_) => "quic",
            Self::WebSocket => "websocket",
            Self::Wss => "wss",
        }
    }

    fn new(c: &ClientTransportConfig) -> Result<Self, Error> {
        Ok(match c.protocol.as_str() {
            "" | "tcp" => Self::Tcp,
            "kcp" => Self::Kcp,
            "quic" => Self::Quic(quic_options(&c.quic)),
            "websocket" => Self::WebSocket,
            "wss" => Self::Wss,
            _ => {
                return Err(Error(
                    "invalid transport.protocol, optional values are [tcp kcp quic websocket wss]"
                        .into(),
                ));
            }
        })
    }
}

/// A way to frps.
#[derive(Debug, Clone)]
pub struct Way {
    /// How bytes travel.
    pub protocol: Protocol,
    /// Of frps, or of what stands before it.
    pub port: u16,
    /// TLS; `None` = plain.
    pub tls: Option<TlsSettings>,
}

/// What the client runs with. Keys and defaults: config-frpc.md §4.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Prefix of proxy names on the wire; may be empty.
    pub user: String,
    /// Identity that frps keeps unique among the user's clients; may be empty.
    pub client_id: String,
    /// Sent with Login.
    pub metadatas: BTreeMap<String, String>,
    /// The ways to frps, the preferred one first; never empty, and only with `transport.protocol = "auto"` more than one.
    pub ways: Vec<Way>,
    /// Address of frps as it was written.
    pub server_addr: String,
    /// How to reach frps; the port is `serverPort`.
    pub dial: DialOptions,
    /// Proxy on the way to frps, for what runs over TCP.
    pub outer_proxy: Option<ProxyUrl>,
    /// DNS server, `host[:port]`, to ask instead of the system's; empty = none.
    pub dns_server: String,
    /// Mux knobs; `None` = every frp connection is dialled.
    pub mux: Option<mux::Config>,
    /// Wire protocol of all connections.
    pub wire_version: Version,
    /// Idle work connections frps shall keep.
    pub pool_count: i64,
    /// Time between Pings; `None` = no Ping.
    pub heartbeat_interval: Option<Duration>,
    /// Age of the last Pong that ends the session; `None` = not checked.
    pub heartbeat_timeout: Option<Duration>,
    /// Where tokens of an identity provider come from; `None` = frp's own token is used.
    pub(crate) oidc: Option<Arc<TokenSource>>,
    /// Messages that carry authentication besides Login.
    pub scopes: Scopes,
    /// End with an error if the first login fails.
    pub login_fail_exit: bool,
    /// Logs of what is over.
    pub logs: RecordLogs,
    /// Serve `/metrics` beside the admin API.
    pub prometheus: bool,
    /// Files of a dashboard beside the admin API.
    pub assets_dir: Option<PathBuf>,
    /// Serve `/debug/pprof/` beside the admin API.
    pub pprof: bool,
    /// `host:port` of the STUN server that `xtcp` peers ask for their addresses.
    pub nat_hole_stun_server: String,
    /// QUIC knobs of tunnels of `xtcp`.
    pub hole_quic: quic::Options,
    /// Address and network of the interface to the virtual network; empty = none.
    pub virtual_net_address: String,
    /// Longest datagram of `udp` and `sudp`; longer ones are cut.
    pub udp_packet_size: usize,
}

/// What is not positive counts as the default.
fn quic_options(c: &QuicOptions) -> quic::Options {
    let default = quic::Options::default();
    quic::Options {
        keepalive_period: positive_secs(c.keepalive_period).unwrap_or(default.keepalive_period),
        max_idle_timeout: positive_secs(c.max_idle_timeout).unwrap_or(default.max_idle_timeout),
        congestion: quic::Congestion::from_name(&c.congestion).unwrap_or_default(),
        ..default
    }
}

/// Positive seconds; zero and negative give `None`.
fn positive_secs(n: i64) -> Option<Duration> {
    u64::try_from(n)
        .ok()
        .filter(|n| *n > 0)
        .map(Duration::from_secs)
}

/// An IPv6 literal may be written in brackets.
fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host)
}

impl Settings {
    /// Checks a loaded configuration. What this build cannot do is refused by the name of its key, never ignored.
    pub fn new(c: &ClientConfig) -> Result<Self, Error> {
        let transport = &c.transport;
        let heartbeat_interval = positive_secs(transport.heartbeat_interval);
        Ok(Self {
            user: c.user.clone(),
            client_id: c.client_id.clone(),
            metadatas: c.metadatas.clone(),
            ways: ways(c)?,
            server_addr: c.server_addr.clone(),
            dial: dial_options(c)?,
            outer_proxy: ProxyUrl::new(&transport.proxy_url),
            dns_server: c.dns_server.clone(),
            mux: transport.tcp_mux.unwrap_or(true).then(|| {
                let mut mux = mux::Config::default();
                if let Some(interval) = positive_secs(transport.tcp_mux_keepalive_interval) {
                    mux.keepalive_interval = interval;
                }
                mux
            }),
            wire_version: match transport.wire_protocol.as_str() {
                "" | "v1" => Version::V1,
                "v2" => Version::V2,
                _ => {
                    return Err(Error(
                        "invalid transport.wireProtocol, optional values are [v1 v2]".into(),
                    ));
                }
            },
            pool_count: transport.pool_count,
            heartbeat_interval,
            // Without Pings there are no Pongs to miss.
            heartbeat_timeout: heartbeat_interval
                .and_then(|_| positive_secs(transport.heartbeat_timeout)),
            oidc: match c.auth.method.as_str() {
                "oidc" => Some(Arc::new(TokenSource::new(&c.auth.oidc).map_err(Error)?)),
                _ => None,
            },
            scopes: Scopes {
                heartbeats: c.auth.additional_scopes.iter().any(|s| s == "HeartBeats"),
                new_work_conns: c.auth.additional_scopes.iter().any(|s| s == "NewWorkConns"),
            },
            login_fail_exit: c.login_fail_exit.unwrap_or(true),
            logs: RecordLogs::new(&c.log),
            prometheus: c.enable_prometheus,
            assets_dir: Some(&c.web_server.assets_dir)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            pprof: c.web_server.pprof_enable,
            nat_hole_stun_server: c.nat_hole_stun_server.clone(),
            hole_quic: quic::Options {
                max_incoming_streams: u32::try_from(transport.quic.max_incoming_streams)
                    .ok()
                    .filter(|n| *n > 0)
                    .unwrap_or(quic::Options::default().max_incoming_streams),
                ..quic_options(&transport.quic)
            },
            virtual_net_address: c.virtual_net.address.clone(),
            udp_packet_size: udp::packet_size(c.udp_packet_size),
        })
    }
}

fn dial_options(c: &ClientConfig) -> Result<DialOptions, Error> {
    let transport = &c.transport;
    Ok(DialOptions {
        host: without_brackets(&c.server_addr).into(),
        port: port("serverPort", c.server_port)?,
        timeout: positive_secs(transport.dial_server_timeout)
            .unwrap_or(Duration::from_secs(DIAL_TIMEOUT_SECS)),
        keepalive_secs: transport.dial_server_keepalive,
        local_ip: local_ip(transport),
    })
}

fn port(key: &str, port: i64) -> Result<u16, Error> {
    u16::try_from(port).map_err(|_| {
        Error(format!(
            "{key}: port number {port} must be in the range 0..65535"
        ))
    })
}

fn ways(c: &ClientConfig) -> Result<Vec<Way>, Error> {
    let transport = &c.transport;
    let way = |protocol, (key, own): (&str, i64)| {
        let (key, own) = match own {
            0 => ("serverPort", c.server_port),
            _ => (key, own),
        };
        Ok(Way {
            protocol,
            port: port(key, own)?,
            tls: tls(c, protocol),
        })
    };
    if transport.protocol != "auto" {
        return Ok(vec![way(Protocol::new(transport)?, ("", 0))?]);
    }
    if transport.tls.enable == Some(false) {
        return Err(Error(AUTO_WITHOUT_TLS.into()));
    }
    let auto = &transport.auto;
    let quic = Protocol::Quic(quic_options(&transport.quic));
    let mut ways = vec![
        way(quic, ("transport.auto.quicPort", auto.quic_port))?,
        way(Protocol::Tcp, ("", 0))?,
        way(Protocol::Wss, ("transport.auto.wssPort", auto.wss_port))?,
    ];
    // Who has to go through a proxy is not led around it.
    if !transport.proxy_url.is_empty() {
        ways.remove(0);
    }
    Ok(ways)
}

/// `connectServerLocalIP`; upstream ignores what it cannot use, and so the client goes on with a warning.
fn local_ip(transport: &ClientTransportConfig) -> Option<IpAddr> {
    let text = &transport.connect_server_local_ip;
    let ip = without_brackets(text).parse().ok();
    if ip.is_none() && !text.is_empty() {
        tracing::warn!("transport.connectServerLocalIP: [{text}] is no IP address, ignored");
    }
    ip
}

fn tls(c: &ClientConfig, protocol: Protocol) -> Option<TlsSettings> {
    let config = &c.transport.tls;
    let files = &config.tls;
    let enabled = config.enable.unwrap_or(true) || protocol == Protocol::Wss;
    let always = matches!(protocol, Protocol::Quic(_));
    (enabled || always).then(|| TlsSettings {
        files: if enabled {
            TlsFiles {
                cert_file: files.cert_file.clone().into(),
                key_file: files.key_file.clone().into(),
                trusted_ca_file: files.trusted_ca_file.clone().into(),
            }
        } else {
            TlsFiles::default()
        },
        server_name: if files.server_name.is_empty() {
            without_brackets(&c.server_addr).into()
        } else {
            files.server_name.clone()
        },
        custom_first_byte: protocol != Protocol::Wss
            && !config.disable_custom_tls_first_byte.unwrap_or(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration that needs no more than TCP.
    fn plain() -> ClientConfig {
        let mut c = ClientConfig {
            server_addr: "example.org".into(),
            server_port: 7000,
            ..ClientConfig::default()
        };
        c.transport.tcp_mux = Some(false);
        c
    }

    fn only_way(c: &ClientConfig) -> Way {
        let ways = Settings::new(c).unwrap().ways;
        let [way] = <[Way; 1]>::try_from(ways).unwrap();
        way
    }

    #[test]
    fn tls_is_on_and_names_the_server_unless_told_otherwise() {
        let mut c = plain();
        let tls = only_way(&c).tls.unwrap();
        assert_eq!(
            (tls.server_name.as_str(), tls.custom_first_byte),
            ("example.org", false)
        );
        c.server_addr = "[::1]".into();
        c.transport.tls.disable_custom_tls_first_byte = Some(false);
        let settings = Settings::new(&c).unwrap();
        assert_eq!(settings.dial.host, "::1");
        let tls = only_way(&c).tls.unwrap();
        assert_eq!(
            (tls.server_name.as_str(), tls.custom_first_byte),
            ("::1", true)
        );
        c.transport.tls.tls.server_name = "frps.internal".into();
        assert_eq!(only_way(&c).tls.unwrap().server_name, "frps.internal");
        c.transport.tls.enable = Some(false);
        assert!(only_way(&c).tls.is_none());
    }

    #[test]
    fn auto_prefers_quic_and_always_has_tls() {
        let mut c = plain();
        c.transport.protocol = "auto".into();
        c.transport.auto.wss_port = 443;
        let ways = |c: &ClientConfig| {
            let ways = Settings::new(c).unwrap().ways.into_iter();
            ways.map(|way| (way.protocol.name(), way.port, way.tls.is_some()))
                .collect::<Vec<_>>()
        };
        let (tcp, wss) = (("tcp", 7000, true), ("wss", 443, true));
        assert_eq!(ways(&c), [("quic", 7000, true), tcp, wss]);
        c.transport.proxy_url = "http://proxy".into();
        assert_eq!(ways(&c), [tcp, wss], "QUIC would go around the proxy");
        c.transport.tls.enable = Some(false);
        assert_eq!(Settings::new(&c).unwrap_err().to_string(), AUTO_WITHOUT_TLS);
    }

    #[test]
    fn pongs_are_checked_only_where_pings_are_sent() {
        let mut c = plain();
        c.transport.heartbeat_timeout = 90;
        for (interval, expected) in [(-1, None), (0, None), (30, Some(Duration::from_secs(90)))] {
            c.transport.heartbeat_interval = interval;
            let settings = Settings::new(&c).unwrap();
            assert_eq!(settings.heartbeat_timeout, expected, "interval {interval}");
        }
    }

    #[test]
    fn a_local_address_is_taken_with_and_without_brackets_and_nonsense_is_ignored() {
        let mut c = plain();
        for (text, expected) in [
            ("", None),
            ("10.0.0.1", Some(IpAddr::from([10, 0, 0, 1]))),
            ("[::1]", Some("::1".parse().unwrap())),
            ("::1", Some("::1".parse().unwrap())),
            ("eth0", None),
        ] {
            c.transport.connect_server_local_ip = text.into();
            assert_eq!(Settings::new(&c).unwrap().dial.local_ip, expected, "{text}");
        }
    }

    #[test]
    fn bad_values_name_their_key() {
        let error = |change: fn(&mut ClientConfig)| {
            let mut c = plain();
            change(&mut c);
            Settings::new(&c).unwrap_err().to_string()
        };
        assert!(error(|c| c.server_port = 700_000).contains("serverPort"));
        assert!(error(|c| c.transport.protocol = "udp".into()).contains("transport.protocol"));
        assert_eq!(
            error(|c| c.transport.wire_protocol = "v3".into()),
            "invalid transport.wireProtocol, optional values are [v1 v2]"
        );
    }
}
