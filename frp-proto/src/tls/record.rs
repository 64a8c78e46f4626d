//! Record protection once the handshake is done (RFC 8446 §5, RFC 5246 §6.2.3, RFC 5288, RFC 7905).
//!
//! rustls makes the handshake and owns the key schedule; its own record layer allocates and copies every record twice in each
//! direction. Here a record is sealed from the caller's bytes straight into the output, and opened straight into the
//! caller's buffer.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use super::alert;

pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// Type, version, length.
pub(super) const HEADER: usize = 5;
/// Longest plaintext of a record.
pub(super) const MAX_PLAINTEXT: usize = 16 * 1024;
/// Most that protection adds to a plaintext, header included.
pub(super) const MAX_OVERHEAD: usize = HEADER + EXPLICIT_NONCE + TAG;

const TAG: usize = 16;
const EXPLICIT_NONCE: usize = 8;
/// Records of one AES-GCM key in TLS 1.3 (RFC 8446 §5.5 gives 2^24.5).
const GCM_RECORDS: u64 = 1 << 24;

/// How plaintext, nonce and additional data are laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// The content type follows the plaintext, inside the encryption.
    Tls13,
    /// Eight bytes of the nonce are sent before the ciphertext.
    Tls12Gcm,
    /// The nonce is implicit.
    Tls12ChaCha,
}

/// The protection of one direction.
pub(super) struct Protection {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    seq: u64,
    limit: u64,
    layout: Layout,
}

/// A record that was opened: its true type, and its plaintext as a range of the slice it was opened in.
pub(super) struct Opened {
    pub(super) content_type: u8,
    pub(super) len: usize,
    /// The plaintext is in the caller's slice, from its start; else in the record's own bytes, behind the prefix.
    pub(super) moved: bool,
}

