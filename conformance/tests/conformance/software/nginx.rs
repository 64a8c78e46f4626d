//! nginx behind an `http` proxy, asked by curl and by hand.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use conformance::http::Backend;
use conformance::process::{Process, locate};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Failure, Lab, Outcome, ports};
use tokio::net::TcpStream;

use super::run;
use crate::http::{Site, domains, get, proxy};

/// Lines of the file that nginx serves.
const LINES: usize = 100_000;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        Case::pair("software/nginx/exchanges", exchanges),
        Case::pair("software/nginx/keep_alive", keep_alive),
        Case::pair("software/nginx/websocket", websocket),
        Case::pair("software/nginx/curl", curl).needs("curl"),
    ];
    cases.into_iter().map(|case| case.needs("nginx")).collect()
}

/// A pair with nginx behind it.
struct Web {
    site: Site,
    /// Where nginx passes its WebSocket users to.
    _backend: Backend,
    _nginx: Process,
}

/// The file that nginx serves.
fn file() -> String {
    let mut text = String::new();
    for n in 0..LINES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "line {n}");
    }
    text
}

async fn start(lab: &Lab) -> Outcome<Web> {
    let backend = Backend::start("behind").await?;
    let port = ports::free();
    let root = lab.directory().to_string_lossy().into_owned();
    lab.file("file.txt", &file())?;
    let config = format!(
        r#"
daemon off;
master_process off;
pid {root}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    types {{ text/plain txt; }}
    gzip on;
    gzip_types text/plain;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location = /connection {{ return 200 "$connection $connection_requests"; }}
        location = /forwarded {{ return 200 "$host $http_x_forwarded_for $http_x_forwarded_proto"; }}
        location = /switch {{
            proxy_pass http://{backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
        }}
    }}
}}
"#,
        backend = backend.address,
    );
    let config = lab.file("nginx.conf", &config)?;
    let mut command = Command::new(locate("nginx"));
    command.args(["-p", &root, "-c", &config]);
    let mut nginx = lab.run("nginx", command)?;
    until("nginx serves", LIMIT, async || {
        if let Some(status) = nginx.ended() {
            return Some(Err(Failure::new(format!("nginx ended: {status}"))));
        }
        let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        connected.ok().map(|_| Ok(()))
    })
    .await??;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let proxies = vec![proxy("web", address, &[domains(&["a.test", "127.0.0.1"])])];
    Ok(Web {
        site: Site::start(lab, proxies, |frps| frps).await?,
        _backend: backend,
        _nginx: nginx,
    })
}

/// Ranges, conditions and errors, all on one connection.
async fn exchanges(lab: &Lab) -> Outcome {
    let web = start(lab).await?;
    let mut user = web.site.user().await?;
    let request = |fields: &str| format!("GET /file.txt HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    let length = file().len();

    user.send(request("Range: bytes=5-12\r\n")).await?;
    let answer = user.answer().await?;
    assert!(
        answer.starts_with("HTTP/1.1 206 Partial Content\n"),
        "{answer}"
    );
    let range = format!("\ncontent-range: bytes 5-12/{length}\n");
    assert!(answer.contains(&range), "{answer}");
    assert!(answer.ends_with("\n\n0\nline 1"), "{answer}");
    let field = |name: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let tag = field("etag:");

    user.send(request("Range: bytes=0-5,7-12\r\n")).await?;
    let answer = user.answer().await?;
    assert!(
        answer.contains("\ncontent-type: multipart/byteranges; boundary="),
        "{answer}"
    );
    user.send(request(&format!("If-None-Match: {tag}\r\n")))
        .await?;
    let answer = user.answer().await?;
    assert!(
        answer.starts_with("HTTP/1.1 304 Not Modified\n"),
        "{answer}"
    );
    user.send("HEAD /file.txt HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await?;
    let answer = user.answer_to_head().await?;
    assert!(
        answer.contains(&format!("\ncontent-length: {length}\n")),
        "{answer}"
    );
    user.send("POST /file.txt HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc")
        .await?;
    let answer = user.answer().await?;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    user.send(get("a.test", "/forwarded")).await?;
    assert!(user.answer().await?.ends_with("\n\na.test 127.0.0.1 http"));
    Ok(())
}

/// Users one after another share a connection to nginx.
async fn keep_alive(lab: &Lab) -> Outcome {
    let web = start(lab).await?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let answer = web.site.ask(&get("a.test", "/connection")).await?;
        let body = answer.lines().last().unwrap_or_default();
        let (connection, requests) = body.split_once(' ').unwrap_or_default();
        seen.push((connection.to_owned(), requests.to_owned()));
    }
    let connection = seen[0].0.as_str();
    let expected = ["1", "2", "3"].map(|n| (connection.to_owned(), n.to_owned()));
    assert_eq!(seen, expected);
    Ok(())
}

/// Through nginx to a service behind it.
async fn websocket(lab: &Lab) -> Outcome {
    let web = start(lab).await?;
    let mut user = web.site.user().await?;
    user.send(
        "GET /switch HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await?;
    let answer = user.answer().await?;
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\n"),
        "{answer}"
    );
    assert_eq!(user.bytes(18).await?, "from the backend, ");
    let frames = "0123456789".repeat(30_000);
    user.send(&frames).await?;
    assert_eq!(user.bytes(frames.len()).await?, frames);
    Ok(())
}

/// Whole files, plain and compressed, in both versions of HTTP.
async fn curl(lab: &Lab) -> Outcome {
    let web = start(lab).await?;
    let url = format!("http://{}/file.txt", web.site.vhost);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for compressed in [false, true] {
            let mut arguments = vec!["-sS", "--noproxy", "*", version, "-w", "%{http_version}"];
            let head = lab.directory().join("head").to_string_lossy().into_owned();
            arguments.extend(["-D", &head, &url]);
            if compressed {
                arguments.push("--compressed");
            }
            let (code, printed) = run("curl", &arguments, b"").await?;
            assert_eq!(code, 0, "{arguments:?}");
            let version = if version == "--http1.1" { "1.1" } else { "2" };
            assert!(
                printed == (file() + version).as_bytes(),
                "{arguments:?}: the file came changed"
            );
            let head = std::fs::read_to_string(head)?.to_lowercase();
            assert_eq!(
                head.contains("content-encoding: gzip"),
                compressed,
                "{head}"
            );
        }
    }
    Ok(())
}
