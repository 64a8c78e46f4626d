//! Command lines against what upstream's programs print for the same ones.

use super::*;

type Flag = super::Flag<Options>;

#[derive(Debug, PartialEq)]
struct Options {
    config: String,
    strict: bool,
    version: bool,
    port: i64,
    features: Vec<String>,
    labels: BTreeMap<String, String>,
    even: String,
    command: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: String::new(),
            strict: true,
            version: false,
            port: 7000,
            features: Vec::new(),
            labels: BTreeMap::new(),
            even: String::new(),
            command: "",
        }
    }
}

fn even(options: &mut Options, text: &str) -> Result<(), String> {
    if text.len() % 2 == 1 {
        return Err("odd".to_owned());
    }
    text.clone_into(&mut options.even);
    Ok(())
}

static ROOT: Command<Options> = Command {
    run: Some(run),
    flags: &[
        Flag::text("config", "config file", |o| &mut o.config).short('c'),
        Flag::bool("strict-config", "refuse unknown keys", |o| &mut o.strict),
        Flag::bool("version", "print the version", |o| &mut o.version).short('v'),
        Flag::list("allow-unsafe", "features", |o| &mut o.features),
    ],
    commands: &[
        Command {
            run: Some(run),
            ..Command::new("verify", "Check a file")
        },
        Command {
            flags: &[
                Flag::int("bind-port", "bind port", |o| &mut o.port).short('p'),
                Flag::map("labels", "labels", |o| &mut o.labels),
            ],
            local: &[&[Flag::parsed("even", "even text", "string", even)]],
            run: Some(run),
            commands: &[Command {
                local: &[&[Flag::text("even", "another", |o| &mut o.even)]],
                run: Some(run),
                ..Command::new("visitor", "One visitor")
            }],
            ..Command::new("tcp", "One proxy")
        },
        Command {
            commands: &[Command {
                long: "Longer, of {program}.",
                refuses_words: true,
                shows_flags: false,
                run: Some(run),
                ..Command::new("one", "One of a group")
            }],
            ..Command::new("group", "A group")
        },
        Command::new("udp", ""),
    ],
    ..Command::new("prog", "prog is a program")
};

#[test]
fn a_group_shows_its_help() {
    let help = exit("group -h");
    assert_eq!(
        help.text.split("\n\nFlags").next(),
        Some(
            "A group\n\nUsage:\n  prog group [command]\n\nAvailable Commands:\n  one         One of a group"
        )
    );
    for line in ["group", "group nope", "group help", "help group"] {
        assert_eq!(exit(line), help, "{line}");
    }
    assert_eq!(error("group --nope"), "Error: unknown flag: --nope");
}

#[test]
fn a_command_may_refuse_words() {
    options("group one -v");
    for line in ["group one x -v", "group one -- x", "group one x y"] {
        let text = exit(line).text;
        let expected = "Error: unknown command \"x\" for \"prog group one\"\nUsage:\n  prog group one\n\nFlags:\n";
        assert!(text.starts_with(expected), "{text}");
    }
    assert_eq!(error("group one x --nope"), "Error: unknown flag: --nope");
    let help = exit("group one -h x");
    assert!(
        help.text.starts_with("Longer, of prog.\n\nUsage:"),
        "{help:?}"
    );
    assert_eq!(exit("help group one"), help);
}

#[test]
fn flags_are_handed_down_or_not() {
    let options = options("tcp visitor -p 9 --even odd");
    assert_eq!((options.port, options.even.as_str()), (9, "odd"));
    assert_eq!(
        error("tcp --even odd"),
        "Error: invalid argument \"odd\" for \"--even\" flag: odd"
    );
    assert_eq!(exit("tcp -h visitor"), exit("tcp -h"));
    let help = exit("tcp visitor -h").text;
    assert!(
        help.contains(
            "\nFlags:\n      --even string   another\n  -h, --help          help for visitor\n"
        ),
        "{help}"
    );
    assert!(help.contains("--labels stringToString"), "{help}");
}

