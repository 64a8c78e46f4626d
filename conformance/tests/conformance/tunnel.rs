//! A tunnel carries data, whatever the settings.

use conformance::wait::LIMIT;
use conformance::{Case, Setup};

type Change = for<'a> fn(Setup<'a>) -> Setup<'a>;

/// Name, oldest minor version that knows the keys, settings.
const SETTINGS: [(&str, u16, Change); 12] = [
    ("default", 37, |s| s),
    ("tls_off", 37, |s| s.frpc("transport.tls.enable", false)),
    ("tls_0x17", 52, |s| {
        s.frpc("transport.tls.disableCustomTLSFirstByte", false)
    }),
    ("mux_off", 37, mux_off),
    ("mux_off/tls_off", 37, |s| {
        mux_off(s).frpc("transport.tls.enable", false)
    }),
    ("mux_off/tls_0x17", 52, |s| {
        mux_off(s).frpc("transport.tls.disableCustomTLSFirstByte", false)
    }),
    ("encryption", 37, |s| {
        s.proxy("transport.useEncryption", true)
    }),
    ("compression", 37, |s| {
        s.proxy("transport.useCompression", true)
    }),
    ("encryption_compression", 37, |s| {
        s.proxy("transport.useEncryption", true)
            .proxy("transport.useCompression", true)
    }),
    ("encryption_compression/mux_off", 37, |s| {
        mux_off(s)
            .proxy("transport.useEncryption", true)
            .proxy("transport.useCompression", true)
    }),
    ("no_token", 37, |s| s.both("auth.token", "")),
    ("pool_5", 37, |s| s.frpc("transport.poolCount", 5i64)),
];

fn mux_off(setup: Setup<'_>) -> Setup<'_> {
    setup.both("transport.tcpMux", false)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, since, change) in SETTINGS {
        for wire in ["v1", "v2"] {
            let case = Case::pair(format!("tunnel/{wire}/{name}"), async move |lab| {
                let pair = change(lab.setup()).wire(wire).start().await?;
                pair.echo().await
            });
            cases.push(if wire == "v1" {
                case.since(since)
            } else {
                case
            });
        }
    }
    for (name, server, client) in [("frps", true, false), ("frpc", false, true)] {
        cases.push(Case::pair(
            format!("tunnel/mux_only_in_{name}"),
            async move |lab| {
                let setup = lab.setup().frps("transport.tcpMux", server);
                let setup = setup.frpc("transport.tcpMux", client);
                let (_frps, port) = setup.start_server().await?;
                let mut frpc = setup.start_client(port, 0).await?;
                assert_eq!(frpc.exit(LIMIT).await?.code(), Some(1));
                let log = frpc.log();
                assert!(log.contains("login to the server failed: "));
                // Which it is depends on how far the client's writing got.
                let known = [
                    "EOF",
                    "session shutdown",
                    "stream closed",
                    "broken pipe",
                    "reset by peer",
                ];
                let error = log
                    .lines()
                    .find(|l| l.contains("connect to server error: "));
                assert!(
                    error.is_some_and(|line| known.iter().any(|text| line.contains(text))),
                    "another error than users know: {error:?}"
                );
                Ok(())
            },
        ));
    }
    cases
}
