//! Everything that is told of a client with a proxy: while both are there, and after each has gone.

use std::collections::BTreeMap;

use conformance::raw::{Client, Link, tcp_proxy};
use conformance::wait::{LIMIT, until};
use conformance::{Lab, Outcome, ports};
use frp_proto::msg::{CloseProxy, Message, NewProxy, Version};

use super::{CREDENTIALS, JSON, admin, alice, ask, expect, metrics};

/// Runs the case.
pub(super) async fn run(lab: &Lab) -> Outcome {
    let (web, port) = (ports::free(), ports::free());
    let setup = admin(lab, web).frps("allowPorts", port..=port);
    let (_frps, server) = setup.start_server().await?;
    let link = Link::mux(server, Version::V1).await?;
    let mut client = link.login(alice("c1")).await?;
    assert_eq!(client.register(proxy(port)).await?.error, "");
    let told = Told {
        server,
        port,
        run_id: client.run_id.clone(),
    };
    both_are_there(web, &told).await?;
    metrics(web, &samples("1")).await?;

    close(&mut client, "alice.ssh", web).await?;
    let v1 = format!("{}\n", Told::v1("null", "T", "offline"));
    let v2 = enveloped(&Told::offline());
    let rows = [
        ("GET /api/proxies/alice.ssh", JSON, &*v1),
        ("GET /api/v2/proxies/alice.ssh", JSON, &v2),
    ];
    expect(web, CREDENTIALS, &rows).await?;
    // A proxy that comes back keeps the time of its last end.
    client.register(proxy(port)).await?;
    let again = format!("{}\n", Told::v1(&told.conf(), "T", "online"));
    expect(
        web,
        CREDENTIALS,
        &[("GET /api/proxies/alice.ssh", JSON, &again)],
    )
    .await?;

    drop(client);
    drop(link);
    let nobody = Told::totals(0);
    until("the client is offline", LIMIT, async || {
        let answer = ask(web, "GET /api/serverinfo", CREDENTIALS).await.ok()?;
        answer.body.contains(&nobody).then_some(())
    })
    .await?;
    both_are_gone(web).await?;
    // Series stay, whatever is pruned.
    metrics(web, &samples("0")).await
}

