//! The `frps` program: from the command line to [`frps_rs::Server`], with upstream's outputs and exit codes.

mod flags;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use frp_proto::auth::Secret;
use frp_proto::config::raw::server::ServerConfig;
use frp_proto::config::{self, ConfigError, Loaded, UnsafeFeatures};
use frp_proto::process::Hangups;
use frp_proto::{cli, process, telemetry, text};
use frps_rs::{ConfigFile, Handle, Server, Settings};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use flags::Options;

fn main() -> ExitCode {
    match cli::parse(&flags::ROOT, process::arguments()) {
        Ok((run, options)) => run(options),
        Err(exit) => exit.print(),
    }
}

/// `frps`
fn run(options: Options) -> ExitCode {
    if options.version {
        process::print(text::VERSION);
        return ExitCode::SUCCESS;
    }
    let served = process::run_until_stopped(|stop| serve(options, stop));
    exit_code(served.map_err(Into::into).flatten())
}

/// `frps verify`
#[expect(
    clippy::needless_pass_by_value,
    reason = "commands are called with their options"
)]
fn verify(options: Options) -> ExitCode {
    if options.config.is_empty() {
        process::print("frps: the configuration file is not specified");
        return ExitCode::SUCCESS;
    }
    let verified = load(&options).and_then(|loaded| validate(&options, &loaded.config));
    if verified.is_ok() {
        process::print(format_args!(
            "frps: the configuration file {} syntax is ok",
            options.config
        ));
    }
    exit_code(verified.map_err(Into::into))
}

async fn serve(options: Options, stop: CancellationToken) -> Result<(), Box<dyn Error>> {
    let Loaded { config, legacy_ini } = load(&options)?;
    if legacy_ini {
        process::print(text::LEGACY_INI_WARNING);
    }
    validate(&options, &config)?;
    let _log = telemetry::init(&config.log);
    if options.config.is_empty() {
        tracing::info!("frps uses command line arguments for config");
    } else {
        tracing::info!("frps uses config file: {}", options.config);
    }
    let token = config::resolve_token(&config.auth.token, config.auth.token_source.as_ref())?;
    let settings = Settings::new(&config)?;
    let mut server = Server::bind(settings, token, stop).await?;
    if !options.config.is_empty() {
        server = server.with_file(config, Box::new(FileOnDisk(options)));
    }
    let reload = reload_on_hangup(server.handle(), Hangups::listen()?);
    let _reload = AbortOnDropHandle::new(tokio::spawn(reload));
    server.serve().await;
    Ok(())
}

/// Reads the file again whenever the process is told to.
async fn reload_on_hangup(handle: Handle, mut hangups: Hangups) {
    loop {
        hangups.next().await;
        let handle = handle.clone();
        let reloaded = tokio::task::spawn_blocking(move || handle.reload()).await;
        if let Ok(Err(e)) = reloaded {
            tracing::warn!("reload frps config error: {e}");
        }
    }
}

/// The file that the options name.
struct FileOnDisk(Options);

impl ConfigFile for FileOnDisk {
    fn load(&self) -> Result<(ServerConfig, Secret), String> {
        let Self(options) = self;
        let config = load(options).map_err(|e| e.0)?.config;
        validate(options, &config).map_err(|e| e.0)?;
        let source = config.auth.token_source.as_ref();
        let token = config::resolve_token(&config.auth.token, source).map_err(|e| e.to_string())?;
        Ok((config, token))
    }
}

/// The file, or without one what the flags say.
fn load(options: &Options) -> Result<Loaded<ServerConfig>, ConfigError> {
    if !options.config.is_empty() {
        let file = Path::new(&options.config);
        return config::load_server(file, options.strict_config, &process::environment());
    }
    let mut config = options.server.clone();
    config.complete();
    Ok(Loaded {
        config,
        legacy_ini: false,
    })
}

fn validate(options: &Options, config: &ServerConfig) -> Result<(), ConfigError> {
    let allowed = UnsafeFeatures::from_names(&options.allow_unsafe);
    let failures = config::validate_server(config, &allowed);
    if failures.is_empty() {
        return Ok(());
    }
    Err(ConfigError(failures.join("\n")))
}

/// Prints why it failed, if it did, where upstream does.
fn exit_code(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            process::print(e);
            ExitCode::FAILURE
        }
    }
}
