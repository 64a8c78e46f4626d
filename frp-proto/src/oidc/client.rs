//! Where frpc's tokens come from (config-frpc.md §4.2).

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::http::{Answer, Client};
use crate::auth::Secret;
use crate::config;
use crate::config::raw::client::AuthOidcClientConfig;
use crate::config::raw::common::{StringMap, ValueSource};
use crate::net::via_proxy::ProxyUrl;
use crate::tls::{ClientTls, TlsFiles};

/// A token that ends sooner is not used any more.
const EARLY: Duration = Duration::from_secs(10);

/// Gives tokens.
pub struct TokenSource(Kind);

enum Kind {
    Credentials(Box<Credentials>),
    /// Resolved afresh each time.
    Value(ValueSource),
}

/// Shows nothing: nearly all of it is secret.
impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource").finish_non_exhaustive()
    }
}

impl TokenSource {
    /// Takes over a validated `auth.oidc`. Nobody is asked yet.
    pub fn new(c: &AuthOidcClientConfig) -> Result<Self, String> {
        if let Some(source) = &c.token_source {
            return Ok(Self(Kind::Value(source.clone())));
        }
        let proxy = match c.proxy_url.as_str() {
            "" => None,
            url => Some(ProxyUrl::of_client(url).map_err(|e| format!("auth.oidc.proxyURL: {e}"))?),
        };
        let tls = match (c.insecure_skip_verify, c.trusted_ca_file.as_str()) {
            (true, _) => ClientTls::new(TlsFiles::default()),
            (false, "") => ClientTls::system_roots(),
            (false, file) => ClientTls::new(TlsFiles {
                trusted_ca_file: file.into(),
                ..TlsFiles::default()
            }),
        };
        let mut form: StringMap = c.additional_endpoint_params.clone();
        form.entry("grant_type".into())
            .or_insert_with(|| "client_credentials".into());
        if !c.audience.is_empty() {
            form.insert("audience".into(), c.audience.clone());
        }
        form.insert("scope".into(), c.scope.clone());
        Ok(Self(Kind::Credentials(Box::new(Credentials {
            http: Client::new(tls, proxy),
            url: c.token_endpoint_url.clone(),
            id: c.client_id.clone(),
            secret: c.client_secret.as_str().into(),
            form,
            state: Mutex::default(),
        }))))
    }

    /// A token that is good now. The error is upstream's text.
    pub async fn token(&self) -> Result<String, String> {
        match &self.0 {
            Kind::Credentials(credentials) => credentials
                .token()
                .await
                .map_err(|e| format!("couldn't generate OIDC token for login: {e}")),
            Kind::Value(source) => {
                let source = source.clone();
                let resolved =
                    tokio::task::spawn_blocking(move || config::resolve_value(&source)).await;
                resolved
                    .unwrap_or_else(|e| Err(e.to_string()))
                    .map(|secret| String::from_utf8_lossy(secret.expose()).into_owned())
                    .map_err(|e| format!("couldn't acquire OIDC token for login: {e}"))
            }
        }
    }
}

/// The client credentials grant.
struct Credentials {
    http: Client,
    url: String,
    id: String,
    secret: Secret,
    form: StringMap,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A token, and until when it is used.
    token: Option<(String, Instant)>,
    style: Option<Style>,
}

/// Where the credentials go.
#[derive(Clone, Copy)]
enum Style {
    Header,
    Body,
}

impl Credentials {
    async fn token(&self) -> Result<String, String> {
        // Who comes meanwhile waits for the same token.
        let mut state = self.state.lock().await;
        if let Some((token, until)) = &state.token
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        state.token = None;
        let (granted, style) = match state.style {
            Some(style) => (self.ask(style).await?, style),
            None => match self.ask(Style::Header).await {
                Ok(granted) => (granted, Style::Header),
                Err(_) => (self.ask(Style::Body).await?, Style::Body),
            },
        };
        state.style = Some(style);
        let Granted { token, lifetime } = granted;
        state.token = lifetime
            .and_then(|lifetime| Instant::now().checked_add(lifetime.saturating_sub(EARLY)))
            .map(|until| (token.clone(), until));
        Ok(token)
    }

