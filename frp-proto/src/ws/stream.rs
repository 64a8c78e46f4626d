//! [`WsStream`]: an established WebSocket as a byte stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Header, Kind, MAX_CONTROL, MAX_HEADER, apply_mask};
use crate::buffer::{Buffer, CAPACITY};

/// Most payload that one write takes.
const BATCH: usize = CAPACITY - MAX_HEADER;
/// While more than this is not sent yet, pings are not answered.
const PONG_LIMIT: usize = 64 * 1024;

const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;

/// Which end we are; a client masks what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// An established WebSocket.
///
/// Reading and writing are cancel safe. One write makes one frame; what the transport has not accepted yet leaves with the
/// next write, flush or shutdown. Shutting down sends Close and ends the transport's write side; reading may go on. An
/// idle stream holds no buffer.
pub struct WsStream<S> {
    io: S,
    role: Role,
    incoming: Buffer,
    outgoing: Buffer,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// Nothing more comes from the peer.
    ended: bool,
    /// Close is on its way or gone.
    closing: bool,
}

struct Frame {
    header: Header,
    /// Payload bytes already taken.
    taken: u64,
}

impl<S> WsStream<S> {
    /// A stream whose handshake is done; `incoming` is what came after it.
    pub(super) fn new(io: S, role: Role, incoming: Buffer) -> Self {
        let mut stream = Self {
            io,
            role,
            incoming,
            outgoing: Buffer::new(),
            frame: None,
            ended: false,
            closing: false,
        };
        stream.incoming.release();
        stream
    }

    /// Appends a frame with the payload of `bufs`, of which it takes `len` bytes.
    fn send(&mut self, kind: Kind, len: usize, bufs: &[IoSlice<'_>]) {
        let mask = (self.role == Role::Client).then(|| {
            let mut mask = [0; 4];
            // Without randomness the mask is zero, which every peer understands.
            let _ = aws_lc_rs::rand::fill(&mut mask);
            mask
        });
        let header = Header {
            kind,
            len: len as u64,
            mask,
        };
        let out = self.outgoing.free(MAX_HEADER + len);
        let start = header.write(out);
        let payload = &mut out[start..start + len];
        let mut filled = 0;
        for buf in bufs {
            let n = buf.len().min(len - filled);
            payload[filled..filled + n].copy_from_slice(&buf[..n]);
            filled += n;
        }
        if let Some(mask) = mask {
            apply_mask(mask, 0, payload);
        }
        self.outgoing.produce(start + len);
    }

    fn close(&mut self, status: u16) {
        if !self.closing {
            self.closing = true;
            self.send(Kind::Close, 2, &[IoSlice::new(&status.to_be_bytes())]);
        }
    }

    /// Takes the next header; false if more bytes are needed.
    fn next_frame(&mut self) -> bool {
        let Some((header, len)) = Header::parse(self.incoming.filled()) else {
            return false;
        };
        self.incoming.consume(len);
        if header.mask.is_some() == (self.role == Role::Client) {
            self.close(PROTOCOL_ERROR);
            self.ended = true;
        } else {
            self.frame = Some(Frame { header, taken: 0 });
        }
        true
    }

    /// Takes payload of the current frame; false if more bytes are needed.
    fn payload(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(frame) = &mut self.frame else {
            return self.next_frame();
        };
        let left = frame.header.len - frame.taken;
        let here = self.incoming.filled_mut();
        let available = usize::try_from(left).unwrap_or(usize::MAX).min(here.len());
        let taken = match frame.header.kind {
            Kind::Data => available.min(buf.remaining()),
            // A reply holds the first bytes of the ping, which are waited for.
            Kind::Ping if frame.taken == 0 => {
                let wanted = left.min(MAX_CONTROL as u64) as usize;
                if available < wanted {
                    return false;
                }
                wanted
            }
            _ => available,
        };
        if taken == 0 && left > 0 {
            return false;
        }
        let bytes = &mut here[..taken];
        if let Some(mask) = frame.header.mask {
            apply_mask(mask, frame.taken, bytes);
        }
        let first = frame.taken == 0;
        frame.taken += taken as u64;
        let kind = frame.header.kind;
        if frame.taken == frame.header.len {
            self.frame = None;
            // With all of it taken, closing the transport is no reset.
            self.ended = kind == Kind::Close;
        }
        match kind {
            Kind::Data => self.incoming.drain_part(taken, buf),
            Kind::Ping if first && !self.closing && self.outgoing.filled().len() < PONG_LIMIT => {
                let mut reply = [0; MAX_CONTROL];
                reply[..taken].copy_from_slice(&self.incoming.filled()[..taken]);
                self.incoming.consume(taken);
                self.send(Kind::Pong, taken, &[IoSlice::new(&reply)]);
            }
            _ => self.incoming.consume(taken),
        }
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        // If there was output a writer may wait for it, and it must keep its waker; it will send what comes on top.
        let writing = !this.outgoing.is_empty();
        loop {
            while buf.remaining() > 0 && !this.ended && this.payload(buf) {}
            if !writing
                && !this.outgoing.is_empty()
                && let Poll::Ready(Err(e)) = this.outgoing.poll_drain(&mut this.io, cx)
            {
                return Poll::Ready(Err(e));
            }
            if this.ended || buf.remaining() == 0 || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            let missing = if this.incoming.is_empty() {
                1
            } else {
                MAX_CONTROL
            };
            if ready!(this.incoming.poll_fill(&mut this.io, cx, missing))? == 0 {
                this.ended = true;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WsStream<S> {
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
        if this.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = bufs
            .iter()
            .map(|buf| buf.len())
            .fold(0, usize::saturating_add);
        let len = len.min(BATCH);
        if len > 0 {
            this.send(Kind::Data, len, bufs);
        }
        // Taken, whether or not it leaves at once.
        if let Poll::Ready(Err(e)) = this.outgoing.poll_drain(&mut this.io, cx) {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(Ok(len))
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
        this.close(NORMAL);
        ready!(this.outgoing.poll_drain(&mut this.io, cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
