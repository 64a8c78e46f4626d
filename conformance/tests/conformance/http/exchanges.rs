//! One request, one answer: routing, credentials, heads, and what frps answers by itself.

use conformance::{Case, Failure, Lab, Outcome};

use super::{Site, domains, is_ours, proxy, text};
use conformance::config::Value;
use conformance::http::Backend;

/// Name, request, answer; a second answer is upstream's where ours differs on purpose.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// Stands for the body of the 404 page.
const PAGE: &str = "<page>";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\ncontent-type: text/html; charset=utf-8\n\n<page>";
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\ncontent-type: text/plain; charset=utf-8\nwww-authenticate: Basic realm=\"Restricted\"\nx-content-type-options: nosniff\n\nUnauthorized\n";
const PROXY_UNAUTHORIZED: &str = "HTTP/1.1 407 Proxy Authentication Required\ncontent-type: text/plain; charset=utf-8\nproxy-authenticate: Basic realm=\"Restricted\"\nx-content-type-options: nosniff\n\nProxy Authentication Required\n";
const BAD: &str = "HTTP/1.1 400 Bad Request\nconnection: close\n\n";
const GO_BAD: &str = "HTTP/1.1 400 Bad Request\nconnection: close\ncontent-type: text/plain; charset=utf-8\n\n400 Bad Request";

const HEADS: [Row; 16] = [
    (
        "rewritten",
        "GET /plain?a=1&b=%zz&c=d;e HTTP/1.1\r\nHost: A.TEST:62610\r\nx-foo: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nForwarded: for=x\r\nX-Real-IP: 9.9.9.9\r\nConnection: close, x-foo\r\nTE: trailers\r\nx-req: client\r\n\r\n",
        &[
            "HTTP/1.1 200 OK\nconnection: close\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nGET /plain?a=1 HTTP/1.1\nhost: A.TEST:62610\nte: trailers\nx-forwarded-for: 1.1.1.1, 2.2.2.2, 127.0.0.1\nx-forwarded-host: A.TEST:62610\nx-forwarded-port: 1\nx-forwarded-proto: http\nx-real-ip: 9.9.9.9\nx-req: v1\n\n",
        ],
    ),
    (
        "connection_names_what_frames",
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: host, content-length\r\nContent-Length: 3\r\n\r\nabc",
        &[
            "HTTP/1.1 200 OK\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nPOST / HTTP/1.1\ncontent-length: 3\nhost: a.test\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\nabc",
        ],
    ),
    (
        "hops_of_the_backend",
        "GET /hops HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["HTTP/1.1 200 OK\ncontent-type: a/b\nx-resp: v2\n\nok"],
    ),
    (
        "query_sorted",
        "GET /?b=2+%2b&%zz=1&a=%C3%A4&b=1&x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[
            "HTTP/1.1 200 OK\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nGET /?a=%C3%A4&b=2+%2B&b=1&x= HTTP/1.1\nhost: a.test\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\n",
        ],
    ),
    (
        "path_untouched",
        "GET //a/../b%2Fc?x=%41 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[
            "HTTP/1.1 200 OK\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nGET //a/../b%2Fc?x=%41 HTTP/1.1\nhost: a.test\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\n",
        ],
    ),
    (
        "options_star",
        "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["HTTP/1.1 200 OK\n\n"],
    ),
    (
        "expectation",
        "GET / HTTP/1.1\r\nHost: a.test\r\nExpect: foo\r\n\r\n",
        &["HTTP/1.1 417 Expectation Failed\nconnection: close\n\n"],
    ),
    (
        "no_host",
        "GET / HTTP/1.1\r\n\r\n",
        &[
            "HTTP/1.1 400 Bad Request: missing required Host header\nconnection: close\ncontent-type: text/plain; charset=utf-8\n\n400 Bad Request: missing required Host header",
        ],
    ),
    (
        "malformed_host",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        &[
            "HTTP/1.1 400 Bad Request: malformed Host header\nconnection: close\ncontent-type: text/plain; charset=utf-8\n\n400 Bad Request: malformed Host header",
        ],
    ),
    (
        "two_hosts",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        &[GO_BAD],
    ),
    (
        "malformed_path",
        "GET /%zz HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[GO_BAD],
    ),
    (
        "no_request_line",
        "garbage-without-a-request-line\r\n\r\n",
        &[BAD, GO_BAD],
    ),
    (
        "transfer_coding",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        &[
            "HTTP/1.1 501 Not Implemented\nconnection: close\ncontent-type: text/plain; charset=utf-8\n\nUnsupported transfer encoding",
        ],
    ),
    (
        "no_host_http10",
        "GET / HTTP/1.0\r\n\r\n",
        &["HTTP/1.0 404 Not Found\ncontent-type: text/html; charset=utf-8\n\n<page>"],
    ),
    (
        "status_without_body",
        "GET /none HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["HTTP/1.1 204 No Content\nx-other: 1\nx-resp: v2\n\n"],
    ),
    (
        "not_modified",
        "GET /same HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["HTTP/1.1 304 Not Modified\netag: \"1\"\nx-resp: v2\n\n"],
    ),
];

