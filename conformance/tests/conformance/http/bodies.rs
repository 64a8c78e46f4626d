//! Bodies, trailers, interim answers, and what ends early.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use conformance::http::{Backend, User};
use conformance::{Case, Lab, Outcome};

use super::exchanges::site;
use super::{Site, domains, get, is_ours, proxy};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("http/bodies", bodies),
        Case::pair("http/expect_continue", expect_continue),
        Case::pair("http/trailers", trailers),
        Case::pair("http/interim", interim),
        Case::pair("http/cut_short", cut_short),
        Case::pair("http/backend_hangs", backend_hangs),
        Case::pair("http/user_leaves", user_leaves),
        Case::pair("http/half_closed", half_closed)
            .ours_only("upstream takes the end of a request for the user's leaving"),
        Case::pair("http/large", large).heavy(),
        Case::frps("http/heads_too_large", heads_too_large),
    ]
}

async fn bodies(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    // All on one connection, so that each must end where it should.
    let mut user = site.user().await?;
    for (request, last_lines) in [
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
            "content-length: 3\nhost: a.test",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
            "transfer-encoding: chunked",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "transfer-encoding: chunked",
        ),
    ] {
        user.send(request).await?;
        let answer = user.answer().await?;
        assert!(answer.contains(last_lines), "{answer}");
        assert!(answer.ends_with("\n\nabc"), "{answer}");
    }
    user.send("POST / HTTP/1.1\r\nHost: a.test\r\n\r\n").await?;
    let answer = user.answer().await?;
    assert!(answer.contains("\ncontent-length: 0\n"), "{answer}");
    user.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").await?;
    let answer = user.answer_to_head().await?;
    assert!(answer.contains("\ncontent-length: 1"), "{answer}");
    user.send(get("a.test", "/old")).await?;
    assert!(user.answer().await?.ends_with("\n\nuntil close"));
    // Two requests at once.
    user.send([get("a.test", "/none"), get("a.test", "/hops")].concat())
        .await?;
    assert!(user.answer().await?.starts_with("HTTP/1.1 204 "));
    assert!(user.answer().await?.ends_with("\n\nok"));
    // HTTP/1.0 knows no chunks.
    let old = site
        .ask("GET /old HTTP/1.0\r\nHost: a.test\r\n\r\n")
        .await?;
    assert!(old.starts_with("HTTP/1.0 200 OK\n"), "{old}");
    assert!(old.ends_with("\n\nuntil close"), "{old}");
    Ok(())
}

async fn expect_continue(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let mut user = site.user().await?;
    user.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    )
    .await?;
    assert_eq!(user.answer().await?, "HTTP/1.1 100 Continue\n\n");
    user.send("abc").await?;
    let answer = user.answer().await?;
    assert!(answer.contains("\nexpect: 100-continue\n"), "{answer}");
    assert!(answer.ends_with("\n\nabc"), "{answer}");
    Ok(())
}

async fn trailers(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let answer = site
        .ask("GET /trailers HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\n\r\n")
        .await?;
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\ncontent-type: a/b\ntrailer: X-T\nx-resp: v2\n\nabcx-t: 1"
    );
    let answer = site
        .ask("POST / HTTP/1.1\r\nHost: a.test\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")
        .await?;
    assert!(answer.contains("\ntrailer: X-T\n"), "{answer}");
    // Upstream loses those of requests.
    let end = if is_ours(lab) {
        "\n\nabcx-t: 1"
    } else {
        "\n\nabc"
    };
    assert!(answer.ends_with(end), "{answer}");
    Ok(())
}

async fn interim(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let mut user = site.user().await?;
    user.send(get("a.test", "/hints")).await?;
    if !is_ours(lab) {
        let hints = user.answer().await?;
        assert!(hints.starts_with("HTTP/1.1 103 Early Hints\n"), "{hints}");
    }
    let answer = user.answer().await?;
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\ncontent-type: a/b\nx-resp: v2\n\nok"
    );
    Ok(())
}

/// A body that ends early must not look whole.
async fn cut_short(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    for path in ["/cut", "/cut-chunk"] {
        let mut user = site.user().await?;
        user.send(get("a.test", path)).await?;
        let all = user.rest().await?;
        assert!(!all.contains("\r\n0\r\n"), "{path}: {all}");
        assert!(!all.starts_with("HTTP/1.1 404"), "{path}: {all}");
    }
    Ok(())
}

async fn backend_hangs(lab: &Lab) -> Outcome {
    let backend = Backend::start("A").await?;
    let proxies = vec![proxy("web", backend.address, &[domains(&["a.test"])])];
    let site = Site::start(lab, proxies, |frps| frps.frps("vhostHTTPTimeout", 1i64)).await?;
    let asked = Instant::now();
    let mut user = site.user().await?;
    user.send(get("a.test", "/hang")).await?;
    assert_eq!(user.answer().await?, "HTTP/1.1 504 Gateway Timeout\n\n");
    assert!(asked.elapsed() >= Duration::from_secs(1));
    // The connection is as good as before.
    user.send(get("a.test", "/hops")).await?;
    assert!(user.answer().await?.ends_with("\n\nok"));
    Ok(())
}

/// The backend is not kept busy for nobody, and the port serves on.
async fn user_leaves(lab: &Lab) -> Outcome {
    let (site, a, _b) = site(lab).await?;
    for head in [
        "GET",
        "GET / HTTP/1.1\r\nHost: a",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
        "GET /hang HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /switch HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut user = User::connect(site.vhost).await?;
        user.send(head).await?;
        drop(user);
    }
    let answer = site.ask(&get("a.test", "/hops")).await?;
    assert!(answer.ends_with("\n\nok"), "{answer}");
    assert!(a.connections() >= 1);
    Ok(())
}

/// Who has nothing more to say after a request still gets the answer, and then the end.
async fn half_closed(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    for request in [
        get("a.test", "/slow"),
        get("a.test", "/hops") + &get("a.test", "/slow"),
        "POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
    ] {
        let mut user = site.user().await?;
        user.send(&request).await?;
        user.finish().await?;
        let all = user.rest().await?;
        assert!(all.ends_with("\r\n\r\nslow"), "{request}: {all}");
        assert_eq!(
            all.matches("HTTP/1.1 200 OK").count(),
            request.matches("HTTP").count()
        );
    }
    Ok(())
}

/// 8 MiB there and back, by chunks of a size that fits nothing.
async fn large(lab: &Lab) -> Outcome {
    const CHUNK: usize = 77_777;
    let (site, _a, _b) = site(lab).await?;
    let body = "0123456789abcdef".repeat(512 * 1024);
    let mut chunks =
        String::from("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.as_bytes().chunks(CHUNK) {
        let text = String::from_utf8_lossy(chunk);
        write!(chunks, "{:x}\r\n{text}\r\n", chunk.len())?;
    }
    chunks += "0\r\n\r\n";
    let plain = format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for request in [chunks, plain] {
        let answer = site.ask(&request).await?;
        assert!(answer.starts_with("HTTP/1.1 200 OK\n"));
        assert!(answer.ends_with(&body), "the body came back changed");
    }
    Ok(())
}

async fn heads_too_large(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let with = |n: usize| {
        let value = "a".repeat(n);
        format!("GET /none HTTP/1.1\r\nHost: a.test\r\nX-A: {value}\r\n\r\n")
    };
    let answer = site.ask(&with(900_000)).await?;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let mut user = site.user().await?;
    // The answer may come before all has been sent.
    let _ = user.send(with(1_100_000)).await;
    let answer = user.rest().await?;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let answer = site.ask(&with(1)).await?;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    Ok(())
}
