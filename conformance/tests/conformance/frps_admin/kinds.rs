//! How each proxy type is shown, online and offline.

use conformance::raw::{Client, Link};
use conformance::{Lab, Outcome, ports};
use frp_proto::msg::{NewProxy, Version};

use super::{CREDENTIALS, JSON, admin, alice, expect};

/// Type, keys of its own in v1, the same in v2.
const KINDS: [(&str, &str, &str); 5] = [
    (
        "http",
        r#","customDomains":["www.test"],"subdomain":"web","locations":["/","/api"],"hostHeaderRewrite":"inner""#,
        r#","customDomains":["www.test"],"subdomain":"web","locations":["/","/api"],"hostHeaderRewrite":"inner""#,
    ),
    (
        "https",
        r#","customDomains":["www.test"],"subdomain":"web""#,
        r#","customDomains":["www.test"],"subdomain":"web""#,
    ),
    (
        "tcpmux",
        r#","customDomains":["www.test"],"subdomain":"web","multiplexer":"httpconnect","routeByHTTPUser":"ru""#,
        r#","customDomains":["www.test"],"subdomain":"web","multiplexer":"httpconnect","routeByHTTPUser":"ru""#,
    ),
    ("stcp", "", ""),
    ("udp", r#","remotePort":PORT"#, r#","remotePort":PORT"#),
];

/// Runs the case.
pub(super) async fn run(lab: &Lab) -> Outcome {
    let (web, udp) = (ports::free(), ports::free());
    let (http, https, tcpmux) = (ports::free(), ports::free(), ports::free());
    let setup = admin(lab, web)
        .frps("vhostHTTPPort", http)
        .frps("vhostHTTPSPort", https)
        .frps("tcpmuxHTTPConnectPort", tcpmux)
        .frps("subDomainHost", "sub.test");
    let (_frps, server) = setup.start_server().await?;
    let link = Link::mux(server, Version::V2).await?;
    let mut client = link.login(alice("c1")).await?;
    let mut items = Vec::new();
    for (kind, v1, v2) in KINDS {
        register(&mut client, kind, udp).await?;
        let [v1, v2] = [v1, v2].map(|keys| keys.replace("PORT", &udp.to_string()));
        let proxy = format!(
            r#"{{"name":"alice.{kind}","conf":{{"name":"alice.{kind}","type":"{kind}","transport":{{"useCompression":true,"bandwidthLimit":"","bandwidthLimitMode":"client"}},"loadBalancer":{{"group":""}},"healthCheck":{{"type":"","intervalSeconds":0}},"localIP":"127.0.0.1","plugin":null{v1}}},"user":"alice","clientID":"c1","todayTrafficIn":0,"todayTrafficOut":0,"curConns":0,"lastStartTime":"T","lastCloseTime":"","status":"online"}}"#
        );
        let list = format!("{{\"proxies\":[{proxy}]}}\n");
        expect(
            web,
            CREDENTIALS,
            &[(&format!("GET /api/proxy/{kind}"), JSON, &list)],
        )
        .await?;
        let item = format!(
            r#"{{"name":"alice.{kind}","user":"alice","clientID":"c1","spec":{{"type":"{kind}","{kind}":{{"transport":{{"useEncryption":false,"useCompression":true,"bandwidthLimit":"","bandwidthLimitMode":"client"}},"loadBalancer":{{"group":""}}{v2}}}}},"status":{{"phase":"online","todayTrafficIn":0,"todayTrafficOut":0,"curConns":0,"lastStartAt":T}}}}"#
        );
        items.push((kind, item));
    }
    items.sort();
    let items: Vec<_> = items.into_iter().map(|(_, item)| item).collect();
    let page = format!(
        "{{\"code\":200,\"msg\":\"success\",\"data\":{{\"total\":5,\"page\":1,\"pageSize\":50,\"items\":[{}]}}}}\n",
        items.join(",")
    );
    let found = |n: usize| {
        format!(
            "{{\"code\":200,\"msg\":\"success\",\"data\":{{\"total\":1,\"page\":1,\"pageSize\":50,\"items\":[{}]}}}}\n",
            items[n]
        )
    };
    let by_port = format!("GET /api/v2/proxies?q={udp}");
    let rows = [
        ("GET /api/v2/proxies", JSON, &*page),
        ("GET /api/v2/proxies?type=HTTP&q=WWW.T", JSON, &found(0)),
        (&by_port, JSON, &found(4)),
        ("GET /api/v2/proxies?q=stcp", JSON, &found(2)),
    ];
    expect(web, CREDENTIALS, &rows).await
}

async fn register(client: &mut Client<'_>, kind: &str, udp: u16) -> Outcome {
    let proxy = NewProxy {
        proxy_name: format!("alice.{kind}"),
        proxy_type: kind.into(),
        use_compression: true,
        remote_port: if kind == "udp" { udp.into() } else { 0 },
        custom_domains: vec!["www.test".into()],
        subdomain: "web".into(),
        locations: vec!["/".into(), "/api".into()],
        host_header_rewrite: "inner".into(),
        http_user: "u".into(),
        http_pwd: "secret".into(),
        route_by_http_user: "ru".into(),
        sk: "secret".into(),
        multiplexer: "httpconnect".into(),
        ..NewProxy::default()
    };
    assert_eq!(client.register(proxy).await?.error, "", "{kind}");
    Ok(())
}