impl Protection {
    /// From what rustls hands out, starting with record number `seq`.
    pub(super) fn new(
        version: ProtocolVersion,
        seq: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Option<Self> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        let gcm = algorithm != &CHACHA20_POLY1305;
        let layout = match (version, gcm) {
            (ProtocolVersion::TLSv1_3, _) => Layout::Tls13,
            (_, true) => Layout::Tls12Gcm,
            (_, false) => Layout::Tls12ChaCha,
        };
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?),
            iv: iv.as_ref().try_into().ok()?,
            seq,
            // TLS 1.2 cannot change keys, and has no limit of its own.
            limit: if gcm && layout == Layout::Tls13 {
                GCM_RECORDS
            } else {
                u64::MAX
            },
            layout,
        })
    }

    /// Whether keys can change, by a message of TLS 1.3.
    pub(super) fn is_tls13(&self) -> bool {
        self.layout == Layout::Tls13
    }

    /// Whether the key has protected all the records it may.
    pub(super) fn is_worn(&self) -> bool {
        self.seq >= self.limit
    }

    /// As if the key had protected all the records it may.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self) {
        self.limit = self.seq;
    }

    /// Longest body of a record that the peer may send.
    pub(super) fn max_body(&self) -> usize {
        MAX_PLAINTEXT + if self.is_tls13() { 256 } else { 2048 }
    }

    /// Bytes before a record's ciphertext.
    pub(super) fn prefix(&self) -> usize {
        HEADER
            + if self.layout == Layout::Tls12Gcm {
                EXPLICIT_NONCE
            } else {
                0
            }
    }

    /// Most plaintext in a body of `len` bytes.
    pub(super) fn plaintext_of(&self, len: usize) -> usize {
        let inner_type = usize::from(self.is_tls13());
        len.saturating_sub(self.prefix() - HEADER + TAG + inner_type)
    }

    /// Seals `len` bytes as one record at the start of `out`, which must have room for [`MAX_OVERHEAD`] bytes more; returns the record's length.
    ///
    /// The bytes are `whole`, or else what `gather` puts into the slice it is given.
    pub(super) fn seal(
        &mut self,
        content_type: u8,
        len: usize,
        whole: Option<&[u8]>,
        gather: impl FnOnce(&mut [u8]),
        out: &mut [u8],
    ) -> Result<usize, u8> {
        let (outer_type, inner_type) = match self.layout {
            Layout::Tls13 => (APPLICATION_DATA, &[content_type][..]),
            _ => (content_type, &[][..]),
        };
        let (prefix, tail) = (self.prefix(), inner_type.len() + TAG);
        let record = &mut out[..prefix + len + tail];
        let body = record.len() - HEADER;
        let (head, rest) = record.split_at_mut(prefix);
        let (text, tag) = rest.split_at_mut(len);

        head[..HEADER].copy_from_slice(&header(outer_type, body));
        let nonce = self.counter_nonce();
        if self.layout == Layout::Tls12Gcm {
            head[HEADER..].copy_from_slice(&nonce[NONCE_LEN - EXPLICIT_NONCE..]);
        }
        let (aad, aad_len) = self.additional_data(outer_type, body, len);
        let aad = Aad::from(&aad[..aad_len]);
        let nonce = Nonce::assume_unique_for_key(nonce);
        if let Some(whole) = whole {
            self.key
                .seal_out_of_place_scatter(nonce, aad, whole, text, inner_type, tag)
        } else {
            gather(text);
            self.key
                .seal_in_place_scatter(nonce, aad, text, inner_type, tag)
        }
        .map_err(|_| alert::INTERNAL_ERROR)?;
        self.seq += 1;
        Ok(prefix + len + tail)
    }

    /// Opens a whole record: into `out` where that has room for all of it, else in place. Errors are the alert to send.
    pub(super) fn open(&mut self, record: &mut [u8], out: &mut [u8]) -> Result<Opened, u8> {
        let outer_type = record[0];
        if self.is_tls13() && outer_type != APPLICATION_DATA {
            return Err(alert::UNEXPECTED_MESSAGE);
        }
        let body = record.len() - HEADER;
        let prefix = self.prefix();
        let inner = record
            .len()
            .checked_sub(prefix + TAG)
            .ok_or(alert::BAD_RECORD_MAC)?;
        let mut nonce = self.counter_nonce();
        if self.layout == Layout::Tls12Gcm {
            nonce[NONCE_LEN - EXPLICIT_NONCE..].copy_from_slice(&record[HEADER..prefix]);
        }
        let (aad, aad_len) = if self.is_tls13() {
            let mut aad = [0; 13];
            aad[..HEADER].copy_from_slice(&record[..HEADER]);
            (aad, HEADER)
        } else {
            self.additional_data(outer_type, body, inner)
        };
        let aad = Aad::from(&aad[..aad_len]);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (text, tag) = record[prefix..].split_at_mut(inner);
        let moved = out.len() >= inner;
        let plain: &[u8] = if moved {
            let out = &mut out[..inner];
            self.key
                .open_separate_gather(nonce, aad, text, tag, out)
                .map(|()| &*out)
        } else {
            self.key
                .open_in_place_separate_tag(nonce, aad, tag, text)
                .map(|text| &*text)
        }
        .map_err(|_| alert::BAD_RECORD_MAC)?;
        self.seq = self.seq.checked_add(1).ok_or(alert::INTERNAL_ERROR)?;

        let (content_type, len) = if self.is_tls13() {
            let last = plain
                .iter()
                .rposition(|&b| b != 0)
                .ok_or(alert::UNEXPECTED_MESSAGE)?;
            (plain[last], last)
        } else {
            (outer_type, inner)
        };
        if len > MAX_PLAINTEXT {
            return Err(alert::RECORD_OVERFLOW);
        }
        Ok(Opened {
            content_type,
            len,
            moved,
        })
    }

    /// The IV with the record number on its last eight bytes.
    fn counter_nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (n, s) in nonce[NONCE_LEN - 8..]
            .iter_mut()
            .zip(self.seq.to_be_bytes())
        {
            *n ^= s;
        }
        nonce
    }

    /// The additional data, and how much of the array it takes.
    fn additional_data(&self, outer_type: u8, body: usize, plain: usize) -> ([u8; 13], usize) {
        let mut aad = [0; 13];
        if self.is_tls13() {
            aad[..HEADER].copy_from_slice(&header(outer_type, body));
            return (aad, HEADER);
        }
        aad[..8].copy_from_slice(&self.seq.to_be_bytes());
        aad[8..].copy_from_slice(&header(outer_type, plain));
        (aad, aad.len())
    }
}

/// A record's header; the version says 1.2 in both versions.
fn header(content_type: u8, len: usize) -> [u8; HEADER] {
    let [hi, lo] = (len as u16).to_be_bytes();
    [content_type, 3, 3, hi, lo]
}

/// Length of the first record's body, once its header is there.
pub(super) fn body_len(bytes: &[u8]) -> Option<usize> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    Some(usize::from(u16::from_be_bytes([header[3], header[4]])))
}
