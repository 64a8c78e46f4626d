//! bash.

use std::fmt::Write as _;

use super::{Kind, Place, line, quoted};

pub(super) const HELP: &str = "\
Generate the autocompletion script for the bash shell.

This script depends on the 'bash-completion' package.
If it is not installed already, you can install it via your OS's package manager.

To load completions in your current shell session:

\tsource <({program} completion bash)

To load completions for every new session, execute once:

#### Linux:

\t{program} completion bash > /etc/bash_completion.d/{program}

#### macOS:

\t{program} completion bash > $(brew --prefix)/etc/bash_completion.d/{program}

You will need to start a new shell for this setup to take effect.";

/// `=` is a word of its own in bash, so a value after it is one, too. Descriptions are shown in lists only (`COMP_TYPE`
/// 63): anywhere else bash would put them into the command line.
const WALK: &str = r#"
_{program}() {
    local current=${COMP_WORDS[COMP_CWORD]} place={program} is_value= word line i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == '=' ]]; then
            is_value=1
        elif [[ $is_value ]]; then
            is_value=
        else
            [[ $word == -* ]] && word=${word//_/-}
            case $(_{program}_kind "$place" "$word") in
                command) place+=" $word" ;;
                value) is_value=1 ;;
            esac
        fi
    done
    COMPREPLY=()
    # Nothing to offer: bash completes names of files.
    [[ $is_value || $current == '=' ]] && return
    local matches=()
    while IFS= read -r line; do
        [[ $line == -* && $current != -* ]] && continue
        [[ $line == "$current"* ]] && matches+=("$line")
    done < <(_{program}_words "$place")
    if [[ ${#matches[@]} -gt 1 && ${COMP_TYPE:-9} == 63 ]]; then
        COMPREPLY=("${matches[@]/$'\t'/  -- }")
    else
        COMPREPLY=("${matches[@]%%$'\t'*}")
    fi
}

complete -o default -F _{program} {program}
"#;

pub(super) fn script(program: &str, places: &[Place]) -> String {
    let mut text = format!("# bash completion for {program}\n\n");
    let mut words = format!("_{program}_words() {{\n    case $1 in\n");
    let mut kinds = format!("_{program}_kind() {{\n    case $1 in\n");
    for place in places {
        let path = quoted(&place.path);
        let _ = writeln!(words, "        {path}) printf '%s\\n' \\");
        for word in &place.words {
            let line = if word.about.is_empty() {
                word.text.clone()
            } else {
                format!("{}\t{}", word.text, word.about)
            };
            let _ = writeln!(words, "            {} \\", quoted(&line));
        }
        let _ = writeln!(words, "            ;;");
        let _ = writeln!(kinds, "        {path}) case $2 in");
        for (kind, name) in [(Kind::Command, "command"), (Kind::Value, "value")] {
            if place.of(kind).next().is_some() {
                let _ = writeln!(kinds, "            {}) echo {name} ;;", line(place, kind));
            }
        }
        let _ = writeln!(kinds, "        esac ;;");
    }
    for function in [words, kinds] {
        let _ = writeln!(text, "{function}    esac\n}}\n");
    }
    text.push_str(WALK.trim_start().replace("{program}", program).as_str());
    text
}
