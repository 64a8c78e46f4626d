//! The store (config-frpc.md §3.2): proxies and visitors that are managed over the admin API, in a JSON file.
//!
//! A change is on the disk before it counts. The file is replaced as a whole, so it is never half written, whatever fails
//! when; its predecessor stays beside it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use frp_proto::config::raw::Entry;
use frp_proto::config::raw::client::{ClientConfig, ProxyConfig, VisitorConfig};
use frp_proto::config::{ConfigError, Stored};
use frp_proto::disk::{Draft, beside};
use serde::Serialize;

/// Bytes of the file: some ten times what ten thousand proxies need.
const MAX_SIZE: u64 = 64 * 1024 * 1024;

/// Entries by name, as they were put there: disabled ones included, no defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Content {
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "values")]
    proxies: BTreeMap<String, ProxyConfig>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "values")]
    visitors: BTreeMap<String, VisitorConfig>,
}

fn values<E: Serialize, S: serde::Serializer>(
    entries: &BTreeMap<String, E>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.values())
}

/// What a store holds of each kind.
pub(crate) trait Kind: Entry {
    fn of(content: &Content) -> &BTreeMap<String, Self>;
    fn of_mut(content: &mut Content) -> &mut BTreeMap<String, Self>;
    /// The entries of a configuration.
    fn configured(config: &ClientConfig) -> &[Self];
}

impl Kind for ProxyConfig {
    fn of(content: &Content) -> &BTreeMap<String, Self> {
        &content.proxies
    }

    fn of_mut(content: &mut Content) -> &mut BTreeMap<String, Self> {
        &mut content.proxies
    }

    fn configured(config: &ClientConfig) -> &[Self] {
        &config.proxies
    }
}

impl Kind for VisitorConfig {
    fn of(content: &Content) -> &BTreeMap<String, Self> {
        &content.visitors
    }

    fn of_mut(content: &mut Content) -> &mut BTreeMap<String, Self> {
        &mut content.visitors
    }

    fn configured(config: &ClientConfig) -> &[Self] {
        &config.visitors
    }
}

