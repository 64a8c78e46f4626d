//! Proxies that frps pushes to clients whose configuration allows it: docs/pushed-proxies.md.

mod hostile;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use conformance::config::Value;
use conformance::managed::{Answer, Managed, ask, tcp};
use conformance::service::{self, Kind};
use conformance::wait::{LIMIT, until, within};
use conformance::{Case, Lab, Outcome, Pair, Setup, ports};
use frp_proto::msg::Version;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::management::read_until;

const OURS: &str = "upstream pushes no proxies";
const BOTH: [(&str, Version); 2] = [("v1", Version::V1), ("v2", Version::V2)];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::pair("push/not_allowed", not_allowed).our_frps(OURS),
        Case::pair("push/any_server", any_server).our_frpc("upstream's frpc refuses the key"),
        Case::pair("push/reload", reload).ours_only(OURS),
        Case::pair("push/told", told).ours_only(OURS),
        Case::pair("push/health", health).ours_only(OURS),
    ];
    for (name, version) in BOTH {
        cases.extend([
            Case::pair(format!("push/{name}"), async move |lab| {
                pushed(lab, name).await
            })
            .ours_only(OURS),
            Case::pair(format!("push/reconnect/{name}"), async move |lab| {
                reconnect(lab, name).await
            })
            .ours_only(OURS),
            Case::frps(format!("push/hostile_client/{name}"), async move |lab| {
                hostile::client(lab, version).await
            })
            .ours_only(OURS),
        ]);
    }
    cases
}

/// The key of the client.
const KEY: &str = "bench";

/// An frps with the admin API, whose client allows proxies to a service.
struct Bench {
    pair: Pair,
    admin: SocketAddr,
    /// The service that is allowed.
    echo: SocketAddr,
    /// Where users of the pushed proxy connect to.
    user: SocketAddr,
}

