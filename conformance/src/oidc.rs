//! An identity provider: discovery, keys, and a token endpoint for client credentials.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use frp_proto::tls::{ServerTls, TlsFiles};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{Failure, Outcome};

/// Bytes of a request.
const MAX_REQUEST: usize = 64 * 1024;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA.
    Rs256,
    /// ECDSA on P-256.
    Es256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

/// How the provider behaves; a case may change it at any time.
pub struct Behaviour {
    /// What its tokens say otherwise than by default; null = nothing.
    pub claims: Value,
    /// `expires_in` of its answers.
    pub lifetime: Option<u64>,
    /// Credentials are taken from the body only.
    pub body_only: bool,
    /// What the token endpoint answers instead of a token: status and body.
    pub refusal: Option<(u16, String)>,
    /// Another issuer in the discovery document.
    pub issuer: Option<String>,
}

struct State {
    key: Key,
    generation: u32,
    behaviour: Behaviour,
    requests: Vec<String>,
}

/// A running provider; it runs as long as the case.
#[derive(Clone)]
pub struct Provider {
    address: SocketAddr,
    secure: bool,
    algorithm: Algorithm,
    state: Arc<Mutex<State>>,
}

fn new_key(algorithm: Algorithm) -> Outcome<Key> {
    let failed = |_| Failure::new("no key could be made");
    Ok(match algorithm {
        Algorithm::Rs256 => Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?),
        Algorithm::Es256 => {
            Key::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?)
        }
    })
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Provider {
    /// Serves HTTP.
    pub async fn start(algorithm: Algorithm) -> Outcome<Self> {
        Self::serve(algorithm, None).await
    }

    /// Serves HTTPS, under this certificate, or one that nobody knows.
    pub async fn start_secure(algorithm: Algorithm, files: TlsFiles) -> Outcome<Self> {
        let tls = ServerTls::new(files).map_err(|e| Failure::new(e.to_string()))?;
        Self::serve(algorithm, Some(tls)).await
    }

    async fn serve(algorithm: Algorithm, tls: Option<ServerTls>) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let provider = Self {
            address: listener.local_addr()?,
            secure: tls.is_some(),
            algorithm,
            state: Arc::new(Mutex::new(State {
                key: new_key(algorithm)?,
                generation: 1,
                behaviour: Behaviour {
                    claims: json!({}),
                    lifetime: Some(300),
                    body_only: false,
                    refusal: None,
                    issuer: None,
                },
                requests: Vec::new(),
            })),
        };
        let serving = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (provider, tls) = (serving.clone(), tls.clone());
                // What goes wrong here is seen by who asks.
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => provider.answer(tls.accept(stream).await?).await,
                        None => provider.answer(stream).await,
                    }
                });
            }
        });
        Ok(provider)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The URL that it is known by.
    pub fn issuer(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where tokens are.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.issuer())
    }

    /// Changes how it behaves.
    pub fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state().behaviour);
    }

    /// Signs with a new key from now on, and forgets the old one.
    pub fn rotate(&self) -> Outcome {
        let key = new_key(self.algorithm)?;
        let mut state = self.state();
        state.key = key;
        state.generation += 1;
        Ok(())
    }

    /// Requests for tokens so far, head and body.
    pub fn token_requests(&self) -> Vec<String> {
        self.requests("POST /token ")
    }

    /// Requests whose first line begins so.
    pub fn requests(&self, line: &str) -> Vec<String> {
        let state = self.state();
        let found = state.requests.iter().filter(|r| r.starts_with(line));
        found.cloned().collect()
    }

    /// A token with these claims changed.
    pub fn token(&self, claims: &Value) -> Outcome<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |d| d.as_secs());
        let mut all = json!({
            "iss": self.issuer(), "aud": "frps", "sub": "alice", "iat": now, "exp": now + 300,
        });
        let state = self.state();
        for changes in [&state.behaviour.claims, claims] {
            for (name, value) in changes.as_object().into_iter().flatten() {
                all[name] = value.clone();
            }
        }
        if let Some(claims) = all.as_object_mut() {
            claims.retain(|_, value| !value.is_null());
        }
        let kid = format!("key-{}", state.generation);
        let header = json!({"alg": self.algorithm.name(), "typ": "JWT", "kid": kid});
        let signed = format!(
            "{}.{}",
            encoded(header.to_string()),
            encoded(all.to_string())
        );
        let random = SystemRandom::new();
        let failed = |_| Failure::new("signing failed");
        let signature = match &state.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .map_err(failed)?;
                signature
            }
            Key::Ec(key) => {
                let signature = key.sign(&random, signed.as_bytes()).map_err(failed)?;
                signature.as_ref().to_vec()
            }
        };
        Ok(format!("{signed}.{}", encoded(signature)))
    }

    fn key_set(&self) -> Value {
        let state = self.state();
        let mut jwk = match &state.key {
            Key::Rsa(key) => {
                // RFC 8017 §A.1.1, for 2048 bits and the exponent 65537.
                let der = key.public_key().as_ref();
                json!({"kty": "RSA", "n": encoded(&der[9..265]), "e": "AQAB"})
            }
            Key::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({
                    "kty": "EC", "crv": "P-256",
                    "x": encoded(&point[1..33]), "y": encoded(&point[33..]),
                })
            }
        };
        jwk["kid"] = format!("key-{}", state.generation).into();
        jwk["alg"] = self.algorithm.name().into();
        jwk["use"] = "sig".into();
        json!({ "keys": [jwk] })
    }

    async fn answer(&self, mut io: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut data = Vec::new();
        let request = loop {
            if let Some(request) = whole(&data) {
                break request.to_owned();
            }
            if data.len() > MAX_REQUEST || io.read_buf(&mut data).await? == 0 {
                return Ok(());
            }
        };
        let (status, body) = self.decide(&request);
        self.state().requests.push(request);
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        io.write_all(answer.as_bytes()).await?;
        io.shutdown().await
    }

    fn decide(&self, request: &str) -> (u16, String) {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let issuer = self.issuer();
        match path {
            "/.well-known/openid-configuration" => {
                let named = self.state().behaviour.issuer.clone();
                let document = json!({
                    "issuer": named.as_ref().unwrap_or(&issuer),
                    "jwks_uri": format!("{issuer}/keys"),
                    "token_endpoint": self.token_url(),
                    "id_token_signing_alg_values_supported": ["RS256", "ES256"],
                });
                (200, document.to_string())
            }
            "/keys" => (200, self.key_set().to_string()),
            "/token" => {
                let (refusal, body_only, lifetime) = {
                    let b = &self.state().behaviour;
                    (b.refusal.clone(), b.body_only, b.lifetime)
                };
                if let Some(refusal) = refusal {
                    return refusal;
                }
                if body_only && !request.contains("client_secret=") {
                    return (401, "{\"error\":\"invalid_client\"}".into());
                }
                let Ok(token) = self.token(&json!({})) else {
                    return (500, String::new());
                };
                let mut answer = json!({"access_token": token, "token_type": "Bearer"});
                if let Some(lifetime) = lifetime {
                    answer["expires_in"] = lifetime.into();
                }
                (200, answer.to_string())
            }
            _ => (404, "no such page".into()),
        }
    }
}

/// The request at the front of `data`, once all of it is there.
fn whole(data: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(data).ok()?;
    let head = text.find("\r\n\r\n")?;
    let length = text[..head].lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().ok())?
    });
    text.get(..head + 4 + length.unwrap_or(0))
}
