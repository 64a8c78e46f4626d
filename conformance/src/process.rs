//! [`Process`]: a program as a child of ours, ended and reaped with its value.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait::{self, LIMIT};
use crate::{Failure, Outcome};

/// What to tell a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stand still: connections stay open and nobody answers.
    Stop,
    /// Go on.
    Continue,
    /// End in order.
    Terminate,
    /// Read the configuration again.
    Hangup,
}

/// Memory of a program, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Without what is mapped from files.
    pub own_kib: u64,
    /// With it.
    pub resident_kib: u64,
    /// The most that was resident.
    pub peak_kib: u64,
}

/// Where services are that a user's `PATH` may not have.
const SERVICES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The path of a program of somebody else; its name if it can only be found as that.
pub fn locate(program: &str) -> PathBuf {
    let paths = SERVICES.iter().map(|dir| Path::new(dir).join(program));
    let found = paths.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| program.into())
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Runs `program` with `variables` added to its environment; what it prints goes to `log`.
    pub fn start(
        program: &Path,
        arguments: &[String],
        log: PathBuf,
        variables: &[(&'static str, String)],
    ) -> Outcome<Self> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)));
        Self::run(command, log)
    }

    /// Runs `command`; what it prints goes to `log`.
    pub fn run(mut command: Command, log: PathBuf) -> Outcome<Self> {
        let output = File::create(&log)?;
        let errors = output.try_clone()?;
        let started = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn();
        let program = command.get_program();
        let child =
            started.map_err(|e| Failure::new(format!("{}: {e}", program.to_string_lossy())))?;
        Ok(Self { child, log })
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits for `text` in the log.
    #[track_caller]
    pub fn logs(&mut self, text: &str) -> impl Future<Output = Outcome> {
        self.logs_times(text, 1)
    }

    /// Waits until `text` is in the log `times` times.
    #[track_caller]
    pub fn logs_times(&mut self, text: &str, times: usize) -> impl Future<Output = Outcome> {
        let what = format!("{times} × {text:?} in {}", self.log.display());
        wait::until(what, LIMIT, async move || {
            (self.log().matches(text).count() >= times).then_some(())
        })
    }

    /// Its memory, where the system tells.
    pub fn memory(&self) -> Option<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let kib = |name| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.trim().parse().ok()
        };
        Some(Memory {
            own_kib: kib("RssAnon:")?,
            resident_kib: kib("VmRSS:")?,
            peak_kib: kib("VmHWM:")?,
        })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn exit(&mut self, limit: Duration) -> impl Future<Output = Outcome<ExitStatus>> {
        let what = format!("the end of the program of {}", self.log.display());
        wait::until(what, limit, async move || self.ended())
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal; after [`Signal::Stop`] nothing in the process runs any more.
    #[cfg(unix)]
    pub fn signal(&mut self, signal: Signal) -> Outcome {
        use rustix::process::{Pid, Signal as Unix, WaitOptions, kill_process, waitpid};
        if self.ended().is_some() {
            return Err(Failure::new("the program has ended by itself"));
        }
        let pid = Pid::from_child(&self.child);
        match signal {
            Signal::Stop => {
                kill_process(pid, Unix::STOP)?;
                waitpid(Some(pid), WaitOptions::UNTRACED)?;
            }
            Signal::Continue => kill_process(pid, Unix::CONT)?,
            Signal::Terminate => kill_process(pid, Unix::TERM)?,
            Signal::Hangup => kill_process(pid, Unix::HUP)?,
        }
        Ok(())
    }

    /// There are no signals here.
    #[cfg(not(unix))]
    pub fn signal(&mut self, signal: Signal) -> Outcome {
        Err(Failure::new(format!("no {signal:?} on this system")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a program that has already ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
