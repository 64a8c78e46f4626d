//! Exchanges of `xtcp` visitors and proxies, message by message.

use frp_proto::msg::{
    DetectBehavior, NatHoleClient, NatHoleReport, NatHoleResp, NatHoleSid, NatHoleVisitor,
};
use tokio::time::Instant;

use super::*;

const SECRET: &str = "sk1";
const EASY: [&str; 2] = ["127.0.0.1:1000", "127.0.0.1:1000"];

fn texts(addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|a| (*a).to_owned()).collect()
}

/// A client of a user.
async fn of_user(frps: &Frps, user: &str) -> Client {
    let login = Login {
        user: user.into(),
        ..login("")
    };
    try_login(frps, Version::V1, login).await.ok().unwrap()
}

fn proxy() -> NewProxy {
    NewProxy {
        proxy_name: "owner.p2p".into(),
        proxy_type: "xtcp".into(),
        sk: SECRET.into(),
        ..NewProxy::default()
    }
}

/// A client of `owner` with the proxy.
async fn owner(frps: &Frps) -> Client {
    let mut owner = of_user(frps, "owner").await;
    owner.open(proxy()).await.unwrap();
    owner
}

fn request(id: &str) -> NatHoleVisitor {
    NatHoleVisitor {
        transaction_id: id.into(),
        proxy_name: "owner.p2p".into(),
        pre_check: false,
        protocol: "kcp".into(),
        sign_key: token_key(&SECRET.into(), 7),
        timestamp: 7,
        mapped_addrs: texts(&EASY),
        assisted_addrs: texts(&["192.0.2.2:1000"]),
    }
}

fn check(id: &str) -> NatHoleVisitor {
    NatHoleVisitor {
        transaction_id: id.into(),
        proxy_name: "owner.p2p".into(),
        pre_check: true,
        ..NatHoleVisitor::default()
    }
}

impl Client {
    async fn say(&mut self, message: Message) {
        self.writer.write(&message).await.unwrap();
    }

    /// Registers a proxy that has no port.
    async fn open(&mut self, proxy: NewProxy) -> Result<(), String> {
        self.say(Message::NewProxy(Box::new(proxy))).await;
        match self.answer().await {
            Some(Message::NewProxyResp(resp)) if resp.error.is_empty() => Ok(()),
            Some(Message::NewProxyResp(resp)) => Err(resp.error),
            other => panic!("{other:?}"),
        }
    }

    async fn resp(&mut self) -> NatHoleResp {
        match self.answer().await {
            Some(Message::NatHoleResp(resp)) => *resp,
            other => panic!("{other:?}"),
        }
    }

    async fn asks(&mut self, m: NatHoleVisitor) -> String {
        let id = m.transaction_id.clone();
        self.say(Message::NatHoleVisitor(m)).await;
        let resp = self.resp().await;
        assert_eq!(resp.transaction_id, id);
        assert_eq!(resp.detect_behavior, DetectBehavior::default());
        resp.error
    }

    /// The session that a work connection announces.
    async fn announced(&mut self) -> String {
        let mut work = self.requested_work().await;
        assert_eq!(start(&mut work).await.proxy_name, "owner.p2p");
        let message = timeout(LIMIT, io::read_message(&mut work, Version::V1)).await;
        let Some(Message::NatHoleSid(m)) = message.unwrap().unwrap() else {
            panic!("no session");
        };
        let sid = m.sid.clone();
        let expected = NatHoleSid {
            sid: m.sid.clone(),
            ..NatHoleSid::default()
        };
        assert_eq!(m, expected);
        assert!(ends(&mut work).await);
        sid
    }
}

fn ready(sid: &str, mapped: &[&str]) -> Message {
    Message::NatHoleClient(NatHoleClient {
        transaction_id: "c".into(),
        proxy_name: "owner.p2p".into(),
        sid: sid.into(),
        mapped_addrs: texts(mapped),
        assisted_addrs: texts(&["192.0.2.3:2000"]),
    })
}

fn report(sid: &str) -> Message {
    Message::NatHoleReport(NatHoleReport {
        sid: sid.into(),
        success: true,
    })
}

