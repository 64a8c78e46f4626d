//! frps's admin API, to the byte but for times: each answer is compared with the same text, whichever program gives it.

mod http;
mod kinds;
mod lists;
mod views;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};

use conformance::datagram::User;
use conformance::peers::Maker;
use conformance::raw::{Link, login_message, read_all, send_and_read_all, tcp_proxy};
use conformance::wait::{LIMIT, until, within};
use conformance::{Case, Failure, Lab, Outcome, Setup, ports, service};
use frp_proto::msg::{Login, Version};
use frp_proto::tls::{ClientTls, TlsFiles};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::frps("frps_admin/http", http::run),
        Case::frps("frps_admin/open_without_credentials", async |lab| {
            let web = ports::free();
            let (_frps, _) = lab
                .setup()
                .frps("webServer.port", web)
                .start_server()
                .await?;
            expect(
                web,
                "",
                &[("GET /api/clients", "200 application/json", "[]\n")],
            )
            .await
        }),
        Case::frps("frps_admin/port_taken", async |lab| {
            let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let web = other.local_addr()?;
            let (mut frps, _) = admin(lab, web.port()).start_server().await?;
            let error = format!("listen tcp {web}: bind: address already in use");
            frps.logs(&error).await?;
            let status = until("the end of frps", LIMIT, async || frps.ended()).await?;
            assert_eq!(status.code(), Some(1));
            Ok(())
        }),
        Case::frps("frps_admin/tls", tls),
        Case::frps("frps_admin/views", views::run),
        Case::frps("frps_admin/kinds", kinds::run),
        Case::frps("frps_admin/lists", lists::run),
        Case::frps("frps_admin/clients", clients),
        Case::frps("frps_admin/replacement", replacement),
        Case::pair("frps_admin/traffic", traffic),
        Case::pair("frps_admin/traffic_of_datagrams", traffic_of_datagrams),
    ]
}

const CREDENTIALS: &str = "Authorization: Basic dTpw\r\n";

/// A server whose admin server listens on `web`, for [`CREDENTIALS`].
fn admin(lab: &Lab, web: u16) -> Setup<'_> {
    lab.setup()
        .frps("webServer.port", web)
        .frps("webServer.user", "u")
        .frps("webServer.password", "p")
        .frps("webServer.pprofEnable", true)
        .frps("enablePrometheus", true)
}

pub(super) struct Answer {
    status: String,
    headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    /// Status, and what a client goes by: the content type, or where it is sent.
    fn head(&self) -> String {
        let mut head = self.status.clone();
        for name in [
            "location",
            "content-type",
            "x-content-type-options",
            "www-authenticate",
        ] {
            if let Some(value) = self.headers.get(name) {
                head = format!("{head} {value}");
            }
        }
        head
    }
}

/// Asks with HTTP/1.0, in which a body has no chunks.
pub(super) async fn ask(web: u16, line: &str, headers: &str) -> Outcome<Answer> {
    let request = format!("{line} HTTP/1.0\r\n{headers}\r\n");
    let answer = send_and_read_all(web, request.as_bytes(), LIMIT).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let broken = || Failure::new(format!("{line}: no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    Ok(Answer {
        status: status.ok_or_else(broken)?.to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    })
}

/// Puts `T` for times and for dates.
fn masked(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some(at) = ["At\":", "Time\":\"", "date\":\""]
        .iter()
        .filter_map(|key| rest.find(key).map(|at| at + key.len()))
        .min()
    {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let time = |c: char| !matches!(c, '"' | ',' | '}');
        let end = rest.find(|c| !time(c)).unwrap_or(rest.len());
        if end > 0 {
            out.push('T');
        }
        rest = &rest[end..];
    }
    out + rest
}

/// Request, head and masked body of each answer.
async fn expect(web: u16, headers: &str, rows: &[(&str, &str, &str)]) -> Outcome {
    for (line, head, body) in rows {
        let answer = ask(web, line, headers).await?;
        assert_eq!(answer.head(), *head, "{line}: {}", answer.body);
        assert_eq!(masked(&answer.body), *body, "{line}");
    }
    Ok(())
}

const JSON: &str = "200 application/json";
const TEXT_404: &str = "404 text/plain; charset=utf-8 nosniff";
const TEXT_401: &str = "401 text/plain; charset=utf-8 nosniff Basic realm=\"Restricted\"";

fn alice(client_id: &str) -> Login {
    Login {
        user: "alice".into(),
        client_id: client_id.into(),
        hostname: "host-1".into(),
        ..login_message()
    }
}

