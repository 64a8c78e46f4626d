//! Runs the trees, within budgets.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::literal::line;
use super::tree::{Branch, Command, List, Node, Operand, OperandKind, Pipe, ROOT, Templates};
use super::value::Value;
use super::{MAX_DEPTH, MAX_OUTPUT, funcs};

/// Nodes that may be run, plus a share of every byte produced.
const MAX_STEPS: usize = 2_000_000;

pub(super) fn run(
    text: &str,
    templates: &Templates,
    env: &BTreeMap<String, String>,
) -> Result<String, String> {
    let root = Value::Root(Rc::new(env.clone()));
    let mut run = Run {
        text,
        templates,
        name: ROOT,
        variables: vec![("$", root.clone())],
        out: String::new(),
        steps: 0,
        depth: 0,
    };
    run.list(&root, &templates[ROOT]).map_err(|e| e.0)?;
    Ok(run.out)
}

/// A finished error text.
struct Failure(String);

type Done<T> = Result<T, Failure>;

/// Whether a list ran to its end.
enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'a> {
    text: &'a str,
    templates: &'a Templates,
    /// The template being run, as errors name it.
    name: &'a str,
    variables: Vec<(&'a str, Value)>,
    out: String,
    steps: usize,
    depth: usize,
}

impl<'a> Run<'a> {
    fn fail<T>(&self, offset: usize, node: &str, message: &str) -> Done<T> {
        let line = line(self.text, offset);
        let column = offset - self.text[..offset].rfind('\n').map_or(0, |i| i + 1);
        let name = self.name;
        // A bound is not the fault of one node.
        let at = if node.is_empty() {
            String::new()
        } else {
            format!(" at <{node}>")
        };
        Err(Failure(format!(
            "template: {ROOT}:{line}:{column}: executing \"{name}\"{at}: {message}"
        )))
    }

    fn step(&mut self, cost: usize, offset: usize) -> Done<()> {
        self.steps += cost;
        if self.steps > MAX_STEPS {
            return self.fail(offset, "", "the template does too much work");
        }
        Ok(())
    }

    fn deeper<T>(&mut self, offset: usize, run: impl FnOnce(&mut Self) -> Done<T>) -> Done<T> {
        if self.depth == MAX_DEPTH {
            return self.fail(offset, "", "exceeded maximum template depth");
        }
        self.depth += 1;
        let result = run(self)?;
        self.depth -= 1;
        Ok(result)
    }

