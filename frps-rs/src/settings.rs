//! The checked form of the configuration: parsed once, nothing optional that must be present.

mod web;

use std::path::PathBuf;
use std::time::Duration;

use frp_proto::config;
use frp_proto::config::raw::common::QuicOptions;
use frp_proto::config::raw::server::{AuthOidcServerConfig, ProxyProtocolConfig, ServerConfig};
use frp_proto::mux;
use frp_proto::quic;
use frp_proto::telemetry::RecordLogs;
use frp_proto::tls::TlsFiles;
use frp_proto::udp;

use crate::accept::detect::SharedPort;
use crate::balance::BalancingSettings;
use crate::ports::PortSet;
use crate::proxy_protocol::{Listener, ProxyProtocol};
use crate::{Error, PluginSettings, SshGatewaySettings};
pub use web::{Info, WebSettings};

/// Messages that carry authentication besides Login (`auth.additionalScopes`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Ping is checked.
    pub heartbeats: bool,
    /// `NewWorkConn` is checked.
    pub new_work_conns: bool,
}

/// What the server runs with. Keys and defaults: config-frps.md §6.1.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address of the client port.
    pub bind_addr: String,
    /// Client port; 0 lets the system choose (an embedding program's choice, no file can say it).
    pub bind_port: u16,
    /// UDP port for KCP clients; `None` = off, 0 lets the system choose.
    pub kcp_port: Option<u16>,
    /// UDP port for QUIC clients; `None` = off, 0 lets the system choose.
    pub quic_port: Option<u16>,
    /// QUIC knobs.
    pub quic: quic::Options,
    /// Address of proxy ports.
    pub proxy_bind_addr: String,
    /// Ports that proxies may ask for.
    pub allow_ports: PortSet,
    /// Ports one client may hold; `None` = no limit.
    pub max_ports_per_client: Option<usize>,
    /// Longest datagram of `udp` proxies; longer ones are cut.
    pub udp_packet_size: usize,
    /// Wait of a user connection for a work connection.
    pub user_conn_timeout: Duration,
    /// Whether clients are told why something failed.
    pub detailed_errors: bool,
    /// The identity provider that clients have tokens of; `None` = frp's own token decides.
    pub oidc: Option<AuthOidcServerConfig>,
    /// Messages that carry authentication besides Login.
    pub scopes: Scopes,
    /// Whether client connections carry the mux.
    pub tcp_mux: bool,
    /// Mux knobs.
    pub mux: mux::Config,
    /// Idle seconds before TCP keepalive probes; negative = off.
    pub tcp_keepalive: i64,
    /// Upper bound of a client's `poolCount`.
    pub max_pool_count: usize,
    /// Silence after which a session ends; `None` = not checked.
    pub heartbeat_timeout: Option<Duration>,
    /// Certificate, key and client CA.
    pub tls_files: TlsFiles,
    /// Refuse clients without TLS.
    pub tls_force: bool,
    /// Which vhost ports the file names, for the error texts of proxies that need them.
    pub vhost_ports: VhostPorts,
    /// Where statistics are kept over restarts.
    pub traffic_history: Option<PathBuf>,
    /// Logs of what is over.
    pub logs: RecordLogs,
    /// The SSH tunnel gateway; `None` = off.
    pub ssh_gateway: Option<SshGatewaySettings>,
    /// The admin server; `None` = off.
    pub web: Option<WebSettings>,
    /// Suffix of the domains that `subdomain` gives; empty = off.
    pub sub_domain_host: String,
    /// Which vhost ports share the client port.
    pub shared_port: SharedPort,
    /// Balancers in front.
    pub proxy_protocol: ProxyProtocol,
    /// How long an `http` backend may take to begin its answer.
    pub vhost_http_timeout: Duration,
    /// Page for requests that nobody answers, in place of the built-in one.
    pub custom_404_page: Option<PathBuf>,
    /// How long it is remembered between which `xtcp` peers what has worked, if it is not used.
    pub nat_hole_memory: Duration,
    /// How groups are balanced.
    pub balancing: BalancingSettings,
    /// HTTP services that are asked, in their order.
    pub plugins: Vec<PluginSettings>,
}

/// `vhostHTTPTimeout` when the file gives none, or a negative one.
const VHOST_HTTP_TIMEOUT: Duration = Duration::from_mins(1);

/// `natholeAnalysisDataReserveHours` when the file gives none, or a negative one.
const NAT_HOLE_MEMORY: Duration = Duration::from_hours(168);

/// Vhost ports as configured (0 = off).
#[derive(Debug, Clone, Copy, Default)]
pub struct VhostPorts {
    /// `vhostHTTPPort`.
    pub http: i64,
    /// `vhostHTTPSPort`.
    pub https: i64,
    /// `tcpmuxHTTPConnectPort`.
    pub tcpmux: i64,
    /// `tcpmuxPassthrough`: whether it is the backend that answers `CONNECT`.
    pub tcpmux_passthrough: bool,
}

/// Positive seconds; zero and negative give `None`.
fn positive_secs(n: i64) -> Option<Duration> {
    u64::try_from(n)
        .ok()
        .filter(|n| *n > 0)
        .map(Duration::from_secs)
}

