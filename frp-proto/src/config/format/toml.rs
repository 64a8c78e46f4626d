//! TOML with positions.

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::SyntaxError;
use crate::config::value::{Data, Lines, Member, Pos, Value, go_float};

pub(super) fn parse(text: &str) -> Result<Value, SyntaxError> {
    if text.starts_with('\u{feff}') {
        return Err(SyntaxError {
            text: "toml: line 1, column 1: toml: invalid character at start of key: ï".to_owned(),
            pos: Pos { line: 1, column: 1 },
        });
    }
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    // The parser reports some places late; upstream stops at the first one.
    let first = errors
        .iter()
        .min_by_key(|e| e.span().map_or(0, |span| span.start));
    if let Some(error) = first {
        return Err(syntax_error(error, text, &lines));
    }
    let data = table_data(table.into_inner(), &lines)?;
    Ok(Value {
        pos: Pos { line: 1, column: 1 },
        data,
    })
}

/// Upstream's frame around the parser's words; for a name defined twice also upstream's words.
fn syntax_error(error: &Error, text: &str, lines: &Lines<'_>) -> SyntaxError {
    let span = error.span().unwrap_or_default();
    let pos = lines.pos(span.start);
    let text = match text.get(span.clone()) {
        Some(name) if error.message() == "duplicate key" => {
            if text[..span.start].ends_with('[') {
                format!("toml: table {name} already exists")
            } else {
                format!("toml: key {name} is already defined")
            }
        }
        _ => {
            let Pos { line, column } = pos;
            let message = error.message().replace('\n', ", ");
            format!("toml: line {line}, column {column}: toml: {message}")
        }
    };
    SyntaxError { text, pos }
}

fn table_data(table: DeTable<'_>, lines: &Lines<'_>) -> Result<Data, SyntaxError> {
    table
        .into_iter()
        .map(|(key, item)| {
            Ok(Member {
                pos: lines.pos(key.span().start),
                key: key.into_inner().into_owned(),
                value: value(item, lines)?,
            })
        })
        .collect::<Result<_, _>>()
        .map(Data::Object)
}

fn value(item: Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Result<Value, SyntaxError> {
    let pos = lines.pos(item.span().start);
    let error = |text: String| SyntaxError { text, pos };
    let data = match item.into_inner() {
        DeValue::String(s) => Data::String(s.into_owned()),
        DeValue::Boolean(b) => Data::Bool(b),
        DeValue::Datetime(t) => Data::String(t.to_string()),
        DeValue::Integer(i) => {
            let number = i64::from_str_radix(i.as_str(), i.radix()).map_err(|_| {
                let kind = match i.radix() {
                    2 => "binary",
                    8 => "octal",
                    16 => "hexadecimal",
                    _ => "decimal",
                };
                let Pos { line, column } = pos;
                error(format!(
                    "toml: line {line}, column {column}: toml: couldn't parse {kind} number: \
                     strconv.ParseInt: parsing \"{}\": value out of range",
                    i.as_str()
                ))
            })?;
            Data::Number(number.to_string())
        }
        DeValue::Float(f) => match f.as_str().parse::<f64>() {
            Ok(f) if f.is_finite() => Data::Number(go_float(f)),
            Ok(_) if !f.as_str().contains(['i', 'n']) => {
                let Pos { line, column } = pos;
                return Err(error(format!(
                    "toml: line {line}, column {column}: toml: unable to parse float: \
                     strconv.ParseFloat: parsing \"{}\": value out of range",
                    f.as_str()
                )));
            }
            Ok(f) => {
                let name = if f.is_nan() {
                    "NaN"
                } else if f > 0.0 {
                    "+Inf"
                } else {
                    "-Inf"
                };
                return Err(error(format!("json: unsupported value: {name}")));
            }
            Err(_) => return Err(error(format!("toml: invalid float {}", f.as_str()))),
        },
        DeValue::Array(elements) => Data::Array(
            elements
                .into_iter()
                .map(|e| value(e, lines))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => table_data(table, lines)?,
    };
    Ok(Value { pos, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Data {
        parse(text).unwrap().member("a").unwrap().data.clone()
    }

    #[test]
    fn numbers_as_go_re_encodes_them() {
        for (text, literal) in [
            ("a = 7000.0", "7000"),
            ("a = 7e3", "7000"),
            ("a = 0x1_0", "16"),
            ("a = 0o17", "15"),
            ("a = -0b11", "-3"),
            ("a = +1_000", "1000"),
            ("a = 1.5", "1.5"),
        ] {
            if let Ok(value) = parse(text) {
                assert_eq!(
                    value.member("a").unwrap().data,
                    Data::Number(literal.to_owned()),
                    "{text}"
                );
            } else {
                assert_eq!(text, "a = -0b11", "TOML has no signed binary numbers");
            }
        }
        assert_eq!(
            number("a = 2020-01-01"),
            Data::String("2020-01-01".to_owned())
        );
    }

    #[test]
    fn errors_of_the_specification() {
        for (text, error) in [
            ("a = nan", "json: unsupported value: NaN"),
            ("a = -inf", "json: unsupported value: -Inf"),
            (
                "bindPort = 7000\nbindPort = 7001",
                "toml: key bindPort is already defined",
            ),
            (
                "[webServer]\nport=1\n[webServer]\nuser=\"x\"",
                "toml: table webServer already exists",
            ),
            (
                "serverPort=99999999999999999999",
                "toml: line 1, column 12: toml: couldn't parse decimal number: strconv.ParseInt: parsing \
                 \"99999999999999999999\": value out of range",
            ),
            (
                "\u{feff}a = 1",
                "toml: line 1, column 1: toml: invalid character at start of key: ï",
            ),
        ] {
            assert_eq!(
                parse(text).map_err(|e| e.text),
                Err(error.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn syntax_errors_keep_upstream_s_frame_and_position() {
        for (text, frame) in [
            ("bindPort = ", "toml: line 1, column 1"),
            ("bindAddr = abc", "toml: line 1, column 12: toml: "),
            ("\n\n  # c\nlog.to = 'a\nx=1", "toml: line 4, column "),
            ("a = \"\\q\"", "toml: line 1, column "),
        ] {
            let error = parse(text).unwrap_err().text;
            assert!(error.starts_with(frame), "{error}");
        }
    }
}
