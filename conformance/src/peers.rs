//! Where the programs are.
//!
//! Upstream's are in a directory of the user's, ours beside the test's own executable.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::{Failure, Outcome};

/// Packages whose sources make our programs.
const SOURCES: [&str; 5] = ["balancer", "frp-proto", "frps-rs", "frpc-rs", "Cargo.lock"];

/// Who made a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Maker {
    /// This workspace.
    Ours,
    /// Upstream, the version to compare with.
    Go,
    /// Upstream, `v0.MINOR.PATCH`.
    Old(u16, u16),
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("ours"),
            Self::Go => f.write_str("go"),
            Self::Old(minor, patch) => write!(f, "v0.{minor}.{patch}"),
        }
    }
}

impl Maker {
    /// Whether its configuration files are INI: before v0.52 there was nothing else.
    pub fn reads_ini(self) -> bool {
        matches!(self, Self::Old(..52, _))
    }

    /// Reads `v0.MINOR.PATCH`.
    fn parse(name: &str) -> Option<Self> {
        let (minor, patch) = name.strip_prefix("v0.")?.split_once('.')?;
        Some(Self::Old(minor.parse().ok()?, patch.parse().ok()?))
    }
}

/// The two programs of one maker.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Who made them.
    pub maker: Maker,
    /// Where they are.
    pub directory: PathBuf,
}

impl Programs {
    /// `frps` or `frpc`.
    pub fn path(&self, role: &str) -> PathBuf {
        self.directory
            .join(format!("{role}{}", std::env::consts::EXE_SUFFIX))
    }

    /// What frps answers to `--version`.
    pub fn version(&self) -> Outcome<String> {
        let output = Command::new(self.path("frps")).arg("--version").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn complete(&self) -> bool {
        self.path("frps").is_file() && self.path("frpc").is_file()
    }
}

/// What `main` read from the environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `FRP_UPSTREAM_DIR`.
    pub upstream: Option<PathBuf>,
    /// `XDG_CACHE_HOME`.
    pub cache: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `CARGO`: builds our programs when they are missing or out of date.
    pub cargo: Option<PathBuf>,
    /// Whether cases that take minutes shall run.
    pub long: bool,
}

/// All programs found.
#[derive(Debug, Clone)]
pub struct Peers {
    /// Ours.
    pub ours: Programs,
    /// Upstream's, if found.
    pub go: Option<Programs>,
    /// Older ones, if found, oldest first.
    pub old: Vec<Programs>,
}

impl Peers {
    /// Looks for upstream's programs, and for ours in `executable`'s target directory; builds ours if need be.
    pub fn find(environment: &Environment, executable: &Path) -> Outcome<Self> {
        let old = upstream_directory(environment).map(|d| old_versions(&d));
        Ok(Self {
            ours: ours(environment, executable)?,
            go: upstream(environment),
            old: old.unwrap_or_default(),
        })
    }
}

/// Upstream's programs of the version to compare with, if they are there.
pub fn upstream(environment: &Environment) -> Option<Programs> {
    let programs = Programs {
        maker: Maker::Go,
        directory: upstream_directory(environment)?,
    };
    programs.complete().then_some(programs)
}

fn upstream_directory(environment: &Environment) -> Option<PathBuf> {
    let cache = || {
        let home = || environment.home.as_ref().map(|home| home.join(".cache"));
        environment.cache.clone().or_else(home)
    };
    environment
        .upstream
        .clone()
        .or_else(|| Some(cache()?.join("frp-upstream")))
}

fn old_versions(directory: &Path) -> Vec<Programs> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let programs = entries.filter_map(|entry| {
        Some(Programs {
            maker: Maker::parse(entry.file_name().to_str()?)?,
            directory: entry.path(),
        })
    });
    let mut found: Vec<_> = programs.filter(Programs::complete).collect();
    found.sort_by_key(|p| p.maker);
    found
}

/// `target/PROFILE/deps/test-executable` → `target/PROFILE`.
fn ours(environment: &Environment, executable: &Path) -> Outcome<Programs> {
    let beside = executable.parent();
    let directory = beside.and_then(|d| {
        if d.ends_with("deps") {
            d.parent()
        } else {
            Some(d)
        }
    });
    let programs = Programs {
        maker: Maker::Ours,
        directory: directory
            .ok_or_else(|| Failure::new("the test's executable is in no directory"))?
            .to_owned(),
    };
    if programs.complete() && !out_of_date(&programs) {
        return Ok(programs);
    }
    let cargo = environment.cargo.as_ref();
    let cargo = cargo.ok_or_else(|| Failure::new("our programs are missing or out of date"))?;
    let profile = match programs.directory.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(cargo)
        .args(["build", "--quiet", "-p", "frps-rs", "-p", "frpc-rs"])
        .args(["--profile", profile, "--target-dir"])
        .args(programs.directory.parent())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !status.success() || !programs.complete() {
        return Err(Failure::new("our programs could not be built"));
    }
    Ok(programs)
}

/// Whether a source is younger than the programs: `cargo test -p conformance` does not build them anew.
fn out_of_date(programs: &Programs) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    let built = ["frps", "frpc"].map(|role| modified(&programs.path(role)));
    let Some(built) = built.into_iter().flatten().min() else {
        return true;
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    SOURCES
        .iter()
        .filter_map(|source| newest(&workspace.join(source)))
        .any(|source| source > built)
}

/// When the youngest Rust file at or below `path` was changed.
fn newest(path: &Path) -> Option<SystemTime> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).ok()?.flatten();
        return entries.filter_map(|entry| newest(&entry.path())).max();
    }
    let counts = path.extension().is_some_and(|e| e == "rs" || e == "lock");
    if counts {
        path.metadata().ok()?.modified().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_versions() {
        let old = Maker::parse("v0.52.3").unwrap();
        assert_eq!(old, Maker::Old(52, 3));
        assert_eq!(old.to_string(), "v0.52.3");
        assert!(!old.reads_ini() && Maker::Old(37, 1).reads_ini() && !Maker::Go.reads_ini());
        for wrong in ["frps", "v1.2.3", "v0.52", "v0.x.1"] {
            assert_eq!(Maker::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_cache_directory_is_the_last_resort() {
        let mut environment = Environment {
            home: Some("/h".into()),
            ..Environment::default()
        };
        let expect = |environment: &Environment, directory: &str| {
            assert_eq!(upstream_directory(environment), Some(directory.into()));
        };
        expect(&environment, "/h/.cache/frp-upstream");
        environment.cache = Some("/c".into());
        expect(&environment, "/c/frp-upstream");
        environment.upstream = Some("/u".into());
        expect(&environment, "/u");
    }

    #[test]
    fn only_complete_directories_count() {
        let directory = tempfile::tempdir().unwrap();
        for version in ["v0.61.0", "v0.37.1", "other"] {
            std::fs::create_dir(directory.path().join(version)).unwrap();
        }
        assert!(old_versions(directory.path()).is_empty());
        for version in ["v0.61.0", "v0.37.1"] {
            for role in ["frps", "frpc"] {
                let file = format!("{role}{}", std::env::consts::EXE_SUFFIX);
                std::fs::write(directory.path().join(version).join(file), "").unwrap();
            }
        }
        let makers: Vec<_> = old_versions(directory.path())
            .iter()
            .map(|p| p.maker)
            .collect();
        assert_eq!(makers, [Maker::Old(37, 1), Maker::Old(61, 0)]);
    }
}