#[tokio::test]
async fn only_those_who_may_are_let_in() {
    let frps = frps(|_| {}).await;
    let mut guest = of_user(&frps, "guest").await;
    let unknown = "xtcp server for [owner.p2p] doesn't exist";
    assert_eq!(guest.asks(check("1")).await, unknown);
    let mut owner = owner(&frps).await;
    let refused = "xtcp visitor user [guest] not allowed for [owner.p2p]";
    assert_eq!(guest.asks(check("2")).await, refused);
    // Knowing the secret is not enough.
    assert_eq!(guest.asks(request("3")).await, refused);
    let mut visitor = of_user(&frps, "owner").await;
    assert_eq!(visitor.asks(check("4")).await, "");
    let mut wrong = request("5");
    wrong.timestamp += 1;
    let refused = "xtcp connection of [owner.p2p] auth failed";
    assert_eq!(visitor.asks(wrong).await, refused);
    owner.close("owner.p2p").await;
    assert_eq!(visitor.asks(request("6")).await, unknown);
    let everybody = NewProxy {
        allow_users: texts(&["*"]),
        ..proxy()
    };
    owner.open(everybody).await.unwrap();
    assert_eq!(guest.asks(check("7")).await, "");
}

#[tokio::test]
async fn both_are_told_what_to_do_and_forgeries_change_nothing() {
    let frps = frps(|_| {}).await;
    let (mut owner, mut visitor) = (owner(&frps).await, of_user(&frps, "owner").await);
    let mut stranger = client(&frps).await;
    for (index, worked) in [(0, false), (1, true), (1, false)] {
        visitor.say(Message::NatHoleVisitor(request("v"))).await;
        let sid = owner.announced().await;
        stranger
            .say(ready(&sid, &["203.0.113.1:1", "203.0.113.1:1"]))
            .await;
        stranger.say(report(&sid)).await;
        // What it said has been handled when this is answered.
        stranger.ping(Ping::default()).await;
        owner.say(ready("1", &EASY)).await;
        owner
            .say(ready(&sid, &["127.0.0.1:2000", "127.0.0.1:2000"]))
            .await;
        owner
            .say(ready(&sid, &["203.0.113.1:1", "203.0.113.1:1"]))
            .await;
        let begin = Instant::now();
        let (of_visitor, of_client) =
            tokio::join!(async { (visitor.resp().await, begin.elapsed()) }, async {
                (owner.resp().await, begin.elapsed())
            });
        let client_sends = index == 0;
        let (first, second) = if client_sends {
            (of_visitor.1, of_client.1)
        } else {
            (of_client.1, of_visitor.1)
        };
        assert!(first <= second && second >= Duration::from_millis(500));
        let behavior = |sends| DetectBehavior {
            role: if sends { "sender" } else { "receiver" }.into(),
            ttl: if sends { 0 } else { 7 },
            read_timeout: 5_000,
            ..DetectBehavior::default()
        };
        let expected = NatHoleResp {
            transaction_id: "v".into(),
            sid: sid.clone(),
            protocol: "kcp".into(),
            candidate_addrs: texts(&["127.0.0.1:2000"]),
            assisted_addrs: texts(&["192.0.2.3:2000"]),
            detect_behavior: behavior(!client_sends),
            error: String::new(),
        };
        assert_eq!(of_visitor.0, expected);
        let expected = NatHoleResp {
            transaction_id: "c".into(),
            candidate_addrs: texts(&["127.0.0.1:1000"]),
            assisted_addrs: texts(&["192.0.2.2:1000"]),
            detect_behavior: behavior(client_sends),
            ..expected
        };
        assert_eq!(of_client.0, expected);
        if worked {
            // A success counts once.
            owner.say(report(&sid)).await;
            owner.say(report(&sid)).await;
        }
        owner.ping(Ping::default()).await;
    }
}

#[tokio::test]
async fn useless_and_endless_addresses_end_the_exchange() {
    let frps = frps(|_| {}).await;
    let (mut owner, mut visitor) = (owner(&frps).await, of_user(&frps, "owner").await);
    for (mapped, why) in [
        (&["127.0.0.1:1"][..], "not enough addresses"),
        (&["127.0.0.1:1", "x"], "address x: missing port in address"),
        (&["127.0.0.1:1"; 200], "too many addresses"),
    ] {
        visitor.say(Message::NatHoleVisitor(request("v"))).await;
        let sid = owner.announced().await;
        owner.say(ready(&sid, mapped)).await;
        let expected = format!("classify client nat feature error: {why}");
        assert_eq!(visitor.resp().await.error, expected);
        assert_eq!(owner.resp().await.error, expected);
    }
    // One that could not be answered with one message.
    let mut long = request("v");
    long.protocol = "x".repeat(5_000);
    visitor.say(Message::NatHoleVisitor(long)).await;
    let mut long = request("v");
    long.assisted_addrs = texts(&["192.0.2.2:1000", "192.0.2.2:1001"].repeat(200));
    visitor.say(Message::NatHoleVisitor(long)).await;
    let sid = owner.announced().await;
    owner.say(ready(&sid, &EASY)).await;
    assert_eq!(visitor.resp().await.error, "");
    assert_eq!(owner.resp().await.assisted_addrs.len(), 32);
}
