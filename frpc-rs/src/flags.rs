//! The command line of `frpc` (config-frpc.md §13).

use std::mem::take;
use std::process::ExitCode;
use std::time::Duration;

use frp_proto::cli::Command;
use frp_proto::cli::completion::{Complete, Completion};
use frp_proto::config::bandwidth;
use frp_proto::config::raw::client::{
    ClientConfig, DomainConfig, HttpProxy, HttpsProxy, ProxyBase, ProxyConfig, ProxyKind,
    StcpProxy, SudpProxy, TcpmuxProxy, VisitorBase, VisitorConfig, VisitorKind, XtcpProxy,
    XtcpVisitor,
};
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
    pub(crate) domains: DomainConfig,
    pub(crate) locations: Vec<String>,
    pub(crate) http_user: String,
    pub(crate) http_password: String,
    pub(crate) host_header_rewrite: String,
    pub(crate) multiplexer: String,
    pub(crate) secret_key: String,
    pub(crate) allow_users: Vec<String>,
    /// Its visitor, in place of the proxy.
    pub(crate) visitor: VisitorBase,
    /// In place of the file's STUN server; empty = that.
    pub(crate) stun_server: String,
    /// From where it is asked; empty = any address.
    pub(crate) stun_local_addr: String,
    /// Of completion scripts.
    pub(crate) no_descriptions: bool,
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
            domains: DomainConfig::default(),
            locations: Vec::new(),
            http_user: String::new(),
            http_password: String::new(),
            host_header_rewrite: String::new(),
            multiplexer: String::new(),
            secret_key: String::new(),
            allow_users: Vec::new(),
            visitor: VisitorBase::default(),
            stun_server: String::new(),
            stun_local_addr: String::new(),
            no_descriptions: false,
        }
    }
}

impl Options {
    /// A client whose only proxy has this kind, with what the flags say; defaults filled in.
    pub(crate) fn with_proxy(self, type_: &str, kind: ProxyKind) -> ClientConfig {
        let mut proxy = ProxyConfig {
            base: self.proxy,
            kind,
        };
        type_.clone_into(&mut proxy.base.type_);
        proxy.complete();
        ClientConfig {
            proxies: vec![proxy],
            ..completed(self.client)
        }
    }

    /// A client whose only visitor has this kind, with what the flags say; defaults filled in.
    pub(crate) fn with_visitor(self, type_: &str, kind: VisitorKind) -> ClientConfig {
        let mut visitor = VisitorConfig {
            base: self.visitor,
            kind,
        };
        type_.clone_into(&mut visitor.base.type_);
        visitor.complete();
        ClientConfig {
            visitors: vec![visitor],
            ..completed(self.client)
        }
    }

    fn tcp(self) -> ClientConfig {
        let remote_port = self.remote_port;
        self.with_proxy("tcp", ProxyKind::Tcp { remote_port })
    }

    fn udp(self) -> ClientConfig {
        let remote_port = self.remote_port;
        self.with_proxy("udp", ProxyKind::Udp { remote_port })
    }

    fn http(mut self) -> ClientConfig {
        let kind = HttpProxy {
            domains: take(&mut self.domains),
            locations: take(&mut self.locations),
            http_user: take(&mut self.http_user),
            http_password: take(&mut self.http_password),
            host_header_rewrite: take(&mut self.host_header_rewrite),
            ..HttpProxy::default()
        };
        self.with_proxy("http", ProxyKind::Http(kind))
    }

    fn https(mut self) -> ClientConfig {
        let domains = take(&mut self.domains);
        self.with_proxy("https", ProxyKind::Https(HttpsProxy { domains }))
    }

    fn tcpmux(mut self) -> ClientConfig {
        let kind = TcpmuxProxy {
            domains: take(&mut self.domains),
            http_user: take(&mut self.http_user),
            http_password: take(&mut self.http_password),
            multiplexer: take(&mut self.multiplexer),
            ..TcpmuxProxy::default()
        };
        self.with_proxy("tcpmux", ProxyKind::Tcpmux(kind))
    }

    fn secret(&mut self) -> (String, Vec<String>) {
        (take(&mut self.secret_key), take(&mut self.allow_users))
    }

    fn stcp(mut self) -> ClientConfig {
        let (secret_key, allow_users) = self.secret();
        let kind = StcpProxy {
            secret_key,
            allow_users,
        };
        self.with_proxy("stcp", ProxyKind::Stcp(kind))
    }

    fn sudp(mut self) -> ClientConfig {
        let (secret_key, allow_users) = self.secret();
        let kind = SudpProxy {
            secret_key,
            allow_users,
        };
        self.with_proxy("sudp", ProxyKind::Sudp(kind))
    }

