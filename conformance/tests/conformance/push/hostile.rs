//! Clients that do not keep to what they may send.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::raw::{Link, login_message};
use conformance::{Lab, Outcome, ports};
use frp_proto::msg::{Login, Message, Ping, PushProxy, PushResult, Version};
use serde_json::json;

use super::{KEY, push};

/// Answers that nobody waits for, from clients that never said they accept anything, and pushes to the server.
pub(super) async fn client(lab: &Lab, version: Version) -> Outcome {
    let web = ports::free();
    let setup = lab.setup().both("transport.tcpMux", false);
    let mut pair = setup.frps("webServer.port", web).start().await?;
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, web));
    let link = Link::plain(pair.server_port, version);
    let result = |id, error: &str| {
        let error = error.into();
        Message::PushResult(PushResult { id, error })
    };
    let mut stranger = link.login(login_message()).await?;
    for id in -5..5_000 {
        stranger.control.send(result(id, "")).await?;
    }
    let proxy = json!({ "name": "x" });
    let pushed = PushProxy { id: 1, proxy };
    stranger.control.send(Message::PushProxy(pushed)).await?;
    assert_eq!(stranger.ping(Ping::default()).await?.error, "");
    // One that accepts, and answers wrongly: with other ids first, then with a refusal.
    let login = Login {
        accept_proxies: true,
        client_id: KEY.into(),
        ..login_message()
    };
    let mut client = link.login(login).await?;
    let proxy = json!({ "name": "pushed", "type": "tcp", "localPort": 80 });
    let asked = push(admin, KEY, &proxy);
    let answered = async {
        let pushed = client.control.wait_for("PushProxy", |m| match m {
            Message::PushProxy(m) => Some(m),
            _ => None,
        });
        let PushProxy { id, proxy } = pushed.await?;
        assert_eq!(proxy["name"], "pushed");
        for other in [-1, 0, id + 1, i64::MAX] {
            client.control.send(result(other, "")).await?;
        }
        for _ in 0..1_000 {
            client.control.send(result(id, "\u{1b}[31mno\r\n")).await?;
        }
        Outcome::Ok(())
    };
    let (answer, answered) = tokio::join!(asked, answered);
    answered?;
    let answer = answer?;
    assert_eq!(answer.status, 422, "{answer:?}");
    // One that does not answer: the last answer's id is not taken for the next one's.
    let answer = push(admin, KEY, &proxy).await?;
    assert_eq!(answer.status, 504, "{answer:?}");
    let skipped = client.control.wait_for("PushProxy", |m| match m {
        Message::PushProxy(_) => Some(()),
        _ => None,
    });
    skipped.await?;
    // One that is gone before it answers.
    let asked = push(admin, KEY, &proxy);
    let leaves = async {
        let pushed = client.control.wait_for("PushProxy", |m| match m {
            Message::PushProxy(_) => Some(()),
            _ => None,
        });
        pushed.await?;
        drop(client);
        Outcome::Ok(())
    };
    let (answer, left) = tokio::join!(asked, leaves);
    left?;
    let answer = answer?;
    assert_eq!(answer.status, 409, "{answer:?}");
    pair.echo().await?;
    assert!(pair.frps.ended().is_none());
    Ok(())
}
