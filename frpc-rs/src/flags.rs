//! The command line of `frpc` (config-frpc.md §13).

use std::time::Duration;

use frp_proto::cli::{Command, Run};
use frp_proto::config::bandwidth;
use frp_proto::config::raw::client::{ClientConfig, ProxyBase, ProxyConfig, ProxyKind};
use frp_proto::config::raw::common::LogConfig;

type Flag = frp_proto::cli::Flag<Options>;

/// What was typed.
pub(crate) struct Options {
    /// Path of the configuration file.
    pub(crate) config: String,
    /// Directory whose files are all run; empty = just `config`.
    pub(crate) config_dir: String,
    pub(crate) version: bool,
    pub(crate) strict_config: bool,
    pub(crate) allow_unsafe: Vec<String>,
    /// For a call of the admin API.
    pub(crate) api_timeout: Duration,
    /// The common part of a client without a file.
    pub(crate) client: ClientConfig,
    /// Its proxy, but for what depends on the type.
    pub(crate) proxy: ProxyBase,
    pub(crate) remote_port: i64,
}

impl Default for Options {
    fn default() -> Self {
        let mut client = ClientConfig {
            server_addr: "127.0.0.1".to_owned(),
            server_port: 7000,
            login_fail_exit: Some(true),
            log: LogConfig {
                to: "console".to_owned(),
                level: "info".to_owned(),
                max_days: 3,
                ..LogConfig::default()
            },
            ..ClientConfig::default()
        };
        "tcp".clone_into(&mut client.transport.protocol);
        let mut proxy = ProxyBase {
            local_ip: "127.0.0.1".to_owned(),
            ..ProxyBase::default()
        };
        "client".clone_into(&mut proxy.transport.bandwidth_limit_mode);
        Self {
            config: "./frpc.ini".to_owned(),
            config_dir: String::new(),
            version: false,
            strict_config: true,
            allow_unsafe: Vec::new(),
            api_timeout: Duration::from_secs(30),
            client,
            proxy,
            remote_port: 0,
        }
    }
}

impl Options {
    /// The client of `frpc tcp`: defaults filled in.
    pub(crate) fn tcp_client(self) -> ClientConfig {
        let mut proxy = ProxyConfig {
            base: self.proxy,
            kind: ProxyKind::Tcp {
                remote_port: self.remote_port,
            },
        };
        "tcp".clone_into(&mut proxy.base.type_);
        proxy.complete();
        let mut client = self.client;
        client.complete();
        client.proxies = vec![proxy];
        client
    }
}

pub(crate) static ROOT: Command<Options> = Command {
    name: "frpc",
    about: "frpc is the client of frp, in Rust",
    flags: &[
        Flag::text("config", "configuration file", |o| &mut o.config).short('c'),
        Flag::text(
            "config-dir",
            "run a client for each file of a directory",
            |o| &mut o.config_dir,
        ),
        Flag::bool("version", "version of frpc", |o| &mut o.version).short('v'),
        Flag::bool("strict-config", "refuse unknown keys", |o| {
            &mut o.strict_config
        }),
        Flag::list(
            "allow-unsafe",
            "unsafe features to allow, one or more of: TokenSourceExec",
            |o| &mut o.allow_unsafe,
        ),
    ],
    commands: &[
        command(
            "verify",
            "Verify that a configuration file is valid",
            &[],
            crate::verify,
        ),
        command(
            "tcp",
            "Run a client with a single tcp proxy",
            TCP_FLAGS,
            crate::tcp,
        ),
        command(
            "reload",
            "Make a running client read its file again",
            API_FLAGS,
            crate::reload,
        ),
        command(
            "status",
            "Show where the proxies of a running client stand",
            API_FLAGS,
            crate::status,
        ),
        command("stop", "Stop a running client", API_FLAGS, crate::stop),
        later("udp"),
        later("http"),
        later("https"),
        later("tcpmux"),
        later("stcp"),
        later("sudp"),
        later("xtcp"),
        later("nathole"),
        later("completion"),
    ],
    run: Some(crate::run),
};

const fn command(
    name: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    run: Run<Options>,
) -> Command<Options> {
    Command {
        name,
        about,
        flags,
        commands: &[],
        run: Some(run),
    }
}

/// A command of upstream that is refused by name.
const fn later(name: &'static str) -> Command<Options> {
    Command {
        name,
        about: "",
        flags: &[],
        commands: &[],
        run: None,
    }
}

const API_FLAGS: &[Flag] = &[Flag::duration(
    "api-timeout",
    "time limit for the admin API",
    |o| &mut o.api_timeout,
)];

