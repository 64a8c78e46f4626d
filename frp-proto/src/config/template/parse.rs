//! From tokens to trees, with Go's error texts.

use std::collections::HashMap;

use super::MAX_DEPTH;
use super::lex::{Kind, LexError, Lexer, Token};
use super::literal::{line, number, unquote};
use super::tree::{Branch, Command, List, Node, Operand, OperandKind, Pipe, ROOT, Templates};
use super::value::Value;

pub(super) fn parse(text: &str, is_function: fn(&str) -> bool) -> Result<Templates, String> {
    let mut parser = Parser {
        text,
        lexer: Lexer::new(text),
        peeked: None,
        templates: HashMap::new(),
        variables: vec!["$".to_owned()],
        last: 0,
        action: None,
        depth: 0,
        ranges: 0,
        is_function,
    };
    let root = match parser.list() {
        Ok((list, Stop::Eof)) => list,
        Ok((_, end)) => {
            return Err(parser.error(parser.offset(), &format!("unexpected {}", end.text())));
        }
        Err(e) => return Err(parser.error(e.offset, &e.message)),
    };
    parser.templates.insert(ROOT.to_owned(), root);
    Ok(parser.templates)
}

/// What ended a list.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    Eof,
    End,
    /// `else`, with what follows it: `if`, `with` or nothing.
    Else(Option<&'static str>),
}

impl Stop {
    fn text(self) -> &'static str {
        match self {
            Self::Eof => "EOF",
            Self::End => "{{end}}",
            Self::Else(_) => "{{else}}",
        }
    }
}

struct Parser<'a> {
    is_function: fn(&str) -> bool,
    text: &'a str,
    lexer: Lexer<'a>,
    peeked: Option<Token<'a>>,
    templates: Templates,
    /// Names in scope.
    variables: Vec<String>,
    /// Where the last token began.
    last: usize,
    /// Where the action being parsed began.
    action: Option<usize>,
    depth: usize,
    ranges: usize,
}

type Parsed<T> = Result<T, LexError>;

fn fail<T>(offset: usize, message: impl Into<String>) -> Parsed<T> {
    Err(LexError {
        message: message.into(),
        offset,
    })
}

impl<'a> Parser<'a> {
    fn error(&self, offset: usize, message: &str) -> String {
        let at = line(self.text, offset);
        let started = self.action.map(|offset| line(self.text, offset));
        let place = match started {
            Some(start) if start != at && message.ends_with(" action") => {
                format!(" started at {ROOT}:{start}")
            }
            _ => String::new(),
        };
        format!("template: {ROOT}:{at}: {message}{place}")
    }

    fn offset(&self) -> usize {
        self.peeked.map_or(self.last, |t| t.offset)
    }

