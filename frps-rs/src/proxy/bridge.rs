//! Between a visitor and a client of `sudp` whose wire versions differ (server.md §5.6): messages change their framing.

use frp_proto::msg::Version;
use frp_proto::msg::io::MsgError;
use frp_proto::msg::packet::{self, Kind};
use frp_proto::net::{Conn, Io};
use frp_proto::udp::Inbox;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Bytes on their way between the bridge and what reads its other end, each way.
const BUFFER: usize = 64 * 1024;

/// The visitor's connection as one that speaks the client's version, and what carries it over until either ends.
pub(super) fn bridge(
    visitor: Conn,
    visitor_version: Version,
    client_version: Version,
) -> (Conn, impl Future<Output = ()>) {
    let (near, far) = tokio::io::duplex(BUFFER);
    let carry = carry(visitor, visitor_version, far, client_version);
    (Conn::Other(Box::new(near)), carry)
}

async fn carry(
    visitor: impl Io,
    visitor_version: Version,
    client: impl Io,
    client_version: Version,
) {
    let (from_visitor, to_visitor) = tokio::io::split(visitor);
    let (from_client, to_client) = tokio::io::split(client);
    let from_visitor = Inbox::new(from_visitor, visitor_version, None);
    let from_client = Inbox::new(from_client, client_version, None);
    // The end of one direction is the end of both, and of the connections with them.
    tokio::select! {
        _ = copy(from_visitor, to_client, client_version, false) => {}
        _ = copy(from_client, to_visitor, visitor_version, true) => {}
    }
}

/// Passes datagrams on, and Pings if the other side waits for them, until the peer ends or sends anything else.
async fn copy(
    mut from: Inbox<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    version: Version,
    pings: bool,
) -> Result<(), MsgError> {
    let mut message = Vec::new();
    loop {
        let (kind, json) = from.next_json().await?;
        if kind == Kind::Ping && !pings {
            continue;
        }
        message.clear();
        packet::encode_json(version, kind, json, &mut message)?;
        to.write_all(&message).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frp_proto::msg::{Message, encode};
    use tokio::io::AsyncReadExt;

    const REMOTE: &[u8] = br#"{"IP":"1.2.3.4","Port":5,"Zone":""}"#;

    fn datagram(version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        packet::encode(version, b"hi", REMOTE, &mut out).unwrap();
        out
    }

    fn ping(version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        packet::encode_ping(version, &mut out).unwrap();
        out
    }

    #[tokio::test]
    async fn datagrams_go_both_ways_and_pings_to_the_visitor() {
        for (of_visitor, of_client) in [(Version::V1, Version::V2), (Version::V2, Version::V1)] {
            let (mut visitor, near) = tokio::io::duplex(1_000);
            let (mut client, carry) = bridge(Conn::Other(Box::new(near)), of_visitor, of_client);
            tokio::spawn(carry);
            let sent = [ping(of_visitor), datagram(of_visitor)].concat();
            visitor.write_all(&sent).await.unwrap();
            let mut got = vec![0; datagram(of_client).len()];
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(got, datagram(of_client));
            let sent = [ping(of_client), datagram(of_client)].concat();
            client.write_all(&sent).await.unwrap();
            let expected = [ping(of_visitor), datagram(of_visitor)].concat();
            let mut got = vec![0; expected.len()];
            visitor.read_exact(&mut got).await.unwrap();
            assert_eq!(got, expected);
            // The end comes through.
            drop(client);
            assert_eq!(visitor.read(&mut got).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn anything_else_ends_both() {
        let (mut visitor, near) = tokio::io::duplex(1_000);
        let (mut client, carry) = bridge(Conn::Other(Box::new(near)), Version::V1, Version::V2);
        tokio::spawn(carry);
        let mut other = Vec::new();
        encode(Version::V1, &Message::ReqWorkConn, &mut other).unwrap();
        visitor.write_all(&other).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(visitor.read(&mut [0]).await.unwrap(), 0);
    }
}
