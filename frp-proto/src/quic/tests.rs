use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::tls::TlsFiles;

async fn listener(options: Options) -> (Listener, DialOptions) {
    let socket = listen::bind_transport("127.0.0.1", 0).await.unwrap();
    let tls = ServerTls::new(TlsFiles::default()).unwrap();
    let listener = Listener::new(socket, tls, options).unwrap();
    let dial = DialOptions {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
        timeout: Duration::from_secs(10),
        keepalive_secs: -1,
        local_ip: None,
    };
    (listener, dial)
}

fn client_tls() -> ClientTls {
    ClientTls::new(TlsFiles::default())
}

/// Client and server of one connection.
async fn pair(options: Options) -> (Connection, Connection, Listener) {
    let (listener, dial) = listener(options).await;
    let tls = client_tls();
    let server = async { listener.accept().await.unwrap().complete().await.unwrap() };
    let (client, server) = tokio::join!(connect(&dial, &tls, "frps.test", &options), server);
    (client.unwrap(), server, listener)
}

#[tokio::test]
async fn half_closed_streams_carry_the_answer() {
    let (client, server, _listener) = pair(Options::default()).await;
    let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 3) as u8).collect();
    let ask = async {
        let mut stream = client.open().await.unwrap();
        stream.write_all(&data).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer == data);
    };
    let serve = async {
        let mut stream = server.accept().await.unwrap();
        server.trust();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        stream.write_all(&got).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    };
    tokio::join!(ask, serve);
}

#[tokio::test]
async fn what_is_on_its_way_survives_a_refusal() {
    let (client, server, _listener) = pair(Options::default()).await;
    let mut stream = client.open().await.unwrap();
    stream.write_all(b"request").await.unwrap();
    let (mut send, mut receive) = server.quic.accept_bi().await.unwrap();
    // As Go closes.
    receive.stop(VarInt::from_u32(0)).unwrap();
    send.write_all(b"last words").await.unwrap();
    send.finish().unwrap();
    send.stopped().await.unwrap();
    for _ in 0..10 {
        stream.write_all(b"more").await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "last words");
    assert!(stream.write_all(b"more").await.is_err());
}

#[tokio::test]
async fn streams_are_allowed_as_they_are_used() {
    const MANY: usize = 3_000;
    let options = Options {
        max_incoming_streams: MANY as u32,
        ..Options::default()
    };
    let (client, server, _listener) = pair(options).await;
    let mut kept = Vec::new();
    let open = async {
        let mut opened = Vec::new();
        for _ in 0..MANY {
            let mut stream = client.open().await.unwrap();
            stream.write_all(b"x").await.unwrap();
            opened.push(stream);
        }
        assert!(
            timeout(Duration::from_millis(100), client.open())
                .await
                .is_err()
        );
        opened
    };
    let accept = async {
        for n in 0..MANY {
            if n == 10 {
                assert_eq!(server.limit.load(Ordering::Relaxed), 128);
                server.trust();
            }
            kept.push(server.accept().await.unwrap());
        }
    };
    let (opened, ()) = tokio::join!(open, accept);
    assert_eq!(server.streams.load(Ordering::Relaxed), MANY);
    drop((opened, kept));
    assert_eq!(server.streams.load(Ordering::Relaxed), 0);
    client.open().await.unwrap();
}

#[tokio::test]
async fn an_end_is_told() {
    let (client, server, listener) = pair(Options::default()).await;
    client.close().await;
    assert!(server.accept().await.is_err());
    let dial = DialOptions {
        port: listener.local_addr().unwrap().port(),
        host: "127.0.0.1".into(),
        timeout: Duration::from_secs(1),
        keepalive_secs: -1,
        local_ip: None,
    };
    let (tls, options) = (client_tls(), Options::default());
    let server = async { listener.accept().await.unwrap().complete().await.unwrap() };
    let (client, server) = tokio::join!(connect(&dial, &tls, "127.0.0.1", &options), server);
    let client = client.unwrap();
    listener.close().await;
    assert!(server.accept().await.is_err());
    assert!(client.open().await.is_err());
    assert!(listener.accept().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_five_seconds() {
    let socket = listen::bind_transport("127.0.0.1", 0).await.unwrap();
    let dial = DialOptions {
        host: "127.0.0.1".into(),
        port: socket.local_addr().unwrap().port(),
        timeout: Duration::from_secs(10),
        keepalive_secs: -1,
        local_ip: None,
    };
    let start = Instant::now();
    let options = Options::default();
    let error = connect(&dial, &client_tls(), "x", &options).await.map(drop);
    assert_eq!(
        error.unwrap_err().to_string(),
        "timeout: no recent network activity"
    );
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn garbage_harms_nobody() {
    let (listener, dial) = listener(Options::default()).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..2_000_u32 {
        let mut datagram = vec![0xc0 | n as u8; 1_200];
        datagram[1..5].copy_from_slice(&1_u32.to_be_bytes());
        stranger
            .send_to(&datagram, (&*dial.host, dial.port))
            .unwrap();
    }
    let (tls, options) = (client_tls(), Options::default());
    let server = async { listener.accept().await.unwrap().complete().await.unwrap() };
    let (client, _) = tokio::join!(connect(&dial, &tls, "x", &options), server);
    client.unwrap();
}
