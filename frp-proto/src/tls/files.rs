//! Certificates, keys and CAs: from files to rustls configurations, with upstream's error texts.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SerialNumber};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, ClientConfig, ServerConfig};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::verify::{Roots, VerifyClient, VerifyServer};
use super::{TlsError, TlsFiles};
use crate::text::system_error;

/// What the files hold at one time.
pub(super) struct Contents {
    /// Certificate and key.
    pair: Option<(Vec<u8>, Vec<u8>)>,
    ca: Option<Vec<u8>>,
}

impl Contents {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let set = |path: &Path| !path.as_os_str().is_empty();
        let pair = if set(&files.cert_file) && set(&files.key_file) {
            Some((read(&files.cert_file)?, read(&files.key_file)?))
        } else {
            None
        };
        let ca = if set(&files.trusted_ca_file) {
            Some(read(&files.trusted_ca_file)?)
        } else {
            None
        };
        Ok(Self { pair, ca })
    }

    /// Equal digests are equal contents. It tells nothing of the key.
    pub(super) fn digest(&self) -> [u8; 32] {
        let (cert, key) = self
            .pair
            .as_ref()
            .map_or((&[][..], &[][..]), |(c, k)| (c, k));
        let mut hash = Sha256::new();
        for part in [cert, key, self.ca.as_deref().unwrap_or_default()] {
            hash.update(Sha256::digest(part));
        }
        hash.finalize().into()
    }

    /// The server's configuration; `own` gives the certificate when none is configured.
    pub(super) fn server(
        &self,
        files: &TlsFiles,
        own: impl FnOnce() -> Result<Arc<CertifiedKey>, TlsError>,
    ) -> Result<ServerConfig, TlsError> {
        let provider = provider();
        let key = match &self.pair {
            Some((cert, key)) => Arc::new(certified_key(cert, key, &provider)?),
            None => own()?,
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError(format!("tls: {e}")))?;
        let builder = match &self.ca {
            Some(ca) => {
                let roots =
                    roots(ca, &provider).ok_or_else(|| no_certificates(&files.trusted_ca_file))?;
                let verifier = VerifyClient::new(roots, provider);
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        // frp's clients never resume, and a session must not outlive the CA that let it in.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        Ok(config)
    }

    /// The client's configuration; a CA file comes before the system's roots.
    pub(super) fn client(
        &self,
        files: &TlsFiles,
        system_roots: bool,
    ) -> Result<ClientConfig, TlsError> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let key = self
            .pair
            .as_ref()
            .map(|(cert, key)| certified_key(cert, key, &provider))
            .transpose()?;
        let roots = match &self.ca {
            Some(ca) => {
                Some(roots(ca, &provider).ok_or_else(|| no_certificates(&files.trusted_ca_file))?)
            }
            None if system_roots => Some(Roots::new(system_certificates()?, algorithms)),
            None => None,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError(format!("tls: {e}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(VerifyServer { roots, algorithms }));
        let mut config = match key {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_secret_extraction = true;
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e| {
        let verb = if e.kind() == std::io::ErrorKind::IsADirectory {
            "read"
        } else {
            "open"
        };
        TlsError(format!("{verb} {}: {}", path.display(), system_error(&e)))
    })
}

/// The system's root certificates. What cannot be read of them is left out while others can.
fn system_certificates() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    match found.errors.first() {
        Some(e) if found.certs.is_empty() => Err(TlsError(format!(
            "failed to load system root certificates: {e}"
        ))),
        _ => Ok(found.certs),
    }
}

fn no_certificates(path: &Path) -> TlsError {
    TlsError(format!(
        "failed to parse CA certificate from file \"{}\": no valid PEM certificates found",
        path.display()
    ))
}

/// aws-lc-rs with upstream's preferences: hybrid key exchange first, AES-128 before AES-256, `ChaCha20` first where AES would be slow.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    let rank = |suite: CipherSuite| {
        let name = suite.as_str().unwrap_or_default();
        if name.contains("CHACHA20") {
            u8::from(has_aes()) * 2
        } else {
            u8::from(name.contains("AES_256")) + u8::from(!has_aes())
        }
    };
    // Stable: TLS 1.3 stays before 1.2, ECDSA before RSA.
    provider
        .cipher_suites
        .sort_by_key(|suite| (suite.tls13().is_none(), rank(suite.suite())));
    Arc::new(provider)
}

/// Whether the processor does AES by itself.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

fn roots(pem: &[u8], provider: &CryptoProvider) -> Option<Roots> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .filter(|der| X509Certificate::from_der(der).is_ok())
        .collect();
    let algorithms = provider.signature_verification_algorithms;
    (!certificates.is_empty()).then(|| Roots::new(certificates, algorithms))
}

/// A chain and its key, in PEM. Unlike rustls's own check this takes certificates of version 1 too.
fn certified_key(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert)
        .filter_map(Result::ok)
        .collect();
    let Some(leaf) = chain.first() else {
        return Err(missing_block(
            cert,
            "certificate",
            "\"CERTIFICATE\" PEM block",
        ));
    };
    let Ok(der) = PrivateKeyDer::from_pem_slice(key) else {
        if blocks(key) == ["CERTIFICATE"] {
            return Err(TlsError(
                "tls: found a certificate rather than a key in the PEM for the private key".into(),
            ));
        }
        return Err(missing_block(
            key,
            "key",
            "PEM block with type ending in \"PRIVATE KEY\"",
        ));
    };
    let (_, leaf) = X509Certificate::from_der(leaf)
        .map_err(|e| TlsError(format!("x509: malformed certificate: {e}")))?;
    let key = provider
        .key_provider
        .load_private_key(der)
        .map_err(|_| TlsError("tls: failed to parse private key".into()))?;
    if key
        .public_key()
        .is_some_and(|public| public.as_ref() != leaf.public_key().raw)
    {
        return Err(TlsError(
            "tls: private key does not match public key".into(),
        ));
    }
    Ok(CertifiedKey::new(chain, key))
}

fn missing_block(pem: &[u8], input: &str, wanted: &str) -> TlsError {
    let found = blocks(pem);
    let mut text = "tls: failed to find ".to_owned();
    if found.is_empty() {
        let _ = write!(text, "any PEM data in {input} input");
    } else {
        let found = found.join(" ");
        let _ = write!(
            text,
            "{wanted} in {input} input after skipping PEM blocks of the following types: [{found}]"
        );
    }
    TlsError(text)
}

/// The types of a file's PEM blocks.
fn blocks(pem: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(pem)
        .lines()
        .filter_map(|line| {
            let kind = line.trim_end().strip_prefix("-----BEGIN ")?;
            Some(kind.strip_suffix("-----")?.to_owned())
        })
        .collect()
}

/// The certificate of a server that has none: no subject, no names, valid for ten years. No peer can verify it.
pub(super) fn self_signed() -> Result<Arc<CertifiedKey>, TlsError> {
    const HOUR: Duration = Duration::from_hours(1);
    let failed = |e: &dyn std::fmt::Display| TlsError(format!("tls: own certificate: {e}"));
    let now = SystemTime::now();
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|e| failed(&e))?;
    // A positive number of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = (now - HOUR).into();
    params.not_after = (now + 24 * HOUR * 3_650).into();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| failed(&e))?;
    let cert = params.self_signed(&key).map_err(|e| failed(&e))?;
    let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = provider()
        .key_provider
        .load_private_key(der)
        .map_err(|e| failed(&e))?;
    Ok(Arc::new(CertifiedKey::new(vec![cert.der().clone()], key)))
}
