//! A log file that is renamed at local midnight, and whose old names are removed after some days (config-frps.md §10.3).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{Days, NaiveDate, NaiveDateTime, TimeDelta};

/// The time in the names of old files.
const STAMP: &str = "%Y%m%d-%H%M%S";

/// Opened at the first write, created for its owner alone. The clock is the caller's.
pub(super) struct RotatingFile {
    path: PathBuf,
    /// What old names begin and end with.
    stem: String,
    extension: String,
    max_days: i64,
    open: Option<Open>,
}

struct Open {
    file: File,
    day: NaiveDate,
}

impl RotatingFile {
    /// `max_days` ≤ 0 keeps old files for ever.
    pub(super) fn new(path: &Path, max_days: i64) -> Self {
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (stem, extension) = name.split_at(name.rfind('.').unwrap_or(name.len()));
        Self {
            path: path.to_owned(),
            stem: stem.to_owned(),
            extension: extension.to_owned(),
            max_days,
            open: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Time to the next midnight; `None` while the file is not open.
    pub(super) fn until_rotation(&self, now: NaiveDateTime) -> Option<Duration> {
        let midnight = self
            .open
            .as_ref()?
            .day
            .checked_add_days(Days::new(1))?
            .and_hms_opt(0, 0, 0)?;
        Some((midnight - now).to_std().unwrap_or_default())
    }

    /// Appends, after opening or creating the file if needed. After an error the next write opens it again.
    pub(super) fn write(&mut self, lines: &[u8], now: NaiveDateTime) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open {
                file: open(&self.path)?,
                day: now.date(),
            },
        };
        open.file.write_all(lines)?;
        self.open = Some(open);
        Ok(())
    }

    /// On a later day than that of the last open: gives the file its old name, creates a new one, removes those too old.
    pub(super) fn rotate_if_due(&mut self, now: NaiveDateTime) -> io::Result<()> {
        let Some(old) = self.open.take_if(|open| open.day < now.date()) else {
            return Ok(());
        };
        let permissions = old.file.metadata()?.permissions();
        let old_name = format!("{}.{}{}", self.stem, now.format(STAMP), self.extension);
        fs::rename(&self.path, self.path.with_file_name(old_name))?;
        let file = open(&self.path)?;
        file.set_permissions(permissions)?;
        self.open = Some(Open {
            file,
            day: now.date(),
        });
        self.remove_old(now)
    }

    fn remove_old(&self, now: NaiveDateTime) -> io::Result<()> {
        let oldest = TimeDelta::try_days(self.max_days)
            .filter(|age| *age > TimeDelta::zero())
            .and_then(|age| now.checked_sub_signed(age));
        let Some(oldest) = oldest else {
            return Ok(());
        };
        for entry in fs::read_dir(directory(&self.path))? {
            let entry = entry?;
            if self
                .stamp(&entry.file_name())
                .is_some_and(|stamp| stamp < oldest)
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// When a file of this name was rotated, if it is one of ours.
    fn stamp(&self, name: &OsStr) -> Option<NaiveDateTime> {
        let stamp = name
            .to_str()?
            .strip_prefix(&self.stem)?
            .strip_prefix('.')?
            .strip_suffix(&self.extension)?;
        let parsed = NaiveDateTime::parse_from_str(stamp, STAMP).ok()?;
        // The parser is lenient about digits; names are removed only if they are exactly ours.
        (parsed.format(STAMP).to_string() == stamp).then_some(parsed)
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory(path))?;
            options.open(path)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn created_at_the_first_line_with_its_directories_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/frps.log");
        let mut file = RotatingFile::new(&path, 3);
        assert_eq!(file.until_rotation(at("2026-01-01 23:59:00")), None);
        file.write(b"", at("2026-01-01 23:59:00")).unwrap();
        assert!(!path.exists());
        file.write(b"one\n", at("2026-01-01 23:59:00")).unwrap();
        assert_eq!(
            file.until_rotation(at("2026-01-01 23:59:00")),
            Some(Duration::from_mins(1))
        );
        RotatingFile::new(&path, 3)
            .write(b"two\n", at("2026-01-01 23:59:00"))
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
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
    fn rotated_at_midnight_and_no_sooner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frps.log");
        let mut file = RotatingFile::new(&path, 3);
        file.write(b"old\n", at("2026-07-23 10:00:00")).unwrap();
        file.rotate_if_due(at("2026-07-23 23:59:59")).unwrap();
        assert_eq!(names(dir.path()), ["frps.log"]);
        file.rotate_if_due(at("2026-07-24 00:00:00")).unwrap();
        file.write(b"new\n", at("2026-07-24 00:00:00")).unwrap();
        file.rotate_if_due(at("2026-07-24 00:00:01")).unwrap();
        assert_eq!(names(dir.path()), ["frps.20260724-000000.log", "frps.log"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(
            fs::read_to_string(dir.path().join("frps.20260724-000000.log")).unwrap(),
            "old\n"
        );
    }

    #[test]
    fn only_own_old_files_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = [
            "frps.20260721-000000.log",
            "frps.20260101-000000.txt",
            "frps.2026011-000000.log",
            "frps.20269901-000000.log",
            "frps.log.20260101-000000",
            "other.20260101-000000.log",
        ];
        for name in kept.iter().chain(&["frps.20260720-235959.log"]) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        for (max_days, removed) in [(0, false), (-1, false), (i64::MAX, false), (3, true)] {
            let mut file = RotatingFile::new(&dir.path().join("frps.log"), max_days);
            file.write(b"x\n", at("2026-07-23 10:00:00")).unwrap();
            file.rotate_if_due(at("2026-07-24 00:00:00")).unwrap();
            let left = names(dir.path());
            assert_eq!(
                !left.contains(&"frps.20260720-235959.log".to_owned()),
                removed,
                "{max_days}"
            );
            for name in kept {
                assert!(left.contains(&name.to_owned()), "{name}");
            }
        }
    }

    #[test]
    fn a_name_without_extension() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = RotatingFile::new(&dir.path().join("log"), 3);
        file.write(b"x\n", at("2026-07-23 10:00:00")).unwrap();
        file.rotate_if_due(at("2026-07-25 08:00:00")).unwrap();
        assert_eq!(names(dir.path()), ["log", "log.20260725-080000"]);
    }

    #[test]
    fn errors_are_told_and_retried() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d/frps.log");
        fs::write(dir.path().join("d"), "in the way").unwrap();
        let mut file = RotatingFile::new(&path, 3);
        assert!(file.write(b"lost\n", at("2026-07-23 10:00:00")).is_err());
        fs::remove_file(dir.path().join("d")).unwrap();
        file.write(b"kept\n", at("2026-07-23 10:00:00")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept\n");
    }
}
