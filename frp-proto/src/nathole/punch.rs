//! Punching (nathole.md §9): both peers send to where the other may be, until one hears the other.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::{MAX_ADDRESSES, new_id};
use crate::crypto::{CfbDecryptor, CfbEncryptor};
use crate::msg::{Decoded, Message, NatHoleResp, NatHoleSid, PortsRange, Version, decode, encode};

/// Longest datagram that is looked at.
const MAX_DATAGRAM: usize = 1_024;
/// Zeros that vary a datagram's length.
const MAX_NONCE: u32 = 20;
/// Between two datagrams to ports of a range, and to random ports.
const RANGE_PAUSE: Duration = Duration::from_millis(2);
const RANDOM_PAUSE: Duration = Duration::from_millis(15);
/// Tries to find a random port that has not been used.
const PORT_TRIES: usize = 10;
/// How long to listen if nothing is said.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server can make a peer do: more than upstream's tables ask for, and no more than a host bears.
const MAX_DELAY: Duration = Duration::from_mins(1);
const MAX_READ_TIMEOUT: Duration = Duration::from_mins(2);
const MAX_SOCKETS: i64 = 512;
const MAX_RANDOM: i64 = 4_096;
const MAX_RANGES: usize = 16;
/// Ports of all ranges together.
const MAX_RANGE_PORTS: usize = 1_024;
/// So many times the time of listening garbage can prolong it.
const MAX_PROLONGED: u32 = 4;

/// Why there is no hole. The texts are upstream's.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum PunchError {
    #[error("wait detect message timeout")]
    Timeout,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Encrypts a message for one datagram.
pub fn seal(key: &[u8; 16], message: &NatHoleSid) -> io::Result<Vec<u8>> {
    let mut encryptor = CfbEncryptor::new(key)?;
    let mut datagram = encryptor.take_iv().unwrap_or_default().to_vec();
    let start = datagram.len();
    encode(
        Version::V1,
        &Message::NatHoleSid(message.clone()),
        &mut datagram,
    )
    .map_err(io::Error::other)?;
    encryptor.encrypt(&mut datagram[start..]);
    Ok(datagram)
}

/// Decrypts a datagram; `None` if it holds no such message. There is no authentication but that the rest makes sense.
pub fn open(key: &[u8; 16], datagram: &mut [u8]) -> Option<NatHoleSid> {
    let mut decryptor = CfbDecryptor::new(key);
    match decode(Version::V1, decryptor.decrypt_stream(datagram)) {
        Ok(Decoded::Message(Some(Message::NatHoleSid(message)), _)) => Some(message),
        _ => None,
    }
}

/// A way to the peer.
#[derive(Debug)]
pub struct Hole {
    /// Not connected; others may send to it, too.
    pub socket: UdpSocket,
    /// Where the peer is.
    pub peer: SocketAddr,
}

/// Makes a hole from a socket, as the server says. `secret` is the key of the datagrams.
pub async fn punch(
    socket: UdpSocket,
    secret: &[u8; 16],
    resp: &NatHoleResp,
    unix_secs: i64,
) -> Result<Hole, PunchError> {
    let run = Run::new(secret, resp, unix_secs)?;
    let mut sockets = vec![socket];
    let behavior = &resp.detect_behavior;
    sleep(run.delay).await;
    if !run.sender {
        for _ in 0..behavior.listen_random_ports.min(MAX_SOCKETS) {
            sockets.extend(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await);
        }
    }
    run.send(&sockets).await?;
    let (socket, peer) = tokio::select! {
        heard = run.listen(&sockets) => heard?,
        Err(e) = run.spray(&sockets) => return Err(e.into()),
    };
    Ok(Hole {
        socket: sockets.swap_remove(socket),
        peer,
    })
}

/// One attempt of one peer.
struct Run<'a> {
    secret: &'a [u8; 16],
    sid: &'a str,
    transaction_id: String,
    sender: bool,
    ttl: Option<u32>,
    delay: Duration,
    read_timeout: Duration,
    /// Where to send first.
    targets: Vec<SocketAddr>,
    /// Hosts of the peer, for guessed ports.
    hosts: Vec<IpAddr>,
    ranges: &'a [PortsRange],
    random_ports: i64,
}