    async fn ask(&self, style: Style) -> Result<Granted, String> {
        let (id, secret) = (
            self.id.as_str(),
            String::from_utf8_lossy(self.secret.expose()),
        );
        let mut form = self.form.clone();
        let authorization = match style {
            Style::Header => {
                let pair = format!("{}:{}", escaped(id), escaped(&secret));
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
            Style::Body => {
                form.insert("client_id".into(), id.to_owned());
                if !secret.is_empty() {
                    form.insert("client_secret".into(), secret.into_owned());
                }
                None
            }
        };
        let pairs: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect();
        granted(
            &self
                .http
                .post(&self.url, authorization, pairs.join("&"))
                .await?,
        )
    }
}

/// What a token endpoint gave.
#[derive(Debug, PartialEq, Eq)]
struct Granted {
    token: String,
    /// Unknown = it is not kept.
    lifetime: Option<Duration>,
}

fn granted(answer: &Answer) -> Result<Granted, String> {
    let kind = answer.content_type.split(';').next().unwrap_or_default();
    let is_form = matches!(
        kind.trim().to_ascii_lowercase().as_str(),
        "application/x-www-form-urlencoded" | "text/plain"
    );
    let fields = if is_form {
        Ok(form_fields(&answer.text()))
    } else {
        serde_json::from_slice(&answer.body)
    };
    let text = |name: &str| match &fields {
        Ok(fields) => fields[name].as_str().unwrap_or_default(),
        Err(_) => "",
    };
    if !text("error").is_empty() {
        let mut error = format!("oauth2: {:?}", text("error"));
        for name in ["error_description", "error_uri"] {
            if !text(name).is_empty() {
                let _ = write!(error, " {:?}", text(name));
            }
        }
        return Err(error);
    }
    if !answer.status.is_success() {
        return Err(format!(
            "oauth2: cannot fetch token: {}\nResponse: {}",
            answer.status_line(),
            answer.text()
        ));
    }
    if let Err(e) = &fields {
        return Err(format!("oauth2: cannot parse json: {e}"));
    }
    let token = text("access_token");
    if token.is_empty() {
        return Err("oauth2: server response missing access_token".into());
    }
    let seconds = match fields.as_ref().map(|fields| &fields["expires_in"]) {
        Ok(Value::Number(n)) => n.as_u64(),
        Ok(Value::String(s)) => s.parse().ok(),
        _ => None,
    };
    Ok(Granted {
        token: token.to_owned(),
        lifetime: seconds.filter(|n| *n > 0).map(Duration::from_secs),
    })
}

/// A query string as an object of strings.
fn form_fields(text: &str) -> Value {
    let pairs = text.trim().split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((unescaped(name), Value::String(unescaped(value))))
    });
    Value::Object(pairs.collect())
}

/// For forms (the URL standard's `application/x-www-form-urlencoded`).
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

/// A value of a form without its encoding; what is none stays as it is.
fn unescaped(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |b: &u8| char::from(*b).to_digit(16);
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            bytes.push((high * 16 + low) as u8);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, content_type: &str, body: &str) -> Result<Granted, String> {
        granted(&Answer {
            status: http::StatusCode::from_u16(status).unwrap(),
            content_type: content_type.into(),
            body: body.to_owned().into(),
        })
    }

    #[test]
    fn answers_of_token_endpoints() {
        let json = "application/json";
        let lifetime = |body| answer(200, json, body).unwrap().lifetime;
        let minute = Some(Duration::from_mins(1));
        assert_eq!(lifetime(r#"{"access_token":"t","expires_in":60}"#), minute);
        assert_eq!(
            lifetime(r#"{"access_token":"t","expires_in":"60"}"#),
            minute
        );
        assert_eq!(lifetime(r#"{"access_token":"t"}"#), None);
        let form = answer(
            200,
            "application/x-www-form-urlencoded; charset=utf-8",
            "access_token=a%2Bb+c&expires_in=60",
        );
        assert_eq!(form.unwrap().token, "a+b c");
        for (status, body, text) in [
            (
                401,
                r#"{"error":"invalid_client","error_description":"no"}"#,
                "oauth2: \"invalid_client\" \"no\"",
            ),
            (
                200,
                r#"{"error":"x","error_description":"d","error_uri":"u"}"#,
                "oauth2: \"x\" \"d\" \"u\"",
            ),
            (
                500,
                "boom",
                "oauth2: cannot fetch token: 500 Internal Server Error\nResponse: boom",
            ),
            (200, "{}", "oauth2: server response missing access_token"),
        ] {
            assert_eq!(answer(status, json, body).unwrap_err(), text);
        }
        let error = answer(200, json, "{bad").unwrap_err();
        assert!(error.starts_with("oauth2: cannot parse json: "), "{error}");
    }

    #[test]
    fn form_values() {
        assert_eq!(escaped("a b&c/é~"), "a+b%26c%2F%C3%A9~");
        assert_eq!(unescaped("a+b%26c"), "a b&c");
        assert_eq!(unescaped("%C3%A9%zz%4"), "é%zz%4");
    }
}
