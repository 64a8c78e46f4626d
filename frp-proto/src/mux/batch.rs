//! Frames on their way to the transport.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::frame::Header;

/// Slices given to one write.
pub(super) const SLICES: usize = 64;
/// Bytes gathered for one vectored write.
const VECTORED: usize = 256 * 1024;
/// Bytes copied together for a transport without vectored writes.
const COPIED: usize = 64 * 1024;
/// With vectored writes a body up to this size is still cheaper to copy than to pass as a slice.
const COPY_BELOW: usize = 1024;

/// Bytes in the order of sending, made of few slices: headers and small bodies are copied together, large bodies are not
/// copied, unless the transport takes one slice a write.
pub(super) struct Batch {
    segments: VecDeque<Bytes>,
    /// What has been copied together, behind all of `segments`.
    tail: BytesMut,
    len: usize,
    /// Bodies below this size are copied.
    copy_below: usize,
    limit: usize,
}

impl Batch {
    pub(super) fn new(vectored: bool) -> Self {
        let (copy_below, limit) = if vectored {
            (COPY_BELOW, VECTORED)
        } else {
            (usize::MAX, COPIED)
        };
        Self {
            segments: VecDeque::new(),
            tail: BytesMut::new(),
            len: 0,
            copy_below,
            limit,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it holds enough for one write.
    pub(super) fn is_full(&self) -> bool {
        self.len >= self.limit || self.segments.len() >= SLICES
    }

    /// Whether it is worth topping up before the next write.
    pub(super) fn is_low(&self) -> bool {
        self.len < self.limit / 4
    }

    pub(super) fn push_header(&mut self, header: Header) {
        let bytes = header.encode();
        self.len += bytes.len();
        self.tail.extend_from_slice(&bytes);
    }

    pub(super) fn push_body(&mut self, body: Bytes) {
        self.len += body.len();
        if body.len() < self.copy_below {
            self.tail.extend_from_slice(&body);
        } else {
            self.seal();
            self.segments.push_back(body);
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.segments.push_back(self.tail.split().freeze());
        }
    }

    /// Fills `slices` from the front and says how many it filled.
    pub(super) fn slices<'a>(&'a mut self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        self.seal();
        let mut n = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            *slice = IoSlice::new(segment);
            n += 1;
        }
        n
    }

    /// Removes what has been written.
    pub(super) fn advance(&mut self, mut n: usize) {
        self.len -= n;
        while n > 0 {
            let Some(front) = self.segments.front_mut() else {
                break;
            };
            if front.len() > n {
                front.advance(n);
                break;
            }
            n -= front.len();
            self.segments.pop_front();
        }
    }

    /// Gives back the memory of an empty batch.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            self.tail = BytesMut::new();
            self.segments.shrink_to(SLICES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{HEADER, Kind};
    use super::*;

    fn filled(vectored: bool) -> (Batch, Vec<u8>) {
        let mut batch = Batch::new(vectored);
        let mut bytes = Vec::new();
        for (stream, n) in [(1, 10), (3, 4000), (5, 0), (7, 3000)] {
            let header = Header {
                kind: Kind::Data,
                flags: 0,
                stream,
                length: n,
            };
            let body = vec![stream as u8; n as usize];
            bytes.extend(header.encode());
            bytes.extend(&body);
            batch.push_header(header);
            batch.push_body(body.into());
        }
        (batch, bytes)
    }

    #[test]
    fn few_slices_that_hold_all() {
        for (vectored, expected) in [(true, 4), (false, 1)] {
            let (mut batch, bytes) = filled(vectored);
            let mut slices = [IoSlice::new(&[]); SLICES];
            let n = batch.slices(&mut slices);
            assert_eq!(n, expected);
            assert_eq!(slices.map(|s| s.to_vec()).concat(), bytes);
        }
    }

    #[test]
    fn advances_by_any_step() {
        for step in [1, HEADER, 1000, 5000] {
            let (mut batch, bytes) = filled(true);
            let mut written: Vec<u8> = Vec::new();
            while !batch.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                batch.slices(&mut slices);
                let all = slices.map(|s| s.to_vec()).concat();
                let n = step.min(all.len());
                written.extend(&all[..n]);
                batch.advance(n);
            }
            assert_eq!(written, bytes);
        }
    }
}