impl<'a> Run<'a> {
    fn new(secret: &'a [u8; 16], resp: &'a NatHoleResp, unix_secs: i64) -> io::Result<Self> {
        let behavior = &resp.detect_behavior;
        let sender = behavior.role == "sender";
        let candidates = parse(&resp.candidate_addrs);
        let mut targets = Vec::new();
        if sender {
            targets.extend(parse(&resp.assisted_addrs));
        }
        if sender || behavior.candidate_ports.is_empty() {
            targets.extend(&candidates);
        }
        targets.dedup();
        let mut hosts: Vec<_> = candidates.iter().map(SocketAddr::ip).collect();
        hosts.dedup();
        let ranges = &behavior.candidate_ports;
        Ok(Self {
            secret,
            sid: &resp.sid,
            transaction_id: new_id(unix_secs)?,
            sender,
            ttl: u32::try_from(behavior.ttl).ok().filter(|ttl| *ttl > 0),
            delay: if sender {
                millis(behavior.send_delay_ms).min(MAX_DELAY)
            } else {
                Duration::ZERO
            },
            read_timeout: match millis(behavior.read_timeout) {
                Duration::ZERO => READ_TIMEOUT,
                limit => limit.min(MAX_READ_TIMEOUT),
            },
            targets,
            hosts,
            ranges: &ranges[..ranges.len().min(MAX_RANGES)],
            random_ports: behavior.send_random_ports.min(MAX_RANDOM),
        })
    }

    /// Sends to all addresses and ranges that the server has named.
    async fn send(&self, sockets: &[UdpSocket]) -> io::Result<()> {
        for target in &self.targets {
            for socket in sockets {
                self.probe(socket, *target).await?;
            }
        }
        for socket in sockets {
            let mut sent = 0;
            for host in &self.hosts {
                let ports = self.ranges.iter().flat_map(|range| {
                    let port = |n: i64| u16::try_from(n).unwrap_or(u16::MAX);
                    port(range.from.max(1))..=port(range.to.max(0))
                });
                for port in ports.take(MAX_RANGE_PORTS - sent) {
                    self.probe(socket, SocketAddr::new(*host, port)).await?;
                    sleep(RANGE_PAUSE).await;
                    sent += 1;
                }
            }
        }
        Ok(())
    }

    /// Sends to random ports; never ends unless it fails.
    async fn spray(&self, sockets: &[UdpSocket]) -> io::Result<()> {
        let mut spraying: FuturesUnordered<_> =
            sockets.iter().map(|s| self.spray_from(s)).collect();
        while let Some(result) = spraying.next().await {
            result?;
        }
        std::future::pending().await
    }

    async fn spray_from(&self, socket: &UdpSocket) -> io::Result<()> {
        let mut used = HashSet::new();
        for _ in 0..self.random_ports {
            let mut port = None;
            for _ in 0..PORT_TRIES {
                let drawn = 1_024 + (random()? % (65_535 - 1_024)) as u16;
                if used.insert(drawn) {
                    port = Some(drawn);
                    break;
                }
            }
            let Some(port) = port else { continue };
            for host in &self.hosts {
                self.probe(socket, SocketAddr::new(*host, port)).await?;
                sleep(RANDOM_PAUSE).await;
            }
        }
        Ok(())
    }

    /// Sends one message, with the TTL of this attempt. That it cannot be sent is as good as its loss.
    async fn probe(&self, socket: &UdpSocket, target: SocketAddr) -> io::Result<()> {
        let datagram = seal(
            self.secret,
            &NatHoleSid {
                transaction_id: self.transaction_id.clone(),
                sid: self.sid.to_owned(),
                response: false,
                nonce: "0".repeat((random()? % MAX_NONCE) as usize),
            },
        )?;
        let usual = self.ttl.and_then(|ttl| {
            let usual = socket.ttl().ok()?;
            socket.set_ttl(ttl).ok()?;
            Some(usual)
        });
        let _ = socket.send_to(&datagram, target).await;
        if let Some(usual) = usual {
            // It was set before, so it can be set.
            let _ = socket.set_ttl(usual);
        }
        Ok(())
    }

    /// The first socket on which the peer is heard, and where that is.
    async fn listen(&self, sockets: &[UdpSocket]) -> Result<(usize, SocketAddr), PunchError> {
        let mut listening: FuturesUnordered<_> = sockets
            .iter()
            .enumerate()
            .map(|(n, socket)| async move { Some((n, self.hear(socket).await?)) })
            .collect();
        let heard = async {
            while let Some(heard) = listening.next().await {
                if heard.is_some() {
                    return heard;
                }
            }
            None
        };
        let limit = match sockets.len() {
            1 => self.read_timeout * MAX_PROLONGED,
            _ => self.read_timeout,
        };
        timeout(limit, heard)
            .await
            .ok()
            .flatten()
            .ok_or(PunchError::Timeout)
    }