/// Why a change was not made. `Display` is upstream's text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The entry cannot be served.
    #[error("invalid argument: validation error: {0}")]
    Invalid(String),
    /// One of this name is there.
    #[error("conflict: already exists: {what} {name:?}")]
    Exists {
        /// `proxy` or `visitor`
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// None of this name is there.
    #[error("not found: not found: {what} {name:?}")]
    NotFound {
        /// `proxy` or `visitor`
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It cannot be taken out of the configuration file.
    #[error("conflict: {what} {name:?} is defined in the configuration file")]
    InFile {
        /// `proxy` or `visitor`
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The file could not be written.
    #[error("failed to persist: {0}")]
    Persist(String),
}

/// Proxies and visitors in a file. One process at a time may have it open.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    content: Content,
}

impl Store {
    /// Reads the file; a missing one is an empty store, which is not written before something changes.
    pub fn open(path: PathBuf) -> Result<Self, ConfigError> {
        let content = read(&path)
            .map_err(|text| {
                let last = beside(&path, ".last");
                let path = path.display();
                let hint = if last.is_file() {
                    format!(": what it was before the last change is in {}", last.display())
                } else {
                    String::new()
                };
                ConfigError(format!(
                    "failed to create store source: failed to load existing data: {text}\n  --> {path}{hint}"
                ))
            })?
            .unwrap_or_default();
        Ok(Self { path, content })
    }

    /// A configuration as it runs: its entries, overridden by the enabled ones of the store, as far as `start` wants them.
    pub fn merged(&self, config: &ClientConfig) -> ClientConfig {
        ClientConfig {
            proxies: self.merged_entries(config),
            visitors: self.merged_entries(config),
            ..config.clone()
        }
    }

    fn merged_entries<E: Kind>(&self, config: &ClientConfig) -> Vec<E> {
        let configured = E::configured(config).iter().cloned();
        let mut merged: BTreeMap<_, _> = configured.map(|e| (e.name().to_owned(), e)).collect();
        let wanted = |name: &str| config.start.is_empty() || config.start.iter().any(|s| s == name);
        for (name, entry) in E::of(&self.content) {
            if entry.enabled() && wanted(name) {
                let mut entry = entry.clone();
                entry.complete();
                merged.insert(name.clone(), entry);
            }
        }
        merged.into_values().collect()
    }

    /// All of one kind, by name.
    pub(crate) fn entries<E: Kind>(&self) -> impl Iterator<Item = &E> {
        E::of(&self.content).values()
    }

    /// The one of this name.
    pub(crate) fn get<E: Kind>(&self, name: &str) -> Option<&E> {
        E::of(&self.content).get(name)
    }

    /// Adds an entry.
    pub(crate) fn create<E: Kind>(&mut self, entry: &E) -> Result<(), StoreError> {
        validate(entry)?;
        if self.get::<E>(entry.name()).is_some() {
            return Err(StoreError::Exists {
                what: E::WHAT,
                name: entry.name().into(),
            });
        }
        self.put(entry)
    }

    /// Replaces an entry.
    pub(crate) fn update<E: Kind>(&mut self, entry: &E) -> Result<(), StoreError> {
        validate(entry)?;
        self.must_have::<E>(entry.name())?;
        self.put(entry)
    }

    /// Removes an entry.
    pub(crate) fn remove<E: Kind>(&mut self, name: &str) -> Result<(), StoreError> {
        self.must_have::<E>(name)?;
        self.change(|content| drop(E::of_mut(content).remove(name)))
    }

    /// Replaces an entry, or adds one.
    pub(crate) fn set<E: Kind>(&mut self, entry: &E) -> Result<(), StoreError> {
        validate(entry)?;
        self.put(entry)
    }

    fn must_have<E: Kind>(&self, name: &str) -> Result<(), StoreError> {
        match self.get::<E>(name) {
            Some(_) => Ok(()),
            None => Err(StoreError::NotFound {
                what: E::WHAT,
                name: name.into(),
            }),
        }
    }

    fn put<E: Kind>(&mut self, entry: &E) -> Result<(), StoreError> {
        self.change(|content| {
            E::of_mut(content).insert(entry.name().into(), entry.clone());
        })
    }

    /// Makes a change that counts only if it is on the disk.
    fn change(&mut self, change: impl FnOnce(&mut Content)) -> Result<(), StoreError> {
        let mut content = self.content.clone();
        change(&mut content);
        write(&self.path, &content).map_err(|e| StoreError::Persist(e.to_string()))?;
        self.content = content;
        Ok(())
    }
}

/// What is wrong with an entry by itself, defaults filled in.
fn validate<E: Entry>(entry: &E) -> Result<(), StoreError> {
    let mut complete = entry.clone();
    complete.complete();
    complete
        .validate()
        .map_err(|e| StoreError::Invalid(e.to_string()))
}

/// The content; `None` without a file.
fn read(path: &Path) -> Result<Option<Content>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("open {}: {}", path.display(), os_error(&e))),
    };
    let mut text = String::new();
    let mut limited = file.take(MAX_SIZE + 1);
    limited
        .read_to_string(&mut text)
        .map_err(|e| format!("read {}: {}", path.display(), os_error(&e)))?;
    if text.len() as u64 > MAX_SIZE {
        return Err(format!("larger than {MAX_SIZE} bytes"));
    }
    let stored = Stored::parse(&text).map_err(|e| e.to_string())?;
    Ok(Some(Content {
        proxies: by_name(stored.proxies),
        visitors: by_name(stored.visitors),
    }))
}

/// Of a name that is there twice the later entry counts.
fn by_name<E: Entry>(entries: Vec<E>) -> BTreeMap<String, E> {
    entries
        .into_iter()
        .map(|e| (e.name().to_owned(), e))
        .collect()
}

/// The system's words, as Go has them.
fn os_error(e: &io::Error) -> String {
    frp_proto::text::system_error(e)
}

/// Replaces the file at once, or not at all.
fn write(path: &Path, content: &Content) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(content)?;
    if json.len() as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("larger than {MAX_SIZE} bytes")));
    }
    let draft = Draft::write(path, &json)?;
    keep_last(path)?;
    draft.commit()
}

