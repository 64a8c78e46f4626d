//! Secrets that a file or a command gives (config-frps.md §7.2).

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::ConfigError;
use super::raw::common::{ExecSource, ValueSource};
use super::read::{self, os_error};
use crate::auth::Secret;

/// A command that hangs must not hang the program; upstream would wait for ever.
const EXEC_TIMEOUT: Duration = Duration::from_mins(1);

/// Output beyond this is no token.
const MAX_OUTPUT: u64 = 1 << 20;

/// The token: `auth.token`, or what its source gives, white space trimmed at both ends.
///
/// Blocks while the file is read or the command runs. A source of type `exec` runs a command: only validation refuses it
/// where `--allow-unsafe` does not name it, so call this with a validated configuration.
pub fn resolve_token(
    auth_token: &str,
    source: Option<&ValueSource>,
) -> Result<Secret, ConfigError> {
    let Some(source) = source else {
        return Ok(Secret::new(auth_token));
    };
    resolve(source, EXEC_TIMEOUT)
        .map_err(|e| ConfigError(format!("failed to resolve auth.tokenSource: {e}")))
}

/// What a source gives now, white space trimmed at both ends. Blocks, and trusts, as [`resolve_token`] does.
pub fn resolve_value(source: &ValueSource) -> Result<Secret, String> {
    resolve(source, EXEC_TIMEOUT)
}

fn resolve(source: &ValueSource, timeout: Duration) -> Result<Secret, String> {
    let bytes = match (source.type_.as_str(), &source.file, &source.exec) {
        ("file", Some(file), _) => read::bytes(Path::new(&file.path))
            .map_err(|e| format!("failed to read file {}: {e}", file.path))?,
        ("exec", _, Some(exec)) => run(exec, timeout)
            .map_err(|e| format!("failed to execute command {}: {e}", exec.command))?,
        (other, ..) => return Err(format!("unsupported value source type: {other}")),
    };
    Ok(Secret::new(trim(&bytes)))
}

/// Without Unicode white space at both ends; bytes that are no text are kept, a token may be any bytes.
fn trim(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => bytes.trim_ascii(),
    }
}

/// The standard output of a command, with Go's error texts.
fn run(exec: &ExecSource, timeout: Duration) -> Result<Vec<u8>, String> {
    let command = &exec.command;
    let mut child = Command::new(command)
        .args(&exec.args)
        .envs(exec.env.iter().map(|v| (&v.name, &v.value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound if !command.contains('/') => {
                format!("exec: {command:?}: executable file not found in $PATH")
            }
            _ => format!("fork/exec {command}: {}", os_error(&e)),
        })?;
    let stdout = child.stdout.take().expect("standard output is piped");
    let (sender, output) = mpsc::sync_channel(1);
    // The pipe may stay open after the command ends, held by what it started: reading must not be able to block the caller.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut bytes);
        let _ = sender.send(result.map(|_| bytes));
    });
    let deadline = Instant::now() + timeout;
    let output = output.recv_timeout(timeout);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() < deadline && output.as_ref().is_ok_and(within_limit) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(None) => {
                let _ = child.kill();
                break child.wait();
            }
            Err(e) => break Err(e),
        }
    };
    match (output, status) {
        (Err(_), _) => Err(format!("no result after {} s", timeout.as_secs_f32())),
        (Ok(Ok(bytes)), _) if bytes.len() as u64 > MAX_OUTPUT => {
            Err(format!("output is larger than {} MiB", MAX_OUTPUT >> 20))
        }
        (Ok(Ok(bytes)), Ok(status)) if status.success() => Ok(bytes),
        (Ok(Ok(_)), Ok(status)) => Err(exit_text(status)),
        (Ok(Err(e)), _) | (_, Err(e)) => Err(os_error(&e)),
    }
}

fn within_limit(output: &io::Result<Vec<u8>>) -> bool {
    output
        .as_ref()
        .is_ok_and(|bytes| bytes.len() as u64 <= MAX_OUTPUT)
}

fn exit_text(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal: {signal}");
    }
    format!("exit status {}", status.code().unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::common::{ExecEnvVar, FileSource};

    fn file(path: &str) -> ValueSource {
        ValueSource {
            type_: "file".to_owned(),
            file: Some(FileSource {
                path: path.to_owned(),
            }),
            exec: None,
        }
    }

    fn exec(command: &str, args: &[&str]) -> ValueSource {
        ValueSource {
            type_: "exec".to_owned(),
            file: None,
            exec: Some(ExecSource {
                command: command.to_owned(),
                args: args.iter().map(|a| (*a).to_owned()).collect(),
                env: vec![ExecEnvVar {
                    name: "FRP_TEST".to_owned(),
                    value: "from env".to_owned(),
                }],
            }),
        }
    }

    fn token(source: &ValueSource) -> Result<String, String> {
        resolve_token("", Some(source))
            .map(|s| String::from_utf8(s.expose().to_vec()).unwrap())
            .map_err(|e| e.0)
    }

    #[test]
    fn no_source_gives_the_token() {
        assert_eq!(resolve_token("abc", None).unwrap().expose(), b"abc");
    }

    #[test]
    fn a_file_is_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "\u{a0}\n  s3 cret \r\n").unwrap();
        assert_eq!(
            token(&file(path.to_str().unwrap())),
            Ok("s3 cret".to_owned())
        );
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(token(&file(path.to_str().unwrap())), Ok(String::new()));
        assert_eq!(
            token(&file("/nonexistent/token")),
            Err("failed to resolve auth.tokenSource: failed to read file /nonexistent/token: open /nonexistent/token: no such file or directory".to_owned())
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_command_gives_its_output() {
        assert_eq!(
            token(&exec("sh", &["-c", "echo \" $FRP_TEST \"; echo noise >&2"])),
            Ok("from env".to_owned())
        );
        for (command, args, error) in [
            (
                "sh",
                &["-c", "exit 3"][..],
                "failed to execute command sh: exit status 3",
            ),
            (
                "nope-cmd",
                &[],
                "failed to execute command nope-cmd: exec: \"nope-cmd\": executable file not found in $PATH",
            ),
            (
                "/nope/cmd",
                &[],
                "failed to execute command /nope/cmd: fork/exec /nope/cmd: no such file or directory",
            ),
        ] {
            assert_eq!(
                token(&exec(command, args)),
                Err(format!("failed to resolve auth.tokenSource: {error}"))
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_command_is_bounded_in_time_and_size() {
        for script in ["sleep 60", "exec >&-; sleep 60", "sleep 5 & exit 0"] {
            let started = Instant::now();
            let result = resolve(&exec("sh", &["-c", script]), Duration::from_millis(200));
            assert!(result.is_err(), "{script}");
            assert!(started.elapsed() < Duration::from_secs(30), "{script}");
        }
        let result = token(&exec(
            "sh",
            &[
                "-c",
                "while :; do echo 0123456789012345678901234567890123456789; done",
            ],
        ));
        assert!(result.unwrap_err().ends_with("output is larger than 1 MiB"));
    }
}
