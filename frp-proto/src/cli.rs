//! Command lines as upstream reads them: same spellings, texts, streams and exit codes (config-frps.md §1, config-frpc.md §13).
//!
//! One table of [`Command`]s and [`Flag`]s per program yields the parser, the help and the default values. Each flag points
//! at the field of the program's options that it sets, so there is nothing to look up by name afterwards.

pub mod completion;
mod find;
mod help;
mod parse;
mod value;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

pub use parse::{parse, parse_flags};

/// What a command does with the program's options.
pub type Run<T> = fn(T) -> ExitCode;

/// A command and what it may be given; `T` is the program's options.
pub struct Command<T: 'static> {
    /// The word that selects it; for the root the program's name.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// What its own help begins with, in place of `about`; `{program}` stands for the root's name. Empty = `about`.
    pub long: &'static str,
    /// Its own flags, which the commands below it take, too.
    pub flags: &'static [Flag<T>],
    /// Its own flags, in tables that commands share, which those below it do not take.
    pub local: &'static [&'static [Flag<T>]],
    /// Commands below it.
    pub commands: &'static [Command<T>],
    /// Words that are no commands are an error; they are ignored otherwise.
    pub refuses_words: bool,
    /// Whether its usage says `[flags]`.
    pub shows_flags: bool,
    /// What it does. `None` prints the help of a command that has others below it; any other is a command of upstream
    /// that is refused by name and left out of the help.
    pub run: Option<Run<T>>,
}

impl<T> Command<T> {
    /// One without flags and commands that does nothing yet.
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            long: "",
            flags: &[],
            local: &[],
            commands: &[],
            refuses_words: false,
            shows_flags: true,
            run: None,
        }
    }

    /// Whether it is not just refused.
    const fn is_offered(&self) -> bool {
        self.run.is_some() || !self.commands.is_empty()
    }
}

/// A flag: `--name`, with `_` and `-` alike, and maybe `-short`.
pub struct Flag<T> {
    name: &'static str,
    short: Option<char>,
    usage: &'static str,
    target: Target<T>,
}

/// What a flag sets.
enum Target<T> {
    Text(fn(&mut T) -> &mut String),
    Int(fn(&mut T) -> &mut i64),
    Bool(fn(&mut T) -> &mut bool),
    List(fn(&mut T) -> &mut Vec<String>),
    Map(fn(&mut T) -> &mut BTreeMap<String, String>),
    Duration(fn(&mut T) -> &mut Duration),
    Parsed {
        type_name: &'static str,
        set: fn(&mut T, &str) -> Result<(), String>,
    },
}

impl<T> Flag<T> {
    const fn new(name: &'static str, usage: &'static str, target: Target<T>) -> Self {
        Self {
            name,
            short: None,
            usage,
            target,
        }
    }

    /// A flag with any text as value.
    pub const fn text(
        name: &'static str,
        usage: &'static str,
        field: fn(&mut T) -> &mut String,
    ) -> Self {
        Self::new(name, usage, Target::Text(field))
    }

    /// A flag with an integer; `0x`, `0o`, `0`, `0b` and `_` as in Go.
    pub const fn int(
        name: &'static str,
        usage: &'static str,
        field: fn(&mut T) -> &mut i64,
    ) -> Self {
        Self::new(name, usage, Target::Int(field))
    }

    /// A flag that is true when present; a value is taken only after `=`.
    pub const fn bool(
        name: &'static str,
        usage: &'static str,
        field: fn(&mut T) -> &mut bool,
    ) -> Self {
        Self::new(name, usage, Target::Bool(field))
    }

    /// A flag with a CSV list; repeated flags add to it.
    pub const fn list(
        name: &'static str,
        usage: &'static str,
        field: fn(&mut T) -> &mut Vec<String>,
    ) -> Self {
        Self::new(name, usage, Target::List(field))
    }

    /// A flag with a CSV list of `key=value`; repeated flags add to it.
    pub const fn map(
        name: &'static str,
        usage: &'static str,
        field: fn(&mut T) -> &mut BTreeMap<String, String>,
    ) -> Self {
        Self::new(name, usage, Target::Map(field))
    }

    /// A flag with a length of time such as `1m30s`.
    pub const fn duration(
        name: &'static str,
        usage: &'static str,
        field: fn(&mut T) -> &mut Duration,
    ) -> Self {
        Self::new(name, usage, Target::Duration(field))
    }

    /// A flag with a language of its own; `type_name` is shown in the help.
    pub const fn parsed(
        name: &'static str,
        usage: &'static str,
        type_name: &'static str,
        set: fn(&mut T, &str) -> Result<(), String>,
    ) -> Self {
        Self::new(name, usage, Target::Parsed { type_name, set })
    }

    /// Adds a one-letter spelling.
    #[must_use]
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// Whether it stands without a value.
    const fn is_bool(&self) -> bool {
        matches!(self.target, Target::Bool(_))
    }
}

/// What flags without a program around them say.
#[derive(Debug, PartialEq, Eq)]
pub enum Flags<T> {
    /// The values.
    Options(T),
    /// Help is wanted: the table of flags.
    Help(String),
}

/// A command line that is answered with a text instead of running a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    /// What is printed, last line break included.
    pub text: String,
    /// Whether it goes to standard error.
    pub to_stderr: bool,
    /// Exit code of the process.
    pub code: u8,
}

impl Exit {
    fn printed(text: String) -> Self {
        Self {
            text,
            to_stderr: false,
            code: 0,
        }
    }

    fn error(text: String) -> Self {
        Self {
            text,
            to_stderr: true,
            code: 1,
        }
    }

    /// Prints the text where it belongs.
    pub fn print(self) -> ExitCode {
        // A reader that has gone away does not need the rest.
        let _ = if self.to_stderr {
            std::io::stderr().write_all(self.text.as_bytes())
        } else {
            std::io::stdout().write_all(self.text.as_bytes())
        };
        ExitCode::from(self.code)
    }
}

#[cfg(test)]
mod tests;
