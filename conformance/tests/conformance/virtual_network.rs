//! The virtual network: two hosts, each with a TUN device, and a service that is reached through both.

use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};

use conformance::config::{Config, Keys, Proxy, Value};
use conformance::lab::TOKEN;
use conformance::namespace::{self, Host};
use conformance::peers::Programs;
use conformance::process::Process;
use conformance::wait::{LIMIT, until, within};
use conformance::{Case, Lab, Outcome, service, stun};

use super::stcp::MAKERS;

/// Port of frps on its host.
const PORT: u16 = 7_000;

/// The addresses of the two hosts on the virtual network, and the length of its prefix.
type Net = [&'static str; 3];
const V4: Net = ["100.86.0.1", "100.86.0.2", "24"];
const V6: Net = ["fd86::1", "fd86::2", "64"];

/// How packets travel.
#[derive(Clone, Copy)]
struct Ways {
    net: Net,
    wire: &'static str,
    layered: bool,
    /// Type of proxy and visitor.
    kind: &'static str,
}

const DEFAULT: Ways = Ways {
    net: V4,
    wire: "v1",
    layered: false,
    kind: "stcp",
};

pub(super) fn cases() -> Vec<Case> {
    let obstacle = namespace::obstacle();
    let mut cases = Vec::new();
    for (maker, programs) in MAKERS {
        for (name, ways) in [
            ("default", DEFAULT),
            (
                "layers",
                Ways {
                    wire: "v2",
                    layered: true,
                    ..DEFAULT
                },
            ),
            ("ipv6", Ways { net: V6, ..DEFAULT }),
            (
                "xtcp",
                Ways {
                    kind: "xtcp",
                    ..DEFAULT
                },
            ),
        ] {
            let name = format!("virtual_network/{name}{maker}");
            cases.push(Case::pair(name, async move |lab: &Lab| {
                let network = Network::start(lab, programs(lab), ways).await?;
                network.works().await
            }));
        }
    }
    cases.push(Case::pair("virtual_network/proxy_again", proxy_again));
    cases.push(
        Case::pair("virtual_network/garbage", garbage)
            .ours_only("upstream gives the system what is no packet"),
    );
    let mut cases: Vec<Case> = cases
        .into_iter()
        .map(|case| case.impossible(obstacle.clone()))
        .collect();
    cases.push(Case::frpc("virtual_network/errors", errors));
    cases
}

/// Both hosts: frps and the proxy's client on one, the visitor's on the other.
struct Network {
    hosts: [Host; 2],
    net: Net,
    stun: SocketAddr,
    clients: [Process; 2],
    proxy: Config,
    _frps: Process,
}

impl Network {
    async fn start(lab: &Lab, visitor_of: &Programs, ways: Ways) -> Outcome<Self> {
        let net = ways.net;
        let hosts = [Host::new()?, Host::new()?];
        hosts[0].connect("10.9.0.1/24", &hosts[1], "10.9.0.2/24")?;
        let stun = stun_server(&hosts[0])?;
        let mut frps = Config::default();
        frps.keys.set("auth.token", TOKEN);
        frps.keys.set("bindPort", PORT);
        let mut frps = lab.start_on(&hosts[0], &lab.frps, "frps", &frps)?;
        frps.logs("frps started successfully").await?;

        let mut keys = Keys::default();
        keys.set("plugin.type", "virtual_net");
        let proxy = entry(secret(keys, ways));
        let mut keys = Keys::default();
        keys.set("plugin.type", "virtual_net");
        keys.set("plugin.destinationIP", net[0]);
        keys.set("serverName", "remote");
        keys.set("bindPort", -1_i64);
        let visitor = entry(secret(keys, ways));

        let mut of_proxy = client(ways, 0, stun);
        of_proxy.proxies.push(proxy);
        let mut with_proxy = lab.start_on(&hosts[0], &lab.frpc, "frpc", &of_proxy)?;
        with_proxy.logs("start proxy success").await?;
        let mut of_visitor = client(ways, 1, stun);
        of_visitor.visitors.push(visitor);
        let mut with_visitor = lab.start_on(&hosts[1], visitor_of, "frpc", &of_visitor)?;
        with_visitor.logs("start visitor success").await?;
        Ok(Self {
            hosts,
            net,
            stun,
            clients: [with_proxy, with_visitor],
            proxy: of_proxy,
            _frps: frps,
        })
    }

    /// A service on the proxy's host is used from the visitor's.
    async fn works(&self) -> Outcome {
        let address: IpAddr = self.net[0].parse()?;
        let listener = self.hosts[0].bind_tcp((address, 0).into())?;
        let service = service::start_at(listener, service::Kind::Echo)?;
        let connected = until("a connection through the network", 2 * LIMIT, async || {
            self.hosts[1].dial(service).ok()
        });
        let mut user = connected.await?;
        within("an echo", LIMIT, service::exchange(&mut user, 1_000_000)).await?
    }
}

/// Another service of the first host.
fn stun_server(host: &Host) -> Outcome<SocketAddr> {
    let socket = || host.bind_udp(([10, 9, 0, 1], 0).into());
    stun::start_at(socket()?, socket()?, stun::Kind::NoNat)
}

fn client(ways: Ways, place: usize, stun: SocketAddr) -> Config {
    let Ways { net, wire, .. } = ways;
    let mut config = Config::default();
    let keys = &mut config.keys;
    keys.set("auth.token", TOKEN);
    keys.set("log.level", "debug");
    keys.set("serverAddr", "10.9.0.1");
    keys.set("serverPort", PORT);
    keys.set("natHoleStunServer", stun.to_string());
    if wire != "v1" {
        keys.set("transport.wireProtocol", wire);
    }
    keys.set("featureGates", Value::Toml("{ VirtualNet = true }".into()));
    keys.set("virtualNet.address", format!("{}/{}", net[place], net[2]));
    config
}

fn secret(mut keys: Keys, ways: Ways) -> Keys {
    keys.set("type", ways.kind);
    keys.set("secretKey", "open sesame");
    if ways.layered {
        keys.set("transport.useEncryption", true);
        keys.set("transport.useCompression", true);
    }
    keys
}

fn entry(keys: Keys) -> Proxy {
    Proxy {
        name: "remote".into(),
        keys,
    }
}

/// The proxy's client is replaced; the visitor finds the new one.
async fn proxy_again(lab: &Lab) -> Outcome {
    let mut network = Network::start(lab, &lab.frps, DEFAULT).await?;
    network.works().await?;
    network.clients[0].kill()?;
    let host = &network.hosts[0];
    network.clients[0] = lab.start_on(host, &lab.frpc, "frpc", &network.proxy)?;
    network.clients[0].logs("start proxy success").await?;
    network.works().await
}

/// A visitor who does not keep to the rules disturbs nobody.
async fn garbage(lab: &Lab) -> Outcome {
    let mut network = Network::start(lab, &lab.frpc, DEFAULT).await?;
    network.works().await?;
    let mut keys = secret(Keys::default(), DEFAULT);
    keys.set("serverName", "remote");
    keys.set("bindPort", 7_001_u16);
    let mut rogue = client(DEFAULT, 1, network.stun);
    rogue.keys.set("virtualNet.address", "");
    rogue.visitors.push(entry(keys));
    let mut rogue = lab.start_on(&network.hosts[0], &lab.frpc, "frpc", &rogue)?;
    rogue.logs("start visitor success").await?;
    let mut many = Vec::new();
    for n in 0..5_000_u32 {
        let mut packet = [0_u8; 24];
        packet[..4].copy_from_slice(&20_u32.to_le_bytes());
        packet[4] = 0x45;
        packet[16..20].copy_from_slice(&(0x0b00_0000 + n).to_be_bytes());
        many.extend(packet);
    }
    let long = [&(1_u32 << 20).to_le_bytes()[..], &vec![0x45; 1 << 20]].concat();
    let no_packet = [&[9, 0, 0, 0][..], &[0xff; 9]].concat().repeat(1_000);
    for sent in [
        many,
        long,
        no_packet,
        vec![0; 4],
        vec![0xff; 100_000],
        vec![20, 0, 0, 0, 0x45],
    ] {
        let mut user = network.hosts[0].within(|| StdStream::connect(("127.0.0.1", 7_001)))?;
        let _ = std::io::Write::write_all(&mut user, &sent);
        drop(user);
        network.works().await?;
    }
    assert!(network.clients[0].ended().is_none());
    Ok(())
}

/// What is found before anything is dialled.
async fn errors(lab: &Lab) -> Outcome {
    for (gate, line) in [
        (
            true,
            "init virtual network controller error: invalid CIDR address: 100.86.0.1",
        ),
        (
            false,
            "VirtualNet feature is not enabled; enable it by setting the appropriate feature gate flag",
        ),
    ] {
        let mut config = Config::default();
        if gate {
            let gates = Value::Toml("{ VirtualNet = true }".into());
            config.keys.set("featureGates", gates);
        }
        config.keys.set("virtualNet.address", "100.86.0.1");
        let mut frpc = lab.start_frpc(&config)?;
        assert_eq!(frpc.exit(LIMIT).await?.code(), Some(1));
        frpc.logs(line).await?;
    }
    Ok(())
}
