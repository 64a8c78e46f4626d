//! [`TlsStream`]: an established TLS connection as a byte stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::alert;
use super::handshake::{self, KeySchedule, Side};
use super::record::{
    ALERT, APPLICATION_DATA, HANDSHAKE, HEADER, MAX_OVERHEAD, MAX_PLAINTEXT, Protection, body_len,
};
use crate::buffer::Buffer;

/// Most plaintext that one write takes: eight full records.
const BATCH: usize = 8 * MAX_PLAINTEXT;
/// Handshake messages of TLS 1.3 that may come after the handshake.
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// Type and length of a handshake message.
const MESSAGE_HEADER: usize = 4;
/// Longest handshake message after the handshake; session tickets are what is long.
const MAX_MESSAGE: usize = 64 * 1024;
/// Records in a row without application data, as Go's limit.
const MAX_USELESS: u8 = 16;

/// An established TLS stream.
///
/// Reading and writing are cancel safe. Written data is taken in whole records; what the transport has not accepted yet
/// leaves with the next write, flush or shutdown. An idle stream holds no buffer. The end of the transport without a
/// `close_notify` is an ordinary end of the stream, since Go peers just close.
pub struct TlsStream<S> {
    pub(super) io: S,
    pub(super) session: Box<Session>,
    /// Ciphertext from the peer; at its front `Session::plain` bytes of a record that is open already.
    pub(super) incoming: Buffer,
    /// Ciphertext for the peer.
    pub(super) outgoing: Buffer,
}

/// What is not needed for finding out that nothing is there.
pub(super) struct Session {
    pub(super) tx: Protection,
    rx: Protection,
    schedule: Box<dyn KeySchedule>,
    /// Plaintext at the front of `incoming`, and what follows it in its record.
    plain: (usize, usize),
    /// A handshake message that is not complete.
    message: Vec<u8>,
    useless: u8,
    /// The peer wants us to change our keys before we send more.
    update_wanted: bool,
    /// Nothing more comes from the peer.
    ended: bool,
    /// Alert for which reading has failed, and whether we sent it.
    failed: Option<Failure>,
    /// `close_notify` is on its way or gone.
    closing: bool,
}

#[derive(Clone, Copy)]
enum Failure {
    Sent(u8),
    Received(u8),
    Truncated,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sent(alert) => alert::sent(alert),
            Failure::Received(alert) => alert::received(alert),
            Failure::Truncated => io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"),
        }
    }
}

impl<S> TlsStream<S> {
    /// The underlying transport.
    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    pub(super) async fn handshake(mut io: S, side: impl Side) -> io::Result<Self> {
        let established = handshake::run(&mut io, side).await?;
        Ok(Self {
            io,
            session: Box::new(Session {
                tx: established.tx,
                rx: established.rx,
                schedule: established.schedule,
                plain: (established.early, 0),
                message: Vec::new(),
                useless: 0,
                update_wanted: false,
                ended: established.closed,
                failed: None,
                closing: false,
            }),
            incoming: established.incoming,
            outgoing: Buffer::new(),
        })
    }
}

impl Session {
    /// Moves plaintext of the record that is open into `buf`.
    fn give_plain(&mut self, incoming: &mut Buffer, buf: &mut ReadBuf<'_>) {
        let (plain, rest) = self.plain;
        if plain == 0 {
            return;
        }
        let n = plain.min(buf.remaining());
        buf.put_slice(&incoming.filled()[..n]);
        incoming.consume(n);
        self.plain.0 -= n;
        if self.plain.0 == 0 {
            incoming.consume(rest);
        }
    }