fn allowed(setup: Setup<'_>, echo: SocketAddr) -> Setup<'_> {
    setup
        .frpc("clientID", KEY)
        .frpc(
            "acceptProxies.localTargets",
            Value::Toml(format!("[\"{echo}\"]")),
        )
        .frpc("acceptProxies.types", Value::Texts(vec!["tcp", "http"]))
}

impl Bench {
    async fn start(lab: &Lab, wire: &str) -> Outcome<Self> {
        let [web, remote] = [ports::free(), ports::free()];
        let echo = service::start(Kind::Echo).await?;
        let setup = allowed(lab.setup().wire(wire), echo).frps("webServer.port", web);
        Ok(Self {
            pair: setup.start().await?,
            admin: (Ipv4Addr::LOCALHOST, web).into(),
            echo,
            user: (Ipv4Addr::LOCALHOST, remote).into(),
        })
    }

    /// A proxy that is allowed, with some keys changed.
    fn proxy(&self, changed: Json) -> Json {
        let mut proxy = json!({
            "name": "pushed", "type": "tcp", "localPort": self.echo.port(),
            "remotePort": self.user.port(),
        });
        if let (Json::Object(proxy), Json::Object(changed)) = (&mut proxy, changed) {
            proxy.extend(changed);
        }
        proxy
    }

    async fn push(&self, proxy: &Json) -> Outcome<Answer> {
        push(self.admin, KEY, proxy).await
    }

    async fn remove(&self) -> Outcome<Answer> {
        ask(self.admin, "DELETE", &format!("{}/pushed", path(KEY)), "").await
    }

    async fn list(&self) -> Outcome<Json> {
        let answer = ask(self.admin, "GET", &path(KEY), "").await?;
        let body: Json = serde_json::from_str(&answer.body)?;
        Ok(body["data"].clone())
    }

    async fn works(&self) -> Outcome {
        let user = self.user;
        until("the pushed proxy works", 3 * LIMIT, async move || {
            service::echo(user, 1000).await.ok()
        })
        .await
    }

    async fn refused(&self) -> Outcome {
        let user = self.user;
        until("users are refused", LIMIT, async move || {
            TcpStream::connect(user).await.is_err().then_some(())
        })
        .await
    }

    /// Ends the client and waits until the server knows.
    async fn end_client(&mut self) -> Outcome {
        self.pair.frpc.kill()?;
        let admin = self.admin;
        until("the client is offline", LIMIT, async move || {
            let clients = ask(admin, "GET", "/api/v2/clients?status=offline", "").await;
            clients.ok()?.body.contains(KEY).then_some(())
        })
        .await
    }
}

fn path(key: &str) -> String {
    format!("/api/v2/clients/{key}/pushed-proxies")
}

async fn push(admin: SocketAddr, key: &str, proxy: &Json) -> Outcome<Answer> {
    ask(admin, "POST", &path(key), &proxy.to_string()).await
}

/// A proxy is pushed, serves users and is removed; what the client does not allow is refused with its reason.
async fn pushed(lab: &Lab, wire: &str) -> Outcome {
    let mut bench = Bench::start(lab, wire).await?;
    assert_eq!(
        bench.list().await?,
        json!({ "accepts": true, "proxies": [] })
    );
    let answer = bench.push(&bench.proxy(json!({}))).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    bench.works().await?;
    bench.pair.echo().await?;
    let [port, echo] = [bench.user, bench.echo].map(|address| address.port());
    let target = bench.echo.to_string();
    let list = json!({
        "accepts": true,
        "proxies": [{ "name": "pushed", "type": "tcp", "target": target, "running": true }],
    });
    assert_eq!(bench.list().await?, list);
    let log = format!(
        "proxy [pushed] type [tcp] to [{target}], pushed by the server [127.0.0.1], is accepted"
    );
    bench.pair.frpc.logs(&log).await?;
    let socks = json!({ "plugin": { "type": "socks5" } });
    let long = json!({ "metadatas": { "a": "x".repeat(10_240) } });
    for (changed, status, why) in [
        (
            json!({ "localPort": port }),
            422,
            "is not allowed by acceptProxies.localTargets",
        ),
        (
            json!({ "localIP": "localhost" }),
            422,
            "is not allowed by acceptProxies.localTargets",
        ),
        (
            json!({ "localIP": "127.0.0.2" }),
            422,
            "is not allowed by acceptProxies.localTargets",
        ),
        (
            json!({ "type": "udp" }),
            422,
            "type udp is not allowed by acceptProxies.types",
        ),
        (socks, 422, "may not have a plugin"),
        (
            json!({ "name": "web" }),
            422,
            "a proxy of its own with this name",
        ),
        (
            json!({ "localPort": echo, "includes": ["/"] }),
            422,
            "includes",
        ),
        (json!({ "name": 7 }), 400, "name is required"),
        (long, 413, "10240 bytes"),
    ] {
        let answer = bench.push(&bench.proxy(changed.clone())).await?;
        assert_eq!(answer.status, status, "{changed}: {answer:?}");
        assert!(answer.body.contains(why), "{changed}: {answer:?}");
    }
    let nonsense = ask(bench.admin, "POST", &path(KEY), "nonsense").await?;
    assert_eq!(nonsense.status, 400);
    let nobody = push(bench.admin, "nobody", &bench.proxy(json!({}))).await?;
    assert_eq!(nobody.status, 404);
    bench.pair.frpc.logs("is refused: ").await?;
    // What was there is as it was.
    assert_eq!(bench.list().await?, list);
    bench.works().await?;
    let removed = bench.remove().await?;
    assert!(removed.body.contains("\"removed\":true"), "{removed:?}");
    bench.refused().await?;
    assert_eq!(bench.remove().await?.status, 404);
    bench.pair.echo().await
}

/// The proxy outlives sessions, either program's restart, and is removed from a client that is away.
async fn reconnect(lab: &Lab, wire: &str) -> Outcome {
    let mut bench = Bench::start(lab, wire).await?;
    let proxy = bench.proxy(json!({}));
    assert_eq!(bench.push(&proxy).await?.status, 200);
    bench.works().await?;
    let kick = format!("/api/v2/clients/{KEY}/kick");
    assert_eq!(ask(bench.admin, "POST", &kick, "").await?.status, 200);
    bench
        .pair
        .frpc
        .logs_times("login to server success", 2)
        .await?;
    bench.works().await?;
    // The client's memory outlives the server.
    bench.pair.frps.kill()?;
    bench.refused().await?;
    bench.pair.start_frps_again(lab).await?;
    bench.works().await?;
    assert_eq!(bench.list().await?["proxies"], json!([]));
    assert_eq!(bench.push(&proxy).await?.status, 200);
    // The server's outlives the client.
    bench.end_client().await?;
    let offline = bench.push(&proxy).await?;
    assert_eq!(offline.status, 409, "{offline:?}");
    bench.pair.start_frpc_again(lab).await?;
    bench.works().await?;
    bench.end_client().await?;
    let removed = bench.remove().await?;
    assert!(removed.body.contains("\"removed\":false"), "{removed:?}");
    bench.pair.start_frpc_again(lab).await?;
    bench
        .pair
        .frpc
        .logs("pushed proxy [pushed] is not removed")
        .await?;
    assert_eq!(bench.list().await?["proxies"], json!([]));
    bench.refused().await?;
    bench.pair.echo().await
}

/// Pushes are on the event stream and in the audit logs of both programs.
async fn told(lab: &Lab) -> Outcome {
    let echo = service::start(Kind::Echo).await?;
    let web = ports::free();
    let audit = |name: &str| lab.directory().join(name).to_string_lossy().into_owned();
    let setup = allowed(lab.setup(), echo)
        .frps("webServer.port", web)
        .frps("log.audit", audit("frps-audit.log"))
        .frpc("log.audit", audit("frpc-audit.log"));
    let _pair = setup.start().await?;
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, web));
    let mut stream = TcpStream::connect(admin).await?;
    let request = "GET /api/v2/events HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, ": frps").await?;
    let proxy = json!({ "name": "pushed", "type": "tcp", "localPort": echo.port() });
    let other = json!({ "name": "other", "type": "udp", "localPort": echo.port() });
    assert_eq!(push(admin, KEY, &proxy).await?.status, 200);
    assert_eq!(push(admin, KEY, &other).await?.status, 422);
    let one = format!("{}/pushed", path(KEY));
    assert_eq!(ask(admin, "DELETE", &one, "").await?.status, 200);
    for event in ["push_accepted", "push_refused", "push_removed"] {
        read_until(&mut stream, &mut seen, &format!("event: {event}\n")).await?;
    }
    for (file, texts) in [
        (
            "frps-audit.log",
            ["\"client\":\"bench\"", "\"name\":\"pushed\""],
        ),
        (
            "frpc-audit.log",
            ["\"server\":\"127.0.0.1\"", "\"name\":\"pushed\""],
        ),
    ] {
        let line = until(format!("pushes in {file}"), LIMIT, async || {
            let log = std::fs::read_to_string(lab.directory().join(file)).ok()?;
            let mut lines = log
                .lines()
                .filter(|line| line.contains("\"event\":\"push\""));
            let [accepted, refused] = [lines.next()?, lines.next()?].map(str::to_owned);
            Some((accepted, refused))
        });
        let (accepted, refused) = line.await?;
        assert!(accepted.contains("\"outcome\":\"accepted\""), "{accepted}");
        assert!(
            texts.iter().all(|text| accepted.contains(text)),
            "{accepted}"
        );
        assert!(refused.contains("\"outcome\":\"refused\""), "{refused}");
        assert!(refused.contains("type udp is not allowed"), "{refused}");
    }
    Ok(())
}