/// A proxy with everything that a `tcp` proxy can tell.
fn proxy(port: u16) -> NewProxy {
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

async fn both_are_there(web: u16, told: &Told) -> Outcome {
    let client = Told::client(&told.run_id, r#""online":true"#);
    let with_status =
        format!(r#"{{{client},"status":{{"phase":"online","curConns":0,"proxyCount":1}}}}"#);
    let (config, totals) = (told.config(), Told::totals(1));
    let system = format!(
        r#"{{"version":"0.70.1","config":{{{config},"tlsForce":false}},"status":{{{totals}}}}}"#
    );
    let v1 = Told::v1(&told.conf(), "", "online");
    let v2 = Told::v2(&told.block(), "online", "");
    let days = [r#"{"date":"T","trafficIn":0,"trafficOut":0}"#; 7].join(",");
    let traffic =
        format!(r#"{{"name":"alice.ssh","unit":"bytes","granularity":"day","history":[{days}]}}"#);
    let user = r#"{"user":"alice","clientCount":1,"proxyCount":1}"#;
    let nothing_pruned = r#"{"type":"offline_proxies","cleared":0,"total":1}"#;
    let week = r#"{"name":"alice.ssh","trafficIn":[0,0,0,0,0,0,0],"trafficOut":[0,0,0,0,0,0,0]}"#;
    for (line, body) in [
        (
            "GET /api/serverinfo",
            format!(r#"{{"version":"0.70.1",{config},{totals}}}"#),
        ),
        ("GET /api/proxy/tcp", format!(r#"{{"proxies":[{v1}]}}"#)),
        ("GET /api/proxy/udp", r#"{"proxies":[]}"#.into()),
        ("GET /api/proxy/tcp/alice.ssh", v1.clone()),
        ("GET /api/proxies/alice.ssh", v1),
        ("GET /api/traffic/alice.ssh", week.into()),
        ("GET /api/clients", format!("[{{{client}}}]")),
        ("GET /api/clients/alice.c1", format!("{{{client}}}")),
    ] {
        expect(web, CREDENTIALS, &[(line, JSON, &format!("{body}\n"))]).await?;
    }
    for (line, data) in [
        ("GET /api/v2/system/info", system),
        ("GET /api/v2/proxies", page(&v2)),
        ("GET /api/v2/proxies/alice%2Essh", v2),
        ("GET /api/v2/proxies/alice.ssh/traffic", traffic),
        ("GET /api/v2/clients", page(&format!("{{{client}}}"))),
        ("GET /api/v2/clients/alice.c1", with_status),
        ("GET /api/v2/users", page(user)),
        (
            "POST /api/v2/system/prune?type=offline_proxies",
            nothing_pruned.into(),
        ),
    ] {
        expect(web, CREDENTIALS, &[(line, JSON, &enveloped(&data))]).await?;
    }
    Ok(())
}

async fn both_are_gone(web: u16) -> Outcome {
    let client = Told::client("", r#""disconnectedAt":T,"online":false"#);
    let with_status =
        format!(r#"{{{client},"status":{{"phase":"offline","curConns":0,"proxyCount":1}}}}"#);
    let user = r#"{"user":"alice","clientCount":1,"proxyCount":0}"#;
    let pruned = r#"{"type":"offline_proxies","cleared":1,"total":1}"#;
    for (line, body) in [
        (
            "GET /api/clients?status=OFFLINE",
            format!("[{{{client}}}]\n"),
        ),
        ("GET /api/clients?status=online", "[]\n".into()),
        ("GET /api/v2/clients/alice.c1", enveloped(&with_status)),
        (
            "GET /api/v2/proxies?status=offline",
            enveloped(&page(&Told::offline())),
        ),
        (
            "POST /api/v2/system/prune?type=offline_proxies",
            enveloped(pruned),
        ),
        ("GET /api/proxy/tcp", "{\"proxies\":[]}\n".into()),
        ("GET /api/v2/users", enveloped(&page(user))),
    ] {
        expect(web, CREDENTIALS, &[(line, JSON, &body)]).await?;
    }
    Ok(())
}

fn samples(n: &str) -> [(&'static str, &str); 3] {
    [
        ("frp_server_client_counts", n),
        ("frp_server_proxy_counts{type=\"tcp\"}", n),
        (
            "frp_server_proxy_counts_detailed{name=\"alice.ssh\",type=\"tcp\"}",
            n,
        ),
    ]
}

fn enveloped(data: &str) -> String {
    format!("{{\"code\":200,\"msg\":\"success\",\"data\":{data}}}\n")
}

/// A page with one item.
fn page(item: &str) -> String {
    format!(r#"{{"total":1,"page":1,"pageSize":50,"items":[{item}]}}"#)
}

/// The texts of what is told, as upstream has them.
struct Told {
    server: u16,
    port: u16,
    run_id: String,
}

impl Told {
    /// Keys of a client.
    fn client(run_id: &str, rest: &str) -> String {
        format!(
            r#""key":"alice.c1","user":"alice","clientID":"c1","runID":"{run_id}","version":"0.70.1","wireProtocol":"v1","hostname":"host-1","clientIP":"127.0.0.1","firstConnectedAt":T,"lastConnectedAt":T,{rest}"#
        )
    }

    /// The definition in v1.
    fn conf(&self) -> String {
        let port = self.port;
        format!(
            r#"{{"name":"alice.ssh","type":"tcp","annotations":{{"frp.example.com/owner":"\u003cops\u003e"}},"transport":{{"useEncryption":true,"bandwidthLimit":"1MB","bandwidthLimitMode":"client"}},"metadatas":{{"a":"1","b":"2"}},"loadBalancer":{{"group":""}},"healthCheck":{{"type":"","intervalSeconds":0}},"localIP":"127.0.0.1","plugin":null,"remotePort":{port}}}"#
        )
    }

    /// The definition in v2.
    fn block(&self) -> String {
        let port = self.port;
        format!(
            r#"{{"annotations":{{"frp.example.com/owner":"\u003cops\u003e"}},"metadatas":{{"a":"1","b":"2"}},"transport":{{"useEncryption":true,"useCompression":false,"bandwidthLimit":"1MB","bandwidthLimitMode":"client"}},"loadBalancer":{{"group":""}},"remotePort":{port}}}"#
        )
    }

    /// The proxy in v1.
    fn v1(conf: &str, closed: &str, status: &str) -> String {
        format!(
            r#"{{"name":"alice.ssh","conf":{conf},"user":"alice","clientID":"c1","todayTrafficIn":0,"todayTrafficOut":0,"curConns":0,"lastStartTime":"T","lastCloseTime":"{closed}","status":"{status}"}}"#
        )
    }

    /// The proxy in v2.
    fn v2(block: &str, phase: &str, closed: &str) -> String {
        format!(
            r#"{{"name":"alice.ssh","user":"alice","clientID":"c1","spec":{{"type":"tcp","tcp":{block}}},"status":{{"phase":"{phase}","todayTrafficIn":0,"todayTrafficOut":0,"curConns":0,"lastStartAt":T{closed}}}}}"#
        )
    }

    /// The proxy in v2 once it is closed.
    fn offline() -> String {
        Self::v2("{}", "offline", r#","lastCloseAt":T"#)
    }

    /// Keys of the configuration.
    fn config(&self) -> String {
        let (server, port) = (self.server, self.port);
        format!(
            r#""bindPort":{server},"vhostHTTPPort":0,"vhostHTTPSPort":0,"tcpmuxHTTPConnectPort":0,"kcpBindPort":0,"quicBindPort":0,"subdomainHost":"","maxPoolCount":5,"maxPortsPerClient":0,"heartbeatTimeout":-1,"allowPortsStr":"{port}-{port}""#
        )
    }

    /// Keys of the running totals, with `n` clients of a proxy each.
    fn totals(n: usize) -> String {
        format!(
            r#""totalTrafficIn":0,"totalTrafficOut":0,"curConns":0,"clientCounts":{n},"proxyTypeCount":{{"tcp":{n}}}"#
        )
    }
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
