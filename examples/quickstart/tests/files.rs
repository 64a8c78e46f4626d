//! The files that users are told to copy carry a tunnel, here on free ports.

#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

use std::collections::BTreeMap;
use std::path::Path;

use frp_proto::config::raw::client::ProxyKind;
use frp_proto::config::{self, UnsafeFeatures};
use quickstart::Demo;
use tokio::net::TcpListener;

#[tokio::test]
async fn the_files_carry_a_tunnel() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let env = BTreeMap::new();
    let server = config::load_server(&dir.join("frps.toml"), true, &env);
    let client = config::load_client(&dir.join("frpc.toml"), true, &env);
    let (mut server, mut client) = (server.unwrap().config, client.unwrap().config);
    let allowed = UnsafeFeatures::default();
    assert!(config::validate_server(&server, &allowed).is_empty());
    assert!(config::validate_client(&client, &allowed).1.is_ok());

    // Another program may take a port between its choice and its use: then there are others.
    for _ in 0..5 {
        let (frps, public) = (free_port().await, free_port().await);
        (server.bind_port, client.server_port) = (frps.into(), frps.into());
        client.proxies[0].kind = ProxyKind::Tcp {
            remote_port: public.into(),
        };
        let public = ([127, 0, 0, 1], public).into();
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        client.proxies[0].base.local_port = service.local_addr().unwrap().port().into();
        if let Ok(demo) = Demo::start(&server, client.clone(), service, public).await {
            assert_eq!(demo.reply, "Hello from behind the tunnel.");
            return demo.stop().await.unwrap();
        }
    }
    panic!("no tunnel on any port");
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}