const ROUTES: [Row; 15] = [
    (
        "domain",
        "GET / HTTP/1.1\r\nHost: A.test.:1\r\n\r\n",
        &["200 A"],
    ),
    (
        "unknown",
        "GET / HTTP/1.1\r\nHost: no.test\r\n\r\n",
        &[NOT_FOUND],
    ),
    (
        "wildcard",
        "GET / HTTP/1.1\r\nHost: x.y.wild.test\r\n\r\n",
        &["200 A"],
    ),
    (
        "below_the_wildcard",
        "GET / HTTP/1.1\r\nHost: wild.test\r\n\r\n",
        &[NOT_FOUND],
    ),
    (
        "subdomain",
        "GET /x HTTP/1.1\r\nHost: s.sub.test\r\n\r\n",
        &["200 B"],
    ),
    (
        "location",
        "GET /x/y/z HTTP/1.1\r\nHost: s.sub.test\r\n\r\n",
        &["200 B"],
    ),
    (
        "longest_location",
        "GET /long/est HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["200 B"],
    ),
    (
        "encoded_location",
        "GET /l%6fng HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["200 B"],
    ),
    (
        "prefix_of_a_segment",
        "GET /longer HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["200 B"],
    ),
    (
        "other_location",
        "GET /lon HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["200 A"],
    ),
    (
        "no_location",
        "GET /z HTTP/1.1\r\nHost: s.sub.test\r\n\r\n",
        &[NOT_FOUND],
    ),
    (
        "user",
        "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic YW5uOng=\r\n\r\n",
        &["200 B"],
    ),
    (
        "other_user",
        "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic Ym9iOng=\r\n\r\n",
        &["200 A"],
    ),
    (
        "user_of_the_proxy",
        "GET http://a.test/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Ym9iOng=\r\nProxy-Authorization: Basic YW5uOng=\r\n\r\n",
        &["200 B"],
    ),
    (
        "absolute_target",
        "GET http://a.test/long HTTP/1.1\r\nHost: no.test\r\n\r\n",
        &["200 B"],
    ),
];

const CREDENTIALS: [Row; 8] = [
    (
        "none",
        "GET / HTTP/1.1\r\nHost: auth.test\r\n\r\n",
        &[UNAUTHORIZED],
    ),
    (
        "wrong",
        "GET / HTTP/1.1\r\nHost: auth.test\r\nAuthorization: Basic dTp4\r\n\r\n",
        &[UNAUTHORIZED],
    ),
    (
        "right",
        "GET / HTTP/1.1\r\nHost: auth.test:1\r\nAuthorization: basic dTpw\r\n\r\n",
        &[
            "HTTP/1.1 200 OK\ncontent-type: a/b\nx-backend: A\n\nGET / HTTP/1.1\nauthorization: basic dTpw\nhost: rewritten.example:99\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: auth.test:1\nx-forwarded-proto: http\n\n",
        ],
    ),
    (
        "proxy_none",
        "GET http://auth.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
        &[PROXY_UNAUTHORIZED],
    ),
    (
        "proxy_by_the_other_field",
        "GET http://auth.test/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic dTpw\r\n\r\n",
        &[PROXY_UNAUTHORIZED],
    ),
    (
        "proxy_right",
        "GET http://auth.test/x HTTP/1.1\r\nHost: auth.test\r\nProxy-Authorization: Basic dTpw\r\n\r\n",
        &[
            "HTTP/1.1 200 OK\ncontent-type: a/b\nx-backend: A\n\nGET http://rewritten.example:99/x HTTP/1.1\nhost: rewritten.example:99\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: auth.test\nx-forwarded-proto: http\n\n",
        ],
    ),
    (
        "direct_by_the_other_field",
        "GET / HTTP/1.1\r\nHost: auth.test\r\nProxy-Authorization: Basic dTpw\r\n\r\n",
        &[UNAUTHORIZED],
    ),
    (
        "connect_none",
        "CONNECT auth.test:443 HTTP/1.1\r\nHost: auth.test:443\r\n\r\n",
        &[PROXY_UNAUTHORIZED],
    ),
];

