//! Users and services that talk in datagrams.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::Outcome;
use crate::wait::{LIMIT, within};

/// Datagrams may be lost: without an answer for so long the question is sent again.
const PATIENCE: Duration = Duration::from_millis(700);
/// Longest datagram.
const MAX: usize = 65_535;

/// Sends every datagram back, as long as the case runs.
pub async fn start_echo() -> Outcome<SocketAddr> {
    serve(<[u8]>::to_vec).await
}

/// Answers every datagram, as long as the case runs.
pub async fn serve(answer: fn(&[u8]) -> Vec<u8>) -> Outcome<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = socket.local_addr()?;
    tokio::spawn(answer_all(socket, answer));
    Ok(address)
}

/// Answers every datagram on a socket, as long as the case runs.
pub async fn answer_all(socket: UdpSocket, answer: fn(&[u8]) -> Vec<u8>) {
    let mut buffer = vec![0; MAX];
    loop {
        // An error tells of a user who has gone.
        if let Ok((n, user)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&answer(&buffer[..n]), user).await;
        }
    }
}

/// A user of one address.
pub struct User(UdpSocket);

impl User {
    /// A user who talks to `address`.
    pub async fn new(address: SocketAddr) -> Outcome<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(address).await?;
        Ok(Self(socket))
    }

    /// His own address.
    pub fn address(&self) -> Outcome<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// Sends `question` again and again until there is an answer.
    pub async fn ask(&self, question: &[u8]) -> Outcome<Vec<u8>> {
        let asked = within("an answer to a datagram", LIMIT, async {
            let mut buffer = vec![0; MAX];
            loop {
                // Fails while nobody listens.
                let _ = self.0.send(question).await;
                match timeout(PATIENCE, self.0.recv(&mut buffer)).await {
                    Ok(Ok(n)) => return buffer[..n].to_vec(),
                    Ok(Err(_)) => tokio::time::sleep(PATIENCE).await,
                    Err(_) => {}
                }
            }
        });
        asked.await
    }

    /// Sends `question` again and again until `answer` arrives, whatever else does.
    #[track_caller]
    pub fn expect(&self, question: &[u8], answer: &[u8]) -> impl Future<Output = Outcome> {
        let what = format!("{} bytes for {} bytes", answer.len(), question.len());
        within(what, LIMIT, async move {
            loop {
                if self.ask(question).await.is_ok_and(|got| got == answer) {
                    return;
                }
            }
        })
    }

    /// Sends `question` and expects it back.
    #[track_caller]
    pub fn echo(&self, question: &[u8]) -> impl Future<Output = Outcome> {
        self.expect(question, question)
    }

    /// Sends `question` and expects silence.
    pub async fn expect_nothing(&self, question: &[u8]) -> Outcome {
        self.0.send(question).await?;
        match timeout(PATIENCE, self.0.recv(&mut [0; 1])).await {
            Ok(Ok(n)) => Err(crate::Failure::new(format!("an answer of {n} bytes"))),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }
}
