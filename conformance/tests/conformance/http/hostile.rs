//! Bad input on the vhost port: whatever some users do, the others are served.

use conformance::http::{Backend, User};
use conformance::{Case, Lab, Outcome};

use super::{Site, domains, get, proxy};

/// Users of each kind at a time.
const EACH: usize = 40;

/// What a user sends before he falls silent.
const SILENT: [&str; 8] = [
    "",
    "G",
    "PRI * HTTP/2.0\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.test\r\nX-A: ",
    "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    "GET /switch HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
];

/// What is no request at all.
const GARBAGE: [&str; 8] = [
    "\0\0\0\0\0\0\0\0\r\n\r\n",
    "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03",
    "GET / HTTP/1.1\r\n\0: x\r\n\r\n",
    "GET / HTTP/9.9\r\nHost: a.test\r\n\r\n",
    "GET \0 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}",
];

pub(super) fn cases() -> Vec<Case> {
    vec![Case::pair("http/others_are_served", others_are_served)]
}

async fn others_are_served(lab: &Lab) -> Outcome {
    let backend = Backend::start("A").await?;
    let proxies = vec![proxy("web", backend.address, &[domains(&["a.test"])])];
    let mut site = Site::start(lab, proxies, |frps| frps).await?;
    let mut honest = site.user().await?;
    let mut silent = Vec::new();
    for _ in 0..EACH {
        for bytes in SILENT {
            let mut user = site.user().await?;
            user.send(bytes).await?;
            silent.push(user);
        }
        for bytes in GARBAGE {
            let mut user = site.user().await?;
            user.send(bytes).await?;
            user.finish().await?;
            let answer = user.rest().await?;
            assert!(!answer.contains("HTTP/1.1 200"), "{bytes:?}: {answer}");
        }
        honest.send(get("a.test", "/hops")).await?;
        assert!(honest.answer().await?.ends_with("\n\nok"));
    }
    // A head without an end, longer than any may be; it is given up somewhere.
    let mut endless = User::connect(site.vhost).await?;
    endless.send("GET / HTTP/1.1\r\nX-A: ").await?;
    let piece = vec![b'a'; 64 * 1024];
    for _ in 0..1024 {
        if endless.send(&piece).await.is_err() {
            break;
        }
    }
    assert!(endless.send(&piece).await.is_err(), "64 MiB were taken");
    let answer = site.ask(&get("a.test", "/hops")).await?;
    assert!(answer.ends_with("\n\nok"), "{answer}");
    drop(silent);
    honest.send(get("a.test", "/hops")).await?;
    assert!(honest.answer().await?.ends_with("\n\nok"));
    assert!(site.frps.ended().is_none() && site.frpc.ended().is_none());
    Ok(())
}
