//! How a byte stream begins: who says the first word, and whether the service is there at all (balancing.md §8).
//!
//! Stock clients show a refused dial of the local service only as an early end of the work connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use frp_proto::net::Conn;
use tokio::io::AsyncWrite;

use crate::vhost::Prefixed;

/// An end without a byte that comes later than this is the service's own doing.
const EARLY: Duration = Duration::from_secs(1);

/// Both ends, with what was read from each and not passed on in front of them.
pub(crate) struct Watched {
    pub(crate) user: Conn,
    pub(crate) work: Conn,
    pub(crate) how: How,
}

/// How it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The service sent a byte.
    Answered,
    /// The service's end closed early, without a byte; `silent`: nor had the user sent one.
    Failed { silent: bool },
    /// Either end closed, and nobody is to blame.
    Over,
}

/// What is known so far.
struct Watch {
    user: Conn,
    work: Conn,
    /// Read from the user, not yet written.
    ahead: Bytes,
    /// Read from the service.
    answer: Bytes,
    began: Instant,
    silent: bool,
}

/// Passes on what the user says until the service says something, or either ends. Not cancel safe: dropping it drops both
/// connections.
pub(crate) async fn begin(user: Conn, work: Conn) -> Watched {
    let mut watch = Watch {
        user,
        work,
        ahead: Bytes::new(),
        answer: Bytes::new(),
        began: Instant::now(),
        silent: true,
    };
    let how = poll_fn(|cx| watch.poll(cx)).await;
    Watched {
        user: Prefixed::new(watch.ahead, watch.user).into_conn(Bytes::new()),
        work: Prefixed::new(watch.answer, watch.work).into_conn(Bytes::new()),
        how,
    }
}

impl Watch {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<How> {
        // The user first: who has closed is not to wonder that the service does, too.
        match self.poll_user(cx) {
            Ok(false) => {}
            Ok(true) => return Poll::Ready(How::Over),
            Err(_) => return Poll::Ready(self.ended()),
        }
        match self.work.poll_read_chunk(cx) {
            Poll::Ready(Ok(chunk)) if chunk.is_empty() => Poll::Ready(self.ended()),
            Poll::Ready(Ok(chunk)) => {
                self.answer = chunk;
                Poll::Ready(How::Answered)
            }
            Poll::Ready(Err(_)) => Poll::Ready(self.ended()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether the user has ended; an error is one of the service's end.
    fn poll_user(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        loop {
            while !self.ahead.is_empty() {
                match Pin::new(&mut self.work).poll_write(cx, &self.ahead)? {
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(n) => self.ahead.advance(n),
                    Poll::Pending => return Ok(false),
                }
            }
            match self.user.poll_read_chunk(cx) {
                Poll::Ready(Ok(chunk)) if !chunk.is_empty() => {
                    self.silent = false;
                    self.ahead = chunk;
                }
                Poll::Ready(_) => return Ok(true),
                Poll::Pending => {
                    // What waits in a layer is to go now; an error shows at the next write.
                    let _ = Pin::new(&mut self.work).poll_flush(cx);
                    return Ok(false);
                }
            }
        }
    }

    fn ended(&self) -> How {
        if self.began.elapsed() < EARLY {
            let silent = self.silent;
            How::Failed { silent }
        } else {
            How::Over
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn pair() -> (Conn, DuplexStream) {
        let (near, far) = duplex(64);
        (Conn::Other(Box::new(near)), far)
    }

    #[tokio::test]
    async fn the_first_answer_ends_the_watch_and_nothing_is_lost() {
        let ((user, mut caller), (work, mut service)) = (pair(), pair());
        let watch = tokio::spawn(begin(user, work));
        caller.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        service.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        service.write_all(b"hi").await.unwrap();
        let mut watched = watch.await.unwrap();
        assert_eq!(watched.how, How::Answered);
        watched.work.read_exact(&mut got[..2]).await.unwrap();
        assert_eq!(&got[..2], b"hi");
    }

    #[tokio::test]
    async fn an_early_end_is_the_services_unless_the_user_ended_first() {
        let ((user, _caller), (work, service)) = (pair(), pair());
        drop(service);
        assert_eq!(begin(user, work).await.how, How::Failed { silent: true });
        let ((user, mut caller), (work, mut service)) = (pair(), pair());
        let watch = tokio::spawn(begin(user, work));
        caller.write_all(b"x").await.unwrap();
        service.read_exact(&mut [0]).await.unwrap();
        drop(service);
        assert_eq!(watch.await.unwrap().how, How::Failed { silent: false });
        let ((user, caller), (work, service)) = (pair(), pair());
        drop((caller, service));
        assert_eq!(begin(user, work).await.how, How::Over);
    }
}
