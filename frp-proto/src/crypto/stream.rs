//! [`CfbStream`]: the cipher as a layer over a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{CfbDecryptor, CfbEncryptor};
use crate::chunk::{ChunkBuffer, SIZE};
use crate::net::Conn;

/// AES-128-CFB in both directions over a connection. Holds no buffer while nothing is on its way.
pub(crate) struct CfbStream {
    inner: Conn,
    encryptor: Result<Box<CfbEncryptor>, io::ErrorKind>,
    decryptor: Box<CfbDecryptor>,
    /// Ciphertext that `inner` has not taken yet.
    out: Bytes,
}

impl CfbStream {
    /// With a fresh IV for our direction; without random bytes every write fails.
    pub(crate) fn new(inner: Conn, key: &[u8; 16]) -> Self {
        Self {
            inner,
            encryptor: CfbEncryptor::new(key).map(Box::new).map_err(|e| e.kind()),
            decryptor: Box::new(CfbDecryptor::new(key)),
            out: Bytes::new(),
        }
    }
}

impl AsyncRead for CfbStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let received = &mut buf.filled_mut()[start..];
            if received.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let (total, plain) = (
                received.len(),
                this.decryptor.decrypt_stream(received).len(),
            );
            // The IV, at the front of what was received, is not for the reader.
            buf.filled_mut().copy_within(start + total - plain.., start);
            buf.set_filled(start + plain);
            if plain > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for CfbStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.inner.poll_write_whole(cx, &mut this.out))?;
        let encryptor = this
            .encryptor
            .as_mut()
            .map_err(|kind| io::Error::from(*kind))?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let iv = encryptor.take_iv();
        let iv = iv.as_ref().map_or(&[][..], |iv| iv);
        let piece = &buf[..buf.len().min(SIZE - iv.len())];
        let filled = iv.len() + piece.len();
        let mut out = ChunkBuffer::with_room(filled);
        let (head, body) = out.as_mut()[..filled].split_at_mut(iv.len());
        head.copy_from_slice(iv);
        body.copy_from_slice(piece);
        encryptor.encrypt(body);
        this.out = out.into_chunk(filled);
        // Taken, whether or not it leaves at once: a flush or the next write brings out the rest.
        if let Poll::Ready(Err(e)) = this.inner.poll_write_whole(cx, &mut this.out) {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.inner.poll_write_whole(cx, &mut this.out))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.inner.poll_write_whole(cx, &mut this.out))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::BLOCK;
    use crate::testing::{Trickle, hex};
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const KEY: [u8; 16] = *b"0123456789abcdef";

    /// What the stream sends for these writes.
    async fn sent(writes: &[&[u8]]) -> Vec<u8> {
        let (near, mut far) = duplex(1 << 20);
        let mut stream = CfbStream::new(Conn::Other(Box::new(near)), &KEY);
        for write in writes {
            stream.write_all(write).await.unwrap();
        }
        drop(stream);
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn the_iv_goes_before_the_first_byte() {
        assert!(sent(&[]).await.is_empty());
        assert!(sent(&[b""]).await.is_empty());
        let bytes = sent(&[b"hello", b"world"]).await;
        assert_eq!(bytes.len(), BLOCK + 10);
        assert_ne!(hex(&bytes[..BLOCK]), hex(&sent(&[b"hello"]).await[..BLOCK]));
    }

    #[tokio::test]
    async fn plain_bytes_come_back_in_any_pieces() {
        let data: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        for (write, read) in [(1_000, 1), (7, 33), (200_000, 15), (200_000, 200_000)] {
            let writes: Vec<&[u8]> = data.chunks(write).collect();
            let bytes = sent(&writes).await;
            assert_eq!(bytes.len(), BLOCK + data.len());
            let mut plain = Vec::new();
            let mut stream = CfbStream::new(Trickle::conn(&bytes, read), &KEY);
            stream.read_to_end(&mut plain).await.unwrap();
            assert!(plain == data, "written by {write}, read by {read}");
        }
    }

    #[tokio::test]
    async fn an_end_within_the_iv_is_an_end() {
        let bytes = sent(&[b"hello"]).await;
        for n in 0..=BLOCK {
            let mut plain = Vec::new();
            let mut stream = CfbStream::new(Trickle::conn(&bytes[..n], n), &KEY);
            assert_eq!(stream.read_to_end(&mut plain).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn what_the_transport_does_not_take_leaves_later() {
        let (near, far) = duplex(10);
        let [mut near, mut far] =
            [near, far].map(|end| CfbStream::new(Conn::Other(Box::new(end)), &KEY));
        near.write_all(b"hello").await.unwrap();
        assert!(near.flush().now_or_never().is_none());
        let mut buf = [0; 5];
        let (flushed, read) = tokio::join!(near.shutdown(), far.read_exact(&mut buf));
        flushed.unwrap();
        read.unwrap();
        assert_eq!(&buf, b"hello");
        assert!(near.out.is_empty());
        assert_eq!(far.read(&mut buf).await.unwrap(), 0);
        // The other direction is open.
        far.write_all(b"bye").await.unwrap();
        let (flushed, read) = tokio::join!(far.flush(), near.read_exact(&mut buf[..3]));
        flushed.unwrap();
        read.unwrap();
        assert_eq!(&buf[..3], b"bye");
    }
}
