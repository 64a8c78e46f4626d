//! The HTTP check: one GET over a connection of its own, redirects followed.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use frp_proto::config::raw::client::{HealthCheckConfig, HttpHeader};
use frp_proto::net::dial::{DialOptions, dial};
use frp_proto::net::listen::join_host_port;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// Of an answer's header.
const MAX_HEADER: usize = 64 * 1024;

/// What is asked, and where.
#[derive(Debug)]
pub(super) struct Probe {
    local: DialOptions,
    url: String,
    headers: Vec<HttpHeader>,
    /// Redirects to another address are not followed.
    same_target: bool,
}

impl Probe {
    pub(super) fn new(local: DialOptions, config: &HealthCheckConfig) -> Self {
        let path = &config.path;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let address = join_host_port(&local.host, local.port);
        Self {
            url: format!("http://{address}{slash}{path}"),
            local,
            headers: config.http_headers.clone(),
            same_target: config.same_target,
        }
    }

    /// Fails unless the last answer has a status 2xx.
    pub(super) async fn run(&self) -> Result<(), String> {
        let limit: Duration = self.local.timeout;
        let answer = timeout(limit, self.follow()).await;
        let status = answer
            .unwrap_or_else(|_| Err("context deadline exceeded".into()))
            .map_err(|e| format!("Get {:?}: {e}", self.url))?;
        if status.is_success() {
            Ok(())
        } else {
            let code = status.as_u16();
            Err(format!(
                "do http health check, StatusCode is [{code}] not 2xx"
            ))
        }
    }

    /// The status behind all redirects.
    async fn follow(&self) -> Result<StatusCode, String> {
        let mut headers = header_map(&self.headers)?;
        let mut url: Uri = escape(&self.url).parse().map_err(|e| format!("{e}"))?;
        for _ in 0..=MAX_REDIRECTS {
            let response = get(&self.local, &url, headers.clone()).await?;
            let status = response.status();
            let Some(location) = redirect(&response) else {
                return Ok(status);
            };
            let next = resolve(&url, location)?;
            if next.authority() != url.authority() {
                if self.same_target {
                    return Err(format!("redirect to another address: {next}"));
                }
                // A host that was told to one server means nothing to another.
                headers.remove(HOST);
            }
            url = next;
        }
        Err(format!("stopped after {MAX_REDIRECTS} redirects"))
    }
}

/// The configured headers, of which later ones replace earlier ones, and Go's own.
fn header_map(headers: &[HttpHeader]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    map.insert(USER_AGENT, HeaderValue::from_static("Go-http-client/1.1"));
    for HttpHeader { name, value } in headers {
        let name: HeaderName = name
            .parse()
            .map_err(|_| format!("net/http: invalid header field name {name:?}"))?;
        let value = HeaderValue::from_str(value).map_err(|_| {
            format!(
                "net/http: invalid header field value for {:?}",
                name.as_str()
            )
        })?;
        map.insert(name, value);
    }
    if !map.contains_key(ACCEPT_ENCODING) {
        map.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(map)
}

/// One request. The answer's body is not read: the connection ends with it.
async fn get(local: &DialOptions, url: &Uri, headers: HeaderMap) -> Result<Response<()>, String> {
    let authority = url.authority().ok_or("http: no Host in request URL")?;
    let target = DialOptions {
        host: authority.host().trim_matches(['[', ']']).to_owned(),
        port: authority.port_u16().unwrap_or(80),
        ..local.clone()
    };
    let stream = dial(&target).await.map_err(|e| e.to_string())?;
    let mut builder = http1::Builder::new();
    builder.title_case_headers(true).max_buf_size(MAX_HEADER);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let mut request = Request::new(Empty::<Bytes>::new());
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    *request.uri_mut() = path.parse().map_err(|e| format!("{e}"))?;
    let host = match headers.get(HOST) {
        Some(host) => host.clone(),
        None => HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?,
    };
    // The host comes first on the wire.
    request.headers_mut().insert(HOST, host);
    let others = headers.iter().filter(|(name, _)| *name != HOST);
    request
        .headers_mut()
        .extend(others.map(|(name, value)| (name.clone(), value.clone())));
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    let response = tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(e) => Err(e),
        },
    };
    response.map(|r| r.map(drop)).map_err(|e| e.to_string())
}

/// Where an answer sends its client, if it does.
fn redirect<B>(response: &Response<B>) -> Option<&str> {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308).then_some(())?;
    response.headers().get(LOCATION)?.to_str().ok()
}

/// The URL that `location` means in an answer from `base` (RFC 3986 §5.2, without dot segments).
fn resolve(base: &Uri, location: &str) -> Result<Uri, String> {
    let location = escape(location.split('#').next().unwrap_or_default());
    let authority = base.authority().map_or("", |a| a.as_str());
    let path = base.path();
    let scheme = |text: &str| {
        let (scheme, _) = text.split_once(':')?;
        scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
            .then(|| scheme.to_ascii_lowercase())
    };
    let absolute = match scheme(&location) {
        Some(scheme) if scheme == "http" => location,
        Some(scheme) => return Err(format!("unsupported protocol scheme {scheme:?}")),
        None if location.starts_with("//") => format!("http:{location}"),
        None if location.starts_with('/') => format!("http://{authority}{location}"),
        None if location.starts_with('?') => format!("http://{authority}{path}{location}"),
        None => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("http://{authority}{directory}/{location}")
        }
    };
    absolute.parse().map_err(|e| format!("{e}"))
}