    fn xtcp(mut self) -> ClientConfig {
        let (secret_key, allow_users) = self.secret();
        let kind = XtcpProxy {
            secret_key,
            allow_users,
            ..XtcpProxy::default()
        };
        self.with_proxy("xtcp", ProxyKind::Xtcp(kind))
    }

    fn stcp_visitor(self) -> ClientConfig {
        self.with_visitor("stcp", VisitorKind::Stcp)
    }

    fn sudp_visitor(self) -> ClientConfig {
        self.with_visitor("sudp", VisitorKind::Sudp)
    }

    fn xtcp_visitor(self) -> ClientConfig {
        let kind = VisitorKind::Xtcp(XtcpVisitor::default());
        self.with_visitor("xtcp", kind)
    }
}

/// A command that runs a client without a file.
const fn client_command(name: &'static str, about: &'static str) -> Command<Options> {
    Command {
        flags: CLIENT_FLAGS,
        ..Command::new(name, about)
    }
}

fn run_with(options: Options, client: fn(Options) -> ClientConfig) -> ExitCode {
    crate::one_shot(&options.allow_unsafe.clone(), client(options))
}

fn completed(mut client: ClientConfig) -> ClientConfig {
    client.complete();
    client
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
    flags: &[
        Flag::text("config", "config file of frpc", |o: &mut Options| {
            &mut o.config
        })
        .short('c'),
        Flag::text(
            "config-dir",
            "config directory, run one frpc service for each file in config directory",
            |o| &mut o.config_dir,
        ),
        Flag::bool("version", "version of frpc", |o| &mut o.version).short('v'),
        Flag::bool(
            "strict-config",
            "strict config parsing mode, unknown fields will cause an errors",
            |o| &mut o.strict_config,
        ),
        Flag::list(
            "allow-unsafe",
            "allowed unsafe features, one or more of: TokenSourceExec",
            |o| &mut o.allow_unsafe,
        ),
    ],
    commands: &[
        Command {
            run: Some(crate::verify),
            ..Command::new("verify", "Verify that the configures is valid")
        },
        Command {
            flags: API_FLAGS,
            run: Some(crate::reload),
            ..Command::new("reload", "Hot-Reload frpc configuration")
        },
        Command {
            flags: API_FLAGS,
            run: Some(crate::status),
            ..Command::new("status", "Overview of all proxies status")
        },
        Command {
            flags: API_FLAGS,
            run: Some(crate::stop),
            ..Command::new("stop", "Stop the running frpc")
        },
        Command {
            local: &[PROXY_FLAGS, PORT_FLAGS],
            run: Some(|o| run_with(o, Options::tcp)),
            ..client_command("tcp", "Run frpc with a single tcp proxy")
        },
        Command {
            local: &[PROXY_FLAGS, PORT_FLAGS],
            run: Some(|o| run_with(o, Options::udp)),
            ..client_command("udp", "Run frpc with a single udp proxy")
        },
        Command {
            local: &[PROXY_FLAGS, DOMAIN_FLAGS, HTTP_USER_FLAGS, HTTP_FLAGS],
            run: Some(|o| run_with(o, Options::http)),
            ..client_command("http", "Run frpc with a single http proxy")
        },
        Command {
            local: &[PROXY_FLAGS, DOMAIN_FLAGS],
            run: Some(|o| run_with(o, Options::https)),
            ..client_command("https", "Run frpc with a single https proxy")
        },
        Command {
            local: &[PROXY_FLAGS, DOMAIN_FLAGS, HTTP_USER_FLAGS, TCPMUX_FLAGS],
            run: Some(|o| run_with(o, Options::tcpmux)),
            ..client_command("tcpmux", "Run frpc with a single tcpmux proxy")
        },
        Command {
            local: &[PROXY_FLAGS, SECRET_FLAGS],
            commands: &[Command {
                local: &[VISITOR_FLAGS],
                run: Some(|o| run_with(o, Options::stcp_visitor)),
                ..Command::new("visitor", "Run frpc with a single stcp visitor")
            }],
            run: Some(|o| run_with(o, Options::stcp)),
            ..client_command("stcp", "Run frpc with a single stcp proxy")
        },
        Command {
            local: &[PROXY_FLAGS, SECRET_FLAGS],
            commands: &[Command {
                local: &[VISITOR_FLAGS],
                run: Some(|o| run_with(o, Options::sudp_visitor)),
                ..Command::new("visitor", "Run frpc with a single sudp visitor")
            }],
            run: Some(|o| run_with(o, Options::sudp)),
            ..client_command("sudp", "Run frpc with a single sudp proxy")
        },
        Command {
            local: &[PROXY_FLAGS, SECRET_FLAGS],
            commands: &[Command {
                local: &[VISITOR_FLAGS],
                run: Some(|o| run_with(o, Options::xtcp_visitor)),
                ..Command::new("visitor", "Run frpc with a single xtcp visitor")
            }],
            run: Some(|o| run_with(o, Options::xtcp)),
            ..client_command("xtcp", "Run frpc with a single xtcp proxy")
        },
        Completion::COMMAND,
        Command {
            flags: NATHOLE_FLAGS,
            commands: &[Command {
                run: Some(crate::discover),
                ..Command::new("discover", "Discover nathole information from stun server")
            }],
            shows_flags: false,
            ..Command::new("nathole", "Actions about nathole")
        },
    ],
    run: Some(crate::run),
    ..Command::new("frpc", "frpc is the client of frp, in Rust")
};

