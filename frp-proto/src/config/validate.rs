//! What upstream refuses, with its texts and in its order (config-frps.md §8, config-frpc.md §12).

mod annotations;
mod client;
mod server;

pub use client::validate_client;
pub use server::validate_server;

use super::UnsafeFeatures;
use super::raw::common::{LogConfig, ValueSource, WebServerConfig};

const UNSAFE_EXEC: &str = "unsafe feature \"TokenSourceExec\" is not enabled. \
     To enable it, ensure it is allowed in the configuration or command line flags";

fn port(key: &str, port: i64, failures: &mut Vec<String>) {
    if !(0..=65535).contains(&port) {
        failures.push(format!(
            "{key}: port number {port} must be in the range 0..65535"
        ));
    }
}

/// The checks of `auth` both programs have.
fn auth(
    method: &str,
    scopes: &[String],
    token: &str,
    source: Option<&ValueSource>,
    allowed: &UnsafeFeatures,
    failures: &mut Vec<String>,
) {
    if !["token", "oidc"].contains(&method) {
        failures.push("invalid auth method, optional values are [token oidc]".to_owned());
    }
    if scopes
        .iter()
        .any(|s| !["HeartBeats", "NewWorkConns"].contains(&s.as_str()))
    {
        failures.push(
            "invalid auth additional scopes, optional values are [HeartBeats NewWorkConns]"
                .to_owned(),
        );
    }
    if let Some(source) = source {
        if !token.is_empty() {
            failures.push("cannot specify both auth.token and auth.tokenSource".to_owned());
        }
        value_source("auth.tokenSource", source, allowed, failures);
    }
}

fn value_source(
    key: &str,
    source: &ValueSource,
    allowed: &UnsafeFeatures,
    failures: &mut Vec<String>,
) {
    if source.type_ == "exec" && !allowed.token_source_exec {
        failures.push(UNSAFE_EXEC.to_owned());
    }
    let problem = match (source.type_.as_str(), &source.file, &source.exec) {
        ("file", None, _) => "file configuration is required when type is 'file'",
        ("file", Some(file), _) if file.path.is_empty() => "file path cannot be empty",
        ("exec", _, None) => "exec configuration is required when type is 'exec'",
        ("exec", _, Some(exec)) if exec.command.is_empty() => "exec command cannot be empty",
        ("exec", _, Some(exec)) => match exec
            .env
            .iter()
            .find(|v| v.name.is_empty() || v.name.contains('='))
        {
            Some(v) if v.name.is_empty() => "exec env name cannot be empty",
            Some(_) => "exec env name cannot contain '='",
            None => return,
        },
        ("file", Some(_), _) => return,
        (other, ..) => {
            failures.push(format!(
                "invalid {key}: unsupported value source type: {other} (only 'file' and 'exec' are supported)"
            ));
            return;
        }
    };
    failures.push(format!("invalid {key}: {problem}"));
}

fn log(c: &LogConfig, failures: &mut Vec<String>) {
    if !["trace", "debug", "info", "warn", "error"].contains(&c.level.as_str()) {
        failures.push(
            "invalid log level, optional values are [trace debug info warn error]".to_owned(),
        );
    }
}

fn web_server(c: &WebServerConfig, failures: &mut Vec<String>) {
    match &c.tls {
        Some(tls) if tls.cert_file.is_empty() => {
            failures.push("tls.certFile must be specified when tls is enabled".to_owned());
        }
        Some(tls) if tls.key_file.is_empty() => {
            failures.push("tls.keyFile must be specified when tls is enabled".to_owned());
        }
        _ => port("webServer.port", c.port, failures),
    }
}
