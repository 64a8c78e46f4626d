//! What is measured, and how.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Parser;
use conformance::config::{Config, Keys, Proxy};
use conformance::lab::TOKEN;
use conformance::namespace::{self, Host};
use conformance::network::Network;
use conformance::network::path::Path;
use conformance::network::router::Site;
use conformance::peers::{Environment, Maker, Programs, upstream};
use conformance::process::Process;
use conformance::{Failure, Lab, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::{timeout, timeout_at};

/// Places in the network.
const SERVER: usize = 0;
const CLIENT: usize = 1;
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2)];
/// Ports are free on hosts of their own.
const BIND_PORT: u16 = 7_000;
const REMOTE_PORT: u16 = 6_000;
const SERVICE_PORT: u16 = 5_000;
/// Packets wait for their turn as long as in a router of these days.
const QUEUE: Duration = Duration::from_millis(100);
/// What is written at a time.
const CHUNK: usize = 64 * 1024;
/// For a connection through a tunnel that is up, over the worst of ways.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Measures goodput over long and lossy ways.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// How often everything is repeated; the medians count.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds for which bytes are counted.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Seconds before that, in which senders find out what the way can take.
    #[arg(long, default_value_t = 4)]
    warm_up: u64,
    /// `transport.protocol` of frpc.
    #[arg(long, value_delimiter = ',', default_value = "tcp,kcp,quic,websocket")]
    transports: Vec<String>,
    /// Round trips in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "20,100")]
    rtt: Vec<u64>,
    /// Lost packets in percent.
    #[arg(long, value_delimiter = ',', default_value = "0,1,5")]
    loss: Vec<f64>,
    /// Bits a second of the way, in millions.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// The user sends, rather than the service.
    #[arg(long)]
    upload: bool,
}

/// Who carries the bytes.
enum Carrier {
    Nobody,
    Pair(Programs),
}

impl Carrier {
    fn name(&self) -> String {
        match self {
            Self::Nobody => "direct".into(),
            Self::Pair(programs) => programs.maker.to_string(),
        }
    }
}

