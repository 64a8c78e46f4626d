//! Raw snappy blocks, as they lie within the chunks of a snappy stream.
//!
//! A block is the length of what it decodes to, as a varint, and then elements: literals, and copies of bytes already decoded.
//! The two low bits of an element's first byte, its tag, say which: a literal, or a copy whose offset takes 1, 2 or 4 bytes more.
//! Source: <https://github.com/google/snappy/blob/main/format_description.txt>.

mod decode;
mod encode;

pub(super) use decode::{decode, decoded_len};
pub(super) use encode::{Encoder, LONGEST, max_len};
