//! Recorded sessions of upstream's programs, without these programs.
//!
//! `decode`: the recorded bytes say what they should, and our codecs write the same bytes. `frps` and `frpc`: the case plays
//! the recorded peer, message by message (the control cipher depends on random bytes of both sides, so it is made anew) and with
//! the recorded payload bytes; the program must answer as the recorded one did, apart from ports, times and names of machines.

use std::sync::Arc;

use conformance::raw::{self, Link, Server};
use conformance::recording::{self, Recording, Session, layered};
use conformance::wait::{LIMIT, within};
use conformance::{Case, Failure, Lab, Outcome, ports};
use frp_proto::auth::{Secret, token_key};
use frp_proto::msg::io::write_message;
use frp_proto::msg::{Login, Message, NewProxy, StartWorkConn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) fn cases() -> Outcome<Vec<Case>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(recording::directory())? {
        files.push(entry?.path());
    }
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let recording = Arc::new(Recording::load(&file)?);
        let name = recording.name();
        let [one, two, three] = [(); 3].map(|()| recording.clone());
        cases.extend([
            Case::alone(format!("replay/{name}/decode"), async move |_| {
                decode(&one).await
            }),
            Case::frps(format!("replay/{name}/frps"), async move |lab| {
                frps(lab, &two).await
            }),
            Case::frpc(format!("replay/{name}/frpc"), async move |lab| {
                frpc(lab, &three).await
            }),
        ]);
    }
    Ok(cases)
}

/// What is the same in every session.
async fn decode(recording: &Recording) -> Outcome {
    let session = recording.decode()?;
    let login = &session.login;
    assert_eq!(login.version, recording.upstream);
    assert_eq!(session.login_resp.version, recording.upstream);
    let token = Secret::new(recording.token.clone());
    assert_eq!(login.privilege_key, token_key(&token, login.timestamp));
    assert_eq!(login.pool_count, 1);

    let proxy = new_proxy(&session)?;
    assert_eq!(
        (proxy.proxy_name.as_str(), proxy.proxy_type.as_str()),
        ("web", "tcp")
    );
    assert_eq!(proxy.use_encryption, recording.encryption);
    assert_eq!(proxy.use_compression, recording.compression);
    let remote_addr = format!(":{}", proxy.remote_port);
    let registered = session.from_frps.iter().any(|m| {
        matches!(m, Message::NewProxyResp(r) if r.remote_addr == remote_addr && r.error.is_empty())
    });
    assert!(registered, "{:?}", session.from_frps);

    assert_eq!(session.work.len(), 2, "one used, one in reserve");
    for work in &session.work {
        assert_eq!(work.opened.run_id, session.login_resp.run_id);
    }
    let used = &session.work[0];
    assert!(used.start.is_some());
    for payload in [&used.from_frps, &used.from_frpc] {
        let plain = recording.plain(payload).await?;
        assert_eq!(plain, recording.request.as_bytes());
    }
    Ok(())
}

fn new_proxy(session: &Session) -> Outcome<&NewProxy> {
    let mut messages = session.from_frpc.iter();
    let proxy = messages.find_map(|m| match m {
        Message::NewProxy(proxy) => Some(&**proxy),
        _ => None,
    });
    proxy.ok_or_else(|| Failure::new("no NewProxy"))
}

