//! Tokens of an identity provider.

use conformance::config::{Config, Value};
use conformance::oidc::{Algorithm, Provider};
use conformance::wait::{self, LIMIT};
use conformance::{Case, Failure, Lab, Outcome, Setup, ports};
use frp_proto::tls::TlsFiles;
use rcgen::CertifiedKey;
use serde_json::json;

const SCOPES: &[&str] = &["HeartBeats", "NewWorkConns"];

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("oidc/rs256", async |lab| works(lab, Algorithm::Rs256).await),
        Case::pair("oidc/es256", async |lab| works(lab, Algorithm::Es256).await),
        Case::pair("oidc/wire_v2", wire_v2),
        Case::pair("oidc/refused_claims", refused_claims),
        Case::pair("oidc/refused_tokens", refused_tokens),
        Case::pair("oidc/skipped_checks", skipped_checks),
        Case::pair("oidc/rotation", rotation),
        Case::pair("oidc/refresh", refresh),
        Case::pair("oidc/credentials_in_body", credentials_in_body),
        Case::pair("oidc/other_subject", other_subject),
        Case::pair("oidc/token_of_a_file", token_of_a_file),
        Case::pair("oidc/provider_refuses", provider_refuses),
        Case::pair("oidc/provider_away", provider_away),
        Case::pair("oidc/unknown_certificate", unknown_certificate),
        Case::pair("oidc/trusted_certificate", trusted_certificate),
        Case::frps("oidc/discovery", discovery),
    ]
}

/// A pair that trusts the provider.
fn setup<'a>(lab: &'a Lab, provider: &Provider) -> Setup<'a> {
    lab.setup()
        .both("auth.method", "oidc")
        .both("auth.additionalScopes", SCOPES)
        .frps("auth.oidc.issuer", provider.issuer())
        .frps("auth.oidc.audience", "frps")
        .frpc("auth.oidc.clientID", "my id")
        .frpc("auth.oidc.clientSecret", "s&c")
        .frpc("auth.oidc.audience", "frps")
        .frpc("auth.oidc.tokenEndpointURL", provider.token_url())
        .frpc("transport.heartbeatInterval", 1i64)
        .frpc("transport.heartbeatTimeout", 90i64)
}

async fn works(lab: &Lab, algorithm: Algorithm) -> Outcome {
    let provider = Provider::start(algorithm).await?;
    let parameters = Value::Toml("{ b = \"2 3\", a = \"1\" }".into());
    let setup = setup(lab, &provider)
        .frpc("auth.oidc.scope", "tunnel all")
        .frpc("auth.oidc.additionalEndpointParams", parameters);
    let mut pair = setup.start().await?;
    pair.echo().await?;
    pair.frps.logs_times("receive heartbeat", 2).await?;
    let requests = provider.token_requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = &requests[0];
    let has = |line: &str| request.lines().any(|l| l.eq_ignore_ascii_case(line));
    assert!(has("Authorization: Basic bXkraWQ6cyUyNmM="), "{request}");
    assert!(
        has("Content-Type: application/x-www-form-urlencoded"),
        "{request}"
    );
    assert!(
        request.ends_with(
            "\r\na=1&audience=frps&b=2+3&grant_type=client_credentials&scope=tunnel+all"
        ),
        "{request}"
    );
    assert_eq!(provider.requests("GET /keys ").len(), 1);
    Ok(())
}

async fn wire_v2(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    let setup = setup(lab, &provider).wire("v2").both("auth.token", "");
    setup.start().await?.echo().await
}

/// frpc ends with this error.
async fn refused(setup: &Setup<'_>, port: u16, error: &str) -> Outcome {
    let mut frpc = setup.start_client(port, 0).await?;
    let status = frpc.exit(LIMIT).await?;
    assert_eq!(status.code(), Some(1));
    let text = format!(
        "login to the server failed: {error}. With loginFailExit enabled, no additional retries will be attempted\n"
    );
    let log = frpc.log();
    if !log.ends_with(&text) {
        return Err(Failure::new(format!("no {text:?} in {log:?}")));
    }
    Ok(())
}

async fn refused_claims(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Rs256).await?;
    let setup = setup(lab, &provider);
    let (_frps, port) = setup.start_server().await?;
    let issuer = provider.issuer();
    for (claims, error) in [
        (
            json!({"aud": ["x", "y"]}),
            "oidc: expected audience \"frps\" got [\"x\" \"y\"]".to_owned(),
        ),
        (
            json!({"aud": null}),
            "oidc: expected audience \"frps\" got []".into(),
        ),
        (
            json!({"iss": "http://other"}),
            format!(
                "oidc: id token issued by a different provider, expected {issuer:?} got \"http://other\""
            ),
        ),
        (
            json!({"exp": 1_700_000_000}),
            "oidc: token is expired (Token Expiry: 2023-11-14 22:13:20 +0000 UTC)".into(),
        ),
        (
            json!({"exp": null}),
            "oidc: token is expired (Token Expiry: 0001-01-01 00:00:00 +0000 UTC)".into(),
        ),
    ] {
        provider.change(|b| b.claims = claims);
        refused(
            &setup,
            port,
            &format!("invalid OIDC token in login: {error}"),
        )
        .await?;
    }
    Ok(())
}