/// Health checks of a pushed proxy ask its target only, whereto it may send them.
async fn health(lab: &Lab) -> Outcome {
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let away = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
        elsewhere.local_addr()?
    );
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let echo = target.local_addr()?;
    let web = ports::free();
    let setup = allowed(lab.setup(), echo).frps("webServer.port", web);
    let mut pair = setup.start().await?;
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, web));
    let check = json!({ "type": "http", "path": "/", "intervalSeconds": 1 });
    let proxy = json!({
        "name": "pushed", "type": "tcp", "localPort": echo.port(), "healthCheck": check,
    });
    assert_eq!(push(admin, KEY, &proxy).await?.status, 200);
    let redirected = within("a check", LIMIT, async {
        let (mut stream, _) = target.accept().await?;
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await?;
        stream.write_all(away.as_bytes()).await?;
        Outcome::Ok(())
    });
    redirected.await??;
    pair.frpc.logs("redirect to another address").await?;
    let asked = tokio::time::timeout(Duration::from_millis(100), elsewhere.accept());
    assert!(asked.await.is_err(), "the check went elsewhere");
    Ok(())
}

/// A client that has not said that it allows it is sent nothing.
async fn not_allowed(lab: &Lab) -> Outcome {
    let web = ports::free();
    let setup = lab.setup().frpc("clientID", KEY);
    let mut pair = setup.frps("webServer.port", web).start().await?;
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, web));
    let proxy = json!({ "name": "pushed", "type": "tcp", "localPort": 80 });
    let mut user = TcpStream::connect(pair.user).await?;
    let answer = push(admin, KEY, &proxy).await?;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("acceptProxies"), "{answer:?}");
    let list = ask(admin, "GET", &path(KEY), "").await?;
    let nothing = "\"data\":{\"accepts\":false,\"proxies\":[]}";
    assert!(list.body.contains(nothing), "{list:?}");
    let one = format!("{}/pushed", path(KEY));
    assert_eq!(ask(admin, "DELETE", &one, "").await?.status, 404);
    service::exchange(&mut user, 1000).await?;
    pair.echo().await?;
    let logins = pair.frps.log().matches("client login info").count();
    assert_eq!(logins, 1);
    assert!(pair.frpc.ended().is_none());
    Ok(())
}

