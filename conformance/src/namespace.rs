//! [`Host`]: a network namespace, as a host of its own.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::process::locate;
use crate::{Failure, Outcome};

/// Where the system keeps the names of namespaces.
const NAMES: &str = "/run/netns";
/// For one attempt to connect.
const DIAL_LIMIT: Duration = Duration::from_secs(2);

/// Why there can be no hosts with TUN devices here, if so.
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    if let Err(e) = tun {
        return Some(format!("/dev/net/tun: {e}"));
    }
    let host = Host::new().err()?;
    Some(format!("no network namespaces: {host}"))
}

/// A host that nobody reaches until it is connected. Its interfaces go with it.
#[derive(Debug)]
pub struct Host {
    name: String,
}

impl Host {
    /// With a loopback interface only.
    pub fn new() -> Outcome<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("conformance-{}-{number}", std::process::id());
        ip(&["netns", "add", &name])?;
        let host = Self { name };
        host.ip(&["link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// Puts a cable between two hosts, and gives each its address (CIDR).
    pub fn connect(&self, address: &str, other: &Self, other_address: &str) -> Outcome {
        ip(&[
            "link",
            "add",
            "cable",
            "netns",
            &self.name,
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            &other.name,
        ])?;
        for (host, address) in [(self, address), (other, other_address)] {
            host.ip(&["address", "add", address, "dev", "cable"])?;
            host.ip(&["link", "set", "cable", "up"])?;
        }
        Ok(())
    }

    /// What runs a program on this host.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(locate("ip"));
        command
            .args(["netns", "exec", self.name.as_str()])
            .arg(program);
        command
    }

    /// Makes something on this host: a socket that is opened by `open` stays here wherever it is used.
    pub fn within<T: Send>(&self, open: impl FnOnce() -> io::Result<T> + Send) -> Outcome<T> {
        let namespace = File::open(Path::new(NAMES).join(&self.name))?;
        // A thread of its own, since a thread is where its namespace is.
        let opened = std::thread::scope(|scope| {
            let open = || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind)?;
                open()
            };
            scope.spawn(open).join()
        });
        let opened = opened.map_err(|_| Failure::new("a thread panicked"))?;
        Ok(opened?)
    }

    /// A socket for datagrams on this host.
    pub fn bind_udp(&self, address: SocketAddr) -> Outcome<UdpSocket> {
        let socket = self.within(|| {
            let socket = net::UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        Ok(UdpSocket::from_std(socket)?)
    }

    /// A listener on this host.
    pub fn bind_tcp(&self, address: SocketAddr) -> Outcome<TcpListener> {
        let listener = self.within(|| {
            let listener = net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        Ok(TcpListener::from_std(listener)?)
    }

    /// A connection from this host; the case stands still until it is there.
    pub fn dial(&self, address: SocketAddr) -> Outcome<TcpStream> {
        let stream = self.within(|| {
            let stream = net::TcpStream::connect_timeout(&address, DIAL_LIMIT)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })?;
        Ok(TcpStream::from_std(stream)?)
    }

    /// Has `ip` do something on this host.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Outcome {
        ip(&[&["-n", self.name.as_str()], arguments].concat())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // What is left over is seen by nobody.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Outcome {
    let output = Command::new(locate("ip"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "ip {}: {}",
        arguments.join(" "),
        error.trim()
    )))
}