/// Keeps what the file is now under another name, if there is one.
fn keep_last(path: &Path) -> io::Result<()> {
    let last = beside(path, ".last");
    match fs::remove_file(&last) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // Not every file system has links.
    let kept = fs::hard_link(path, &last).or_else(|_| fs::copy(path, &last).map(drop));
    match kept {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(name: &str, port: u16) -> ProxyConfig {
        let text = format!(r#"{{"name":"{name}","type":"tcp","tcp":{{"localPort":{port}}}}}"#);
        ProxyConfig::from_definition(&text, None).unwrap()
    }

    fn names(config: &ClientConfig) -> Vec<(&str, i64)> {
        let proxies = config.proxies.iter();
        proxies
            .map(|p| (p.base.name.as_str(), p.base.local_port))
            .collect()
    }

    #[test]
    fn what_is_changed_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/store.json");
        let mut store = Store::open(path.clone()).unwrap();
        assert!(!path.exists());
        store.create(&proxy("b", 2)).unwrap();
        store.create(&proxy("a", 1)).unwrap();
        assert_eq!(
            store.create(&proxy("a", 3)).unwrap_err().to_string(),
            "conflict: already exists: proxy \"a\""
        );
        store.update(&proxy("a", 4)).unwrap();
        store.remove::<ProxyConfig>("b").unwrap();
        assert_eq!(
            store.update(&proxy("b", 1)).unwrap_err().to_string(),
            "not found: not found: proxy \"b\""
        );
        assert!(store.remove::<VisitorConfig>("a").is_err());
        let again = Store::open(path.clone()).unwrap();
        assert_eq!(again.content, store.content);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\n  \"proxies\": [\n    {\n      \"name\": \"a\",\n      \"type\": \"tcp\",\n      \"transport\": {\n        \"bandwidthLimit\": \"\"\n      },\n      \"loadBalancer\": {\n        \"group\": \"\"\n      },\n      \"healthCheck\": {\n        \"type\": \"\",\n        \"intervalSeconds\": 0\n      },\n      \"localPort\": 4,\n      \"plugin\": null\n    }\n  ]\n}"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn a_damaged_file_is_refused_and_its_predecessor_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.json");
        let mut store = Store::open(path.clone()).unwrap();
        store.create(&proxy("a", 1)).unwrap();
        store.create(&proxy("b", 1)).unwrap();
        fs::write(&path, "").unwrap();
        let error = Store::open(path.clone()).unwrap_err().to_string();
        let last = beside(&path, ".last");
        let expected = format!(
            "failed to create store source: failed to load existing data: failed to parse JSON: unexpected end of JSON input\n  --> {}: what it was before the last change is in {}",
            path.display(),
            last.display()
        );
        assert_eq!(error, expected);
        let good = Store::open(last).unwrap();
        assert_eq!(good.entries::<ProxyConfig>().count(), 1);
        let error = Store::open(directory.path().into())
            .unwrap_err()
            .to_string();
        assert!(error.contains(": is a directory"), "{error}");
    }

    #[test]
    fn what_cannot_be_written_or_served_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let blocker = directory.path().join("file");
        fs::write(&blocker, "").unwrap();
        let mut store = Store::open(directory.path().join("store.json")).unwrap();
        store.path = blocker.join("store.json");
        let error = store.create(&proxy("a", 1)).unwrap_err();
        assert!(matches!(error, StoreError::Persist(_)), "{error}");
        let mut invalid = proxy("a", 1);
        invalid.base.local_port = 70_000;
        assert_eq!(
            store.create(&invalid).unwrap_err().to_string(),
            "invalid argument: validation error: localPort: localPort: port number 70000 must be in the range 0..65535"
        );
        assert!(store.get::<ProxyConfig>("a").is_none());
    }

    #[test]
    fn stored_entries_override_unless_they_are_disabled() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path().join("store.json")).unwrap();
        for name in ["b", "c", "d"] {
            store.create(&proxy(name, 2)).unwrap();
        }
        let mut disabled = proxy("a", 2);
        disabled.base.enabled = Some(false);
        store.create(&disabled).unwrap();
        let mut config = ClientConfig {
            proxies: vec![proxy("a", 1), proxy("b", 1)],
            ..ClientConfig::default()
        };
        assert_eq!(
            names(&store.merged(&config)),
            [("a", 1), ("b", 2), ("c", 2), ("d", 2)]
        );
        config.start = vec!["a".into(), "b".into(), "c".into()];
        let merged = store.merged(&config);
        assert_eq!(names(&merged), [("a", 1), ("b", 2), ("c", 2)]);
        assert_eq!(merged.proxies[1].base.local_ip, "127.0.0.1");
    }
}
