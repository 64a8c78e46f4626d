//! Asking a provider: one request over a connection of its own. Providers are asked rarely.

use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION};
use ::http::{Method, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::net::Conn;
use crate::net::dial::{DialOptions, dial};
use crate::net::via_proxy::{ProxyUrl, dial_forwarding, dial_via};
use crate::tls::ClientTls;

/// For one request from dialling to the last byte of the answer; upstream waits for ever.
const LIMIT: Duration = Duration::from_secs(10);
/// Idle seconds before keepalive probes.
const KEEPALIVE_SECS: i64 = 30;
/// Bytes of an answer's body.
const MAX_BODY: usize = 1024 * 1024;

/// How to reach a provider.
pub(super) struct Client {
    tls: ClientTls,
    proxy: Option<ProxyUrl>,
}

/// What a provider answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

impl Answer {
    /// `404 Not Found`
    pub(super) fn status_line(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or_default();
        format!("{} {reason}", self.status.as_u16())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub(super) fn new(tls: ClientTls, proxy: Option<ProxyUrl>) -> Self {
        Self { tls, proxy }
    }

    pub(super) async fn get(&self, url: &str) -> Result<Answer, String> {
        self.ask(Method::GET, url, None, String::new()).await
    }

    /// Posts a form; `authorization` is the value of the header field.
    pub(super) async fn post(
        &self,
        url: &str,
        authorization: Option<String>,
        form: String,
    ) -> Result<Answer, String> {
        self.ask(Method::POST, url, authorization, form).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        authorization: Option<String>,
        form: String,
    ) -> Result<Answer, String> {
        let verb = if method == Method::GET { "Get" } else { "Post" };
        let exchange = Box::pin(self.exchange(method, url, authorization, form));
        timeout(LIMIT, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs())))
            .map_err(|e| format!("{verb} {url:?}: {e}"))
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        authorization: Option<String>,
        form: String,
    ) -> Result<Answer, String> {
        let unsupported = || {
            let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("unsupported protocol scheme {scheme:?}")
        };
        let uri: Uri = url.parse().map_err(|_| unsupported())?;
        let (secure, default_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(unsupported()),
        };
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(default_port);
        let authority = uri.authority().map_or("", |a| a.as_str());
        let authority = authority.rsplit_once('@').map_or(authority, |(_, a)| a);
        // Such a proxy is told the whole URL.
        let forwarding = self.proxy.as_ref().filter(|p| !secure && p.forwards());
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let target = match forwarding {
            Some(_) => format!("http://{authority}{path}"),
            None => path.to_owned(),
        };
        let options = DialOptions {
            host: host.to_owned(),
            port,
            timeout: LIMIT,
            keepalive_secs: KEEPALIVE_SECS,
            local_ip: None,
        };
        let connected = match forwarding {
            Some(proxy) => dial_forwarding(proxy, &options).await,
            None => self.connect(&options, secure).await.map(|c| (c, None)),
        };
        let (conn, proxy_authorization) = connected.map_err(|e| e.to_string())?;
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, authority)
            .header(CONNECTION, "close");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(value) = proxy_authorization {
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        if !form.is_empty() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request
            .body(Full::new(Bytes::from(form)))
            .map_err(|e| e.to_string())?;
        let (mut sender, driver) = http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(conn))
            .await
            .map_err(|e| e.to_string())?;
        let answer = async {
            let response = sender.send_request(request).await;
            let (head, body) = response.map_err(|e| e.to_string())?.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await;
            let content_type = head.headers.get(CONTENT_TYPE);
            let content_type = content_type.and_then(|v| v.to_str().ok());
            Ok(Answer {
                status: head.status,
                content_type: content_type.unwrap_or_default().to_owned(),
                body: body.map_err(|e| e.to_string())?.to_bytes(),
            })
        };
        tokio::pin!(answer);
        tokio::select! {
            answered = &mut answer => answered,
            // It may end with the answer's last bytes still to be taken.
            _ = driver => answer.await,
        }
    }

    /// A connection to the provider.
    async fn connect(&self, options: &DialOptions, secure: bool) -> std::io::Result<Conn> {
        let conn = match &self.proxy {
            Some(proxy) => dial_via(proxy, options).await?,
            None => Conn::Tcp(dial(options).await?),
        };
        if secure {
            let tls = self.tls.connect(conn, &options.host).await?;
            return Ok(Conn::Other(Box::new(tls)));
        }
        Ok(conn)
    }
}
