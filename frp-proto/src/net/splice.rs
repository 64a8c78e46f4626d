//! `splice(2)`: bulk data between two TCP sockets through a pipe, without passing through this process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::relay::Failure;

/// Most bytes moved at once: what a pipe holds by default.
const LENGTH: usize = 64 * 1024;
/// Empty pipes kept while nobody uses them.
const KEPT: usize = 32;

static POOL: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn take() -> io::Result<Self> {
        let kept = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(pipe) = kept {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { read, write })
    }

    /// Gives an empty pipe back.
    fn give_back(self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(self);
        }
    }
}

/// Why a [`Lane`] stopped.
pub(super) enum Stop {
    /// Nothing more to read now, or no pipe to be had. Nothing is held.
    Dry,
    /// The end of the source.
    End,
}

/// State of one direction. It holds a pipe only while bytes are on their way.
#[derive(Default)]
pub(super) struct Lane {
    pipe: Option<Pipe>,
    /// Bytes in the pipe.
    held: usize,
}

impl Lane {
    /// Moves what is there, and adds what `to` has taken to `moved`.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        moved: &mut u64,
    ) -> Poll<Result<Stop, Failure>> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            let pipe = match self.pipe.take().map_or_else(Pipe::take, Ok) {
                Ok(pipe) => self.pipe.insert(pipe),
                Err(_) => return Poll::Ready(Ok(Stop::Dry)),
            };
            while self.held > 0 {
                ready!(to.poll_write_ready(cx)).map_err(Failure::Write)?;
                let written = to.try_io(Interest::WRITABLE, || {
                    Ok(splice(&pipe.read, None, to, None, self.held, flags)?)
                });
                match written {
                    Ok(n) => {
                        self.held -= n;
                        *moved += n as u64;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Poll::Ready(Err(Failure::Write(e))),
                }
            }
            let read = from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, &pipe.write, None, LENGTH, flags)?)
            });
            let stop = match read {
                Ok(0) => Stop::End,
                Ok(n) => {
                    self.held = n;
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Stop::Dry,
                Err(e) => return Poll::Ready(Err(Failure::Read(e))),
            };
            self.release();
            return Poll::Ready(Ok(stop));
        }
    }

    fn release(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.give_back();
        }
    }
}
