//! frps's admin API, to the byte but for times: each answer is compared with the same text, whichever program gives it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use conformance::peers::Maker;
use conformance::raw::{Client, Link, login_message, read_all, send_and_read_all, tcp_proxy};
use conformance::wait::{LIMIT, until, within};
use conformance::{Case, Failure, Lab, Outcome, Setup, ports, service};
use frp_proto::msg::{CloseProxy, Login, Message, NewProxy, Version};
use frp_proto::tls::{ClientTls, TlsFiles};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::frps("frps_admin/http", http),
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
        Case::frps("frps_admin/views", views),
        Case::frps("frps_admin/paging", paging),
        Case::frps("frps_admin/clients", clients),
        Case::frps("frps_admin/replacement", replacement),
        Case::pair("frps_admin/traffic", traffic),
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

struct Answer {
    status: String,
    headers: BTreeMap<String, String>,
    body: String,
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
async fn ask(web: u16, line: &str, headers: &str) -> Outcome<Answer> {
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

/// Routing, authentication and errors, with nobody connected.
async fn http(lab: &Lab) -> Outcome {
    let web = ports::free();
    let (mut frps, _) = admin(lab, web).start_server().await?;
    let not_found = "404 page not found\n";
    let anybody = [
        ("GET /healthz", "200", ""),
        ("POST /healthz", "200", ""),
        ("GET /nope", TEXT_404, not_found),
        ("GET /api/serverinfo/", TEXT_404, not_found),
        ("GET /api/v2/proxies/", TEXT_404, not_found),
        ("GET /static", TEXT_404, not_found),
        ("GET /debug/pprof", TEXT_404, not_found),
        ("GET /debug/pprof/nope", TEXT_404, "Unknown profile\n"),
        ("HEAD /api/serverinfo", "405", ""),
        ("POST /api/serverinfo", "405", ""),
        ("OPTIONS /api/v2/clients", "405", ""),
        ("GET /api/proxies", "405", ""),
        ("GET /api/v2/system/prune", "405", ""),
        ("POST /static/", "405", ""),
        ("GET //api/serverinfo?x=1", "301 /api/serverinfo?x=1", ""),
        ("POST /api/../api//x/", "301 /api/x/", ""),
        ("GET /%2e%2e/*", "301 /%2A", ""),
        ("GET /api/v2/proxies/%2e%2e", "301 /api/v2", ""),
        (
            "GET /api/%zz",
            "400 text/plain; charset=utf-8",
            "400 Bad Request",
        ),
        ("GET /api/serverinfo", TEXT_401, "Unauthorized\n"),
        ("GET /metrics", TEXT_401, "Unauthorized\n"),
        ("GET /static/", TEXT_401, "Unauthorized\n"),
        ("GET /", TEXT_401, "Unauthorized\n"),
    ];
    expect(web, "", &anybody).await?;
    expect(
        web,
        "Authorization: Basic dTpx\r\n",
        &anybody[anybody.len() - 4..],
    )
    .await?;
    let v1 = |text: &str| format!("{{\"Code\":400,\"Msg\":\"{text}\"}}\n");
    let v2 = |text: &str| format!("{{\"code\":400,\"msg\":\"{text}\",\"data\":null}}\n");
    let moved = "301 /static/ text/html; charset=utf-8";
    let link = "<a href=\"/static/\">Moved Permanently</a>.\n\n";
    let no_proxy_v1 = "{\"Code\":404,\"Msg\":\"no proxy info found\"}\n";
    let no_proxy_v2 = "{\"code\":404,\"msg\":\"no proxy info found\",\"data\":null}\n";
    let empty = "{\"code\":200,\"msg\":\"success\",\"data\":{\"total\":0,\"page\":1,\"pageSize\":50,\"items\":[]}}\n";
    let (no_json, bad_json) = ("404 application/json", "400 application/json");
    let status = v2("status must be one of all, online, offline");
    let kind = v2("type must be one of tcp, udp, http, https, tcpmux, stcp, xtcp, sudp");
    let positive = v2("page must be a positive integer");
    let known = [
        ("GET /", moved, link),
        ("POST /", "301 /static/", ""),
        ("GET /static/", TEXT_404, not_found),
        ("GET /static/a/b", TEXT_404, not_found),
        ("GET /favicon.ico", TEXT_404, not_found),
        ("GET /static/index.html", "301 ./", ""),
        ("GET /api/proxy/tcp", JSON, "{\"proxies\":[]}\n"),
        ("GET /api/proxy/nope", JSON, "{\"proxies\":[]}\n"),
        ("GET /api/proxy/tcp/a%20b+c", no_json, no_proxy_v1),
        ("GET /api/proxies/x", no_json, no_proxy_v1),
        ("GET /api/proxies/x%2Fy", TEXT_404, not_found),
        ("GET /api/traffic/x", no_json, no_proxy_v1),
        ("GET /api/clients?status=nonsense", JSON, "[]\n"),
        (
            "GET /api/clients/%3Cx%3E%26",
            no_json,
            "{\"Code\":404,\"Msg\":\"client \\u003cx\\u003e\\u0026 not found\"}\n",
        ),
        (
            "DELETE /api/proxies",
            bad_json,
            &v1("status only support offline"),
        ),
        (
            "DELETE /api/proxies?status=online",
            bad_json,
            &v1("status only support offline"),
        ),
        (
            "DELETE /api/proxies?status=offline",
            JSON,
            "{\"Code\":200,\"Msg\":\"success\"}\n",
        ),
        ("GET /api/v2/clients", JSON, empty),
        ("GET /api/v2/proxies?status=OffLine&type=TCP", JSON, empty),
        ("GET /api/v2/users?q=a", JSON, empty),
        ("GET /api/v2/clients?page=0", bad_json, &positive),
        ("GET /api/v2/clients?page=-1", bad_json, &positive),
        (
            "GET /api/v2/users?page=99999999999999999999",
            bad_json,
            &positive,
        ),
        (
            "GET /api/v2/users?pageSize=x",
            bad_json,
            &v2("pageSize must be a positive integer"),
        ),
        (
            "GET /api/v2/users?pageSize=201",
            bad_json,
            &v2("pageSize must be between 1 and 200"),
        ),
        (
            "GET /api/v2/users?page=9223372036854775807",
            bad_json,
            &v2("page is too large"),
        ),
        ("GET /api/v2/clients?status=x", bad_json, &status),
        ("GET /api/v2/proxies?type=x", bad_json, &kind),
        ("GET /api/v2/proxies/x%2Fy", no_json, no_proxy_v2),
        ("GET /api/v2/proxies/x/traffic", no_json, no_proxy_v2),
        (
            "GET /api/v2/clients/%E4%B8%AD",
            no_json,
            "{\"code\":404,\"msg\":\"client 中 not found\",\"data\":null}\n",
        ),
        (
            "POST /api/v2/system/prune",
            bad_json,
            &v2("type is required"),
        ),
        (
            "POST /api/v2/system/prune?type=x",
            bad_json,
            &v2("type must be one of offline_proxies"),
        ),
        (
            "POST /api/v2/system/prune?type=Offline_Proxies",
            JSON,
            "{\"code\":200,\"msg\":\"success\",\"data\":{\"type\":\"offline_proxies\",\"cleared\":0,\"total\":0}}\n",
        ),
    ];
    expect(web, CREDENTIALS, &known).await?;
    for line in [
        "http request: [/api/v2/proxies/x/y]",
        "http response [/api/v2/proxies/x/y]: code [404]",
        "http response [/api/v2/proxies/x/y]: error: no proxy info found",
        "cleared [0] offline proxies, total [0] proxies",
        "dashboard listen on 127.0.0.1:",
    ] {
        frps.logs(line).await?;
    }
    Ok(())
}

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

/// A proxy with everything that a `tcp` proxy can tell.
fn rich_proxy(port: u16) -> NewProxy {
    let map = |entries: &[(&str, &str)]| {
        let entries = entries.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        entries.collect::<BTreeMap<String, String>>()
    };
    NewProxy {
        use_encryption: true,
        bandwidth_limit: "1MB".into(),
        annotations: map(&[("frp.example.com/owner", "<ops>")]),
        metas: map(&[("b", "2"), ("a", "1")]),
        ..tcp_proxy("alice.ssh", port)
    }
}

/// Everything that is told of a client with a proxy: while both are there, and after each has gone.
async fn views(lab: &Lab) -> Outcome {
    let (web, port) = (ports::free(), ports::free());
    let setup = admin(lab, web).frps("allowPorts", port..=port);
    let (_frps, server) = setup.start_server().await?;
    let link = Link::mux(server, Version::V1).await?;
    let mut client = link.login(alice("c1")).await?;
    assert_eq!(client.register(rich_proxy(port)).await?.error, "");
    let run_id = client.run_id.clone();

    let conf = format!(
        r#"{{"name":"alice.ssh","type":"tcp","annotations":{{"frp.example.com/owner":"\u003cops\u003e"}},"transport":{{"useEncryption":true,"bandwidthLimit":"1MB","bandwidthLimitMode":"client"}},"metadatas":{{"a":"1","b":"2"}},"loadBalancer":{{"group":""}},"healthCheck":{{"type":"","intervalSeconds":0}},"localIP":"127.0.0.1","plugin":null,"remotePort":{port}}}"#
    );
    let v1 = |conf: &str, closed: &str, status: &str| {
        format!(
            r#"{{"name":"alice.ssh","conf":{conf},"user":"alice","clientID":"c1","todayTrafficIn":0,"todayTrafficOut":0,"curConns":0,"lastStartTime":"T","lastCloseTime":"{closed}","status":"{status}"}}"#
        )
    };
    let block = format!(
        r#"{{"annotations":{{"frp.example.com/owner":"\u003cops\u003e"}},"metadatas":{{"a":"1","b":"2"}},"transport":{{"useEncryption":true,"useCompression":false,"bandwidthLimit":"1MB","bandwidthLimitMode":"client"}},"loadBalancer":{{"group":""}},"remotePort":{port}}}"#
    );
    let v2 = |block: &str, phase: &str, closed: &str| {
        format!(
            r#"{{"name":"alice.ssh","user":"alice","clientID":"c1","spec":{{"type":"tcp","tcp":{block}}},"status":{{"phase":"{phase}","todayTrafficIn":0,"todayTrafficOut":0,"curConns":0,"lastStartAt":T{closed}}}}}"#
        )
    };
    let ok = |data: &str| format!("{{\"code\":200,\"msg\":\"success\",\"data\":{data}}}\n");
    let page = |total: usize, items: &str| {
        ok(&format!(
            r#"{{"total":{total},"page":1,"pageSize":50,"items":[{items}]}}"#
        ))
    };
    let who = |run_id: &str, rest: &str| {
        format!(
            r#""key":"alice.c1","user":"alice","clientID":"c1","runID":"{run_id}","version":"0.70.1","wireProtocol":"v1","hostname":"host-1","clientIP":"127.0.0.1","firstConnectedAt":T,"lastConnectedAt":T,{rest}"#
        )
    };
    let ports = format!(
        r#""bindPort":{server},"vhostHTTPPort":0,"vhostHTTPSPort":0,"tcpmuxHTTPConnectPort":0,"kcpBindPort":0,"quicBindPort":0,"subdomainHost":"","maxPoolCount":5,"maxPortsPerClient":0,"heartbeatTimeout":-1,"allowPortsStr":"{port}-{port}""#
    );
    let totals = |n: usize| {
        format!(
            r#""totalTrafficIn":0,"totalTrafficOut":0,"curConns":0,"clientCounts":{n},"proxyTypeCount":{{"tcp":{n}}}"#
        )
    };
    let week = r#"{"date":"T","trafficIn":0,"trafficOut":0}"#;
    let week = vec![week; 7].join(",");

    let online = (v1(&conf, "", "online"), v2(&block, "online", ""));
    let here = who(&run_id, r#""online":true"#);
    expect(
        web,
        CREDENTIALS,
        &[
            ("GET /api/serverinfo", JSON, &format!("{{\"version\":\"0.70.1\",{ports},{}}}\n", totals(1))),
            ("GET /api/v2/system/info", JSON, &ok(&format!(r#"{{"version":"0.70.1","config":{{{ports},"tlsForce":false}},"status":{{{}}}}}"#, totals(1)))),
            ("GET /api/proxy/tcp", JSON, &format!("{{\"proxies\":[{}]}}\n", online.0)),
            ("GET /api/proxy/udp", JSON, "{\"proxies\":[]}\n"),
            ("GET /api/proxy/tcp/alice.ssh", JSON, &format!("{}\n", online.0)),
            ("GET /api/proxies/alice.ssh", JSON, &format!("{}\n", online.0)),
            ("GET /api/v2/proxies", JSON, &page(1, &online.1)),
            ("GET /api/v2/proxies/alice%2Essh", JSON, &ok(&online.1)),
            ("GET /api/traffic/alice.ssh", JSON, "{\"name\":\"alice.ssh\",\"trafficIn\":[0,0,0,0,0,0,0],\"trafficOut\":[0,0,0,0,0,0,0]}\n"),
            ("GET /api/v2/proxies/alice.ssh/traffic", JSON, &ok(&format!(r#"{{"name":"alice.ssh","unit":"bytes","granularity":"day","history":[{week}]}}"#))),
            ("GET /api/clients", JSON, &format!("[{{{here}}}]\n")),
            ("GET /api/clients/alice.c1", JSON, &format!("{{{here}}}\n")),
            ("GET /api/v2/clients", JSON, &page(1, &format!("{{{here}}}"))),
            ("GET /api/v2/clients/alice.c1", JSON, &ok(&format!(r#"{{{here},"status":{{"phase":"online","curConns":0,"proxyCount":1}}}}"#))),
            ("GET /api/v2/users", JSON, &page(1, r#"{"user":"alice","clientCount":1,"proxyCount":1}"#)),
            // Nothing that is registered is pruned.
            ("POST /api/v2/system/prune?type=offline_proxies", JSON, &ok(r#"{"type":"offline_proxies","cleared":0,"total":1}"#)),
        ],
    )
    .await?;
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

    close(&mut client, "alice.ssh", web).await?;
    let offline = (
        v1("null", "T", "offline"),
        v2("{}", "offline", r#","lastCloseAt":T"#),
    );
    expect(
        web,
        CREDENTIALS,
        &[
            (
                "GET /api/proxies/alice.ssh",
                JSON,
                &format!("{}\n", offline.0),
            ),
            ("GET /api/v2/proxies/alice.ssh", JSON, &ok(&offline.1)),
        ],
    )
    .await?;
    // A proxy that comes back keeps the time of its last end.
    client.register(rich_proxy(port)).await?;
    let again = v1(&conf, "T", "online");
    expect(
        web,
        CREDENTIALS,
        &[("GET /api/proxies/alice.ssh", JSON, &format!("{again}\n"))],
    )
    .await?;

    drop(client);
    drop(link);
    until("the client is offline", LIMIT, async || {
        let answer = ask(web, "GET /api/serverinfo", CREDENTIALS).await.ok()?;
        answer.body.contains(&totals(0)).then_some(())
    })
    .await?;
    let gone = who("", r#""disconnectedAt":T,"online":false"#);
    expect(
        web,
        CREDENTIALS,
        &[
            (
                "GET /api/clients?status=OFFLINE",
                JSON,
                &format!("[{{{gone}}}]\n"),
            ),
            ("GET /api/clients?status=online", JSON, "[]\n"),
            (
                "GET /api/v2/clients/alice.c1",
                JSON,
                &ok(&format!(
                    r#"{{{gone},"status":{{"phase":"offline","curConns":0,"proxyCount":1}}}}"#
                )),
            ),
            (
                "GET /api/v2/proxies?status=offline",
                JSON,
                &page(1, &offline.1),
            ),
            (
                "POST /api/v2/system/prune?type=offline_proxies",
                JSON,
                &ok(r#"{"type":"offline_proxies","cleared":1,"total":1}"#),
            ),
            ("GET /api/proxy/tcp", JSON, "{\"proxies\":[]}\n"),
            (
                "GET /api/v2/users",
                JSON,
                &page(1, r#"{"user":"alice","clientCount":1,"proxyCount":0}"#),
            ),
        ],
    )
    .await?;
    // Series stay, whatever is pruned.
    metrics(
        web,
        &[
            ("frp_server_client_counts", "0"),
            ("frp_server_proxy_counts{type=\"tcp\"}", "0"),
            (
                "frp_server_proxy_counts_detailed{name=\"alice.ssh\",type=\"tcp\"}",
                "0",
            ),
        ],
    )
    .await
}

/// Closes a proxy and waits until the statistics say so.
async fn close(client: &mut Client<'_>, name: &str, web: u16) -> Outcome {
    let message = CloseProxy {
        proxy_name: name.into(),
    };
    client.control.send(Message::CloseProxy(message)).await?;
    until("the proxy is offline", LIMIT, async || {
        let line = format!("GET /api/proxies/{name}");
        let answer = ask(web, &line, CREDENTIALS).await.ok()?;
        answer.body.contains("offline").then_some(())
    })
    .await
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
            expected += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
        for (sample, value) in of_name {
            expected += &format!("{sample} {value}\n");
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

/// Lists are sorted, filtered and cut.
async fn paging(lab: &Lab) -> Outcome {
    let web = ports::free();
    let (_frps, server) = admin(lab, web).start_server().await?;
    let link = Link::mux(server, Version::V1).await?;
    let mut alice = link.login(alice("c1")).await?;
    let mut nobody = link.login(login_message()).await?;
    for name in ["alice.b", "alice.a/b", "alice.c"] {
        assert_eq!(alice.register(tcp_proxy(name, 0)).await?.error, "");
    }
    assert_eq!(nobody.register(tcp_proxy("zebra", 0)).await?.error, "");
    for (query, total, names) in [
        ("", 4, &["alice.a/b", "alice.b", "alice.c", "zebra"][..]),
        ("?pageSize=3", 4, &["alice.a/b", "alice.b", "alice.c"]),
        ("?pageSize=3&page=2", 4, &["zebra"]),
        ("?pageSize=3&page=3", 4, &[]),
        (
            "?page=&pageSize=",
            4,
            &["alice.a/b", "alice.b", "alice.c", "zebra"],
        ),
        ("?user=", 1, &["zebra"]),
        ("?user=alice&user=x&pageSize=1", 3, &["alice.a/b"]),
        ("?clientID=&q=ICE.B", 1, &["alice.b"]),
        (
            "?clientID=c1&status=ONLINE&type=Tcp&q=b",
            2,
            &["alice.a/b", "alice.b"],
        ),
        ("?q=nothing%2Blike+it", 0, &[]),
        ("?status=offline", 0, &[]),
        ("?type=udp", 0, &[]),
        (
            "?q=%zz&type=udp;x",
            4,
            &["alice.a/b", "alice.b", "alice.c", "zebra"],
        ),
    ] {
        let answer = ask(web, &format!("GET /api/v2/proxies{query}"), CREDENTIALS).await?;
        assert_eq!(answer.head(), JSON, "{query}");
        let page: serde_json::Value = serde_json::from_str(&answer.body)?;
        let data = &page["data"];
        assert_eq!(data["total"], total, "{query}");
        let items = data["items"].as_array().cloned().unwrap_or_default();
        let shown: Vec<_> = items
            .iter()
            .filter_map(|item| item["name"].as_str())
            .collect();
        assert_eq!(shown, names, "{query}");
    }
    let found = ask(web, "GET /api/v2/proxies/alice.a%2Fb", CREDENTIALS).await?;
    assert_eq!(found.head(), JSON);
    let users = "{\"code\":200,\"msg\":\"success\",\"data\":{\"total\":2,\"page\":1,\"pageSize\":50,\"items\":[{\"user\":\"\",\"clientCount\":1,\"proxyCount\":1},{\"user\":\"alice\",\"clientCount\":1,\"proxyCount\":3}]}}\n";
    expect(web, CREDENTIALS, &[("GET /api/v2/users", JSON, users)]).await
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
