//! Local services behind a tunnel, and their users.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::{LIMIT, within};
use crate::{Failure, Outcome, datagram};

/// Bytes moved at once.
const PIECE: usize = 64 * 1024;
/// How long [`Kind::LateReply`] thinks.
const THINKING: Duration = Duration::from_millis(300);
/// What it says then.
pub const LATE_REPLY: &[u8] = b"late reply";

/// What a service does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sends back what comes.
    Echo,
    /// Reads a length (8 bytes) and as many bytes; answers with their SHA-256.
    Upload,
    /// Reads a length (8 bytes); answers with as many bytes of [`Pattern`] and their SHA-256.
    Download,
    /// Reads to the end, thinks, then answers [`LATE_REPLY`] and the number of bytes read.
    LateReply,
    /// Sends back every datagram.
    Datagrams,
    /// Sends back nothing: the case has a service of its own, on this port.
    At(u16),
}

/// Starts a service on a free port; it runs as long as the case.
pub async fn start(kind: Kind) -> Outcome<SocketAddr> {
    match kind {
        Kind::Datagrams => return datagram::start_echo().await,
        Kind::At(port) => return Ok((Ipv4Addr::LOCALHOST, port).into()),
        _ => {}
    }
    start_at(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, kind)
}

/// The same on this listener.
pub fn start_at(listener: TcpListener, kind: Kind) -> Outcome<SocketAddr> {
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection that breaks is seen at the user's end.
            tokio::spawn(serve(kind, stream));
        }
    });
    Ok(address)
}

async fn serve(kind: Kind, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match kind {
        Kind::Echo => {
            let (mut r, mut w) = stream.split();
            tokio::io::copy(&mut r, &mut w).await?;
        }
        Kind::Upload => {
            let len = stream.read_u64().await?;
            let hash = read_hashed(&mut stream, len).await?;
            stream.write_all(&hash).await?;
        }
        Kind::Download => {
            let len = stream.read_u64().await?;
            let hash = write_hashed(&mut stream, len).await?;
            stream.write_all(&hash).await?;
        }
        Kind::LateReply => {
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await?;
            tokio::time::sleep(THINKING).await;
            stream.write_all(LATE_REPLY).await?;
            stream.write_u64(request.len() as u64).await?;
        }
        Kind::Datagrams | Kind::At(_) => {}
    }
    stream.shutdown().await
}

/// Bytes that do not compress and that both ends know.
#[derive(Debug)]
pub struct Pattern(u64);

impl Pattern {
    /// The bytes that `seed` stands for.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for word in out.chunks_mut(8) {
            // xorshift64
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }
}

async fn read_hashed(stream: &mut TcpStream, mut left: u64) -> std::io::Result<[u8; 32]> {
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    while left > 0 {
        let want = left.min(PIECE as u64) as usize;
        match stream.read(&mut piece[..want]).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                hash.update(&piece[..n]);
                left -= n as u64;
            }
        }
    }
    Ok(hash.finalize().into())
}

async fn write_hashed(stream: &mut TcpStream, mut left: u64) -> std::io::Result<[u8; 32]> {
    let (mut hash, mut piece, mut pattern) = (Sha256::new(), vec![0; PIECE], Pattern::new(left));
    while left > 0 {
        let n = left.min(PIECE as u64) as usize;
        pattern.fill(&mut piece[..n]);
        hash.update(&piece[..n]);
        stream.write_all(&piece[..n]).await?;
        left -= n as u64;
    }
    Ok(hash.finalize().into())
}

/// Sends `len` bytes to an echo service behind `address` and expects them back, in one connection.
#[track_caller]
pub fn echo(address: SocketAddr, len: usize) -> impl Future<Output = Outcome> {
    let deadline = within(
        format!("{len} bytes back from {address}"),
        LIMIT,
        async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            exchange(&mut stream, len).await
        },
    );
    async move { deadline.await? }
}

/// As [`echo`], on an open connection.
pub async fn exchange(stream: &mut TcpStream, len: usize) -> Outcome {
    let mut sent = vec![0; len];
    Pattern::new(len as u64).fill(&mut sent);
    let mut received = vec![0; len];
    let (mut r, mut w) = stream.split();
    let (written, read) = tokio::join!(w.write_all(&sent), r.read_exact(&mut received));
    written?;
    read?;
    if sent == received {
        Ok(())
    } else {
        Err(Failure::new("the echo differs from what was sent"))
    }
}

/// Sends `len` bytes to an [`Kind::Upload`] service and compares hashes.
pub async fn upload(address: SocketAddr, len: u64, limit: Duration) -> Outcome {
    within("the upload", limit, async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_u64(len).await?;
        let sent = write_hashed(&mut stream, len).await?;
        let mut received = [0; 32];
        stream.read_exact(&mut received).await?;
        same(sent, received)
    })
    .await?
}

/// Reads `len` bytes from a [`Kind::Download`] service and compares hashes.
pub async fn download(address: SocketAddr, len: u64, limit: Duration) -> Outcome {
    within("the download", limit, async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_u64(len).await?;
        let received = read_hashed(&mut stream, len).await?;
        let mut sent = [0; 32];
        stream.read_exact(&mut sent).await?;
        same(sent, received)
    })
    .await?
}

fn same(sent: [u8; 32], received: [u8; 32]) -> Outcome {
    if sent == received {
        Ok(())
    } else {
        Err(Failure::new("the hash differs from what was sent"))
    }
}
