//! The program from command line to report, with tiny volumes.

use std::process::Command;

#[test]
#[ignore = "needs a pair of programs: set FRP_UPSTREAM_DIR to a directory with frps and frpc"]
fn every_case_gives_a_figure() {
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(["--rounds", "1", "--scale", "0.01", "--baseline", "go"])
        .output()
        .unwrap();
    let (text, progress) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{progress}");
    for name in [
        "stream1-up",
        "plain-stream16",
        "enc-stream1",
        "newconn",
        "start-memory",
    ] {
        assert!(text.contains(&format!("| {name} |")), "{text}");
    }
    let go_failed = progress.lines().any(|line| line.contains(" go: FAILED"));
    assert!(!go_failed, "{progress}");
}
