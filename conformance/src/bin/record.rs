//! Records sessions of upstream's programs into `conformance/vectors/`: `cargo run -p conformance --bin record`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use conformance::lab::TOKEN;
use conformance::peers::{Environment, Programs, upstream};
use conformance::recording::{self, Chunk, Recording, Sender};
use conformance::wait::{LIMIT, until};
use conformance::{Failure, Lab, Outcome, ports};
use frp_proto::msg::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the user says; compresses well.
const REQUEST: &str = "Anyone there? Anyone there? Anyone there? 0123456789";
/// Mux, encryption, compression.
const SESSIONS: [(bool, bool, bool); 5] = [
    (true, false, false),
    (true, true, true),
    (false, false, false),
    (false, true, false),
    (false, false, true),
];

fn main() -> ExitCode {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    let environment = Environment {
        upstream: path("FRP_UPSTREAM_DIR"),
        cache: path("XDG_CACHE_HOME"),
        home: path("HOME"),
        ..Environment::default()
    };
    match record_all(&environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn record_all(environment: &Environment) -> Outcome {
    let go = upstream(environment).ok_or_else(|| Failure::new("upstream's programs not found"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for wire in ["v1", "v2"] {
        for (mux, encryption, compression) in SESSIONS {
            let recording = Recording {
                upstream: go.version()?,
                wire: wire.into(),
                mux,
                encryption,
                compression,
                token: TOKEN.into(),
                request: REQUEST.into(),
                connections: Vec::new(),
            };
            let recording = runtime.block_on(record(&go, recording))?;
            let path = recording.save(&recording::directory())?;
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// Runs a session through a recording proxy and fills in its connections.
async fn record(go: &Programs, mut recording: Recording) -> Outcome<Recording> {
    let lab = Lab::new(go.clone(), go.clone(), false)?;
    let setup = lab
        .setup()
        .both("transport.tcpMux", recording.mux)
        .frpc("transport.tls.enable", false)
        .proxy("transport.useEncryption", recording.encryption)
        .proxy("transport.useCompression", recording.compression)
        .wire(&recording.wire);
    let (_frps, server) = setup.start_server().await?;
    let tape = Tape::default();
    let through = tape.proxy((Ipv4Addr::LOCALHOST, server).into()).await?;
    let remote = ports::free();
    let mut frpc = setup.start_client(through, remote).await?;
    frpc.logs("start proxy success").await?;

    let mut user = TcpStream::connect((Ipv4Addr::LOCALHOST, remote)).await?;
    user.write_all(REQUEST.as_bytes()).await?;
    let mut reply = vec![0; REQUEST.len()];
    user.read_exact(&mut reply).await?;
    // The refill of the pool belongs to the session.
    until("a complete session", LIMIT, async || {
        recording.connections = tape.connections();
        let session = recording.decode().ok()?;
        let refills = session
            .from_frps
            .iter()
            .filter(|m| **m == Message::ReqWorkConn);
        (session.work.len() == 2 && refills.count() == 2).then_some(())
    })
    .await?;
    Ok(recording)
}

/// What went by, by connection.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<Vec<Chunk>>>>);

impl Tape {
    /// Relays a port of its own to `server` and records; returns the port.
    async fn proxy(&self, server: SocketAddr) -> Outcome<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let tape = self.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (frpc, _) = listener.accept().await?;
                let frps = TcpStream::connect(server).await?;
                frpc.set_nodelay(true)?;
                frps.set_nodelay(true)?;
                tape.with(|connections| connections.push(Vec::new()));
                let ((frpc_r, frpc_w), (frps_r, frps_w)) = (frpc.into_split(), frps.into_split());
                tokio::spawn(tape.clone().copy(connection, Sender::Frpc, frpc_r, frps_w));
                tokio::spawn(tape.clone().copy(connection, Sender::Frps, frps_r, frpc_w));
            }
            Outcome::Ok(())
        });
        Ok(port)
    }

    async fn copy(
        self,
        connection: usize,
        from: Sender,
        mut r: impl AsyncRead + Unpin,
        mut w: impl AsyncWrite + Unpin,
    ) -> std::io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let n = r.read(&mut piece).await?;
            if n == 0 {
                return w.shutdown().await;
            }
            self.note(connection, from, &piece[..n]);
            w.write_all(&piece[..n]).await?;
        }
    }

    fn note(&self, connection: usize, from: Sender, bytes: &[u8]) {
        self.with(|connections| {
            let chunks = &mut connections[connection];
            match chunks.last_mut() {
                Some(last) if last.from == from => last.hex.extend_from_slice(bytes),
                _ => chunks.push(Chunk {
                    from,
                    hex: bytes.to_vec(),
                }),
            }
        });
    }

    fn connections(&self) -> Vec<Vec<Chunk>> {
        self.with(|connections| connections.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Vec<Chunk>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
