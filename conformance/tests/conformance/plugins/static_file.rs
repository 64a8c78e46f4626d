//! `static_file`.

use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use conformance::peers::Maker;
use conformance::{Case, Lab, Outcome, Setup};

use super::{ask, plugin};

/// Tue, 02 Jan 2024 03:04:05 GMT.
const CHANGED: Duration = Duration::from_secs(1_704_164_645);
const DATE: &str = "last-modified: Tue, 02 Jan 2024 03:04:05 GMT";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("plugins/static_file/files", files),
        Case::pair("plugins/static_file/redirects", redirects),
        Case::pair("plugins/static_file/listing", listing),
        Case::pair("plugins/static_file/conditions", conditions),
        Case::pair("plugins/static_file/credentials", credentials),
    ]
}

fn site(lab: &Lab) -> Outcome<Setup<'_>> {
    let root = lab.directory().join("site");
    for directory in ["sub/deep", "idx"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    for (name, content) in [
        ("a.txt", &b"hello world\n"[..]),
        ("page", b"<!DOCTYPE html><p>hi"),
        ("image", b"\x89PNG\r\n\x1a\n0000"),
        ("binary", b"\x00\x01\x02"),
        ("empty", b""),
        ("idx/index.html", b"<p>hi</p>"),
        ("sub/s.json", b"{}"),
        ("sub/x <&\"' %?#é.txt", b"odd"),
        ("sub/a:b!*(),;=@$~", b"odd"),
    ] {
        std::fs::write(root.join(name), content)?;
        touch(&root.join(name))?;
    }
    touch(&root.join("sub"))?;
    let root = root.to_string_lossy().into_owned();
    Ok(plugin(lab, "static_file").proxy("plugin.localPath", root))
}

fn touch(path: &std::path::Path) -> Outcome {
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + CHANGED);
    Ok(File::open(path)?.set_times(times)?)
}

async fn files(lab: &Lab) -> Outcome {
    let pair = site(lab)?.start().await?;
    for (path, kind, content) in [
        ("/a.txt", "text/plain; charset=utf-8", "hello world\n"),
        (
            "/page?q",
            "text/html; charset=utf-8",
            "<!DOCTYPE html><p>hi",
        ),
        ("/image", "image/png", "\u{fffd}PNG\r\n\u{1a}\n0000"),
        ("/binary", "application/octet-stream", "\0\u{1}\u{2}"),
        ("/empty", "text/plain; charset=utf-8", ""),
        ("/idx/", "text/html; charset=utf-8", "<p>hi</p>"),
        ("/%73ub/s.json", "application/json", "{}"),
    ] {
        let len = content.replace('\u{fffd}', "x").len();
        assert_eq!(
            ask(&pair, "GET", path, "").await?,
            format!(
                "HTTP/1.1 200 OK\naccept-ranges: bytes\ncontent-length: {len}\ncontent-type: {kind}\n{DATE}\n\n{content}"
            )
        );
    }
    for path in ["/nope", "/a.txt/b", "/sub/%00", "/a.txt%2Fb"] {
        assert_eq!(ask(&pair, "GET", path, "").await?, not_found(), "{path}");
    }
    for method in ["POST", "DELETE"] {
        assert_eq!(
            ask(&pair, method, "/a.txt", "").await?,
            "HTTP/1.1 405 Method Not Allowed\ncontent-length: 0\n\n"
        );
    }
    let head = ask(&pair, "HEAD", "/a.txt", "").await?;
    assert!(
        head.starts_with("HTTP/1.1 405 Method Not Allowed\n"),
        "{head}"
    );
    let compressed = ask(&pair, "GET", "/a.txt", "Accept-Encoding: gzip, br\r\n").await?;
    assert!(
        compressed.contains("\ncontent-encoding: gzip\n"),
        "{compressed}"
    );
    Ok(())
}

fn not_found() -> String {
    "HTTP/1.1 404 Not Found\ncontent-length: 19\ncontent-type: text/plain; charset=utf-8\n\
     x-content-type-options: nosniff\n\n404 page not found\n"
        .into()
}

async fn redirects(lab: &Lab) -> Outcome {
    let pair = site(lab)?.start().await?;
    for (path, location) in [
        ("/../../etc/passwd", "/etc/passwd"),
        ("/%2e%2e/%2e%2e/etc/passwd?q=1", "/etc/passwd?q=1"),
        ("/sub/..%2f..%2fetc/passwd", "/etc/passwd"),
        ("//evil.test/", "/evil.test/"),
        ("/sub/.", "/sub"),
        ("/a%20b/../c%20d%3f", "/c%20d%3F"),
        ("/sub", "sub/"),
        ("/sub?x=1", "sub/?x=1"),
        ("/a.txt/", "../a.txt"),
        ("/idx/index.html?q=1", "./?q=1"),
    ] {
        assert_eq!(
            ask(&pair, "GET", path, "").await?,
            format!("HTTP/1.1 301 Moved Permanently\ncontent-length: 0\nlocation: {location}\n\n"),
            "{path}"
        );
    }
    Ok(())
}