/// TLS to a TLS port, and plain HTTP to it.
async fn tls(lab: &Lab) -> Outcome {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let web = ports::free();
    let setup = admin(lab, web)
        .frps("webServer.tls.certFile", lab.file("web.crt", &cert.pem())?)
        .frps(
            "webServer.tls.keyFile",
            lab.file("web.key", &signing_key.serialize_pem())?,
        );
    let (_frps, _) = setup.start_server().await?;
    let request = format!("GET /api/clients HTTP/1.0\r\n{CREDENTIALS}\r\n");
    let plain = send_and_read_all(web, request.as_bytes(), LIMIT).await?;
    let refusal =
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    assert_eq!(String::from_utf8_lossy(&plain), refusal);
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, web)).await?;
    let client = ClientTls::new(TlsFiles::default());
    let mut stream = within("the handshake", LIMIT, client.connect(stream, "localhost")).await??;
    stream.write_all(request.as_bytes()).await?;
    let answer = read_all(&mut stream, LIMIT).await?;
    assert!(answer.starts_with(b"HTTP/1.0 200 OK\r\n") && answer.ends_with(b"\r\n\r\n[]\n"));
    Ok(())
}

/// The samples of `frp_server_*` must be exactly these; help and type are upstream's.
async fn metrics(web: u16, samples: &[(&str, &str)]) -> Outcome {
    const HELP: [(&str, &str, &str); 6] = [
        (
            "frp_server_client_counts",
            "gauge",
            "The current client counts of frps",
        ),
        (
            "frp_server_connection_counts",
            "gauge",
            "The current connection counts",
        ),
        (
            "frp_server_proxy_counts",
            "gauge",
            "The current proxy counts",
        ),
        (
            "frp_server_proxy_counts_detailed",
            "gauge",
            "The current number of proxies grouped by type and name",
        ),
        ("frp_server_traffic_in", "counter", "The total in traffic"),
        ("frp_server_traffic_out", "counter", "The total out traffic"),
    ];
    let answer = ask(web, "GET /metrics", CREDENTIALS).await?;
    assert_eq!(
        answer.head(),
        "200 text/plain; version=0.0.4; charset=utf-8; escaping=values"
    );
    let mut expected = String::new();
    for (name, kind, help) in HELP {
        let of_name = |sample: &&(&str, &str)| sample.0.split('{').next() == Some(name);
        let of_name: Vec<_> = samples.iter().filter(of_name).collect();
        if !of_name.is_empty() {
            let _ = write!(expected, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
        for (sample, value) in of_name {
            let _ = writeln!(expected, "{sample} {value}");
        }
    }
    let lines = answer.body.split_inclusive('\n');
    let ours: String = lines.filter(|line| line.contains("frp_server_")).collect();
    assert_eq!(ours, expected);
    for name in [
        "process_cpu_seconds_total ",
        "process_open_fds ",
        "process_resident_memory_bytes ",
    ] {
        assert!(answer.body.contains(name), "{name}");
    }
    Ok(())
}

/// Who stays listed, who does not, and who may have whose id.
async fn clients(lab: &Lab) -> Outcome {
    let web = ports::free();
    let (_frps, server) = admin(lab, web).start_server().await?;
    let link = Link::mux(server, Version::V1).await?;
    let client = link.login(alice("c1")).await?;
    let nobody = link.login(login_message()).await?;
    let (refused, none) = link.try_login(alice("c1")).await?;
    assert!(none.is_none());
    assert_eq!(
        refused.error,
        "client_id [c1] for user [alice] is already online"
    );
    let listed = async |query: &str| -> Outcome<Vec<String>> {
        let answer = ask(web, &format!("GET /api/clients{query}"), CREDENTIALS).await?;
        let list: Vec<serde_json::Value> = serde_json::from_str(&answer.body)?;
        let keys = list.iter().filter_map(|c| c["key"].as_str());
        Ok(keys.map(str::to_owned).collect())
    };
    let nobodys = nobody.run_id.clone();
    assert_eq!(listed("").await?, [&nobodys, "alice.c1"]);
    assert_eq!(listed("?user=").await?, [&nobodys, "alice.c1"]);
    assert_eq!(listed("?user=alice&clientId=c1").await?, ["alice.c1"]);
    assert_eq!(
        listed(&format!("?runId={}", client.run_id)).await?,
        ["alice.c1"]
    );
    assert_eq!(listed("?user=alice&clientId=c2").await?, [""; 0]);
    drop(nobody);
    until("the client is gone", LIMIT, async || {
        (listed("").await.ok()? == ["alice.c1"]).then_some(())
    })
    .await?;
    drop(client);
    until("the client is offline", LIMIT, async || {
        (listed("?status=offline").await.ok()? == ["alice.c1"]).then_some(())
    })
    .await?;
    // An id that is offline may be anybody's.
    link.login(alice("c1")).await?;
    Ok(())
}

/// A login in the place of another: one client and one proxy, however often.
async fn replacement(lab: &Lab) -> Outcome {
    let (web, port) = (ports::free(), ports::free());
    let (_frps, server) = admin(lab, web).start_server().await?;
    let mut links = Vec::new();
    for _ in 0..4 {
        links.push(Link::mux(server, Version::V1).await?);
    }
    let mut run_id = String::new();
    let mut old = Vec::new();
    for link in &links {
        let login = Login {
            run_id: run_id.clone(),
            ..alice("c1")
        };
        let mut client = within("the login", LIMIT, link.login(login)).await??;
        run_id.clone_from(&client.run_id);
        assert_eq!(
            client.register(tcp_proxy("alice.ssh", port)).await?.error,
            ""
        );
        old.push(client);
        metrics(
            web,
            &[
                ("frp_server_client_counts", "1"),
                ("frp_server_proxy_counts{type=\"tcp\"}", "1"),
                (
                    "frp_server_proxy_counts_detailed{name=\"alice.ssh\",type=\"tcp\"}",
                    "1",
                ),
            ],
        )
        .await?;
        let clients = ask(web, "GET /api/v2/clients", CREDENTIALS).await?.body;
        assert!(
            clients.contains("\"total\":1,") && clients.contains("\"online\":true"),
            "{clients}"
        );
        assert!(clients.contains(&run_id), "{clients}");
        let tasks = ask(web, "GET /debug/pprof/goroutine?debug=2", "").await?;
        assert_eq!(tasks.status, "200");
        assert!(!tasks.body.contains("(*Control).WaitForHandoff"));
        assert!(!tasks.body.contains(&run_id) || lab.frps.maker != Maker::Ours);
    }
    Ok(())
}

/// Traffic counts when its connection ends.
async fn traffic(lab: &Lab) -> Outcome {
    let web = ports::free();
    let pair = admin(lab, web).start().await?;
    let name = "{name=\"web\",type=\"tcp\"}";
    let common = [
        ("frp_server_client_counts", "1"),
        ("frp_server_proxy_counts{type=\"tcp\"}", "1"),
        (
            "frp_server_proxy_counts_detailed{name=\"web\",type=\"tcp\"}",
            "1",
        ),
    ];
    let connections = format!("frp_server_connection_counts{name}");
    let (incoming, outgoing) = (
        format!("frp_server_traffic_in{name}"),
        format!("frp_server_traffic_out{name}"),
    );
    metrics(web, &common).await?;
    let mut user = TcpStream::connect(pair.user).await?;
    service::exchange(&mut user, 1000).await?;
    metrics(web, &[&common[..], &[(&connections, "1")]].concat()).await?;
    drop(user);
    let ended = async |bytes: u64| {
        until("the connection has ended", LIMIT, async || {
            let answer = ask(web, "GET /api/proxies/web", CREDENTIALS).await.ok()?;
            let counted =
                format!("\"todayTrafficIn\":{bytes},\"todayTrafficOut\":{bytes},\"curConns\":0");
            answer.body.contains(&counted).then_some(())
        })
        .await
    };
    ended(1000).await?;
    service::echo(pair.user, 2_000_000).await?;
    ended(2_001_000).await?;
    let all = [
        (&*connections, "0"),
        (&*incoming, "2.001e+06"),
        (&*outgoing, "2.001e+06"),
    ];
    metrics(web, &[&common[..], &all].concat()).await?;
    let info = ask(web, "GET /api/serverinfo", CREDENTIALS).await?.body;
    assert!(
        info.contains("\"totalTrafficIn\":2001000,\"totalTrafficOut\":2001000,\"curConns\":0"),
        "{info}"
    );
    let week = "{\"name\":\"web\",\"trafficIn\":[2001000,0,0,0,0,0,0],\"trafficOut\":[2001000,0,0,0,0,0,0]}\n";
    expect(web, CREDENTIALS, &[("GET /api/traffic/web", JSON, week)]).await?;
    let week = ask(web, "GET /api/v2/proxies/web/traffic", CREDENTIALS).await?;
    assert!(
        week.body
            .ends_with("\"trafficIn\":2001000,\"trafficOut\":2001000}]}}\n"),
        "{}",
        week.body
    );
    Ok(())
}

/// Datagrams count at once, and are no connections.
async fn traffic_of_datagrams(lab: &Lab) -> Outcome {
    let web = ports::free();
    let setup = admin(lab, web)
        .proxy("type", "udp")
        .service(service::Kind::Datagrams);
    let pair = setup.start().await?;
    let user = User::new(pair.user).await?;
    user.echo(&[1; 100]).await?;
    user.echo(&[2; 1_400]).await?;
    let name = "{name=\"web\",type=\"udp\"}";
    let (incoming, outgoing) = (
        format!("frp_server_traffic_in{name}"),
        format!("frp_server_traffic_out{name}"),
    );
    until("the answers count", LIMIT, async || {
        let answer = ask(web, "GET /api/proxies/web", CREDENTIALS).await.ok()?;
        let counted = "\"todayTrafficIn\":1500,\"todayTrafficOut\":1500,\"curConns\":0";
        answer.body.contains(counted).then_some(())
    })
    .await?;
    let samples = [
        ("frp_server_client_counts", "1"),
        ("frp_server_proxy_counts{type=\"udp\"}", "1"),
        (&format!("frp_server_proxy_counts_detailed{name}"), "1"),
        (&incoming, "1500"),
        (&outgoing, "1500"),
    ];
    metrics(web, &samples).await
}
