//! The handshake: rustls's unbuffered state machine over an async transport, up to the keys of the established connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ConnectionTrafficSecrets, Error, ExtractedSecrets};
use tokio::io::{AsyncRead, AsyncWrite};

use super::alert;
use super::record::{self, Protection};
use crate::buffer::{Buffer, CAPACITY};

/// One side's handshake.
pub(super) trait Side {
    type Data: Send + Sync + 'static;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn is_handshaking(&self) -> bool;
    fn wants_write(&self) -> bool;
    fn into_keys(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }
    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
    fn into_keys(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }
    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
    fn into_keys(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

/// The key schedule of an established connection.
pub(super) trait KeySchedule: Send + Sync {
    /// The next keys of what we send.
    fn next_tx(&mut self) -> Option<Protection>;
    /// The next keys of what we receive.
    fn next_rx(&mut self) -> Option<Protection>;
}

impl<D: Send + Sync> KeySchedule for KernelConnection<D> {
    fn next_tx(&mut self) -> Option<Protection> {
        let (seq, secrets) = self.update_tx_secret().ok()?;
        Protection::new(self.protocol_version(), seq, &secrets)
    }
    fn next_rx(&mut self) -> Option<Protection> {
        let (seq, secrets) = self.update_rx_secret().ok()?;
        Protection::new(self.protocol_version(), seq, &secrets)
    }
}

/// What a handshake leaves.
pub(super) struct Established {
    pub(super) tx: Protection,
    pub(super) rx: Protection,
    pub(super) schedule: Box<dyn KeySchedule>,
    /// Application data that came along with the end of the handshake, then records not looked at yet.
    pub(super) incoming: Buffer,
    /// How much of `incoming` is application data.
    pub(super) early: usize,
    /// The peer has said already that it sends no more.
    pub(super) closed: bool,
}

enum Step {
    Again,
    Send,
    Receive,
    Done,
}

/// Runs `side` over `io`. On failure the alert has been sent, where there is one.
pub(super) async fn run<S, C>(io: &mut S, mut side: C) -> io::Result<Established>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Side,
{
    let (mut incoming, mut outgoing) = (Buffer::new(), Buffer::new());
    let mut plain = Buffer::new();
    let mut closed = false;
    loop {
        let UnbufferedStatus { mut discard, state } = side.process(incoming.filled_mut());
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, &mut outgoing)?;
                Step::Again
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Step::Send
            }
            Ok(ConnectionState::BlockedHandshake) => Step::Receive,
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(|e| alert::handshake_error(&e))?;
                    plain.extend(record.payload);
                    discard += record.discard;
                }
                Step::Again
            }
            Ok(ConnectionState::PeerClosed) => {
                closed = true;
                Step::Again
            }
            Ok(_) => Step::Done,
            Err(e) => {
                send_alerts(io, &mut side, &mut outgoing).await;
                return Err(alert::handshake_error(&e));
            }
        };
        incoming.consume(discard);
        match step {
            Step::Again => {}
            Step::Send => send(io, &mut outgoing).await?,
            // A whole record that is still there was read already: it ends with the beginning of a message.
            Step::Done if !side.is_handshaking() && !whole_record(&incoming) => break,
            Step::Receive | Step::Done => receive(io, &mut incoming).await?,
        }
    }
    let (secrets, keys) = side.into_keys().map_err(|e| alert::handshake_error(&e))?;
    let protection = |(seq, secrets): &(u64, ConnectionTrafficSecrets)| {
        Protection::new(keys.protocol_version(), *seq, secrets)
            .ok_or_else(|| alert::sent(alert::INTERNAL_ERROR))
    };
    let (tx, rx) = (protection(&secrets.tx)?, protection(&secrets.rx)?);
    let early = plain.filled().len();
    plain.extend(incoming.filled());
    plain.release();
    Ok(Established {
        tx,
        rx,
        schedule: Box::new(keys),
        incoming: plain,
        early,
        closed,
    })
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Buffer) -> io::Result<()> {
    let mut need = 1;
    loop {
        match data.encode(outgoing.free(need)) {
            Ok(n) => {
                outgoing.produce(n);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(e)) if need < e.required_size => {
                need = e.required_size;
            }
            Err(e) => return Err(io::Error::other(e)),
        }
    }
}

async fn send<S: AsyncWrite + Unpin>(io: &mut S, outgoing: &mut Buffer) -> io::Result<()> {
    poll_fn(|cx| outgoing.poll_drain(io, cx)).await?;
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await
}

async fn receive<S: AsyncRead + Unpin>(io: &mut S, incoming: &mut Buffer) -> io::Result<()> {
    if incoming.filled().len() >= CAPACITY {
        return Err(alert::sent(alert::RECORD_OVERFLOW));
    }
    match poll_fn(|cx| incoming.poll_fill(io, cx, 1)).await? {
        0 if incoming.is_empty() => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF")),
        0 => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "unexpected EOF",
        )),
        _ => Ok(()),
    }
}

fn whole_record(incoming: &Buffer) -> bool {
    let incoming = incoming.filled();
    record::body_len(incoming).is_some_and(|len| incoming.len() >= record::HEADER + len)
}

/// Tells the peer why the handshake failed; whether that arrives does not matter any more.
async fn send_alerts<S: AsyncWrite + Unpin, C: Side>(
    io: &mut S,
    side: &mut C,
    outgoing: &mut Buffer,
) {
    // rustls must not see the bad input a second time: with something to send it does not look at any.
    while side.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(data)) = side.process(&mut []).state else {
            break;
        };
        if encode(data, outgoing).is_err() {
            break;
        }
    }
    if !outgoing.is_empty() && send(io, outgoing).await.is_ok() {
        // The end of our direction, so that closing cannot overtake the alert.
        let _ = poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await;
    }
}
