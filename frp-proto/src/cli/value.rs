//! Values of flags, read by Go's rules and refused with Go's texts.

use std::collections::BTreeMap;
use std::time::Duration;

/// A boolean.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

/// A 64-bit integer whose prefix tells its base.
pub(super) fn int(text: &str) -> Result<i64, String> {
    let error = |reason| format!("strconv.ParseInt: parsing {text:?}: {reason}");
    let (sign, unsigned) = match text.as_bytes() {
        [b'-', ..] => ("-", &text[1..]),
        [b'+', ..] => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((radix, lower.strip_prefix(prefix)?)))
        .or_else(|| Some((8, lower.strip_prefix('0').filter(|rest| !rest.is_empty())?)))
        .unwrap_or((10, &lower));
    // A separator stands between digits, and a prefix counts as one.
    let separated = if radix == 10 {
        digits
    } else {
        digits.strip_prefix('_').unwrap_or(digits)
    };
    let well_formed = separated
        .split('_')
        .all(|group| !group.is_empty() && group.chars().all(|c| c.is_digit(radix)));
    if !well_formed {
        return Err(error("invalid syntax"));
    }
    i64::from_str_radix(&format!("{sign}{}", separated.replace('_', "")), radix)
        .map_err(|_| error("value out of range"))
}

/// One CSV record; the empty text is the empty list.
pub(super) fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    let error = |rest: &str, what: &str| {
        let column = text.len() - rest.len() + 1;
        Err(format!("parse error on line 1, column {column}: {what}"))
    };
    while !text.is_empty() {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let Some((content, after)) = quoted.split_once('"') else {
                    return error("", "extraneous or missing \" in quoted-field");
                };
                field.push_str(content);
                if let Some(more) = after.strip_prefix('"') {
                    field.push('"');
                    quoted = more;
                } else if after.is_empty() || after.starts_with(',') {
                    rest = after;
                    break;
                } else {
                    let quote = &quoted[content.len()..];
                    return error(quote, "extraneous or missing \" in quoted-field");
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if let Some(at) = rest[..end].find('"') {
                return error(&rest[at..], "bare \" in non-quoted-field");
            }
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => break,
        }
    }
    Ok(fields)
}

/// `key=value` pairs; quotes matter only where there is more than one `=`.
pub(super) fn map(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs = match text.matches('=').count() {
        0 | 1 => vec![text.trim_matches('"').to_owned()],
        _ => csv(text)?,
    };
    pairs
        .into_iter()
        .map(|pair| {
            pair.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .ok_or_else(|| format!("{pair} must be formatted as key=value"))
        })
        .collect()
}

/// A length of time such as `1m30s`. A negative one is none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let scale = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        nanos += number.parse::<f64>().map_err(|_| invalid())? * scale;
        rest = after;
    }
    // The largest that Go can hold.
    if nanos > 9_223_372_036_854_775_807.0 {
        return Err(invalid());
    }
    Ok(if negative {
        Duration::ZERO
    } else {
        Duration::from_secs_f64(nanos / 1e9)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("300ms", 300),
            ("5s", 5_000),
            ("1m30s", 90_000),
            ("+1.5h", 5_400_000),
            (".5s", 500),
            ("0", 0),
            ("-5s", 0),
            ("1500us", 1),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), Ok(millis), "{text}");
        }
        for (text, error) in [
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("", "time: invalid duration \"\""),
            ("s", "time: invalid duration \"s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
        ] {
            assert_eq!(duration(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn integers_of_every_base() {
        for (text, n) in [
            ("7000", 7000),
            ("-1", -1),
            ("+5", 5),
            ("0", 0),
            ("-0", 0),
            ("0x_1F", 31),
            ("0X1f", 31),
            ("017", 15),
            ("0o17", 15),
            ("0_7", 7),
            ("0b11", 3),
            ("1_000", 1000),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(int(text), Ok(n), "{text}");
        }
        for text in [
            "", "abc", "=", "08", "1__2", "_1", "1_", "0x", "0x_", "--1", "+-1", "1é",
        ] {
            let expected = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
            assert_eq!(int(text), Err(expected), "{text}");
        }
        assert_eq!(
            int("99999999999999999999").unwrap_err(),
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
    }

    #[test]
    fn csv_records() {
        let fields = |text| csv(text).unwrap();
        assert_eq!(fields(""), [""; 0]);
        assert_eq!(fields("a,b"), ["a", "b"]);
        assert_eq!(fields("a,"), ["a", ""]);
        assert_eq!(fields("\"a,\"\"b\"\"\",c"), ["a,\"b\"", "c"]);
        for (text, column, what) in [
            ("a\"b", 2, "bare \" in non-quoted-field"),
            ("x,a\"b", 4, "bare \" in non-quoted-field"),
            ("\"a\"b", 3, "extraneous or missing \" in quoted-field"),
            ("\"a", 3, "extraneous or missing \" in quoted-field"),
            ("\"", 2, "extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(
                csv(text).unwrap_err(),
                format!("parse error on line 1, column {column}: {what}"),
                "{text}"
            );
        }
    }

    #[test]
    fn maps() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(map("a=b").unwrap(), BTreeMap::from([pair("a", "b")]));
        assert_eq!(
            map("\"a=b,c\"").unwrap(),
            BTreeMap::from([pair("a", "b,c")])
        );
        assert_eq!(
            map("a=b,\"c=d,e\"").unwrap(),
            BTreeMap::from([pair("a", "b"), pair("c", "d,e")])
        );
        assert_eq!(
            map("foo").unwrap_err(),
            "foo must be formatted as key=value"
        );
    }
}
