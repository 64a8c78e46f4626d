//! The schema of frps (config-frps.md §6.1).

use super::balancing::ServerBalancing;
use super::common::{LogConfig, PortsRange, QuicOptions, TlsConfig, ValueSource, WebServerConfig};
use crate::config::Places;
use crate::config::decode::{Record, fill_zero, record};

record! {
    /// Everything a server's file can say.
    ServerConfig = "v1.ServerConfig" {
        version: String = ["version" in "APIMetadata"],
        auth: AuthServerConfig = ["auth"],
        /// Address of the client port, KCP, QUIC and the SSH gateway.
        bind_addr: String = ["bindAddr"] or "0.0.0.0",
        bind_port: i64 = ["bindPort" as "int"] or 7000,
        /// 0 = off.
        kcp_bind_port: i64 = ["kcpBindPort" as "int"],
        /// 0 = off.
        quic_bind_port: i64 = ["quicBindPort" as "int"],
        /// Address of proxy ports; that of `bindAddr` if empty.
        proxy_bind_addr: String = ["proxyBindAddr"],
        /// 0 = off.
        vhost_http_port: i64 = ["vhostHTTPPort" as "int"],
        /// Seconds to the response header of a backend.
        vhost_http_timeout: i64 = ["vhostHTTPTimeout"] or 60,
        /// 0 = off.
        vhost_https_port: i64 = ["vhostHTTPSPort" as "int"],
        /// 0 = off.
        tcpmux_http_connect_port: i64 = ["tcpmuxHTTPConnectPort" as "int"],
        tcpmux_passthrough: bool = ["tcpmuxPassthrough"],
        sub_domain_host: String = ["subDomainHost"],
        custom_404_page: String = ["custom404Page"],
        ssh_tunnel_gateway: SshTunnelGateway = ["sshTunnelGateway"],
        web_server: WebServerConfig = ["webServer"],
        enable_prometheus: bool = ["enablePrometheus"],
        log: LogConfig = ["log"],
        transport: ServerTransportConfig = ["transport"],
        detailed_errors_to_client: Option<bool> = ["detailedErrorsToClient"] or true,
        /// 0 or less = no limit.
        max_ports_per_client: i64 = ["maxPortsPerClient"],
        /// Seconds.
        user_conn_timeout: i64 = ["userConnTimeout"] or 10,
        /// Bytes.
        udp_packet_size: i64 = ["udpPacketSize"] or 1500,
        /// Hours.
        nathole_analysis_data_reserve_hours: i64 = ["natholeAnalysisDataReserveHours"] or 168,
        /// Empty = every port.
        allow_ports: Vec<PortsRange> = ["allowPorts"],
        http_plugins: Vec<HttpPluginOptions> = ["httpPlugins"],
        /// Ours, not upstream's.
        proxy_protocol: ProxyProtocolConfig = ["proxyProtocol"],
        /// Ours, not upstream's.
        traffic_history: TrafficHistoryConfig = ["trafficHistory"],
        /// Ours, not upstream's; absent = upstream's groups.
        load_balancer: Option<ServerBalancing> = ["loadBalancer"],
        /// Where the keys stood, for the texts of validation.
        places: Places = [hidden],
    }
}

impl ServerConfig {
    /// Replaces every zero value by its default, those that depend on others included; a second call changes nothing.
    pub fn complete(&mut self) {
        self.fill_defaults();
        fill_zero(&mut self.proxy_bind_addr, self.bind_addr.clone());
        let transport = &mut self.transport;
        let timeout = if transport.tcp_mux == Some(true) {
            -1
        } else {
            90
        };
        fill_zero(&mut transport.heartbeat_timeout, timeout);
        transport.tls.force |= !transport.tls.tls.trusted_ca_file.is_empty();
    }
}

record! {
    /// `auth`.
    AuthServerConfig = "v1.AuthServerConfig" {
        method: String = ["method" as "v1.AuthMethod"] or "token",
        additional_scopes: Vec<String> = ["additionalScopes" as "[]v1.AuthScope"],
        token: String = [secret "token"],
        token_source: Option<ValueSource> = ["tokenSource"],
        oidc: AuthOidcServerConfig = ["oidc"],
    }
}

record! {
    /// `auth.oidc`.
    AuthOidcServerConfig = "v1.AuthOIDCServerConfig" {
        issuer: String = ["issuer"],
        audience: String = ["audience"],
        skip_expiry_check: bool = ["skipExpiryCheck"],
        skip_issuer_check: bool = ["skipIssuerCheck"],
    }
}

record! {
    /// `transport`.
    ServerTransportConfig = "v1.ServerTransportConfig" {
        tcp_mux: Option<bool> = ["tcpMux"] or true,
        /// Seconds.
        tcp_mux_keepalive_interval: i64 = ["tcpMuxKeepaliveInterval"] or 30,
        /// Seconds; negative = off.
        tcp_keepalive: i64 = ["tcpKeepalive"] or 7200,
        max_pool_count: i64 = ["maxPoolCount"] or 5,
        /// Seconds; −1 with `tcpMux`, else 90; not above 0 = not checked.
        heartbeat_timeout: i64 = ["heartbeatTimeout"],
        quic: QuicOptions = ["quic"],
        tls: TlsServerConfig = ["tls"],
    }
}

record! {
    /// `transport.tls`.
    TlsServerConfig = "v1.TLSServerConfig" {
        /// Refuse clients without TLS; implied by a trusted CA.
        force: bool = ["force"],
        tls: TlsConfig = [embed "TLSConfig"],
    }
}

record! {
    /// `sshTunnelGateway`.
    SshTunnelGateway = "v1.SSHTunnelGateway" {
        /// 0 = off.
        bind_port: i64 = ["bindPort" as "int"],
        private_key_file: String = ["privateKeyFile"],
        auto_gen_private_key_path: String = ["autoGenPrivateKeyPath"] or "./.autogen_ssh_key",
        authorized_keys_file: String = ["authorizedKeysFile"],
    }
}

record! {
    /// One of `httpPlugins`: an HTTP service asked about operations.
    HttpPluginOptions = "v1.HTTPPluginOptions" {
        name: String = ["name"],
        addr: String = ["addr"],
        path: String = ["path"],
        ops: Vec<String> = ["ops"],
        tls_verify: bool = ["tlsVerify"],
    }
}

record! {
    /// `trafficHistory`: statistics that outlive the program.
    TrafficHistoryConfig = "v1.TrafficHistoryConfig" {
        /// The file; empty = none.
        path: String = ["path"],
    }
}

record! {
    /// `proxyProtocol`: balancers in front that say whom a connection comes from.
    ProxyProtocolConfig = "v1.ProxyProtocolConfig" {
        /// Whose headers are believed: networks or addresses. Empty = off.
        trusted_cidrs: Vec<String> = ["trustedCIDRs"],
        /// Which ports they connect to: `bind`, `http`, `https`, `tcpmux`, `proxy`.
        ports: Vec<String> = ["ports"],
    }
}
