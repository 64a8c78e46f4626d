//! The frps library.
