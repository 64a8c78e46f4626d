//! What upstream refuses, with its texts and in its order (config-frps.md §8, config-frpc.md §12).

mod annotations;
mod balancing;
mod client;
mod server;

pub(super) use client::is_protocol;
pub use client::{AUTO_WITHOUT_TLS, validate_client};
pub(crate) use client::{proxy, visitor};
pub use server::validate_server;

use super::UnsafeFeatures;
use super::places::Failures;
use super::raw::common::{ExecEnvVar, LogConfig, QuicOptions, ValueSource, WebServerConfig};
use crate::quic::Congestion;

const UNSAFE_EXEC: &str = "unsafe feature \"TokenSourceExec\" is not enabled. \
     To enable it, ensure it is allowed in the configuration or command line flags";

/// `shown` is how upstream's text spells the key.
fn port(key: &str, shown: &str, port: i64, failures: &mut Failures<'_>) {
    if !(0..=65535).contains(&port) {
        failures.push(
            key,
            format_args!("{shown}: port number {port} must be in the range 0..65535"),
        );
    }
}

/// A key that upstream does not have.
fn congestion(c: &QuicOptions, failures: &mut Failures<'_>) {
    if Congestion::from_name(&c.congestion).is_none() {
        let names = Congestion::NAMES.map(|(name, _)| name).join(" ");
        failures.push(
            "transport.quic.congestion",
            format_args!("invalid transport.quic.congestion, optional values are [{names}]"),
        );
    }
}

/// The checks of `auth` both programs have.
fn auth(
    method: &str,
    scopes: &[String],
    token: &str,
    source: Option<&ValueSource>,
    allowed: &UnsafeFeatures,
    failures: &mut Failures<'_>,
) {
    if !["token", "oidc"].contains(&method) {
        failures.push(
            "auth.method",
            "invalid auth method, optional values are [token oidc]",
        );
    }
    if scopes
        .iter()
        .any(|s| !["HeartBeats", "NewWorkConns"].contains(&s.as_str()))
    {
        failures.push(
            "auth.additionalScopes",
            "invalid auth additional scopes, optional values are [HeartBeats NewWorkConns]",
        );
    }
    if let Some(source) = source {
        if !token.is_empty() {
            failures.push(
                "auth.tokenSource",
                "cannot specify both auth.token and auth.tokenSource",
            );
        }
        value_source("auth.tokenSource", source, allowed, failures);
    }
}

fn value_source(
    key: &str,
    source: &ValueSource,
    allowed: &UnsafeFeatures,
    failures: &mut Failures<'_>,
) {
    if source.type_ == "exec" && !allowed.token_source_exec {
        failures.push(&format!("{key}.type"), UNSAFE_EXEC);
    }
    let (place, problem) = match (source.type_.as_str(), &source.file, &source.exec) {
        ("file", None, _) => ("type", "file configuration is required when type is 'file'"),
        ("file", Some(file), _) if file.path.is_empty() => {
            ("file.path", "file path cannot be empty")
        }
        ("exec", _, None) => ("type", "exec configuration is required when type is 'exec'"),
        ("exec", _, Some(exec)) if exec.command.is_empty() => {
            ("exec.command", "exec command cannot be empty")
        }
        ("exec", _, Some(exec)) => {
            let wrong = |v: &&ExecEnvVar| v.name.is_empty() || v.name.contains('=');
            match exec.env.iter().find(wrong) {
                Some(v) if v.name.is_empty() => ("exec.env", "exec env name cannot be empty"),
                Some(_) => ("exec.env", "exec env name cannot contain '='"),
                None => return,
            }
        }
        ("file", Some(_), _) => return,
        (other, ..) => {
            let problem = format_args!(
                "invalid {key}: unsupported value source type: {other} (only 'file' and 'exec' are supported)"
            );
            failures.push(&format!("{key}.type"), problem);
            return;
        }
    };
    failures.push(
        &format!("{key}.{place}"),
        format_args!("invalid {key}: {problem}"),
    );
}

fn log(c: &LogConfig, failures: &mut Failures<'_>) {
    if !["trace", "debug", "info", "warn", "error"].contains(&c.level.as_str()) {
        failures.push(
            "log.level",
            "invalid log level, optional values are [trace debug info warn error]",
        );
    }
    if !["", "text", "json"].contains(&c.format.as_str()) {
        failures.push(
            "log.format",
            "invalid log.format, optional values are [text json]",
        );
    }
    let files = [
        ("log.to", &c.to),
        ("log.access", &c.access),
        ("log.audit", &c.audit),
    ];
    for (i, (key, path)) in files.iter().enumerate().skip(1) {
        let is_file = !["", "console"].contains(&path.as_str());
        if is_file && let Some((other, _)) = files[..i].iter().find(|(_, p)| p == path) {
            failures.push(key, format_args!("{key}: is the file of {other}"));
        }
    }
}

