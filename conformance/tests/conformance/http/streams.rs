//! HTTP that turns into a byte stream.

use conformance::{Case, Lab, Outcome};

use super::exchanges::site;
use super::{get, is_ours};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("http/websocket", websocket),
        Case::pair("http/upgrade_refused", refused),
        Case::pair("http/connect", connect),
        Case::pair("http/connect_unknown", connect_unknown),
    ]
}

const SWITCH: &str = "GET /switch HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";

async fn websocket(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let mut user = site.user().await?;
    user.send(SWITCH).await?;
    assert_eq!(
        user.answer().await?,
        "HTTP/1.1 101 Switching Protocols\nconnection: upgrade\nsec-websocket-accept: zzz\nupgrade: WebSocket\nx-resp: v2\n\n"
    );
    assert_eq!(user.bytes(18).await?, "from the backend, ");
    let frames = "0123456789".repeat(30_000);
    user.send(&frames).await?;
    assert_eq!(user.bytes(frames.len()).await?, frames);

    // Upstream loses what comes together with the request.
    if is_ours(lab) {
        let mut user = site.user().await?;
        user.send(format!("{SWITCH}early")).await?;
        user.answer().await?;
        assert_eq!(user.bytes(23).await?, "from the backend, early");
    }
    Ok(())
}

/// An ordinary answer to a request that wanted more.
async fn refused(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let mut user = site.user().await?;
    user.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
        .await?;
    assert_eq!(
        user.answer().await?,
        "HTTP/1.1 200 OK\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nGET / HTTP/1.1\nconnection: Upgrade\nhost: a.test\nupgrade: h2c\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\n"
    );
    user.send(get("a.test", "/hops")).await?;
    assert!(user.answer().await?.ends_with("\n\nok"));
    Ok(())
}

async fn connect(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let mut user = site.user().await?;
    let head = "CONNECT tunnel.test:443 HTTP/1.1\r\nHost: tunnel.test:443\r\n\r\n";
    user.send(head).await?;
    let answer = user.until("\r\n\r\n").await?;
    assert!(
        answer.starts_with("HTTP/1.1 200 Connection established\r\n"),
        "{answer}"
    );
    assert_eq!(user.bytes(18).await?, "from the backend, ");
    user.send("hello").await?;
    assert_eq!(user.bytes(5).await?, "hello");
    Ok(())
}

async fn connect_unknown(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let mut user = site.user().await?;
    user.send("CONNECT no.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await?;
    let answer = user.answer().await?;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\n"), "{answer}");
    assert!(answer.contains("\ncontent-type: text/html\n"), "{answer}");
    assert!(answer.contains("\nserver: frp/0.70.1\n"), "{answer}");
    assert!(answer.ends_with(include_str!("not_found.html")), "{answer}");
    assert_eq!(user.rest().await?, "");
    Ok(())
}
