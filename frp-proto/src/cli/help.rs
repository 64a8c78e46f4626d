//! Help and usage in upstream's layout.

use std::fmt::Write as _;

use super::find::{flags, inherited};
use super::{Command, Exit, Flag, Target};

/// Columns that command names are padded to.
const NAME_COLUMNS: usize = 11;

/// The whole help of a command.
pub(super) fn help<T: Default>(path: &[&'static Command<T>]) -> Exit {
    let command = path[path.len() - 1];
    let about = match command.long {
        "" => command.about.to_owned(),
        long => long.replace("{program}", path[0].name),
    };
    Exit::printed(format!("{about}\n\n{}", usage(path)))
}

/// Answers `help WORDS…`.
pub(super) fn topic<T: Default>(root: &'static Command<T>, words: &[String]) -> Exit {
    let words: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut path = vec![root];
    for word in &words {
        let commands = path[path.len() - 1].commands;
        match commands.iter().find(|c| c.name == **word && c.is_offered()) {
            Some(next) => path.push(next),
            // Only a first word can be no topic; further ones are arguments of a command.
            None if path.len() > 1 => break,
            None => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                return Exit {
                    text: format!(
                        "Unknown help topic [{}]\n{}",
                        words.join(" "),
                        listed(&path, None)
                    ),
                    to_stderr: true,
                    code: 0,
                };
            }
        }
    }
    help(&path)
}

/// The flags a command accepts.
pub(super) fn flag_table<T: Default>(path: &[&'static Command<T>]) -> String {
    table(flags(path).map(Row::new).collect())
}

/// The usage of a command, as it follows errors.
pub(super) fn usage<T: Default>(path: &[&'static Command<T>]) -> String {
    let name = path.last().map_or("", |command| command.name);
    let help = Row {
        name: "help",
        spelling: "  -h, --help".to_owned(),
        usage: format!("help for {name}"),
    };
    listed(path, Some(help))
}

/// The usage of a command, with a line about `--help` or not.
fn listed<T: Default>(path: &[&'static Command<T>], help: Option<Row>) -> String {
    let names: Vec<&str> = path.iter().map(|command| command.name).collect();
    let name = names.join(" ");
    let [parents @ .., command] = path else {
        return String::new();
    };
    let mut text = "Usage:\n".to_owned();
    if command.run.is_some() {
        let shown = if command.shows_flags { " [flags]" } else { "" };
        let _ = writeln!(text, "  {name}{shown}");
    }
    if !command.commands.is_empty() {
        let topics = ("help", "Help about any command");
        let mut listed: Vec<(&str, &str)> = command
            .commands
            .iter()
            .filter(|c| c.is_offered())
            .map(|c| (c.name, c.about))
            .chain((parents.is_empty()).then_some(topics))
            .collect();
        listed.sort_unstable();
        let _ = write!(text, "  {name} [command]\n\nAvailable Commands:\n");
        for (name, about) in listed {
            let _ = writeln!(text, "  {name:NAME_COLUMNS$} {about}");
        }
    }
    let mut own: Vec<Row> = flags(&[*command]).map(Row::new).collect();
    own.extend(help);
    let _ = write!(text, "\nFlags:\n{}", table(own));
    if !parents.is_empty() {
        let _ = write!(
            text,
            "\nGlobal Flags:\n{}",
            table(inherited(parents).map(Row::new).collect())
        );
    }
    if !command.commands.is_empty() {
        let _ = write!(
            text,
            "\nUse \"{name} [command] --help\" for more information about a command.\n"
        );
    }
    text
}

/// A line about a flag.
struct Row {
    name: &'static str,
    spelling: String,
    usage: String,
}

impl Row {
    fn new<T: Default>(flag: &Flag<T>) -> Self {
        let mut options = T::default();
        let (type_name, default) = match flag.target {
            Target::Text(field) => match field(&mut options) {
                text if text.is_empty() => ("string", None),
                text => ("string", Some(format!("{text:?}"))),
            },
            Target::Int(field) => {
                let n = *field(&mut options);
                ("int", (n != 0).then(|| n.to_string()))
            }
            Target::Bool(field) => ("", field(&mut options).then(|| "true".to_owned())),
            Target::List(_) => ("strings", None),
            Target::Duration(field) => ("duration", Some(format!("{:?}", field(&mut options)))),
            Target::Map(_) => ("stringToString", Some("[]".to_owned())),
            Target::Parsed { type_name, .. } => (type_name, None),
        };
        let short = flag
            .short
            .map_or("    ".to_owned(), |short| format!("-{short}, "));
        let default = default.map_or(String::new(), |default| format!(" (default {default})"));
        Self {
            name: flag.name,
            spelling: format!("  {short}--{} {type_name}", flag.name)
                .trim_end()
                .to_owned(),
            usage: format!("{}{default}", flag.usage),
        }
    }
}

/// Rows by name, their texts in one column.
fn table(mut rows: Vec<Row>) -> String {
    rows.sort_unstable_by_key(|row| row.name);
    let width = rows.iter().map(|row| row.spelling.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, row| {
        let _ = writeln!(text, "{:width$}   {}", row.spelling, row.usage);
        text
    })
}
