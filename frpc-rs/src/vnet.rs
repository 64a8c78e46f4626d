//! The virtual network (nathole.md §15): IP packets between the interface of this host and the tunnels of proxies and visitors
//! with the plugin `virtual_net`.
//!
//! # What a peer can make us hold
//!
//! A tunnel has one packet of its own and a queue of [`QUEUE`]; what finds it full is lost, as in any network. The sources
//! that a tunnel makes us remember are limited for each and for all.

mod device;
mod frame;
mod packet;
mod routes;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use frp_proto::net::Io;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use device::Device;
use frame::Frames;
use packet::Ends;
use routes::{Id, Routes};

/// Longest packet; longer ones are cut.
const MTU: usize = 1_420;
/// Packets that wait for one tunnel: some 360 KB, which a burst of one TCP connection fits into.
const QUEUE: usize = 256;
/// Packets that are written to a tunnel at a time.
const BATCH: usize = 32;

/// The interface, and the ways to and from it.
pub(crate) struct Controller {
    device: Device,
    routes: Mutex<Routes>,
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").finish_non_exhaustive()
    }
}

/// What a tunnel is here, which decides what goes into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Of a visitor: packets for this address.
    Visitor(IpAddr),
    /// Of a proxy: packets for whoever has sent one out of it.
    Proxy,
}

impl Role {
    /// As the log names it.
    fn name(self) -> &'static str {
        match self {
            Self::Visitor(_) => "client",
            Self::Proxy => "server",
        }
    }
}

impl Controller {
    /// Opens the interface. The error is the text of the log.
    pub(crate) fn open(address: &str) -> Result<Self, String> {
        let address: IpNet = address
            .parse()
            .map_err(|_| format!("invalid CIDR address: {address}"))?;
        Ok(Self::new(Device::open(address)?))
    }

    fn new(device: Device) -> Self {
        Self {
            device,
            routes: Mutex::default(),
        }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        // A panic elsewhere can only lose a route.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what leaves the interface on its ways, until the interface fails.
    pub(crate) async fn run(&self) {
        tracing::info!("virtual network controller start...");
        let mut packet = [0; MTU];
        loop {
            match self.device.recv(&mut packet).await {
                Ok(len) => self.route(&packet[..len]),
                Err(e) => return tracing::warn!("vnet read from tun error: {e}"),
            }
        }
    }

    /// Queues a packet for the tunnel it belongs to.
    fn route(&self, packet: &[u8]) {
        let Some(Ends { from, to }) = Ends::of(packet) else {
            return tracing::trace!("unknown packet, discarded({})", packet.len());
        };
        let Some(tunnel) = self.routes().find(to) else {
            return tracing::trace!("no route found for packet from {from} to {to}");
        };
        if tunnel.try_send(frame::encode(packet)).is_err() {
            tracing::trace!("packet from {from} to {to} lost, too many wait");
        }
    }

    /// Without an interface.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self::new(Device::for_test().0)
    }

    /// A tunnel to come; packets for it wait from now on.
    pub(crate) fn attach(&self, role: Role) -> Tunnel<'_> {
        let (queue, packets) = mpsc::channel(QUEUE);
        Tunnel {
            port: Port {
                controller: self,
                role,
                id: self.routes().attach(role, queue),
            },
            packets,
        }
    }
}

/// One end of a tunnel; dropping it ends its routes.
pub(crate) struct Tunnel<'a> {
    port: Port<'a>,
    packets: mpsc::Receiver<Bytes>,
}

impl Tunnel<'_> {
    /// Carries packets both ways until the connection ends.
    pub(crate) async fn carry(self, conn: impl Io) -> io::Result<()> {
        let Self { port, packets } = self;
        let (reader, writer) = tokio::io::split(conn);
        tokio::select! {
            ended = port.receive(reader) => ended,
            failed = send(packets, writer) => failed,
        }
    }
}

struct Port<'a> {
    controller: &'a Controller,
    role: Role,
    id: Id,
}

