//! Reading flags of the chosen command.

use strsim::levenshtein;

use super::find::{self, Path, flags, is_spelling};
use super::{Command, Exit, Flag, Flags, Run, Target, help, value};

/// Reads the arguments that follow the program's name: the command to run and its options, or what to print instead.
pub fn parse<T: Default>(
    root: &'static Command<T>,
    mut args: Vec<String>,
) -> Result<(Run<T>, T), Exit> {
    let path = find::command(root, &mut args)?;
    let command = path[path.len() - 1];
    if !command.is_offered() {
        return Err(Exit::error(format!(
            "Error: the command \"{}\" is not supported by this version yet\n",
            names(&path)
        )));
    }
    let mut parser = Parser {
        path,
        args: args.into_iter(),
        options: T::default(),
        help: false,
        suggests: true,
        word: None,
    };
    parser.flags().map_err(|error| parser.error(&error))?;
    match (command.run, &parser.word) {
        (Some(_), _) if parser.help => Err(help::help(&parser.path)),
        (Some(_), Some(word)) if command.refuses_words => {
            let name = names(&parser.path);
            Err(parser.error(&format!("unknown command {word:?} for {name:?}")))
        }
        (Some(run), _) => Ok((run, parser.options)),
        (None, _) => Err(help::help(&parser.path)),
    }
}

/// Reads flags that no program's command line carried. `path` is the command, after those whose flags it takes over; other
/// words are ignored, and nothing is suggested for a wrong name. The error is one line.
pub fn parse_flags<T: Default>(
    path: &[&'static Command<T>],
    args: Vec<String>,
) -> Result<Flags<T>, String> {
    let mut parser = Parser {
        path: path.to_vec(),
        args: args.into_iter(),
        options: T::default(),
        help: false,
        suggests: false,
        word: None,
    };
    parser.flags()?;
    Ok(if parser.help {
        Flags::Help(help::flag_table(path))
    } else {
        Flags::Options(parser.options)
    })
}

/// A command with its parents, as it is typed.
fn names<T>(path: &[&'static Command<T>]) -> String {
    let names: Vec<&str> = path.iter().map(|command| command.name).collect();
    names.join(" ")
}

/// What a spelling stands for.
enum Meant<T: 'static> {
    Help,
    Flag(&'static Flag<T>),
}

impl<T> Meant<T> {
    fn is_bool(&self) -> bool {
        match self {
            Self::Help => true,
            Self::Flag(flag) => flag.is_bool(),
        }
    }

    fn spelling(&self) -> String {
        let (short, name) = match self {
            Self::Help => (Some('h'), "help"),
            Self::Flag(flag) => (flag.short, flag.name),
        };
        let short = short.map_or(String::new(), |short| format!("-{short}, "));
        format!("{short}--{name}")
    }
}

struct Parser<T: 'static> {
    path: Path<T>,
    args: std::vec::IntoIter<String>,
    options: T,
    help: bool,
    /// Whether an unknown flag is answered with the one that may be meant.
    suggests: bool,
    /// The first word that is no flag and no command.
    word: Option<String>,
}

impl<T: Default> Parser<T> {
    /// A text and how the command is used.
    fn error(&self, text: &str) -> Exit {
        let usage = help::usage(&self.path);
        Exit::error(format!("Error: {text}\n{usage}\n"))
    }
}

impl<T> Parser<T> {
    /// Reads flags up to `--`.
    fn flags(&mut self) -> Result<(), String> {
        while let Some(arg) = self.args.next() {
            if arg == "--" {
                self.word = self.word.take().or_else(|| self.args.next());
                break;
            }
            if let Some(long) = arg.strip_prefix("--") {
                self.long(&arg, long)?;
            } else if let Some(short) = arg.strip_prefix('-') {
                self.short(short)?;
            } else {
                self.word.get_or_insert(arg);
            }
        }
        Ok(())
    }

    fn long(&mut self, arg: &str, long: &str) -> Result<(), String> {
        if long.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {arg}"));
        }
        let (name, given) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let meant = if name == "help" {
            Meant::Help
        } else {
            flags(&self.path)
                .find(|flag| is_spelling(flag, name))
                .map(Meant::Flag)
                .ok_or_else(|| self.unknown(name))?
        };
        match given {
            Some(value) => self.set(&meant, value),
            None if meant.is_bool() => self.set(&meant, "true"),
            None => match self.args.next() {
                Some(value) => self.set(&meant, &value),
                None => Err(format!("flag needs an argument: {arg}")),
            },
        }
    }

    /// Reads letters after one `-`: any number of booleans, then maybe one with its value.
    fn short(&mut self, mut letters: &str) -> Result<(), String> {
        while let Some(letter) = letters.chars().next() {
            let rest = &letters[letter.len_utf8()..];
            let given = rest.strip_prefix('=').filter(|value| !value.is_empty());
            let meant = if letter == 'h' {
                Meant::Help
            } else {
                flags(&self.path)
                    .find(|flag| flag.short == Some(letter))
                    .map(Meant::Flag)
                    .ok_or_else(|| format!("unknown shorthand flag: {letter:?} in -{letters}"))?
            };
            match given {
                Some(value) => return self.set(&meant, value),
                None if meant.is_bool() => self.set(&meant, "true")?,
                None if !rest.is_empty() => return self.set(&meant, rest),
                None => {
                    return match self.args.next() {
                        Some(value) => self.set(&meant, &value),
                        None => Err(format!("flag needs an argument: {letter:?} in -{letters}")),
                    };
                }
            }
            letters = rest;
        }
        Ok(())
    }

    fn set(&mut self, meant: &Meant<T>, value: &str) -> Result<(), String> {
        match meant {
            Meant::Help => value::boolean(value).map(|help| self.help = help),
            Meant::Flag(flag) => assign(&flag.target, &mut self.options, value),
        }
        .map_err(|reason| {
            format!(
                "invalid argument {value:?} for \"{}\" flag: {reason}",
                meant.spelling()
            )
        })
    }

    /// Upstream's text, and on a line of its own the flag that may be meant.
    fn unknown(&self, name: &str) -> String {
        let normal = name.replace('_', "-");
        let near = flags(&self.path)
            .map(|flag| (levenshtein(flag.name, &normal), flag.name))
            .min()
            .filter(|(distance, _)| self.suggests && *distance <= 2);
        let suggestion = near.map_or(String::new(), |(_, near)| {
            format!("\nDid you mean --{near}?")
        });
        format!("unknown flag: --{name}{suggestion}")
    }
}

fn assign<T>(target: &Target<T>, options: &mut T, value: &str) -> Result<(), String> {
    match target {
        Target::Text(field) => value.clone_into(field(options)),
        Target::Int(field) => *field(options) = value::int(value)?,
        Target::Bool(field) => *field(options) = value::boolean(value)?,
        Target::List(field) => field(options).extend(value::csv(value)?),
        Target::Map(field) => field(options).extend(value::map(value)?),
        Target::Duration(field) => *field(options) = value::duration(value)?,
        Target::Parsed { set, .. } => set(options, value)?,
    }
    Ok(())
}
