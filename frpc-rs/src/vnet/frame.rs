//! Packets in a byte stream: a length of four bytes, little endian, then the packet.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use super::MTU;

/// What a length may be at most.
const MAX_LEN: usize = 1 << 20;
/// Bytes that are read at a time.
const BUFFER: usize = 16 * 1024;

/// A packet as it travels.
pub(super) fn encode(packet: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + packet.len());
    frame.put_u32_le(packet.len() as u32);
    frame.put_slice(packet);
    frame.freeze()
}

/// Takes packets out of a stream.
pub(super) struct Frames<R> {
    reader: BufReader<R>,
    packet: [u8; MTU],
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER, reader),
            packet: [0; MTU],
        }
    }

    /// The next packet, cut to the MTU; `None` at the end. Not cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.reader.fill_buf().await?.is_empty() {
            return Ok(None);
        }
        let len = self.reader.read_u32_le().await? as usize;
        let refuse = |text| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        match len {
            0 => return refuse("message length is 0".to_owned()),
            1..=MAX_LEN => {}
            _ => return refuse(format!("message too large: {len} > {MAX_LEN}")),
        }
        let kept = len.min(MTU);
        self.reader.read_exact(&mut self.packet[..kept]).await?;
        let mut rest = len - kept;
        while rest > 0 {
            let got = self.reader.fill_buf().await?.len().min(rest);
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.reader.consume(got);
            rest -= got;
        }
        Ok(Some(&self.packet[..kept]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All packets of a stream, and how it ended.
    async fn packets(stream: &[u8]) -> (Vec<Vec<u8>>, Option<String>) {
        let mut frames = Frames::new(stream);
        let mut packets = Vec::new();
        loop {
            match frames.next().await {
                Ok(Some(packet)) => packets.push(packet.to_vec()),
                Ok(None) => return (packets, None),
                Err(e) => return (packets, Some(e.to_string())),
            }
        }
    }

    #[test]
    fn a_packet_follows_its_length() {
        assert_eq!(encode(&[0x45, 0, 1])[..], [3, 0, 0, 0, 0x45, 0, 1]);
    }

    #[tokio::test]
    async fn what_was_framed_comes_back() {
        let packets_in = [vec![1], vec![2; MTU], vec![3; 20]];
        let stream: Vec<u8> = packets_in.iter().flat_map(|p| encode(p)).collect();
        assert_eq!(packets(&stream).await, (packets_in.to_vec(), None));
    }

    #[tokio::test]
    async fn what_is_too_long_is_cut_and_the_next_is_found() {
        let long: Vec<u8> = (0..MAX_LEN).map(|n| n as u8).collect();
        let stream = [&encode(&long)[..], &encode(b"next")].concat();
        let expected = vec![long[..MTU].to_vec(), b"next".to_vec()];
        assert_eq!(packets(&stream).await, (expected, None));
    }

    #[tokio::test]
    async fn lengths_that_cannot_be_end_the_stream() {
        for (stream, error) in [
            (&[0, 0, 0, 0][..], "message length is 0"),
            (&[1, 0, 16, 0], "message too large: 1048577 > 1048576"),
            (&[255; 8], "message too large: 4294967295 > 1048576"),
        ] {
            assert_eq!(packets(stream).await, (vec![], Some(error.into())));
        }
        let long = encode(&[7; 5_000]);
        for cut in [1, 3, 5, 1_500, 4_999] {
            let (packets, error) = packets(&long[..cut]).await;
            assert!(packets.is_empty() && error.is_some(), "cut at {cut}");
        }
    }
}
