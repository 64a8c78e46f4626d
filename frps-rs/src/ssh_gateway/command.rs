//! The command that an SSH client is given (server.md §10.2, §10.3): a proxy type and its flags, split at single spaces.

use frp_proto::auth::Secret;
use frp_proto::cli::{self, Command, Flag, Flags};
use frp_proto::msg::NewProxy;

/// What the flags set.
#[derive(Default)]
pub(super) struct Options {
    /// The proxy, under its name without the user's prefix; empty = one is made up.
    pub(super) proxy: NewProxy,
    pub(super) user: String,
    pub(super) client_id: String,
    token: String,
}

impl Options {
    pub(super) fn token(&self) -> Secret {
        self.token.as_str().into()
    }
}

/// What is asked for.
pub(super) enum Parsed {
    Tunnel(Box<Options>),
    /// A text about the flags.
    Help(String),
}

/// Flags of every type.
static COMMON: Command<Options> = command(
    "",
    &[
        Flag::map(
            "annotations",
            "annotation key-value pairs (e.g., key1=value1,key2=value2)",
            |o| &mut o.proxy.annotations,
        ),
        Flag::text(
            "client-id",
            "unique identifier for this frpc instance",
            |o| &mut o.client_id,
        ),
        Flag::map(
            "metadatas",
            "metadata key-value pairs (e.g., key1=value1,key2=value2)",
            |o| &mut o.proxy.metas,
        ),
        Flag::text("proxy-name", "proxy name", |o: &mut Options| {
            &mut o.proxy.proxy_name
        })
        .short('n'),
        Flag::text("token", "auth token", |o: &mut Options| &mut o.token).short('t'),
        Flag::text("user", "user", |o: &mut Options| &mut o.user).short('u'),
    ],
);

/// The types, each with the flags it adds.
static TYPES: [Command<Options>; 5] = [
    command(
        "tcp",
        &[Flag::int("remote-port", "remote port", |o: &mut Options| {
            &mut o.proxy.remote_port
        })
        .short('r')],
    ),
    command(
        "http",
        &[
            CUSTOM_DOMAIN,
            SUBDOMAIN,
            Flag::list("locations", "locations", |o| &mut o.proxy.locations),
            Flag::text("host-header-rewrite", "host header rewrite", |o| {
                &mut o.proxy.host_header_rewrite
            }),
            HTTP_USER,
            HTTP_PASSWORD,
        ],
    ),
    command("https", &[CUSTOM_DOMAIN, SUBDOMAIN]),
    command(
        "tcpmux",
        &[
            CUSTOM_DOMAIN,
            SUBDOMAIN,
            HTTP_USER,
            HTTP_PASSWORD,
            Flag::text("mux", "multiplexer", |o| &mut o.proxy.multiplexer),
        ],
    ),
    command(
        "stcp",
        &[
            Flag::text("sk", "secret key", |o| &mut o.proxy.sk),
            Flag::list("allow-users", "allow visitor users", |o| {
                &mut o.proxy.allow_users
            }),
        ],
    ),
];

const CUSTOM_DOMAIN: Flag<Options> =
    Flag::list("custom-domain", "custom domains", |o: &mut Options| {
        &mut o.proxy.custom_domains
    })
    .short('d');
const SUBDOMAIN: Flag<Options> = Flag::text("sd", "sub domain", |o| &mut o.proxy.subdomain);
const HTTP_USER: Flag<Options> =
    Flag::text("http-user", "http auth user", |o| &mut o.proxy.http_user);
const HTTP_PASSWORD: Flag<Options> =
    Flag::text("http-pwd", "http auth password", |o| &mut o.proxy.http_pwd);

const fn command(name: &'static str, flags: &'static [Flag<Options>]) -> Command<Options> {
    Command {
        flags,
        ..Command::new(name, "")
    }
}

/// Reads a command; the error is for the user.
pub(super) fn parse(line: &str) -> Result<Parsed, String> {
    let mut words = line.split(' ').map(str::to_owned);
    let name = words.next().unwrap_or_default();
    let Some(command) = TYPES.iter().find(|c| c.name == name) else {
        let names: Vec<&str> = TYPES.iter().map(|c| c.name).collect();
        let names = names.join(" ");
        return Err(format!(
            "invalid proxy type: {name}, support types: [{names}]"
        ));
    };
    let flags = cli::parse_flags(&[&COMMON, command], words.collect())?;
    Ok(match flags {
        Flags::Options(options) => {
            let mut options: Box<Options> = Box::new(options);
            options.proxy.proxy_type = name;
            Parsed::Tunnel(options)
        }
        Flags::Help(table) => Parsed::Help(format!(
            "Usage:\n  ssh v0@{{address}} [command] [flags]\n\nFlags:\n{table}"
        )),
    })
}

