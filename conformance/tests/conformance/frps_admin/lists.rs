//! Lists of many: sorted, filtered and cut.

use conformance::raw::{Link, login_message, tcp_proxy};
use conformance::{Lab, Outcome, ports};
use frp_proto::msg::Version;

use super::{CREDENTIALS, JSON, admin, alice, ask, expect};

/// Runs the case.
pub(super) async fn run(lab: &Lab) -> Outcome {
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
