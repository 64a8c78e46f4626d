//! frpc and frps of this process, with everything between them that a configuration can put there.

use std::net::SocketAddr;
use std::time::Duration;

use frp_proto::config::raw::client::ClientConfig;
use frp_proto::config::raw::server::ServerConfig;
use frpc_rs::{Client, Phase, Resources};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{Frpc, TOKEN, echo, echoes, frpc, proxy, within};

struct Frps {
    addr: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Frps {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Frps {
    async fn start(port: u16, mux: bool) -> Self {
        let mut config = ServerConfig {
            bind_addr: "127.0.0.1".into(),
            bind_port: port.into(),
            proxy_bind_addr: "127.0.0.1".into(),
            user_conn_timeout: 10,
            ..ServerConfig::default()
        };
        config.transport.tcp_mux = Some(mux);
        config.transport.max_pool_count = 5;
        let stop = CancellationToken::new();
        let settings = frps_rs::Settings::new(&config).unwrap();
        let server = frps_rs::Server::bind(settings, TOKEN.into(), stop.clone())
            .await
            .unwrap();
        let addr = server.local_addr().unwrap();
        let task = tokio::spawn(server.serve());
        Self { addr, stop, task }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        within(&mut self.task).await.unwrap();
    }
}

/// A port that is free now.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// Connects to a proxy's port until a user is served there.
async fn served(port: u16) {
    within(async {
        loop {
            if let Ok(user) = TcpStream::connect(("127.0.0.1", port)).await
                && echoes(user, 1).await
            {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A client whose only proxy, on `port`, leads to an echo service.
async fn client(frps: &Frps, port: u16, edit: impl FnOnce(&mut ClientConfig)) -> Frpc {
    let mut web = proxy("web", echo().await);
    web.kind = frp_proto::config::raw::client::ProxyKind::Tcp {
        remote_port: port.into(),
    };
    frpc(frps.addr, |c| {
        c.proxies = vec![web];
        c.login_fail_exit = Some(false);
        edit(c);
    })
}

#[tokio::test]
async fn users_are_served_over_every_combination_of_layers() {
    for mux in [true, false] {
        let frps = Frps::start(0, mux).await;
        for (tls, first_byte) in [(false, false), (true, false), (true, true)] {
            for wire in ["v1", "v2"] {
                for (encryption, compression) in [(false, false), (true, true)] {
                    let port = free_port().await;
                    let client = client(&frps, port, |c| {
                        c.transport.tcp_mux = Some(mux);
                        c.transport.wire_protocol = wire.into();
                        c.transport.tls.enable = Some(tls);
                        c.transport.tls.disable_custom_tls_first_byte = Some(!first_byte);
                        c.proxies[0].base.transport.use_encryption = encryption;
                        c.proxies[0].base.transport.use_compression = compression;
                    })
                    .await;
                    served(port).await;
                    let user = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    assert!(
                        echoes(user, 1_000_000).await,
                        "mux {mux} tls {tls} {wire} encryption {encryption}"
                    );
                    client.stop().await;
                }
            }
        }
    }
}

#[tokio::test]
async fn many_users_at_once_are_all_served() {
    for mux in [true, false] {
        let frps = Frps::start(0, mux).await;
        let port = free_port().await;
        let _client = client(&frps, port, |c| c.transport.tcp_mux = Some(mux)).await;
        served(port).await;
        let users: Vec<_> = (0..200)
            .map(|_| {
                tokio::spawn(async move {
                    let user = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    echoes(user, 10_000).await
                })
            })
            .collect();
        for user in users {
            assert!(user.await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_wrong_token_is_told_through_every_layer() {
    for mux in [true, false] {
        let frps = Frps::start(0, mux).await;
        let mut config = ClientConfig {
            server_addr: "127.0.0.1".into(),
            server_port: frps.addr.port().into(),
            ..ClientConfig::default()
        };
        config.transport.tcp_mux = Some(mux);
        let error = within(frpc_rs::run(
            config,
            "wrong".into(),
            Resources::default(),
            CancellationToken::new(),
        ))
        .await
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "login to the server failed: token in login doesn't match token from configuration. \
             With loginFailExit enabled, no additional retries will be attempted"
        );
    }
}

#[tokio::test]
async fn peers_that_do_not_agree_on_the_mux_part_without_a_word() {
    let frps = Frps::start(0, true).await;
    let mut client = frpc(frps.addr, |_| {});
    let error = client.end().await.unwrap_err();
    assert!(
        error.starts_with("login to the server failed: EOF."),
        "{error}"
    );
    // This server leaves bytes unread, so the client may see a reset instead.
    let frps = Frps::start(0, false).await;
    let mut client = frpc(frps.addr, |c| c.transport.tcp_mux = Some(true));
    let error = client.end().await.unwrap_err();
    let texts = ["EOF.", "Connection reset"].map(|t| format!("login to the server failed: {t}"));
    assert!(texts.iter().any(|t| error.starts_with(t)), "{error}");
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    for mux in [true, false] {
        let frps = Frps::start(0, mux).await;
        let (bind_port, port) = (frps.addr.port(), free_port().await);
        let _client = client(&frps, port, |c| c.transport.tcp_mux = Some(mux)).await;
        served(port).await;
        frps.stop().await;
        let _frps = Frps::start(bind_port, mux).await;
        served(port).await;
    }
}

#[tokio::test]
async fn a_stopped_client_leaves_its_port_and_name_free() {
    let frps = Frps::start(0, true).await;
    let port = free_port().await;
    for _ in 0..2 {
        let client = client(&frps, port, |c| c.transport.tcp_mux = Some(true)).await;
        served(port).await;
        client.stop().await;
        // Frps has taken the CloseProxy before the session ended.
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    }
}

#[tokio::test]
async fn an_embedding_program_changes_asks_and_stops_its_client() {
    let frps = Frps::start(0, true).await;
    let (one, two) = (free_port().await, free_port().await);
    let service = echo().await;
    let on = |name: &str, port: u16| {
        let mut proxy = proxy(name, service);
        proxy.kind = frp_proto::config::raw::client::ProxyKind::Tcp {
            remote_port: port.into(),
        };
        proxy
    };
    let mut config = ClientConfig {
        server_addr: frps.addr.ip().to_string(),
        server_port: frps.addr.port().into(),
        proxies: vec![on("one", one)],
        ..ClientConfig::default()
    };
    let stop = CancellationToken::new();
    let client = Client::new(config.clone(), TOKEN.into(), Resources::default(), &stop).unwrap();
    let handle = client.handle();
    assert!(handle.status().is_empty());
    let running = tokio::spawn(client.run());
    served(one).await;
    let kept = TcpStream::connect(("127.0.0.1", one)).await.unwrap();

    config.proxies.push(on("two", two));
    handle.update(config.clone()).unwrap();
    served(two).await;
    let shown: Vec<_> = handle
        .status()
        .into_iter()
        .map(|s| (s.name, s.phase, s.remote_addr))
        .collect();
    let address = |port| format!("127.0.0.1:{port}");
    assert_eq!(
        shown,
        [
            ("one".into(), Phase::Running, address(one)),
            ("two".into(), Phase::Running, address(two))
        ]
    );

    let mut bad = config.clone();
    bad.proxies = vec![on("three", 0)];
    bad.proxies[0].base.local_port = 70_000;
    assert!(handle.update(bad).is_err());
    assert_eq!(handle.status().len(), 2);
    config.proxies.remove(0);
    handle.update(config).unwrap();
    within(async {
        while TcpStream::connect(("127.0.0.1", one)).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Its user stays.
    assert!(echoes(kept, 10_000).await);
    assert!(handle.reload(true).is_err());
    handle.stop();
    within(running).await.unwrap().unwrap();
}