const BACKENDS: [Row; 6] = [
    (
        "down",
        "GET / HTTP/1.1\r\nHost: down.test\r\n\r\n",
        &[NOT_FOUND],
    ),
    (
        "eof",
        "GET /eof HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[NOT_FOUND],
    ),
    (
        "garbage",
        "GET /garbage HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[NOT_FOUND],
    ),
    (
        "two_lengths",
        "GET /lengths HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[NOT_FOUND],
    ),
    (
        "switches_unasked",
        "GET /switch HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[NOT_FOUND],
    ),
    (
        "switches_to_another_protocol",
        "GET /switch-else HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        &[NOT_FOUND],
    ),
];

/// What two programs might read differently must not reach a backend as it came.
const SMUGGLING: [Row; 13] = [
    (
        "length_then_chunks",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        &[CHUNKED_CLOSED, CHUNKED],
    ),
    (
        "chunks_then_length",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        &[CHUNKED_CLOSED, CHUNKED],
    ),
    (
        "two_lengths",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        &[BAD, GO_BAD],
    ),
    (
        "signed_length",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +3\r\n\r\nabc",
        &[BAD, GO_BAD],
    ),
    (
        "folded",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\n c\r\n\r\n",
        &[
            BAD,
            "HTTP/1.1 200 OK\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nGET / HTTP/1.1\nhost: a.test\nx-a: b c\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\n",
        ],
    ),
    (
        "nul",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX-A: b\0c\r\n\r\n",
        &[BAD, GO_BAD],
    ),
    (
        "bare_cr",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX-A: b\rX-B: c\r\n\r\n",
        &[BAD, GO_BAD],
    ),
    (
        "bare_lf",
        "GET / HTTP/1.1\nHost: a.test\nX-A: b\n\n",
        &[
            "HTTP/1.1 200 OK\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nGET / HTTP/1.1\nhost: a.test\nx-a: b\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\n",
        ],
    ),
    (
        "space_before_the_colon",
        "GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n",
        &[
            BAD,
            "HTTP/1.1 400 Bad Request: invalid header name\nconnection: close\ncontent-type: text/plain; charset=utf-8\n\n400 Bad Request: invalid header name",
        ],
    ),
    (
        "two_codings",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        &[BAD, NOT_IMPLEMENTED],
    ),
    (
        "unknown_coding",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: foo\r\n\r\n",
        &[BAD, NOT_IMPLEMENTED],
    ),
    (
        "vertical_tab",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        &[BAD, GO_BAD],
    ),
    (
        "chunks_in_http10",
        "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        &[
            "HTTP/1.1 400 Bad Request\nconnection: close\n\n",
            "HTTP/1.0 200 OK\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nPOST / HTTP/1.1\ncontent-length: 0\nhost: a.test\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\n",
        ],
    ),
];

