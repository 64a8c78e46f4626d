//! `xtcp` between hosts that are behind NATs: a server on the internet, a provider and a visitor, each in a network of its own.
//!
//! The router between them knows whether data went from NAT to NAT or by way of the server.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use conformance::config::{Config, Keys, Proxy};
use conformance::lab::TOKEN;
use conformance::managed::ask_over;
use conformance::namespace;
use conformance::network::Network;
use conformance::network::nat::{Behaviour, Nat};
use conformance::network::router::Site;
use conformance::peers::Programs;
use conformance::process::Process;
use conformance::wait::{LIMIT, until, within};
use conformance::{Case, Failure, Lab, Outcome, service, stun};

use super::stcp::MAKERS;

/// Places in the network.
const SERVER: usize = 0;
const PROVIDER: usize = 1;
const VISITOR: usize = 2;

/// The server's addresses; STUN answers at both.
const FIRST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// A port is free on a host of its own.
const PORT: u16 = 7_000;
const ADMIN_PORT: u16 = 7_500;
const STUN_PORT: u16 = 3_478;
const SERVICE_PORT: u16 = 5_000;
const VISITOR_PORT: u16 = 6_000;

/// What is sent through a hole, in each direction.
const PAYLOAD: usize = 300_000;

/// What is between a host and the internet, and its name.
#[derive(Clone, Copy)]
struct Kind(&'static str, Option<Behaviour>);

const PUBLIC: Kind = Kind("public", None);
const FULL_CONE: Kind = Kind("full_cone", Some(Behaviour::FULL_CONE));
const RESTRICTED: Kind = Kind("restricted", Some(Behaviour::RESTRICTED));
const PORT_RESTRICTED: Kind = Kind("port_restricted", Some(Behaviour::PORT_RESTRICTED));
const SYMMETRIC: Kind = Kind("symmetric", Some(Behaviour::SYMMETRIC));
const PREDICTABLE: Kind = Kind("predictable", Some(Behaviour::PREDICTABLE));
const BY_ADDRESS: Kind = Kind("by_address", Some(Behaviour::BY_ADDRESS));

/// Where provider and visitor are that find each other, what they use the hole with, and the mode in which they make it.
const HOLES: [(Kind, Kind, &str, u8); 12] = [
    (FULL_CONE, FULL_CONE, "quic", 0),
    (RESTRICTED, PORT_RESTRICTED, "quic", 0),
    (PORT_RESTRICTED, PORT_RESTRICTED, "quic", 0),
    (PORT_RESTRICTED, PORT_RESTRICTED, "kcp", 0),
    (PUBLIC, SYMMETRIC, "quic", 0),
    (SYMMETRIC, PUBLIC, "kcp", 0),
    (PREDICTABLE, PORT_RESTRICTED, "quic", 1),
    (PORT_RESTRICTED, PREDICTABLE, "kcp", 1),
    (PORT_RESTRICTED, SYMMETRIC, "quic", 2),
    (SYMMETRIC, PORT_RESTRICTED, "kcp", 2),
    (BY_ADDRESS, BY_ADDRESS, "quic", 3),
    (BY_ADDRESS, SYMMETRIC, "quic", 4),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (maker, programs) in MAKERS {
        for (provider, visitor, protocol, mode) in HOLES {
            // One case that needs luck, and so time, is enough in all mixes.
            if mode == 2 && protocol == "kcp" && !maker.is_empty() {
                continue;
            }
            let name = format!("xtcp/nat/{}-{}/{protocol}{maker}", provider.0, visitor.0);
            cases.push(Case::pair(name, async move |lab: &Lab| {
                let places = apart([provider, visitor]);
                let scene = Scene::start(lab, programs(lab), places, protocol, None).await?;
                scene.goes_through_a_hole(mode).await
            }));
        }
        let name = format!("xtcp/nat/same_nat{maker}");
        cases.push(Case::pair(name, async move |lab: &Lab| {
            let scene = Scene::start(lab, programs(lab), together(), "quic", None).await?;
            scene.goes_through_a_hole(0).await
        }));
        let name = format!("xtcp/nat/fallback{maker}");
        cases.push(Case::pair(name, async move |lab: &Lab| {
            fallback(lab, programs(lab)).await
        }));
    }
    cases.push(Case::frpc("xtcp/nat/discover", discover));
    let obstacle = namespace::obstacle();
    let cases = cases.into_iter();
    cases.map(|c| c.impossible(obstacle.clone())).collect()
}

/// Where provider and visitor are, and the NATs that they are behind.
type Places = ([Site; 2], Vec<Nat>);

/// Each in a network of its own.
fn apart(kinds: [Kind; 2]) -> Places {
    let mut nats = Vec::new();
    let mut place = |number: u8, behaviour: Option<Behaviour>| {
        let Some(behaviour) = behaviour else {
            return Site::public([outside(number)]);
        };
        nats.push(Nat::new([outside(number)], behaviour));
        Site::behind(nats.len() - 1, inside(number))
    };
    let sites = [place(1, kinds[0].1), place(2, kinds[1].1)];
    (sites, nats)
}

/// Both in the same network, which they cannot enter from outside.
fn together() -> Places {
    let sites = [1, 2].map(|number| Site::behind(0, inside(number)));
    let nat = Nat::new([outside(1)], Behaviour::PORT_RESTRICTED);
    (sites, vec![nat])
}

/// An address of a host, or of a NAT, on the internet.
fn outside(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 100 + number)
}

