//! The command line of `frps` (config-frps.md §1).

use frp_proto::cli::Command;
use frp_proto::cli::completion::{Complete, Completion};
use frp_proto::config::number_spans;
use frp_proto::config::raw::common::{LogConfig, PortsRange, WebServerConfig};
use frp_proto::config::raw::server::ServerConfig;

type Flag = frp_proto::cli::Flag<Options>;

/// What was typed.
pub(crate) struct Options {
    /// Path of the configuration file; empty = the flags are the configuration.
    pub(crate) config: String,
    pub(crate) version: bool,
    pub(crate) strict_config: bool,
    pub(crate) allow_unsafe: Vec<String>,
    /// What the flags say; ignored with a file.
    pub(crate) server: ServerConfig,
    /// Of completion scripts.
    pub(crate) no_descriptions: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: String::new(),
            version: false,
            strict_config: true,
            allow_unsafe: Vec::new(),
            server: ServerConfig {
                bind_addr: "0.0.0.0".to_owned(),
                bind_port: 7000,
                proxy_bind_addr: "0.0.0.0".to_owned(),
                vhost_http_timeout: 60,
                web_server: WebServerConfig {
                    addr: "0.0.0.0".to_owned(),
                    user: "admin".to_owned(),
                    password: "admin".to_owned(),
                    ..WebServerConfig::default()
                },
                log: LogConfig {
                    to: "console".to_owned(),
                    level: "info".to_owned(),
                    max_days: 3,
                    format: "text".to_owned(),
                    ..LogConfig::default()
                },
                ..ServerConfig::default()
            },
            no_descriptions: false,
        }
    }
}

impl Complete for Options {
    fn root() -> &'static Command<Self> {
        &ROOT
    }

    fn no_descriptions(&mut self) -> &mut bool {
        &mut self.no_descriptions
    }
}

pub(crate) static ROOT: Command<Options> = Command {
    flags: FLAGS,
    commands: &[
        Command {
            run: Some(crate::verify),
            ..Command::new("verify", "Verify that the configures is valid")
        },
        Completion::COMMAND,
    ],
    run: Some(crate::run),
    ..Command::new("frps", "frps is the server of frp, in Rust")
};

const FLAGS: &[Flag] = &[
    Flag::text("config", "config file of frps", |o| &mut o.config).short('c'),
    Flag::bool("version", "version of frps", |o| &mut o.version).short('v'),
    Flag::bool(
        "strict-config",
        "strict config parsing mode, unknown fields will cause errors",
        |o| &mut o.strict_config,
    ),
    Flag::list(
        "allow-unsafe",
        "allowed unsafe features, one or more of: TokenSourceExec",
        |o| &mut o.allow_unsafe,
    ),
    Flag::text("bind-addr", "bind address", |o| &mut o.server.bind_addr),
    Flag::int("bind-port", "bind port", |o| &mut o.server.bind_port).short('p'),
    Flag::int("kcp-bind-port", "kcp bind udp port", |o| {
        &mut o.server.kcp_bind_port
    }),
    Flag::int("quic-bind-port", "quic bind udp port", |o| {
        &mut o.server.quic_bind_port
    }),
    Flag::text("proxy-bind-addr", "proxy bind address", |o| {
        &mut o.server.proxy_bind_addr
    }),
    Flag::int("vhost-http-port", "vhost http port", |o| {
        &mut o.server.vhost_http_port
    }),
    Flag::int("vhost-https-port", "vhost https port", |o| {
        &mut o.server.vhost_https_port
    }),
    Flag::int(
        "vhost-http-timeout",
        "vhost http response header timeout",
        |o| &mut o.server.vhost_http_timeout,
    ),
    Flag::text("dashboard-addr", "dashboard address", |o| {
        &mut o.server.web_server.addr
    }),
    Flag::int("dashboard-port", "dashboard port", |o| {
        &mut o.server.web_server.port
    }),
    Flag::text("dashboard-user", "dashboard user", |o| {
        &mut o.server.web_server.user
    }),
    Flag::text("dashboard-pwd", "dashboard password", |o| {
        &mut o.server.web_server.password
    }),
    Flag::parsed(
        "dashboard-tls-cert-file",
        "dashboard tls cert file",
        "string",
        ignore,
    ),
    Flag::parsed(
        "dashboard-tls-key-file",
        "dashboard tls key file",
        "string",
        ignore,
    ),
    Flag::parsed(
        "dashboard-tls-mode",
        "if enable dashboard tls mode",
        "",
        ignore,
    ),
    Flag::bool("enable-prometheus", "enable prometheus dashboard", |o| {
        &mut o.server.enable_prometheus
    }),
    Flag::text("log-file", "log file", |o| &mut o.server.log.to),
    Flag::text("log-level", "log level", |o| &mut o.server.log.level),
    Flag::int("log-max-days", "log max days", |o| {
        &mut o.server.log.max_days
    }),
    Flag::bool("disable-log-color", "disable log color in console", |o| {
        &mut o.server.log.disable_print_color
    }),
    Flag::text("token", "auth token", |o| &mut o.server.auth.token).short('t'),
    Flag::text("subdomain-host", "subdomain host", |o| {
        &mut o.server.sub_domain_host
    }),
    Flag::parsed("allow-ports", "allow ports", "string", set_allow_ports),
    Flag::int("max-ports-per-client", "max ports per client", |o| {
        &mut o.server.max_ports_per_client
    }),
    Flag::bool("tls-only", "frps tls only", |o| {
        &mut o.server.transport.tls.force
    }),
];