const NOT_IMPLEMENTED: &str = "HTTP/1.1 501 Not Implemented\nconnection: close\ncontent-type: text/plain; charset=utf-8\n\nUnsupported transfer encoding";
const CHUNKED: &str = "HTTP/1.1 200 OK\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nPOST / HTTP/1.1\nhost: a.test\ntransfer-encoding: chunked\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\nabc";
const CHUNKED_CLOSED: &str = "HTTP/1.1 200 OK\nconnection: close\ncontent-type: a/b\nx-backend: A\nx-resp: v2\n\nPOST / HTTP/1.1\nhost: a.test\ntransfer-encoding: chunked\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\nabc";

pub(super) fn cases() -> Vec<Case> {
    [
        ("heads", &HEADS[..]),
        ("routes", &ROUTES),
        ("credentials", &CREDENTIALS),
        ("backends", &BACKENDS),
        ("smuggling", &SMUGGLING),
    ]
    .into_iter()
    .map(|(name, rows)| {
        Case::pair(format!("http/{name}"), async move |lab| {
            exchanges(lab, rows).await
        })
    })
    .chain([Case::pair("http/custom_404_page", custom_page)])
    .collect()
}

/// A pair whose proxies have all that the rows ask for.
pub(super) async fn site(lab: &Lab) -> Outcome<(Site, Backend, Backend)> {
    let (a, b) = (Backend::start("A").await?, Backend::start("B").await?);
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], conformance::ports::free()));
    let proxies = vec![
        proxy(
            "plain",
            a.address,
            &[
                domains(&["a.test", "*.wild.test", "tunnel.test"]),
                text("requestHeaders.set.x-req", "v1"),
                text("responseHeaders.set.x-resp", "v2"),
            ],
        ),
        proxy(
            "long",
            b.address,
            &[
                domains(&["a.test"]),
                ("locations", Value::Texts(vec!["/long", "/long/est"])),
            ],
        ),
        proxy(
            "user",
            b.address,
            &[domains(&["a.test"]), text("routeByHTTPUser", "ann")],
        ),
        proxy(
            "sub",
            b.address,
            &[
                text("subdomain", "s"),
                ("locations", Value::Texts(vec!["/x", "/x/y"])),
            ],
        ),
        proxy(
            "auth",
            a.address,
            &[
                domains(&["auth.test"]),
                text("httpUser", "u"),
                text("httpPassword", "p"),
                text("hostHeaderRewrite", "rewritten.example:99"),
            ],
        ),
        proxy("down", nobody, &[domains(&["down.test"])]),
    ];
    let site = Site::start(lab, proxies, |frps| frps.frps("subDomainHost", "sub.test")).await?;
    Ok((site, a, b))
}

async fn exchanges(lab: &Lab, rows: &[Row]) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    for (name, request, expected) in rows {
        let expected = match expected {
            [_, upstream] if !is_ours(lab) => upstream,
            [ours, ..] => ours,
            [] => "",
        };
        let answer = site
            .ask(request)
            .await
            .map_err(|e| Failure::new(format!("{name}: {e}")))?;
        if let Some(backend) = expected.strip_prefix("200 ") {
            let line = format!("\nx-backend: {backend}\n");
            assert!(answer.contains(&line), "{name}: {answer}");
        } else {
            let page = include_str!("not_found.html");
            assert_eq!(answer, expected.replace(PAGE, page), "{name}");
        }
    }
    Ok(())
}

async fn custom_page(lab: &Lab) -> Outcome {
    let file = lab.file("404.txt", "gone\n")?;
    let site = Site::start(lab, Vec::new(), |frps| {
        frps.frps("custom404Page", file.as_str())
    })
    .await?;
    let request = super::get("no.test", "/");
    let plain = "HTTP/1.1 404 Not Found\ncontent-type: text/plain; charset=utf-8\n\ngone\n";
    assert_eq!(site.ask(&request).await?, plain);
    // It is read each time.
    lab.file("404.txt", "<!DOCTYPE html>x")?;
    let html = "HTTP/1.1 404 Not Found\ncontent-type: text/html; charset=utf-8\n\n<!DOCTYPE html>x";
    assert_eq!(site.ask(&request).await?, html);
    std::fs::remove_file(&file)?;
    let page = include_str!("not_found.html");
    let answer = site.ask(&request).await?;
    assert_eq!(answer, NOT_FOUND.replace(PAGE, page));
    Ok(())
}
