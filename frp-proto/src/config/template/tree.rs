//! What a template parses to.

use std::collections::HashMap;

use super::value::Value;

/// The trees by name; the file itself is `frp`.
pub(super) type Templates = HashMap<String, List>;

pub(super) const ROOT: &str = "frp";

pub(super) type List = Vec<Node>;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    Range(Branch),
    With(Branch),
    Template {
        name: String,
        offset: usize,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) list: List,
    pub(super) otherwise: Option<List>,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) declared: Vec<String>,
    /// `=` rather than `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
    pub(super) offset: usize,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) args: Vec<Operand>,
    pub(super) offset: usize,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) kind: OperandKind,
    pub(super) text: String,
    pub(super) offset: usize,
}

#[derive(Debug)]
pub(super) enum OperandKind {
    Dot,
    Nil,
    Constant(Value),
    Fields(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Pipe(Box<Pipe>, Vec<String>),
}

impl Command {
    /// As errors show it.
    pub(super) fn text(&self) -> String {
        self.args
            .iter()
            .map(|a| a.text.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Pipe {
    /// As errors show it.
    pub(super) fn text(&self) -> String {
        self.commands
            .iter()
            .map(Command::text)
            .collect::<Vec<_>>()
            .join(" | ")
    }
}