    fn list(&mut self, dot: &Value, list: &'a List) -> Done<Flow> {
        let scope = self.variables.len();
        let mut flow = Flow::Next;
        for node in list {
            flow = self.node(dot, node)?;
            if !matches!(flow, Flow::Next) {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn node(&mut self, dot: &Value, node: &'a Node) -> Done<Flow> {
        match node {
            Node::Text(text) => self.write(text, 0)?,
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.declared.is_empty() {
                    self.write(&value.to_string(), pipe.offset)?;
                }
            }
            Node::If(branch) => return self.branch(dot, branch, false),
            Node::With(branch) => return self.branch(dot, branch, true),
            Node::Range(branch) => return self.range(dot, branch),
            Node::Template { name, offset, pipe } => {
                self.template(dot, name, *offset, pipe.as_ref())?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn write(&mut self, text: &str, offset: usize) -> Done<()> {
        self.step(1 + text.len() / 64, offset)?;
        if self.out.len() + text.len() > MAX_OUTPUT {
            return self.fail(offset, "", "the output is too large");
        }
        self.out.push_str(text);
        Ok(())
    }

    fn branch(&mut self, dot: &Value, branch: &'a Branch, with: bool) -> Done<Flow> {
        self.deeper(branch.pipe.offset, |run| {
            let scope = run.variables.len();
            let value = run.pipe(dot, &branch.pipe)?;
            let flow = match (&branch.otherwise, value.truth()) {
                (_, true) if with => run.list(&value, &branch.list)?,
                (_, true) => run.list(dot, &branch.list)?,
                (Some(otherwise), false) => run.list(dot, otherwise)?,
                (None, false) => Flow::Next,
            };
            run.variables.truncate(scope);
            Ok(flow)
        })
    }

    fn range(&mut self, dot: &Value, branch: &'a Branch) -> Done<Flow> {
        self.deeper(branch.pipe.offset, |run| {
            let scope = run.variables.len();
            let pipe = &branch.pipe;
            let value = run.commands(dot, pipe)?;
            let items: Box<dyn Iterator<Item = (Value, Value)>> = match value {
                Value::List(list) => Box::new(
                    (0..)
                        .zip(list.to_vec())
                        .map(|(i, item)| (Value::Int(i), item)),
                ),
                Value::Map(map) => {
                    let pairs: Vec<_> = map
                        .iter()
                        .map(|(k, v)| {
                            (Value::Str(k.as_str().into()), Value::Str(v.as_str().into()))
                        })
                        .collect();
                    Box::new(pairs.into_iter())
                }
                Value::Int(n) => Box::new((0..n).map(|i| (Value::Int(i), Value::Int(i)))),
                Value::Missing => Box::new(std::iter::empty()),
                other => {
                    let message = format!("range can't iterate over {other}");
                    return run.fail(pipe.offset, &pipe.text(), &message);
                }
            };
            let mut empty = true;
            for (key, item) in items {
                empty = false;
                run.step(1, pipe.offset)?;
                let values = match pipe.declared.len() {
                    2 => vec![key, item.clone()],
                    _ => vec![item.clone()],
                };
                run.declare(pipe, values);
                let flow = run.list(&item, &branch.list)?;
                run.variables.truncate(scope);
                if matches!(flow, Flow::Break) {
                    break;
                }
            }
            match &branch.otherwise {
                Some(otherwise) if empty => run.list(dot, otherwise),
                _ => Ok(Flow::Next),
            }
        })
    }

    fn template(
        &mut self,
        dot: &Value,
        name: &'a str,
        offset: usize,
        pipe: Option<&'a Pipe>,
    ) -> Done<()> {
        let Some(list) = self.templates.get(name) else {
            let argument = pipe.map_or_else(String::new, |p| format!(" {}", p.text()));
            let node = format!("{{{{template {name:?}{argument}}}}}");
            return self.fail(offset, &node, &format!("template {name:?} not defined"));
        };
        let value = match pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Value::Missing,
        };
        self.deeper(offset, |run| {
            let variables = std::mem::replace(&mut run.variables, vec![("$", value.clone())]);
            let caller = std::mem::replace(&mut run.name, name);
            run.list(&value, list)?;
            run.name = caller;
            run.variables = variables;
            Ok(())
        })
    }

    fn declare(&mut self, pipe: &'a Pipe, values: Vec<Value>) {
        for (name, value) in pipe.declared.iter().zip(values) {
            match self
                .variables
                .iter_mut()
                .rev()
                .find(|(n, _)| pipe.assigns && n == name)
            {
                Some((_, variable)) => *variable = value,
                None => self.variables.push((name, value)),
            }
        }
    }

    fn pipe(&mut self, dot: &Value, pipe: &'a Pipe) -> Done<Value> {
        let value = self.commands(dot, pipe)?;
        self.declare(pipe, vec![value.clone()]);
        Ok(value)
    }

    fn commands(&mut self, dot: &Value, pipe: &'a Pipe) -> Done<Value> {
        let mut last = None;
        for command in &pipe.commands {
            self.step(1, command.offset)?;
            last = Some(self.command(dot, command, last)?);
        }
        Ok(last.unwrap_or(Value::Missing))
    }

    fn command(&mut self, dot: &Value, command: &'a Command, last: Option<Value>) -> Done<Value> {
        let first = &command.args[0];
        if let OperandKind::Function(name) = &first.kind {
            return self.call(dot, command, name, last);
        }
        if command.args.len() > 1 || last.is_some() {
            let message = match &first.kind {
                OperandKind::Fields(fields) | OperandKind::Variable(_, fields)
                    if !fields.is_empty() =>
                {
                    format!(
                        "{} is not a method but has arguments",
                        fields[fields.len() - 1]
                    )
                }
                _ => format!("can't give argument to non-function {}", first.text),
            };
            return self.fail(first.offset, &first.text, &message);
        }
        match first.kind {
            OperandKind::Nil => self.fail(first.offset, &first.text, "nil is not a command"),
            _ => self.operand(dot, first),
        }
    }

    fn operand(&mut self, dot: &Value, operand: &'a Operand) -> Done<Value> {
        let (value, fields) = match &operand.kind {
            OperandKind::Dot => return Ok(dot.clone()),
            OperandKind::Nil => return Ok(Value::Missing),
            OperandKind::Constant(value) => return Ok(value.clone()),
            OperandKind::Function(name) => {
                return self.call_with(operand.offset, &operand.text, name, &[]);
            }
            OperandKind::Fields(fields) => (dot.clone(), fields),
            OperandKind::Variable(name, fields) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                let Some((_, value)) = found else {
                    let message = format!("undefined variable: {name}");
                    return self.fail(operand.offset, &operand.text, &message);
                };
                (value.clone(), fields)
            }
            OperandKind::Pipe(pipe, fields) => {
                let value = self.deeper(operand.offset, |run| {
                    let scope = run.variables.len();
                    let value = run.pipe(dot, pipe)?;
                    run.variables.truncate(scope);
                    Ok(value)
                })?;
                (value, fields)
            }
        };
        fields
            .iter()
            .try_fold(value, |value, field| match value.field(field) {
                Ok(value) => Ok(value),
                Err(message) => self.fail(operand.offset, &operand.text, &message),
            })
    }

    fn call(
        &mut self,
        dot: &Value,
        command: &'a Command,
        name: &str,
        last: Option<Value>,
    ) -> Done<Value> {
        let operands = &command.args[1..];
        // `and` and `or` stop at the argument that decides.
        if let "and" | "or" = name
            && let Some((first, rest)) = operands.split_first()
        {
            let mut value = self.operand(dot, first)?;
            for operand in rest {
                if value.truth() == (name == "or") {
                    return Ok(value);
                }
                value = self.operand(dot, operand)?;
            }
            return Ok(match last {
                Some(last) if value.truth() != (name == "or") => last,
                _ => value,
            });
        }
        let head = &command.args[0];
        let given = operands.len() + usize::from(last.is_some());
        if let Some(message) = funcs::wrong_count(name, given) {
            return self.fail(head.offset, &head.text, &message);
        }
        let mut args = Vec::with_capacity(given);
        for operand in operands {
            let value = self.operand(dot, operand)?;
            if let Some(message) =
                funcs::wrong_type(name, args.len(), &value, &operand.kind, &operand.text)
            {
                return self.fail(operand.offset, &operand.text, &message);
            }
            args.push(value);
        }
        if let Some(value) = last {
            if let Some(message) =
                funcs::wrong_type(name, args.len(), &value, &OperandKind::Dot, "")
            {
                return self.fail(head.offset, &command.text(), &message);
            }
            args.push(value);
        }
        self.call_with(command.offset, &command.text(), name, &args)
    }

    fn call_with(&mut self, offset: usize, node: &str, name: &str, args: &[Value]) -> Done<Value> {
        if let Some(message) = funcs::wrong_count(name, args.len()) {
            return self.fail(offset, node, &message);
        }
        match funcs::call(name, args) {
            Ok(value) => {
                if let Value::Str(s) = &value {
                    self.step(s.len() / 64, offset)?;
                }
                Ok(value)
            }
            Err(message) => self.fail(offset, node, &format!("error calling {name}: {message}")),
        }
    }
}