/// A pair whose client has its token from a file.
fn with_file<'a>(lab: &'a Lab, provider: &Provider) -> Setup<'a> {
    let path = lab.directory().join("token");
    let source = format!(
        "{{ type = \"file\", file = {{ path = \"{}\" }} }}",
        path.to_string_lossy()
    );
    lab.setup()
        .both("auth.method", "oidc")
        .frps("auth.oidc.issuer", provider.issuer())
        .frps("auth.oidc.audience", "frps")
        .frpc("auth.oidc.tokenSource", Value::Toml(source))
}

async fn refused_tokens(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Rs256).await?;
    let stranger = Provider::start(Algorithm::Rs256).await?;
    let setup = with_file(lab, &provider);
    let (_frps, port) = setup.start_server().await?;
    let forged = stranger.token(&json!({"iss": provider.issuer()}))?;
    let unsigned = "eyJhbGciOiJub25lIn0.e30.".to_owned();
    let shared_secret = "eyJhbGciOiJIUzI1NiJ9.e30.AAAA".to_owned();
    for (token, error) in [
        (
            "opaque".to_owned(),
            "oidc: malformed jwt: go-jose/go-jose: compact JWS format must have three parts",
        ),
        (
            "e30.!!.c".to_owned(),
            "oidc: malformed jwt: illegal base64 data at input byte 0",
        ),
        (
            unsigned,
            "oidc: malformed jwt: unexpected signature algorithm \"none\"; expected [\"RS256\" \"ES256\"]",
        ),
        (
            shared_secret,
            "oidc: malformed jwt: unexpected signature algorithm \"HS256\"; expected [\"RS256\" \"ES256\"]",
        ),
        (
            forged,
            "failed to verify signature: failed to verify id token signature",
        ),
    ] {
        lab.file("token", &token)?;
        refused(
            &setup,
            port,
            &format!("invalid OIDC token in login: {error}"),
        )
        .await?;
    }
    std::fs::remove_file(lab.directory().join("token"))?;
    let path = lab.directory().join("token");
    let path = path.to_string_lossy();
    let error = format!(
        "couldn't acquire OIDC token for login: failed to read file {path}: open {path}: no such file or directory"
    );
    refused(&setup, port, &error).await
}

async fn skipped_checks(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Rs256).await?;
    provider.change(|b| b.claims = json!({"iss": "x", "aud": "y", "exp": 1_700_000_000}));
    let setup = setup(lab, &provider)
        .frps("auth.oidc.audience", "")
        .frps("auth.oidc.skipIssuerCheck", true)
        .frps("auth.oidc.skipExpiryCheck", true);
    setup.start().await?.echo().await
}

/// A key that the server has not seen makes it ask again.
async fn rotation(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    // A server may have asked too recently: then the login is tried again.
    let setup = setup(lab, &provider).frpc("loginFailExit", false);
    let mut pair = setup.start().await?;
    pair.echo().await?;
    provider.rotate()?;
    pair.frpc.kill()?;
    pair.start_frpc_again(lab).await?;
    pair.echo().await?;
    assert_eq!(provider.requests("GET /keys ").len(), 2);
    Ok(())
}

/// A token is used until 10 seconds before its end, and then replaced.
async fn refresh(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    provider.change(|b| b.lifetime = Some(12));
    let mut pair = setup(lab, &provider).start().await?;
    wait::until("three tokens", LIMIT, async || {
        (provider.token_requests().len() >= 3).then_some(())
    })
    .await?;
    pair.frps.logs_times("receive heartbeat", 4).await?;
    assert!(provider.token_requests().len() <= 5);
    pair.echo().await
}

async fn credentials_in_body(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    provider.change(|b| {
        b.body_only = true;
        b.lifetime = Some(11);
    });
    let mut pair = setup(lab, &provider).start().await?;
    pair.frps.logs_times("receive heartbeat", 3).await?;
    let requests = provider.token_requests();
    let body = "\r\naudience=frps&client_id=my+id&client_secret=s%26c&grant_type=client_credentials&scope=";
    assert!(requests[0].contains("Basic ") || requests[0].contains("basic "));
    assert!(requests.len() > 2, "{requests:?}");
    for request in &requests[1..] {
        assert!(request.ends_with(body), "{request}");
    }
    Ok(())
}

