//! Which certificates are accepted, and what is said of the others.

use futures::FutureExt;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, SigningKey,
};
use rustls::pki_types::pem::PemObject;
use std::path::PathBuf;

use super::*;

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

pub(super) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        issuer: Issuer::new(params, key),
        pem,
    }
}

impl Authority {
    /// Certificate and key in PEM.
    pub(super) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "cn.example");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }
}

pub(super) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub(super) struct Dir(pub(super) tempfile::TempDir);

impl Dir {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
    pub(super) fn pair(&self, name: &str, (cert, key): &(String, String)) -> TlsFiles {
        TlsFiles {
            cert_file: self.write(&format!("{name}.crt"), cert),
            key_file: self.write(&format!("{name}.key"), key),
            trusted_ca_file: PathBuf::new(),
        }
    }
    pub(super) fn ca(&self, pem: &str) -> TlsFiles {
        TlsFiles {
            trusted_ca_file: self.write("ca.crt", pem),
            ..TlsFiles::default()
        }
    }
}

/// How the handshake ends for the client, which verifies `name` against `ca`.
async fn verify_server(pair_of: &(String, String), ca: &str, name: &str) -> Result<(), String> {
    let dir = Dir::new();
    let server = ServerTls::new(dir.pair("server", pair_of)).unwrap();
    let client = ClientTls::new(dir.ca(ca));
    let (server, client) = pair(&server, &client, name).await;
    if client.is_err() {
        assert!(server.is_err() || server.unwrap().read(&mut [0]).await.is_err());
    }
    client.map(|_| ()).map_err(|e| e.to_string())
}

#[tokio::test]
async fn server_names() {
    let ca = authority("ca");
    let leaf = ca.issue(|p| {
        p.subject_alt_names = vec![
            dns("frps.example"),
            dns("*.wild.example"),
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::IpAddress("::1".parse().unwrap()),
        ];
    });
    for name in [
        "frps.example",
        "FRPS.example.",
        "a.wild.example",
        "127.0.0.1",
        "::1",
        "[::1]",
    ] {
        assert_eq!(verify_server(&leaf, &ca.pem, name).await, Ok(()), "{name}");
    }
    let refused = "tls: failed to verify certificate: x509: certificate is valid for";
    for name in [
        "other.example",
        "a.b.wild.example",
        "wild.example",
        "cn.example",
    ] {
        assert_eq!(
            verify_server(&leaf, &ca.pem, name).await,
            Err(format!(
                "{refused} frps.example, *.wild.example, not {name}"
            ))
        );
    }
    assert_eq!(
        verify_server(&leaf, &ca.pem, "127.0.0.2").await,
        Err(format!("{refused} 127.0.0.1, ::1, not 127.0.0.2"))
    );
    let nameless = ca.issue(|_| ());
    assert_eq!(
        verify_server(&nameless, &ca.pem, "127.0.0.1")
            .await
            .unwrap_err(),
        "tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"
    );
    let e = verify_server(&leaf, &ca.pem, "not a name")
        .await
        .unwrap_err();
    assert!(e.contains("not a name"), "{e}");
}

