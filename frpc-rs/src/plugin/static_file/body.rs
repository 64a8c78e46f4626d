//! Bodies made of a file: read piece by piece as the user takes them.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, SeekFrom, Write as _};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::{Stream, try_unfold};
use http::HeaderValue;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::range::Part;
use crate::plugin::server::Body;

/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// A piece of a body.
#[derive(Debug)]
pub(super) enum Segment {
    Bytes(Bytes),
    File(Part),
}

/// How parts of a file are sent.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) segments: VecDeque<Segment>,
    pub(super) len: u64,
    pub(super) content_type: HeaderValue,
    /// Of a single part; several have theirs inside.
    pub(super) content_range: Option<HeaderValue>,
}

impl Plan {
    /// `parts` of a file of `size` bytes, at least one.
    pub(super) fn new(parts: &[Part], size: u64, content_type: &HeaderValue) -> Self {
        if let [part] = parts {
            return Self {
                segments: [Segment::File(*part)].into(),
                len: part.len,
                content_type: content_type.clone(),
                content_range: HeaderValue::try_from(part.content_range(size)).ok(),
            };
        }
        let boundary = boundary();
        let mut segments = VecDeque::with_capacity(2 * parts.len() + 1);
        let mut len = 0;
        let mut text = |text: String, segments: &mut VecDeque<Segment>| {
            len += text.len() as u64;
            segments.push_back(Segment::Bytes(text.into()));
        };
        let kind = content_type.to_str().unwrap_or_default();
        for (i, part) in parts.iter().enumerate() {
            let before = if i == 0 { "" } else { "\r\n" };
            let range = part.content_range(size);
            let head = format!(
                "{before}--{boundary}\r\nContent-Range: {range}\r\nContent-Type: {kind}\r\n\r\n"
            );
            text(head, &mut segments);
            segments.push_back(Segment::File(*part));
        }
        text(format!("\r\n--{boundary}--\r\n"), &mut segments);
        let kind = format!("multipart/byteranges; boundary={boundary}");
        Self {
            len: len + parts.iter().map(|p| p.len).sum::<u64>(),
            segments,
            content_type: HeaderValue::try_from(kind).unwrap_or_else(|_| content_type.clone()),
            content_range: None,
        }
    }
}

/// What no file has in it but by the rarest chance.
fn boundary() -> String {
    let mut text = String::with_capacity(64);
    for _ in 0..4 {
        // Without a source of randomness the parts can still be told apart by their lengths.
        let bits = getrandom::u64().unwrap_or_default();
        let _ = write!(text, "{bits:016x}");
    }
    text
}

pub(super) fn whole(file: File, len: u64) -> Body {
    let part = Part { start: 0, len };
    parts(file, [Segment::File(part)].into())
}

pub(super) fn parts(file: File, segments: VecDeque<Segment>) -> Body {
    boxed(try_unfold(
        (file, segments),
        async |(mut file, mut segments)| {
            loop {
                let piece = match segments.front_mut() {
                    None => return Ok(None),
                    Some(Segment::Bytes(bytes)) => std::mem::take(bytes),
                    Some(Segment::File(part)) => read(&mut file, part).await?,
                };
                if done(segments.front()) {
                    segments.pop_front();
                }
                if !piece.is_empty() {
                    return Ok(Some((piece, (file, segments))));
                }
            }
        },
    ))
}

fn done(segment: Option<&Segment>) -> bool {
    match segment {
        Some(Segment::File(part)) => part.len == 0,
        _ => true,
    }
}

/// The next bytes of a part, which becomes shorter. A file that has become shorter meanwhile is an error: its length is out.
async fn read(file: &mut File, part: &mut Part) -> io::Result<Bytes> {
    if part.len == 0 {
        return Ok(Bytes::new());
    }
    file.seek(SeekFrom::Start(part.start)).await?;
    let want = part.len.min(PIECE as u64);
    let mut piece = BytesMut::with_capacity(want as usize);
    let n = file.take(want).read_buf(&mut piece).await? as u64;
    if n == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    part.start += n;
    part.len -= n;
    Ok(piece.freeze())
}

/// The first `len` bytes of a file, compressed on the way.
pub(super) fn gzipped(file: File, len: u64) -> Body {
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::default()));
    let part = Part { start: 0, len };
    boxed(try_unfold(
        (file, part, encoder),
        async |(mut file, mut part, encoder)| {
            let Some(mut encoder) = encoder else {
                return Ok(None);
            };
            loop {
                if part.len == 0 {
                    let last = Bytes::from(encoder.finish()?);
                    return Ok(Some((last, (file, part, None))));
                }
                encoder.write_all(&read(&mut file, &mut part).await?)?;
                let piece = Bytes::from(std::mem::take(encoder.get_mut()));
                if !piece.is_empty() {
                    return Ok(Some((piece, (file, part, Some(encoder)))));
                }
            }
        },
    ))
}

/// A page, compressed.
pub(super) fn gzip(page: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(page).and_then(|()| encoder.finish());
    written.expect("memory takes all")
}

fn boxed(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    use futures::TryStreamExt as _;
    let frames = stream.map_ok(Frame::data).map_err(Into::into);
    StreamBody::new(frames).boxed_unsync()
}
