//! The decoder.

use std::hint::select_unpredictable;

/// The block is malformed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::compress) struct Corrupt;

/// Longest element, but for literals whose length is in the bytes after the tag.
const LONGEST: usize = 64;
/// Bytes that `repeat` moves at a time; also the longest of the elements that are decoded fast near the ends.
const PIECE: usize = 16;

/// What the tag of an element says.
#[derive(Clone, Copy)]
struct Tag {
    /// Number of bytes that the element decodes to.
    length: u16,
    /// Least offset at which the element does not overlap what it copies: its length, and 0 for literals.
    reach: u16,
    /// Bits of the offset that the tag itself holds.
    high: u16,
    /// Which bits of the two bytes after the tag belong to the offset.
    mask: u16,
}

/// Tags whose elements `short_elements` leaves to `element` (long literals, offsets of 4 bytes) seem to be the longest copy, with
/// an offset of 0.
static TAGS: [Tag; 256] = {
    let mut tags = [Tag {
        length: 0,
        reach: 0,
        high: 0,
        mask: 0,
    }; 256];
    let mut tag = 0;
    while tag < 256 {
        let upper = tag as u16 >> 2;
        let (length, reach, high, mask) = match tag & 3 {
            0 if upper < 60 => (upper + 1, 0, 0, 0),
            1 => (upper % 8 + 4, upper % 8 + 4, upper >> 3 << 8, 0xff),
            2 => (upper + 1, upper + 1, 0, 0xffff),
            _ => (LONGEST as u16, LONGEST as u16, 0, 0),
        };
        tags[tag] = Tag {
            length,
            reach,
            high,
            mask,
        };
        tag += 1;
    }
    tags
};

/// Length of `block` when decoded; none if its header is malformed.
pub(in crate::compress) fn decoded_len(block: &[u8]) -> Option<usize> {
    header(block).map(|(length, _)| length)
}

/// Decodes `block` into `out`, whose length is `decoded_len(block)`. What `out` holds after an error is unspecified.
pub(in crate::compress) fn decode(block: &[u8], out: &mut [u8]) -> Result<(), Corrupt> {
    let (length, elements) = header(block).ok_or(Corrupt)?;
    if length == out.len() && decode_elements(elements, out) == Some(length) {
        Ok(())
    } else {
        Err(Corrupt)
    }
}

/// The length when decoded, and the elements after it.
fn header(block: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0;
    for (i, &byte) in block.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((u32::try_from(length).ok()? as usize, &block[i + 1..]));
        }
    }
    None
}

/// Decodes all elements; returns the number of bytes they decode to.
fn decode_elements(mut input: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        (input, at) = short_elements::<LONGEST>(input, out, at)?;
        (input, at) = short_elements::<PIECE>(input, out, at)?;
        if input.is_empty() {
            return Some(at);
        }
        (input, at) = element(input, out, at)?;
    }
}

/// Decodes elements as long as they have at most `N` bytes, are of the common kinds and leave room at both ends; returns the input
/// after them and the end of their output.
///
/// This is where the time goes: the way from one tag to the next, and branches that go another way than expected. So it has none
/// that tells literals from copies, which differ only in the address that is read, or lengths: it always moves `N` bytes, and
/// those too many are overwritten by the elements after it.
#[inline]
fn short_elements<'a, const N: usize>(
    mut input: &'a [u8],
    out: &mut [u8],
    mut at: usize,
) -> Option<(&'a [u8], usize)> {
    while input.len() > N && out.get(at..)?.len() >= N {
        let (&first, after) = input.split_first()?;
        let window = after.first_chunk::<N>()?;
        let first = usize::from(first);
        let kind = first & 3;
        let literal = kind == 0;
        let tag = TAGS[first];
        let length = usize::from(tag.length);
        if N < LONGEST && length > N {
            break;
        }
        // Computed, since the next tag would have to wait longer for a field of this one.
        let next = &after[select_unpredictable(literal, 1 + (first >> 2), kind)..];
        let offset = usize::from(tag.high | u16::from_le_bytes([window[0], window[1]]) & tag.mask);
        if offset >= usize::from(tag.reach) {
            let copied = out.get(at.checked_sub(offset)?..)?.first_chunk::<N>()?;
            let bytes = *select_unpredictable(literal, window, copied);
            *out[at..].first_chunk_mut()? = bytes;
        } else if length < LONGEST && out[at..].len() >= N + PIECE {
            repeat(out, at, offset, length)?;
        } else {
            break;
        }
        input = next;
        at += length;
    }
    Some((input, at))
}

/// Where a copy reads.
fn source(at: usize, offset: usize) -> Option<usize> {
    at.checked_sub(offset).filter(|&from| from < at)
}

/// Decodes a copy that overlaps what it reads, with room for a piece beyond its end.
fn repeat(out: &mut [u8], mut at: usize, offset: usize, length: usize) -> Option<()> {
    let (mut from, end) = (source(at, offset)?, at + length);
    let mut piece = *out.get(from..)?.first_chunk::<PIECE>()?;
    while at < end {
        *out.get_mut(at..)?.first_chunk_mut()? = piece;
        // Of the piece only the first `offset` bytes are decoded yet. They are written again and again, since to read what has
        // just been written, in other pieces, is slow.
        at += offset.min(PIECE);
        if offset >= PIECE {
            from += PIECE;
            piece = *out.get(from..)?.first_chunk()?;
        }
    }
    Some(())
}

/// Decodes one element of any kind, anywhere; returns the input after it and the end of its output.
#[inline(never)]
fn element<'a>(input: &'a [u8], out: &mut [u8], at: usize) -> Option<(&'a [u8], usize)> {
    let (&tag, after) = input.split_first()?;
    let (kind, upper) = (tag & 3, usize::from(tag >> 2));
    let extra = match kind {
        0 => upper.saturating_sub(59),
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let (number, mut after) = after.split_at_checked(extra)?;
    let number = number
        .iter()
        .rev()
        .fold(0, |number, &byte| number << 8 | usize::from(byte));
    if kind == 0 {
        let length = if extra == 0 { upper } else { number }.checked_add(1)?;
        let (literal, after) = after.split_at_checked(length)?;
        out.get_mut(at..at + length)?.copy_from_slice(literal);
        return Some((after, at + length));
    }
    let (each, offset) = if kind == 1 {
        (upper % 8 + 4, upper >> 3 << 8 | number)
    } else {
        (upper + 1, number)
    };
    // The same copy over and over is one long run, as in a block of zeros; if longer than `out`, it is corrupt already.
    let mut length = each;
    while length < out.len()
        && let Some(next) = after.strip_prefix(&input[..=extra])
    {
        length += each;
        after = next;
    }
    let run = out.get_mut(source(at, offset)?..at + length)?;
    let mut done = offset;
    while done < run.len() {
        let piece = done.min(run.len() - done);
        run.copy_within(..piece, done);
        done += piece;
    }
    Some((after, at + length))
}

#[cfg(test)]
mod tests;
