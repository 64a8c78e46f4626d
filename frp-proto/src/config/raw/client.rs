//! The schema of frpc's common part (config-frpc.md §4).

use std::collections::BTreeMap;

use super::common::{LogConfig, QuicOptions, StringMap, TlsConfig, ValueSource, WebServerConfig};
pub use super::plugin::*;
pub use super::proxy::*;
pub use super::visitor::*;
use crate::config::Places;
use crate::config::decode::{Record, fill_zero, record};

record! {
    /// The keys upstream keeps in its common struct.
    ClientConfig = "v1.rawClientConfig" {
        version: String = ["version" in "ClientCommonConfig.APIMetadata"],
        auth: AuthClientConfig = ["auth" in "ClientCommonConfig"],
        /// Prefix of proxy names on the wire.
        user: String = ["user" in "ClientCommonConfig"],
        client_id: String = ["clientID" in "ClientCommonConfig"],
        server_addr: String = ["serverAddr" in "ClientCommonConfig"] or "0.0.0.0",
        server_port: i64 = ["serverPort" in "ClientCommonConfig" as "int"] or 7000,
        nat_hole_stun_server: String = ["natHoleStunServer" in "ClientCommonConfig"] or "stun.easyvoip.com:3478",
        dns_server: String = ["dnsServer" in "ClientCommonConfig"],
        login_fail_exit: Option<bool> = ["loginFailExit" in "ClientCommonConfig"] or true,
        /// Names of the proxies and visitors to start; empty = all.
        start: Vec<String> = ["start" in "ClientCommonConfig"],
        log: LogConfig = ["log" in "ClientCommonConfig"],
        /// `/metrics` beside the admin API. Ours, not upstream's.
        enable_prometheus: bool = ["enablePrometheus"],
        web_server: WebServerConfig = ["webServer" in "ClientCommonConfig"],
        transport: ClientTransportConfig = ["transport" in "ClientCommonConfig"],
        virtual_net: VirtualNetConfig = ["virtualNet" in "ClientCommonConfig"],
        feature_gates: BTreeMap<String, bool> = ["featureGates" in "ClientCommonConfig"],
        /// Bytes.
        udp_packet_size: i64 = ["udpPacketSize" in "ClientCommonConfig"] or 1500,
        metadatas: StringMap = ["metadatas" in "ClientCommonConfig"],
        includes: Vec<String> = ["includes" in "ClientCommonConfig"],
        store: StoreConfig = ["store" in "ClientCommonConfig"],
        /// Where more proxies and visitors come from. Ours, not upstream's.
        sources: Vec<SourceConfig> = ["sources"],
        /// Which proxies frps may push; without it, none. Ours, not upstream's.
        accept_proxies: Option<AcceptProxiesConfig> = ["acceptProxies"],
        proxies: Vec<ProxyConfig> = [deferred "proxies" as "[]jsonx.RawMessage"],
        visitors: Vec<VisitorConfig> = [deferred "visitors" as "[]jsonx.RawMessage"],
        /// Where the keys stood, for the texts of validation.
        places: Places = [hidden],
    }
}

impl ClientConfig {
    /// Replaces every zero value of the common part by its default, those that depend on others included; a second call changes nothing.
    ///
    /// `transport.proxyURL` falls back to the environment's `http_proxy`, which only the loader knows.
    pub fn complete(&mut self) {
        self.fill_defaults();
        if let Some(accept) = &mut self.accept_proxies {
            accept.fill_defaults();
        }
        let transport = &mut self.transport;
        let (interval, timeout) = if transport.tcp_mux == Some(true) {
            (-1, -1)
        } else {
            (30, 90)
        };
        fill_zero(&mut transport.heartbeat_interval, interval);
        fill_zero(&mut transport.heartbeat_timeout, timeout);
    }
}

record! {
    /// One of `sources`: proxies and visitors that are looked at again and again.
    SourceConfig = "v1.SourceConfig" {
        /// `file`, `directory` or `http`.
        type_: String = ["type"],
        /// Of the file or directory, relative to the working directory.
        path: String = ["path"],
        /// `http://` or `https://`; may hold credentials.
        url: String = [secret "url"],
        /// Seconds between two looks; 30 if 0.
        interval: i64 = ["interval"],
        /// What `https` is verified by; empty = the roots of the system.
        trusted_ca_file: String = ["trustedCaFile"],
    }
}