/// The address of a host behind a NAT.
fn inside(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, number, 2)
}

/// A provider of both an `xtcp` and an `stcp` proxy, a visitor, and their server.
struct Scene {
    visitor: Process,
    _provider: Process,
    frps: Process,
    network: Network,
}

impl Scene {
    /// Starts all. With `fallback` users who wait for a hole take the other proxy after that time.
    async fn start(
        lab: &Lab,
        visitor_of: &Programs,
        ([provider, visitor], nats): Places,
        protocol: &str,
        fallback: Option<Duration>,
    ) -> Outcome<Self> {
        let sites = vec![Site::public([FIRST, SECOND]), provider, visitor];
        let network = Network::new(sites, nats)?;
        let stun = start_stun(&network)?;
        let [server, provider, visitor] = [SERVER, PROVIDER, VISITOR].map(|n| network.host(n));
        let address = (Ipv4Addr::LOCALHOST, SERVICE_PORT).into();
        service::start_at(provider.bind_tcp(address)?, service::Kind::Echo)?;

        let mut config = common();
        config.keys.set("bindPort", PORT);
        config.keys.set("webServer.port", ADMIN_PORT);
        let mut frps = lab.start_on(server, &lab.frps, "frps", &config)?;
        frps.logs("frps started successfully").await?;

        let mut config = client(stun);
        for kind in ["xtcp", "stcp"] {
            let mut keys = keys(kind);
            keys.set("localPort", SERVICE_PORT);
            config.proxies.push(named(kind, keys));
        }
        let mut provider = lab.start_on(provider, &lab.frpc, "frpc", &config)?;
        provider.logs_times("start proxy success", 2).await?;

        let mut config = client(stun);
        let mut direct = keys("xtcp");
        direct.set("serverName", "xtcp");
        direct.set("protocol", protocol);
        direct.set("bindPort", VISITOR_PORT);
        if let Some(after) = fallback {
            direct.set("fallbackTo", "stcp");
            direct.set("fallbackTimeoutMs", after.as_millis() as i64);
            let mut relayed = keys("stcp");
            relayed.set("serverName", "stcp");
            relayed.set("bindPort", -1_i64);
            config.visitors.push(named("stcp", relayed));
        }
        config.visitors.push(named("xtcp", direct));
        let started = config.visitors.len();
        let mut visitor = lab.start_on(visitor, visitor_of, "frpc", &config)?;
        visitor.logs_times("start visitor success", started).await?;
        Ok(Self {
            visitor,
            _provider: provider,
            frps,
            network,
        })
    }

