//! Read buffers: taken from a pool when bytes are there, given back when the last chunk cut from them is gone.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of one buffer: a read's worth, and the payload of one mux frame.
pub(super) const SIZE: usize = 64 * 1024;
/// Buffers kept while nobody uses them.
const KEPT: usize = 32;
/// A chunk smaller than this share of its buffer is copied, so that few bytes that wait do not keep a large buffer.
const KEEP_SHARE: usize = 8;

static POOL: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A buffer of [`SIZE`] bytes on loan from the pool.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    pub(super) fn take() -> Self {
        let kept = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self {
            bytes: kept.unwrap_or_else(|| vec![0; SIZE].into()),
            filled: 0,
        }
    }

    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `n` bytes as a chunk.
    pub(super) fn into_bytes(mut self, n: usize) -> Bytes {
        if n * KEEP_SHARE < SIZE {
            return Bytes::copy_from_slice(&self.bytes[..n]);
        }
        self.filled = n;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
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
            let mut buffer = Buffer::take();
            buffer.as_mut()[..n].fill(7);
            let chunk = buffer.into_bytes(n);
            assert_eq!(chunk.len(), n);
            assert!(chunk.iter().all(|b| *b == 7));
        }
    }
}