/// Who has logged in as one cannot go on as another.
async fn other_subject(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    provider.change(|b| b.lifetime = Some(11));
    let mut pair = setup(lab, &provider).start().await?;
    provider.change(|b| b.claims = json!({"sub": "bob"}));
    let error = "received different OIDC subject in login and ping. new subject: bob";
    pair.frpc
        .logs(&format!("pong message contains error: {error}"))
        .await?;
    pair.frps.logs("received invalid ping: ").await
}

async fn token_of_a_file(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Rs256).await?;
    lab.file("token", &format!("{}\n", provider.token(&json!({}))?))?;
    let setup = with_file(lab, &provider).both("auth.additionalScopes", SCOPES);
    setup.start().await?.echo().await
}

async fn provider_refuses(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    let setup = setup(lab, &provider);
    let (_frps, port) = setup.start_server().await?;
    for (status, body, error) in [
        (
            401,
            "{\"error\":\"invalid_client\",\"error_description\":\"no\"}",
            "oauth2: \"invalid_client\" \"no\"",
        ),
        (200, "{}", "oauth2: server response missing access_token"),
    ] {
        provider.change(|b| b.refusal = Some((status, body.into())));
        let error = format!("couldn't generate OIDC token for login: {error}");
        refused(&setup, port, &error).await?;
    }
    Ok(())
}

async fn provider_away(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    let nowhere = format!("127.0.0.1:{}", ports::free());
    let url = format!("http://{nowhere}/token");
    let setup = setup(lab, &provider).frpc("auth.oidc.tokenEndpointURL", url.as_str());
    let (_frps, port) = setup.start_server().await?;
    let error = format!(
        "couldn't generate OIDC token for login: Post {url:?}: dial tcp {nowhere}: connect: connection refused"
    );
    refused(&setup, port, &error).await
}

/// A token endpoint with a certificate that nobody knows is trusted only if told so.
async fn unknown_certificate(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    let secure = Provider::start_secure(Algorithm::Es256, TlsFiles::default()).await?;
    secure.change(|b| b.refusal = Some((401, "{\"error\":\"reached\"}".into())));
    let setup = setup(lab, &provider).frpc("auth.oidc.tokenEndpointURL", secure.token_url());
    let (_frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, 0).await?;
    assert_eq!(frpc.exit(LIMIT).await?.code(), Some(1));
    assert!(frpc.log().contains("x509: "), "{}", frpc.log());
    let error = "couldn't generate OIDC token for login: oauth2: \"reached\"";
    let setup = setup.frpc("auth.oidc.insecureSkipVerify", true);
    refused(&setup, port, error).await
}

/// One that `trustedCaFile` vouches for is.
async fn trusted_certificate(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let certificate = lab.file("provider.crt", &cert.pem())?;
    let files = TlsFiles {
        cert_file: certificate.clone().into(),
        key_file: lab
            .file("provider.key", &signing_key.serialize_pem())?
            .into(),
        ..TlsFiles::default()
    };
    let secure = Provider::start_secure(Algorithm::Es256, files).await?;
    secure.change(|b| b.claims = json!({"iss": provider.issuer()}));
    let setup = setup(lab, &provider)
        .frps("auth.oidc.skipIssuerCheck", true)
        .frpc("auth.oidc.tokenEndpointURL", secure.token_url())
        .frpc("auth.oidc.trustedCaFile", certificate);
    let (_frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, 0).await?;
    // The token is there; that frps does not know its key is another matter.
    assert_eq!(frpc.exit(LIMIT).await?.code(), Some(1));
    let log = frpc.log();
    assert!(log.contains("invalid OIDC token in login"), "{log}");
    assert_eq!(secure.token_requests().len(), 1);
    Ok(())
}

/// A server that cannot find its provider does not start.
async fn discovery(lab: &Lab) -> Outcome {
    let provider = Provider::start(Algorithm::Es256).await?;
    provider.change(|b| b.issuer = Some("http://other".into()));
    let issuer = provider.issuer();
    let nowhere = format!("127.0.0.1:{}", ports::free());
    for (url, error) in [
        (
            issuer.clone(),
            format!(
                "oidc: issuer URL provided to client ({issuer:?}) did not match the issuer URL returned by provider (\"http://other\")"
            ),
        ),
        (
            format!("http://{nowhere}"),
            format!(
                "Get \"http://{nowhere}/.well-known/openid-configuration\": dial tcp {nowhere}: connect: connection refused"
            ),
        ),
        (
            String::new(),
            "Get \"/.well-known/openid-configuration\": unsupported protocol scheme \"\"".into(),
        ),
    ] {
        let mut config = Config::default();
        config.keys.set("bindAddr", "127.0.0.1");
        config.keys.set("bindPort", ports::free());
        config.keys.set("auth.method", "oidc");
        config.keys.set("auth.oidc.issuer", url);
        let mut frps = lab.start_frps(&config)?;
        let status = frps.exit(LIMIT).await?;
        assert!(!status.success());
        assert!(frps.log().contains(&error), "{error}: {}", frps.log());
    }
    Ok(())
}
