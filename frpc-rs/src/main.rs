//! The `frpc` program: from the command line to [`frpc_rs::run`], with upstream's outputs and exit codes.

mod discover;
mod file;
mod flags;
mod remote;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use frp_admin::{Server, WebServer};
use frp_proto::config::raw::client::ClientConfig;
use frp_proto::config::{self, ConfigError, Loaded, UnsafeFeatures};
use frp_proto::process::Hangups;
use frp_proto::{cli, process, telemetry, text};
use frpc_rs::{Client, Handle, Resources};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use file::FileOnDisk;
use flags::Options;
use remote::Ask;

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
    let verified = file(Path::new(&options.config), &options)
        .parse(options.strict_config)
        .and_then(|loaded| validate(&options, &loaded.config));
    if verified.is_ok() {
        process::print(format_args!(
            "frpc: the configuration file {} syntax is ok",
            options.config
        ));
    }
    exit_code(verified.map_err(Into::into))
}

/// `frpc tcp` and the like: a client without a file that has one proxy or one visitor.
fn one_shot(allow_unsafe: &[String], mut config: ClientConfig) -> ExitCode {
    let allowed = UnsafeFeatures::from_names(allow_unsafe);
    if let Some(url) = process::environment().remove("http_proxy") {
        config.transport.proxy_url = url;
    }
    if let (_, Err(e)) = config::validate_client(&config, &allowed) {
        // Upstream checks the one entry by itself, without saying which.
        let named = match &config.visitors[..] {
            [visitor, ..] => format!("visitor {}: ", visitor.base.name),
            [] => format!("proxy {}: ", config.proxies[0].base.name),
        };
        process::print(e.0.strip_prefix(&named).unwrap_or(&e.0));
        return ExitCode::FAILURE;
    }
    let served = process::run_until_stopped(async |stop| {
        let _log = telemetry::init(&config.log);
        let client = client(config, Resources::default(), &stop)?;
        Ok(client.run().await?)
    });
    exit_code(served.map_err(Into::into).flatten())
}

/// `frpc reload`
#[expect(
    clippy::needless_pass_by_value,
    reason = "commands are called with their options"
)]
fn reload(options: Options) -> ExitCode {
    let strict = options.strict_config;
    exit_code(ask(&options, Ask::Reload { strict }))
}

/// `frpc status`
#[expect(
    clippy::needless_pass_by_value,
    reason = "commands are called with their options"
)]
fn status(options: Options) -> ExitCode {
    exit_code(ask(&options, Ask::Status))
}

/// `frpc stop`
#[expect(
    clippy::needless_pass_by_value,
    reason = "commands are called with their options"
)]
fn stop(options: Options) -> ExitCode {
    exit_code(ask(&options, Ask::Stop))
}

/// `frpc nathole discover`
#[expect(
    clippy::needless_pass_by_value,
    reason = "commands are called with their options"
)]
fn discover(options: Options) -> ExitCode {
    // A file that cannot be read counts as none.
    let file = file(Path::new(&options.config), &options).parse(options.strict_config);
    let config = file.map_or_else(
        |_| {
            let mut config = ClientConfig::default();
            config.complete();
            config
        },
        |loaded| loaded.config,
    );
    let server = match options.stun_server.as_str() {
        "" => &config.nat_hole_stun_server,
        server => server,
    };
    let reported = process::run_until_stopped(async |stop: CancellationToken| {
        let report = discover::report(server, &options.stun_local_addr);
        stop.run_until_cancelled(report).await
    });
    let printed = reported.map_err(Into::into).and_then(|reported| {
        if let Some(report) = reported {
            process::print(report?);
        }
        Ok(())
    });
    exit_code(printed)
}

/// Asks the client that runs with the file.
fn ask(options: &Options, ask: Ask) -> Result<()> {
    let file = file(Path::new(&options.config), options);
    let config = file.parse(options.strict_config)?.config;
    let asked = process::run_until_stopped(async |stop: CancellationToken| {
        let asked = remote::ask(&config, ask, options.api_timeout);
        stop.run_until_cancelled(asked).await
    })?;
    if let Some(answer) = asked {
        process::print(answer?);
    }
    Ok(())
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

async fn serve_file(path: &Path, options: &Options, stop: CancellationToken) -> Result<()> {
    let file = file(path, options);
    let Loaded { config, legacy_ini } = file.parse(options.strict_config)?;
    if legacy_ini {
        process::print(text::LEGACY_INI_WARNING);
    }
    file::refuse_nameless(&config)?;
    let store = file.store(&config)?;
    match &store {
        Some(store) => validate(options, &store.merged(&config))?,
        None => validate(options, &config)?,
    }
    let _log = telemetry::init(&config.log);
    let name = path.display();
    tracing::info!("start frpc service for config file [{name}] with aggregated configuration");
    let resources = Resources {
        file: Some(Box::new(file)),
        store,
        ..Resources::default()
    };
    let served = serve(config, resources, options.strict_config, stop).await;
    tracing::info!("frpc service for config file [{name}] stopped");
    served
}

async fn serve(
    config: ClientConfig,
    mut resources: Resources,
    strict: bool,
    stop: CancellationToken,
) -> Result<()> {
    if let Some(settings) = WebServer::new(&config.web_server)? {
        resources.admin = Some(Server::bind(&settings).await?);
    }
    let client = client(config, resources, &stop)?;
    let hangups = Hangups::listen()?;
    let reload = reload_on_hangup(client.handle(), hangups, strict);
    let _reload = AbortOnDropHandle::new(tokio::spawn(reload));
    Ok(client.run().await?)
}

fn client(config: ClientConfig, resources: Resources, stop: &CancellationToken) -> Result<Client> {
    let token = config::resolve_token(&config.auth.token, config.auth.token_source.as_ref())?;
    Ok(Client::new(config, token, resources, stop)?)
}

/// Reads the file again whenever the process is told to.
async fn reload_on_hangup(handle: Handle, mut hangups: Hangups, strict: bool) {
    loop {
        hangups.next().await;
        let handle = handle.clone();
        let reloaded = tokio::task::spawn_blocking(move || handle.reload(strict)).await;
        if let Ok(Err(e)) = reloaded {
            tracing::warn!("reload frpc proxy config error: {e}");
        }
    }
}

fn file(path: &Path, options: &Options) -> FileOnDisk {
    FileOnDisk {
        path: path.to_owned(),
        allowed: UnsafeFeatures::from_names(&options.allow_unsafe),
    }
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
