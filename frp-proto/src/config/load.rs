//! The loading pipeline: read, render, parse, decode, merge includes, fill defaults (config-frps.md §2, config-frpc.md §2).

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::decode::{DecodeError, Decoder, Problem, Record};
use super::format::{self, Format};
use super::raw::client::{ClientConfig, ProxyConfig, VisitorConfig};
use super::raw::server::ServerConfig;
use super::raw::{Element, Entry, Envelope};
use super::value::{Data, Pos, Value};
use super::{ConfigError, Loaded, include, legacy, read, template};

/// Reads, renders, decodes, fills defaults; no validation. `env` is the process environment at start.
pub fn load_server(
    path: &Path,
    strict: bool,
    env: &BTreeMap<String, String>,
) -> Result<Loaded<ServerConfig>, ConfigError> {
    server_from_text(&read::text(path)?, path, strict, env)
}

/// As [`load_server`], from a text that is at hand; `path` names it in errors and says by its extension what it is.
pub fn server_from_text(
    text: &str,
    path: &Path,
    strict: bool,
    env: &BTreeMap<String, String>,
) -> Result<Loaded<ServerConfig>, ConfigError> {
    if format::ini::is_legacy(text) {
        let mut config = legacy::server(text, path, env)?;
        config.complete();
        return Ok(Loaded {
            config,
            legacy_ini: true,
        });
    }
    let document = Document::parse(text, path, env)?;
    let mut config: ServerConfig = document.decode(strict, true)?;
    config.places.add(document);
    config.complete();
    Ok(Loaded {
        config,
        legacy_ini: false,
    })
}

/// As [`load_server`], with includes merged and duplicate names refused; proxies and visitors are completed, filtered by
/// `start` and `enabled`, and sorted by name.
pub fn load_client(
    path: &Path,
    strict: bool,
    env: &BTreeMap<String, String>,
) -> Result<Loaded<ClientConfig>, ConfigError> {
    client_from_text(&read::text(path)?, path, strict, env)
}

/// As [`load_client`], from a text that is at hand; `path` names it in errors and says by its extension what it is.
pub fn client_from_text(
    text: &str,
    path: &Path,
    strict: bool,
    env: &BTreeMap<String, String>,
) -> Result<Loaded<ClientConfig>, ConfigError> {
    let legacy_ini = format::ini::is_legacy(text);
    let mut config = if legacy_ini {
        legacy::client(text, path, env)?
    } else {
        client_document(Document::parse(text, path, env)?, strict)?
    };
    for file in include::files(&config.includes)? {
        let included = read::text(&file)
            .and_then(|text| Document::parse(&text, &file, env))
            .and_then(|document| client_document(document, strict))
            .map_err(|e| {
                ConfigError(format!(
                    "load additional config from {} error: {e}",
                    file.display()
                ))
            })?;
        config.proxies.extend(included.proxies);
        config.visitors.extend(included.visitors);
        config.places.extend(included.places);
    }
    refuse_duplicates(&config.proxies)?;
    refuse_duplicates(&config.visitors)?;
    config.complete();
    if config.transport.proxy_url.is_empty()
        && let Some(url) = env.get("http_proxy")
    {
        config.transport.proxy_url.clone_from(url);
    }
    choose(&mut config.proxies, &config.start);
    choose(&mut config.visitors, &config.start);
    Ok(Loaded { config, legacy_ini })
}

/// One file of frpc, without what it includes.
fn client_document(document: Document, strict: bool) -> Result<ClientConfig, ConfigError> {
    let mut config: ClientConfig = document.decode(strict, false)?;
    config.proxies = document.entries::<ProxyConfig>(strict)?;
    config.visitors = document.entries::<VisitorConfig>(strict)?;
    config.places.add(document);
    Ok(config)
}

fn refuse_duplicates<E: Entry>(entries: &[E]) -> Result<(), ConfigError> {
    let mut names = HashSet::new();
    match entries.iter().find(|e| !names.insert(e.name())) {
        Some(e) => Err(ConfigError(format!(
            "{} name [{}] is duplicated",
            E::WHAT,
            e.name()
        ))),
        None => Ok(()),
    }
}