const API_FLAGS: &[Flag] = &[Flag::duration(
    "api-timeout",
    "Timeout for admin API calls",
    |o| &mut o.api_timeout,
)];

const NATHOLE_FLAGS: &[Flag] = &[
    Flag::text(
        "nat-hole-stun-server",
        "STUN server address for nathole",
        |o| &mut o.stun_server,
    ),
    Flag::text(
        "nat-hole-local-addr",
        "local address to connect STUN server",
        |o| &mut o.stun_local_addr,
    )
    .short('l'),
];

/// The common part of a client without a file; commands for its visitors take them, too.
const CLIENT_FLAGS: &[Flag] = &[
    Flag::text("server-addr", "frp server's address", |o: &mut Options| {
        &mut o.client.server_addr
    })
    .short('s'),
    Flag::int("server-port", "frp server's port", |o: &mut Options| {
        &mut o.client.server_port
    })
    .short('P'),
    Flag::text(
        "protocol",
        "optional values are [tcp kcp quic websocket wss]",
        |o: &mut Options| &mut o.client.transport.protocol,
    )
    .short('p'),
    Flag::text("user", "user", |o: &mut Options| &mut o.client.user).short('u'),
    Flag::text("token", "auth token", |o: &mut Options| {
        &mut o.client.auth.token
    })
    .short('t'),
    Flag::text(
        "client-id",
        "unique identifier for this frpc instance",
        |o| &mut o.client.client_id,
    ),
    Flag::text("log-level", "log level", |o| &mut o.client.log.level),
    Flag::text("log-file", "console or file path", |o| &mut o.client.log.to),
    Flag::int("log-max-days", "log file reversed days", |o| {
        &mut o.client.log.max_days
    }),
    Flag::bool("disable-log-color", "disable log color in console", |o| {
        &mut o.client.log.disable_print_color
    }),
    Flag::bool("tls-enable", "enable frpc tls", |o| {
        o.client.transport.tls.enable.get_or_insert(true)
    }),
    Flag::text(
        "tls-server-name",
        "specify the custom server name of tls certificate",
        |o| &mut o.client.transport.tls.tls.server_name,
    ),
    Flag::text(
        "dns-server",
        "specify dns server instead of using system default one",
        |o| &mut o.client.dns_server,
    ),
];

const PROXY_FLAGS: &[Flag] = &[
    Flag::text("proxy-name", "proxy name", |o: &mut Options| {
        &mut o.proxy.name
    })
    .short('n'),
    Flag::text("local-ip", "local ip", |o: &mut Options| {
        &mut o.proxy.local_ip
    })
    .short('i'),
    Flag::int("local-port", "local port", |o: &mut Options| {
        &mut o.proxy.local_port
    })
    .short('l'),
    Flag::bool("ue", "use encryption", |o| {
        &mut o.proxy.transport.use_encryption
    }),
    Flag::bool("uc", "use compression", |o| {
        &mut o.proxy.transport.use_compression
    }),
    Flag::parsed(
        "bandwidth-limit",
        "bandwidth limit (e.g. 100KB or 1MB)",
        "string",
        set_bandwidth,
    ),
    Flag::text("bandwidth-limit-mode", "bandwidth limit mode", |o| {
        &mut o.proxy.transport.bandwidth_limit_mode
    }),
    Flag::map(
        "metadatas",
        "metadata key-value pairs (e.g., key1=value1,key2=value2)",
        |o| &mut o.proxy.metadatas,
    ),
    Flag::map(
        "annotations",
        "annotation key-value pairs (e.g., key1=value1,key2=value2)",
        |o| &mut o.proxy.annotations,
    ),
];

const PORT_FLAGS: &[Flag] = &[Flag::int("remote-port", "remote port", |o: &mut Options| {
    &mut o.remote_port
})
.short('r')];

