//! The command line: both programs print the same and end alike.

use std::process::Command;

use conformance::lab::TOKEN;
use conformance::peers::Programs;
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, ports, service};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("command_line/help", help),
        Case::pair("command_line/errors", errors),
        Case::pair("command_line/entries", entries),
        Case::frpc("command_line/completion", completion),
        Case::pair("command_line/one_shot", one_shot),
    ]
}

/// What a program prints, and its exit code.
#[derive(Debug, PartialEq)]
struct Printed {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

fn run(programs: &Programs, line: &str) -> Outcome<Printed> {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let program = programs.path(words.next().unwrap_or_default());
    let output = Command::new(program).args(words).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Printed {
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        code: output.status.code(),
    })
}

/// The makers of the two programs print the same for each line.
fn same(lab: &Lab, lines: impl IntoIterator<Item = String>) -> Outcome {
    for line in lines {
        let [mut one, mut other] = [run(&lab.frps, &line)?, run(&lab.frpc, &line)?];
        for printed in [&mut one, &mut other] {
            printed.stdout = comparable(&printed.stdout);
            printed.stderr = comparable(&printed.stderr);
        }
        assert_eq!(one, other, "{line}");
    }
    Ok(())
}

/// Without what the programs say of themselves, and without our hint what a wrong flag may mean.
fn comparable(text: &str) -> String {
    let kept = text.lines().filter(|line| {
        let themselves = line.starts_with("frpc is ") || line.starts_with("frps is ");
        let hint = line.starts_with("Did you mean --");
        !themselves && !hint
    });
    kept.collect::<Vec<_>>().join("\n")
}

const ONE_SHOT: [&str; 11] = [
    "tcp",
    "udp",
    "http",
    "https",
    "tcpmux",
    "stcp",
    "sudp",
    "xtcp",
    "stcp visitor",
    "sudp visitor",
    "xtcp visitor",
];

async fn help(lab: &Lab) -> Outcome {
    let others = ["", "verify", "reload", "status", "stop"];
    let shells = ["", "bash", "zsh", "fish", "powershell"];
    let frpc = others.iter().chain(&ONE_SHOT);
    let mut lines: Vec<String> = frpc.map(|c| format!("frpc {c} --help")).collect();
    lines.extend(ONE_SHOT.map(|c| format!("frpc help {c}")));
    for program in ["frps", "frpc"] {
        lines.extend(shells.map(|shell| format!("{program} completion {shell} -h")));
    }
    for line in [
        "frps -h",
        "frps verify -h",
        "frpc completion",
        "frpc nathole",
        "frpc nathole x",
        "frpc nathole discover -h",
        "frpc completion nope",
        "frpc completion help",
        "frpc help completion bash",
        "frpc completion bash -h x",
        "frpc help nope",
        "frpc stcp -h visitor",
    ] {
        lines.push(line.to_owned());
    }
    same(lab, lines)
}

async fn errors(lab: &Lab) -> Outcome {
    let mut lines: Vec<String> = ONE_SHOT
        .iter()
        .flat_map(|c| [format!("frpc {c}"), format!("frpc {c} --nope")])
        .collect();
    for line in [
        "frpc completion bash x",
        "frpc completion zsh x y",
        "frpc completion bash -- x",
        "frpc completion bash x --nope",
        "frpc completion --nope",
        "frps completion bash x",
        "frpc tcp -n a --bind_port 1",
        "frpc stcp visitor -l 1",
        "frpc stcp visitor -r 1",
        "frpc http -r 1",
        "frpc tcp -l x",
        "frpc tcp --bandwidth_limit 5GB",
        "frpc tcp --metadatas foo",
        "frpc stcp foo",
    ] {
        lines.push(line.to_owned());
    }
    same(lab, lines)
}

/// What a single entry is refused for, without its name.
async fn entries(lab: &Lab) -> Outcome {
    let lines = [
        "frpc tcp -n a -l 70000",
        "frpc tcp -n a -l 1 -p nope",
        "frpc tcp -n a -l 1 --log_level nope -p nope",
        "frpc tcp -n a --bandwidth_limit_mode nope",
        "frpc udp -l 1",
        "frpc http -n a -l 1",
        "frpc https -n a -l 1",
        "frpc tcpmux -n a -l 1 -d a.test",
        "frpc tcpmux -n a -l 1 -d a.test --mux nope",
        "frpc stcp visitor -n v",
        "frpc stcp visitor -n v --server_name s",
        "frpc sudp visitor --server_name s --bind_port 1",
        "frpc xtcp visitor -n v --bind_port 1",
    ];
    same(lab, lines.map(str::to_owned))
}

/// bash takes the script of each maker; what is offered is the maker's affair.
async fn completion(lab: &Lab) -> Outcome {
    for program in ["frpc", "frps"] {
        for flag in ["", "--no-descriptions"] {
            let printed = run(&lab.frpc, &format!("{program} completion bash {flag}"))?;
            assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
            let script = lab.file("completion.bash", &printed.stdout)?;
            let bash = Command::new("bash")
                .args([
                    "--norc",
                    "-c",
                    &format!("source '{script}'; complete -p {program}"),
                ])
                .output()?;
            assert!(bash.status.success(), "{bash:?}");
        }
        for shell in ["zsh", "fish", "powershell"] {
            let printed = run(&lab.frpc, &format!("{program} completion {shell}"))?;
            assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
            assert!(printed.stdout.contains(program));
        }
    }
    Ok(())
}

/// A proxy and a visitor without any file.
async fn one_shot(lab: &Lab) -> Outcome {
    let (_frps, port) = lab.setup().start_server().await?;
    let echo = service::start(service::Kind::Echo).await?;
    let bind = ports::free();
    let common = ["-P", &port.to_string(), "-t", TOKEN].map(str::to_owned);
    let start = |words: &str| {
        let words = words.split(' ').map(str::to_owned);
        lab.start_with(&lab.frpc, "frpc", words.chain(common.clone()))
    };
    let secret = "-n secret --sk key";
    let mut proxy = start(&format!("stcp {secret} -l {} --ue", echo.port()))?;
    proxy.logs("[secret] start proxy success").await?;
    let visitor = start(&format!(
        "stcp visitor -n v --server_name secret --sk key --bind_port {bind} --ue"
    ))?;
    let user = std::net::SocketAddr::from(([127, 0, 0, 1], bind));
    until("the visitor works", LIMIT, async || {
        service::echo(user, 100).await.ok()
    })
    .await?;
    drop(visitor);
    Ok(())
}
