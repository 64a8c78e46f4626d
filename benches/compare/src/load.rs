//! The loads, and what they have in common.
//!
//! The generator shares the machine's cores with the programs it measures, so it is built to cost little: data is
//! sent from one shared block that fits the cache and, where the system can, received without being copied out of the
//! kernel. Its own CPU time is measured and reported beside the pair's.

mod datagrams;
pub(crate) mod http;
mod idle;
mod newconn;
pub(crate) mod payload;
mod pingpong;
mod sink;
mod stream;

use crate::case::Load;
use crate::error::Error;
use crate::meter::Spent;
use payload::Payload;
pub(crate) use sink::{Addresses, Sink};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where a load goes, and whose CPU time and memory count.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The user's end of the tunnel.
    pub(crate) address: SocketAddr,
    /// The pair's processes.
    pub(crate) pids: Vec<u32>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Bytes, connections or requests done.
    pub(crate) work: f64,
    /// Time and CPU time it took.
    pub(crate) spent: Spent,
    /// One value for each of [`Load::metrics`].
    pub(crate) values: Vec<f64>,
}

/// Runs `load` once. With `verify` what arrives is compared with what was sent, which costs CPU time.
///
/// Any connection that fails makes the whole measurement fail: a pair must not win by dropping work. Only datagrams may be
/// lost, and how many is one of the figures.
pub(crate) async fn run(
    load: Load,
    target: &Target,
    payload: &Arc<Payload>,
    sink: &Sink,
    verify: bool,
) -> Result<Sample, Error> {
    match load {
        Load::Stream {
            streams,
            direction,
            bytes,
        } => stream::run(target, payload, streams, direction, bytes, verify).await,
        Load::NewConn { connections } => newconn::run(target, connections).await,
        Load::PingPong { requests } => pingpong::run(target, requests).await,
        Load::Http { requests } => http::run(target, requests).await,
        Load::HttpLarge { bytes } => http::large(target, payload, bytes, verify).await,
        Load::Datagrams { rate, packets } => {
            datagrams::run(target, payload, sink, rate, packets).await
        }
        Load::Idle { connections } => idle::run(target, connections).await,
        Load::Start => idle::start(target).await,
    }
}

/// Opens a connection to another socket.
///
/// While nobody listens on a port of the ephemeral range, a connection to it may get that very port as its source and
/// so be connected to itself (RFC 9293, simultaneous open). That counts as refused.
pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let connection = TcpStream::connect(address).await?;
    if connection.local_addr()? == address {
        return Err(std::io::ErrorKind::ConnectionRefused.into());
    }
    Ok(connection)
}

/// Opens a connection and echoes one byte: afterwards the whole way to the service is known to stand.
pub(crate) async fn connect_and_echo(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut connection = connect(address).await?;
    connection.write_all(&[sink::OP_ECHO]).await?;
    let echo = connection.read_u8().await?;
    if echo == sink::OP_ECHO {
        Ok(connection)
    } else {
        Err(std::io::Error::other(format!(
            "sent {}, got {echo} back",
            sink::OP_ECHO
        )))
    }
}
