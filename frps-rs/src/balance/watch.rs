//! How a byte stream begins: who says the first word, and whether the service is there at all (balancing.md §8).
//!
//! Stock clients show a refused dial of the local service only as an early end of the work connection. Ours say how it went,
//! when they are asked, in the first byte; until then what the user has sent is kept, so that another member can have it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use frp_proto::msg::Verdict;
use frp_proto::net::Conn;
use frp_proto::net::replay::Replay;
use tokio::io::AsyncWrite;

/// Bytes of a user that are kept until the verdict; he has to wait with the rest.
const MAX_KEPT: usize = 64 * 1024;
/// An end without a byte that comes later than this is the service's own doing.
const EARLY: Duration = Duration::from_secs(1);

/// Both ends, with what was read from each and not passed on in front of them.
pub(crate) struct Watched {
    pub(crate) user: Conn,
    pub(crate) work: Conn,
    pub(crate) how: How,
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    /// The client's word on its dial, which it was asked for.
    pub(crate) verdict: bool,
    /// The first byte of the service.
    pub(crate) answer: bool,
}

/// How it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// What was waited for has come.
    Answered,
    /// The client could not reach the service. What the user has sent is in front of him again.
    Refused,
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
    /// The user has ended.
    over: bool,
    until: Until,
    /// What the user has sent, as long as there is no verdict.
    kept: Vec<Bytes>,
    kept_len: usize,
}

/// Passes on what the user says until what is waited for has come, or either ends. Not cancel safe: dropping it drops both
/// connections.
pub(crate) async fn begin(user: Conn, work: Conn, until: Until) -> Watched {
    let mut watch = Watch {
        user,
        work,
        ahead: Bytes::new(),
        answer: Bytes::new(),
        began: Instant::now(),
        silent: true,
        over: false,
        until,
        kept: Vec::new(),
        kept_len: 0,
    };
    let how = poll_fn(|cx| watch.poll(cx)).await;
    let ahead = if how == How::Refused {
        watch.kept.concat().into()
    } else {
        watch.ahead
    };
    Watched {
        user: Replay::new(ahead, watch.user).into_conn(),
        work: Replay::new(watch.answer, watch.work).into_conn(),
        how,
    }
}

impl Watch {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<How> {
        loop {
            // The user first: who has closed is not to wonder that the service does, too.
            let over = self.poll_user(cx);
            // Whatever has happened, a verdict comes ahead of what is for the user.
            if !self.until.verdict {
                match over {
                    Ok(false) => {}
                    Ok(true) => return Poll::Ready(How::Over),
                    Err(_) => return Poll::Ready(self.ended()),
                }
            }
            let Ok(mut chunk) = ready!(self.work.poll_read_chunk(cx)) else {
                return Poll::Ready(self.ended());
            };
            if chunk.is_empty() {
                return Poll::Ready(self.ended());
            }
            if std::mem::take(&mut self.until.verdict) {
                match Verdict::of(chunk.get_u8()) {
                    Some(Verdict::Reached) => self.kept = Vec::new(),
                    Some(Verdict::Refused) => return Poll::Ready(How::Refused),
                    None => return Poll::Ready(self.ended()),
                }
                if chunk.is_empty() && self.until.answer {
                    continue;
                }
            }
            self.answer = chunk;
            return Poll::Ready(How::Answered);
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
            if self.over {
                return Ok(true);
            }
            if self.until.verdict && self.kept_len >= MAX_KEPT {
                return Ok(false);
            }
            match self.user.poll_read_chunk(cx) {
                Poll::Ready(Ok(chunk)) if !chunk.is_empty() => {
                    self.silent = false;
                    if self.until.verdict {
                        self.kept_len += chunk.len();
                        self.kept.push(chunk.clone());
                    }
                    self.ahead = chunk;
                }
                Poll::Ready(_) => {
                    self.over = true;
                    return Ok(true);
                }
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

    const ANSWER: Until = Until {
        verdict: false,
        answer: true,
    };
    const VERDICT: Until = Until {
        verdict: true,
        answer: false,
    };

    fn pair() -> (Conn, DuplexStream) {
        let (near, far) = duplex(64);
        (Conn::Other(Box::new(near)), far)
    }

    #[tokio::test]
    async fn the_first_answer_ends_the_watch_and_nothing_is_lost() {
        let ((user, mut caller), (work, mut service)) = (pair(), pair());
        let watch = tokio::spawn(begin(user, work, ANSWER));
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
        assert_eq!(
            begin(user, work, ANSWER).await.how,
            How::Failed { silent: true }
        );
        let ((user, mut caller), (work, mut service)) = (pair(), pair());
        let watch = tokio::spawn(begin(user, work, ANSWER));
        caller.write_all(b"x").await.unwrap();
        service.read_exact(&mut [0]).await.unwrap();
        drop(service);
        assert_eq!(watch.await.unwrap().how, How::Failed { silent: false });
        let ((user, caller), (work, service)) = (pair(), pair());
        drop((caller, service));
        assert_eq!(begin(user, work, ANSWER).await.how, How::Over);
    }

    #[tokio::test]
    async fn the_verdict_is_nobodys_payload() {
        let ((user, mut caller), (work, mut client)) = (pair(), pair());
        caller.write_all(b"hello").await.unwrap();
        caller.shutdown().await.unwrap();
        client.write_all(b"\0hi").await.unwrap();
        let mut watched = begin(user, work, VERDICT).await;
        assert_eq!(watched.how, How::Answered);
        let mut got = [0; 5];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        watched.work.read_exact(&mut got[..2]).await.unwrap();
        assert_eq!(&got[..2], b"hi");
        // Without more behind it, the answer is still to come.
        let ((user, _caller), (work, mut client)) = (pair(), pair());
        client.write_all(b"\0").await.unwrap();
        let both = Until {
            answer: true,
            ..VERDICT
        };
        let watch = tokio::spawn(begin(user, work, both));
        client.write_all(b"hi").await.unwrap();
        let mut watched = watch.await.unwrap();
        assert_eq!(watched.how, How::Answered);
        watched.work.read_exact(&mut got[..2]).await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_user_keeps_what_he_has_sent() {
        let ((user, mut caller), (work, mut client)) = (pair(), pair());
        let watch = tokio::spawn(begin(user, work, VERDICT));
        let sent = vec![7; 2 * MAX_KEPT];
        let all = sent.clone();
        let caller = tokio::spawn(async move {
            caller.write_all(&all).await.unwrap();
            caller
        });
        // No more than that is taken from him before the verdict.
        let mut taken = vec![0; MAX_KEPT];
        client.read_exact(&mut taken).await.unwrap();
        client.write_all(b"\x01").await.unwrap();
        let mut watched = watch.await.unwrap();
        assert_eq!(watched.how, How::Refused);
        let mut got = vec![0; sent.len()];
        watched.user.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        caller.await.unwrap();
        // What is not known is no verdict.
        let ((user, _caller), (work, mut client)) = (pair(), pair());
        client.write_all(b"\x02").await.unwrap();
        let how = begin(user, work, VERDICT).await.how;
        assert_eq!(how, How::Failed { silent: true });
    }
}