    fn peek(&mut self) -> Parsed<Token<'a>> {
        let token = match self.peeked {
            Some(token) => token,
            None => self.lexer.next()?,
        };
        self.peeked = Some(token);
        Ok(token)
    }

    fn next(&mut self) -> Parsed<Token<'a>> {
        let token = self.peek()?;
        self.peeked = None;
        self.last = token.offset;
        Ok(token)
    }

    fn peek_solid(&mut self) -> Parsed<Token<'a>> {
        while self.peek()?.kind == Kind::Space {
            self.next()?;
        }
        self.peek()
    }

    fn next_solid(&mut self) -> Parsed<Token<'a>> {
        self.peek_solid()?;
        self.next()
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token<'a>> {
        let token = self.next_solid()?;
        if token.kind == kind {
            Ok(token)
        } else {
            unexpected(token, context)
        }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            let offset = self.offset();
            return fail(offset, "exceeded max nesting depth");
        }
        self.depth += 1;
        let result = parse(self)?;
        self.depth -= 1;
        Ok(result)
    }

    fn list(&mut self) -> Parsed<(List, Stop)> {
        let mut list = List::new();
        loop {
            let token = self.next()?;
            match token.kind {
                Kind::Text if token.text.is_empty() => {}
                Kind::Text => list.push(Node::Text(token.text.to_owned())),
                Kind::Eof => return Ok((list, Stop::Eof)),
                _ => {
                    self.action = Some(token.offset);
                    let node = self.node()?;
                    self.action = None;
                    match node {
                        Parsing::Node(node) => list.push(node),
                        Parsing::Nothing => {}
                        Parsing::Stop(end) => return Ok((list, end)),
                    }
                }
            }
        }
    }

    /// After the opening delimiter.
    fn node(&mut self) -> Parsed<Parsing> {
        let token = self.peek_solid()?;
        if token.kind != Kind::Word {
            return self.action_node();
        }
        let node = match token.text {
            "if" => Node::If(self.branch("if")?),
            "with" => Node::With(self.branch("with")?),
            "range" => Node::Range(self.branch("range")?),
            "end" => {
                self.next()?;
                self.expect(Kind::Close, "end")?;
                return Ok(Parsing::Stop(Stop::End));
            }
            "else" => {
                self.next()?;
                let chained = match self.peek_solid()?.text {
                    "if" => Some("if"),
                    "with" => Some("with"),
                    _ => None,
                };
                if chained.is_none() {
                    self.expect(Kind::Close, "else")?;
                }
                return Ok(Parsing::Stop(Stop::Else(chained)));
            }
            "break" | "continue" if self.ranges == 0 => {
                return fail(
                    token.offset,
                    format!("{{{{{}}}}} outside {{{{range}}}}", token.text),
                );
            }
            "break" => self.jump(Node::Break)?,
            "continue" => self.jump(Node::Continue)?,
            "template" => self.template()?,
            "block" => self.block()?,
            "define" if self.depth == 0 => {
                self.define()?;
                return Ok(Parsing::Nothing);
            }
            _ => return self.action_node(),
        };
        Ok(Parsing::Node(node))
    }

    fn jump(&mut self, node: Node) -> Parsed<Node> {
        self.next()?;
        self.expect(Kind::Close, "break")?;
        Ok(node)
    }

    fn action_node(&mut self) -> Parsed<Parsing> {
        self.pipe("command", Kind::Close)
            .map(|pipe| Parsing::Node(Node::Action(pipe)))
    }

    /// At the keyword of `if`, `with` or `range`.
    fn branch(&mut self, what: &'static str) -> Parsed<Branch> {
        self.deeper(|p| {
            p.next()?;
            let scope = p.variables.len();
            let pipe = p.pipe(what, Kind::Close)?;
            p.ranges += usize::from(what == "range");
            let (list, end) = p.list()?;
            p.ranges -= usize::from(what == "range");
            let otherwise = match end {
                Stop::End => None,
                Stop::Eof => return fail(p.text.len(), "unexpected EOF"),
                // `else if` is an `if` inside the `else`, without an `end` of its own.
                Stop::Else(Some("if")) if what != "range" => Some(vec![Node::If(p.branch("if")?)]),
                Stop::Else(Some("with")) if what == "with" => {
                    Some(vec![Node::With(p.branch("with")?)])
                }
                Stop::Else(Some(chained)) => {
                    return fail(p.offset(), format!("unexpected <{chained}> in else"));
                }
                Stop::Else(None) => match p.list()? {
                    (list, Stop::End) => Some(list),
                    (_, end) => {
                        let offset = p.offset();
                        return fail(offset, format!("expected end; found {}", end.text()));
                    }
                },
            };
            p.variables.truncate(scope);
            Ok(Branch {
                pipe,
                list,
                otherwise,
            })
        })
    }

    fn name(&mut self, context: &str) -> Parsed<(String, usize)> {
        let token = self.expect(Kind::String, context)?;
        Ok((unquoted(token)?, token.offset))
    }

    fn template(&mut self) -> Parsed<Node> {
        self.next()?;
        let (name, offset) = self.name("template clause")?;
        let pipe = if self.peek_solid()?.kind == Kind::Close {
            self.next()?;
            None
        } else {
            Some(self.pipe("template clause", Kind::Close)?)
        };
        Ok(Node::Template { name, offset, pipe })
    }

    fn block(&mut self) -> Parsed<Node> {
        self.next()?;
        let (name, offset) = self.name("block clause")?;
        let pipe = self.pipe("block clause", Kind::Close)?;
        self.body(name.clone(), "block clause")?;
        Ok(Node::Template {
            name,
            offset,
            pipe: Some(pipe),
        })
    }

    fn define(&mut self) -> Parsed<()> {
        self.next()?;
        let (name, _) = self.name("define clause")?;
        self.expect(Kind::Close, "define clause")?;
        self.body(name, "define clause")
    }

    /// A tree of its own: no variables and no loop reach into it.
    fn body(&mut self, name: String, context: &str) -> Parsed<()> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (list, end) = self.deeper(Self::list)?;
        self.variables = variables;
        self.ranges = ranges;
        if end != Stop::End {
            let offset = self.offset();
            let place = if end == Stop::Eof {
                String::new()
            } else {
                format!(" in {context}")
            };
            return fail(offset, format!("unexpected {}{place}", end.text()));
        }
        self.templates.insert(name, list);
        Ok(())
    }

    /// Declarations and commands up to `end`, which is consumed.
    fn pipe(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let first = self.peek_solid()?;
        let mut pipe = Pipe {
            declared: Vec::new(),
            assigns: false,
            commands: Vec::new(),
            offset: first.offset,
        };
        let mut pending = if first.kind == Kind::Variable {
            self.declarations(&mut pipe, context)?
        } else {
            None
        };
        loop {
            let token = self.peek_solid()?;
            if pending.is_none() && token.kind == end {
                if pipe.commands.is_empty() {
                    return fail(token.offset, format!("missing value for {context}"));
                }
                self.next()?;
                break;
            }
            if pending.is_none() && !starts_operand(token) {
                return unexpected(token, context);
            }
            let command = self.command(pending.take(), end)?;
            pipe.commands.push(command);
        }
        for command in pipe.commands.iter().skip(1) {
            if let OperandKind::Dot | OperandKind::Nil | OperandKind::Constant(_) =
                command.args[0].kind
            {
                return fail(
                    command.offset,
                    format!(
                        "non executable command in pipeline stage {}",
                        pipe.commands.len()
                    ),
                );
            }
        }
        self.variables
            .extend(pipe.declared.iter().filter(|_| !pipe.assigns).cloned());
        Ok(pipe)
    }

    /// `$a :=`, `$a =`, or for `range` `$a, $b :=`; a variable that declares nothing is the first operand.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<Option<Operand>> {
        loop {
            let variable = self.next()?;
            let spaced = self.peek()?.kind == Kind::Space;
            let after = self.peek_solid()?;
            match after.kind {
                Kind::Declare | Kind::Assign => {
                    self.next()?;
                    pipe.assigns = after.kind == Kind::Assign;
                    pipe.declared.push(variable.text.to_owned());
                    if pipe.assigns {
                        for name in &pipe.declared {
                            self.known(name, variable.offset)?;
                        }
                    }
                    return Ok(None);
                }
                Kind::Comma if context == "range" && pipe.declared.is_empty() => {
                    self.next()?;
                    pipe.declared.push(variable.text.to_owned());
                    if self.peek_solid()?.kind != Kind::Variable {
                        let token = self.peek()?;
                        return unexpected(token, "range");
                    }
                }
                _ if pipe.declared.is_empty() => return self.variable(variable, !spaced).map(Some),
                _ => return fail(variable.offset, "range can only initialize variables"),
            }
        }
    }

    fn known(&self, name: &str, offset: usize) -> Parsed<()> {
        if self.variables.iter().any(|v| v == name) {
            Ok(())
        } else {
            fail(offset, format!("undefined variable {name:?}"))
        }
    }

    /// One command up to `|` or the end of its pipe, which is not consumed.
    fn command(&mut self, first: Option<Operand>, end: Kind) -> Parsed<Command> {
        let mut args: Vec<Operand> = first.into_iter().collect();
        let offset = match args.first() {
            // A chain's own offset is that of its first field.
            Some(operand) => operand.offset,
            None => self.peek_solid()?.offset,
        };
        loop {
            let token = self.peek_solid()?;
            if token.kind == end {
                break;
            }
            if token.kind == Kind::Pipe {
                self.next()?;
                break;
            }
            match self.operand()? {
                Some(operand) => args.push(operand),
                None => return unexpected(token, "operand"),
            }
            let after = self.peek()?;
            if !(after.kind == Kind::Space || after.kind == Kind::Pipe || after.kind == end) {
                return unexpected(after, "operand");
            }
        }
        if args.is_empty() {
            return fail(offset, "empty command");
        }
        Ok(Command { args, offset })
    }

    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let token = self.next()?;
        let kind = match token.kind {
            Kind::Word => match token.text {
                "true" => OperandKind::Constant(Value::Bool(true)),
                "false" => OperandKind::Constant(Value::Bool(false)),
                "nil" => OperandKind::Nil,
                name if KEYWORDS.contains(&name) => {
                    self.peeked = Some(token);
                    return Ok(None);
                }
                name if (self.is_function)(name) => OperandKind::Function(name.to_owned()),
                name => return fail(token.offset, format!("function {name:?} not defined")),
            },
            Kind::Dot => OperandKind::Dot,
            Kind::Field => {
                let mut fields = vec![token.text[1..].to_owned()];
                let chain = self.fields(&mut fields)?;
                return Ok(Some(Operand {
                    text: self.source(token.offset),
                    kind: OperandKind::Fields(fields),
                    offset: chain.unwrap_or(token.offset),
                }));
            }
            Kind::Variable => return self.variable(token, true).map(Some),
            Kind::Number => match number(token.text) {
                Some(value) => OperandKind::Constant(value),
                None => return fail(token.offset, format!("bad number syntax: {:?}", token.text)),
            },
            Kind::Char => match unquoted(token)?.chars().collect::<Vec<_>>()[..] {
                [c] => OperandKind::Constant(Value::Int(i64::from(u32::from(c)))),
                _ => {
                    return fail(
                        token.offset,
                        format!("malformed character constant: {}", token.text),
                    );
                }
            },
            Kind::String => OperandKind::Constant(Value::Str(unquoted(token)?.into())),
            Kind::LeftParen => {
                let pipe = self.deeper(|p| {
                    let scope = p.variables.len();
                    let pipe = p.pipe("parenthesized pipeline", Kind::RightParen)?;
                    p.variables.truncate(scope);
                    Ok(pipe)
                })?;
                let mut fields = Vec::new();
                self.fields(&mut fields)?;
                OperandKind::Pipe(Box::new(pipe), fields)
            }
            _ => {
                self.peeked = Some(token);
                return Ok(None);
            }
        };
        if let (OperandKind::Dot | OperandKind::Nil | OperandKind::Constant(_), Kind::Field) =
            (&kind, self.peek()?.kind)
        {
            return fail(
                token.offset,
                format!("unexpected . after term {:?}", token.text),
            );
        }
        Ok(Some(Operand {
            text: self.source(token.offset),
            kind,
            offset: token.offset,
        }))
    }

    fn variable(&mut self, token: Token<'a>, chained: bool) -> Parsed<Operand> {
        self.known(token.text, token.offset)?;
        let mut fields = Vec::new();
        let chain = if chained {
            self.fields(&mut fields)?
        } else {
            None
        };
        Ok(Operand {
            text: if chained {
                self.source(token.offset)
            } else {
                token.text.to_owned()
            },
            kind: OperandKind::Variable(token.text.to_owned(), fields),
            offset: chain.unwrap_or(token.offset),
        })
    }

    /// Fields right after an operand; the offset of the first, which is where Go places errors of the chain.
    fn fields(&mut self, fields: &mut Vec<String>) -> Parsed<Option<usize>> {
        let mut first = None;
        while self.peek()?.kind == Kind::Field {
            let token = self.next()?;
            first.get_or_insert(token.offset);
            fields.push(token.text[1..].to_owned());
        }
        Ok(first)
    }

    /// What was read since `start`.
    fn source(&self, start: usize) -> String {
        self.text[start..self.offset()].trim().to_owned()
    }
}

enum Parsing {
    Node(Node),
    Nothing,
    Stop(Stop),
}

fn unquoted(token: Token<'_>) -> Parsed<String> {
    match unquote(token.text) {
        Some(text) => Ok(text),
        None => fail(token.offset, "invalid syntax"),
    }
}

const KEYWORDS: [&str; 10] = [
    "block", "break", "continue", "define", "else", "end", "if", "range", "template", "with",
];

fn starts_operand(token: Token<'_>) -> bool {
    match token.kind {
        Kind::Word => !KEYWORDS.contains(&token.text),
        kind => matches!(
            kind,
            Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Variable
                | Kind::Number
                | Kind::String
                | Kind::LeftParen
        ),
    }
}

fn unexpected<T>(token: Token<'_>, context: &str) -> Parsed<T> {
    let shown = match token.kind {
        Kind::Eof => "EOF".to_owned(),
        Kind::Word if KEYWORDS.contains(&token.text) => format!("<{}>", token.text),
        Kind::Dot => "<.>".to_owned(),
        _ if token.text.chars().count() > 10 => {
            format!("{:?}...", token.text.chars().take(10).collect::<String>())
        }
        _ => format!("{:?}", token.text),
    };
    fail(token.offset, format!("unexpected {shown} in {context}"))
}
