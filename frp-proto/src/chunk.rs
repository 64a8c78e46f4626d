//! Read buffers that become chunks: taken from a pool when bytes are there, given back when the last chunk cut from them is
//! gone. What a socket has read travels on as [`Bytes`], without a copy.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of one buffer: a read's worth, eight full TLS records, and a little, as opening a record needs some room.
pub(crate) const SIZE: usize = 128 * 1024 + 64;
/// Buffers kept while nobody uses them.
const KEPT: usize = 16;
/// A chunk smaller than this share of its buffer is copied, so that few bytes that wait do not keep a large buffer.
const KEEP_SHARE: usize = 16;

static POOL: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A buffer of [`SIZE`] bytes on loan from the pool.
pub(crate) struct ReadBuffer {
    bytes: Box<[u8]>,
    filled: usize,
}

impl ReadBuffer {
    pub(crate) fn take() -> Self {
        let kept = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self {
            bytes: kept.unwrap_or_else(|| vec![0; SIZE].into()),
            filled: 0,
        }
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `n` bytes, for who will keep few of them for long.
    pub(crate) fn into_chunk(self, n: usize) -> Bytes {
        if n * KEEP_SHARE < SIZE {
            return Bytes::copy_from_slice(&self.bytes[..n]);
        }
        self.into_shared(n)
    }

    /// The first `n` bytes, whose parts keep all of the buffer.
    pub(crate) fn into_shared(mut self, n: usize) -> Bytes {
        self.filled = n;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_what_was_read() {
        for n in [0, 1, SIZE / KEEP_SHARE, SIZE] {
            let mut buffer = ReadBuffer::take();
            buffer.as_mut()[..n].fill(7);
            let chunk = buffer.into_chunk(n);
            assert_eq!(chunk.len(), n);
            assert!(chunk.iter().all(|b| *b == 7));
        }
    }
}