    /// Opens the next record if all of it is there; `more` says that `buf` has got something, so that only what surely fits
    /// is of use. False when there is nothing to do.
    fn next_record(
        &mut self,
        incoming: &mut Buffer,
        buf: &mut ReadBuf<'_>,
        more: bool,
    ) -> Result<bool, Failure> {
        let Some(body) = body_len(incoming.filled()) else {
            return Ok(false);
        };
        if body > self.rx.max_body() {
            return Err(Failure::Sent(alert::RECORD_OVERFLOW));
        }
        let plaintext = self.rx.plaintext_of(body);
        if incoming.filled().len() < HEADER + body || (more && plaintext > buf.remaining()) {
            return Ok(false);
        }
        let prefix = self.rx.prefix();
        let room = buf.remaining().min(body);
        let out = buf.initialize_unfilled_to(room);
        let record = &mut incoming.filled_mut()[..HEADER + body];
        let opened = self.rx.open(record, out).map_err(Failure::Sent)?;
        let len = opened.len;
        if opened.content_type == APPLICATION_DATA {
            self.count_useless(len == 0)?;
            if !self.message.is_empty() {
                return Err(Failure::Sent(alert::UNEXPECTED_MESSAGE));
            }
            if opened.moved || len == 0 {
                incoming.consume(HEADER + body);
                buf.advance(len);
            } else {
                incoming.consume(prefix);
                self.plain = (len, HEADER + body - prefix - len);
                self.give_plain(incoming, buf);
            }
            return Ok(true);
        }
        let plain = if opened.moved {
            &out[..len]
        } else {
            &record[prefix..prefix + len]
        };
        match opened.content_type {
            ALERT => self.on_alert(plain)?,
            HANDSHAKE => self.on_handshake(plain)?,
            _ => return Err(Failure::Sent(alert::UNEXPECTED_MESSAGE)),
        }
        incoming.consume(HEADER + body);
        Ok(!self.ended)
    }

    fn count_useless(&mut self, useless: bool) -> Result<(), Failure> {
        self.useless = if useless { self.useless + 1 } else { 0 };
        if self.useless > MAX_USELESS {
            return Err(Failure::Sent(alert::UNEXPECTED_MESSAGE));
        }
        Ok(())
    }

    fn on_alert(&mut self, plain: &[u8]) -> Result<(), Failure> {
        const WARNING: u8 = 1;
        match *plain {
            [_, alert::CLOSE_NOTIFY] => {
                self.ended = true;
                Ok(())
            }
            [_, alert::USER_CANCELED] => self.count_useless(true),
            [WARNING, _] if !self.rx.is_tls13() => self.count_useless(true),
            [_, alert] => Err(Failure::Received(alert)),
            _ => Err(Failure::Sent(alert::DECODE_ERROR)),
        }
    }

    fn on_handshake(&mut self, plain: &[u8]) -> Result<(), Failure> {
        const UNEXPECTED: Failure = Failure::Sent(alert::UNEXPECTED_MESSAGE);
        self.count_useless(true)?;
        if !self.rx.is_tls13() || plain.is_empty() {
            return Err(UNEXPECTED);
        }
        self.message.extend_from_slice(plain);
        while let Some(&[kind, l0, l1, l2]) = self.message.first_chunk::<MESSAGE_HEADER>() {
            let len = MESSAGE_HEADER + u32::from_be_bytes([0, l0, l1, l2]) as usize;
            if len > MAX_MESSAGE {
                return Err(Failure::Sent(alert::DECODE_ERROR));
            }
            if self.message.len() < len {
                return Ok(());
            }
            match kind {
                // Sessions are never resumed.
                NEW_SESSION_TICKET => {
                    self.message.drain(..len);
                }
                KEY_UPDATE => {
                    let &[requested @ (0 | 1)] = &self.message[MESSAGE_HEADER..] else {
                        return Err(UNEXPECTED);
                    };
                    self.rx = self
                        .schedule
                        .next_rx()
                        .ok_or(Failure::Sent(alert::INTERNAL_ERROR))?;
                    self.update_wanted |= requested == 1;
                    self.message.clear();
                }
                _ => return Err(UNEXPECTED),
            }
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    /// Seals one short record.
    fn seal(&mut self, content_type: u8, plain: &[u8], outgoing: &mut Buffer) -> io::Result<()> {
        let out = outgoing.free(plain.len() + MAX_OVERHEAD);
        let n = self
            .tx
            .seal(content_type, plain.len(), Some(plain), |_| (), out)
            .map_err(alert::sent)?;
        outgoing.produce(n);
        Ok(())
    }

    /// Changes our keys if the peer wants it or they are worn.
    fn refresh_keys(&mut self, outgoing: &mut Buffer) -> io::Result<()> {
        if !self.update_wanted && !self.tx.is_worn() {
            return Ok(());
        }
        let update_not_requested = [KEY_UPDATE, 0, 0, 1, 0];
        self.seal(HANDSHAKE, &update_not_requested, outgoing)?;
        self.tx = self
            .schedule
            .next_tx()
            .ok_or_else(|| alert::sent(alert::INTERNAL_ERROR))?;
        self.update_wanted = false;
        Ok(())
    }

    /// Seals as much of `bufs` as one write takes; returns how much.
    fn seal_batch(&mut self, bufs: &[IoSlice<'_>], outgoing: &mut Buffer) -> io::Result<usize> {
        let total = bufs.iter().fold(0, |n: usize, b| n.saturating_add(b.len()));
        let total = total.min(BATCH);
        let mut source = Source { bufs, offset: 0 };
        let mut taken = 0;
        while taken < total {
            self.refresh_keys(outgoing)?;
            let len = (total - taken).min(MAX_PLAINTEXT);
            let out = outgoing.free(len + MAX_OVERHEAD);
            let whole = source.contiguous(len);
            let n = self
                .tx
                .seal(APPLICATION_DATA, len, whole, |out| source.gather(out), out)
                .map_err(alert::sent)?;
            if whole.is_some() {
                source.offset += len;
            }
            outgoing.produce(n);
            taken += len;
        }
        Ok(taken)
    }
}

/// What is left of the slices of a write.
struct Source<'a> {
    bufs: &'a [IoSlice<'a>],
    offset: usize,
}

impl<'a> Source<'a> {
    /// The next `len` bytes if one slice holds them.
    fn contiguous(&mut self, len: usize) -> Option<&'a [u8]> {
        while self.bufs.first()?.len() == self.offset {
            (self.bufs, self.offset) = (&self.bufs[1..], 0);
        }
        self.bufs[0].get(self.offset..self.offset + len)
    }