const TCP_FLAGS: &[Flag] = &[
    Flag::text("server-addr", "address of the server", |o| {
        &mut o.client.server_addr
    })
    .short('s'),
    Flag::int("server-port", "port of the server", |o| {
        &mut o.client.server_port
    })
    .short('P'),
    Flag::text("protocol", "tcp, kcp, quic, websocket or wss", |o| {
        &mut o.client.transport.protocol
    })
    .short('p'),
    Flag::text("user", "prefix of proxy names", |o| &mut o.client.user).short('u'),
    Flag::text("token", "auth token", |o| &mut o.client.auth.token).short('t'),
    Flag::text("client-id", "unique name of this client", |o| {
        &mut o.client.client_id
    }),
    Flag::text("log-level", "log level", |o| &mut o.client.log.level),
    Flag::text("log-file", "console or path of the log file", |o| {
        &mut o.client.log.to
    }),
    Flag::int("log-max-days", "days to keep rotated log files", |o| {
        &mut o.client.log.max_days
    }),
    Flag::bool("disable-log-color", "disable log color in console", |o| {
        &mut o.client.log.disable_print_color
    }),
    Flag::bool("tls-enable", "connect to the server by tls", |o| {
        o.client.transport.tls.enable.get_or_insert(true)
    }),
    Flag::text(
        "tls-server-name",
        "server name that the certificate must have",
        |o| &mut o.client.transport.tls.tls.server_name,
    ),
    Flag::text(
        "dns-server",
        "dns server to use instead of the system's",
        |o| &mut o.client.dns_server,
    ),
    Flag::text("proxy-name", "proxy name", |o| &mut o.proxy.name).short('n'),
    Flag::text("local-ip", "local ip", |o| &mut o.proxy.local_ip).short('i'),
    Flag::int("local-port", "local port", |o| &mut o.proxy.local_port).short('l'),
    Flag::bool("ue", "use encryption", |o| {
        &mut o.proxy.transport.use_encryption
    }),
    Flag::bool("uc", "use compression", |o| {
        &mut o.proxy.transport.use_compression
    }),
    Flag::parsed(
        "bandwidth-limit",
        "bandwidth limit such as 100KB or 1MB",
        "string",
        set_bandwidth,
    ),
    Flag::text(
        "bandwidth-limit-mode",
        "side that limits, client or server",
        |o| &mut o.proxy.transport.bandwidth_limit_mode,
    ),
    Flag::map("metadatas", "metadata, as key=value,key=value", |o| {
        &mut o.proxy.metadatas
    }),
    Flag::map("annotations", "annotations, as key=value,key=value", |o| {
        &mut o.proxy.annotations
    }),
    Flag::int("remote-port", "remote port", |o| &mut o.remote_port).short('r'),
];

fn set_bandwidth(options: &mut Options, text: &str) -> Result<(), String> {
    bandwidth(text)?;
    text.trim()
        .clone_into(&mut options.proxy.transport.bandwidth_limit);
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
    fn defaults() {
        let options = options(&[]);
        assert_eq!(options.config, "./frpc.ini");
        assert!(options.strict_config && options.allow_unsafe.is_empty());
    }

    #[test]
    fn tcp_flags_set_their_keys() {
        let client = options(&[
            "tcp",
            "-n",
            "web",
            "-l80",
            "-r",
            "8080",
            "-s",
            "example.test",
            "-P",
            "7100",
            "-t",
            "secret",
            "-u",
            "me",
            "--client-id=id",
            "--log_level",
            "debug",
            "--log_file=f",
            "--log_max_days=9",
            "--disable_log_color",
            "--tls_enable=false",
            "--tls_server_name=n",
            "--dns_server=1.1.1.1",
            "-i",
            "10.0.0.1",
            "--ue",
            "--uc",
            "--bandwidth_limit",
            " 1MB",
            "--bandwidth_limit_mode=server",
            "--metadatas",
            "a=1,b=2",
            "--annotations=c=3",
            "-p",
            "tcp",
        ])
        .tcp_client();
        assert_eq!(
            (
                client.server_addr.as_str(),
                client.server_port,
                client.user.as_str()
            ),
            ("example.test", 7100, "me")
        );
        assert_eq!(client.auth.token, "secret");
        assert_eq!(client.client_id, "id");
        assert_eq!(client.dns_server, "1.1.1.1");
        assert_eq!(client.login_fail_exit, Some(true));
        assert_eq!(client.transport.protocol, "tcp");
        assert_eq!(client.transport.tls.enable, Some(false));
        assert_eq!(client.transport.tls.tls.server_name, "n");
        assert_eq!(
            client.log,
            LogConfig {
                to: "f".to_owned(),
                level: "debug".to_owned(),
                max_days: 9,
                disable_print_color: true,
            }
        );
        let [proxy] = &client.proxies[..] else {
            panic!("{:?}", client.proxies);
        };
        assert_eq!(proxy.kind, ProxyKind::Tcp { remote_port: 8080 });
        let base = &proxy.base;
        assert_eq!(
            (
                base.name.as_str(),
                base.type_.as_str(),
                base.local_ip.as_str(),
                base.local_port
            ),
            ("web", "tcp", "10.0.0.1", 80)
        );
        assert_eq!((base.metadatas.len(), base.annotations.len()), (2, 1));
        let transport = &base.transport;
        assert!(transport.use_encryption && transport.use_compression);
        assert_eq!(
            (
                transport.bandwidth_limit.as_str(),
                transport.bandwidth_limit_mode.as_str()
            ),
            ("1MB", "server")
        );
    }

    #[test]
    fn what_comes_later_is_refused_by_name() {
        for name in ["udp", "http", "stcp", "nathole"] {
            let args = vec![name.to_owned(), "-n".to_owned(), "x".to_owned()];
            let Err(exit) = parse(&ROOT, args) else {
                panic!("{name}");
            };
            assert_eq!(exit.code, 1);
            assert_eq!(
                exit.text,
                format!(
                    "Error: the command \"frpc {name}\" is not supported by this version yet\n"
                )
            );
        }
    }
}
