//! The program from command line to report, with tiny volumes.

use std::process::Command;

#[test]
#[ignore = "needs a pair of programs: set FRP_UPSTREAM_DIR to a directory with frps and frpc"]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's only way to be told where peers are"
)]
fn every_case_gives_a_figure() {
    let directory = std::env::var("FRP_UPSTREAM_DIR").expect("FRP_UPSTREAM_DIR is set");
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(["--rounds", "1", "--scale", "0.01"])
        .args(["--pair", &format!("go={directory}")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{progress}");
    for name in [
        "stream1-up",
        "plain-stream16",
        "enc-stream1",
        "comp-stream1",
        "newconn",
        "pingpong",
        "http",
        "http-routes1000",
        "http-routes10000",
        "http-large",
        "idle5000",
        "start-memory",
    ] {
        assert!(text.contains(&format!("| {name} |")), "{text}");
    }
}
