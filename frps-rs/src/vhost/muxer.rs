//! Ports whose users say first where they want to go, and are a byte stream from there on (server.md §8).

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Shared;
use crate::balance::Turn;
use crate::proxy::Context;

/// For everything until a proxy has the user, answers included.
const SNIFF_LIMIT: Duration = Duration::from_secs(30);
/// First room for what users say first: most of them say less.
const USUAL_HEAD: usize = 2 * 1024;

/// A user whose way is known.
pub(super) struct Routed {
    /// Who has been picked.
    pub(super) turn: Turn<Context>,
    /// What has been read and belongs to the payload.
    pub(super) head: Bytes,
}

/// Gives `route`, which finds the proxy that a user wants, its limits. `None` when he gets none.
pub(super) async fn limited(
    shared: &Shared,
    route: impl Future<Output = io::Result<Option<Routed>>>,
) -> Option<Routed> {
    let Ok(_sniffing) = shared.sniffing.try_acquire() else {
        tracing::debug!("too many users that have not said where to go, connection closed");
        return None;
    };
    let limited = timeout(SNIFF_LIMIT, route);
    match shared.stop.run_until_cancelled(limited).await?.ok()? {
        Ok(routed) => routed,
        Err(e) => {
            tracing::debug!("get hostname from http/https request error: {e}");
            None
        }
    }
}

/// What `decode` makes of the first bytes.
pub(super) enum Step<T> {
    /// They are all there.
    Done(T),
    /// No answer before there are this many.
    Need(usize),
}

/// Reads until `decode` has understood, at most `max` bytes; gives all that was read, too.
pub(super) async fn read_head<T>(
    user: &mut TcpStream,
    max: usize,
    mut decode: impl FnMut(&[u8]) -> io::Result<Step<T>>,
) -> io::Result<(T, Bytes)> {
    let mut head = BytesMut::with_capacity(USUAL_HEAD);
    let mut need = 1;
    loop {
        if user.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head.len() < need {
            continue;
        }
        match decode(&head)? {
            Step::Done(done) => return Ok((done, head.freeze())),
            Step::Need(n) if n > max || head.len() >= max => {
                return Err(io::Error::other(format!("more than {max} bytes")));
            }
            Step::Need(n) => need = n,
        }
    }
}
