//! fish.

use std::fmt::Write as _;

use super::{Kind, Place};

pub(super) const HELP: &str = "\
Generate the autocompletion script for the fish shell.

To load completions in your current shell session:

\t{program} completion fish | source

To load completions for every new session, execute once:

\t{program} completion fish > ~/.config/fish/completions/{program}.fish

You will need to start a new shell for this setup to take effect.";

const WALK: &str = r#"
function __{program}_at
    set -l place {program}
    set -l is_value
    set -l words (commandline -opc)
    for word in $words[2..]
        if test -n "$is_value"
            set is_value
            continue
        end
        string match -q -- '-*' $word; and set word (string replace -a _ - -- $word)
        switch (__{program}_kind "$place" "$word")
            case command
                set place "$place $word"
            case value
                set is_value 1
        end
    end
    test -z "$is_value" -a "$place" = "$argv[1]"
end

complete -c {program} -e
"#;

/// In single quotes, where fish knows `\'` and `\\`.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

pub(super) fn script(program: &str, places: &[Place]) -> String {
    let mut text = format!("# fish completion for {program}\n\n");
    let _ = writeln!(text, "function __{program}_kind\n    switch \"$argv\"");
    for place in places {
        for (kind, name) in [(Kind::Command, "command"), (Kind::Value, "value")] {
            let words: Vec<String> = place
                .of(kind)
                .map(|word| quoted(&format!("{} {}", place.path, word.text)))
                .collect();
            if !words.is_empty() {
                let _ = writeln!(
                    text,
                    "        case {}\n            echo {name}",
                    words.join(" ")
                );
            }
        }
    }
    text.push_str("    end\nend\n");
    text.push_str(&WALK.replace("{program}", program));
    for place in places {
        let at = quoted(&format!("__{program}_at {}", quoted(&place.path)));
        for word in &place.words {
            let what = match (word.kind, word.text.strip_prefix("--")) {
                (Kind::Command, _) => format!("-f -a {}", quoted(&word.text)),
                (kind, Some(long)) => {
                    format!("-l {long}{}", if kind == Kind::Value { " -r" } else { "" })
                }
                (kind, None) => format!(
                    "-s {}{}",
                    word.text.trim_start_matches('-'),
                    if kind == Kind::Value { " -r" } else { "" }
                ),
            };
            let about = match word.about {
                "" => String::new(),
                about => format!(" -d {}", quoted(about)),
            };
            let _ = writeln!(text, "complete -c {program} -n {at} {what}{about}");
        }
    }
    text
}
