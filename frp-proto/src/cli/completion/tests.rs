use super::*;

#[derive(Default)]
struct Options {
    text: String,
    switch: bool,
    no_descriptions: bool,
}

impl Complete for Options {
    fn root() -> &'static Command<Self> {
        &ROOT
    }

    fn no_descriptions(&mut self) -> &mut bool {
        &mut self.no_descriptions
    }
}

static ROOT: Command<Options> = Command {
    flags: &[
        Flag::text("config-file", "the program's file", |o: &mut Options| {
            &mut o.text
        })
        .short('c'),
        Flag::bool("version", "its version", |o| &mut o.switch),
    ],
    commands: &[
        Command {
            commands: &[Command {
                run: Some(|_| ExitCode::SUCCESS),
                ..Command::new("visitor", "a visitor")
            }],
            local: &[&[Flag::text("bind", "address", |o| &mut o.text)]],
            run: Some(|_| ExitCode::SUCCESS),
            ..Command::new("stcp", "a secret one")
        },
        Command::new("later", "not offered"),
        Completion::COMMAND,
    ],
    run: Some(|_| ExitCode::SUCCESS),
    ..Command::new("prog", "a program")
};

fn places() -> Vec<Place> {
    let mut places = Vec::new();
    collect(&mut vec![&ROOT], &mut places);
    places
}

#[test]
fn each_command_offers_what_it_takes() {
    let places = places();
    let words = |path: &str| -> Vec<String> {
        let place = places.iter().find(|place| place.path == path).unwrap();
        place.words.iter().map(|word| word.text.clone()).collect()
    };
    let common = ["--config-file", "-c", "--version", "--help", "-h"];
    assert_eq!(
        words("prog"),
        [&["stcp", "completion", "help"], &common[..]].concat()
    );
    assert_eq!(words("prog help"), ["stcp", "completion"]);
    assert_eq!(
        words("prog stcp"),
        [&["visitor", "--bind"], &common[..]].concat()
    );
    assert_eq!(words("prog stcp visitor"), common);
    assert!(words("prog completion zsh").contains(&"--no-descriptions".to_owned()));
    assert!(places.iter().all(|place| !place.path.contains("later")));
}

#[test]
fn every_script_has_every_word() {
    let places = places();
    for script in [bash::script, zsh::script, fish::script, powershell::script] {
        let text = script("prog", &places);
        assert!(!text.contains("{program}"), "{text}");
        for word in places.iter().flat_map(|place| &place.words) {
            let name = word.text.trim_start_matches('-');
            assert!(text.contains(name), "{name} in {text}");
        }
    }
}

/// What bash offers after this line.
fn in_bash(line: &str, comp_type: u8) -> Option<Vec<String>> {
    let words: Vec<&str> = line.split(' ').collect();
    let script = format!(
        "{}\nCOMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE={comp_type}; _prog; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        bash::script("prog", &places()),
        words
            .iter()
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" "),
        words.len() - 1,
    );
    let output = std::process::Command::new("bash")
        .args(["--norc", "--noprofile", "-c", &script])
        .output()
        .ok()?;
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let offered = String::from_utf8(output.stdout).unwrap();
    Some(
        offered
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect(),
    )
}

#[test]
fn bash_completes() {
    const TAB: u8 = 9;
    const LIST: u8 = 63;
    for (line, comp_type, expected) in [
        ("prog ", TAB, &["stcp", "completion", "help"][..]),
        ("prog st", TAB, &["stcp"]),
        ("prog later ", TAB, &["stcp", "completion", "help"]),
        ("prog help co", TAB, &["completion"]),
        ("prog stcp ", TAB, &["visitor"]),
        ("prog stcp --b", TAB, &["--bind"]),
        ("prog -c stcp st", TAB, &["stcp"]),
        ("prog --config_file = stcp st", TAB, &["stcp"]),
        ("prog --version stcp v", TAB, &["visitor"]),
        ("prog --config-file ", TAB, &[]),
        ("prog --config-file =", TAB, &[]),
        ("prog --config-file = f", TAB, &[]),
        ("prog completion bash --no", LIST, &["--no-descriptions"]),
        (
            "prog -",
            LIST,
            &[
                "--config-file  -- the program's file",
                "-c  -- the program's file",
                "--version  -- its version",
                "--help  -- show the help",
                "-h  -- show the help",
            ],
        ),
    ] {
        let Some(offered) = in_bash(line, comp_type) else {
            eprintln!("skipped: there is no bash");
            return;
        };
        assert_eq!(offered, expected, "{line:?}");
    }
}
