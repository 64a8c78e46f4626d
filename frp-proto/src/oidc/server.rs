//! What frps accepts as a token (config-frps.md §9.2, wire.md §4.4).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use chrono::DateTime;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::http::Client;
use super::jwt::{self, ALGORITHMS, Key, Token};
use crate::config::raw::server::AuthOidcServerConfig;
use crate::tls::ClientTls;

/// The provider is asked for its keys no more often than this, whatever strangers send.
const REFETCH_PAUSE: Duration = Duration::from_secs(1);
/// How far the provider's clock may be ahead.
const NOT_BEFORE_LEEWAY: i64 = 5 * 60;
/// Bytes of a token; messages hold no more.
const MAX_TOKEN: usize = 64 * 1024;

/// Checks tokens of one provider.
pub struct Verifier {
    http: Client,
    issuer: String,
    audience: String,
    skip_expiry_check: bool,
    skip_issuer_check: bool,
    algorithms: Vec<String>,
    keys_url: String,
    /// The provider's keys as they were last seen.
    keys: ArcSwap<Vec<Key>>,
    /// When the provider was last asked for them.
    asked: Mutex<Option<Instant>>,
}

impl Verifier {
    /// Asks the provider what it is. The error is upstream's text.
    pub async fn discover(c: &AuthOidcServerConfig) -> Result<Self, String> {
        let http = Client::new(ClientTls::system_roots(), None);
        let issuer = &c.issuer;
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let url = format!("{base}/.well-known/openid-configuration");
        let answer = http.get(&url).await?;
        if answer.status.as_u16() != 200 {
            return Err(format!("{}: {}", answer.status_line(), answer.text()));
        }
        let document: Value = serde_json::from_slice(&answer.body)
            .map_err(|e| format!("oidc: failed to decode provider discovery object: {e}"))?;
        let field = |name: &str| document[name].as_str().unwrap_or_default();
        let found = field("issuer");
        if found != issuer {
            return Err(format!(
                "oidc: issuer URL provided to client ({issuer:?}) did not match the issuer URL returned by provider ({found:?})"
            ));
        }
        let offered = document["id_token_signing_alg_values_supported"].as_array();
        let mut algorithms: Vec<String> = offered
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|name| ALGORITHMS.contains(name))
            .map(str::to_owned)
            .collect();
        if algorithms.is_empty() {
            algorithms.push("RS256".into());
        }
        Ok(Self {
            keys_url: field("jwks_uri").to_owned(),
            http,
            issuer: issuer.clone(),
            audience: c.audience.clone(),
            skip_expiry_check: c.skip_expiry_check,
            skip_issuer_check: c.skip_issuer_check,
            algorithms,
            keys: ArcSwap::default(),
            asked: Mutex::default(),
        })
    }

    /// The subject of a good token; else upstream's text about what is wrong.
    pub async fn verify(&self, token: &str) -> Result<String, String> {
        if token.len() > MAX_TOKEN {
            return Err("oidc: malformed jwt: too long".into());
        }
        let token = Token::parse(token).map_err(|e| format!("oidc: malformed jwt: {e}"))?;
        if !self.algorithms.contains(&token.algorithm) {
            return Err(format!(
                "oidc: malformed jwt: unexpected signature algorithm {:?}; expected {}",
                token.algorithm,
                quoted(self.algorithms.iter().map(String::as_str))
            ));
        }
        self.check_signature(&token)
            .await
            .map_err(|e| format!("failed to verify signature: {e}"))?;
        let claims = token
            .claims()
            .map_err(|e| format!("oidc: failed to unmarshal claims: {e}"))?;
        self.check_claims(&claims, now())?;
        Ok(claims["sub"].as_str().unwrap_or_default().to_owned())
    }

    async fn check_signature(&self, token: &Token<'_>) -> Result<(), String> {
        if token.is_signed_by(&self.keys.load()) {
            return Ok(());
        }
        // Held while the provider is asked, so that it is asked once however many come with unknown keys.
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|at| at.elapsed() >= REFETCH_PAUSE) {
            let fetched = self.fetch_keys().await;
            *asked = Some(Instant::now());
            let keys = fetched.map_err(|e| format!("fetching keys {e}"))?;
            self.keys.store(Arc::new(keys));
        }
        if token.is_signed_by(&self.keys.load()) {
            return Ok(());
        }
        Err("failed to verify id token signature".into())
    }

    async fn fetch_keys(&self) -> Result<Vec<Key>, String> {
        let answer = self.http.get(&self.keys_url).await;
        let answer = answer.map_err(|e| format!("oidc: get keys failed {e}"))?;
        if answer.status.as_u16() != 200 {
            return Err(format!(
                "oidc: get keys failed: {} {}",
                answer.status_line(),
                answer.text()
            ));
        }
        jwt::keys(&answer.body).map_err(|e| format!("oidc: failed to decode keys: {e}"))
    }

    /// Checks what a token says, at this Unix time.
    fn check_claims(&self, claims: &Value, now: i64) -> Result<(), String> {
        let issuer = claims["iss"].as_str().unwrap_or_default();
        if !self.skip_issuer_check && issuer != self.issuer {
            return Err(format!(
                "oidc: id token issued by a different provider, expected {:?} got {issuer:?}",
                self.issuer
            ));
        }
        let audience = audience(&claims["aud"]);
        if !self.audience.is_empty() && !audience.contains(&self.audience.as_str()) {
            return Err(format!(
                "oidc: expected audience {:?} got {}",
                self.audience,
                quoted(audience.into_iter())
            ));
        }
        if self.skip_expiry_check {
            return Ok(());
        }
        let expiry = seconds(&claims["exp"]);
        if expiry.is_none_or(|expiry| expiry < now) {
            return Err(format!(
                "oidc: token is expired (Token Expiry: {})",
                date(expiry)
            ));
        }
        match seconds(&claims["nbf"]) {
            Some(begin) if now + NOT_BEFORE_LEEWAY < begin => Err(format!(
                "oidc: current time {} before the nbf (not before) time: {}",
                date(Some(now)),
                date(Some(begin))
            )),
            _ => Ok(()),
        }
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs().cast_signed())
}

