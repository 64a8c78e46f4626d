//! A queue of bytes.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

/// Pieces below this size are gathered into larger ones.
pub(super) const SMALL: usize = 8 * 1024;
/// A gathered piece is closed at this size, so that its growth copies little.
const GATHERED: usize = 2 * SMALL;

/// Bytes in the order of arrival. Large pieces are kept as they are; small ones are copied together, so that neither many
/// tiny pieces nor the large buffers that they came in cost more than the bytes themselves. Empty, it holds no memory.
#[derive(Default)]
pub(super) struct Chunks {
    sealed: VecDeque<Bytes>,
    /// Small pieces, behind all of `sealed`.
    tail: BytesMut,
    len: usize,
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a piece without a copy, unless it is small.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() < SMALL {
            return self.extend(&piece);
        }
        self.seal();
        self.len += piece.len();
        self.sealed.push_back(piece);
    }

    /// Appends a copy.
    pub(super) fn extend(&mut self, piece: &[u8]) {
        self.len += piece.len();
        if piece.len() >= SMALL {
            self.seal();
            self.sealed.push_back(Bytes::copy_from_slice(piece));
            return;
        }
        self.tail.extend_from_slice(piece);
        if self.tail.len() >= GATHERED {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed.push_back(mem::take(&mut self.tail).freeze());
        }
    }

    /// Takes up to `max` bytes from the front, as far as they are contiguous.
    pub(super) fn pop(&mut self, max: usize) -> Bytes {
        if self.sealed.is_empty() {
            self.seal();
        }
        let Some(front) = self.sealed.front_mut() else {
            return Bytes::new();
        };
        let piece = if front.len() <= max {
            let piece = mem::take(front);
            self.sealed.pop_front();
            piece
        } else {
            front.split_to(max)
        };
        self.len -= piece.len();
        if self.len == 0 {
            self.sealed = VecDeque::new();
        }
        piece
    }

    /// Forgets all, and gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tiny_pieces_are_gathered_and_large_ones_kept() {
        let mut chunks = Chunks::default();
        for byte in 0..100 {
            chunks.extend(&[byte]);
        }
        let large = Bytes::from(vec![7; SMALL]);
        chunks.push(large.clone());
        chunks.push(Bytes::from_static(b"end"));
        assert_eq!(chunks.len(), 100 + SMALL + 3);
        assert_eq!(chunks.pop(usize::MAX), (0..100).collect::<Vec<u8>>());
        assert_eq!(chunks.pop(usize::MAX).as_ptr(), large.as_ptr());
        assert_eq!(chunks.pop(2), "en");
        assert_eq!(chunks.pop(2), "d");
        assert!(chunks.is_empty() && chunks.pop(1).is_empty());
    }

    proptest! {
        #[test]
        fn order_and_length_are_kept(
            pieces in proptest::collection::vec((any::<bool>(), 0..2 * SMALL), 0..20),
            step in 1..3 * SMALL,
        ) {
            let mut chunks = Chunks::default();
            let mut expected = Vec::new();
            for (i, (copy, n)) in pieces.into_iter().enumerate() {
                let piece = vec![i as u8; n];
                expected.extend_from_slice(&piece);
                if copy { chunks.extend(&piece) } else { chunks.push(piece.into()) }
            }
            let mut got = Vec::new();
            while !chunks.is_empty() {
                let piece = chunks.pop(step);
                prop_assert!((1..=step).contains(&piece.len()));
                got.extend_from_slice(&piece);
                prop_assert_eq!(got.len() + chunks.len(), expected.len());
            }
            prop_assert_eq!(got, expected);
        }
    }
}
