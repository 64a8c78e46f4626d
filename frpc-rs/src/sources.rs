//! Watched sources of proxies and visitors (`sources`): many clients may share one set, and each follows its changes.
//!
//! A source is read in every period; what it says now is served instead of what it said before. One that cannot be read,
//! or says something wrong, changes nothing: the last good copy counts.

mod http;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use frp_proto::config::raw::client::SourceConfig;
use frp_proto::config::{self, Entries};
use tokio::time::sleep;

use crate::Error;
use crate::service::Service;

/// Bytes of a source: several times the definitions of ten thousand proxies.
const MAX_SIZE: u64 = 16 * 1024 * 1024;
/// Files of a directory.
const MAX_FILES: usize = 10_000;
/// Time between two readings, unless the configuration says otherwise.
const PERIOD: Duration = Duration::from_secs(30);

/// One source.
#[derive(Debug)]
pub(crate) struct Source {
    /// For logs; holds no credentials.
    name: String,
    origin: Origin,
    period: Duration,
}

#[derive(Debug)]
enum Origin {
    File(PathBuf),
    Directory(PathBuf),
    Http(Box<http::Client>),
}

impl Source {
    /// Checks a source; nothing is read.
    pub(crate) fn new(c: &SourceConfig) -> Result<Self, Error> {
        let path = || PathBuf::from(&c.path);
        let (name, origin) = match c.type_.as_str() {
            "file" => (c.path.clone(), Origin::File(path())),
            "directory" => (c.path.clone(), Origin::Directory(path())),
            "http" => {
                let client = http::Client::new(c).map_err(|e| Error(format!("sources: {e}")))?;
                (client.to_string(), Origin::Http(Box::new(client)))
            }
            other => return Err(Error(format!("sources: unknown type {other:?}"))),
        };
        Ok(Self {
            name,
            origin,
            period: match u64::try_from(c.interval) {
                Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
                _ => PERIOD,
            },
        })
    }

    /// What it says; `None`: the same as before.
    async fn read(&mut self) -> Result<Option<Entries>, String> {
        match &mut self.origin {
            Origin::Http(client) => client.read().await,
            Origin::File(path) => blocking(path, |path| read_file(path, MAX_SIZE)).await,
            Origin::Directory(path) => blocking(path, read_directory).await,
        }
    }

    /// What it said cannot be served, and so is no copy that later answers may refer to. Gives the reason.
    fn refused(&mut self, why: &dyn std::fmt::Display) -> String {
        if let Origin::Http(client) = &mut self.origin {
            client.forget();
        }
        why.to_string()
    }

    /// Follows it, as the source at `place`. Runs until dropped.
    pub(crate) async fn follow(mut self, place: usize, service: Arc<Service>) {
        let name = self.name.clone();
        let mut complaint = String::new();
        loop {
            let served = match self.read().await {
                Ok(Some(entries)) => {
                    let counts = (entries.proxies.len(), entries.visitors.len());
                    let service = service.clone();
                    let set = move || service.set_watched(place, entries);
                    match tokio::task::spawn_blocking(set).await {
                        Ok(Ok(changed)) => Ok(changed.then_some(counts)),
                        Ok(Err(e)) => Err(self.refused(&e)),
                        Err(e) => Err(self.refused(&e)),
                    }
                }
                Ok(None) => Ok(None),
                Err(e) => Err(e),
            };
            match served {
                Ok(changed) => {
                    if let Some((proxies, visitors)) = changed {
                        tracing::info!(
                            "source [{name}]: {proxies} proxies, {visitors} visitors are served now"
                        );
                    } else if !complaint.is_empty() {
                        tracing::info!("source [{name}] can be used again");
                    }
                    complaint.clear();
                }
                // Told once, as long as it stays the same.
                Err(e) if e != complaint => {
                    tracing::warn!("source [{name}] changes nothing: {e}");
                    complaint = e;
                }
                Err(_) => {}
            }
            sleep(self.period).await;
        }
    }
}

/// Reads where waiting for a disk stops nobody.
async fn blocking(
    path: &Path,
    read: fn(&Path) -> Result<Entries, String>,
) -> Result<Option<Entries>, String> {
    let path = path.to_owned();
    let done = tokio::task::spawn_blocking(move || read(&path)).await;
    done.map_err(|e| e.to_string())?.map(Some)
}

fn read_file(path: &Path, limit: u64) -> Result<Entries, String> {
    let text = text(path, limit)?;
    config::entries_from_text(&text, path).map_err(|e| e.to_string())
}

fn text(path: &Path, limit: u64) -> Result<String, String> {
    let failed = |e| format!("{}: {e}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > limit {
        return Err(format!("{}: larger than {limit} bytes", path.display()));
    }
    Ok(text)
}

/// All configuration files of the directory, in the order of their names.
fn read_directory(path: &Path) -> Result<Entries, String> {
    let failed = |e| format!("{}: {e}", path.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if !is_configuration(&file) || !file.is_file() {
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(format!("{}: more than {MAX_FILES} files", path.display()));
        }
        files.push(file);
    }
    files.sort_unstable();
    let mut all = Entries::default();
    let mut left = MAX_SIZE;
    for file in files {
        let text = text(&file, left)?;
        left -= text.len() as u64;
        let entries = config::entries_from_text(&text, &file).map_err(|e| e.to_string())?;
        all.append(entries).map_err(|e| e.to_string())?;
    }
    Ok(all)
}

/// Editors and mounts leave other files beside.
fn is_configuration(file: &Path) -> bool {
    let hidden = file
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = file.extension().and_then(|e| e.to_str());
    !hidden && extension.is_some_and(|e| ["toml", "yaml", "yml", "json"].contains(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(name: &str) -> String {
        format!("[[proxies]]\nname = \"{name}\"\ntype = \"tcp\"\nlocalPort = 1\nremotePort = 2\n")
    }

    fn names(entries: &Entries) -> Vec<&str> {
        let proxies = entries.proxies.iter();
        proxies.map(|p| p.base.name.as_str()).collect()
    }

    #[test]
    fn a_directory_is_all_of_its_configuration_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("b.toml", &proxy("b"));
        write(
            "a.json",
            "{\"proxies\":[{\"name\":\"z\",\"type\":\"tcp\",\"localPort\":1}]}",
        );
        write("c.txt", "not a configuration");
        write(".d.toml", "nor this");
        fs::create_dir(dir.path().join("e.toml")).unwrap();
        assert_eq!(names(&read_directory(dir.path()).unwrap()), ["b", "z"]);
        write(
            "f.yaml",
            "proxies:\n- name: b\n  type: tcp\n  localPort: 1\n",
        );
        let twice = read_directory(dir.path()).unwrap_err();
        assert!(twice.contains("proxy name [b] is duplicated"), "{twice}");
    }

    #[test]
    fn what_cannot_be_used_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        for (text, expected) in [
            (
                "[[proxies]]\nname = \"a\"\ntype = \"tcp\"\nlocalPrt = 1\n",
                "s.toml:4",
            ),
            (
                "[[proxies]]\nname = \"a\"\ntype = \"http\"\n",
                "custom domains should not be both empty",
            ),
            ("includes = [\"x\"]\n", "includes"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read_file(&path, MAX_SIZE).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        fs::write(&path, proxy("a")).unwrap();
        assert_eq!(names(&read_file(&path, MAX_SIZE).unwrap()), ["a"]);
        assert!(
            read_file(&path, 10)
                .unwrap_err()
                .contains("larger than 10 bytes")
        );
    }
}