#[tokio::test]
async fn server_chains() {
    let (ca, other) = (authority("ca"), authority("ca"));
    let named = |p: &mut CertificateParams| p.subject_alt_names = vec![dns("frps.example")];
    let check = async |leaf: &(String, String), ca: &str| {
        verify_server(leaf, ca, "frps.example").await.map_err(|e| {
            e.strip_prefix("tls: failed to verify certificate: x509: ")
                .unwrap()
                .to_owned()
        })
    };
    let unknown = Err("certificate signed by unknown authority".to_owned());

    let leaf = ca.issue(named);
    assert_eq!(check(&leaf, &other.pem).await, unknown);
    assert_eq!(
        check(&leaf, &format!("{}{}", other.pem, ca.pem)).await,
        Ok(())
    );
    // The certificate itself as the trust, and certificates that may act as a CA.
    assert_eq!(check(&leaf, &leaf.0).await, Ok(()));
    let acting = ca.issue(|p| {
        named(p);
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    assert_eq!(check(&acting, &ca.pem).await, Ok(()));
    assert_eq!(check(&acting, &acting.0).await, Ok(()));
    assert_eq!(check(&acting, &other.pem).await, unknown);

    let expired = ca.issue(|p| {
        named(p);
        p.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    let e = check(&expired, &expired.0).await.unwrap_err();
    assert!(
        e.starts_with("certificate has expired or is not yet valid: current time 20"),
        "{e}"
    );
    assert!(e.ends_with(" is after 2001-02-03T00:00:00Z"), "{e}");

    let client_only = ca.issue(|p| {
        named(p);
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(
        check(&client_only, &ca.pem).await,
        Err("certificate specifies an incompatible key usage".to_owned())
    );
    // One that is no CA cannot vouch, be it in the CA file or not.
    let impostor = Authority {
        issuer: Issuer::new(
            {
                let mut params = CertificateParams::default();
                params
                    .distinguished_name
                    .push(DnType::CommonName, "cn.example");
                params
            },
            KeyPair::from_pem(&leaf.1).unwrap(),
        ),
        pem: leaf.0.clone(),
    };
    let forged = impostor.issue(|p| {
        named(p);
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    assert_eq!(check(&forged, &leaf.0).await, unknown);
}

#[tokio::test]
async fn intermediates_lead_to_the_root() {
    let root = authority("root");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "middle");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.signed_by(&key, &root.issuer).unwrap().pem();
    let middle = Authority {
        issuer: Issuer::new(params, key),
        pem,
    };
    let (cert, key) = middle.issue(|p| p.subject_alt_names = vec![dns("frps.example")]);
    let chain = (format!("{cert}{}", middle.pem), key.clone());
    assert_eq!(
        verify_server(&chain, &root.pem, "frps.example").await,
        Ok(())
    );
    assert!(
        verify_server(&(cert, key), &root.pem, "frps.example")
            .await
            .is_err()
    );
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [hi, lo] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match (hi, lo) {
        (0, 0..=0x7f) => vec![lo],
        (0, _) => vec![0x81, lo],
        _ => vec![0x82, hi, lo],
    };
    [&[tag], &length[..], content].concat()
}

/// The same certificate as X.509 v1, as `openssl x509 -req` makes them: without its version, signed again.
fn version_1(pem: &str, signer: &KeyPair) -> String {
    const ECDSA_SHA256: &str = "300a06082a8648ce3d040302";
    let cert = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(&cert).unwrap();
    assert!(cert.extensions().is_empty());
    let v3 = cert.tbs_certificate.as_ref();
    let version = v3
        .windows(5)
        .position(|w| w == unhex("a003020102"))
        .unwrap();
    let tbs = der(0x30, &v3[version + 5..]);
    let signature = der(3, &[&[0], &signer.sign(&tbs).unwrap()[..]].concat());
    let cert = der(0x30, &[tbs, unhex(ECDSA_SHA256), signature].concat());
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, cert);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// A CA of version 1, and what it signed.
fn version_1_pair() -> (String, (String, String)) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "v1 ca");
    let key = KeyPair::generate().unwrap();
    let ca_pem = version_1(&params.self_signed(&key).unwrap().pem(), &key);
    let ca = Authority {
        issuer: Issuer::new(params, key),
        pem: ca_pem,
    };
    let (cert, key) = ca.issue(|_| ());
    (ca.pem, (version_1(&cert, ca.issuer.key()), key))
}

/// As frps's own: RSA-2048, version 3, self-signed, without subject and extensions.
fn bare() -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn any_certificate_is_accepted_without_a_ca() {
    let dir = Dir::new();
    let ca = authority("ca");
    let expired = ca.issue(|p| p.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let pairs = [version_1_pair().1, bare(), expired];
    let client = ClientTls::new(TlsFiles::default());
    for files in pairs.iter().map(|p| dir.pair("server", p)) {
        let server = ServerTls::new(files.clone()).unwrap();
        for name in [
            "frps.example",
            "127.0.0.1",
            "1.2.3.4:5",
            "",
            "no name at all",
        ] {
            let (server, client) = pair(&server, &client, name).await;
            exchange(server.unwrap(), client.unwrap(), b"hello", 5).await;
        }
        // TLS 1.2 has its own way of checking the signature.
        let server = ServerTls::new(files).unwrap();
        let connector =
            TlsConnector::from(Arc::new(oracle_client(&[&rustls::version::TLS12], None)));
        let (near, far) = duplex(1 << 16);
        let name = ServerName::try_from("frps").unwrap();
        let (ours, theirs) = tokio::join!(server.accept(near), connector.connect(name, far));
        exchange(ours.unwrap(), theirs.unwrap(), b"hello", 5).await;
    }
}

/// How the handshake ends for the server, which wants a certificate of `ca`; and for the client when it reads.
async fn verify_client(
    own: Option<&(String, String)>,
    ca: &str,
) -> (Result<(), String>, Result<(), String>) {
    let dir = Dir::new();
    let server = ServerTls::new(dir.ca(ca)).unwrap();
    let client = ClientTls::new(own.map_or_else(TlsFiles::default, |own| dir.pair("client", own)));
    let (server, client) = pair(&server, &client, "frps").await;
    let read = client.unwrap().read(&mut [0]).now_or_never();
    (
        server.map(drop).map_err(|e| e.to_string()),
        read.map_or(Ok(()), |read| read.map(drop).map_err(|e| e.to_string())),
    )
}

#[tokio::test]
async fn client_certificates() {
    let (ca, other) = (authority("ca"), authority("other"));
    let good = ca.issue(|_| ());
    let (v1_ca, v1) = version_1_pair();
    let bare = bare();
    let for_clients =
        ca.issue(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    for (own, ca) in [
        (&good, &ca.pem[..]),
        (&for_clients, &ca.pem),
        (&good, &good.0),
        (&v1, &v1_ca),
        (&v1, &v1.0),
        (&bare, &bare.0),
    ] {
        assert_eq!(verify_client(Some(own), ca).await, (Ok(()), Ok(())));
    }
    let verify = "tls: failed to verify certificate: x509: ";
    let for_servers =
        ca.issue(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    for (own, ca, server, client) in [
        (
            None,
            &ca.pem,
            "tls: client didn't provide a certificate".to_owned(),
            "certificate required",
        ),
        (
            Some(&good),
            &other.pem,
            format!("{verify}certificate signed by unknown authority"),
            "unknown certificate authority",
        ),
        (
            Some(&v1),
            &other.pem,
            format!("{verify}certificate signed by unknown authority"),
            "unknown certificate authority",
        ),
        (
            Some(&for_servers),
            &ca.pem,
            format!("{verify}certificate specifies an incompatible key usage"),
            "unsupported certificate",
        ),
    ] {
        let client = format!("remote error: tls: {client}");
        assert_eq!(verify_client(own, ca).await, (Err(server), Err(client)));
    }
}
