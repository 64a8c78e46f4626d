//! Proxies that the server pushes in a session.

use frp_proto::config::raw::client::AcceptProxiesConfig;
use frp_proto::msg::{PushProxy, RemoveProxy};
use frp_proto::text::NOT_PUSHED;

use super::*;

fn push(id: i64, name: &str, port: u16) -> Message {
    let proxy = serde_json::json!({ "name": name, "type": "tcp", "localPort": port });
    Message::PushProxy(PushProxy { id, proxy })
}

async fn expect_result(served: &mut Served, id: i64, error: &str) {
    match served.next().await {
        Some(Message::PushResult(r)) => {
            assert_eq!(r.id, id);
            assert!(r.error.contains(error), "{r:?}");
            assert_eq!(r.error.is_empty(), error.is_empty(), "{r:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn proxies_are_pushed_as_far_as_the_client_allows() {
    let mut served = serve(|c| {
        c.accept_proxies = Some(AcceptProxiesConfig {
            local_targets: vec!["127.0.0.1:80".into()],
            max_proxies: 1,
            ..AcceptProxiesConfig::default()
        });
    });
    served.expect_announcement().await;
    let remove = |id, name: &str| {
        let name = name.into();
        Message::RemoveProxy(RemoveProxy { id, name })
    };
    served.send(push(7, "web", 80)).await;
    expect_result(&mut served, 7, "of its own").await;
    served.send(push(7, "pushed", 81)).await;
    expect_result(&mut served, 7, "127.0.0.1:81 is not allowed").await;
    served.send(remove(8, "web")).await;
    expect_result(&mut served, 8, NOT_PUSHED).await;
    served.send(push(9, "pushed", 80)).await;
    // Two tasks tell of it, in any order.
    let mut seen = [served.next().await, served.next().await];
    seen.sort_by_key(|m| m.as_ref().map(Message::id));
    assert!(matches!(&seen[0], Some(Message::NewProxy(m)) if m.proxy_name == "pushed"));
    assert!(matches!(&seen[1], Some(Message::PushResult(r)) if r.id == 9 && r.error.is_empty()));
    served.send(push(10, "more", 80)).await;
    expect_result(&mut served, 10, "1 pushed proxies at most").await;
    served.send(remove(11, "pushed")).await;
    let mut seen = [served.next().await, served.next().await];
    seen.sort_by_key(|m| m.as_ref().map(Message::id));
    assert!(matches!(&seen[0], Some(Message::CloseProxy(m)) if m.proxy_name == "pushed"));
}

#[tokio::test(start_paused = true)]
async fn without_permission_pushes_are_refused_and_floods_are_survived() {
    let mut served = serve(heartbeats);
    assert_eq!(served.next().await, Some(Message::Ping(Ping::default())));
    served.send(push(1, "pushed", 80)).await;
    expect_result(&mut served, 1, "does not allow it").await;
    for id in 0..2_000 {
        served.send(push(id, "pushed", 80)).await;
    }
    // Some were not looked at; the session goes on.
    let mut results = 0;
    loop {
        match served.next().await {
            Some(Message::PushResult(r)) => {
                assert!(!r.error.is_empty());
                results += 1;
            }
            Some(Message::Ping(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(results > 0);
}
