//! The formats a file may have, decided by content (config-frps.md §2.2, config-frpc.md §2.1).

pub(crate) mod ini;
pub(super) mod json;
mod toml;
mod yaml;

use super::value::{Data, Pos, Value};

/// Nesting beyond this is refused: real files need a handful of levels, and the decoder recurses.
const MAX_DEPTH: usize = 100;

/// A text that is not what its format asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct SyntaxError {
    /// Upstream's line as far as it is known, else the parser's words in upstream's frame.
    pub(crate) text: String,
    pub(crate) pos: Pos,
}

/// How a document was read; some of upstream's texts depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Toml,
    Json,
    Yaml,
}

/// Reads a rendered text. TOML is tried first whatever the name; `toml_only` (a name ending in `.toml`) makes its error final.
pub(crate) fn parse(text: &str, toml_only: bool) -> Result<(Value, Format), SyntaxError> {
    let (mut value, format) = match toml::parse(text) {
        Ok(value) => (value, Format::Toml),
        Err(error) if toml_only => return Err(error),
        Err(_) if text.trim_start().starts_with('{') => (json::parse(text)?, Format::Json),
        Err(_) => (yaml::parse(text)?, Format::Yaml),
    };
    // Upstream turns TOML and YAML into JSON with sorted keys; which error comes first, and which spelling of a key wins, follows.
    if format != Format::Json {
        sort(&mut value);
    }
    if format == Format::Yaml
        && let Data::Object(members) = &mut value.data
    {
        // A place for anchors.
        members.retain(|m| !m.key.starts_with('.'));
    }
    Ok((value, format))
}

/// Sorts keys bytewise at every level; of equal keys the last one stays.
fn sort(value: &mut Value) {
    match &mut value.data {
        Data::Array(elements) => elements.iter_mut().for_each(sort),
        Data::Object(members) => {
            members.reverse();
            members.sort_by(|a, b| a.key.cmp(&b.key));
            members.dedup_by(|later, kept| later.key == kept.key);
            for member in members {
                sort(&mut member.value);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_decides_and_the_name_only_makes_toml_errors_final() {
        for (text, format) in [
            ("a = 1", Format::Toml),
            ("", Format::Toml),
            ("# only a comment", Format::Toml),
            ("{\"a\": 1}", Format::Json),
            ("a: 1", Format::Yaml),
            ("\u{feff}{\"a\": 1}", Format::Yaml),
        ] {
            assert_eq!(parse(text, false).map(|(_, f)| f), Ok(format), "{text}");
        }
        assert!(parse("a: 1", true).is_err());
        assert!(parse("{\"a\": 1}", true).is_err());
    }

    #[test]
    fn dotted_top_level_keys_of_yaml_are_dropped() {
        let (value, _) = parse(".x: 1\na: {.y: 2}", false).unwrap();
        assert!(value.member(".x").is_none());
        assert!(value.member("a").unwrap().member(".y").is_some());
    }

    #[test]
    fn deep_nesting_is_an_error_in_every_format() {
        let deep = 100_000;
        for text in [
            format!("{{\"a\":{}{}}}", "[".repeat(deep), "]".repeat(deep)),
            format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep)),
            format!("a: {}{}", "[".repeat(200), "]".repeat(200)),
            format!("{}a", "- ".repeat(5_000)),
        ] {
            assert!(parse(&text, false).is_err());
        }
        for text in [
            format!("a = {}{}", "[".repeat(deep), "]".repeat(deep)),
            format!("{}a = 1", "a.".repeat(deep)),
        ] {
            assert!(parse(&text, true).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}", toml_only: bool) {
            let _ = parse(&text, toml_only);
        }

        #[test]
        fn no_syntax_soup_panics(text in "[a-c0-9\\[\\]{}:,.=\"'&*!|>#<~ \\-_\n\t\\\\]{0,80}") {
            let _ = parse(&text, false);
            let _ = json::parse(&text);
            let _ = yaml::parse(&text);
        }
    }
}