/// Plays the recorded frpc.
async fn frps(lab: &Lab, recording: &Recording) -> Outcome {
    let session = recording.decode()?;
    let setup = lab.setup().frps("transport.tcpMux", recording.mux);
    let (_frps, port) = setup.start_server().await?;
    let link = if recording.mux {
        Link::mux(port, recording.version()).await?
    } else {
        Link::plain(port, recording.version())
    };
    // With the run id it was given then, its work conns belong to it now.
    let login = Login {
        run_id: session.login_resp.run_id.clone(),
        ..session.login.clone()
    };
    let (resp, client) = link.try_login(login).await?;
    assert_eq!(resp, session.login_resp);
    let mut client = client.ok_or_else(|| Failure::new("refused"))?;

    let recorded_port = new_proxy(&session)?.remote_port;
    let remote = ports::free();
    for message in &session.from_frpc {
        let mut message = message.clone();
        if let Message::NewProxy(proxy) = &mut message {
            proxy.remote_port = remote.into();
        }
        client.control.send(message).await?;
    }
    let (mut received, mut user, mut work) = (Vec::new(), None, None);
    while received.len() < session.from_frps.len() {
        let message = client.control.next().await?;
        let mut message = message.ok_or_else(|| Failure::new(format!("only {received:?}")))?;
        match &mut message {
            Message::NewProxyResp(resp) => {
                resp.remote_addr = resp
                    .remote_addr
                    .replace(&format!(":{remote}"), &format!(":{recorded_port}"));
                let mut stream = TcpStream::connect(("127.0.0.1", remote)).await?;
                stream.write_all(recording.request.as_bytes()).await?;
                user = Some(stream);
            }
            Message::ReqWorkConn => {
                if work.is_none() {
                    work = Some(link.offer_work(session.work[0].opened.clone()).await?);
                }
                // A user that is faster than the first work conn costs one request more.
                if requests(&received) == requests(&session.from_frps) {
                    continue;
                }
            }
            _ => {}
        }
        received.push(message);
    }
    same_messages(received, session.from_frps.clone());

    let (Some(mut user), Some(mut work)) = (user, work) else {
        return Err(Failure::new("the recorded session is not complete"));
    };
    let started = link.started(&mut work).await?;
    assert_eq!(started.dst_port, remote);
    assert_eq!(started.src_port, user.local_addr()?.port());
    let without_ports = |start: StartWorkConn| StartWorkConn {
        src_port: 0,
        dst_port: 0,
        ..start
    };
    let recorded = session.work[0].start.clone().map(without_ports);
    assert_eq!(Some(without_ports(started)), recorded);

    work.write_all(&session.work[0].from_frpc).await?;
    let mut reply = vec![0; recording.request.len()];
    within("the reply", LIMIT, user.read_exact(&mut reply)).await??;
    assert_eq!(reply, recording.request.as_bytes());
    request_arrives(work, recording).await
}

/// Plays the recorded frps.
async fn frpc(lab: &Lab, recording: &Recording) -> Outcome {
    let session = recording.decode()?;
    let proxy = new_proxy(&session)?;
    let mut server = Server::start(recording.mux).await?;
    let setup = lab
        .setup()
        .frpc("transport.tls.enable", false)
        .frpc("transport.tcpMux", recording.mux)
        .proxy("transport.useEncryption", recording.encryption)
        .proxy("transport.useCompression", recording.compression)
        .wire(&recording.wire);
    let remote = u16::try_from(proxy.remote_port)?;
    let mut frpc = setup.start_client(server.port()?, remote).await?;

    let (login, mut control, version) = server.accept_login(&session.login_resp.run_id).await?;
    assert_eq!(version, recording.version());
    let token = Secret::new(recording.token.clone());
    assert_eq!(login.privilege_key, token_key(&token, login.timestamp));
    let comparable = |login: Login| Login {
        hostname: String::new(),
        os: String::new(),
        arch: String::new(),
        privilege_key: String::new(),
        timestamp: 0,
        ..login
    };
    assert_eq!(comparable(login), comparable(session.login.clone()));

    let mut received = Vec::new();
    while received.len() < session.from_frpc.len() {
        let message = control.next().await?;
        received.push(message.ok_or_else(|| Failure::new(format!("only {received:?}")))?);
    }
    same_messages(received, session.from_frpc.clone());
    let mut conns = Vec::new();
    for message in &session.from_frps {
        control.send(message.clone()).await?;
        if *message == Message::ReqWorkConn {
            let (accepted, io) = server.accept_message().await?;
            assert_eq!(accepted.version, version);
            let opened = Message::NewWorkConn(session.work[conns.len()].opened.clone());
            assert_eq!(accepted.message, opened);
            conns.push(io);
        }
    }
    frpc.logs("[web] start proxy success").await?;

    let used = &session.work[0];
    let mut work = conns.swap_remove(0);
    let start = used.start.clone().ok_or_else(|| Failure::new("not used"))?;
    write_message(&mut work, version, &Message::StartWorkConn(start)).await?;
    work.write_all(&used.from_frps).await?;
    request_arrives(work, recording).await
}

/// Both programs put the same payload on a work conn: the request, going or coming back.
async fn request_arrives(work: raw::BoxStream, recording: &Recording) -> Outcome {
    let mut work = layered(work, recording);
    let mut request = vec![0; recording.request.len()];
    within("the request", LIMIT, work.read_exact(&mut request)).await??;
    assert_eq!(request, recording.request.as_bytes());
    Ok(())
}

fn requests(messages: &[Message]) -> usize {
    let requests = messages.iter().filter(|m| **m == Message::ReqWorkConn);
    requests.count()
}

/// Compares as sets: a program writes from several tasks.
#[track_caller]
fn same_messages(mut received: Vec<Message>, mut recorded: Vec<Message>) {
    let by_name = |m: &Message| m.name();
    received.sort_by_key(by_name);
    recorded.sort_by_key(by_name);
    assert_eq!(received, recorded);
}
