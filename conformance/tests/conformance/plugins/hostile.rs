//! Bad input for plugins: it ends with its connection, and the next user is served.

use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ask, mirror, plugin};

/// What is no request for an HTTP plugin.
const HTTP: [&[u8]; 8] = [
    b"\0\0\0\0\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\0c\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"CONNECT \r\n\r\n",
];

/// What is no request for `socks5`: another version, no method, half a request, unknown command and address type.
const SOCKS: [&[u8]; 6] = [
    b"\x04\x01\0\x50\x7f\0\0\x01\0",
    b"\x05\0",
    b"\x05\xff",
    b"\x05\x01\0\x05\x01\0\x03\xff",
    b"\x05\x01\0\x05\x09\0\x01\x7f\0\0\x01\0\x50",
    b"\x05\x01\0\x05\x01\0\x07\x7f\0\0\x01\0\x50",
];

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("plugins/hostile/static_file", async |lab: &Lab| {
            lab.file("x.txt", "content")?;
            let root = lab.directory().to_string_lossy().into_owned();
            let setup = plugin(lab, "static_file").proxy("plugin.localPath", root);
            let mut pair = setup.start().await?;
            http(pair.user).await?;
            assert!(ask(&pair, "GET", "/x.txt", "").await?.ends_with("content"));
            assert!(pair.frpc.ended().is_none());
            Ok(())
        }),
        Case::pair("plugins/hostile/http2http", async |lab: &Lab| {
            let target = mirror(false).await?;
            let setup = plugin(lab, "http2http").proxy("plugin.localAddr", target.to_string());
            let mut pair = setup.start().await?;
            http(pair.user).await?;
            let answer = ask(&pair, "GET", "/way", "").await?;
            assert!(answer.contains("GET /way HTTP/1.1"), "{answer}");
            assert!(pair.frpc.ended().is_none());
            Ok(())
        }),
        Case::pair("plugins/hostile/http_proxy", async |lab: &Lab| {
            let target = mirror(false).await?;
            let mut pair = plugin(lab, "http_proxy").start().await?;
            http(pair.user).await?;
            let answer = ask(&pair, "GET", &format!("http://{target}/way"), "").await?;
            assert!(answer.contains("GET /way HTTP/1.1"), "{answer}");
            assert!(pair.frpc.ended().is_none());
            Ok(())
        }),
        Case::pair("plugins/hostile/socks5", async |lab: &Lab| {
            let mut pair = plugin(lab, "socks5").start().await?;
            for bytes in SOCKS {
                cut_off(pair.user, bytes).await?;
            }
            let greeting = within("an answer", LIMIT, async {
                let mut user = TcpStream::connect(pair.user).await?;
                user.write_all(b"\x05\x01\0").await?;
                let mut answer = [0; 2];
                user.read_exact(&mut answer).await?;
                std::io::Result::Ok(answer)
            });
            assert_eq!(greeting.await??, *b"\x05\0");
            assert!(pair.frpc.ended().is_none());
            Ok(())
        }),
    ]
}

async fn http(address: std::net::SocketAddr) -> Outcome {
    for bytes in HTTP {
        cut_off(address, bytes).await?;
    }
    Ok(())
}

/// Sends bytes, whole and up to their middle, and then no more: nothing good comes back, and the connection ends.
async fn cut_off(address: std::net::SocketAddr, bytes: &[u8]) -> Outcome {
    for bytes in [bytes, &bytes[..bytes.len() / 2]] {
        let mut user = TcpStream::connect(address).await?;
        user.write_all(bytes).await?;
        // The other side may have had enough already.
        let _ = user.shutdown().await;
        let mut all = Vec::new();
        let read = user.read_to_end(&mut all);
        // However it ends.
        let _ = within("the end of the connection", LIMIT, read).await?;
        let answer = String::from_utf8_lossy(&all);
        assert!(!answer.contains(" 200 "), "{bytes:?}: {answer}");
    }
    Ok(())
}
