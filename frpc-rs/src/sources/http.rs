//! A source that is fetched over HTTP or HTTPS: asked with the last `ETag`, so that what has not changed is not sent again.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use frp_proto::config::raw::client::SourceConfig;
use frp_proto::config::{self, Entries};
use frp_proto::net::Conn;
use frp_proto::net::dial::{DialOptions, dial};
use frp_proto::tls::{ClientTls, TlsFiles};
use http::header::{ACCEPT, AUTHORIZATION, ETAG, HOST, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::MAX_SIZE;

/// For one answer, from dialling to its last byte.
const LIMIT: Duration = Duration::from_secs(30);
/// For the connection alone.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Idle seconds before keepalive probes.
const KEEPALIVE_SECS: i64 = 15;

/// Asks one URL.
pub(super) struct Client {
    host: String,
    port: u16,
    /// `host:port` as the URL has it.
    authority: String,
    /// Path and query.
    path: String,
    tls: Option<ClientTls>,
    authorization: Option<HeaderValue>,
    /// Of the last answer that could be used.
    etag: Option<HeaderValue>,
}

/// Without credentials, and without the query, which may hold some.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({self})")
    }
}

impl Client {
    /// `user:password@` in the URL becomes basic authentication; HTTPS is verified.
    pub(super) fn new(c: &SourceConfig) -> Result<Self, String> {
        let wrong = || "url must be an absolute http or https URL".to_owned();
        let uri: Uri = c.url.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let (credentials, address) = match authority.as_str().rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority.as_str()),
        };
        let host = uri.host().unwrap_or_default();
        let tls = || match c.trusted_ca_file.as_str() {
            "" => ClientTls::system_roots(),
            file => ClientTls::new(TlsFiles {
                trusted_ca_file: file.into(),
                ..TlsFiles::default()
            }),
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: address.to_owned(),
            path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            tls: secure.then(tls),
            authorization: credentials.map(basic),
            etag: None,
        })
    }

    /// The next answer shall be a whole one.
    pub(super) fn forget(&mut self) {
        self.etag = None;
    }

    /// What the URL says; `None`: the same as before.
    pub(super) async fn read(&mut self) -> Result<Option<Entries>, String> {
        let fetched = timeout(LIMIT, Box::pin(self.fetch())).await;
        let fetched = fetched.map_err(|_| format!("no answer within {} s", LIMIT.as_secs()))??;
        let Some((text, etag)) = fetched else {
            return Ok(None);
        };
        let path = self.path.split('?').next().unwrap_or_default();
        let entries = config::entries_from_text(&text, Path::new(path));
        let entries = entries.map_err(|e| e.to_string())?;
        self.etag = etag;
        Ok(Some(entries))
    }

    /// A body with its `ETag`.
    async fn fetch(&self) -> Result<Option<(String, Option<HeaderValue>)>, String> {
        let response = self.send().await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if self.etag.is_some() => return Ok(None),
            status => return Err(format!("status {}", status.as_u16())),
        }
        let etag = response.headers().get(ETAG).cloned();
        let limit = usize::try_from(MAX_SIZE).unwrap_or(usize::MAX);
        let body = Limited::new(response.into_body(), limit).collect().await;
        let body = body.map_err(|e| e.to_string())?.to_bytes();
        let text = String::from_utf8(body.into()).map_err(|e| e.to_string())?;
        Ok(Some((text, etag)))
    }

    async fn send(&self) -> Result<Response<Incoming>, String> {
        let conn = self.connect().await?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(conn))
            .await
            .map_err(|e| e.to_string())?;
        // It ends with its sender and the body.
        tokio::spawn(driver);
        let mut request = Request::get(&self.path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("frpc/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "*/*");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(etag) = &self.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|e| e.to_string())?;
        sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())
    }

    async fn connect(&self) -> Result<Conn, String> {
        let options = DialOptions {
            host: self.host.clone(),
            port: self.port,
            timeout: DIAL_LIMIT,
            keepalive_secs: KEEPALIVE_SECS,
            local_ip: None,
        };
        let stream = dial(&options).await.map_err(|e| e.to_string())?;
        let Some(tls) = &self.tls else {
            return Ok(Conn::Tcp(stream));
        };
        let stream = tls.connect(stream, &self.host).await;
        Ok(Conn::Other(Box::new(stream.map_err(|e| e.to_string())?)))
    }
}

fn basic(credentials: &str) -> HeaderValue {
    let plain: Vec<u8> = percent_encoding::percent_decode_str(credentials).collect();
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain)))
        .expect("base64 is printable");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn client(url: &str) -> Result<Client, String> {
        Client::new(&SourceConfig {
            type_: "http".into(),
            url: url.into(),
            ..SourceConfig::default()
        })
    }

    #[test]
    fn urls() {
        let secret = client("https://me:p%40ss@[::1]/a/b.toml?key=k").unwrap();
        assert_eq!((secret.host.as_str(), secret.port), ("::1", 443));
        assert_eq!(secret.to_string(), "https://[::1]/a/b.toml");
        assert_eq!(secret.path, "/a/b.toml?key=k");
        assert_eq!(secret.authorization.unwrap(), "Basic bWU6cEBzcw==");
        assert_eq!(client("http://h:8080").unwrap().path, "/");
        for wrong in ["", "h", "/a", "ftp://h/a", "http://"] {
            assert!(client(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_has_not_changed_is_not_sent_again() {
        const ANSWERS: [&str; 5] = [
            "200 OK\r\nETag: \"1\"\r\nConnection: close\r\n\r\n[[visitors]]\nname=\"v\"\ntype=\"stcp\"\nserverName=\"s\"\nbindPort=1",
            "304 Not Modified\r\n\r\n",
            "200 OK\r\nETag: \"2\"\r\nContent-Length: 7\r\n\r\ngarbage",
            "500 Oops\r\nContent-Length: 0\r\n\r\n",
            "302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in ANSWERS {
                let (mut user, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let n = user.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..n]).to_lowercase();
                asked.push(head.contains("if-none-match: \"1\""));
                let answer = format!("HTTP/1.1 {answer}");
                user.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        let mut client = client(&format!("http://{address}/s.toml")).unwrap();
        let entries = client.read().await;
        assert_eq!(entries.unwrap().unwrap().visitors.len(), 1);
        assert!(client.read().await.unwrap().is_none());
        // What cannot be used does not count as known.
        assert!(client.read().await.unwrap_err().contains("s.toml:1"));
        assert_eq!(client.read().await.unwrap_err(), "status 500");
        assert_eq!(client.read().await.unwrap_err(), "status 302");
        assert_eq!(server.await.unwrap(), [false, true, true, true, true]);
    }
}