    /// Waits for the peer on one socket; every datagram prolongs that.
    async fn hear(&self, socket: &UdpSocket) -> Option<SocketAddr> {
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            let received = timeout(self.read_timeout, socket.recv_from(&mut buffer));
            // An error tells of a datagram that found nobody.
            let Ok((n, from)) = received.await.ok()? else {
                continue;
            };
            let message = open(self.secret, &mut buffer[..n]).filter(|m| m.sid == self.sid);
            let Some(message) = message else {
                tracing::debug!("ignored a datagram of [{from}] while making a hole");
                continue;
            };
            if message.response {
                return Some(from);
            }
            if !self.sender {
                let answer = NatHoleSid {
                    response: true,
                    ..message
                };
                // If it is lost the peer gives up, and so will the tunnel.
                let _ = socket
                    .send_to(&seal(self.secret, &answer).ok()?, from)
                    .await;
                return Some(from);
            }
        }
    }
}

/// What can be sent to of the addresses that the server has named.
fn parse(addresses: &[String]) -> Vec<SocketAddr> {
    let addresses = addresses.iter().take(MAX_ADDRESSES);
    addresses.filter_map(|a| a.parse().ok()).collect()
}

fn millis(n: i64) -> Duration {
    Duration::from_millis(u64::try_from(n).unwrap_or(0))
}

fn random() -> io::Result<u32> {
    getrandom::u32().map_err(io::Error::other)
}

