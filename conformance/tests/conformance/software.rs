//! Programs that users have behind, and in front of, their tunnels. A case whose programs are not installed is ignored.

mod dns;
mod grpc;
mod nginx;
mod ssh;

use std::io::Write as _;
use std::process::{Command, Stdio};

use conformance::process::locate;
use conformance::wait::{LIMIT, within};
use conformance::{Case, Failure, Outcome};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = nginx::cases();
    cases.extend(ssh::cases());
    cases.extend(dns::cases());
    cases.extend(grpc::cases());
    cases
}

/// Runs a program to its end, with `input`, and gives its exit code and what it printed.
async fn run(program: &str, arguments: &[&str], input: &[u8]) -> Outcome<(i32, Vec<u8>)> {
    let mut command = Command::new(locate(program));
    command.args(arguments);
    let input = input.to_vec();
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take();
        // Written beside the reading, so that neither side waits for the other.
        let writer = std::thread::spawn(move || stdin.as_mut().map(|pipe| pipe.write_all(&input)));
        let output = child.wait_with_output();
        // A program that does not want all of its input has said why.
        let _ = writer.join();
        output
    });
    let output = within(format!("the end of {program}"), 3 * LIMIT, run).await???;
    let code = output.status.code().unwrap_or(-1);
    // What goes wrong before a program's own work has these codes.
    if matches!(code, -1 | 255) {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("{program}: {why}")));
    }
    Ok((code, output.stdout))
}
