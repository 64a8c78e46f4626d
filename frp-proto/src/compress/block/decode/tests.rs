use proptest::collection::vec;
use proptest::prelude::*;

use super::{Corrupt, decode, decoded_len};
use crate::testing::{noise, unhex};

/// What a block decodes to, if it is well-formed, by our decoder.
fn ours(block: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0xaa; decoded_len(block)?];
    decode(block, &mut out).ok().map(|()| out)
}

/// The same by snap's; it takes the empty block for one of length 0 until it decodes it.
fn theirs(block: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0x55; snap::raw::decompress_len(block).ok()?];
    let length = snap::raw::Decoder::new().decompress(block, &mut out).ok()?;
    assert_eq!(length, out.len());
    Some(out)
}

/// Asserts that both decoders agree, and returns what they agree on.
fn agreed(block: &[u8]) -> Option<Vec<u8>> {
    if !block.is_empty() {
        assert_eq!(decoded_len(block), snap::raw::decompress_len(block).ok());
    }
    if decoded_len(block).is_some_and(|length| length > 1 << 20) {
        // The block is too short for that length; do not fill memory to hear it.
        assert!(block.len() < 1 << 10);
        return None;
    }
    let (ours, theirs) = (ours(block), theirs(block));
    assert_eq!(ours, theirs);
    ours
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = vec![];
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A block in the making, and what it decodes to.
#[derive(Default)]
struct Block {
    elements: Vec<u8>,
    plain: Vec<u8>,
}

impl Block {
    /// A literal with `extra` bytes of length; none for the shortest form.
    fn literal(&mut self, literal: &[u8], extra: Option<usize>) -> &mut Self {
        let last = literal.len() - 1;
        let extra = extra.unwrap_or(match last {
            0..60 => 0,
            60..0x100 => 1,
            0x100..0x1_0000 => 2,
            _ => 3,
        });
        let tag = if extra == 0 { last } else { 59 + extra };
        self.elements.push((tag << 2) as u8);
        self.elements.extend(&last.to_le_bytes()[..extra]);
        self.elements.extend(literal);
        self.plain.extend(literal);
        self
    }

    /// A copy of kind 1, 2 or 3 (offset of 1, 2 or 4 bytes).
    fn copy(&mut self, kind: usize, offset: usize, length: usize) -> &mut Self {
        match kind {
            1 => self.elements.extend([
                (offset >> 8 << 5 | (length - 4) << 2 | 1) as u8,
                offset as u8,
            ]),
            2 => {
                self.elements.push(((length - 1) << 2 | 2) as u8);
                self.elements.extend((offset as u16).to_le_bytes());
            }
            _ => {
                self.elements.push(((length - 1) << 2 | 3) as u8);
                self.elements.extend((offset as u32).to_le_bytes());
            }
        }
        for _ in 0..length {
            // A wrong offset has no meaning; the block is only to be rejected.
            let byte = self
                .plain
                .len()
                .checked_sub(offset)
                .and_then(|i| self.plain.get(i))
                .copied();
            self.plain.push(byte.unwrap_or(0));
        }
        self
    }

    fn bytes(&self, length: usize) -> Vec<u8> {
        [varint(length), self.elements.clone()].concat()
    }

    fn check(&self) {
        assert_eq!(
            agreed(&self.bytes(self.plain.len())).as_ref(),
            Some(&self.plain)
        );
        assert_eq!(agreed(&self.bytes(self.plain.len() + 1)), None);
        assert_eq!(agreed(&self.bytes(self.plain.len() - 1)), None);
    }
}

#[test]
fn golden() {
    for (block, plain) in [
        ("00", ""),
        ("05 10 68656c6c6f", "hello"),
        ("05 f0 04 68656c6c6f", "hello"),
        ("05 f4 0400 68656c6c6f", "hello"),
        ("05 f8 040000 68656c6c6f", "hello"),
        ("05 fc 04000000 68656c6c6f", "hello"),
        ("8500 10 68656c6c6f", "hello"),
        ("8580808000 10 68656c6c6f", "hello"),
        ("06 04 6162 01 02", "ababab"),
        ("05 04 6162 0a 0200", "ababa"),
        ("05 04 6162 0b 02000000", "ababa"),
        ("41 00 61 fe 0100", &"a".repeat(65)),
        ("8101 00 61 fe 0100 fe 0100", &"a".repeat(129)),
        ("0f 08 616263 1d 03 00 64", "abcabcabcabcabd"),
    ] {
        assert_eq!(
            agreed(&unhex(block)).as_deref(),
            Some(plain.as_bytes()),
            "{block}"
        );
    }
}

#[test]
fn malformed() {
    for block in [
        "",                                   // no header
        "80",                                 // header cut
        "808080808000",                       // header of more than 5 bytes
        "8080808010",                         // length above u32
        "01",                                 // no elements
        "00 00 61",                           // trailing element
        "05 10 68656c6c6f 00",                // trailing tag
        "05 10 68656c6c6f 00 61",             // trailing literal
        "06 10 68656c6c6f",                   // too little
        "04 10 68656c6c6f",                   // too much
        "05 10 68656c6c",                     // literal cut
        "05 f0",                              // length of a literal cut
        "05 f4 04",                           //
        "05 f8 0400",                         //
        "05 fc 040000",                       //
        "05 fc ffffffff 68656c6c6f",          // literal of 4 GiB
        "06 04 6162 01",                      // copies cut
        "05 04 6162 0a 02",                   //
        "05 04 6162 0b 020000",               //
        "06 04 6162 01 00",                   // offset 0
        "05 04 6162 0a 0000",                 //
        "05 04 6162 0b 00000000",             //
        "06 04 6162 01 03",                   // offset beyond what is decoded
        "05 04 6162 0a 0300",                 //
        "05 04 6162 0b 02000080",             //
        "04 01 01",                           // copy at the start
        "05 04 6162 01 02",                   // copy beyond the end
        "04 04 6162 0a 0200",                 //
        "c001 00 61 fe 0100 fe 0100 fe 0100", //
    ] {
        assert_eq!(agreed(&unhex(block)), None, "{block}");
    }
    assert_eq!(decode(&[], &mut []), Err(Corrupt));
    assert_eq!(decode(&unhex("8080808010"), &mut []), Err(Corrupt));
    assert_eq!(
        decode(&unhex("05 10 68656c6c6f"), &mut [0; 6]),
        Err(Corrupt)
    );
}

/// The same far from the ends, where another part of the decoder sees it.
#[test]
fn malformed_within() {
    let text = noise(300);
    for (element, length) in [
        ("01 00", 4),         // offset 0
        ("fd 00", 11), // the same, with bits in the tag that are part of the offset: well-formed only if 0x700 are decoded
        ("fe 0000", 64), //
        ("02 0000", 1), //
        ("03 00000000", 1), //
        ("02 2d01", 1), // one more than is decoded
        ("fe 2d01", 64), //
        ("06 ffff", 2), //
        ("07 2d010000", 2), //
        ("07 01000100", 2), //
        ("fc ffffffff", 300), // literal
    ] {
        let mut block = Block::default();
        block.literal(&text, None);
        block.elements.extend(unhex(element));
        block.plain.extend(vec![0; length]);
        block.literal(&text, None);
        assert_eq!(agreed(&block.bytes(block.plain.len())), None, "{element}");
    }
    // The furthest that is right.
    for (kind, offset, length) in [(1, 0x700, 11), (2, 300, 64), (3, 300, 1), (3, 0x1_0001, 2)] {
        Block::default()
            .literal(&noise(offset), None)
            .copy(kind, offset, length)
            .literal(&text, None)
            .check();
    }
}

#[test]
fn literals() {
    for length in (1..=300).chain([65_535, 65_536, 65_537, 1 << 18]) {
        let literal = noise(length);
        for extra in (0..=4).filter(|&extra| {
            if extra == 0 {
                length <= 60
            } else {
                length <= 1 << (8 * extra)
            }
        }) {
            Block::default().literal(&literal, Some(extra)).check();
            Block::default()
                .literal(b"a", None)
                .literal(&literal, Some(extra))
                .literal(&noise(200), None)
                .check();
        }
    }
}

#[test]
fn copies() {
    for offset in (1..=80).chain([127, 255, 256, 300, 1024, 2047]) {
        for length in 1..=64 {
            for kind in (1..=3).filter(|&kind| kind != 1 || (4..12).contains(&length)) {
                for before in [offset, offset + 100] {
                    for after in [0, 1, 2, 15, 16, 17, 63, 64, 79, 80, 200] {
                        let mut block = Block::default();
                        block
                            .literal(&noise(before), None)
                            .copy(kind, offset, length);
                        if after > 0 {
                            block.literal(&noise(after), None);
                        }
                        block.check();
                    }
                }
            }
        }
    }
}

#[test]
fn runs() {
    for offset in 1..=70 {
        for count in [1, 2, 3, 10, 1000] {
            for last in [0, 1, 5, 63] {
                let mut block = Block::default();
                block.literal(&noise(offset + 3), None);
                for _ in 0..count {
                    block.copy(2, offset, 64);
                }
                if last > 0 {
                    block.copy(2, offset, last);
                }
                block.check();
                block.literal(&noise(100), None).check();
            }
        }
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "GET ",
        "status=",
        "aaaaaaaaaaaaaaaa",
        "\n",
        "12",
        "x",
        "    ",
        "0123456789abcdef0123456789abcdef",
    ]);
    let token = prop_oneof![4 => word.prop_map(|word| word.as_bytes().to_vec()), 1 => vec(any::<u8>(), 1..100)];
    vec(token, 0..500).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn round_trip(plain in prop_oneof![text(), vec(any::<u8>(), 0..2000), vec(0..4_u8, 0..70_000)]) {
        let block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        prop_assert_eq!(agreed(&block), Some(plain));
    }

    #[test]
    fn any_elements(
        elements in vec((0..8_usize, 0..1000_usize, any::<usize>(), 1..=64_usize), 1..60),
        error in prop_oneof![6 => Just(0), 1 => -1..=1_isize],
    ) {
        let mut block = Block::default();
        for (kind, choice, offset, length) in elements {
            let decoded = block.plain.len().clamp(1, 0x7ff);
            let offset = match choice {
                ..5 => 0,
                5..10 => decoded + 1,
                10..400 => 1 + offset % decoded.min(20),
                400..600 => 1 + offset % decoded.min(100),
                _ => 1 + offset % decoded,
            };
            match kind {
                1 => block.copy(1, offset.min(0x7ff), 4 + length % 8),
                2..=4 => block.copy(2, offset, length),
                5 => block.copy(3, offset, length),
                _ if block.plain.is_empty() || kind == 0 => block.literal(&noise(length), Some(usize::from(length > 60))),
                6 => block.literal(&noise(length * 10), Some(2 + length % 3)),
                _ => block.literal(&noise(1 + length % 20), None),
            };
        }
        agreed(&block.bytes(block.plain.len().saturating_add_signed(error)));
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300), length in 0..600_usize) {
        agreed(&bytes);
        agreed(&[varint(length), bytes].concat());
    }

    #[test]
    fn mutated(plain in text(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), end in any::<prop::sample::Index>()) {
        let mut block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        agreed(&block[..end.index(block.len())]);
        agreed(&[&block[..], &block[end.index(block.len())..]].concat());
        for (at, byte) in changes {
            let at = at.index(block.len());
            block[at] = byte;
            if decoded_len(&block).is_none_or(|length| length <= 1 << 20) {
                agreed(&block);
            }
        }
    }
}
