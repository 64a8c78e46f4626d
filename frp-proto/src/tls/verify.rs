//! Which certificates are accepted: as Go's programs do it, which is laxer than webpki in places.
//!
//! Go takes a certificate that is itself in the CA file, one without any extension (X.509 v1), and one that may act as a CA.
//! Everything else is webpki's decision. Names are matched against subject alternative names only.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// The certificates of a CA file.
#[derive(Debug)]
pub(super) struct Roots {
    store: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Roots {
    pub(super) fn new(
        certificates: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        Self {
            store: Arc::new(store),
            certificates,
            algorithms,
        }
    }

    /// Whether `leaf` is a root, or signed by one without anything in between; for certificates that webpki does not take as
    /// a peer's own.
    fn vouch_for(&self, leaf: &CertificateDer<'_>, parsed: &X509Certificate<'_>) -> bool {
        self.certificates.iter().any(|root| {
            root == leaf
                || parse(root).is_ok_and(|root| may_sign(&root) && self.signed_by(parsed, &root))
        })
    }

    fn signed_by(&self, cert: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
        cert.issuer().as_raw() == issuer.subject().as_raw()
            && cert.signature_algorithm == cert.tbs_certificate.signature
            && self.algorithms.all.iter().any(|algorithm| {
                algorithm
                    .verify_signature(
                        &issuer.public_key().subject_public_key.data,
                        cert.tbs_certificate.as_ref(),
                        &cert.signature_value.data,
                    )
                    .is_ok()
            })
    }
}

/// Go's rule for issuers: version 1, or a CA by its basic constraints; and a key usage, if there is one, that allows it.
/// One with name constraints is left to webpki, which honours them.
fn may_sign(issuer: &X509Certificate<'_>) -> bool {
    let v1 = issuer.version().0 == 0;
    let ca = matches!(issuer.basic_constraints(), Ok(Some(c)) if c.value.ca);
    let usage = issuer
        .key_usage()
        .is_ok_and(|usage| usage.is_none_or(|u| u.value.key_cert_sign()));
    let unconstrained = matches!(issuer.name_constraints(), Ok(None));
    (v1 || ca) && usage && unconstrained && issuer.validity().is_valid()
}

/// Whether webpki refuses the certificate as a peer's own whatever its chain is.
fn is_odd(leaf: &X509Certificate<'_>) -> bool {
    leaf.version().0 < 2 || matches!(leaf.basic_constraints(), Ok(Some(c)) if c.value.ca)
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|_| CertificateError::BadEncoding.into())
}

fn check_validity(leaf: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let time = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let unix = |t: ASN1Time| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            u64::try_from(t.timestamp()).unwrap_or(0),
        ))
    };
    let validity = leaf.validity();
    if time < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYetContext {
            time: now,
            not_before: unix(validity.not_before),
        }
        .into());
    }
    if time > validity.not_after.timestamp() {
        return Err(CertificateError::ExpiredContext {
            time: now,
            not_after: unix(validity.not_after),
        }
        .into());
    }
    Ok(())
}

fn check_usage(
    leaf: &X509Certificate<'_>,
    allows: fn(&ExtendedKeyUsage<'_>) -> bool,
) -> Result<(), Error> {
    let usage = leaf
        .extended_key_usage()
        .map_err(|_| CertificateError::BadEncoding)?;
    if usage.is_none_or(|u| u.value.any || allows(u.value)) {
        Ok(())
    } else {
        Err(CertificateError::InvalidPurpose.into())
    }
}

/// Every critical extension must be one that the checks here know.
fn check_critical(leaf: &X509Certificate<'_>) -> Result<(), Error> {
    use x509_parser::extensions::ParsedExtension as P;
    let known = |extension: &P<'_>| {
        matches!(
            extension,
            P::BasicConstraints(_)
                | P::KeyUsage(_)
                | P::ExtendedKeyUsage(_)
                | P::SubjectAlternativeName(_)
        )
    };
    if leaf
        .extensions()
        .iter()
        .any(|e| e.critical && !known(e.parsed_extension()))
    {
        return Err(CertificateError::UnhandledCriticalExtension.into());
    }
    Ok(())
}

fn check_name(leaf: &X509Certificate<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let names = leaf
        .subject_alternative_name()
        .map_err(|_| CertificateError::BadEncoding)?
        .map_or(&[][..], |san| &san.value.general_names);
    let (matched, presented) = if let ServerName::IpAddress(ip) = name {
        let (wanted, ips) = (IpAddr::from(*ip), names.iter().filter_map(ip_name));
        let ips: Vec<IpAddr> = ips.collect();
        let texts = ips.iter().map(ToString::to_string).collect();
        (ips.contains(&wanted), texts)
    } else {
        let wanted = name.to_str();
        let patterns: Vec<&str> = names.iter().filter_map(dns_name).collect();
        (
            patterns
                .iter()
                .any(|pattern| matches_host(pattern, &wanted)),
            patterns.iter().map(ToString::to_string).collect(),
        )
    };
    if matched {
        return Ok(());
    }
    Err(CertificateError::NotValidForNameContext {
        expected: name.to_owned(),
        presented,
    }
    .into())
}