record! {
    /// `acceptProxies`: what this client lets frps have it serve.
    AcceptProxiesConfig = "v1.AcceptProxiesConfig" {
        /// See [`LocalTargets`](crate::config::LocalTargets).
        local_targets: Vec<String> = ["localTargets"],
        /// Types of proxies; empty = all but `xtcp`, which sends datagrams to addresses that frps names.
        types: Vec<String> = ["types"],
        /// At a time.
        max_proxies: i64 = ["maxProxies" as "int"] or 32,
    }
}

record! {
    /// `store`.
    StoreConfig = "v1.StoreConfig" {
        /// Relative to the directory of the configuration file.
        path: String = ["path"],
    }
}

record! {
    /// `virtualNet`.
    VirtualNetConfig = "v1.VirtualNetConfig" {
        /// CIDR of the local interface.
        address: String = ["address"],
    }
}

record! {
    /// `auth`.
    AuthClientConfig = "v1.AuthClientConfig" {
        method: String = ["method" as "v1.AuthMethod"] or "token",
        additional_scopes: Vec<String> = ["additionalScopes" as "[]v1.AuthScope"],
        token: String = [secret "token"],
        token_source: Option<ValueSource> = ["tokenSource"],
        oidc: AuthOidcClientConfig = ["oidc"],
    }
}

record! {
    /// `auth.oidc`.
    AuthOidcClientConfig = "v1.AuthOIDCClientConfig" {
        client_id: String = ["clientID"],
        client_secret: String = [secret "clientSecret"],
        audience: String = ["audience"],
        scope: String = ["scope"],
        token_endpoint_url: String = ["tokenEndpointURL"],
        additional_endpoint_params: StringMap = [secret "additionalEndpointParams"],
        trusted_ca_file: String = ["trustedCaFile"],
        insecure_skip_verify: bool = ["insecureSkipVerify"],
        proxy_url: String = [secret "proxyURL"],
        /// Excludes every other key of the table.
        token_source: Option<ValueSource> = ["tokenSource"],
    }
}

record! {
    /// `transport`.
    ClientTransportConfig = "v1.ClientTransportConfig" {
        /// `tcp`, `kcp`, `quic`, `websocket` or `wss`; ours only: `auto`.
        protocol: String = ["protocol"] or "tcp",
        /// `v1` or `v2`.
        wire_protocol: String = ["wireProtocol"] or "v1",
        /// Seconds.
        dial_server_timeout: i64 = ["dialServerTimeout"] or 10,
        /// Seconds; negative = off.
        dial_server_keepalive: i64 = ["dialServerKeepalive"] or 7200,
        connect_server_local_ip: String = ["connectServerLocalIP"],
        proxy_url: String = [secret "proxyURL"],
        pool_count: i64 = ["poolCount" as "int"] or 1,
        tcp_mux: Option<bool> = ["tcpMux"] or true,
        /// Seconds.
        tcp_mux_keepalive_interval: i64 = ["tcpMuxKeepaliveInterval"] or 30,
        quic: QuicOptions = ["quic"],
        /// For the protocol `auto`. Ours, not upstream's.
        auto: AutoTransportConfig = ["auto"],
        /// Seconds; −1 with `tcpMux`, else 30; not above 0 = no Ping.
        heartbeat_interval: i64 = ["heartbeatInterval"],
        /// Seconds; −1 with `tcpMux`, else 90; not above 0 = not checked.
        heartbeat_timeout: i64 = ["heartbeatTimeout"],
        tls: TlsClientConfig = ["tls"],
    }
}

record! {
    /// `transport.auto`: where the ways that need not end at `serverPort` end; 0 = there.
    AutoTransportConfig = "v1.AutoTransportConfig" {
        quic_port: i64 = ["quicPort" as "int"],
        wss_port: i64 = ["wssPort" as "int"],
    }
}

record! {
    /// `transport.tls`.
    TlsClientConfig = "v1.TLSClientConfig" {
        enable: Option<bool> = ["enable"] or true,
        disable_custom_tls_first_byte: Option<bool> = ["disableCustomTLSFirstByte"] or true,
        tls: TlsConfig = [embed "TLSConfig"],
    }
}
