//! A STUN server with two addresses, and NATs that only it sees.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use crate::Outcome;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// What the server says.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// The truth.
    NoNat,
    /// At its second address it sees a port that is so much higher.
    PortChanges(u16),
    /// It has no second address.
    OneAddress,
    /// Nothing.
    Silent,
}

/// Starts a server; it runs as long as the case. Gives its address.
pub async fn start(kind: Kind) -> Outcome<SocketAddr> {
    let first = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let second = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    start_at(first, second, kind)
}

/// The same at these sockets.
pub fn start_at(first: UdpSocket, second: UdpSocket, kind: Kind) -> Outcome<SocketAddr> {
    let (address, other) = (first.local_addr()?, second.local_addr()?);
    let (shift, other) = match kind {
        Kind::NoNat => (0, Some(other)),
        Kind::PortChanges(shift) => (shift, Some(other)),
        Kind::OneAddress | Kind::Silent => (0, None),
    };
    if matches!(kind, Kind::Silent) {
        tokio::spawn(async move {
            let _open = first;
            std::future::pending::<()>().await;
        });
    } else {
        tokio::spawn(serve(first, 0, other));
        tokio::spawn(serve(second, shift, None));
    }
    Ok(address)
}

async fn serve(socket: UdpSocket, shift: u16, other: Option<SocketAddr>) {
    let mut buffer = [0; 1_500];
    loop {
        // An error tells of a client who has gone.
        if let Ok((n, from)) = socket.recv_from(&mut buffer).await
            && let Some(answer) = answer(&buffer[..n], from, shift, other)
        {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

fn answer(
    request: &[u8],
    from: SocketAddr,
    shift: u16,
    other: Option<SocketAddr>,
) -> Option<Vec<u8>> {
    let id = request.strip_prefix(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42])?;
    let mut attributes = attribute(0x0020, from, shift, true);
    if let Some(other) = other {
        attributes.extend(attribute(0x802c, other, 0, false));
    }
    let mut answer = vec![1, 1, 0, attributes.len() as u8];
    answer.extend(COOKIE);
    answer.extend(id);
    answer.extend(attributes);
    Some(answer)
}

fn attribute(kind: u16, address: SocketAddr, shift: u16, masked: bool) -> Vec<u8> {
    let mask = if masked { COOKIE } else { [0; 4] };
    let port = (address.port().wrapping_add(shift)).to_be_bytes();
    let SocketAddr::V4(v4) = address else {
        return Vec::new();
    };
    let mut value = kind.to_be_bytes().to_vec();
    value.extend([0, 8, 0, 1]);
    value.extend(port.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    value.extend(
        v4.ip()
            .octets()
            .iter()
            .zip(mask)
            .map(|(byte, mask)| byte ^ mask),
    );
    value
}
