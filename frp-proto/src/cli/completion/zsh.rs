//! zsh.

use std::fmt::Write as _;

use super::{Kind, Place, line, quoted};

pub(super) const HELP: &str = "\
Generate the autocompletion script for the zsh shell.

If shell completion is not already enabled in your environment you will need
to enable it.  You can execute the following once:

\techo \"autoload -U compinit; compinit\" >> ~/.zshrc

To load completions in your current shell session:

\tsource <({program} completion zsh)

To load completions for every new session, execute once:

#### Linux:

\t{program} completion zsh > \"${fpath[1]}/_{program}\"

#### macOS:

\t{program} completion zsh > $(brew --prefix)/share/zsh/site-functions/_{program}

You will need to start a new shell for this setup to take effect.";

const WALK: &str = r#"
_{program}() {
    local place={program} is_value= word kind i
    local -a offered
    for ((i = 2; i < CURRENT; i++)); do
        word=${words[i]}
        if [[ -n $is_value ]]; then
            is_value=
            continue
        fi
        [[ $word == -* ]] && word=${word//_/-}
        kind=$(_{program}_kind "$place" "$word")
        case $kind in
            command) place="$place $word" ;;
            value) is_value=1 ;;
        esac
    done
    if [[ -n $is_value ]]; then
        _files
    elif [[ $PREFIX == -*=* ]]; then
        compset -P '*='
        _files
    else
        offered=("${(@f)$(_{program}_words "$place")}")
        if [[ $PREFIX == -* ]]; then
            offered=(${(M)offered:#-*})
        else
            offered=(${offered:#-*})
        fi
        _describe '{program}' offered || _files
    fi
}

# In a directory of functions the file is the function; a sourced one only defines it.
if [[ ${funcstack[1]} == _{program} ]]; then
    _{program} "$@"
else
    compdef _{program} {program}
fi
"#;

pub(super) fn script(program: &str, places: &[Place]) -> String {
    let mut text = format!("#compdef {program}\n\n# zsh completion for {program}\n\n");
    let mut words = format!("_{program}_words() {{\n    case $1 in\n");
    let mut kinds = format!("_{program}_kind() {{\n    case $1 in\n");
    for place in places {
        let path = quoted(&place.path);
        let _ = writeln!(words, "        {path}) print -rl -- \\");
        for word in &place.words {
            // A colon separates; no word has one.
            let line = if word.about.is_empty() {
                word.text.clone()
            } else {
                format!("{}:{}", word.text, word.about)
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
