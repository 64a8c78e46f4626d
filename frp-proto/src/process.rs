//! What the `main` of both programs does to its process: arguments, environment, limits, signals, output.
//!
//! Nothing below `main` calls this.

#[cfg(target_os = "linux")]
mod rest;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write};

use tokio::runtime;
use tokio_util::sync::CancellationToken;

fn lossy(text: OsString) -> String {
    text.into_string()
        .unwrap_or_else(|text| text.to_string_lossy().into_owned())
}

/// Arguments after the program's name.
pub fn arguments() -> Vec<String> {
    std::env::args_os().skip(1).map(lossy).collect()
}

/// The environment as it is now.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .map(|(name, value)| (lossy(name), lossy(value)))
        .collect()
}

/// Prints a line to standard output; a reader that has gone away is no reason to stop.
pub fn print(line: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Runs what `start` makes on a runtime with a worker per core. SIGINT or SIGTERM cancels the token that `start` is given; a
/// second one ends the process at once.
pub fn run_until_stopped<F: Future>(
    start: impl FnOnce(CancellationToken) -> F,
) -> io::Result<F::Output> {
    raise_descriptor_limit();
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let output = runtime.block_on(async {
        let signals = Signals::listen()?;
        tokio::spawn(signals.obey(stop.clone()));
        #[cfg(target_os = "linux")]
        tokio::spawn(rest::give_back_at_rest());
        io::Result::Ok(start(stop).await)
    });
    // A name lookup that still waits for an answer must not hold the exit.
    runtime.shutdown_background();
    output
}

/// Lets the process open as many descriptors as it may: each user costs two. Go programs do the same.
fn raise_descriptor_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        // Where the hard limit is above what the kernel takes, the soft one stays.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

/// Requests to read the configuration again: SIGHUP, where there is one. As long as the value lives they do not end the
/// process.
pub struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Begins to take them. Needs a runtime.
    #[cfg(unix)]
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            signal: signal(SignalKind::hangup())?,
        })
    }

    /// Begins to take them; here there are none.
    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "the other platforms can fail")]
    pub fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one. Cancel safe.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        if self.signal.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for ever.
    #[cfg(not(unix))]
    pub async fn next(&mut self) {
        std::future::pending().await
    }
}

/// Requests of the system to stop.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "the other platforms can fail")]
    fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one; gives the exit code of a process that it kills.
    #[cfg(unix)]
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> i32 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        130
    }

    async fn obey(mut self, stop: CancellationToken) {
        self.next().await;
        stop.cancel();
        let code = self.next().await;
        #[expect(clippy::disallowed_methods, reason = "the user does not want to wait")]
        std::process::exit(code);
    }
}
