//! The command `completion` (config-frpc.md §13.2): scripts that tell shells what may be typed, made from the tables of the
//! command line. Everything is in the script: a shell does not call the program to complete.

mod bash;
mod fish;
mod powershell;
mod zsh;

use std::marker::PhantomData;
use std::process::ExitCode;

use super::find::flags;
use super::{Command, Exit, Flag};

/// The options of a program that completes its command line.
pub trait Complete: Default + 'static {
    /// Its commands.
    fn root() -> &'static Command<Self>;

    /// Where the flag `--no-descriptions` goes.
    fn no_descriptions(&mut self) -> &mut bool;
}

/// The command `completion` of a program with the options `T`.
pub struct Completion<T>(PhantomData<T>);

impl<T: Complete> Completion<T> {
    /// It and one command a shell.
    pub const COMMAND: Command<T> = Command {
        long: "Generate the autocompletion script for {program} for the specified shell.\n\
               See each sub-command's help for details on how to use the generated script.",
        commands: Self::SHELLS,
        ..Command::new(
            "completion",
            "Generate the autocompletion script for the specified shell",
        )
    };

    const SHELLS: &'static [Command<T>] = &[
        Command {
            long: bash::HELP,
            local: Self::FLAGS,
            refuses_words: true,
            shows_flags: false,
            run: Some(|options| script(options, bash::script)),
            ..Command::new("bash", "Generate the autocompletion script for bash")
        },
        Command {
            long: zsh::HELP,
            local: Self::FLAGS,
            refuses_words: true,
            run: Some(|options| script(options, zsh::script)),
            ..Command::new("zsh", "Generate the autocompletion script for zsh")
        },
        Command {
            long: fish::HELP,
            local: Self::FLAGS,
            refuses_words: true,
            run: Some(|options| script(options, fish::script)),
            ..Command::new("fish", "Generate the autocompletion script for fish")
        },
        Command {
            long: powershell::HELP,
            local: Self::FLAGS,
            refuses_words: true,
            run: Some(|options| script(options, powershell::script)),
            ..Command::new(
                "powershell",
                "Generate the autocompletion script for powershell",
            )
        },
    ];

    const FLAGS: &'static [&'static [Flag<T>]] = &[&[Flag::bool(
        "no-descriptions",
        "disable completion descriptions",
        T::no_descriptions,
    )]];
}

/// From the program's name and what may be typed to a script.
type Script = fn(&str, &[Place]) -> String;

fn script<T: Complete>(mut options: T, script: Script) -> ExitCode {
    let root = T::root();
    let mut places = Vec::new();
    collect(&mut vec![root], &mut places);
    if *options.no_descriptions() {
        for word in places.iter_mut().flat_map(|place| &mut place.words) {
            word.about = "";
        }
    }
    Exit::printed(script(root.name, &places)).print()
}

/// What may be typed after certain commands.
struct Place {
    /// The commands so far, the program's name first, with spaces between.
    path: String,
    words: Vec<Word>,
}

/// A word that may be typed.
struct Word {
    text: String,
    kind: Kind,
    /// Empty without descriptions.
    about: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Command,
    /// A flag that stands alone.
    Switch,
    /// A flag that is followed by its value.
    Value,
}

impl Place {
    /// Its words of one kind.
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Word> {
        self.words.iter().filter(move |word| word.kind == kind)
    }
}

fn command_words<T>(command: &Command<T>) -> Vec<Word> {
    let offered = command.commands.iter().filter(|c| c.is_offered());
    offered
        .map(|c| Word {
            text: c.name.to_owned(),
            kind: Kind::Command,
            about: c.about,
        })
        .collect()
}

/// This command's place and those of the commands below it.
fn collect<T: Default>(path: &mut Vec<&'static Command<T>>, places: &mut Vec<Place>) {
    let command = path[path.len() - 1];
    let mut words = command_words(command);
    let is_root = path.len() == 1;
    if is_root {
        words.push(Word {
            text: "help".to_owned(),
            kind: Kind::Command,
            about: "Help about any command",
        });
    }
    for flag in flags(path) {
        let kind = if flag.is_bool() {
            Kind::Switch
        } else {
            Kind::Value
        };
        let short = flag.short.map(|short| format!("-{short}"));
        let spellings = [Some(format!("--{}", flag.name)), short];
        words.extend(spellings.into_iter().flatten().map(|text| Word {
            text,
            kind,
            about: flag.usage,
        }));
    }
    words.extend(["--help", "-h"].map(|text| Word {
        text: text.to_owned(),
        kind: Kind::Switch,
        about: "show the help",
    }));
    let names: Vec<&str> = path.iter().map(|command| command.name).collect();
    let place = names.join(" ");
    if is_root {
        places.push(Place {
            path: format!("{place} help"),
            words: command_words(command),
        });
    }
    places.push(Place { path: place, words });
    for below in command.commands.iter().filter(|c| c.is_offered()) {
        path.push(below);
        collect(path, places);
        path.pop();
    }
}

/// In single quotes, for the shells of Unix.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Words of these kinds, quoted, in a line.
fn line(place: &Place, kind: Kind) -> String {
    let words: Vec<String> = place.of(kind).map(|word| quoted(&word.text)).collect();
    words.join("|")
}

#[cfg(test)]
mod tests;
