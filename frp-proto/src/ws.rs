//! WebSocket (transports.md §5): a byte stream in frames, as frp's peers speak it.
//!
//! Frame boundaries mean nothing, and neither does the type of a data frame: peers before v0.70 put raw bytes into text
//! frames. There is no limit to the length of a frame, as no frame is ever held as a whole.

mod frame;
mod handshake;
mod stream;

#[cfg(test)]
mod tests;

pub use handshake::{PATH, PREFIX, accept, connect};
pub use stream::WsStream;
