//! Errors of files, and files that change.

use std::path::Path;

use rcgen::CertificateParams;
use rustls::pki_types::pem::PemObject;

use super::certificates::{Dir, authority, dns};
use super::*;

fn server_error(files: TlsFiles) -> String {
    ServerTls::new(files).err().unwrap().to_string()
}

#[test]
fn errors_of_files() {
    let dir = Dir::new();
    let ca = authority("ca");
    let (a, b) = (ca.issue(|_| ()), ca.issue(|_| ()));
    let good = dir.pair("good", &a);
    let missing = dir.0.path().join("missing");
    let with = |cert: &Path, key: &Path| TlsFiles {
        cert_file: cert.into(),
        key_file: key.into(),
        ..TlsFiles::default()
    };
    #[cfg(unix)]
    {
        let text = format!("open {}: no such file or directory", missing.display());
        assert_eq!(server_error(with(&missing, &good.key_file)), text);
        assert_eq!(server_error(with(&good.cert_file, &missing)), text);
        assert_eq!(
            server_error(with(dir.0.path(), &good.key_file)),
            format!("read {}: is a directory", dir.0.path().display())
        );
    }
    let empty = dir.write("empty", "not PEM");
    assert_eq!(
        server_error(with(&empty, &good.key_file)),
        "tls: failed to find any PEM data in certificate input"
    );
    assert_eq!(
        server_error(with(&good.cert_file, &empty)),
        "tls: failed to find any PEM data in key input"
    );
    assert_eq!(
        server_error(with(&good.key_file, &good.key_file)),
        "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [PRIVATE KEY]"
    );
    assert_eq!(
        server_error(with(&good.cert_file, &good.cert_file)),
        "tls: found a certificate rather than a key in the PEM for the private key"
    );
    assert_eq!(
        server_error(dir.pair("mixed", &(a.0.clone(), b.1))),
        "tls: private key does not match public key"
    );
    for text in ["", "no PEM", &a.1] {
        let files = dir.ca(text);
        let path = files.trusted_ca_file.display().to_string();
        assert_eq!(
            server_error(files),
            format!(
                "failed to parse CA certificate from file \"{path}\": no valid PEM certificates found"
            )
        );
    }
    // A certificate without its key is as none.
    assert!(ServerTls::new(with(&missing, Path::new(""))).is_ok());
    assert!(ServerTls::new(with(Path::new(""), &missing)).is_ok());
}

#[test]
fn the_own_certificate_says_nothing() {
    let key = files::self_signed().unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(&key.cert[0]).unwrap();
    assert_eq!(
        cert.subject().iter().count() + cert.issuer().iter().count(),
        0
    );
    assert!(cert.extensions().is_empty());
    assert_eq!(cert.version().0, 2);
    assert!(cert.raw_serial().len() == 16 && cert.raw_serial()[0] < 0x80);
    let validity = cert.validity();
    let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
    assert_eq!(days, 3_650);
    assert_ne!(files::self_signed().unwrap().cert, key.cert);
}

/// The certificate that a new connection is shown.
async fn shown(server: &ServerTls) -> CertificateDer<'static> {
    let connector = TlsConnector::from(Arc::new(oracle_client(&[&rustls::version::TLS13], None)));
    let (near, far) = duplex(1 << 16);
    let name = ServerName::try_from("frps").unwrap();
    let (ours, theirs) = tokio::join!(server.accept(near), connector.connect(name, far));
    ours.unwrap();
    theirs.unwrap().get_ref().1.peer_certificates().unwrap()[0].clone()
}

async fn until_shown(server: &ServerTls, pem: &str) {
    let wanted = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    timeout(LIMIT, async {
        while shown(server).await != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn changed_files_serve_new_connections() {
    let dir = Dir::new();
    let ca = authority("ca");
    let (first, second, third) = (ca.issue(|_| ()), ca.issue(|_| ()), ca.issue(|_| ()));
    let server = ServerTls::new(dir.pair("server", &first)).unwrap();
    let watch = tokio::spawn(server.clone().watch(Duration::from_millis(5)));
    until_shown(&server, &first.0).await;
    let client = ClientTls::new(TlsFiles::default());
    let (live_server, live_client) = pair(&server, &client, "frps").await;

    dir.pair("server", &second);
    until_shown(&server, &second.0).await;
    // Nonsense changes nothing.
    dir.write("server.crt", "nonsense");
    tokio::time::sleep(Duration::from_millis(50)).await;
    until_shown(&server, &second.0).await;
    dir.pair("server", &third);
    until_shown(&server, &third.0).await;

    exchange(
        live_server.unwrap(),
        live_client.unwrap(),
        b"still alive",
        3,
    )
    .await;
    watch.abort();
}

#[cfg(unix)]
#[tokio::test]
async fn a_swapped_directory_link_is_a_change() {
    let dir = Dir::new();
    let ca = authority("ca");
    let pairs = [ca.issue(|_| ()), ca.issue(|_| ())];
    for (name, (cert, key)) in ["one", "two"].iter().zip(&pairs) {
        std::fs::create_dir(dir.0.path().join(name)).unwrap();
        dir.write(&format!("{name}/tls.crt"), cert);
        dir.write(&format!("{name}/tls.key"), key);
    }
    let current = dir.0.path().join("current");
    std::os::unix::fs::symlink("one", &current).unwrap();
    let server = ServerTls::new(TlsFiles {
        cert_file: current.join("tls.crt"),
        key_file: current.join("tls.key"),
        ..TlsFiles::default()
    })
    .unwrap();
    let watch = tokio::spawn(server.clone().watch(Duration::from_millis(5)));
    until_shown(&server, &pairs[0].0).await;
    let next = dir.0.path().join("next");
    std::os::unix::fs::symlink("two", &next).unwrap();
    std::fs::rename(next, current).unwrap();
    until_shown(&server, &pairs[1].0).await;
    watch.abort();
}

#[tokio::test]
async fn a_client_reads_its_files_for_each_connection() {
    let dir = Dir::new();
    let (old, new) = (authority("old"), authority("new"));
    let named = |p: &mut CertificateParams| p.subject_alt_names = vec![dns("frps.example")];
    let server = ServerTls::new(dir.pair("server", &new.issue(named))).unwrap();
    let client = ClientTls::new(dir.ca(&old.pem));
    let connect = async || pair(&server, &client, "frps.example").await.1.map(|_| ());
    assert!(connect().await.is_err());
    let path = dir.ca(&new.pem).trusted_ca_file;
    connect().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let (near, _far) = duplex(1);
    let e = client.connect(near, "frps.example").await.err().unwrap();
    assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
    assert!(e.to_string().contains(&*path.to_string_lossy()), "{e}");
    dir.ca(&new.pem);
    connect().await.unwrap();
}
