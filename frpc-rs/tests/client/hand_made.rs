//! Logins, sessions and work connections, message by message.

use std::time::Duration;

use frp_proto::auth::{Secret, token_key};
use frp_proto::crypto;
use frp_proto::msg::{CloseProxy, Message, StartWorkConn, Version, io};
use frp_proto::net::Conn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::fake::{Control, FakeFrps, is_signed};
use crate::{TOKEN, echo, echoes, frpc, proxy, within};

const NO_RETRIES: &str = ". With loginFailExit enabled, no additional retries will be attempted";

#[tokio::test]
async fn a_refused_first_login_ends_the_client_with_the_servers_words() {
    let frps = FakeFrps::bind().await;
    let mut client = frpc(frps.addr, |_| {});
    let error = "token in login doesn't match token from configuration";
    frps.refuse(error).await;
    assert_eq!(
        client.end().await.unwrap_err(),
        format!("login to the server failed: {error}{NO_RETRIES}")
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_ends_the_client_with_the_systems_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let mut client = frpc(addr, |_| {});
    assert_eq!(
        client.end().await.unwrap_err(),
        format!(
            "login to the server failed: dial tcp {addr}: connect: connection refused{NO_RETRIES}"
        )
    );
}

#[tokio::test]
async fn a_server_that_hangs_up_ends_the_client_with_eof() {
    let frps = FakeFrps::bind().await;
    let mut client = frpc(frps.addr, |_| {});
    let (conn, _, _) = frps.login().await;
    drop(conn);
    assert_eq!(
        client.end().await.unwrap_err(),
        format!("login to the server failed: EOF{NO_RETRIES}")
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up_and_tried_again() {
    let frps = FakeFrps::bind().await;
    let start = Instant::now();
    let _client = frpc(frps.addr, |c| c.login_fail_exit = Some(false));
    let (_silent, _, _) = frps.login().await;
    let (_refused, _, login) = frps.login().await;
    let waited = start.elapsed().as_secs_f64();
    assert!((12.0..12.3).contains(&waited), "{waited}");
    assert_eq!(login.run_id, "");
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_that_hangs_is_given_up() {
    let frps = FakeFrps::bind().await;
    let start = Instant::now();
    let mut client = frpc(frps.addr, |c| c.transport.tls.enable = Some(true));
    let _silent = frps.accept().await;
    let error = client.end().await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 10, "{error}");
}

#[tokio::test]
async fn a_stop_during_login_is_immediate() {
    let frps = FakeFrps::bind().await;
    let client = frpc(frps.addr, |_| {});
    let _silent = frps.login().await;
    client.stop().await;
}

#[tokio::test]
async fn login_and_announcements_say_what_is_configured() {
    for (wire, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        let frps = FakeFrps::bind().await;
        let client = frpc(frps.addr, |c| {
            c.transport.wire_protocol = wire.into();
            c.transport.pool_count = 3;
            c.user = "alice".into();
            c.client_id = "laptop".into();
            c.metadatas.insert("team".into(), "a".into());
            c.proxies = vec![proxy("web", frps.addr), proxy("ssh", frps.addr)];
        });
        let mut control = frps.admit("0123456789abcdef").await;
        let login = &control.login;
        assert_eq!(control.version, version);
        assert!(is_signed(login));
        assert_eq!(login.version, "0.70.1");
        assert_eq!(login.os, std::env::consts::OS);
        assert_eq!(
            (login.user.as_str(), login.client_id.as_str()),
            ("alice", "laptop")
        );
        assert_eq!(login.metas["team"], "a");
        assert_eq!((login.run_id.as_str(), login.pool_count), ("", 3));
        for name in ["alice.ssh", "alice.web"] {
            assert_eq!(control.start_proxy().await.proxy_name, name);
        }
        client.stop.cancel();
        for name in ["alice.ssh", "alice.web"] {
            let close = CloseProxy {
                proxy_name: name.into(),
            };
            assert_eq!(control.read().await, Some(Message::CloseProxy(close)));
        }
        assert_eq!(control.read().await, None);
        drop(control);
        client.stop().await;
    }
}

/// Gives a work connection to a user of a proxy.
async fn start(conn: &mut TcpStream, version: Version, start: StartWorkConn) {
    io::write_message(conn, version, &Message::StartWorkConn(start))
        .await
        .unwrap();
}

fn user_of(proxy: &str) -> StartWorkConn {
    StartWorkConn {
        proxy_name: proxy.into(),
        src_addr: "127.0.0.1".into(),
        src_port: 54321,
        dst_addr: "127.0.0.1".into(),
        dst_port: 6000,
        ..StartWorkConn::default()
    }
}

#[tokio::test]
async fn a_user_reaches_the_service_behind_a_work_connection() {
    let (frps, service) = (FakeFrps::bind().await, echo().await);
    for wire in ["v1", "v2"] {
        let _client = frpc(frps.addr, |c| {
            c.transport.wire_protocol = wire.into();
            c.proxies = vec![proxy("web", service)];
        });
        let mut control = frps.admit("run").await;
        control.start_proxy().await;
        let (mut conn, hello) = control.work_conn(&frps).await;
        assert_eq!((hello.run_id.as_str(), hello.timestamp), ("run", 0));
        start(&mut conn, control.version, user_of("web")).await;
        assert!(echoes(conn, 300_000).await);
    }
}

#[tokio::test]
async fn work_connections_are_signed_with_the_scope() {
    let frps = FakeFrps::bind().await;
    let _client = frpc(frps.addr, |c| {
        c.auth.additional_scopes = vec!["NewWorkConns".into()];
    });
    let mut control = frps.admit("run").await;
    let (_conn, hello) = control.work_conn(&frps).await;
    assert!(hello.timestamp > 0);
    let key = token_key(&Secret::new(TOKEN), hello.timestamp);
    assert_eq!(hello.privilege_key, key);
}

#[tokio::test]
async fn layers_and_proxy_header_are_where_they_belong() {
    let frps = FakeFrps::bind().await;
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = frpc(frps.addr, |c| {
        let mut web = proxy("web", service.local_addr().unwrap());
        web.base.transport.use_encryption = true;
        web.base.transport.use_compression = true;
        web.base.transport.proxy_protocol_version = "v1".into();
        c.proxies = vec![web];
    });
    let mut control = frps.admit("run").await;
    let announced = control.start_proxy().await;
    assert!(announced.use_encryption && announced.use_compression);
    let (mut conn, _) = control.work_conn(&frps).await;
    start(&mut conn, control.version, user_of("web")).await;
    let key = crypto::derive_key(TOKEN.as_bytes());
    let mut user = Conn::Tcp(conn).layered(Some(&key), true);
    user.write_all(b"request").await.unwrap();
    user.flush().await.unwrap();

    let (mut local, _) = within(service.accept()).await.unwrap();
    let expected = b"PROXY TCP4 127.0.0.1 127.0.0.1 54321 6000\r\nrequest";
    let mut got = vec![0; expected.len()];
    within(local.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, expected);
    local.write_all(b"reply").await.unwrap();
    let mut got = [0; 5];
    within(user.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"reply");
}

/// Whether the client ends the connection without a word.
async fn is_closed(mut conn: TcpStream) -> bool {
    matches!(within(conn.read(&mut [0])).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn users_that_cannot_be_served_are_closed() {
    let frps = FakeFrps::bind().await;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let _client = frpc(frps.addr, |c| {
        c.proxies = vec![proxy("a-dead", nobody), proxy("b-waits", nobody)];
    });
    let mut control = frps.admit("run").await;
    control.start_proxy().await;
    assert_eq!(control.announced().await.proxy_name, "b-waits");
    let refused = StartWorkConn {
        error: "work connection pool is full, discarding".into(),
        ..StartWorkConn::default()
    };
    for answer in [
        user_of("a-dead"),
        user_of("b-waits"),
        user_of("unknown"),
        refused,
    ] {
        let (mut conn, _) = control.work_conn(&frps).await;
        start(&mut conn, control.version, answer).await;
        assert!(is_closed(conn).await);
    }
    // The session goes on.
    control.work_conn(&frps).await;
}

#[tokio::test]
async fn a_lost_session_is_resumed_under_its_run_id_and_joined_users_stay() {
    let (frps, service) = (FakeFrps::bind().await, echo().await);
    let _client = frpc(frps.addr, |c| c.proxies = vec![proxy("web", service)]);
    let mut control = frps.admit("run").await;
    control.start_proxy().await;
    let (mut user, _) = control.work_conn(&frps).await;
    start(&mut user, control.version, user_of("web")).await;
    user.write_all(b"x").await.unwrap();
    within(user.read_exact(&mut [0])).await.unwrap();
    let (idle, _) = control.work_conn(&frps).await;

    let lost = Instant::now();
    drop(control);
    let mut control = frps.admit("run").await;
    assert!(
        lost.elapsed() < Duration::from_secs(1),
        "the first re-login is immediate"
    );
    assert_eq!(control.login.run_id, "run");
    control.start_proxy().await;
    assert!(is_closed(idle).await);
    assert!(echoes(user, 100_000).await);
}

#[tokio::test]
async fn every_kind_of_loss_is_followed_by_a_login() {
    type Loss = fn(Control) -> Option<Control>;
    let losses: [Loss; 2] = [
        |control| {
            drop(control);
            None
        },
        // Nothing is read or sent any more; heartbeats find that out.
        Some,
    ];
    let frps = FakeFrps::bind().await;
    let _client = frpc(frps.addr, |c| {
        c.transport.heartbeat_interval = 1;
        c.transport.heartbeat_timeout = 1;
    });
    let mut kept = Vec::new();
    let mut control = frps.admit("run").await;
    for loss in losses {
        kept.push(loss(control));
        control = frps.admit("run").await;
        assert_eq!(control.login.run_id, "run");
    }
}
