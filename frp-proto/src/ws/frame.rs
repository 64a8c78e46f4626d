//! Frames (RFC 6455 §5): headers and masks.

/// Longest header: two bytes, a 64-bit length, a mask.
pub(super) const MAX_HEADER: usize = 14;
/// Longest payload of a control frame.
pub(super) const MAX_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Binary, text, continuation, and what nobody has defined.
    Data,
    Close,
    Ping,
    Pong,
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of payload.
    pub(super) len: u64,
    pub(super) mask: Option<[u8; 4]>,
}

impl Header {
    /// The header at the beginning of `bytes`, and its own length; `None` if more bytes are needed.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (len, rest) = match second & !MASKED {
            126 => {
                let (len, rest) = rest.split_first_chunk()?;
                (u16::from_be_bytes(*len).into(), rest)
            }
            127 => {
                let (len, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*len), rest)
            }
            short => (short.into(), rest),
        };
        let (mask, rest) = if second & MASKED == 0 {
            (None, rest)
        } else {
            let (mask, rest) = rest.split_first_chunk()?;
            (Some(*mask), rest)
        };
        let kind = match first & 0x0f {
            CLOSE => Kind::Close,
            PING => Kind::Ping,
            PONG => Kind::Pong,
            _ => Kind::Data,
        };
        Some((Self { kind, len, mask }, bytes.len() - rest.len()))
    }

    /// Writes the header to the front of `out`, which has room for [`MAX_HEADER`] bytes; returns its length.
    pub(super) fn write(&self, out: &mut [u8]) -> usize {
        out[0] = FIN
            | match self.kind {
                Kind::Data => BINARY,
                Kind::Close => CLOSE,
                Kind::Ping => PING,
                Kind::Pong => PONG,
            };
        let mut n = match self.len {
            0..126 => {
                out[1] = self.len as u8;
                2
            }
            126..0x1_0000 => {
                out[1] = 126;
                out[2..4].copy_from_slice(&(self.len as u16).to_be_bytes());
                4
            }
            _ => {
                out[1] = 127;
                out[2..10].copy_from_slice(&self.len.to_be_bytes());
                10
            }
        };
        if let Some(mask) = self.mask {
            out[1] |= MASKED;
            out[n..n + 4].copy_from_slice(&mask);
            n += 4;
        }
        n
    }
}

/// Puts a mask on or takes it off; `bytes` begin at `offset` of the payload.
pub(super) fn apply_mask(mask: [u8; 4], offset: u64, bytes: &mut [u8]) {
    let turned: [u8; 8] = std::array::from_fn(|i| mask[(offset as usize + i) % 4]);
    let word = u64::from_ne_bytes(turned);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(turned) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_length_survive() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, u64::MAX] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let header = Header {
                    kind: Kind::Data,
                    len,
                    mask,
                };
                let mut bytes = [0; MAX_HEADER];
                let n = header.write(&mut bytes);
                assert_eq!(Header::parse(&bytes[..n]), Some((header, n)));
                for cut in 0..n {
                    assert_eq!(Header::parse(&bytes[..cut]), None);
                }
            }
        }
    }

    #[test]
    fn a_mask_in_pieces_is_the_same_mask() {
        let mask = [0x99, 0xf2, 0xa0, 0xbe];
        let plain: Vec<u8> = (0..100).collect();
        let mut whole = plain.clone();
        apply_mask(mask, 0, &mut whole);
        for cut in 0..100 {
            let mut pieces = plain.clone();
            apply_mask(mask, 0, &mut pieces[..cut]);
            apply_mask(mask, cut as u64, &mut pieces[cut..]);
            assert_eq!(pieces, whole);
        }
    }
}