    /// A user on the visitor's host talks to the service on the provider's.
    async fn echo(&self, len: usize) -> Outcome {
        let address = (Ipv4Addr::LOCALHOST, VISITOR_PORT).into();
        let mut user = self.network.host(VISITOR).dial(address)?;
        within("an echo", LIMIT, service::exchange(&mut user, len)).await?
    }

    /// Waits for a hole, then sees that what users send goes through it and not by way of the server.
    async fn goes_through_a_hole(mut self, mode: u8) -> Outcome {
        // Random ports need time and luck, and an attempt that fails delays the next.
        until("there is a tunnel", 9 * LIMIT, async || {
            self.echo(100).await.ok()
        })
        .await?;
        self.visitor
            .logs("establishing nat hole connection successful")
            .await?;
        let report = format!("report make hole success: true, mode {mode}, index");
        self.frps.logs(&report).await?;
        let before = self.sent();
        self.echo(PAYLOAD).await?;
        let [direct, relayed] = self.sent();
        assert!(direct - before[0] > 2 * PAYLOAD as u64);
        assert!(relayed - before[1] < PAYLOAD as u64 / 10);
        // The first attempt of each mode opens one side's own NAT only.
        assert!(self.network.expired() > 0);
        self.server_counts("xtcp", |bytes| bytes == 0).await
    }

    /// Bytes that have gone from NAT to NAT, and from and to the server.
    fn sent(&self) -> [u64; 2] {
        let bytes = |a, b| {
            let both = [(a, b), (b, a)].map(|(from, to)| self.network.traffic(from, to).bytes);
            both.iter().sum::<u64>()
        };
        let relayed = bytes(SERVER, PROVIDER) + bytes(SERVER, VISITOR);
        [bytes(PROVIDER, VISITOR), relayed]
    }

    /// Looks at what the server says of a proxy's traffic, in both directions.
    async fn server_counts(&self, proxy: &str, right: fn(u64) -> bool) -> Outcome {
        let address = (Ipv4Addr::LOCALHOST, ADMIN_PORT).into();
        let stream = self.network.host(SERVER).dial(address)?;
        let path = format!("/api/proxy/{proxy}");
        let answer = ask_over(stream, "GET", &path).await?.body;
        for key in ["\"todayTrafficIn\":", "\"todayTrafficOut\":"] {
            let bytes = answer.split_once(key).and_then(|(_, rest)| {
                let end = rest.find(|c: char| !c.is_ascii_digit())?;
                rest[..end].parse().ok()
            });
            if !bytes.is_some_and(right) {
                return Err(Failure::new(answer));
            }
        }
        Ok(())
    }
}

fn start_stun(network: &Network) -> Outcome<SocketAddr> {
    let host = network.host(SERVER);
    let first = host.bind_udp((FIRST, STUN_PORT).into())?;
    let second = host.bind_udp((SECOND, STUN_PORT + 1).into())?;
    stun::start_at(first, second, stun::Kind::NoNat)
}

/// What all programs are told.
fn common() -> Config {
    let mut config = Config::default();
    config.keys.set("auth.token", TOKEN);
    config.keys.set("log.level", "trace");
    config.keys.set("log.disablePrintColor", true);
    config
}

fn client(stun: SocketAddr) -> Config {
    let mut config = common();
    config.keys.set("serverAddr", FIRST.to_string());
    config.keys.set("serverPort", PORT);
    config.keys.set("natHoleStunServer", stun.to_string());
    config
}

fn keys(kind: &'static str) -> Keys {
    let mut keys = Keys::default();
    keys.set("type", kind);
    keys.set("secretKey", "open sesame");
    keys
}

fn named(name: &str, keys: Keys) -> Proxy {
    Proxy {
        name: name.into(),
        keys,
    }
}

