//! A fixed volume over one or several connections at once; the clock stops when the last byte is known to be there.

use super::payload::Payload;
use super::sink::{DONE, OP_DOWN, OP_UP, READY, receive, send};
use super::{Sample, Target};
use crate::case::Direction;
use crate::error::Error;
use crate::meter::Meter;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Opens `streams` connections, then moves `bytes` over them together.
pub(super) async fn run(
    target: &Target,
    payload: &Arc<Payload>,
    streams: u32,
    direction: Direction,
    bytes: u64,
    verify: bool,
) -> Result<Sample, Error> {
    let share = bytes / u64::from(streams);
    let mut open = Vec::new();
    for _ in 0..streams {
        open.push(prepare(target, direction, share, verify).await?);
    }
    let meter = Meter::start(&target.pids)?;
    let mut running = JoinSet::new();
    for connection in open {
        let payload = Arc::clone(payload);
        running.spawn(transfer(connection, payload, direction, share, verify));
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|e| Error::Load(e.to_string()))??;
    }
    let spent = meter.stop()?;
    let work = exact(share * u64::from(streams));
    Ok(Sample {
        work,
        values: vec![work * 8.0 / 1e9 / spent.seconds],
        spent,
    })
}

async fn prepare(
    target: &Target,
    direction: Direction,
    bytes: u64,
    verify: bool,
) -> Result<TcpStream, Error> {
    let mut connection = TcpStream::connect(target.address).await?;
    connection.set_nodelay(true)?;
    let mut request = [0; 10];
    request[0] = match direction {
        Direction::Up => OP_UP,
        Direction::Down => OP_DOWN,
    };
    request[1] = verify.into();
    request[2..].copy_from_slice(&bytes.to_be_bytes());
    connection.write_all(&request).await?;
    expect(&mut connection, READY).await?;
    Ok(connection)
}

async fn transfer(
    mut connection: TcpStream,
    payload: Arc<Payload>,
    direction: Direction,
    bytes: u64,
    verify: bool,
) -> Result<(), Error> {
    match direction {
        Direction::Up => {
            send(&mut connection, &payload, bytes).await?;
            expect(&mut connection, DONE).await
        }
        Direction::Down => {
            connection.write_all(&[READY]).await?;
            if receive(&mut connection, &payload, 0, bytes, verify).await? {
                Ok(())
            } else {
                Err(Error::Load("what arrived is not what was sent".to_owned()))
            }
        }
    }
}

async fn expect(connection: &mut TcpStream, answer: u8) -> Result<(), Error> {
    let got = connection.read_u8().await?;
    if got == answer {
        Ok(())
    } else {
        let (got, answer) = (char::from(got), char::from(answer));
        Err(Error::Load(format!(
            "the service answered {got:?}, not {answer:?}"
        )))
    }
}

#[expect(clippy::cast_precision_loss, reason = "volumes are far below 2^52")]
fn exact(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the expected values are exact in binary")]
mod tests {
    use super::super::Sink;
    use super::*;

    /// Without a tunnel in between: generator and sink agree, verified or not.
    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn both_directions_without_a_tunnel() {
        let payload = Arc::new(Payload::new());
        let sink = Sink::start(Arc::clone(&payload)).await.unwrap();
        let target = Target {
            address: sink.addresses().service,
            pids: vec![std::process::id()],
        };
        for direction in [Direction::Up, Direction::Down] {
            for verify in [true, false] {
                let sample = run(&target, &payload, 3, direction, 3_000_000, verify)
                    .await
                    .unwrap();
                assert_eq!(sample.work, 3e6);
                assert!(sample.values[0] > 0.0);
            }
        }
    }

    #[tokio::test]
    async fn damage_is_noticed() {
        let payload = Payload::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut receiver, _) = listener.accept().await.unwrap();
        sender.write_all(&[0; 100]).await.unwrap();
        assert!(
            !receive(&mut receiver, &payload, 0, 100, true)
                .await
                .unwrap()
        );
        drop(sender);
        assert!(receive(&mut receiver, &payload, 0, 1, false).await.is_err());
    }
}
