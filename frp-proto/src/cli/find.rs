//! Which command a command line means: words that are no flags and no values of flags are looked at before any flag is read.

use strsim::levenshtein;

use super::{Command, Exit, Flag, help};

/// From the root to the chosen command; never empty.
pub(super) type Path<T> = Vec<&'static Command<T>>;

/// Whether `name` is a spelling of `flag`: `_` and `-` are alike.
pub(super) fn is_spelling<T>(flag: &Flag<T>, name: &str) -> bool {
    flag.name.len() == name.len()
        && flag
            .name
            .bytes()
            .zip(name.bytes())
            .all(|(a, b)| a == b || a == b'-' && b == b'_')
}

/// The flags a command accepts, its own first.
pub(super) fn flags<T>(path: &[&'static Command<T>]) -> impl Iterator<Item = &'static Flag<T>> {
    let local = path.last().into_iter().flat_map(|command| command.local);
    local.copied().flatten().chain(inherited(path))
}

/// The flags that commands below this one accept.
pub(super) fn inherited<T>(path: &[&'static Command<T>]) -> impl Iterator<Item = &'static Flag<T>> {
    path.iter().rev().flat_map(|command| command.flags)
}

/// Follows command words from the root; the words followed are taken out of `args`.
pub(super) fn command<T: Default>(
    root: &'static Command<T>,
    args: &mut Vec<String>,
) -> Result<Path<T>, Exit> {
    let mut path = vec![root];
    while let Some(at) = first_word(&path, args) {
        let current = path[path.len() - 1];
        let word = args[at].as_str();
        if let Some(next) = current.commands.iter().find(|c| c.name == word) {
            args.remove(at);
            path.push(next);
        } else if path.len() == 1 {
            return Err(if word == "help" {
                help::topic(root, &args[at + 1..])
            } else {
                unknown(root, word)
            });
        } else {
            break;
        }
    }
    Ok(path)
}

/// Where the first word is that can be a command.
fn first_word<T>(path: &[&'static Command<T>], args: &[String]) -> Option<usize> {
    let mut at = 0;
    while let Some(arg) = args.get(at).filter(|arg| *arg != "--") {
        if let Some(rest) = arg.strip_prefix('-') {
            at += usize::from(takes_next(path, rest));
        } else if !arg.is_empty() {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Whether `-rest` may have its value in the next argument. A flag that is not in the table may, as upstream sees
/// it: `-h verify` asks for the root's help.
fn takes_next<T>(path: &[&'static Command<T>], rest: &str) -> bool {
    if rest.contains('=') {
        return false;
    }
    let stands_alone = |is_meant: &dyn Fn(&Flag<T>) -> bool| {
        flags(path)
            .find(|flag| is_meant(flag))
            .is_some_and(Flag::is_bool)
    };
    let mut letters = rest.chars();
    match (rest.strip_prefix('-'), letters.next(), letters.next()) {
        (Some(name), ..) => !stands_alone(&|flag| is_spelling(flag, name)),
        (None, Some(letter), None) => !stands_alone(&|flag| flag.short == Some(letter)),
        _ => false,
    }
}

fn unknown<T>(root: &Command<T>, word: &str) -> Exit {
    let lower = word.to_lowercase();
    let near: Vec<&str> = root
        .commands
        .iter()
        .filter(|c| c.is_offered())
        .map(|c| c.name)
        .filter(|name| name.starts_with(&lower) || levenshtein(name, &lower) <= 2)
        .collect();
    let suggestion = if near.is_empty() {
        String::new()
    } else {
        format!("\nDid you mean this?\n\t{}\n\n", near.join("\n\t"))
    };
    let name = root.name;
    Exit::error(format!(
        "Error: unknown command {word:?} for {name:?}\n{suggestion}Run '{name} --help' for usage.\n"
    ))
}