/// Reads a command that nobody has checked. For fuzzing.
pub(crate) fn fuzz(data: &[u8]) {
    let line = String::from_utf8_lossy(data);
    if let Ok(Parsed::Tunnel(options)) = parse(&line) {
        let name = options.proxy.proxy_type;
        assert!(TYPES.iter().any(|c| c.name == name) && line.starts_with(&name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(line: &str) -> Options {
        match parse(line) {
            Ok(Parsed::Tunnel(options)) => *options,
            Ok(Parsed::Help(text)) => panic!("{text}"),
            Err(e) => panic!("{e}"),
        }
    }

    fn error(line: &str) -> String {
        parse(line).err().unwrap()
    }

    #[test]
    fn flags_of_every_type() {
        let tcp = options("tcp --proxy_name web -r 9000 -t secret --user=alice --client-id c");
        assert_eq!(tcp.proxy.proxy_type, "tcp");
        assert_eq!(
            (tcp.proxy.proxy_name.as_str(), tcp.proxy.remote_port),
            ("web", 9000)
        );
        assert_eq!((tcp.user.as_str(), tcp.client_id.as_str()), ("alice", "c"));
        assert!(tcp.token() == Secret::from("secret"));
        let http = options(
            "http -d a.test,b.test --sd x --locations /a,/b --host_header_rewrite h --http_user u --http_pwd p",
        );
        assert_eq!(http.proxy.custom_domains, ["a.test", "b.test"]);
        assert_eq!(http.proxy.locations, ["/a", "/b"]);
        assert_eq!(
            (
                http.proxy.subdomain.as_str(),
                http.proxy.host_header_rewrite.as_str()
            ),
            ("x", "h")
        );
        assert_eq!(
            (http.proxy.http_user.as_str(), http.proxy.http_pwd.as_str()),
            ("u", "p")
        );
        assert_eq!(
            options("https --custom-domain a").proxy.custom_domains,
            ["a"]
        );
        assert_eq!(
            options("tcpmux --mux httpconnect").proxy.multiplexer,
            "httpconnect"
        );
        let stcp = options("stcp --sk s --allow-users a,b --metadatas k=v --annotations x=y");
        assert_eq!(
            (stcp.proxy.sk.as_str(), stcp.proxy.allow_users.len()),
            ("s", 2)
        );
        assert_eq!(stcp.proxy.metas["k"], "v");
        assert_eq!(stcp.proxy.annotations["x"], "y");
    }

    #[test]
    fn words_are_split_at_single_spaces() {
        let tcp = options("tcp  -t  x");
        assert!(tcp.token() == Secret::from(""));
    }

    #[test]
    fn refusals_in_upstreams_words() {
        for (line, text) in [
            (
                "udp",
                "invalid proxy type: udp, support types: [tcp http https tcpmux stcp]",
            ),
            (
                "",
                "invalid proxy type: , support types: [tcp http https tcpmux stcp]",
            ),
            ("tcp --bad", "unknown flag: --bad"),
            ("tcp --proxy-nam x", "unknown flag: --proxy-nam"),
            ("tcp --version", "unknown flag: --version"),
            ("tcp --token", "flag needs an argument: --token"),
            ("tcp -t", "flag needs an argument: 't' in -t"),
            ("tcp -d a", "unknown shorthand flag: 'd' in -d"),
            ("tcp --=x", "bad flag syntax: --=x"),
            (
                "tcp --metadatas a",
                "invalid argument \"a\" for \"--metadatas\" flag: a must be formatted as key=value",
            ),
            (
                "tcp -r abc",
                "invalid argument \"abc\" for \"-r, --remote-port\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax",
            ),
        ] {
            assert_eq!(error(line), text, "{line}");
        }
    }

    #[test]
    fn help_of_a_type() {
        let Ok(Parsed::Help(text)) = parse("tcp -h") else {
            panic!("no help")
        };
        let expected = "Usage:
  ssh v0@{address} [command] [flags]

Flags:
      --annotations stringToString   annotation key-value pairs (e.g., key1=value1,key2=value2) (default [])
      --client-id string             unique identifier for this frpc instance
      --metadatas stringToString     metadata key-value pairs (e.g., key1=value1,key2=value2) (default [])
  -n, --proxy-name string            proxy name
  -r, --remote-port int              remote port
  -t, --token string                 auth token
  -u, --user string                  user
";
        assert_eq!(text, expected);
    }

    proptest! {
        #[test]
        fn any_command_gives_a_proxy_or_a_text(
            line in "(tcp|http|https|tcpmux|stcp|)( (--?[a-z_=-]{0,12}|-[a-z]|[^ ]{0,8}))*"
        ) {
            match parse(&line) {
                Ok(Parsed::Tunnel(options)) => {
                    prop_assert!(line.starts_with(&options.proxy.proxy_type));
                }
                Ok(Parsed::Help(text)) | Err(text) => prop_assert!(!text.is_empty()),
            }
        }
    }
}
