//! [`Inbox`]: datagrams that arrive over a byte stream.

use std::io;
use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::msg::Version;
use crate::msg::io::MsgError;
use crate::msg::packet::{self, Decoder, Front, Kind, Packet};

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// A received message.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A datagram.
    Packet(Packet<'a>),
    /// The peer is there.
    Ping,
    /// Nothing of use.
    Other,
}

/// Reads the messages of a byte stream, many with one read.
pub struct Inbox<R> {
    reader: R,
    version: Version,
    limit: Option<Duration>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are done with.
    start: usize,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    /// With a `limit`, a read that takes longer is an error.
    pub fn new(reader: R, version: Version, limit: Option<Duration>) -> Self {
        Self {
            reader,
            version,
            limit,
            buffer: Vec::new(),
            start: 0,
            decoder: Decoder::default(),
        }
    }

    /// The next message. Cancel safe.
    pub async fn next(&mut self) -> Result<Incoming<'_>, MsgError> {
        let (kind, json) = self.whole().await?;
        match kind {
            Kind::Ping => Ok(Incoming::Ping),
            Kind::Other => Ok(Incoming::Other),
            Kind::Packet => {
                let packet = self.decoder.decode(&self.buffer[json])?;
                Ok(packet.map_or(Incoming::Other, Incoming::Packet))
            }
        }
    }

    /// The next message as what it is and its JSON, for who passes it on. Cancel safe.
    pub async fn next_json(&mut self) -> Result<(Kind, &[u8]), MsgError> {
        let (kind, json) = self.whole().await?;
        Ok((kind, &self.buffer[json]))
    }

    /// Where the JSON of the next message is.
    async fn whole(&mut self) -> Result<(Kind, Range<usize>), MsgError> {
        loop {
            let start = self.start;
            match packet::front(self.version, &self.buffer[start..])? {
                Front::Whole(kind, json, taken) => {
                    self.start += taken;
                    return Ok((kind, start + json.start..start + json.end));
                }
                Front::Need(n) => self.read(n).await?,
            }
        }
    }

    /// Reads once, with room for at least `need` bytes in all.
    async fn read(&mut self, need: usize) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.reserve(need.max(READ));
        let read = self.reader.read_buf(&mut self.buffer);
        let n = match self.limit {
            None => read.await?,
            Some(limit) => timeout(limit, read)
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"))??,
        };
        match n {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::{Message, encode};
    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    const REMOTE: &[u8] = br#"{"IP":"1.2.3.4","Port":5,"Zone":""}"#;

    #[tokio::test]
    async fn messages_come_out_whole_however_the_bytes_come_in() {
        for version in [Version::V1, Version::V2] {
            let mut sent = Vec::new();
            packet::encode(version, b"one", REMOTE, &mut sent).unwrap();
            packet::encode_ping(version, &mut sent).unwrap();
            encode(version, &Message::ReqWorkConn, &mut sent).unwrap();
            packet::encode(version, b"", REMOTE, &mut sent).unwrap();
            for piece in [1, 7, sent.len()] {
                let (mut near, far) = tokio::io::duplex(piece);
                let sent = sent.clone();
                tokio::spawn(async move { near.write_all(&sent).await });
                let mut inbox = Inbox::new(far, version, None);
                let datagram = |content| {
                    Incoming::Packet(Packet {
                        content,
                        remote: REMOTE,
                    })
                };
                assert_eq!(inbox.next().await.unwrap(), datagram(b"one"));
                assert_eq!(inbox.next().await.unwrap(), Incoming::Ping);
                assert_eq!(inbox.next().await.unwrap(), Incoming::Other);
                assert_eq!(inbox.next().await.unwrap(), datagram(b""));
                assert_eq!(inbox.next().await.unwrap_err().to_string(), "EOF");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_an_error_where_there_is_a_limit() {
        let (mut near, far) = tokio::io::duplex(100);
        let mut ping = Vec::new();
        packet::encode_ping(Version::V1, &mut ping).unwrap();
        let start = Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(59)).await;
            near.write_all(&ping).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut inbox = Inbox::new(far, Version::V1, Some(Duration::from_mins(1)));
        assert_eq!(inbox.next().await.unwrap(), Incoming::Ping);
        let error = inbox.next().await.unwrap_err();
        assert_eq!(error.to_string(), "i/o timeout");
        assert_eq!(start.elapsed().as_secs(), 119);
    }
}
