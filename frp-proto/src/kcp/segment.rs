//! Segments: a header of 24 bytes and data, several of them in one packet.

/// Bytes of a header.
pub(super) const HEADER: usize = 24;

pub(super) const PUSH: u8 = 0x51;
pub(super) const ACK: u8 = 0x52;
/// Asks for the window.
pub(super) const ASK: u8 = 0x53;
/// Tells the window.
pub(super) const TELL: u8 = 0x54;

/// A header. All integers are little endian on the wire; a fragment number, always 0 in a stream, is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) conv: u32,
    pub(super) cmd: u8,
    /// Free slots of the sender's receive queue.
    pub(super) wnd: u16,
    pub(super) ts: u32,
    pub(super) sn: u32,
    /// Everything before it was received.
    pub(super) una: u32,
    pub(super) len: u32,
}

impl Header {
    /// The header at the beginning of `bytes`, if all of it is there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.first_chunk()?;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Some(Self {
            conv: word(0),
            cmd: bytes[4],
            wnd: u16::from_le_bytes([bytes[6], bytes[7]]),
            ts: word(8),
            sn: word(12),
            una: word(16),
            len: word(20),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.conv.to_le_bytes());
        out.extend([self.cmd, 0]);
        out.extend(self.wnd.to_le_bytes());
        for word in [self.ts, self.sn, self.una, self.len] {
            out.extend(word.to_le_bytes());
        }
    }
}

/// `a` comes before `b`.
pub(super) fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}
