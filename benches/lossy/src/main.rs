//! Goodput of one stream through whole pairs of tunnel programs, where the way between them is long and loses packets.
//!
//! frps and frpc run on hosts of their own, which are network namespaces; between them this process carries packets at a given
//! rate, delay and loss. The service is behind frpc, the user beside frps. For comparison the same bytes go over the same way
//! without a tunnel. Linux only, as root.

#[cfg(target_os = "linux")]
mod scene;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    match scene::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("lossy: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("lossy: there are no network namespaces on this system");
    ExitCode::FAILURE
}
