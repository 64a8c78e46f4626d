//! Records both programs share.

use std::collections::BTreeMap;

use crate::config::decode::record;

/// Free-form names and values; keys are case-sensitive data.
pub type StringMap = BTreeMap<String, String>;

record! {
    /// Where a secret comes from (config-frps.md §7, config-frpc.md §9).
    ValueSource = "v1.ValueSource" {
        /// `file` or `exec`; the table not selected is ignored.
        type_: String = ["type"],
        file: Option<FileSource> = ["file"],
        exec: Option<ExecSource> = ["exec"],
    }
}

record! {
    /// The whole file, white space trimmed at both ends.
    FileSource = "v1.FileSource" {
        /// Relative to the working directory.
        path: String = ["path"],
    }
}

record! {
    /// The standard output of a command, trimmed; needs `--allow-unsafe TokenSourceExec`.
    ExecSource = "v1.ExecSource" {
        /// Looked up in `PATH`, no shell.
        command: String = ["command"],
        args: Vec<String> = ["args"],
        /// Added to the inherited environment.
        env: Vec<ExecEnvVar> = ["env"],
    }
}

record! {
    /// One variable of a command's environment.
    ExecEnvVar = "v1.ExecEnvVar" {
        name: String = ["name"],
        value: String = [secret "value"],
    }
}

record! {
    /// `log`.
    LogConfig = "v1.LogConfig" {
        /// `console` = standard output, else a file.
        to: String = ["to"] or "console",
        /// `trace`, `debug`, `info`, `warn` or `error`.
        level: String = ["level"] or "info",
        /// Days rotated files are kept; negative = for ever.
        max_days: i64 = ["maxDays"] or 3,
        disable_print_color: bool = ["disablePrintColor"],
        /// `text` or `json`. Ours, as the following.
        format: String = ["format"] or "text",
        /// A line for each finished connection and request: `console` or a file; empty = none.
        access: String = ["access"],
        /// A line for each login and change over the admin API: as `access`.
        audit: String = ["audit"],
    }
}

record! {
    /// `webServer`: dashboard and API.
    WebServerConfig = "v1.WebServerConfig" {
        addr: String = ["addr"] or "127.0.0.1",
        /// 0 = off.
        port: i64 = ["port" as "int"],
        user: String = ["user"],
        password: String = [secret "password"],
        /// Ours, not upstream's: bearer tokens.
        tokens: Vec<WebToken> = ["tokens"],
        assets_dir: String = ["assetsDir"],
        pprof_enable: bool = ["pprofEnable"],
        /// Presence, even empty, enables TLS.
        tls: Option<TlsConfig> = ["tls"],
    }
}

record! {
    /// One of `webServer.tokens`: who has it may ask, as far as its role goes.
    WebToken = "v1.WebToken" {
        token: String = [secret "token"],
        token_source: Option<ValueSource> = ["tokenSource"],
        /// `read-only` or `admin`.
        role: String = ["role"],
    }
}

record! {
    /// PEM files and the name to verify.
    TlsConfig = "v1.TLSConfig" {
        cert_file: String = ["certFile"],
        key_file: String = ["keyFile"],
        trusted_ca_file: String = ["trustedCaFile"],
        server_name: String = ["serverName"],
    }
}

record! {
    /// `transport.quic`.
    QuicOptions = "v1.QUICOptions" {
        /// Seconds.
        keepalive_period: i64 = ["keepalivePeriod" as "int"] or 10,
        /// Seconds.
        max_idle_timeout: i64 = ["maxIdleTimeout" as "int"] or 30,
        max_incoming_streams: i64 = ["maxIncomingStreams" as "int"] or 100_000,
        /// How a sender finds out what the way can take; empty = `reno`. Ours, not upstream's.
        congestion: String = ["congestion"],
    }
}

record! {
    /// One entry of `allowPorts`: `single` if positive, else `start` to `end` inclusive (config-frps.md §6.4).
    PortsRange = "types.PortsRange" {
        start: i64 = ["start" as "int"],
        end: i64 = ["end" as "int"],
        single: i64 = ["single" as "int"],
    }
}