impl Port<'_> {
    async fn receive(&self, reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut frames = Frames::new(reader);
        let mut failing = false;
        while let Some(packet) = frames.next().await? {
            let Some(Ends { from, .. }) = Ends::of(packet) else {
                tracing::trace!("unknown packet, discarded({})", packet.len());
                continue;
            };
            if self.role == Role::Proxy {
                self.controller.routes().learn(from, self.id);
            }
            let sent = self.controller.device.send(packet).await;
            // One line is enough, however many packets meet the same trouble.
            if let (Err(e), false) = (&sent, failing) {
                tracing::warn!("{} write tun error: {e}", self.role.name());
            }
            failing = sent.is_err();
        }
        Ok(())
    }
}

impl Drop for Port<'_> {
    fn drop(&mut self) {
        self.controller.routes().detach(self.id);
    }
}

/// Writes what is queued, as much at a time as there is.
async fn send(
    mut packets: mpsc::Receiver<Bytes>,
    mut writer: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut frames = Vec::with_capacity(BATCH);
    let mut bytes = Vec::new();
    while packets.recv_many(&mut frames, BATCH).await > 0 {
        bytes.clear();
        for frame in frames.drain(..) {
            bytes.extend_from_slice(&frame);
        }
        writer.write_all(&bytes).await?;
        writer.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::packet::tests::packet;
    use super::*;
    use tokio::io::{AsyncReadExt, duplex};

    fn ip(last: u8) -> IpAddr {
        [100, 86, 0, last].into()
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        frame::encode(packet).to_vec()
    }

    #[tokio::test]
    async fn a_proxy_answers_who_has_asked_and_forgets_with_the_tunnel() {
        let (device, mut interface) = Device::for_test();
        let controller = Controller::new(device);
        let (near, mut far) = duplex(64 * 1024);
        let carry = controller.attach(Role::Proxy).carry(near);
        let talk = async {
            // Nobody has asked yet.
            controller.route(&packet(ip(1), ip(2)));
            far.write_all(&framed(b"no packet")).await.unwrap();
            far.write_all(&framed(&packet(ip(2), ip(1)))).await.unwrap();
            assert_eq!(interface.recv().await.unwrap(), packet(ip(2), ip(1)));
            let answer = packet(ip(1), ip(2));
            controller.route(&packet(ip(1), ip(3)));
            controller.route(&answer);
            let mut got = vec![0; answer.len() + 4];
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(got, framed(&answer));
            assert!(controller.routes().find(ip(2)).is_some());
            drop(far);
        };
        let (ended, ()) = tokio::join!(carry, talk);
        ended.unwrap();
        assert!(controller.routes().find(ip(2)).is_none());
    }

    #[tokio::test]
    async fn a_visitor_gets_what_is_for_its_address_from_the_beginning() {
        let (device, mut interface) = Device::for_test();
        let controller = Controller::new(device);
        let tunnel = controller.attach(Role::Visitor(ip(1)));
        // More than may wait; the rest is lost.
        for _ in 0..=QUEUE {
            controller.route(&packet(ip(2), ip(1)));
        }
        let (near, mut far) = duplex(1024 * 1024);
        let talk = async {
            let frame = framed(&packet(ip(2), ip(1)));
            let mut got = vec![0; frame.len() * QUEUE];
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(got, frame.repeat(QUEUE));
            far.write_all(&framed(&packet(ip(1), ip(2)))).await.unwrap();
            assert_eq!(interface.recv().await.unwrap(), packet(ip(1), ip(2)));
            // Its sources are not what it is there for.
            assert!(controller.routes().find(ip(2)).is_none());
            far.write_all(&[0; 4]).await.unwrap();
        };
        let (ended, ()) = tokio::join!(tunnel.carry(near), talk);
        assert_eq!(ended.unwrap_err().to_string(), "message length is 0");
        assert!(controller.routes().find(ip(1)).is_none());
    }

    #[test]
    fn only_networks_are_addresses() {
        for address in ["100.86.0.1", "100.86.0.1/33", "x/24", ""] {
            let error = Controller::open(address).unwrap_err();
            assert_eq!(error, format!("invalid CIDR address: {address}"));
        }
    }
}
