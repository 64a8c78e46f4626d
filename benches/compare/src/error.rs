//! Why a comparison, or one measurement of it, could not be made.

use std::io;
use std::path::{Path, PathBuf};

/// One kind a cause that the user can act upon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line asks for something that is not there.
    #[error("{0}")]
    Usage(String),
    /// A file or socket of the comparison itself.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path or address.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program of a pair ended or never answered.
    #[error("{what}{}{log}", if log.is_empty() { "" } else { "; end of the logs:\n" })]
    Pair {
        /// What happened to which program.
        what: String,
        /// Last lines of what the programs wrote.
        log: String,
    },
    /// The load did not get through the tunnel.
    #[error("load: {0}")]
    Load(String),
}

impl Error {
    /// For `map_err` on operations on a path.
    pub(crate) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path: PathBuf = path.to_owned();
        move |source| Self::Io {
            what: format!("{what} {}", path.display()),
            source,
        }
    }

    /// For `map_err` on operations without a path.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what: what.to_owned(),
            source,
        }
    }
}

impl From<io::Error> for Error {
    /// Errors of a load's sockets: the step they happened in is the load itself.
    fn from(source: io::Error) -> Self {
        Self::Load(source.to_string())
    }
}