pub(crate) fn run() -> Outcome {
    let cli = Cli::parse();
    if let Some(obstacle) = namespace::obstacle() {
        return Err(Failure::new(obstacle));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let pairs = pairs()?;
    let columns: Vec<String> = pairs.iter().map(Carrier::name).collect();
    println!(
        "Mbit/s of one stream, {}; {} Mbit/s way, median of {}\n",
        if cli.upload {
            "from the user"
        } else {
            "to the user"
        },
        cli.rate,
        cli.rounds
    );
    println!(
        "| transport | round trip | loss | {} | ours / go |",
        columns.join(" | ")
    );
    println!("|--|--|--|{}--|", "--|".repeat(columns.len()));
    for transport in &cli.transports {
        for rtt in &cli.rtt {
            for loss in &cli.loss {
                let path = Path {
                    delay: Duration::from_millis(*rtt) / 2,
                    rate: cli.rate * 1_000_000,
                    queue: QUEUE,
                    loss: loss / 100.0,
                };
                let mut rates = vec![Vec::new(); pairs.len()];
                for _ in 0..cli.rounds {
                    // Alternating, so that what disturbs the machine disturbs all.
                    for (pair, rates) in pairs.iter().zip(&mut rates) {
                        rates.push(goodput(&runtime, &cli, pair, transport, path)?);
                    }
                }
                let medians: Vec<f64> = rates.into_iter().map(median).collect();
                let cells: Vec<String> = medians.iter().map(|rate| format!("{rate:.1}")).collect();
                let ratio = match medians[..] {
                    [_, ours, go] => format!("{:.2}", ours / go),
                    _ => "-".into(),
                };
                println!(
                    "| {transport} | {rtt} ms | {loss} % | {} | {ratio} |",
                    cells.join(" | ")
                );
            }
        }
    }
    Ok(())
}

/// Ours are beside this program.
fn pairs() -> Outcome<Vec<Carrier>> {
    let executable = env::current_exe()?;
    let directory = executable.parent().map(Into::into).unwrap_or_default();
    let ours = Programs {
        maker: Maker::Ours,
        directory,
    };
    let variable = |name| env::var_os(name).map(Into::into);
    let environment = Environment {
        upstream: variable("FRP_UPSTREAM_DIR"),
        cache: variable("XDG_CACHE_HOME"),
        home: variable("HOME"),
        ..Environment::default()
    };
    let go = upstream(&environment).map(Carrier::Pair);
    Ok([Carrier::Nobody, Carrier::Pair(ours)]
        .into_iter()
        .chain(go)
        .collect())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Megabits a second over a fresh network.
fn goodput(
    runtime: &Runtime,
    cli: &Cli,
    carrier: &Carrier,
    transport: &str,
    path: Path,
) -> Outcome<f64> {
    runtime.block_on(async {
        let sites = ADDRESSES.map(|address| Site::public([address]));
        let network = Network::over(sites.into(), Vec::new(), Some(path))?;
        let (server, client) = (network.host(SERVER), network.host(CLIENT));
        let service = client.bind_tcp((Ipv4Addr::UNSPECIFIED, SERVICE_PORT).into())?;
        match carrier {
            Carrier::Nobody => {
                let address = (ADDRESSES[CLIENT], SERVICE_PORT).into();
                count(cli, &service, server, address).await
            }
            Carrier::Pair(programs) => {
                let lab = Lab::new(programs.clone(), programs.clone(), false)?;
                let _pair = start(&lab, server, client, transport).await?;
                let address = (Ipv4Addr::LOCALHOST, REMOTE_PORT).into();
                count(cli, &service, server, address).await
            }
        }
    })
}

/// frps and frpc with one tunnel.
async fn start(lab: &Lab, server: &Host, client: &Host, transport: &str) -> Outcome<[Process; 2]> {
    let mut config = Config::default();
    for key in ["bindPort", "kcpBindPort"] {
        config.keys.set(key, BIND_PORT);
    }
    // QUIC and KCP cannot share a port.
    config.keys.set("quicBindPort", BIND_PORT + 1);
    config.keys.set("auth.token", TOKEN);
    let mut frps = lab.start_on(server, &lab.frps, "frps", &config)?;
    frps.logs("frps started successfully").await?;

    let mut config = Config::default();
    config.keys.set("serverAddr", ADDRESSES[SERVER].to_string());
    let port = BIND_PORT + u16::from(transport == "quic");
    config.keys.set("serverPort", port);
    config.keys.set("auth.token", TOKEN);
    config.keys.set("transport.protocol", transport);
    let mut keys = Keys::default();
    keys.set("type", "tcp");
    keys.set("localPort", SERVICE_PORT);
    keys.set("remotePort", REMOTE_PORT);
    let name = "bulk".into();
    config.proxies.push(Proxy { name, keys });
    let mut frpc = lab.start_on(client, &lab.frpc, "frpc", &config)?;
    frpc.logs("start proxy success").await?;
    Ok([frps, frpc])
}

/// Connects a user with the service and counts what arrives.
async fn count(cli: &Cli, service: &TcpListener, from: &Host, to: SocketAddr) -> Outcome<f64> {
    let accepted = timeout(CONNECT_LIMIT, async {
        // Over a lossy way even the first packets may have to be sent again.
        let user = from.dial(to)?;
        let (served, _) = service.accept().await?;
        Ok::<_, Failure>((user, served))
    });
    let late = |_| Failure::new("no connection to the service in time");
    let (user, served) = accepted.await.map_err(late)??;
    let (sender, receiver) = if cli.upload {
        (user, served)
    } else {
        (served, user)
    };
    let sending = tokio::spawn(send(sender));
    let rate = receive(cli, receiver).await;
    sending.abort();
    rate
}

async fn send(mut stream: TcpStream) -> std::io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    loop {
        stream.write_all(&chunk).await?;
    }
}

async fn receive(cli: &Cli, mut stream: TcpStream) -> Outcome<f64> {
    let mut buffer = vec![0; 4 * CHUNK];
    let mut total = 0_u32;
    for (seconds, counts) in [(cli.warm_up, false), (cli.seconds, true)] {
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        while let Ok(read) = timeout_at(end, stream.read(&mut buffer)).await {
            match read? {
                0 => return Err(Failure::new("the connection has ended")),
                n if counts => total = total.saturating_add(u32::try_from(n).unwrap_or_default()),
                _ => {}
            }
        }
    }
    Ok(f64::from(total) * 8.0 / 1e6 / Duration::from_secs(cli.seconds).as_secs_f64())
}