/// A client that allows it works with every server as ever.
async fn any_server(lab: &Lab) -> Outcome {
    for (wire, _) in BOTH {
        let echo = service::start(Kind::Echo).await?;
        let pair = allowed(lab.setup().wire(wire), echo).start().await?;
        pair.echo().await?;
    }
    Ok(())
}

/// A reload leaves pushed proxies alone, unless it withdraws the permission or takes the name.
async fn reload(lab: &Lab) -> Outcome {
    let [web, remote, own] = [ports::free(), ports::free(), ports::free()];
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, web));
    let user = SocketAddr::from((Ipv4Addr::LOCALHOST, remote));
    let setup = lab.setup().frps("webServer.port", web);
    let accept = "clientID = \"bench\"\nacceptProxies.localTargets = [\"127.0.0.1:ECHO\"]\n";
    let managed = Managed::start_with(lab, &setup, accept).await?;
    let port = managed.echo.port();
    let proxy = |name: &str| {
        let remote = if name == "pushed" { remote } else { own };
        json!({ "name": name, "type": "tcp", "localPort": port, "remotePort": remote })
    };
    for name in ["pushed", "other"] {
        assert_eq!(push(admin, KEY, &proxy(name)).await?.status, 200);
    }
    let works = async || service::echo(user, 100).await.ok();
    until("the pushed proxy works", LIMIT, works).await?;
    managed
        .shows(&["\"source\":\"pushed\"", "\"running\""])
        .await?;
    let mut connected = TcpStream::connect(user).await?;
    service::exchange(&mut connected, 100).await?;
    managed.write(&format!("{accept}{}", tcp("other", "ECHO", own, "")))?;
    managed.reload().await?;
    let status = managed.ask("GET", "/api/status", "").await?.body;
    assert_eq!(
        status.matches("\"source\":\"pushed\"").count(),
        1,
        "{status}"
    );
    service::echo(user, 100).await?;
    managed.write("clientID = \"bench\"\n")?;
    managed.reload().await?;
    until("users are refused", LIMIT, async || {
        TcpStream::connect(user).await.is_err().then_some(())
    })
    .await?;
    // Who was connected stays, as with any proxy that is closed.
    service::exchange(&mut connected, 100).await?;
    let refused = push(admin, KEY, &proxy("pushed")).await?;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.body.contains("does not allow it"), "{refused:?}");
    managed.write(accept)?;
    managed.reload().await?;
    assert_eq!(push(admin, KEY, &proxy("pushed")).await?.status, 200);
    until("the pushed proxy works again", LIMIT, works).await
}