/// Upstream reads these and never uses them.
#[expect(clippy::unnecessary_wraps, reason = "the type of every parsed flag")]
fn ignore(_: &mut Options, _: &str) -> Result<(), String> {
    Ok(())
}

fn set_allow_ports(options: &mut Options, text: &str) -> Result<(), String> {
    options.server.allow_ports = number_spans(text)?
        .into_iter()
        .map(|(start, end)| PortsRange {
            start,
            end,
            ..PortsRange::default()
        })
        .collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use frp_proto::cli::parse;

    use super::*;

    fn options(args: &[&str]) -> Options {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        parse(&ROOT, args).map(|(_, options)| options).unwrap()
    }

    #[test]
    fn no_flags_are_a_complete_configuration() {
        let server = options(&[]).server;
        let mut completed = server.clone();
        completed.complete();
        assert_eq!(completed.bind_addr, server.bind_addr);
        assert_eq!(completed.bind_port, 7000);
        assert_eq!(completed.web_server, server.web_server);
        assert_eq!(completed.log, server.log);
        assert_eq!(completed.vhost_http_timeout, server.vhost_http_timeout);
    }

    #[test]
    fn flags_set_their_keys() {
        let server = options(&[
            "-p",
            "7100",
            "-t",
            "secret",
            "--bind_addr=127.0.0.1",
            "--proxy-bind-addr",
            "::1",
            "--allow_ports",
            "1",
            "--allow_ports",
            "1000-2000,3000",
            "--max_ports_per_client=2",
            "--tls-only",
            "--log-level=debug",
            "--log-file",
            "f",
            "--log-max-days=9",
            "--disable-log-color",
            "--dashboard-port=1",
            "--dashboard_user",
            "u",
            "--dashboard-pwd=p",
            "--dashboard-addr=a",
            "--enable-prometheus",
            "--subdomain-host=h",
            "--vhost-http-port=2",
            "--vhost-https-port=3",
            "--vhost-http-timeout=4",
            "--kcp-bind-port=5",
            "--quic-bind-port=6",
            "--dashboard-tls-mode",
            "any",
            "--dashboard-tls-cert-file=c",
        ])
        .server;
        let expected = ServerConfig {
            bind_addr: "127.0.0.1".to_owned(),
            bind_port: 7100,
            kcp_bind_port: 5,
            quic_bind_port: 6,
            proxy_bind_addr: "::1".to_owned(),
            vhost_http_port: 2,
            vhost_https_port: 3,
            vhost_http_timeout: 4,
            sub_domain_host: "h".to_owned(),
            enable_prometheus: true,
            max_ports_per_client: 2,
            allow_ports: [(1000, 2000), (3000, 3000)]
                .map(|(start, end)| PortsRange {
                    start,
                    end,
                    ..PortsRange::default()
                })
                .to_vec(),
            log: LogConfig {
                to: "f".to_owned(),
                level: "debug".to_owned(),
                max_days: 9,
                disable_print_color: true,
                format: "text".to_owned(),
                ..LogConfig::default()
            },
            web_server: WebServerConfig {
                addr: "a".to_owned(),
                port: 1,
                user: "u".to_owned(),
                password: "p".to_owned(),
                ..WebServerConfig::default()
            },
            ..ServerConfig::default()
        };
        let mut expected = expected;
        expected.auth.token = "secret".to_owned();
        expected.transport.tls.force = true;
        assert_eq!(server, expected);
    }
}
