//! The encoder. Candidates for copies come from a table of where keys, the bytes at a position, have been seen last.

#![expect(clippy::inline_always, reason = "a hint alone is slower")]

use std::hint::select_unpredictable;

/// Longest block; positions in it fit in the entries of the table.
pub(in crate::compress) const LONGEST: usize = 1 << 16;
/// Logarithm of the number of entries of the table for the longest blocks. With it, the table takes 32 KiB.
const TABLE_BITS: u32 = 14;
/// Bytes that make up a key. With 6, copies are fewer and longer: some 7 % faster, but logs and programs get 3 % larger than by 5.
const KEY: u32 = 5;
type Table = [u16; 1 << TABLE_BITS];
/// Least length of copies.
const SHORTEST: usize = 4;
/// Greatest length of a copy that one element can hold.
const LONGEST_COPY: usize = 64;
/// Bytes that `elements` may read from where a copy starts.
const AHEAD: usize = SHORTEST + 16;
/// Longest of the literals that are written in one move.
const PIECE: usize = 16;
/// Why `out` can take another element and what is written too much.
const ROOM: &str = "max_len leaves room";
/// The shift that says how fast the search speeds up while it finds nothing.
const PATIENCE: u32 = 4;

/// Longest that a block of `plain` bytes can become.
pub(in crate::compress) const fn max_len(plain: usize) -> usize {
    32 + plain + plain / 6
}

/// The table, for reuse. What it holds from earlier blocks makes no difference.
pub(in crate::compress) struct Encoder {
    table: Box<Table>,
}

impl Encoder {
    pub(in crate::compress) fn new() -> Self {
        Self {
            table: vec![0; 1 << TABLE_BITS]
                .try_into()
                .expect("the lengths are equal"),
        }
    }

    /// Encodes `block` into `out`, which has room for `max_len(block.len())`; returns the length.
    pub(in crate::compress) fn encode(&mut self, block: &[u8], out: &mut [u8]) -> usize {
        assert!(block.len() <= LONGEST && out.len() >= max_len(block.len()));
        let mut end = 0;
        let mut length = block.len();
        while length >= 0x80 {
            out[end] = length as u8 | 0x80;
            end += 1;
            length >>= 7;
        }
        out[end] = length as u8;
        end += 1;
        // To clear a large table would take longer than to encode a small block.
        let table = &mut *self.table;
        let (done, end) = match block.len() {
            0..=0x200 => elements::<9>(table, block, out, end),
            0x201..=0x400 => elements::<10>(table, block, out, end),
            0x401..=0x1000 => elements::<12>(table, block, out, end),
            _ => elements::<TABLE_BITS>(table, block, out, end),
        };
        if done < block.len() {
            literal(out, end, block, done, block.len())
        } else {
            end
        }
    }
}

/// Writes the elements up to the last copy at `end` of `out`, with `2^BITS` entries of the table; returns how many bytes of the
/// block they cover, and the end of the output.
///
/// What takes time is branches that go another way than expected, and to wait for where a copy ends, since only then the next one
/// can be looked up. So the search is plain, but nothing branches on the kind of a copy, on its length if that is short, or on how
/// far it reaches back into what the search has skipped.
fn elements<const BITS: u32>(
    table: &mut Table,
    block: &[u8],
    out: &mut [u8],
    mut end: usize,
) -> (usize, usize) {
    table[..1 << BITS].fill(0);
    let mut done = 0;
    let mut at = 1;
    loop {
        let mut candidate;
        loop {
            let Some(window) = chunk::<{ AHEAD + 1 }>(block, at) else {
                return (done, end);
            };
            let bytes = word(window, 0);
            candidate = replace::<BITS>(table, bytes, at);
            if starts_alike(block, candidate, bytes) {
                break;
            }
            at += 1;
            let bytes = word(window, 1);
            candidate = replace::<BITS>(table, bytes, at);
            if starts_alike(block, candidate, bytes) {
                break;
            }
            at += 1 + ((at - done) >> PATIENCE);
        }
        loop {
            let start = at;
            let offset = start - candidate;
            let ahead: &[u8; AHEAD] = chunk(block, start).expect("the search has looked further");
            let behind: &[u8; AHEAD] = chunk(block, candidate).expect("it is before the start");
            let near = word(ahead, SHORTEST) ^ word(behind, SHORTEST);
            let far = word(ahead, SHORTEST + 8) ^ word(behind, SHORTEST + 8);
            let alike =
                select_unpredictable(near != 0, near.trailing_zeros(), 64 + far.trailing_zeros());
            let mut length = SHORTEST + alike as usize / 8;
            at = start + length;
            if start != done {
                let mut from = start;
                if candidate >= 8 {
                    let before = word64(block, start - 8) ^ word64(block, candidate - 8);
                    let back = (before.leading_zeros() as usize / 8).min(start - done);
                    from -= back;
                    length += back;
                }
                end = literal(out, end, block, done, from);
            }
            if alike == 128 {
                let more = common(&block[candidate + AHEAD..], &block[at..]);
                at += more;
                length += more;
                // What is left for the last element is never less than `SHORTEST`, so that it may be of the short kind.
                while length >= LONGEST_COPY + SHORTEST {
                    put(out, end, long_copy(offset, LONGEST_COPY));
                    end += 3;
                    length -= LONGEST_COPY;
                }
                if length > LONGEST_COPY {
                    put(out, end, long_copy(offset, LONGEST_COPY - SHORTEST));
                    end += 3;
                    length -= LONGEST_COPY - SHORTEST;
                }
            }
            end = copy(out, end, offset, length);
            done = at;
            let Some(window) = chunk::<{ AHEAD + 1 }>(block, at - 1) else {
                return (done, end);
            };
            // Of the positions within a copy, these two are worth their time.
            table[slot::<BITS>(word(ahead, 1))] = (start + 1) as u16;
            table[slot::<BITS>(word(window, 0))] = (at - 1) as u16;
            let bytes = word(window, 1);
            candidate = replace::<BITS>(table, bytes, at);
            if !starts_alike(block, candidate, bytes) {
                at += 1;
                break;
            }
        }
    }
}

