//! What streams carry: text-like data of which compression saves about half, the same on every machine and day, or a file.

use std::fmt::Write as _;

/// Least length of the block that is sent over and over. It fits the cache, and holds many of snappy's 64 KiB blocks.
const BLOCK: usize = 1 << 20;
/// Largest piece for one write.
const PIECE: usize = 256 << 10;

/// The endless, repeating sequence of bytes that every stream carries from its beginning.
#[derive(Debug)]
pub(crate) struct Payload(Vec<u8>);

impl Payload {
    /// Generates it: lines of tokens, of which some are drawn from a small vocabulary and some are random.
    pub(crate) fn new() -> Self {
        let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
        let vocabulary: Vec<String> = (0..256)
            .map(|_| format!("{:07x}", random.next() >> 36))
            .collect();
        let mut text = String::with_capacity(BLOCK + 64);
        while text.len() < BLOCK {
            let draw = random.next();
            if draw & 3 != 0 {
                let word = (draw >> 8) as usize % vocabulary.len();
                text.push_str("status=");
                text.push_str(&vocabulary[word]);
            } else {
                let _ = write!(text, "{:016x}", random.next());
            }
            text.push(if draw & 0xf0 == 0 { '\n' } else { ' ' });
        }
        let mut block = text.into_bytes();
        block.truncate(BLOCK);
        Self(block)
    }

    /// Of a file's bytes, over and over; `None` if there are none.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let times = BLOCK.div_ceil(bytes.len().max(1));
        (!bytes.is_empty()).then(|| Self(bytes.repeat(times)))
    }

    /// The next piece at `offset` of a stream, at most `left` bytes; empty only when nothing is left.
    pub(crate) fn piece(&self, offset: u64, left: u64) -> &[u8] {
        let start = (offset % self.0.len() as u64) as usize;
        let length = left.min(PIECE.min(self.0.len() - start) as u64) as usize;
        &self.0[start..start + length]
    }

    /// Whether `data` is what the stream carries at `offset`.
    pub(crate) fn matches(&self, mut offset: u64, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let expected = self.piece(offset, data.len() as u64);
            let (head, rest) = data.split_at(expected.len());
            if head != expected {
                return false;
            }
            offset += expected.len() as u64;
            data = rest;
        }
        true
    }
}

/// Marsaglia's xorshift64: good enough for filler, and the same everywhere.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snappy_saves_about_half() {
        let payload = Payload::new();
        let block = payload.piece(0, 65_536);
        let packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
        let share = packed.len() * 100 / block.len();
        assert!((40..=60).contains(&share), "{share} %");
    }

    #[test]
    fn pieces_join_up_and_wrap() {
        let payload = Payload::new();
        let around = BLOCK as u64 - 3;
        assert_eq!(payload.piece(around, 10).len(), 3);
        let mut data = payload.piece(around, 3).to_vec();
        data.extend_from_slice(payload.piece(0, 1000));
        assert!(payload.matches(around, &data));
        data[500] ^= 1;
        assert!(!payload.matches(around, &data));
        assert!(payload.piece(5, 0).is_empty());
    }

    #[test]
    fn a_file_is_repeated() {
        assert!(Payload::of(b"").is_none());
        let payload = Payload::of(b"abc").unwrap();
        assert_eq!(payload.piece(BLOCK as u64, 4), b"bc");
        assert!(payload.matches(2, b"cabcab"));
    }

    #[test]
    fn the_same_every_time() {
        assert_eq!(Payload::new().0, Payload::new().0);
    }
}