fn dns_name<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::DNSName(name) => Some(name),
        _ => None,
    }
}

fn ip_name(name: &GeneralName<'_>) -> Option<IpAddr> {
    let GeneralName::IPAddress(bytes) = name else {
        return None;
    };
    let ip = <[u8; 4]>::try_from(*bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
        .ok()?;
    Some(ip.to_canonical())
}

/// A wildcard stands for exactly the leftmost label.
fn matches_host(pattern: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    match pattern.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| {
            !label.is_empty() && !parent.is_empty() && rest.eq_ignore_ascii_case(parent)
        }),
        None => !pattern.is_empty() && pattern.eq_ignore_ascii_case(host),
    }
}

/// Checks the signature that proves the peer has the certificate's key, whatever else the certificate says.
fn check_tls12_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let cert = parse(cert)?;
    let key = &cert.public_key().subject_public_key.data;
    let (_, candidates) = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == dss.scheme)
        .ok_or(PeerIncompatible::NoSignatureSchemesInCommon)?;
    if candidates
        .iter()
        .any(|a| a.verify_signature(key, message, dss.signature()).is_ok())
    {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}

fn check_tls13_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let cert = parse(cert)?;
    let key = SubjectPublicKeyInfoDer::from(cert.public_key().raw);
    verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
}

/// Client side. Without roots every certificate is accepted, and its key need not prove anything, as anybody may bring one:
/// old frps have keys of 1,024 bits, with which no signature can be checked here.
#[derive(Debug)]
pub(super) struct VerifyServer {
    pub(super) roots: Option<Roots>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// [`check_tls12_signature`] or [`check_tls13_signature`].
type CheckSignature = fn(
    &[u8],
    &CertificateDer<'_>,
    &DigitallySignedStruct,
    &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error>;

impl VerifyServer {
    fn check_signature(
        &self,
        check: CheckSignature,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.roots {
            Some(_) => check(message, cert, dss, &self.algorithms),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }
}

impl ServerCertVerifier for VerifyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let leaf = parse(end_entity)?;
        check_validity(&leaf, now)?;
        check_name(&leaf, server_name)?;
        check_usage(&leaf, |usage| usage.server_auth)?;
        if !((is_odd(&leaf) || roots.certificates.contains(end_entity))
            && check_critical(&leaf).is_ok()
            && roots.vouch_for(end_entity, &leaf))
        {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity).map_err(as_unknown)?,
                &roots.store,
                intermediates,
                now,
                self.algorithms.all,
            )
            .map_err(as_unknown)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(check_tls12_signature, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(check_tls13_signature, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// webpki says of an odd certificate that it is odd, and of a namesake of the issuer that the signature is bad; to Go both
/// mean that no root vouches for it.
fn as_unknown(e: Error) -> Error {
    match e {
        Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::BadSignature) => {
            CertificateError::UnknownIssuer.into()
        }
        e => e,
    }
}

/// Server side: a certificate is required. Any identity that the CA vouches for is accepted.
#[derive(Debug)]
pub(super) struct VerifyClient {
    roots: Roots,
    /// Absent when it can use none of the roots.
    webpki: Option<Arc<dyn ClientCertVerifier>>,
}

impl VerifyClient {
    pub(super) fn new(roots: Roots, provider: Arc<CryptoProvider>) -> Self {
        let webpki = WebPkiClientVerifier::builder_with_provider(roots.store.clone(), provider)
            .build()
            .ok();
        Self { roots, webpki }
    }
}

impl ClientCertVerifier for VerifyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki
            .as_ref()
            .map_or(&[], |webpki| webpki.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let leaf = parse(end_entity)?;
        check_validity(&leaf, now)?;
        check_usage(&leaf, |usage| usage.client_auth)?;
        let odd = is_odd(&leaf) || self.roots.certificates.contains(end_entity);
        if odd && check_critical(&leaf).is_ok() && self.roots.vouch_for(end_entity, &leaf) {
            return Ok(ClientCertVerified::assertion());
        }
        match &self.webpki {
            Some(webpki) => webpki
                .verify_client_cert(end_entity, intermediates, now)
                .map_err(as_unknown),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_tls12_signature(message, cert, dss, &self.roots.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_tls13_signature(message, cert, dss, &self.roots.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.algorithms.supported_schemes()
    }
}
