//! The interface of this host: a TUN device on Linux, and nothing elsewhere.

use std::io;

use ipnet::IpNet;

/// An interface through which the system sends IP packets here. It is gone when this is dropped.
pub(super) enum Device {
    #[cfg(target_os = "linux")]
    Tun(tun_rs::AsyncDevice),
    #[cfg(test)]
    Test(tokio::sync::mpsc::Sender<Vec<u8>>),
}

impl Device {
    /// Makes an interface with this address, and with a route to its network. The error is the text of the log.
    #[cfg(target_os = "linux")]
    pub(super) fn open(address: IpNet) -> Result<Self, String> {
        let name = linux::name();
        let device = linux::open(&name, address);
        device
            .map(Self::Tun)
            .map_err(|e| format!("failed to create TUN device '{name}': {e}"))
    }

    /// There is none on this system.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn open(_: IpNet) -> Result<Self, String> {
        let (os, arch) = (crate::host::os(), crate::host::arch());
        Err(format!(
            "virtual net is not supported on this platform ({os}/{arch})"
        ))
    }

    /// The next packet that the system sends; its length. Cancel safe.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(
            unused_variables,
            clippy::unused_async,
            reason = "there is no interface"
        )
    )]
    pub(super) async fn recv(&self, packet: &mut [u8]) -> io::Result<usize> {
        match *self {
            #[cfg(target_os = "linux")]
            Self::Tun(ref device) => device.recv(packet).await,
            #[cfg(test)]
            Self::Test(_) => std::future::pending().await,
        }
    }

    /// Gives the system a packet.
    #[cfg_attr(
        not(any(target_os = "linux", test)),
        allow(
            unused_variables,
            clippy::unused_async,
            reason = "there is no interface"
        )
    )]
    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        match *self {
            #[cfg(target_os = "linux")]
            Self::Tun(ref device) => device.send(packet).await.map(drop),
            #[cfg(test)]
            Self::Test(ref sent) => sent.send(packet.to_vec()).await.map_err(io::Error::other),
        }
    }

    /// No interface; what it is given comes out again here.
    #[cfg(test)]
    pub(super) fn for_test() -> (Self, tokio::sync::mpsc::Receiver<Vec<u8>>) {
        let (sent, received) = tokio::sync::mpsc::channel(16);
        (Self::Test(sent), received)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use ipnet::IpNet;
    use tun_rs::{AsyncDevice, DeviceBuilder};

    use super::super::MTU;

    /// What the names of such interfaces begin with.
    const PREFIX: &str = "utun";

    /// The first name after all that are in use.
    pub(super) fn name() -> String {
        // Without the list of interfaces the system says whether the name is free.
        let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
        format!("{PREFIX}{}", next_number(&interfaces))
    }

    fn next_number(interfaces: &str) -> u32 {
        let names = interfaces.lines().filter_map(|line| line.split_once(':'));
        let numbers = names.filter_map(|(name, _)| name.trim().strip_prefix(PREFIX)?.parse().ok());
        numbers.max().map_or(0, |n: u32| n.saturating_add(1))
    }

    pub(super) fn open(name: &str, address: IpNet) -> io::Result<AsyncDevice> {
        let builder = DeviceBuilder::new().name(name).mtu(MTU as u16);
        let builder = match address {
            IpNet::V4(net) => builder.ipv4(net.addr(), net.prefix_len(), None),
            IpNet::V6(net) => builder.ipv6(net.addr(), net.prefix_len()),
        };
        builder.build_async()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn names_count_on() {
            let table = |names: &[&str]| {
                let lines = names.iter().map(|name| format!("{name:>6}: 0 0\n"));
                let head = "Inter-|   Receive\n face |bytes\n".to_owned();
                std::iter::once(head).chain(lines).collect::<String>()
            };
            assert_eq!(next_number(""), 0);
            assert_eq!(next_number(&table(&["lo", "eth0", "utunx"])), 0);
            assert_eq!(next_number(&table(&["utun0", "utun7", "utun3"])), 8);
        }
    }
}
