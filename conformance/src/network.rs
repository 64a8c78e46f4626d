//! [`Network`]: hosts with NATs between them and the internet, all of it on this machine.
//!
//! Each host is a namespace whose only way out is a TUN device; a thread of this process carries packets from one device to the
//! other, as [`router::Router`] and [`nat::Nat`] say.

pub mod nat;
pub mod packet;
pub mod path;
pub mod router;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tun_rs::{AsyncDevice, DeviceBuilder, SyncDevice};

use crate::Outcome;
use crate::namespace::Host;
use path::{Line, Path};
use router::{Router, Site, Traffic};

/// Name of a host's way out.
const DEVICE: &str = "uplink";
/// Its longest packet.
const MTU: u16 = 1_500;

/// Hosts that reach each other through a router. All ends when this is dropped.
#[derive(Debug)]
pub struct Network {
    router: Arc<Mutex<Router>>,
    hosts: Vec<Host>,
    /// Dropping it stops the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// A host for each site, known by its place here; the sites name NATs by theirs.
    pub fn new(sites: Vec<Site>, nats: Vec<nat::Nat>) -> Outcome<Self> {
        Self::over(sites, nats, None)
    }

    /// The same with such a way from each site to all others; without one packets arrive at once.
    pub fn over(sites: Vec<Site>, nats: Vec<nat::Nat>, path: Option<Path>) -> Outcome<Self> {
        let (mut hosts, mut devices) = (Vec::new(), Vec::new());
        for site in &sites {
            let host = Host::new()?;
            devices.push(host.within(uplink)?);
            for address in &site.addresses {
                let address = format!("{address}/32");
                host.ip(&["address", "add", &address, "dev", DEVICE])?;
            }
            host.ip(&["link", "set", DEVICE, "up"])?;
            host.ip(&["route", "add", "default", "dev", DEVICE])?;
            hosts.push(host);
        }
        let router = Arc::new(Mutex::new(Router::new(sites, nats)));
        // Not the case's runtime, which stands still whenever the case does.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = {
            let router = router.clone();
            std::thread::spawn(move || carry(&runtime, devices, &router, path, stopped))
        };
        Ok(Self {
            router,
            hosts,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The host of a site.
    pub fn host(&self, site: usize) -> &Host {
        &self.hosts[site]
    }

    /// What has come from a site's host to another's, through the NATs between them.
    pub fn traffic(&self, from: usize, to: usize) -> Traffic {
        lock(&self.router).traffic(from, to)
    }

    /// Packets whose time to live was up on the internet.
    pub fn expired(&self) -> u64 {
        lock(&self.router).expired()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It has panicked if this fails, and the case has failed then.
            let _ = thread.join();
        }
    }
}

fn lock(router: &Mutex<Router>) -> MutexGuard<'_, Router> {
    router.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the device of the namespace that this runs in.
fn uplink() -> io::Result<SyncDevice> {
    DeviceBuilder::new()
        .name(DEVICE)
        .mtu(MTU)
        .enable(false)
        .build_sync()
}

/// Carries packets until the network is dropped.
fn carry(
    runtime: &Runtime,
    devices: Vec<SyncDevice>,
    router: &Arc<Mutex<Router>>,
    path: Option<Path>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        let devices = devices.into_iter().map(AsyncDevice::new);
        let devices: io::Result<Vec<_>> = devices.collect();
        let devices = Arc::new(devices.expect("a device can be waited for"));
        for from in 0..devices.len() {
            let (devices, router) = (devices.clone(), router.clone());
            let line = path.map(|path| Line::new(path, from as u64 + 1));
            tokio::spawn(carry_from(from, devices, router, line));
        }
        // Only the end of the sender is waited for.
        let _ = stopped.await;
    });
}

/// Carries what a site's host sends.
async fn carry_from(
    from: usize,
    devices: Arc<Vec<AsyncDevice>>,
    router: Arc<Mutex<Router>>,
    mut line: Option<Line>,
) {
    let mut packet = [0; MTU as usize];
    loop {
        let arrival = line.as_ref().and_then(Line::next);
        let arrives = async {
            match arrival {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let received = tokio::select! {
            received = devices[from].recv(&mut packet) => Some(received),
            () = arrives => None,
        };
        let now = Instant::now();
        match received {
            Some(Err(_)) => return,
            Some(Ok(n)) => {
                let to = lock(&router).forward(from, &mut packet[..n], now);
                match (to, &mut line) {
                    (Some((to, len)), Some(line)) => {
                        line.send(now, to, &packet[..len]);
                    }
                    (Some((to, len)), None) => {
                        // A host that takes nothing any more loses it.
                        let _ = devices[to].send(&packet[..len]).await;
                    }
                    (None, _) => {}
                }
            }
            None => {}
        }
        while let Some((to, packet)) = line.as_mut().and_then(|line| line.arrived(now)) {
            let _ = devices[to].send(&packet).await;
        }
    }
}
