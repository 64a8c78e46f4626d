//! Buffers of the stream layers: big while bytes are on their way, nothing while idle.
//!
//! Every thread keeps a few spare ones, so that a busy connection neither asks the allocator nor clears memory on each
//! wake-up, and ten thousand idle connections hold none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Capacity of a spare buffer, in bytes: eight full TLS records, or one snappy chunk at its largest and another one's beginning.
pub(crate) const CAPACITY: usize = 130 * 1024;

/// Buffers that a thread keeps for reuse.
const SPARE: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes in order: what is [`filled`](Self::filled) was produced and not consumed yet.
#[derive(Default)]
pub(crate) struct Buffer {
    /// Always initialised to its full length.
    data: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Holds no memory.
    pub(crate) const fn new() -> Self {
        Self {
            data: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.end]
    }

    /// Room for at least `need` bytes behind what is filled; more where it costs nothing.
    pub(crate) fn free(&mut self, need: usize) -> &mut [u8] {
        if self.data.len() - self.end < need {
            self.make_room(need);
        }
        &mut self.data[self.end..]
    }

    #[cold]
    fn make_room(&mut self, need: usize) {
        let filled = self.end - self.start;
        if self.data.len() >= filled + need {
            self.data.copy_within(self.start..self.end, 0);
        } else {
            let mut data = take(filled + need);
            data[..filled].copy_from_slice(self.filled());
            give(std::mem::replace(&mut self.data, data));
        }
        (self.start, self.end) = (0, filled);
    }

    /// The first `n` bytes of [`free`](Self::free) are filled now.
    pub(crate) fn produce(&mut self, n: usize) {
        assert!(
            n <= self.data.len() - self.end,
            "produced more than was free"
        );
        self.end += n;
    }

    /// The first `n` filled bytes are no longer needed.
    pub(crate) fn consume(&mut self, n: usize) {
        assert!(n <= self.end - self.start, "consumed more than was filled");
        self.start += n;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.free(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.produce(bytes.len());
    }

    /// Moves as much as fits into `out`.
    pub(crate) fn drain_to(&mut self, out: &mut ReadBuf<'_>) {
        self.drain_part(self.filled().len().min(out.remaining()), out);
    }

    /// Moves the first `n` bytes into `out`, which has room for them.
    pub(crate) fn drain_part(&mut self, n: usize, out: &mut ReadBuf<'_>) {
        out.put_slice(&self.filled()[..n]);
        self.consume(n);
    }

    /// Memory held, in bytes.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.data.capacity()
    }

    /// Gives back what is not needed while the connection waits.
    pub(crate) fn release(&mut self) {
        if self.data.len() < CAPACITY {
            if self.is_empty() {
                *self = Self::new();
            }
            return;
        }
        let rest = self.filled().to_vec();
        give(std::mem::take(&mut self.data));
        (self.start, self.end) = (0, rest.len());
        self.data = rest;
    }

    /// Reads once from `io`, behind what is filled and with room for at least `need` bytes; 0 is the end of the stream. Holds
    /// no spare room while it waits.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
        need: usize,
    ) -> Poll<io::Result<usize>> {
        // Not into the last few bytes of the buffer: that would make many small reads of a busy stream.
        let spacious = (CAPACITY / 2).min(CAPACITY.saturating_sub(self.filled().len()));
        let mut buf = ReadBuf::new(self.free(need.max(spacious)));
        let polled = Pin::new(io).poll_read(cx, &mut buf);
        let n = buf.filled().len();
        if let Poll::Ready(Ok(())) = polled {
            self.produce(n);
            return Poll::Ready(Ok(n));
        }
        self.release();
        polled.map_ok(|()| 0)
    }

    /// Writes all that is filled to `io`. Ready when empty.
    pub(crate) fn poll_drain<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            match ready!(Pin::new(&mut *io).poll_write(cx, self.filled()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.consume(n),
            }
        }
        self.release();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.data));
    }
}

/// A spare buffer, or a new one when none is left or more than the usual is needed.
fn take(need: usize) -> Vec<u8> {
    if need > CAPACITY {
        return vec![0; need];
    }
    // While a thread ends there is no pool any more.
    POOL.try_with(|pool| pool.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| vec![0; CAPACITY])
}

fn give(data: Vec<u8>) {
    if data.len() != CAPACITY {
        return;
    }
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < SPARE {
            pool.push(data);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_across_moves() {
        let mut buffer = Buffer::new();
        assert!(buffer.free(1).len() >= CAPACITY);
        buffer.extend(&vec![1; CAPACITY - 10]);
        buffer.consume(CAPACITY - 20);
        buffer.extend(&[2; 100]);
        assert_eq!(buffer.filled(), [&[1; 10][..], &[2; 100]].concat());
        buffer.extend(&vec![3; CAPACITY]);
        assert_eq!(buffer.filled().len(), 110 + CAPACITY);
        buffer.consume(110);
        assert_eq!(buffer.filled(), vec![3; CAPACITY]);
    }

    #[test]
    fn waiting_keeps_only_what_is_filled() {
        let mut buffer = Buffer::new();
        buffer.extend(b"left over");
        buffer.release();
        assert_eq!((buffer.data.len(), buffer.filled()), (9, &b"left over"[..]));
        buffer.extend(b"!");
        assert_eq!(buffer.filled(), b"left over!");
        buffer.consume(10);
        buffer.release();
        assert_eq!(buffer.held(), 0);
    }

    #[test]
    fn a_thread_reuses_its_buffers() {
        std::thread::spawn(|| {
            let mut buffer = Buffer::new();
            let first = buffer.free(1).as_ptr();
            buffer.release();
            assert_eq!(buffer.free(1).as_ptr(), first);
        })
        .join()
        .unwrap();
    }
}
