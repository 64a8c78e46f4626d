//! The `frpc` program: from the command line to [`frpc_rs::run`], with upstream's outputs and exit codes.

mod flags;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use frp_proto::config::raw::client::ClientConfig;
use frp_proto::config::{self, ConfigError, Loaded, UnsafeFeatures};
use frp_proto::{cli, process, telemetry, text};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use flags::Options;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match cli::parse(&flags::ROOT, process::arguments()) {
        Ok((run, options)) => run(options),
        Err(exit) => exit.print(),
    }
}

/// `frpc`
fn run(options: Options) -> ExitCode {
    if options.version {
        process::print(text::VERSION);
        return ExitCode::SUCCESS;
    }
    if !options.config_dir.is_empty() {
        let ran = process::run_until_stopped(|stop| serve_directory(options, stop));
        return exit_code(ran.map_err(Into::into));
    }
    let served = process::run_until_stopped(async |stop| {
        serve_file(Path::new(&options.config), &options, stop).await
    });
    exit_code(served.map_err(Into::into).flatten())
}

/// `frpc verify`
#[expect(
    clippy::needless_pass_by_value,
    reason = "commands are called with their options"
)]
fn verify(options: Options) -> ExitCode {
    if options.config.is_empty() {
        process::print("frpc: the configuration file is not specified");
        return ExitCode::SUCCESS;
    }
    let verified = load(Path::new(&options.config), &options)
        .and_then(|loaded| validate(&options, &loaded.config));
    if verified.is_ok() {
        process::print(format_args!(
            "frpc: the configuration file {} syntax is ok",
            options.config
        ));
    }
    exit_code(verified.map_err(Into::into))
}

/// `frpc tcp`
fn tcp(options: Options) -> ExitCode {
    let allowed = UnsafeFeatures::from_names(&options.allow_unsafe);
    let mut config = options.tcp_client();
    if let Some(url) = process::environment().remove("http_proxy") {
        config.transport.proxy_url = url;
    }
    if let (_, Err(e)) = config::validate_client(&config, &allowed) {
        // Upstream checks the one proxy by itself, without saying which.
        let named = format!("proxy {}: ", config.proxies[0].base.name);
        process::print(e.0.strip_prefix(&named).unwrap_or(&e.0));
        return ExitCode::FAILURE;
    }
    let served = process::run_until_stopped(async |stop| {
        let _log = telemetry::init(&config.log);
        serve(config, stop).await
    });
    exit_code(served.map_err(Into::into).flatten())
}

/// Runs a client for each file below the directory, until all have ended. One that fails leaves the others alone.
async fn serve_directory(options: Options, stop: CancellationToken) {
    let mut clients = JoinSet::new();
    let options = Arc::new(options);
    for file in files(Path::new(&options.config_dir)) {
        let (options, stop) = (options.clone(), stop.clone());
        clients.spawn(async move {
            if let Err(e) = serve_file(&file, &options, stop).await {
                process::print(e);
                process::print(format_args!(
                    "frpc service error for config file [{}]",
                    file.display()
                ));
            }
        });
    }
    clients.join_all().await;
}

/// All files below `path` in the order of their names; `path` itself if it is one.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Vec::new();
    };
    if !metadata.is_dir() {
        return vec![path.to_owned()];
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort_unstable();
    entries.iter().flat_map(|entry| files(entry)).collect()
}

async fn serve_file(file: &Path, options: &Options, stop: CancellationToken) -> Result<()> {
    let Loaded { config, legacy_ini } = load(file, options)?;
    if legacy_ini {
        process::print(text::LEGACY_INI_WARNING);
    }
    refuse_nameless(&config)?;
    validate(options, &config)?;
    let _log = telemetry::init(&config.log);
    let file = file.display();
    tracing::info!("start frpc service for config file [{file}] with aggregated configuration");
    let served = serve(config, stop).await;
    tracing::info!("frpc service for config file [{file}] stopped");
    served
}

async fn serve(config: ClientConfig, stop: CancellationToken) -> Result<()> {
    let token = config::resolve_token(&config.auth.token, config.auth.token_source.as_ref())?;
    Ok(frpc_rs::run(config, token, stop).await?)
}

fn load(file: &Path, options: &Options) -> std::result::Result<Loaded<ClientConfig>, ConfigError> {
    config::load_client(file, options.strict_config, &process::environment())
}

/// Prints warnings; fails with what makes the configuration useless.
fn validate(options: &Options, config: &ClientConfig) -> std::result::Result<(), ConfigError> {
    let allowed = UnsafeFeatures::from_names(&options.allow_unsafe);
    let (warnings, result) = config::validate_client(config, &allowed);
    if !warnings.is_empty() {
        process::print(format_args!("WARNING: {}", warnings.join("\n")));
    }
    result
}

/// A run words an empty name differently than `verify` does.
fn refuse_nameless(config: &ClientConfig) -> std::result::Result<(), ConfigError> {
    let what = if config.proxies.iter().any(|p| p.base.name.is_empty()) {
        "proxy"
    } else if config.visitors.iter().any(|v| v.base.name.is_empty()) {
        "visitor"
    } else {
        return Ok(());
    };
    Err(ConfigError(format!(
        "failed to set config source: {what} name cannot be empty"
    )))
}

/// Prints why it failed, if it did, where upstream does.
fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            process::print(e);
            ExitCode::FAILURE
        }
    }
}
