//! Snappy framing (wire.md §6): chunks with a checksum, each decodable by itself.
//!
//! A chunk is type (1), length (3, little-endian), body. Bodies of data begin with a masked CRC-32C of the uncompressed bytes.

mod block;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::block::Encoder;
use crate::buffer::Buffer;
use crate::chunk::{ChunkBuffer, SIZE};
use crate::net::Conn;

const IDENTIFIER: [u8; 10] = *b"\xff\x06\x00\x00sNaPpY";
const STREAM_IDENTIFIER: u8 = 0xff;
const COMPRESSED: u8 = 0x00;
const UNCOMPRESSED: u8 = 0x01;

/// Type and length.
const HEADER: usize = 4;
const CHECKSUM: usize = 4;
/// Most uncompressed bytes of a chunk.
const MAX_PLAIN: usize = block::LONGEST;
/// Longest body of a chunk: that many bytes at snappy's worst, with their checksum.
const MAX_BODY: usize = 76_490 + CHECKSUM;

thread_local! {
    /// The encoder's table takes 32 KiB and means nothing between two blocks.
    static ENCODER: RefCell<Encoder> = RefCell::new(Encoder::new());
}

/// Snappy frames in both directions over a connection; every write leaves as its own chunk(s) at once.
///
/// Reading and writing are cancel safe. An idle stream holds no buffer.
pub(crate) struct SnappyStream {
    inner: Conn,
    /// Chunks from the peer.
    incoming: Buffer,
    /// What did not fit into the reader's buffer.
    plain: Buffer,
    /// Snappy chunks for the peer that `inner` has not taken yet.
    outgoing: Bytes,
    /// The stream identifier was received.
    identified: bool,
    /// The stream identifier was sent.
    announced: bool,
    failed: Option<Fault>,
}

/// What ended the reading direction.
#[derive(Clone, Copy)]
enum Fault {
    Corrupt,
    Unsupported,
    Truncated,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Corrupt => Self::new(io::ErrorKind::InvalidData, "snappy: corrupt input"),
            Fault::Unsupported => {
                Self::new(io::ErrorKind::InvalidData, "snappy: unsupported input")
            }
            Fault::Truncated => Self::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"),
        }
    }
}

impl SnappyStream {
    /// Over a stream on which nothing has been said in either direction.
    pub(crate) fn new(inner: Conn) -> Self {
        Self {
            inner,
            incoming: Buffer::new(),
            plain: Buffer::new(),
            outgoing: Bytes::new(),
            identified: false,
            announced: false,
            failed: None,
        }
    }

    /// Handles the next chunk if all of it is there; `more` says that `buf` has got something, so that only what fits it is of
    /// use. False when there is nothing to do.
    fn next_chunk(&mut self, buf: &mut ReadBuf<'_>, more: bool) -> Result<bool, Fault> {
        let Some((kind, len)) = header(self.incoming.filled()) else {
            return Ok(false);
        };
        if !self.identified && kind != STREAM_IDENTIFIER {
            return Err(Fault::Corrupt);
        }
        if len > MAX_BODY || (0x02..=0x7f).contains(&kind) {
            return Err(Fault::Unsupported);
        }
        let Some(body) = self.incoming.filled().get(HEADER..HEADER + len) else {
            return Ok(false);
        };
        match kind {
            STREAM_IDENTIFIER => {
                if body != &IDENTIFIER[HEADER..] {
                    return Err(Fault::Corrupt);
                }
                self.identified = true;
            }
            COMPRESSED | UNCOMPRESSED => {
                let (checksum, data) = body.split_first_chunk().ok_or(Fault::Corrupt)?;
                let plain = if kind == COMPRESSED {
                    block::decoded_len(data).ok_or(Fault::Corrupt)?
                } else {
                    data.len()
                };
                if plain > MAX_PLAIN {
                    return Err(Fault::Corrupt);
                }
                let fits = plain <= buf.remaining();
                if more && !fits {
                    return Ok(false);
                }
                let out = if fits {
                    buf.initialize_unfilled_to(plain)
                } else {
                    &mut self.plain.free(plain)[..plain]
                };
                if kind == COMPRESSED {
                    block::decode(data, out).map_err(|_| Fault::Corrupt)?;
                } else {
                    out.copy_from_slice(data);
                }
                if masked_checksum(out) != u32::from_le_bytes(*checksum) {
                    return Err(Fault::Corrupt);
                }
                if fits {
                    buf.advance(plain);
                } else {
                    self.plain.produce(plain);
                    self.plain.drain_to(buf);
                }
            }
            // 0x80 to 0xfe may be skipped.
            _ => {}
        }
        self.incoming.consume(HEADER + len);
        Ok(true)
    }

