//! The frpc library.
