//! Keys and records of the v2 control connection (wire.md §3.4).

use std::io;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::{Buf, BytesMut};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

const TAG: usize = 16;
/// Plaintext of one record at most.
const MAX_PLAIN: usize = 65_536;
/// Records of one direction under AES-GCM at most.
const MAX_GCM_RECORDS: u64 = 1 << 32;

/// A negotiable cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `aes-256-gcm`.
    Aes256Gcm,
    /// `xchacha20-poly1305`.
    XChaCha20Poly1305,
}

impl Algorithm {
    /// The algorithm of a wire name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Aes256Gcm, Self::XChaCha20Poly1305]
            .into_iter()
            .find(|a| a.name() == name)
    }

    /// Wire name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::XChaCha20Poly1305 => "xchacha20-poly1305",
        }
    }

    /// Both, the one that is fast on this CPU first.
    pub fn preferred() -> [Self; 2] {
        if fast_aes() {
            [Self::Aes256Gcm, Self::XChaCha20Poly1305]
        } else {
            [Self::XChaCha20Poly1305, Self::Aes256Gcm]
        }
    }

    /// Key of one direction: HKDF-SHA256 of the token, salted with the transcript.
    pub fn key(self, token: &[u8], transcript: &[u8; 32], direction: &str) -> [u8; 32] {
        use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
        let info = format!("frp wire v2 control aead {} {direction}", self.name());
        let mut key = [0; 32];
        Salt::new(HKDF_SHA256, transcript)
            .extract(token)
            .expand(&[info.as_bytes()], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .expect("32 bytes are within HKDF-SHA256's bounds");
        key
    }

    fn nonce_len(self) -> usize {
        match self {
            Self::Aes256Gcm => 12,
            Self::XChaCha20Poly1305 => 24,
        }
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn fast_aes() -> bool {
    std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn fast_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn fast_aes() -> bool {
    false
}

/// Hash of both hellos, exactly as they were on the wire.
pub fn transcript(client_hello: &[u8], server_hello: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update("frp wire v2 crypto transcript");
    for (label, payload) in [
        ("client hello", client_hello),
        ("server hello", server_hello),
    ] {
        hash.update([0]);
        hash.update(label);
        hash.update([0]);
        hash.update((payload.len() as u64).to_be_bytes());
        hash.update(payload);
    }
    hash.finalize().into()
}

enum Key {
    Gcm(LessSafeKey),
    XChaCha(XChaCha20Poly1305),
}

impl Key {
    fn new(algorithm: Algorithm, key: &[u8; 32]) -> Self {
        match algorithm {
            Algorithm::Aes256Gcm => Self::Gcm(LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM, key).expect("AES-256 keys have 32 bytes"),
            )),
            Algorithm::XChaCha20Poly1305 => Self::XChaCha(XChaCha20Poly1305::new(key.into())),
        }
    }
}

/// Nonces of one direction: the stream nonce plus the record's number.
struct Nonces {
    stream: Vec<u8>,
    records: u64,
}

impl Nonces {
    fn next(&mut self, key: &Key) -> io::Result<Vec<u8>> {
        let exhausted = || io::Error::other("aead stream nonces are used up");
        if matches!(key, Key::Gcm(_)) && self.records >= MAX_GCM_RECORDS {
            return Err(exhausted());
        }
        let (mut nonce, mut carry) = (self.stream.clone(), u128::from(self.records));
        for byte in nonce.iter_mut().rev() {
            carry += u128::from(*byte);
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        if carry > 0 {
            return Err(exhausted());
        }
        self.records += 1;
        Ok(nonce)
    }

    fn aad(&self, length: [u8; 4]) -> Vec<u8> {
        [&self.stream[..], &length].concat()
    }
}

/// Sending direction.
pub struct Encryptor {
    key: Key,
    nonces: Nonces,
    started: bool,
}

impl Encryptor {
    /// With a fresh stream nonce; fails only when the system has no random bytes.
    pub fn new(algorithm: Algorithm, key: &[u8; 32]) -> io::Result<Self> {
        let mut nonce = vec![0; algorithm.nonce_len()];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        Ok(Self::with_nonce(algorithm, key, nonce))
    }

    fn with_nonce(algorithm: Algorithm, key: &[u8; 32], stream: Vec<u8>) -> Self {
        Self {
            key: Key::new(algorithm, key),
            nonces: Nonces { stream, records: 0 },
            started: false,
        }
    }

    /// Records for `plain`, with the stream nonce in front the first time.
    pub fn encrypt(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(plain.len() + 64);
        if !std::mem::replace(&mut self.started, true) {
            out.extend_from_slice(&self.nonces.stream);
        }
        for piece in plain.chunks(MAX_PLAIN) {
            let length = u32::try_from(piece.len() + TAG)
                .expect("a piece is at most 64 KiB")
                .to_be_bytes();
            let (nonce, aad) = (self.nonces.next(&self.key)?, self.nonces.aad(length));
            out.extend_from_slice(&length);
            let start = out.len();
            out.extend_from_slice(piece);
            let failed = |_| io::Error::other("aead stream encryption failed");
            match &self.key {
                Key::Gcm(key) => {
                    let nonce =
                        Nonce::try_assume_unique_for_key(&nonce).map_err(io::Error::other)?;
                    let tag = key
                        .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[start..])
                        .map_err(io::Error::other)?;
                    out.extend_from_slice(tag.as_ref());
                }
                Key::XChaCha(key) => {
                    let tag = key
                        .encrypt_in_place_detached(
                            XNonce::from_slice(&nonce),
                            &aad,
                            &mut out[start..],
                        )
                        .map_err(failed)?;
                    out.extend_from_slice(&tag);
                }
            }
        }
        Ok(out)
    }
}

/// Receiving direction.
pub struct Decryptor {
    algorithm: Algorithm,
    key: Key,
    /// Known once the peer's stream nonce has arrived.
    nonces: Option<Nonces>,
}

impl Decryptor {
    /// Waits for the peer's stream nonce.
    pub fn new(algorithm: Algorithm, key: &[u8; 32]) -> Self {
        Self {
            algorithm,
            key: Key::new(algorithm, key),
            nonces: None,
        }
    }

    /// Takes whole records from the front of `raw` and appends their plaintext to `plain`.
    pub fn decrypt(&mut self, raw: &mut BytesMut, plain: &mut BytesMut) -> io::Result<()> {
        let nonces = match &mut self.nonces {
            Some(nonces) => nonces,
            None if raw.len() < self.algorithm.nonce_len() => return Ok(()),
            None => {
                let stream = raw.split_to(self.algorithm.nonce_len()).to_vec();
                self.nonces.insert(Nonces { stream, records: 0 })
            }
        };
        while let Some(&length) = raw.first_chunk::<4>() {
            let record = u32::from_be_bytes(length) as usize;
            if !(TAG..=MAX_PLAIN + TAG).contains(&record) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "aead stream ciphertext length {record} is not within {TAG}..={}",
                        MAX_PLAIN + TAG
                    ),
                ));
            }
            if raw.len() < 4 + record {
                raw.reserve(4 + record - raw.len());
                return Ok(());
            }
            raw.advance(4);
            let mut cipher = raw.split_to(record);
            let (nonce, aad) = (nonces.next(&self.key)?, nonces.aad(length));
            let forged = || {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "aead stream authentication failed",
                )
            };
            match &self.key {
                Key::Gcm(key) => {
                    let nonce =
                        Nonce::try_assume_unique_for_key(&nonce).map_err(io::Error::other)?;
                    let opened = key
                        .open_in_place(nonce, Aad::from(aad), &mut cipher)
                        .map_err(|_| forged())?;
                    plain.extend_from_slice(opened);
                }
                Key::XChaCha(key) => {
                    let (data, tag) = cipher.split_at_mut(record - TAG);
                    key.decrypt_in_place_detached(
                        XNonce::from_slice(&nonce),
                        &aad,
                        data,
                        (&*tag).into(),
                    )
                    .map_err(|_| forged())?;
                    plain.extend_from_slice(data);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, unhex};

    const CLIENT: &str = r#"{"bootstrap":{"transport":"tcp","tls":true,"tcpMux":true},"capabilities":{"message":{"codecs":["json"]},"crypto":{"algorithms":["aes-256-gcm","xchacha20-poly1305"],"clientRandom":"ERERERERERERERERERERERERERERERERERERERERERE="}}}"#;

    fn server_hello(algorithm: Algorithm) -> String {
        format!(
            r#"{{"selected":{{"message":{{"codec":"json"}},"crypto":{{"algorithm":"{}","serverRandom":"IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI="}}}}}}"#,
            algorithm.name()
        )
    }

    #[test]
    fn keys_and_records_of_the_specification() {
        for (algorithm, hash, to_server, to_client, nonce, records) in [
            (
                Algorithm::Aes256Gcm,
                "f6a087d3cae76b455383f27a7bf82553094ec19df7276af461d9d55163fe21e4",
                "6d9f57a7ef6e0730194bc6ae3195a896fade1d260465abd23921f4508d293444",
                "b7f9410e93219f37a7a0cf0314f6607971a81958c730ea27c596843be26bf6dc",
                "000102030405060708090aff",
                "00000018a086b6e0931220bef8e5f7525a0409b9688e6ac7f5450c3c0000001416f22c66e0e14900bf33c17d0975d73c007facd2",
            ),
            (
                Algorithm::XChaCha20Poly1305,
                "86500dc25c1015a6066b5fa36d70549a990ddb6f0dce9a21d1b81f76726ee481",
                "65b72ed6993368f75dce003fc7f03ed15846bb063063d80cf0e7a1ebd8ee395c",
                "a71db16c0bd0bcaaad4d34141f7ef8d539b2a9240557f8470da431ad69af73b0",
                "000102030405060708090a0b0c0d0e0f10111213141516ff",
                "0000001801fee79fdfd90b87f9cbf3eb659bb34de015aff8954b05300000001459a49cb3d3b0a8c056e9e1bfdd4c2104da2d7849",
            ),
        ] {
            let transcript = transcript(CLIENT.as_bytes(), server_hello(algorithm).as_bytes());
            assert_eq!(hex(&transcript), hash);
            let key = |direction| algorithm.key(b"secret", &transcript, direction);
            assert_eq!(hex(&key("client-to-server")), to_server);
            assert_eq!(hex(&key("server-to-client")), to_client);

            let mut encryptor =
                Encryptor::with_nonce(algorithm, &key("server-to-client"), unhex(nonce));
            let mut wire = encryptor.encrypt(&unhex("0010000000000004")).unwrap();
            wire.extend(encryptor.encrypt(&unhex("00077b7d")).unwrap());
            assert_eq!(hex(&wire), format!("{nonce}{records}"));

            for step in [1, 7, wire.len()] {
                let mut decryptor = Decryptor::new(algorithm, &key("server-to-client"));
                let (mut raw, mut plain) = (BytesMut::new(), BytesMut::new());
                for part in wire.chunks(step) {
                    raw.extend_from_slice(part);
                    decryptor.decrypt(&mut raw, &mut plain).unwrap();
                }
                assert_eq!(hex(&plain), "001000000000000400077b7d");
            }
            let last = wire.len() - 1;
            wire[last] ^= 1;
            let mut raw = BytesMut::from(&wire[..]);
            assert!(
                Decryptor::new(algorithm, &key("server-to-client"))
                    .decrypt(&mut raw, &mut BytesMut::new())
                    .is_err()
            );
        }
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_before_anything_is_awaited() {
        for length in [0u32, 15, 65_553, u32::MAX] {
            let mut raw = BytesMut::from(&[0; 12][..]);
            raw.extend_from_slice(&length.to_be_bytes());
            let mut decryptor = Decryptor::new(Algorithm::Aes256Gcm, &[0; 32]);
            assert!(
                decryptor.decrypt(&mut raw, &mut BytesMut::new()).is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn long_plaintext_is_split() {
        let data = vec![5; MAX_PLAIN * 2 + 1];
        let wire = Encryptor::new(Algorithm::Aes256Gcm, &[1; 32])
            .unwrap()
            .encrypt(&data)
            .unwrap();
        let (mut raw, mut plain) = (BytesMut::from(&wire[..]), BytesMut::new());
        Decryptor::new(Algorithm::Aes256Gcm, &[1; 32])
            .decrypt(&mut raw, &mut plain)
            .unwrap();
        assert!(plain == data && raw.is_empty());
    }
}