async fn listing(lab: &Lab) -> Outcome {
    let pair = site(lab)?.start().await?;
    let page = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n\
        <a href=\"./a:b%21%2A%28%29,;=@$~\">a:b!*(),;=@$~</a>\n\
        <a href=\"deep/\">deep/</a>\n\
        <a href=\"s.json\">s.json</a>\n\
        <a href=\"x%20%3C&%22%27%20%25%3F%23%C3%A9.txt\">x &lt;&amp;&#34;&#39; %?#é.txt</a>\n\
        </pre>\n";
    assert_eq!(
        ask(&pair, "GET", "/sub/", "").await?,
        format!(
            "HTTP/1.1 200 OK\ncontent-length: {}\ncontent-type: text/html; charset=utf-8\n{DATE}\n\n{page}",
            page.len()
        )
    );
    let since = "If-Modified-Since: Tue, 02 Jan 2024 03:04:05 GMT\r\n";
    assert_eq!(
        ask(&pair, "GET", "/sub/", since).await?,
        "HTTP/1.1 304 Not Modified\n\n\n"
    );
    Ok(())
}

async fn conditions(lab: &Lab) -> Outcome {
    let pair = site(lab)?.start().await?;
    let whole = ask(&pair, "GET", "/a.txt", "").await?;
    let not_modified = format!("HTTP/1.1 304 Not Modified\n{DATE}\n\n");
    let failed = format!("HTTP/1.1 412 Precondition Failed\ncontent-length: 0\n{DATE}\n\n");
    let part = |range: &str, text: &str| {
        format!(
            "HTTP/1.1 206 Partial Content\naccept-ranges: bytes\ncontent-length: {}\n\
             content-range: bytes {range}/12\ncontent-type: text/plain; charset=utf-8\n{DATE}\n\n{text}",
            text.len()
        )
    };
    let unsatisfiable = |range: &str, text: &str| {
        format!(
            "HTTP/1.1 416 Requested Range Not Satisfiable\ncontent-length: {}\n{range}\
             content-type: text/plain; charset=utf-8\nx-content-type-options: nosniff\n\n{text}",
            text.len()
        )
    };
    for (fields, expected) in [
        (
            "If-Modified-Since: Tue, 02 Jan 2024 03:04:05 GMT",
            not_modified.clone(),
        ),
        (
            "If-Modified-Since: Tue, 02 Jan 2024 03:04:04 GMT",
            whole.clone(),
        ),
        ("If-None-Match: *", not_modified),
        ("If-None-Match: \"x\"", whole.clone()),
        (
            "If-Unmodified-Since: Tue, 02 Jan 2024 03:04:04 GMT",
            failed.clone(),
        ),
        ("If-Match: \"x\"", failed),
        ("Range: bytes=1-3", part("1-3", "ell")),
        ("Range: bytes=-3", part("9-11", "ld\n")),
        ("Range: bytes=9-100", part("9-11", "ld\n")),
        ("Range: bytes=0-11,0-11", whole.clone()),
        (
            "Range: bytes=1-3\r\nIf-Range: Tue, 02 Jan 2024 03:04:04 GMT",
            whole.clone(),
        ),
        (
            "Range: bytes=100-",
            unsatisfiable(
                "content-range: bytes */12\n",
                "invalid range: failed to overlap\n",
            ),
        ),
        ("Range: bytes=abc", unsatisfiable("", "invalid range\n")),
    ] {
        let got = ask(&pair, "GET", "/a.txt", &format!("{fields}\r\n")).await?;
        assert_eq!(got, expected, "{fields}");
    }
    let several = ask(&pair, "GET", "/a.txt", "Range: bytes=0-1,3-4\r\n").await?;
    let boundary = several
        .split_once("boundary=")
        .and_then(|(_, rest)| rest.lines().next())
        .unwrap_or_default();
    let head = "Content-Type: text/plain; charset=utf-8\r\n\r\n";
    let body = format!(
        "--{boundary}\r\nContent-Range: bytes 0-1/12\r\n{head}he\r\n\
         --{boundary}\r\nContent-Range: bytes 3-4/12\r\n{head}lo\r\n--{boundary}--\r\n"
    );
    assert!(several.ends_with(&format!("\n\n{body}")), "{several}");
    assert!(
        several.contains(&format!("\ncontent-length: {}\n", body.len())),
        "{several}"
    );
    if lab.frpc.maker == Maker::Ours {
        // Upstream says gzip here and sends what is none.
        let both = ask(
            &pair,
            "GET",
            "/a.txt",
            "Range: bytes=1-3\r\nAccept-Encoding: gzip\r\n",
        )
        .await?;
        assert_eq!(both, part("1-3", "ell"));
    }
    Ok(())
}

async fn credentials(lab: &Lab) -> Outcome {
    let setup = site(lab)?
        .proxy("plugin.stripPrefix", "pre")
        .proxy("plugin.httpUser", "u")
        .proxy("plugin.httpPassword", "p");
    let pair = setup.start().await?;
    for path in ["/", "/pre", "/other/a.txt"] {
        assert_eq!(ask(&pair, "GET", path, "").await?, not_found(), "{path}");
    }
    for fields in [
        "",
        "Authorization: Basic eDp5\r\n",
        "Authorization: Bearer dTpw\r\n",
    ] {
        assert_eq!(
            ask(&pair, "GET", "/pre/a.txt", fields).await?,
            "HTTP/1.1 401 Unauthorized\ncontent-length: 13\ncontent-type: text/plain; charset=utf-8\n\
             www-authenticate: Basic realm=\"Restricted\"\nx-content-type-options: nosniff\n\nUnauthorized\n"
        );
    }
    let right = "Authorization: Basic dTpw\r\n";
    let served = ask(&pair, "GET", "/pre/a.txt", right).await?;
    assert!(served.ends_with("hello world\n"), "{served}");
    let redirected = ask(&pair, "GET", "/pre/sub", right).await?;
    assert!(redirected.contains("location: sub/\n"), "{redirected}");
    Ok(())
}