/// Decrypts `data` with some key. For fuzzing.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let key = [7; 16];
    if let Some(message) = open(&key, &mut data.to_vec()) {
        let mut sealed = seal(&key, &message).expect("a message that was read can be written");
        assert_eq!(open(&key, &mut sealed), Some(message));
    }
    // Random bytes never decrypt to a message, so the rest starts from one that does.
    let mut encryptor = CfbEncryptor::with_iv(&key, [0; 16]);
    let mut datagram = encryptor.take_iv().unwrap_or_default().to_vec();
    datagram.extend_from_slice(data);
    encryptor.encrypt(&mut datagram[16..]);
    open(&key, &mut datagram);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::derive_key;
    use crate::msg::DetectBehavior;
    use crate::testing::{hex, unhex};

    #[test]
    fn vectors_of_the_specification() {
        let key = derive_key(b"sk1");
        assert_eq!(hex(&key), "77953f1b28539e1868c09b9583790567");
        let sid = "179540895412b286075daef7a1";
        let of_sender = "17954089553a3d226a495f7411";
        for (datagram, transaction_id, response, nonce) in [
            (
                "41647ef44c10e4749d7c2af842954e317f9ec819612309dc1cfa875460e50a879870cf1c7edea2a0493c9f726626020713a5ef33a1afa58993e83e47d350e5b231696c6e344b712750b4d9b64eded20ca19fed3b1ad426b66b39064bda030cc217e85161c0f4f19d397d27",
                "1795408954d8756dd8c4c8f8fa",
                false,
                "",
            ),
            (
                "83c83bdede941d2f7aeac99cb2b58f21ff9010e880a882c144005e871df28350dd71dc44859fdb69c567fd54a9cd70b59e495eb284ae8473564736501adbf85e99e28e3f5db077e7b7c0f460d03fddc93b205f6271f45538df01e4c0dc9f69e82a16e16115c14f8def76c1c5e5097166d516eb398efd2a0a29e4637a",
                of_sender,
                false,
                "000000",
            ),
            (
                "ed79dcd86f87114ddc0f74ea940dd3962bf2886414d5a577339fb5b12fa065175bcf0d8b5f12b09571c044256bde0efe912517fc1a48cfc2dd6b4bb36d46a5e9b7c317edce1d9262bd1523162b8b9706d4090f0db30a06f4717e6f9d81afbdc2ee16eb0f3940ccd51f16aa0c30633dc98397d813a6a58831e23dcf5f01fdc149fc5195e4ba643cb4e88985ac",
                of_sender,
                true,
                "000000",
            ),
        ] {
            let message = NatHoleSid {
                transaction_id: transaction_id.into(),
                sid: sid.into(),
                response,
                nonce: nonce.into(),
            };
            let mut bytes = unhex(datagram);
            let length = bytes.len();
            assert_eq!(open(&key, &mut bytes), Some(message.clone()));
            let mut sealed = seal(&key, &message).unwrap();
            assert_eq!(sealed.len(), length);
            assert_eq!(open(&key, &mut sealed), Some(message));
            assert_eq!(open(&derive_key(b"sk2"), &mut unhex(datagram)), None);
        }
    }

    fn resp(role: &str, peer: &UdpSocket) -> NatHoleResp {
        NatHoleResp {
            sid: "1".into(),
            candidate_addrs: vec![peer.local_addr().unwrap().to_string()],
            detect_behavior: DetectBehavior {
                role: role.into(),
                ..DetectBehavior::default()
            },
            ..NatHoleResp::default()
        }
    }

    async fn socket() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }

    const KEY: [u8; 16] = [1; 16];

    #[tokio::test]
    async fn peers_find_each_other_in_spite_of_garbage() {
        for (ttl, listen, range) in [(0, 0, false), (7, 0, false), (0, 8, true)] {
            let (a, b) = (socket().await, socket().await);
            let addresses = [a.local_addr().unwrap(), b.local_addr().unwrap()];
            let (mut sender, mut receiver) = (resp("sender", &b), resp("receiver", &a));
            receiver.detect_behavior.ttl = ttl;
            receiver.detect_behavior.listen_random_ports = listen;
            if range {
                let port = i64::from(addresses[1].port());
                let range = PortsRange {
                    from: port - 1,
                    to: port + 1,
                };
                sender.detect_behavior.candidate_ports = vec![range];
                sender.candidate_addrs[0] = "127.0.0.1:1".into();
            }
            let stranger = socket().await;
            let wrong = NatHoleSid {
                sid: "2".into(),
                response: true,
                ..NatHoleSid::default()
            };
            for garbage in [seal(&KEY, &wrong).unwrap(), vec![0; 100], Vec::new()] {
                stranger.send_to(&garbage, addresses[0]).await.unwrap();
                stranger.send_to(&garbage, addresses[1]).await.unwrap();
            }
            let (a, b) = tokio::join!(punch(a, &KEY, &sender, 0), punch(b, &KEY, &receiver, 0));
            let (a, b) = (a.unwrap(), b.unwrap());
            assert_eq!(a.peer.port(), b.socket.local_addr().unwrap().port());
            assert_eq!(b.peer.port(), a.socket.local_addr().unwrap().port());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_garbage_end() {
        let (a, b) = (socket().await, socket().await);
        let start = tokio::time::Instant::now();
        let mut behavior = resp("sender", &b);
        behavior.detect_behavior.send_delay_ms = 3_000;
        behavior.detect_behavior.read_timeout = 7_000;
        let address = a.local_addr().unwrap();
        let error = punch(a, &KEY, &behavior, 0).await.unwrap_err();
        assert_eq!(error.to_string(), "wait detect message timeout");
        assert_eq!(start.elapsed().as_secs(), 10);
        let a = UdpSocket::bind(address).await.unwrap();
        behavior.detect_behavior.send_delay_ms = 0;
        let start = tokio::time::Instant::now();
        let flood = async {
            loop {
                b.send_to(b"garbage", address).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            result = punch(a, &KEY, &behavior, 0) => assert!(result.is_err()),
            () = flood => {}
        }
        assert_eq!(start.elapsed().as_secs(), 28);
    }

    #[tokio::test]
    async fn a_server_cannot_ask_for_too_much() {
        let peer = socket().await;
        let mut resp = resp("sender", &peer);
        let behavior = &mut resp.detect_behavior;
        behavior.send_delay_ms = i64::MAX;
        behavior.read_timeout = i64::MAX;
        behavior.send_random_ports = i64::MAX;
        behavior.ttl = i64::MAX;
        let everything = PortsRange {
            from: i64::MIN,
            to: i64::MAX,
        };
        behavior.candidate_ports = vec![everything; 100];
        resp.candidate_addrs = vec!["x".into(), "127.0.0.1:1".into()];
        let run = Run::new(&KEY, &resp, 0).unwrap();
        assert_eq!((run.delay, run.read_timeout), (MAX_DELAY, MAX_READ_TIMEOUT));
        assert_eq!((run.random_ports, run.ttl), (MAX_RANDOM, None));
        assert_eq!((run.targets.len(), run.ranges.len()), (1, MAX_RANGES));
    }
}