fn chunk<const N: usize>(block: &[u8], at: usize) -> Option<&[u8; N]> {
    block.get(at..)?.first_chunk()
}

fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_le_bytes(*chunk(bytes, at).expect("eight bytes are there"))
}

fn word64(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*chunk(block, at).expect("eight bytes are there"))
}

/// Whether a copy of `candidate` can stand for `bytes`.
fn starts_alike(block: &[u8], candidate: usize, bytes: u64) -> bool {
    block[candidate..candidate + SHORTEST] == bytes.to_le_bytes()[..SHORTEST]
}

/// Where the table keeps the position of a key, the first of `bytes`.
fn slot<const BITS: u32>(bytes: u64) -> usize {
    let key = bytes << (64 - 8 * KEY);
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS)) as usize
}

/// Puts a position in the table; returns the one that was there.
fn replace<const BITS: u32>(table: &mut Table, bytes: u64, at: usize) -> usize {
    let slot = slot::<BITS>(bytes);
    let before = table[slot];
    table[slot] = at as u16;
    usize::from(before)
}

/// How many bytes `a` and `b` start with in common; `a` is not shorter.
#[inline(never)]
fn common(a: &[u8], b: &[u8]) -> usize {
    let a = &a[..b.len()];
    let mut at = 0;
    while at + 32 <= b.len() && a[at..at + 32] == b[at..at + 32] {
        at += 32;
    }
    while at + 8 <= b.len() {
        let differing = word64(a, at) ^ word64(b, at);
        if differing != 0 {
            return at + differing.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + a[at..]
        .iter()
        .zip(&b[at..])
        .take_while(|(a, b)| a == b)
        .count()
}

/// Writes the literal `block[from..to]` at `end` of `out`; returns the end after it. There is no
/// element if the literal is empty, which it may be only where a `PIECE` follows.
#[inline(always)]
fn literal(out: &mut [u8], end: usize, block: &[u8], from: usize, to: usize) -> usize {
    let length = to - from;
    let number = length.wrapping_sub(1);
    if length <= PIECE
        && let Some(piece) = chunk::<PIECE>(block, from)
    {
        let room: &mut [u8; 1 + PIECE] = out[end..].first_chunk_mut().expect(ROOM);
        room[0] = (number << 2) as u8;
        room[1..].copy_from_slice(piece);
        return end + usize::from(length != 0) + length;
    }
    let (tag, extra) = match number {
        0..60 => (number << 2, 0),
        60..0x100 => (number << 8 | 60 << 2, 1),
        _ => (number << 8 | 61 << 2, 2),
    };
    put(out, end, tag);
    let start = end + 1 + extra;
    out[start..start + length].copy_from_slice(&block[from..to]);
    start + length
}

/// Writes a copy of at most `LONGEST_COPY` bytes at `end` of `out`, in the shorter form if that can hold it; returns the end after it.
#[inline(always)]
fn copy(out: &mut [u8], end: usize, offset: usize, length: usize) -> usize {
    let long = length >= 12 || offset >= 1 << 11;
    let short = (offset & 0xff) << 8 | (offset >> 8) << 5 | length.wrapping_sub(SHORTEST) << 2 | 1;
    put(
        out,
        end,
        select_unpredictable(long, long_copy(offset, length), short),
    );
    end + 2 + usize::from(long)
}

/// The three bytes of a copy with an offset of two bytes.
fn long_copy(offset: usize, length: usize) -> usize {
    offset << 8 | (length - 1) << 2 | 2
}

/// Writes the lower four bytes of `element`; those too many are overwritten by what follows.
fn put(out: &mut [u8], at: usize, element: usize) {
    out[at..at + 4].copy_from_slice(&(element as u32).to_le_bytes());
}

#[cfg(test)]
mod tests;