/// Percent-encodes what may not stand in a URL.
fn escape(url: &str) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let mut out = String::with_capacity(url.len());
    for byte in url.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::super::tests::base;
    use super::super::{Check, Probe as AnyProbe};

    /// A server that gives one answer a connection, and what it was asked.
    async fn server(answers: &[&str]) -> (u16, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = mpsc::channel(answers.len().max(1));
        let answers: Vec<String> = answers.iter().map(|&a| a.to_owned()).collect();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let request = String::from_utf8(request).unwrap();
                sender.send(request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            // The next one is accepted and hangs.
            let _held = listener.accept().await;
            std::future::pending::<()>().await;
        });
        (port, requests)
    }

    async fn check(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let mut base = base(port, "http");
        base.health_check.path = path.into();
        base.health_check.timeout_seconds = 1;
        base.health_check.http_headers = headers
            .iter()
            .map(|&(name, value)| HttpHeader {
                name: name.into(),
                value: value.into(),
            })
            .collect();
        let check = Check::new(&base).unwrap();
        assert!(matches!(check.probe, AnyProbe::Http(_)));
        check.run().await
    }

    #[tokio::test]
    async fn the_request_is_as_upstream_makes_it() {
        let (port, mut requests) = server(&["HTTP/1.1 204 No Content\r\n\r\n"]).await;
        let headers = [("x-a", "1"), ("Host", "health.local"), ("X-A", "2")];
        check(port, "status?x=1", &headers).await.unwrap();
        assert_eq!(
            requests.recv().await.unwrap(),
            "GET /status?x=1 HTTP/1.1\r\nHost: health.local\r\nUser-Agent: Go-http-client/1.1\r\nX-A: 2\r\nAccept-Encoding: gzip\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn only_the_last_status_counts() {
        let to = |location: &str| {
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
        };
        let answers = [
            &to("/b/c"),
            &to("d?q"),
            &to("?r"),
            "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nonly a part",
        ];
        let (port, mut requests) = server(&answers).await;
        check(port, "/a", &[]).await.unwrap();
        for line in ["GET /a ", "GET /b/c ", "GET /b/d?q ", "GET /b/d?r "] {
            let request = requests.recv().await.unwrap();
            assert!(request.starts_with(line), "{request}");
            assert!(request.contains(&format!("\r\nHost: 127.0.0.1:{port}\r\n")));
        }
        for (answer, expected) in [
            (
                "HTTP/1.1 503 No\r\n\r\n",
                "do http health check, StatusCode is [503] not 2xx".to_owned(),
            ),
            (
                "HTTP/1.1 304 No\r\n\r\n",
                "do http health check, StatusCode is [304] not 2xx".to_owned(),
            ),
            (
                "HTTP/1.1 301 No\r\n\r\n",
                "do http health check, StatusCode is [301] not 2xx".to_owned(),
            ),
        ] {
            let (port, _requests) = server(&[answer]).await;
            assert_eq!(check(port, "/", &[]).await, Err(expected));
        }
    }

    #[tokio::test]
    async fn a_check_of_a_pushed_proxy_asks_nobody_else() {
        let (elsewhere, mut others) = server(&["HTTP/1.1 200 OK\r\n\r\n"]).await;
        let away = format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{elsewhere}/\r\n\r\n");
        let near = "HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n";
        let (port, _requests) = server(&[near, &away]).await;
        let mut base = base(port, "http");
        base.health_check.path = "/".into();
        base.health_check.same_target = true;
        let error = Check::new(&base).unwrap().run().await.unwrap_err();
        assert!(error.contains("redirect to another address"), "{error}");
        assert!(others.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_goes_wrong_is_named() {
        let error =
            |port: u16, text: &str| Err(format!("Get \"http://127.0.0.1:{port}/\": {text}"));
        let (port, _requests) = server(&[]).await;
        assert_eq!(
            check(port, "/", &[]).await,
            error(port, "context deadline exceeded")
        );
        let (port, _requests) = server(&["HTTP/1.1 301 M\r\nLocation: https://a/\r\n\r\n"]).await;
        assert_eq!(
            check(port, "/", &[]).await,
            error(port, "unsupported protocol scheme \"https\"")
        );
        let forever = ["HTTP/1.1 307 M\r\nLocation: /\r\n\r\n"; MAX_REDIRECTS + 1];
        let (port, _requests) = server(&forever).await;
        assert_eq!(
            check(port, "/", &[]).await,
            error(port, "stopped after 10 redirects")
        );
        let (port, _requests) = server(&["nonsense\r\n\r\n"]).await;
        assert!(check(port, "/", &[]).await.is_err());
        assert_eq!(
            check(port, "/", &[("a b", "")]).await,
            error(port, "net/http: invalid header field name \"a b\"")
        );
    }

    #[test]
    fn urls_are_made_legal() {
        assert_eq!(escape("http://a/b c?ä=1#f"), "http://a/b%20c?%C3%A4=1");
        let base: Uri = "http://a:1/b/c?d".parse().unwrap();
        for (location, expected) in [
            ("/x", "http://a:1/x"),
            ("x", "http://a:1/b/x"),
            ("//h/x", "http://h/x"),
            ("HTTP://h:2", "http://h:2/"),
        ] {
            assert_eq!(resolve(&base, location).unwrap().to_string(), expected);
        }
    }
}