    /// Makes snappy chunks of as much of `bytes` as one write takes; returns how much.
    fn compress(&mut self, bytes: &[u8]) -> usize {
        let first = bytes.len().min(MAX_PLAIN);
        let mut buffer = ChunkBuffer::with_room(if bytes.len() > first {
            SIZE
        } else {
            IDENTIFIER.len() + need(first)
        });
        let out = buffer.as_mut();
        let (mut taken, mut filled) = (0, 0);
        if !self.announced && !bytes.is_empty() {
            out[..IDENTIFIER.len()].copy_from_slice(&IDENTIFIER);
            filled = IDENTIFIER.len();
            self.announced = true;
        }
        for plain in bytes.chunks(MAX_PLAIN) {
            let out = &mut out[filled..];
            if out.len() < need(plain.len()) {
                break;
            }
            filled += encode(plain, out);
            taken += plain.len();
        }
        self.outgoing = buffer.into_chunk(filled);
        taken
    }
}

/// Most bytes of a snappy chunk for so many plain ones.
fn need(plain: usize) -> usize {
    HEADER + CHECKSUM + block::max_len(plain)
}

/// Makes a snappy chunk, for which `out` has room; returns its length.
fn encode(plain: &[u8], out: &mut [u8]) -> usize {
    let (head, body) = out.split_at_mut(HEADER + CHECKSUM);
    let compressed = ENCODER.with_borrow_mut(|encoder| encoder.encode(plain, body));
    let (kind, len) = if compressed < plain.len() - plain.len() / 8 {
        (COMPRESSED, compressed)
    } else {
        body[..plain.len()].copy_from_slice(plain);
        (UNCOMPRESSED, plain.len())
    };
    let length = ((CHECKSUM + len) as u32).to_le_bytes();
    head[0] = kind;
    head[1..HEADER].copy_from_slice(&length[..3]);
    head[HEADER..].copy_from_slice(&masked_checksum(plain).to_le_bytes());
    HEADER + CHECKSUM + len
}

/// Type and body length of the first chunk.
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[kind, l0, l1, l2] = bytes.first_chunk::<HEADER>()?;
    Some((kind, u32::from_le_bytes([l0, l1, l2, 0]) as usize))
}

fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

impl AsyncRead for SnappyStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if !this.plain.is_empty() {
            this.plain.drain_to(buf);
        }
        loop {
            let more = buf.filled().len() > before;
            if buf.remaining() == 0 || (more && !this.plain.is_empty()) {
                return Poll::Ready(Ok(()));
            }
            if this.failed.is_none() {
                match this.next_chunk(buf, more) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(fault) => this.failed = Some(fault),
                }
            }
            if more {
                return Poll::Ready(Ok(()));
            }
            if let Some(fault) = this.failed {
                return Poll::Ready(Err(fault.into()));
            }
            this.plain.release();
            let need = header(this.incoming.filled()).map_or(1, |(_, len)| {
                (HEADER + len).saturating_sub(this.incoming.filled().len())
            });
            if ready!(this.incoming.poll_fill(&mut this.inner, cx, need))? == 0 {
                if this.incoming.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                this.failed = Some(Fault::Truncated);
            }
        }
    }
}

impl AsyncWrite for SnappyStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.inner.poll_write_whole(cx, &mut this.outgoing))?;
        let taken = this.compress(buf);
        // Taken, whether or not it leaves at once: a flush or the next write brings out the rest.
        if let Poll::Ready(Err(e)) = this.inner.poll_write_whole(cx, &mut this.outgoing) {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.inner.poll_write_whole(cx, &mut this.outgoing))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.inner.poll_write_whole(cx, &mut this.outgoing))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