const DOMAIN_FLAGS: &[Flag] = &[
    Flag::list("custom-domain", "custom domains", |o: &mut Options| {
        &mut o.domains.custom_domains
    })
    .short('d'),
    Flag::text("sd", "sub domain", |o| &mut o.domains.subdomain),
];

const HTTP_USER_FLAGS: &[Flag] = &[
    Flag::text("http-user", "http auth user", |o| &mut o.http_user),
    Flag::text("http-pwd", "http auth password", |o| &mut o.http_password),
];

const HTTP_FLAGS: &[Flag] = &[
    Flag::list("locations", "locations", |o| &mut o.locations),
    Flag::text("host-header-rewrite", "host header rewrite", |o| {
        &mut o.host_header_rewrite
    }),
];

const TCPMUX_FLAGS: &[Flag] = &[Flag::text("mux", "multiplexer", |o| &mut o.multiplexer)];

const SECRET_FLAGS: &[Flag] = &[
    Flag::text("sk", "secret key", |o| &mut o.secret_key),
    Flag::list("allow-users", "allow visitor users", |o| &mut o.allow_users),
];

const VISITOR_FLAGS: &[Flag] = &[
    Flag::text("visitor-name", "visitor name", |o: &mut Options| {
        &mut o.visitor.name
    })
    .short('n'),
    Flag::text("server-name", "server name", |o| &mut o.visitor.server_name),
    Flag::text("server-user", "server user", |o| &mut o.visitor.server_user),
    Flag::text("sk", "secret key", |o| &mut o.visitor.secret_key),
    Flag::text("bind-addr", "bind addr", |o| &mut o.visitor.bind_addr),
    Flag::int("bind-port", "bind port", |o| &mut o.visitor.bind_port),
    Flag::bool("ue", "use encryption", |o| {
        &mut o.visitor.transport.use_encryption
    }),
    Flag::bool("uc", "use compression", |o| {
        &mut o.visitor.transport.use_compression
    }),
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
        .tcp();
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
                format: "text".to_owned(),
                ..LogConfig::default()
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
    fn flags_of_each_type_set_its_keys() {
        let kind = |config: ClientConfig| config.proxies[0].kind.clone();
        let words = |line: &str| -> Options { options(&line.split(' ').collect::<Vec<_>>()) };
        let domains = DomainConfig {
            custom_domains: vec!["a".to_owned(), "b".to_owned()],
            subdomain: "s".to_owned(),
        };
        assert_eq!(
            kind(words("http -d a -d b --sd s --locations /x,/y --http_user u --http-pwd p --host_header_rewrite h").http()),
            ProxyKind::Http(HttpProxy {
                domains: domains.clone(),
                locations: vec!["/x".to_owned(), "/y".to_owned()],
                http_user: "u".to_owned(),
                http_password: "p".to_owned(),
                host_header_rewrite: "h".to_owned(),
                ..HttpProxy::default()
            })
        );
        assert_eq!(
            kind(words("https --custom_domain a,b --sd s").https()),
            ProxyKind::Https(HttpsProxy {
                domains: domains.clone()
            })
        );
        assert_eq!(
            kind(words("tcpmux -d a,b --sd s --mux m --http_user u --http_pwd p").tcpmux()),
            ProxyKind::Tcpmux(TcpmuxProxy {
                domains,
                http_user: "u".to_owned(),
                http_password: "p".to_owned(),
                multiplexer: "m".to_owned(),
                ..TcpmuxProxy::default()
            })
        );
        assert_eq!(
            kind(words("udp -r 9").udp()),
            ProxyKind::Udp { remote_port: 9 }
        );
        let (secret_key, allow_users) = ("k".to_owned(), vec!["x".to_owned(), "y".to_owned()]);
        assert_eq!(
            kind(words("sudp --sk k --allow_users x,y").sudp()),
            ProxyKind::Sudp(SudpProxy {
                secret_key,
                allow_users
            })
        );
    }

    #[test]
    fn flags_of_a_visitor_set_its_keys() {
        let line = "stcp visitor -n v --server_name s --server-user u --sk k --bind_addr 1.2.3.4 --bind_port 9 --ue --uc -t t";
        let config =
            options(&line.split(' ').collect::<Vec<_>>()).with_visitor("stcp", VisitorKind::Stcp);
        assert!(config.proxies.is_empty());
        assert_eq!(config.auth.token, "t");
        let base = &config.visitors[0].base;
        let texts = [
            &base.name,
            &base.type_,
            &base.server_name,
            &base.server_user,
            &base.secret_key,
            &base.bind_addr,
        ];
        assert_eq!(texts, ["v", "stcp", "s", "u", "k", "1.2.3.4"]);
        assert!(base.transport.use_encryption && base.transport.use_compression);
        assert_eq!(base.bind_port, 9);
    }
}