fn web_server(c: &WebServerConfig, allowed: &UnsafeFeatures, failures: &mut Failures<'_>) {
    for (n, token) in c.tokens.iter().enumerate() {
        let key = format!("webServer.tokens[{n}]");
        if !["read-only", "admin"].contains(&token.role.as_str()) {
            let role = format!("{key}.role");
            let problem = format_args!("invalid {role}, optional values are [read-only admin]");
            failures.push(&role, problem);
        }
        match &token.token_source {
            Some(_) if !token.token.is_empty() => failures.push(
                &key,
                format_args!("cannot specify both token and tokenSource in {key}"),
            ),
            Some(source) => value_source(&format!("{key}.tokenSource"), source, allowed, failures),
            None if token.token.is_empty() => {
                failures.push(&key, format_args!("{key} needs token or tokenSource"));
            }
            None => {}
        }
    }
    match &c.tls {
        Some(tls) if tls.cert_file.is_empty() => failures.push(
            "webServer.tls.certFile",
            "tls.certFile must be specified when tls is enabled",
        ),
        Some(tls) if tls.key_file.is_empty() => failures.push(
            "webServer.tls.keyFile",
            "tls.keyFile must be specified when tls is enabled",
        ),
        _ => port("webServer.port", "webServer.port", c.port, failures),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::{client_from_text, server_from_text};

    const NOTHING: UnsafeFeatures = UnsafeFeatures {
        token_source_exec: false,
    };

    #[test]
    fn logs_beyond_upstream() {
        for (text, failure) in [
            (
                "log.format = \"json\"\nlog.access = \"console\"\nlog.audit = \"console\"",
                "",
            ),
            (
                "log.format = \"xml\"",
                "invalid log.format, optional values are [text json]\n  --> f.toml:1:14: `log.format`",
            ),
            (
                "log.to = \"a.log\"\nlog.audit = \"a.log\"",
                "log.audit: is the file of log.to\n  --> f.toml:2:13: `log.audit`",
            ),
        ] {
            let config = server_from_text(text, Path::new("f.toml"), true, &BTreeMap::new());
            let failures = validate_server(&config.unwrap().config, &NOTHING);
            assert_eq!(failures.join("\n"), failure, "{text}");
        }
    }

    #[test]
    fn watched_sources() {
        for (source, failure) in [
            ("type = \"file\", path = \"a.toml\", interval = 5", ""),
            (
                "type = \"http\", url = \"https://h/a\", trustedCaFile = \"ca\"",
                "",
            ),
            ("type = \"file\"", "sources: path is required"),
            (
                "type = \"http\", url = \"h/a\"",
                "sources: url must be an absolute http or https URL",
            ),
            (
                "type = \"ftp\"",
                "sources: invalid type, optional values are [file directory http]",
            ),
            (
                "type = \"file\", path = \"a\", interval = -1",
                "sources: interval must not be negative",
            ),
        ] {
            let text = format!("sources = [{{ {source} }}]");
            let config = client_from_text(&text, Path::new("f.toml"), true, &BTreeMap::new());
            let (_, valid) = validate_client(&config.unwrap().config, &NOTHING);
            let given = valid.err().map_or_else(String::new, |e| e.to_string());
            assert_eq!(given.lines().next().unwrap_or(""), failure, "{source}");
            assert!(
                failure.is_empty() || given.contains("--> f.toml:1:11"),
                "{given}"
            );
        }
    }

    #[test]
    fn congestion_of_quic() {
        for (name, is_known) in [("", true), ("bbr", true), ("bbr2", false)] {
            let text = format!("transport.quic.congestion = \"{name}\"");
            let path = Path::new("f.toml");
            let env = BTreeMap::new();
            let client = client_from_text(&text, path, true, &env).unwrap().config;
            let server = server_from_text(&text, path, true, &env).unwrap().config;
            let allowed = UnsafeFeatures::default();
            let client = validate_client(&client, &allowed).1;
            let server = validate_server(&server, &allowed).join("\n");
            assert_eq!((client.is_ok(), server.is_empty()), (is_known, is_known));
            if let Err(e) = client {
                let expected =
                    "invalid transport.quic.congestion, optional values are [reno cubic bbr]";
                assert!(
                    e.to_string().contains(expected) && server.contains(expected),
                    "{e}"
                );
            }
        }
    }

    #[test]
    fn accepted_proxies() {
        for (accept, failure) in [
            (
                "localTargets = [\"127.0.0.1:80\", \"[fd00::/8]:1-9\"], types = [\"tcp\", \"xtcp\"]",
                "",
            ),
            (
                "",
                "acceptProxies.localTargets is required: what may be behind pushed proxies, such as [\"127.0.0.1:8080\"]",
            ),
            (
                "localTargets = [\"127.0.0.1\"]",
                "invalid acceptProxies.localTargets: \"127.0.0.1\": an address, network or host name with a port or range of ports was expected, such as \"127.0.0.1:8080\", \"192.168.1.0/24:80-90\" or \"[::1]:22\"",
            ),
            (
                "localTargets = [\"a:1\"], types = [\"ftp\"]",
                "invalid acceptProxies.types: \"ftp\", optional values are [tcp udp http https tcpmux stcp sudp xtcp]",
            ),
            (
                "localTargets = [\"a:1\"], maxProxies = -1",
                "invalid acceptProxies.maxProxies: -1 must be in the range 1..4096",
            ),
        ] {
            let text = format!("acceptProxies = {{ {accept} }}");
            let config = client_from_text(&text, Path::new("f.toml"), true, &BTreeMap::new());
            let config = config.unwrap().config;
            let (_, valid) = validate_client(&config, &NOTHING);
            let given = valid.err().map_or_else(String::new, |e| e.to_string());
            assert_eq!(given.lines().next().unwrap_or(""), failure, "{accept}");
            if failure.is_empty() {
                assert_eq!(config.accept_proxies.unwrap().max_proxies, 32);
            } else {
                assert!(given.contains("--> f.toml:1:"), "{given}");
            }
        }
    }
}
