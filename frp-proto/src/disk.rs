//! Files that are replaced at once or not at all, a loss of power included.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// New content of a file, on the disk beside it.
#[derive(Debug)]
#[must_use = "the file is only replaced by `commit`"]
pub struct Draft {
    path: PathBuf,
    temporary: PathBuf,
}

impl Draft {
    /// Writes the content beside `path`, whose directory is made if it is not there. Only the owner can read it.
    pub fn write(path: &Path, content: &[u8]) -> io::Result<Self> {
        fs::create_dir_all(directory(path))?;
        let temporary = beside(path, ".tmp");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
        })
    }

    /// Makes it the file.
    pub fn commit(self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)?;
        // The new name is on the disk only when the directory is.
        #[cfg(unix)]
        File::open(directory(&self.path))?.sync_all()?;
        Ok(())
    }
}

/// `path` with something added to its name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_nothing_before_it_is_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.json");
        let draft = Draft::write(&path, b"one").unwrap();
        assert!(!path.exists());
        draft.commit().unwrap();
        let _never = Draft::write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        Draft::write(&path, b"three").unwrap().commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert!(!beside(&path, ".tmp").exists());
    }
}