/// Users behind NATs through which there is no hole are served by way of the server.
async fn fallback(lab: &Lab, visitor_of: &Programs) -> Outcome {
    let (places, after) = (apart([SYMMETRIC; 2]), Duration::from_millis(200));
    let mut scene = Scene::start(lab, visitor_of, places, "quic", Some(after)).await?;
    scene.echo(PAYLOAD).await?;
    let log = &mut scene.visitor;
    log.logs("try to transfer connection to visitor: stcp")
        .await?;
    log.logs("make hole error: wait detect message").await?;
    scene.echo(PAYLOAD).await?;
    let [direct, relayed] = scene.sent();
    assert_eq!(direct, 0);
    assert!(relayed > 4 * PAYLOAD as u64);
    scene.server_counts("xtcp", |bytes| bytes == 0).await?;
    scene
        .server_counts("stcp", |bytes| bytes >= PAYLOAD as u64)
        .await
}

/// What `frpc nathole discover` says behind each NAT, and behind none.
async fn discover(lab: &Lab) -> Outcome {
    let easy = ["EasyNAT", "BehaviorNoChange"];
    let ports_change = ["HardNAT", "BehaviorPortChanged"];
    let both_change = ["HardNAT", "BehaviorBothChanged"];
    let kinds = [
        (Behaviour::FULL_CONE, 1, easy),
        (Behaviour::RESTRICTED, 1, easy),
        (Behaviour::PORT_RESTRICTED, 1, easy),
        (Behaviour::SYMMETRIC, 1, ports_change),
        (Behaviour::PREDICTABLE, 1, ports_change),
        (Behaviour::BY_ADDRESS, 1, ports_change),
        // The port of another address is the same by chance only, and so is the address that is drawn.
        (Behaviour::SYMMETRIC, 100, both_change),
    ];
    let mut sites = vec![Site::public([FIRST, SECOND])];
    let mut nats = Vec::new();
    for (number, (behaviour, addresses, _)) in (1..).zip(kinds) {
        sites.push(Site::behind(nats.len(), inside(number)));
        let pool = (0..addresses).map(|n| Ipv4Addr::new(198, 51, 100 + number, n));
        nats.push(Nat::new(pool.collect::<Vec<_>>(), behaviour));
    }
    let public = sites.len();
    sites.push(Site::public([outside(1)]));
    let network = Network::new(sites, nats)?;
    let stun = start_stun(&network)?;
    let discovered = async |place: usize, local: Ipv4Addr, expected: [&str; 2]| {
        let mut command = network.host(place).command(&lab.frpc.path("frpc"));
        command
            .args(["nathole", "discover", "--nat-hole-stun-server"])
            .args([stun.to_string(), "-l".into(), format!("{local}:{PORT}")]);
        // The case goes on: it is the STUN server.
        let output = tokio::task::spawn_blocking(move || command.output());
        let text = String::from_utf8_lossy(&output.await??.stdout).into_owned();
        let external = text.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
        let [kind, behaviour] = expected;
        assert_eq!(
            text,
            format!(
                "STUN server: {stun}\nYour NAT type is: {kind}\nBehavior is: {behaviour}\n\
                 External address is: [{external}]\nLocal address is: {local}:{PORT}\n\
                 Public Network: {}\n",
                place == public
            )
        );
        let external = external.split(' ').map(str::parse);
        Outcome::Ok(external.collect::<Result<Vec<SocketAddrV4>, _>>()?)
    };
    let seen = discovered(public, outside(1), easy).await?;
    assert_eq!(seen, [SocketAddrV4::new(outside(1), PORT); 2]);
    for (number, (_, _, expected)) in (1..).zip(kinds) {
        let seen = discovered(number.into(), inside(number), expected).await?;
        let [first, second] = seen[..] else {
            return Err(Failure::new(format!("{seen:?}")));
        };
        let of_nat = |end: SocketAddrV4| end.ip().octets()[..3] == [198, 51, 100 + number];
        assert!(of_nat(first) && of_nat(second));
        assert_eq!(first.ip() == second.ip(), expected != both_change);
        assert_eq!(first.port() == second.port(), expected == easy);
    }
    Ok(())
}
