//! [`Failure`]: why a case failed, and where.

use std::fmt;
use std::panic::Location;

/// Why a case failed. Made from any error by `?`, which notes the place.
pub struct Failure {
    text: String,
    place: &'static Location<'static>,
}

/// What a case, or a step of one, returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure in words.
    #[track_caller]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            place: Location::caller(),
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::new(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {})", self.text, self.place)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
