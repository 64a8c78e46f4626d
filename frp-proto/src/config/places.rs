//! Where the keys of a configuration stood, so that what is wrong with a value can be shown at its place.

use std::fmt;
use std::sync::Arc;

use super::ConfigError;
use super::load::Document;
use super::value::{Data, Value};

/// The files a configuration came from; empty for one made by hand.
///
/// Two configurations that say the same are equal wherever they say it, so this is equal to every other.
#[derive(Clone, Default)]
pub struct Places(Vec<Arc<Document>>);

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Places {
    /// The tree may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Places").field(&self.0.len()).finish()
    }
}

impl Places {
    pub(super) fn add(&mut self, document: Document) {
        self.0.push(Arc::new(document));
    }

    /// Adds those of included files, which are asked last.
    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Our second line for a text about `key`, such as `webServer.port` or, with `[name]` for the entry of that name,
    /// `proxies[web].localPort`. A key that is absent is shown at what holds it.
    fn line(&self, key: &str) -> Option<String> {
        self.0.iter().find_map(|document| {
            let value = find(&document.value, key)?;
            Some(document.line(value.pos, Some(&format!("`{key}`"))))
        })
    }
}

/// The deepest part of a path that exists; not the whole file, and not another entry of a list.
fn find<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    let (first, mut rest) = if let Some((list, rest)) = path.split_once('[') {
        let (name, rest) = rest.rsplit_once(']')?;
        let Data::Array(entries) = &root.member(list)?.data else {
            return None;
        };
        let named = |entry: &&Value| match entry.member("name").map(|n| &n.data) {
            Some(Data::String(n)) => n == name,
            _ => name.is_empty(),
        };
        (entries.iter().find(named)?, rest.trim_start_matches('.'))
    } else {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        (root.member(first)?, rest)
    };
    let mut value = first;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('.').unwrap_or((rest, ""));
        let Some(inner) = value.member(key) else {
            break;
        };
        (value, rest) = (inner, after);
    }
    Some(value)
}

/// Failures whose places are looked up: each one is a walk through the file.
const MAX_SHOWN: usize = 100;

/// Collects what is wrong, each text followed by its place.
pub(super) struct Failures<'a> {
    places: &'a Places,
    texts: Vec<String>,
}

impl<'a> Failures<'a> {
    pub(super) fn new(places: &'a Places) -> Self {
        Self {
            places,
            texts: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, key: &str, text: impl fmt::Display) {
        let line = (self.texts.len() < MAX_SHOWN)
            .then(|| self.places.line(key))
            .flatten();
        self.texts.push(match line {
            Some(line) => format!("{text}\n{line}"),
            None => text.to_string(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// All of them, if there are any.
    pub(super) fn into_result(self) -> Result<(), ConfigError> {
        if self.texts.is_empty() {
            return Ok(());
        }
        Err(ConfigError(self.texts.join("\n")))
    }

    pub(super) fn into_texts(self) -> Vec<String> {
        self.texts
    }
}
