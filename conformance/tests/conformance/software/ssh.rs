//! OpenSSH through `tcp` and `stcp` proxies.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use conformance::process::{Process, locate};
use conformance::service::{Kind, Pattern};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Failure, Lab, Outcome, ports};
use tokio::net::TcpStream;

use super::run;
use crate::stcp;

/// Bytes there and back.
const BYTES: usize = 1_000_000;
/// Where sshd drops its rights when it runs as root; the start of the system's service makes it.
const SEPARATION: &str = "/run/sshd";

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        Case::pair("software/ssh/tcp", async |lab| {
            let (_sshd, port) = start(lab).await?;
            let pair = lab.setup().service(Kind::At(port)).start().await?;
            session(lab, pair.user).await
        }),
        Case::pair("software/ssh/stcp", async |lab| {
            let (_sshd, port) = start(lab).await?;
            let setup = stcp::setup(lab, "stcp").service(Kind::At(port));
            let pair = setup.start().await?;
            let visitor = setup.start_visitor(&lab.frpc, pair.server_port, stcp::visitor());
            let (_frpc, user) = visitor.await?;
            session(lab, user).await
        }),
    ];
    let needs = |case: Case| case.needs("sshd").needs("ssh").needs("ssh-keygen");
    cases.into_iter().map(needs).collect()
}

/// Starts sshd for the user who runs this, with keys of its own.
async fn start(lab: &Lab) -> Outcome<(Process, u16)> {
    for key in ["host", "user"] {
        let file = path(lab, key);
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-f", &file];
        let (code, _) = run("ssh-keygen", &arguments, b"").await?;
        assert_eq!(code, 0);
    }
    let port = ports::free();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
        path(lab, "host"),
        path(lab, "user.pub"),
    );
    let config = lab.file("sshd_config", &config)?;
    if rustix::process::getuid().is_root() && !Path::new(SEPARATION).exists() {
        std::fs::create_dir(SEPARATION)?;
    }
    let mut command = Command::new(locate("sshd"));
    command.args(["-D", "-e", "-f", &config]);
    let mut sshd = lab.run("sshd", command)?;
    until("sshd serves", LIMIT, async || {
        if let Some(status) = sshd.ended() {
            return Some(Err(Failure::new(format!("sshd ended: {status}"))));
        }
        let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        connected.ok().map(|_| Ok(()))
    })
    .await??;
    Ok((sshd, port))
}

fn path(lab: &Lab, name: &str) -> String {
    lab.directory().join(name).to_string_lossy().into_owned()
}

/// Runs commands over ssh: what they read, print and return is the same as without it.
async fn session(lab: &Lab, address: SocketAddr) -> Outcome {
    let key = path(lab, "user");
    let hosts = format!("UserKnownHostsFile={}", path(lab, "known_hosts"));
    let port = address.port().to_string();
    let ssh = async |command: &str, input: &[u8]| {
        let arguments = [
            "-F",
            "none",
            "-i",
            &key,
            "-p",
            &port,
            "-o",
            &hosts,
            "-o",
            "StrictHostKeyChecking=accept-new",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            "127.0.0.1",
            command,
        ];
        run("ssh", &arguments, input).await
    };
    let mut sent = vec![0; BYTES];
    Pattern::new(7).fill(&mut sent);
    let (code, received) = ssh("cat", &sent).await?;
    assert_eq!(code, 0);
    assert!(received == sent, "what came back differs");
    assert_eq!(ssh("echo out; exit 7", b"").await?, (7, b"out\n".to_vec()));
    Ok(())
}
