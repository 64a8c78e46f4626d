//! Names to addresses: the system's way, or by asking one server (`dnsServer`).
//!
//! The server is asked instead of all others, by the whole process, as upstream does it; files still come first (client.md §2.7).

mod message;
mod system;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use message::{ADDRESS_V4, ADDRESS_V6, Answer};
use system::{Files, Search};

/// Wait for one answer, and how often it is asked for.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;
/// Longest answer that comes in one datagram.
const MAX_DATAGRAM: usize = 1_232;
const DNS_PORT: &str = "53";

/// `host:port` of the server that is asked.
static SERVER: ArcSwapOption<String> = ArcSwapOption::const_empty();

/// Has the process ask this server, `host[:port]`, for every name from now on.
pub fn use_server(server: &str) {
    SERVER.store(Some(Arc::new(with_port(server))));
}

fn with_port(server: &str) -> String {
    let bare = server.trim_matches(['[', ']']);
    match server.parse::<SocketAddr>() {
        Ok(_) => server.to_owned(),
        Err(_) if bare.parse::<Ipv6Addr>().is_ok() => format!("[{bare}]:{DNS_PORT}"),
        Err(_) if server.contains(':') => server.to_owned(),
        Err(_) => format!("{server}:{DNS_PORT}"),
    }
}

/// The addresses of a name or literal; an error is in Go's words and says whether it is worth asking again.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = match SERVER.load_full() {
        None => return system_lookup(host, port).await,
        Some(server) => {
            let files = Files::read().await;
            match files.hosts(host) {
                found if found.is_empty() => ask_all(&server, host, &files.search()).await?,
                found => found,
            }
        }
    };
    Ok(found.into_iter().map(|ip| (ip, port).into()).collect())
}

async fn system_lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    const PREFIX: &str = "failed to lookup address information: ";
    let error = match lookup_host((host, port)).await {
        Ok(found) => {
            let found: Vec<_> = found.collect();
            if !found.is_empty() {
                return Ok(found);
            }
            String::new()
        }
        Err(e) => e.to_string(),
    };
    // Only this answer may change by itself soon, so it is told apart.
    let text = match error.strip_prefix(PREFIX) {
        Some(cause) if cause.contains("emporary failure") => "temporary failure in name resolution",
        _ => "no such host",
    };
    Err(not_found(format!("lookup {host}: {text}")))
}

fn not_found(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, text)
}

/// Asks for the name, completed by each of the search domains.
async fn ask_all(server: &str, host: &str, search: &Search) -> io::Result<Vec<IpAddr>> {
    let mut failure = None;
    for name in search.candidates(host) {
        let (v4, v6) = tokio::join!(
            ask(server, &name, ADDRESS_V4),
            ask(server, &name, ADDRESS_V6)
        );
        let mut found = Vec::new();
        for answer in [v4, v6] {
            match answer {
                Ok(addresses) => found.extend(addresses),
                Err(e) => {
                    failure.get_or_insert(e);
                }
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let cause = failure.map_or_else(|| "no such host".to_owned(), |e| e.to_string());
    Err(not_found(format!("lookup {host} on {server}: {cause}")))
}

/// Asks for the addresses of one family; none is an answer too.
async fn ask(server: &str, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let mut failure = io::ErrorKind::TimedOut.into();
    for _ in 0..ATTEMPTS {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let Some(query) = message::query(id, name, kind) else {
            return Ok(Vec::new());
        };
        match timeout(ATTEMPT_LIMIT, exchange(server, &query)).await {
            Ok(Ok(Answer::Addresses(found))) => return Ok(found),
            Ok(Ok(_)) => failure = io::Error::other("server misbehaving"),
            Ok(Err(e)) => failure = e,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"),
        }
    }
    Err(failure)
}

/// One question and its answer: over UDP, or over TCP if that is too short for it.
async fn exchange(server: &str, query: &[u8]) -> io::Result<Answer> {
    let address = lookup_host(server).await?.next();
    let address = address.ok_or_else(|| not_found(format!("lookup {server}: no such host")))?;
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From now on the system drops what comes from anywhere else.
    socket.connect(address).await?;
    socket.send(query).await?;
    let mut datagram = [0; MAX_DATAGRAM];
    loop {
        let n = socket.recv(&mut datagram).await?;
        match message::answer(query, &datagram[..n]) {
            // Not ours, or forged.
            None => {}
            Some(Answer::Truncated) => break,
            Some(answer) => return Ok(answer),
        }
    }
    let mut stream = TcpStream::connect(address).await?;
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend(query);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    message::answer(query, &answer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed DNS answer"))
}

/// Parses an answer to a question that asks for `www.example.org`. For fuzzing.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let query = message::query([0, 0], "www.example.org", ADDRESS_V4).expect("a good name");
    message::answer(&query, data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn the_port_is_optional() {
        for (server, expected) in [
            ("8.8.8.8", "8.8.8.8:53"),
            ("8.8.8.8:54", "8.8.8.8:54"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:54", "[::1]:54"),
            ("dns.test", "dns.test:53"),
            ("dns.test:54", "dns.test:54"),
        ] {
            assert_eq!(with_port(server), expected);
        }
    }

    /// A server that knows `a.test` with one address, and answers over UDP only that the answer is long.
    async fn serve(truncated: bool) -> String {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (n, from) = udp.recv_from(&mut query).await.unwrap();
                let answer = message::tests::answer_to(&query[..n], truncated);
                // Somebody guesses.
                let mut forged = answer.clone();
                forged[0] ^= 1;
                udp.send_to(&forged, from).await.unwrap();
                udp.send_to(&answer, from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut query = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut query).await.unwrap();
                let answer = message::tests::answer_to(&query, false);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        address.to_string()
    }

    #[tokio::test]
    async fn the_server_is_asked_over_udp_and_then_over_tcp() {
        for truncated in [false, true] {
            let server = serve(truncated).await;
            let search = Search::parse("search example.org test\noptions ndots:2\n");
            // Not under example.org, but under test.
            let found = ask_all(&server, "a", &search).await.unwrap();
            assert_eq!(found, [IpAddr::from([10, 1, 2, 3])]);
            let error = ask_all(&server, "b.test", &search).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("lookup b.test on {server}: no such host")
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_given_up() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = silent.local_addr().unwrap().to_string();
        let error = ask_all(&server, "a.test.", &Search::parse(""))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("lookup a.test. on {server}: i/o timeout")
        );
    }
}