fn run(_: Options) -> ExitCode {
    ExitCode::SUCCESS
}

/// Splits at spaces; `''` is an empty argument.
fn args(line: &str) -> Vec<String> {
    line.split_whitespace()
        .map(|arg| arg.replace("''", ""))
        .collect()
}

#[track_caller]
fn options(line: &str) -> Options {
    match parse(&ROOT, args(line)) {
        Ok((_, options)) => options,
        Err(exit) => panic!("{line}: {exit:?}"),
    }
}

#[track_caller]
fn exit(line: &str) -> Exit {
    match parse(&ROOT, args(line)) {
        Ok((_, options)) => panic!("{line}: {options:?}"),
        Err(exit) => exit,
    }
}

/// First line of an error.
#[track_caller]
fn error(line: &str) -> String {
    let exit = exit(line);
    assert!(exit.to_stderr && exit.code == 1, "{exit:?}");
    exit.text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn no_flag_gives_the_defaults() {
    assert_eq!(options(""), Options::default());
    assert_eq!(options("verify"), Options::default());
}

#[test]
fn every_spelling_of_a_value() {
    for line in [
        "tcp -p 9",
        "tcp -p9",
        "tcp -p=9",
        "tcp --bind-port 9",
        "tcp --bind_port=9",
        "-p 9 tcp",
        "tcp --bind-port 1 -vp 9",
        "tcp word -p 0b1001 word",
    ] {
        assert_eq!(options(line).port, 9, "{line}");
    }
    assert_eq!(options("-c verify").config, "verify");
    assert_eq!(options("-c f verify").config, "f");
    assert_eq!(options("-c= -").config, "=");
    assert_eq!(options("--config=").config, "");
    assert_eq!(options("-v -- --nope").config, "");
}

#[test]
fn booleans_take_a_value_only_after_equals() {
    assert!(!options("--strict_config=false").strict);
    assert!(!options("--strict-config=F").strict);
    assert!(options("--strict-config").strict);
    assert!(options("-v").version);
    assert!(!options("-v=0").version);
    assert_eq!(
        error("--strict-config false"),
        "Error: unknown command \"false\" for \"prog\""
    );
}

#[test]
fn lists_and_maps_add_up() {
    assert_eq!(
        options("--allow-unsafe a,b --allow_unsafe=c --allow-unsafe=").features,
        ["a", "b", "c"]
    );
    assert_eq!(options("tcp --labels a=1 --labels b=2,a=3").labels.len(), 2);
}

#[test]
fn errors_read_as_upstreams() {
    for (line, expected) in [
        ("--nope", "unknown flag: --nope"),
        ("--no_pe=1", "unknown flag: --no_pe"),
        ("--", ""),
        ("verify --bind-port 1", "unknown flag: --bind-port"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("-vx=1", "unknown shorthand flag: 'x' in -x=1"),
        ("-c", "flag needs an argument: 'c' in -c"),
        ("-vc", "flag needs an argument: 'c' in -c"),
        ("--config", "flag needs an argument: --config"),
        ("tcp --bind_port", "flag needs an argument: --bind_port"),
        ("--=x", "bad flag syntax: --=x"),
        ("---x", "bad flag syntax: ---x"),
        (
            "tcp -p=",
            "invalid argument \"=\" for \"-p, --bind-port\" flag: strconv.ParseInt: parsing \"=\": invalid syntax",
        ),
        (
            "tcp -p ''",
            "invalid argument \"\" for \"-p, --bind-port\" flag: strconv.ParseInt: parsing \"\": invalid syntax",
        ),
        (
            "--strict_config=maybe",
            "invalid argument \"maybe\" for \"--strict-config\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (
            "--help=x",
            "invalid argument \"x\" for \"-h, --help\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (
            "--allow-unsafe=\"",
            "invalid argument \"\\\"\" for \"--allow-unsafe\" flag: parse error on line 1, column 2: extraneous or missing \" in quoted-field",
        ),
        (
            "tcp --labels foo",
            "invalid argument \"foo\" for \"--labels\" flag: foo must be formatted as key=value",
        ),
        (
            "tcp --even odd",
            "invalid argument \"odd\" for \"--even\" flag: odd",
        ),
        ("foo --nope=1", "unknown command \"foo\" for \"prog\""),
        ("-vc x", "unknown command \"x\" for \"prog\""),
        (
            "udp -n x",
            "the command \"prog udp\" is not supported by this version yet",
        ),
    ] {
        if expected.is_empty() {
            options(line);
        } else {
            assert_eq!(error(line), format!("Error: {expected}"), "{line}");
        }
    }
}

#[test]
fn usage_follows_flag_errors() {
    assert_eq!(
        exit("verify --nope").text,
        "Error: unknown flag: --nope\n\
         Usage:\n  prog verify [flags]\n\
         \nFlags:\n  -h, --help   help for verify\n\
         \nGlobal Flags:\n\
         \x20     --allow-unsafe strings   features\n\
         \x20 -c, --config string          config file\n\
         \x20     --strict-config          refuse unknown keys (default true)\n\
         \x20 -v, --version                print the version\n\n"
    );
}

#[test]
fn near_misses_are_suggested() {
    let text = exit("--strict_confg").text;
    assert!(
        text.starts_with(
            "Error: unknown flag: --strict_confg\nDid you mean --strict-config?\nUsage:\n"
        ),
        "{text}"
    );
    for line in ["verfy", "ver", "VERIFY"] {
        assert_eq!(
            exit(line).text,
            format!(
                "Error: unknown command \"{line}\" for \"prog\"\n\nDid you mean this?\n\tverify\n\nRun 'prog --help' for usage.\n"
            )
        );
    }
    assert_eq!(
        exit("foo").text,
        "Error: unknown command \"foo\" for \"prog\"\nRun 'prog --help' for usage.\n"
    );
}

#[test]
fn help_of_the_root() {
    let expected = "prog is a program\n\
         \nUsage:\n  prog [flags]\n  prog [command]\n\
         \nAvailable Commands:\n\
         \x20 group       A group\n\
         \x20 help        Help about any command\n\
         \x20 tcp         One proxy\n\
         \x20 verify      Check a file\n\
         \nFlags:\n\
         \x20     --allow-unsafe strings   features\n\
         \x20 -c, --config string          config file\n\
         \x20 -h, --help                   help for prog\n\
         \x20     --strict-config          refuse unknown keys (default true)\n\
         \x20 -v, --version                print the version\n\
         \nUse \"prog [command] --help\" for more information about a command.\n";
    for line in [
        "-h",
        "--help",
        "help",
        "-vh",
        "-h verify",
        "--help foo",
        "help -h",
    ] {
        assert_eq!(exit(line), Exit::printed(expected.to_owned()), "{line}");
    }
}

#[test]
fn help_of_a_command() {
    let expected = exit("tcp -h");
    assert_eq!(
        expected.text.split("\n\nGlobal").next(),
        Some(
            "One proxy\n\
             \nUsage:\n  prog tcp [flags]\n  prog tcp [command]\n\
             \nAvailable Commands:\n  visitor     One visitor\n\
             \nFlags:\n\
             \x20 -p, --bind-port int           bind port (default 7000)\n\
             \x20     --even string             even text\n\
             \x20 -h, --help                    help for tcp\n\
             \x20     --labels stringToString   labels (default [])"
        )
    );
    assert_eq!(exit("help tcp more"), expected);
    let unknown = exit("help nope");
    assert!(
        unknown
            .text
            .starts_with("Unknown help topic [`nope`]\nUsage:\n  prog [flags]\n"),
        "{}",
        unknown.text
    );
    assert_eq!((unknown.to_stderr, unknown.code), (true, 0));
}