fn choose<E: Entry>(entries: &mut Vec<E>, start: &[String]) {
    let start: HashSet<&str> = start.iter().map(String::as_str).collect();
    entries.retain(|e| e.enabled() && (start.is_empty() || start.contains(e.name())));
    entries.sort_by(|a, b| a.name().cmp(b.name()));
    entries.iter_mut().for_each(Entry::complete);
}

/// A file's tree, and what its errors need.
pub(super) struct Document {
    path: PathBuf,
    pub(super) value: Value,
    format: Format,
    /// Positions are those of the rendered text, which is not the file if templates made other lines.
    rendered: bool,
}

impl Document {
    fn parse(raw: &str, path: &Path, env: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut document = Self {
            path: path.to_owned(),
            value: Value::null(),
            format: Format::Toml,
            rendered: false,
        };
        let text = template::render(raw, env).map_err(ConfigError)?;
        document.rendered = text != raw;
        let toml_only = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        (document.value, document.format) =
            format::parse(&text, toml_only).map_err(|e| document.error(&e.text, e.pos, None))?;
        Ok(document)
    }

    /// Upstream's line first, then ours.
    fn error(&self, text: &str, pos: Pos, hint: Option<&str>) -> ConfigError {
        ConfigError(format!("{text}\n{}", self.line(pos, hint)))
    }

    /// Our line: the place, and what is to be said about it.
    pub(super) fn line(&self, pos: Pos, hint: Option<&str>) -> String {
        let Pos { line, column } = pos;
        let rendered = if self.rendered {
            " (after templates)"
        } else {
            ""
        };
        let hint = hint.map_or_else(String::new, |hint| format!(": {hint}"));
        format!(
            "  --> {}:{line}:{column}{rendered}{hint}",
            self.path.display()
        )
    }

    /// Upstream's words for a failure: its non-strict YAML goes through another library.
    fn decode_error(&self, e: &DecodeError, strict: bool) -> ConfigError {
        let text = match &e.problem {
            Problem::Type(mismatch) if self.is_lax_yaml(strict) => {
                let words = mismatch.long().replace("rawClientConfig", "ClientConfig");
                format!("{LAX_YAML}{words}")
            }
            Problem::Type(mismatch) => mismatch.short(),
            Problem::Text(text) => text.clone(),
        };
        self.error(&text, e.pos, e.hint.as_deref())
    }

    fn is_lax_yaml(&self, strict: bool) -> bool {
        !strict && self.format == Format::Yaml
    }

    fn decode<R: Record>(&self, strict: bool, coerce: bool) -> Result<R, ConfigError> {
        Decoder::new(strict, coerce && self.is_lax_yaml(strict))
            .root(&self.value)
            .map_err(|e| self.decode_error(&e, strict))
    }

    /// Decodes the elements of `proxies` or `visitors`, each by its type.
    fn entries<E: Element>(&self, strict: bool) -> Result<Vec<E>, ConfigError> {
        let Some(Value {
            data: Data::Array(elements),
            ..
        }) = self.value.member(E::LIST)
        else {
            return Ok(Vec::new());
        };
        elements
            .iter()
            .enumerate()
            .map(|(index, element)| {
                let prefix = if self.is_lax_yaml(strict) {
                    LAX_YAML.to_owned()
                } else {
                    format!("decode {} at index {index}: ", E::WHAT)
                };
                entry::<E>(&prefix, element, strict).map_err(|e| self.decode_error(&e, strict))
            })
            .collect()
    }
}

/// What upstream's decoder of non-strict YAML puts before every error.
const LAX_YAML: &str = "error unmarshaling JSON: while decoding JSON: ";

pub(super) fn entry<E: Element>(
    prefix: &str,
    element: &Value,
    strict: bool,
) -> Result<E, DecodeError> {
    let envelope = Decoder::new(false, false).root::<Envelope>(element);
    let envelope = match element.data {
        Data::Null => Err(DecodeError::text(element.pos, "type is required").within(prefix)),
        // A `type` that is no text is reported without the place of the element.
        Data::Object(_) => envelope,
        _ => envelope.map_err(|e| e.within(prefix)),
    }?;
    E::decode(&envelope.type_, element, &mut Decoder::new(strict, false))
        .map_err(|e| e.within(prefix))
}