/// One text, or several.
fn audience(claim: &Value) -> Vec<&str> {
    match claim {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A time claim; fractions do not matter.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float far out of range is capped"
)]
fn seconds(claim: &Value) -> Option<i64> {
    claim.as_i64().or_else(|| claim.as_f64().map(|f| f as i64))
}

/// `["a" "b"]`
fn quoted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

/// A time as Go prints it; without one its zero.
fn date(seconds: Option<i64>) -> String {
    seconds
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .map_or_else(
            || "0001-01-01 00:00:00 +0000 UTC".into(),
            |time| time.format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verifier(change: impl FnOnce(&mut Verifier)) -> Verifier {
        let mut verifier = Verifier {
            http: Client::new(ClientTls::system_roots(), None),
            issuer: "https://id.test".into(),
            audience: "frps".into(),
            skip_expiry_check: false,
            skip_issuer_check: false,
            algorithms: vec!["RS256".into()],
            keys_url: String::new(),
            keys: ArcSwap::default(),
            asked: Mutex::default(),
        };
        change(&mut verifier);
        verifier
    }

    const NOW: i64 = 1_700_000_100;

    fn claims() -> Value {
        json!({"iss": "https://id.test", "aud": ["other", "frps"], "exp": NOW, "nbf": NOW + 300})
    }

    #[test]
    fn claims_are_checked_in_upstreams_words() {
        let strict = verifier(|_| {});
        assert_eq!(strict.check_claims(&claims(), NOW), Ok(()));
        for (name, value, error) in [
            (
                "iss",
                json!("x"),
                "oidc: id token issued by a different provider, expected \"https://id.test\" got \"x\"",
            ),
            (
                "aud",
                json!(["x", "y"]),
                "oidc: expected audience \"frps\" got [\"x\" \"y\"]",
            ),
            (
                "aud",
                json!(null),
                "oidc: expected audience \"frps\" got []",
            ),
            (
                "exp",
                json!(1_700_000_000),
                "oidc: token is expired (Token Expiry: 2023-11-14 22:13:20 +0000 UTC)",
            ),
            (
                "exp",
                json!(null),
                "oidc: token is expired (Token Expiry: 0001-01-01 00:00:00 +0000 UTC)",
            ),
            (
                "nbf",
                json!(NOW + 301),
                "oidc: current time 2023-11-14 22:15:00 +0000 UTC before the nbf (not before) time: 2023-11-14 22:20:01 +0000 UTC",
            ),
        ] {
            let mut claims = claims();
            claims[name] = value;
            assert_eq!(strict.check_claims(&claims, NOW).unwrap_err(), error);
        }
    }

    #[test]
    fn checks_can_be_skipped() {
        let lenient = verifier(|v| {
            v.skip_expiry_check = true;
            v.skip_issuer_check = true;
            v.audience.clear();
        });
        assert_eq!(lenient.check_claims(&json!({}), NOW), Ok(()));
        let mut text = claims();
        text["aud"] = json!("frps");
        assert_eq!(verifier(|_| {}).check_claims(&text, NOW), Ok(()));
    }

    #[tokio::test]
    async fn unsigned_tokens_are_refused_before_anything_is_asked() {
        let strict = verifier(|_| {});
        let none = "eyJhbGciOiJub25lIn0.e30.";
        assert_eq!(
            strict.verify(none).await.unwrap_err(),
            "oidc: malformed jwt: unexpected signature algorithm \"none\"; expected [\"RS256\"]"
        );
        assert!(strict.asked.lock().await.is_none());
    }
}
