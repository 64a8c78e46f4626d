//! Certificates: who is let in, and who is not.

use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome, Setup};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// The name in the server's certificate.
const NAME: &str = "frps.test";

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = ["v1", "v2"]
        .into_iter()
        .map(|wire| {
            Case::pair(format!("tls/{wire}/mutual"), async move |lab| {
                mutual(lab)?.wire(wire).start().await?.echo().await
            })
        })
        .collect();
    cases.extend([
        Case::pair("tls/mutual_mux_off", async |lab| {
            let setup = mutual(lab)?.both("transport.tcpMux", false);
            setup.start().await?.echo().await
        }),
        Case::pair("tls/forced", async |lab| {
            let setup = lab.setup().frps("transport.tls.force", true);
            setup.start().await?.echo().await
        })
        .since(52),
        Case::pair("tls/forced_refuses_plain", async |lab| {
            let setup = lab.setup().frps("transport.tls.force", true);
            let setup = setup.frpc("transport.tls.enable", false);
            let text = "checkAndEnableTLSServerConnWithTimeout error: non-TLS connection received on a TlsOnly server";
            refused(&setup, Some(text)).await
        }),
        Case::pair("tls/client_ca_refuses_plain", async |lab| {
            let setup = mutual(lab)?.frpc("transport.tls.enable", false);
            refused(&setup, None).await
        }),
        Case::pair("tls/client_ca_refuses_no_certificate", async |lab| {
            let files = Files::make(lab, "a")?;
            refused(&files.server(lab.setup()), None).await
        }),
        Case::pair("tls/client_ca_refuses_stranger", async |lab| {
            let (ours, strange) = (Files::make(lab, "a")?, Files::make(lab, "b")?);
            let setup = strange.client(ours.server(lab.setup()));
            let setup = setup.frpc("transport.tls.trustedCaFile", ours.ca.clone());
            refused(&setup, None).await
        }),
        Case::pair("tls/client_refuses_other_ca", async |lab| {
            let other = Files::make(lab, "b")?;
            let setup = mutual(lab)?.frpc("transport.tls.trustedCaFile", other.ca);
            refused(&setup, None).await
        }),
        Case::pair("tls/client_refuses_other_name", async |lab| {
            let setup = mutual(lab)?.frpc("transport.tls.serverName", "other.test");
            refused(&setup, None).await
        }),
        Case::pair("tls/client_refuses_self_signed", async |lab| {
            let files = Files::make(lab, "a")?;
            let setup = lab.setup().frpc("transport.tls.trustedCaFile", files.ca);
            refused(&setup, None).await
        }),
    ]);
    cases
}

/// A CA and what it signed, as files.
struct Files {
    ca: String,
    server: (String, String),
    client: (String, String),
}

impl Files {
    fn make(lab: &Lab, prefix: &str) -> Outcome<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let signed = |role: &str, names: &[String]| -> Outcome<(String, String)> {
            let key = KeyPair::generate()?;
            let certificate = CertificateParams::new(names)?.signed_by(&key, &ca)?;
            Ok((
                lab.file(&format!("{prefix}-{role}.crt"), &certificate.pem())?,
                lab.file(&format!("{prefix}-{role}.key"), &key.serialize_pem())?,
            ))
        };
        Ok(Self {
            server: signed("server", &[NAME.to_owned()])?,
            client: signed("client", &["frpc.test".to_owned()])?,
            ca: lab.file(&format!("{prefix}-ca.crt"), &ca.pem())?,
        })
    }

    fn server<'a>(&self, setup: Setup<'a>) -> Setup<'a> {
        setup
            .frps("transport.tls.certFile", self.server.0.clone())
            .frps("transport.tls.keyFile", self.server.1.clone())
            .frps("transport.tls.trustedCaFile", self.ca.clone())
    }

    fn client<'a>(&self, setup: Setup<'a>) -> Setup<'a> {
        setup
            .frpc("transport.tls.certFile", self.client.0.clone())
            .frpc("transport.tls.keyFile", self.client.1.clone())
            .frpc("transport.tls.trustedCaFile", self.ca.clone())
            .frpc("transport.tls.serverName", NAME)
    }
}

/// Both verify each other.
fn mutual(lab: &Lab) -> Outcome<Setup<'_>> {
    let files = Files::make(lab, "a")?;
    Ok(files.client(files.server(lab.setup())))
}

/// frpc gives up, and frps says why.
async fn refused(setup: &Setup<'_>, server_log: Option<&str>) -> Outcome {
    let (mut frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, 0).await?;
    let status = frpc.exit(LIMIT).await?;
    assert_eq!(status.code(), Some(1));
    assert!(
        frpc.log().contains("login to the server failed: "),
        "frpc does not say that the login failed"
    );
    if let Some(text) = server_log {
        frps.logs(text).await?;
    }
    Ok(())
}
