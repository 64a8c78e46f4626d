//! `xtcp` between hosts that are behind NATs: a server on the internet, a provider and a visitor, each in a network of its own.
//!
//! The router between them knows whether data went from NAT to NAT or by way of the server.

use std::net::{Ipv4Addr, SocketAddr};
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

const FULL_CONE: Kind = Kind("full_cone", Behaviour::FULL_CONE);
const RESTRICTED: Kind = Kind("restricted", Behaviour::RESTRICTED);
const PORT_RESTRICTED: Kind = Kind("port_restricted", Behaviour::PORT_RESTRICTED);
const SYMMETRIC: Kind = Kind("symmetric", Behaviour::SYMMETRIC);
const PREDICTABLE: Kind = Kind("predictable", Behaviour::PREDICTABLE);

/// A NAT and its name.
#[derive(Clone, Copy)]
struct Kind(&'static str, Behaviour);

/// NATs of provider and visitor through which there is a hole, and what it is used with.
const HOLES: [(Kind, Kind, &str); 8] = [
    (FULL_CONE, FULL_CONE, "quic"),
    (RESTRICTED, PORT_RESTRICTED, "quic"),
    (PORT_RESTRICTED, PORT_RESTRICTED, "quic"),
    (PORT_RESTRICTED, PORT_RESTRICTED, "kcp"),
    (PREDICTABLE, PORT_RESTRICTED, "quic"),
    (PORT_RESTRICTED, PREDICTABLE, "kcp"),
    (PORT_RESTRICTED, SYMMETRIC, "quic"),
    (SYMMETRIC, PORT_RESTRICTED, "kcp"),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (maker, programs) in MAKERS {
        for (provider, visitor, protocol) in HOLES {
            // One case that needs luck, and so time, is enough in all mixes.
            if provider.0 == SYMMETRIC.0 && !maker.is_empty() {
                continue;
            }
            let name = format!("xtcp/nat/{}-{}/{protocol}{maker}", provider.0, visitor.0);
            cases.push(Case::pair(name, async move |lab: &Lab| {
                let nats = [provider.1, visitor.1];
                let scene = Scene::start(lab, programs(lab), nats, protocol, None).await?;
                scene.goes_through_a_hole().await
            }));
        }
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

/// A provider of both an `xtcp` and an `stcp` proxy, a visitor, and their server.
struct Scene {
    visitor: Process,
    _provider: Process,
    _frps: Process,
    network: Network,
}

impl Scene {
    /// Starts all. With `fallback` users who wait for a hole take the other proxy after that time.
    async fn start(
        lab: &Lab,
        visitor_of: &Programs,
        [of_provider, of_visitor]: [Behaviour; 2],
        protocol: &str,
        fallback: Option<Duration>,
    ) -> Outcome<Self> {
        let network = Network::new(vec![
            Site::public([FIRST, SECOND]),
            behind(PROVIDER, of_provider),
            behind(VISITOR, of_visitor),
        ])?;
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
            _frps: frps,
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
    async fn goes_through_a_hole(mut self) -> Outcome {
        // Random ports need time and luck, and an attempt that fails delays the next.
        until("there is a tunnel", 9 * LIMIT, async || {
            self.echo(100).await.ok()
        })
        .await?;
        self.visitor
            .logs("establishing nat hole connection successful")
            .await?;
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

/// A host behind a NAT.
fn behind(place: usize, behaviour: Behaviour) -> Site {
    let place = place as u8;
    let nat = Nat::new(Ipv4Addr::new(203, 0, 113, 100 + place), behaviour);
    Site::behind(nat, inside(place))
}

/// The address of a host behind a NAT.
fn inside(place: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, place, 2)
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
    let nats = [Behaviour::SYMMETRIC; 2];
    let after = Duration::from_millis(200);
    let mut scene = Scene::start(lab, visitor_of, nats, "quic", Some(after)).await?;
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
    let hard = ["HardNAT", "BehaviorPortChanged"];
    let kinds = [
        (FULL_CONE, easy),
        (RESTRICTED, easy),
        (PORT_RESTRICTED, easy),
        (SYMMETRIC, hard),
        (PREDICTABLE, hard),
    ];
    let public = Ipv4Addr::new(203, 0, 113, 50);
    let mut sites = vec![Site::public([FIRST, SECOND]), Site::public([public])];
    for (Kind(_, behaviour), _) in kinds {
        sites.push(behind(sites.len(), behaviour));
    }
    let network = Network::new(sites)?;
    let stun = start_stun(&network)?;
    let says = async |place: usize, local: Ipv4Addr, [kind, behaviour]: [&str; 2]| {
        let mut command = network.host(place).command(&lab.frpc.path("frpc"));
        command
            .args(["nathole", "discover", "--nat-hole-stun-server"])
            .args([stun.to_string(), "-l".into(), format!("{local}:{PORT}")]);
        // The case goes on: it is the STUN server.
        let output = tokio::task::spawn_blocking(move || command.output());
        let text = String::from_utf8_lossy(&output.await??.stdout).into_owned();
        let external = text.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
        let expected = format!(
            "STUN server: {stun}\nYour NAT type is: {kind}\nBehavior is: {behaviour}\n\
             External address is: [{external}]\nLocal address is: {local}:{PORT}\n\
             Public Network: {}\n",
            place == 1
        );
        assert_eq!(text, expected);
        let external: Vec<SocketAddr> = external
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        assert_eq!(external.len(), 2);
        assert_eq!(external[0].ip(), external[1].ip());
        Outcome::Ok([external[0].port(), external[1].port()])
    };
    assert_eq!(says(1, public, easy).await?, [PORT; 2]);
    for (place, (kind, expected)) in (2..).zip(kinds) {
        let [first, second] = says(place, inside(place as u8), expected).await?;
        match kind.1 {
            Behaviour::PREDICTABLE => assert_eq!(second, first + 1),
            Behaviour::SYMMETRIC => assert_ne!(second, first),
            _ => assert_eq!(second, first),
        }
    }
    Ok(())
}