fn port(key: &str, port: i64) -> Result<u16, Error> {
    u16::try_from(port).map_err(|_| {
        Error(format!(
            "{key}: port number {port} must be in the range 0..65535"
        ))
    })
}

/// A port that is off when it is 0.
fn udp_port(key: &str, value: i64) -> Result<Option<u16>, Error> {
    port(key, value).map(|port| (port != 0).then_some(port))
}

/// What is not positive counts as the default.
fn quic_options(c: &QuicOptions) -> quic::Options {
    let default = quic::Options::default();
    quic::Options {
        keepalive_period: positive_secs(c.keepalive_period).unwrap_or(default.keepalive_period),
        max_idle_timeout: positive_secs(c.max_idle_timeout).unwrap_or(default.max_idle_timeout),
        max_incoming_streams: u32::try_from(c.max_incoming_streams)
            .ok()
            .filter(|n| *n > 0)
            .unwrap_or(default.max_incoming_streams),
        congestion: quic::Congestion::from_name(&c.congestion).unwrap_or_default(),
    }
}

fn proxy_protocol(c: &ProxyProtocolConfig) -> Result<ProxyProtocol, Error> {
    let wrong = |what: &String| Error(format!("proxyProtocol: {what:?} is not valid"));
    let network = |text: &String| config::network(text).ok_or_else(|| wrong(text));
    let listener = |name: &String| Listener::from_name(name).ok_or_else(|| wrong(name));
    Ok(ProxyProtocol {
        trusted: c
            .trusted_cidrs
            .iter()
            .map(network)
            .collect::<Result<_, _>>()?,
        listeners: c.ports.iter().map(listener).collect::<Result<_, _>>()?,
    })
}

impl Settings {
    /// Takes over a loaded and validated configuration.
    pub fn new(c: &ServerConfig) -> Result<Self, Error> {
        let transport = &c.transport;
        let tcp_mux = transport.tcp_mux.unwrap_or(true);
        let mut mux = mux::Config::default();
        if let Some(interval) = positive_secs(transport.tcp_mux_keepalive_interval) {
            mux.keepalive_interval = interval;
        }
        Ok(Self {
            bind_addr: c.bind_addr.clone(),
            bind_port: port("bindPort", c.bind_port)?,
            kcp_port: udp_port("kcpBindPort", c.kcp_bind_port)?,
            quic_port: udp_port("quicBindPort", c.quic_bind_port)?,
            quic: quic_options(&transport.quic),
            proxy_bind_addr: c.proxy_bind_addr.clone(),
            allow_ports: PortSet::new(c.allow_ports.iter().map(|r| (r.start, r.end, r.single))),
            max_ports_per_client: usize::try_from(c.max_ports_per_client)
                .ok()
                .filter(|n| *n > 0),
            udp_packet_size: udp::packet_size(c.udp_packet_size),
            user_conn_timeout: positive_secs(c.user_conn_timeout).unwrap_or(Duration::ZERO),
            nat_hole_memory: u64::try_from(c.nathole_analysis_data_reserve_hours)
                .ok()
                .filter(|n| *n > 0)
                .map_or(NAT_HOLE_MEMORY, |n| {
                    Duration::from_secs(n.saturating_mul(3_600))
                }),
            detailed_errors: c.detailed_errors_to_client.unwrap_or(true),
            oidc: (c.auth.method == "oidc").then(|| c.auth.oidc.clone()),
            scopes: Scopes {
                heartbeats: c.auth.additional_scopes.iter().any(|s| s == "HeartBeats"),
                new_work_conns: c.auth.additional_scopes.iter().any(|s| s == "NewWorkConns"),
            },
            tcp_mux,
            mux,
            tcp_keepalive: transport.tcp_keepalive,
            max_pool_count: usize::try_from(transport.max_pool_count).unwrap_or(0),
            heartbeat_timeout: positive_secs(transport.heartbeat_timeout),
            tls_files: TlsFiles {
                cert_file: transport.tls.tls.cert_file.clone().into(),
                key_file: transport.tls.tls.key_file.clone().into(),
                trusted_ca_file: transport.tls.tls.trusted_ca_file.clone().into(),
            },
            tls_force: transport.tls.force || !transport.tls.tls.trusted_ca_file.is_empty(),
            vhost_ports: VhostPorts {
                http: c.vhost_http_port,
                https: c.vhost_https_port,
                tcpmux: c.tcpmux_http_connect_port,
                tcpmux_passthrough: c.tcpmux_passthrough,
            },
            traffic_history: Some(&c.traffic_history.path)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            logs: RecordLogs::new(&c.log),
            ssh_gateway: SshGatewaySettings::new(&c.ssh_tunnel_gateway)?,
            web: WebSettings::new(c)?,
            sub_domain_host: c.sub_domain_host.clone(),
            shared_port: SharedPort::new(c),
            proxy_protocol: proxy_protocol(&c.proxy_protocol)?,
            vhost_http_timeout: positive_secs(c.vhost_http_timeout).unwrap_or(VHOST_HTTP_TIMEOUT),
            custom_404_page: Some(&c.custom_404_page)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            balancing: BalancingSettings::new(c.load_balancer.as_ref())?,
            plugins: c
                .http_plugins
                .iter()
                .map(PluginSettings::new)
                .collect::<Result<_, _>>()?,
        })
    }
}