    /// Fills `out` from as many slices as it takes.
    fn gather(&mut self, mut out: &mut [u8]) {
        while let (Some(buf), false) = (self.bufs.first(), out.is_empty()) {
            let n = out.len().min(buf.len() - self.offset);
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&buf[self.offset..self.offset + n]);
            out = later;
            self.offset += n;
            if self.offset == buf.len() {
                (self.bufs, self.offset) = (&self.bufs[1..], 0);
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            io,
            session,
            incoming,
            outgoing,
        } = self.get_mut();
        let before = buf.filled().len();
        session.give_plain(incoming, buf);
        loop {
            let more = buf.filled().len() > before;
            if buf.remaining() == 0 || (more && session.plain.0 > 0) {
                return Poll::Ready(Ok(()));
            }
            if !session.ended && session.failed.is_none() {
                match session.next_record(incoming, buf, more) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(failure) => {
                        session.failed = Some(failure);
                        if let Failure::Sent(alert) = failure {
                            // It leaves with the next write, flush or shutdown: a reader must not take the writer's waker.
                            session.seal(ALERT, &[2, alert], outgoing)?;
                        }
                    }
                }
            }
            if more || session.ended {
                return Poll::Ready(Ok(()));
            }
            if let Some(failure) = session.failed {
                return Poll::Ready(Err(failure.into()));
            }
            let need = body_len(incoming.filled()).map_or(1, |body| {
                (HEADER + body).saturating_sub(incoming.filled().len())
            });
            if ready!(incoming.poll_fill(io, cx, need))? == 0 {
                if incoming.is_empty() {
                    session.ended = true;
                } else {
                    session.failed = Some(Failure::Truncated);
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.outgoing.poll_drain(&mut this.io, cx))?;
        if this.session.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // After a fatal alert, either way, nothing counts any more; the end of the peer's direction alone is not that.
        if let Some(failure @ (Failure::Sent(_) | Failure::Received(_))) = this.session.failed {
            return Poll::Ready(Err(failure.into()));
        }
        let taken = this.session.seal_batch(bufs, &mut this.outgoing)?;
        // Taken, whether or not it leaves at once.
        if let Poll::Ready(Err(e)) = this.outgoing.poll_drain(&mut this.io, cx) {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.outgoing.poll_drain(&mut this.io, cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.session.closing {
            this.session
                .seal(ALERT, &[1, alert::CLOSE_NOTIFY], &mut this.outgoing)?;
            this.session.closing = true;
        }
        ready!(this.outgoing.poll_drain(&mut this.io, cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
