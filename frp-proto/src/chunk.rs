//! Buffers that become chunks: taken from a pool when bytes are there, given back when the last chunk cut from them is
//! gone. What a socket has read, or a layer has encoded, travels on as [`Bytes`], without a copy.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

/// Bytes of one buffer: a read's worth, eight full TLS records, and a little, as opening a record needs some room.
pub(crate) const SIZE: usize = 128 * 1024 + 64;
/// Buffers kept while nobody uses them.
const KEPT: usize = 4;
/// Buffers kept between two uses: a mux window's worth, which one busy stream has on its way.
const KEPT_BUSY: usize = 64;
/// A buffer that nobody has used for so long is given up.
const QUIET: Duration = Duration::from_secs(1);
/// A chunk smaller than this share of its buffer is copied, so that few bytes that wait do not keep a large buffer.
const KEEP_SHARE: usize = 16;

static POOL: Mutex<Pool> = Mutex::new(Pool {
    spare: Vec::new(),
    fewest: 0,
    swept: false,
});

struct Pool {
    spare: Vec<Box<[u8]>>,
    /// As few were spare since the last look.
    fewest: usize,
    /// A task looks.
    swept: bool,
}

impl Pool {
    fn lock() -> MutexGuard<'static, Self> {
        // Every change is one push or pop: a panic elsewhere leaves it whole.
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&mut self) -> Option<Box<[u8]>> {
        let taken = self.spare.pop();
        self.fewest = self.fewest.min(self.spare.len());
        taken
    }

    /// Keeps a buffer, if there is a place. Somebody has to look from now on if a sweeper comes back.
    fn give(&mut self, bytes: Box<[u8]>) -> Option<Sweeper> {
        if self.spare.len() < KEPT_BUSY {
            self.spare.push(bytes);
        }
        if self.swept || self.spare.len() <= KEPT {
            return None;
        }
        (self.swept, self.fewest) = (true, 0);
        Some(Sweeper)
    }

    /// Takes out what nobody has used since the last look; none when there is nothing to look for any more.
    fn sweep(&mut self) -> Option<Vec<Box<[u8]>>> {
        if self.spare.len() <= KEPT {
            return None;
        }
        let idle = self.fewest.min(self.spare.len() - KEPT);
        self.fewest = self.spare.len() - idle;
        Some(self.spare.drain(..idle).collect())
    }
}

/// Says when it goes that nobody looks any more.
struct Sweeper;

impl Sweeper {
    /// Gives up what is not used, as long as there is more than is always kept.
    async fn run(self) {
        loop {
            tokio::time::sleep(QUIET).await;
            // Freed without the lock.
            let idle = Pool::lock().sweep();
            if idle.is_none() {
                return;
            }
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        Pool::lock().swept = false;
    }
}

/// A buffer of [`SIZE`] bytes on loan from the pool, or a small one of its own.
pub(crate) struct ChunkBuffer {
    bytes: Box<[u8]>,
    filled: usize,
}

impl ChunkBuffer {
    pub(crate) fn take() -> Self {
        let kept = Pool::lock().take();
        Self {
            bytes: kept.unwrap_or_else(|| vec![0; SIZE].into()),
            filled: 0,
        }
    }

    /// For at most `need` bytes, up to [`SIZE`]. Few do not take a buffer of the pool.
    pub(crate) fn with_room(need: usize) -> Self {
        if need * KEEP_SHARE >= SIZE {
            return Self::take();
        }
        Self {
            bytes: vec![0; need].into(),
            filled: 0,
        }
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `n` bytes, for who will keep few of them for long.
    pub(crate) fn into_chunk(self, n: usize) -> Bytes {
        if n * KEEP_SHARE < self.bytes.len() {
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

impl AsRef<[u8]> for ChunkBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for ChunkBuffer {
    fn drop(&mut self) {
        if self.bytes.len() != SIZE {
            return;
        }
        let sweeper = Pool::lock().give(std::mem::take(&mut self.bytes));
        // Without a runtime there is nothing to wait with; the next one given back asks again.
        if let Some(sweeper) = sweeper
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(sweeper.run());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_what_was_read() {
        for n in [0, 1, SIZE / KEEP_SHARE, SIZE] {
            let mut buffer = ChunkBuffer::take();
            buffer.as_mut()[..n].fill(7);
            let chunk = buffer.into_chunk(n);
            assert_eq!(chunk.len(), n);
            assert!(chunk.iter().all(|b| *b == 7));
        }
    }

    #[test]
    fn few_bytes_have_a_buffer_of_their_size() {
        assert_eq!(ChunkBuffer::with_room(100).as_mut().len(), 100);
        assert_eq!(ChunkBuffer::with_room(SIZE / 2).as_mut().len(), SIZE);
        let mut buffer = ChunkBuffer::with_room(100);
        buffer.as_mut().fill(7);
        assert_eq!(buffer.into_chunk(50), [7; 50][..]);
    }

    #[test]
    fn what_nobody_uses_is_given_up() {
        let mut pool = Pool {
            spare: Vec::new(),
            fewest: 0,
            swept: false,
        };
        let mut sweepers = Vec::new();
        for _ in 0..KEPT_BUSY + 10 {
            sweepers.extend(pool.give(Box::default()));
        }
        assert_eq!((sweepers.len(), pool.spare.len()), (1, KEPT_BUSY));
        // Ten are in use all the time, and ten more now and then.
        assert_eq!(pool.sweep().unwrap().len(), 0);
        let used: Vec<_> = (0..20).map(|_| pool.take().unwrap()).collect();
        for bytes in used {
            assert!(pool.give(bytes).is_none());
        }
        assert_eq!(pool.sweep().unwrap().len(), KEPT_BUSY - 20);
        assert_eq!(pool.sweep().unwrap().len(), 20 - KEPT);
        assert!(pool.sweep().is_none());
        // Not the process's own pool.
        std::mem::forget(sweepers);
    }
}
