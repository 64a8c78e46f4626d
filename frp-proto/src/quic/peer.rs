//! A connection over a path that both peers have punched (nathole.md §10.1).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionError, Endpoint, ServerConfig};
use tokio::time::timeout;

use super::any_name;
use super::{
    ALPN, Connection, FIRST_STREAMS, HANDSHAKE_LIMIT, Options, WINDOW, connection_error, endpoint,
};
use crate::tls::{ClientTls, ServerTls, TlsFiles};

/// For the peer's first packet and its handshake. The peer may need some time more to learn that there is a path.
const ACCEPT_LIMIT: Duration = Duration::from_secs(20);

/// Handshakes as client, over a socket that is not connected. Who the peer is is not verified.
pub async fn connect_peer(
    socket: UdpSocket,
    peer: SocketAddr,
    options: &Options,
) -> io::Result<Connection> {
    let tls = ClientTls::new(TlsFiles::default());
    let mut tls = (*tls.config().await?).clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(options.transport(0, WINDOW));
    // An address is a name that is not sent.
    let name = peer.ip().to_string();
    let connected = super::handshake(endpoint(socket, None)?, peer, config, &name);
    timeout(HANDSHAKE_LIMIT, connected)
        .await
        .unwrap_or_else(|_| Err(connection_error(ConnectionError::TimedOut)))
}

/// Handshakes as server with this peer and nobody else; whatever server name it sends.
pub async fn accept_peer(
    socket: UdpSocket,
    peer: SocketAddr,
    options: &Options,
) -> io::Result<Connection> {
    let endpoint = endpoint(socket, Some(server_config(options)?))?;
    let accepted = timeout(ACCEPT_LIMIT, accept(&endpoint, peer)).await;
    let quic = accepted
        .unwrap_or(Err(ConnectionError::TimedOut))
        .map_err(connection_error)?;
    // Further ones are not answered.
    endpoint.set_server_config(None);
    Ok(Connection {
        quic,
        endpoint: Some(endpoint),
        streams: Arc::default(),
        limit: AtomicUsize::new(FIRST_STREAMS as usize),
        max_streams: options.max_incoming_streams as usize,
    })
}

async fn accept(
    endpoint: &Endpoint,
    peer: SocketAddr,
) -> Result<quinn::Connection, ConnectionError> {
    while let Some(incoming) = endpoint.accept().await {
        if incoming.remote_address() == peer {
            return incoming.accept()?.await;
        }
        incoming.ignore();
    }
    Err(ConnectionError::LocallyClosed)
}

fn server_config(options: &Options) -> io::Result<ServerConfig> {
    let generated = ServerTls::new(TlsFiles::default()).map_err(io::Error::other)?;
    let generated = generated.current();
    let provider = any_name::provider(generated.crypto_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(generated.cert_resolver.clone());
    tls.send_tls13_tickets = 0;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(any_name::Server(Arc::new(crypto))));
    let streams = options.max_incoming_streams.min(FIRST_STREAMS);
    config.transport_config(options.transport(streams, WINDOW));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::crypto;
    use quinn_proto::transport_parameters::TransportParameters;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> [(UdpSocket, SocketAddr); 2] {
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let addresses = [0, 1].map(|n| sockets[n].local_addr().unwrap());
        let [a, b] = sockets;
        [(a, addresses[1]), (b, addresses[0])]
    }

    #[tokio::test]
    async fn peers_connect_and_strangers_do_not() {
        let [(a, to_b), (b, to_a)] = pair();
        let options = Options::default();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = tokio::spawn(async move { accept_peer(b, to_a, &options).await });
        assert!(connect_peer(stranger, to_b, &options).await.is_err());
        let client = connect_peer(a, to_b, &options).await.unwrap();
        let server = server.await.unwrap().unwrap();
        let ask = async {
            let mut stream = client.open().await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            let mut got = [0; 4];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"pong");
        };
        let answer = async {
            let mut stream = server.accept().await.unwrap();
            let mut got = [0; 4];
            stream.read_exact(&mut got).await.unwrap();
            stream.write_all(b"pong").await.unwrap();
        };
        tokio::join!(ask, answer);
        client.close().await;
        assert!(server.accept().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_come_is_not_waited_for() {
        let [_, (b, to_a)] = pair();
        let error = accept_peer(b, to_a, &Options::default()).await.map(drop);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    /// A client that sends a name, whatever it is told.
    struct Naming(Arc<QuicClientConfig>);

    impl crypto::ClientConfig for Naming {
        fn start_session(
            self: Arc<Self>,
            version: u32,
            _: &str,
            parameters: &TransportParameters,
        ) -> Result<Box<dyn crypto::Session>, quinn::ConnectError> {
            self.0
                .clone()
                .start_session(version, "valid.example", parameters)
        }
    }

    #[tokio::test]
    async fn clients_may_name_the_server() {
        let [(a, to_b), (b, to_a)] = pair();
        let options = Options::default();
        let server = tokio::spawn(async move { accept_peer(b, to_a, &options).await });
        let tls = ClientTls::new(TlsFiles::default());
        let mut tls = (*tls.config().await.unwrap()).clone();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = Naming(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let client = endpoint(a, None).unwrap();
        let config = ClientConfig::new(Arc::new(crypto));
        let connection = client.connect_with(config, to_b, "x").unwrap().await;
        connection.unwrap();
        let data = server.await.unwrap().unwrap().quic.handshake_data();
        let data = data.unwrap().downcast::<crypto::rustls::HandshakeData>();
        assert_eq!(data.unwrap().server_name, None);
    }
}
