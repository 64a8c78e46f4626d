//! Frame headers (wire.md §5.2).

/// Bytes of a header.
pub(super) const HEADER: usize = 12;

/// Frame types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Payload follows.
    Data,
    /// The sender may be sent this much more.
    WindowUpdate,
    /// Keepalive.
    Ping,
    /// The session ends.
    GoAway,
}

/// Flag bits.
pub(super) mod flags {
    /// Opens a stream; asks, with Ping.
    pub(in super::super) const SYN: u16 = 1;
    /// Accepts a stream; answers, with Ping.
    pub(in super::super) const ACK: u16 = 2;
    /// The sender sends no more.
    pub(in super::super) const FIN: u16 = 4;
    /// The stream is over at once.
    pub(in super::super) const RST: u16 = 8;
}

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Type.
    pub kind: Kind,
    /// See [`flags`].
    pub flags: u16,
    /// Stream, 0 for the session.
    pub stream: u32,
    /// Data: bytes that follow; window update: delta; ping: opaque; go away: code.
    pub length: u32,
}

/// A header that no version-0 peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// First byte.
    #[error("Invalid protocol version: {0}")]
    Version(u8),
    /// Second byte.
    #[error("invalid message type: {0}")]
    Kind(u8),
}

impl Header {
    /// The bytes on the wire.
    pub(super) fn encode(self) -> [u8; HEADER] {
        let (f, s, l) = (
            self.flags.to_be_bytes(),
            self.stream.to_be_bytes(),
            self.length.to_be_bytes(),
        );
        [
            0,
            self.kind as u8,
            f[0],
            f[1],
            s[0],
            s[1],
            s[2],
            s[3],
            l[0],
            l[1],
            l[2],
            l[3],
        ]
    }

    /// Reads a header.
    pub(super) fn decode(bytes: [u8; HEADER]) -> Result<Self, FrameError> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        if version != 0 {
            return Err(FrameError::Version(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(FrameError::Kind(other)),
        };
        Ok(Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, unhex};
    use proptest::prelude::*;

    #[test]
    fn captured_headers() {
        for (bytes, kind, flags, stream, length) in [
            (
                "0001000100000001005c0000",
                Kind::WindowUpdate,
                flags::SYN,
                1,
                0x005c_0000,
            ),
            (
                "0001000200000001005c0000",
                Kind::WindowUpdate,
                flags::ACK,
                1,
                0x005c_0000,
            ),
            ("000000000000000100000039", Kind::Data, 0, 1, 0x39),
            (
                "000100040000000300000000",
                Kind::WindowUpdate,
                flags::FIN,
                3,
                0,
            ),
            ("000200020000000000000000", Kind::Ping, flags::ACK, 0, 0),
        ] {
            let header = Header {
                kind,
                flags,
                stream,
                length,
            };
            assert_eq!(Header::decode(unhex(bytes).try_into().unwrap()), Ok(header));
            assert_eq!(hex(&header.encode()), bytes);
        }
        assert_eq!(
            Header::decode(*b"GET / HTTP/1"),
            Err(FrameError::Version(b'G'))
        );
        assert_eq!(
            Header::decode([0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(FrameError::Kind(4))
        );
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same(bytes: [u8; HEADER]) {
            if let Ok(header) = Header::decode(bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
