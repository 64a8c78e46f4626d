//! Key derivation, and the AES-128-CFB stream cipher of v1 control connections and encrypted proxies (wire.md §4.5, §6).
//!
//! Each direction has its own random IV, sent just before its first ciphertext byte. CFB decryption works on many
//! blocks at once; encryption is serial by nature.

pub mod aead;
mod stream;

use aes::Aes128;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockEncrypt, KeyInit};
use sha1::Sha1;

pub(crate) use stream::CfbStream;

const BLOCK: usize = 16;
/// Blocks that the cipher works on side by side when decrypting.
const LANES: usize = 32;
const SALT: &[u8] = b"frp";
const ROUNDS: u32 = 64;

/// PBKDF2-HMAC-SHA1(secret, `frp`, 64 rounds, 16 bytes). Costs 64 hashes: owners keep the result.
pub fn derive_key(secret: &[u8]) -> [u8; 16] {
    pbkdf2::pbkdf2_hmac_array::<Sha1, 16>(secret, SALT, ROUNDS)
}

/// State of CFB with 128-bit feedback at any byte position.
struct Cfb {
    cipher: Aes128,
    /// Up to `used`: ciphertext of the current block; beyond: key stream not used yet.
    register: [u8; BLOCK],
    used: usize,
}

impl Cfb {
    fn new(key: &[u8; 16], iv: &[u8; BLOCK]) -> Self {
        Self {
            cipher: Aes128::new(GenericArray::from_slice(key)),
            register: *iv,
            used: BLOCK,
        }
    }

    /// Turns the ciphertext in the register into the key stream of the next block.
    fn next_block(&mut self) {
        self.cipher
            .encrypt_block(GenericArray::from_mut_slice(&mut self.register));
        self.used = 0;
    }

    fn encrypt(&mut self, mut data: &mut [u8]) {
        if self.used < BLOCK {
            let (now, rest) = data.split_at_mut(data.len().min(BLOCK - self.used));
            self.encrypt_bytes(now);
            data = rest;
        }
        let (blocks, tail) = data.as_chunks_mut::<BLOCK>();
        let mut register = u128::from_ne_bytes(self.register);
        for block in blocks {
            let mut key_stream = register.to_ne_bytes();
            self.cipher
                .encrypt_block(GenericArray::from_mut_slice(&mut key_stream));
            register = u128::from_ne_bytes(key_stream) ^ u128::from_ne_bytes(*block);
            *block = register.to_ne_bytes();
        }
        self.register = register.to_ne_bytes();
        if !tail.is_empty() {
            self.next_block();
            self.encrypt_bytes(tail);
        }
    }

    fn encrypt_bytes(&mut self, data: &mut [u8]) {
        for byte in data {
            self.register[self.used] ^= *byte;
            *byte = self.register[self.used];
            self.used += 1;
        }
    }

    fn decrypt(&mut self, mut data: &mut [u8]) {
        if self.used < BLOCK {
            let (now, rest) = data.split_at_mut(data.len().min(BLOCK - self.used));
            self.decrypt_bytes(now);
            data = rest;
        }
        let (blocks, tail) = data.as_chunks_mut::<BLOCK>();
        let mut lanes = [GenericArray::from([0; BLOCK]); LANES];
        for blocks in blocks.chunks_mut(LANES) {
            let lanes = &mut lanes[..blocks.len()];
            for (lane, before) in lanes
                .iter_mut()
                .zip(std::iter::once(&self.register).chain(blocks.iter()))
            {
                *lane = GenericArray::from(*before);
            }
            if let Some(last) = blocks.last() {
                self.register = *last;
            }
            self.cipher.encrypt_blocks(lanes);
            for (block, lane) in blocks.iter_mut().zip(lanes) {
                *block = (u128::from_ne_bytes(*block) ^ u128::from_ne_bytes((*lane).into()))
                    .to_ne_bytes();
            }
        }
        if !tail.is_empty() {
            self.next_block();
            self.decrypt_bytes(tail);
        }
    }

    fn decrypt_bytes(&mut self, data: &mut [u8]) {
        for byte in data {
            let cipher = *byte;
            *byte ^= self.register[self.used];
            self.register[self.used] = cipher;
            self.used += 1;
        }
    }
}

/// One direction of sending: knows whether its IV has left.
pub struct CfbEncryptor {
    cfb: Cfb,
    /// The IV, until it is sent.
    iv: Option<[u8; BLOCK]>,
}

impl CfbEncryptor {
    /// With a fresh random IV; fails only when the system has no random bytes.
    pub fn new(key: &[u8; 16]) -> std::io::Result<Self> {
        let mut iv = [0; BLOCK];
        getrandom::fill(&mut iv).map_err(std::io::Error::other)?;
        Ok(Self::with_iv(key, iv))
    }

    /// With this IV, for tests and benchmarks.
    pub fn with_iv(key: &[u8; 16], iv: [u8; BLOCK]) -> Self {
        Self {
            cfb: Cfb::new(key, &iv),
            iv: Some(iv),
        }
    }

    /// Encrypts in place.
    pub fn encrypt(&mut self, data: &mut [u8]) {
        self.cfb.encrypt(data);
    }

    /// The IV that has to leave before the next ciphertext, once.
    pub fn take_iv(&mut self) -> Option<[u8; BLOCK]> {
        self.iv.take()
    }

    /// Ciphertext of `data`, with the IV in front the first time.
    pub fn encrypt_stream(&mut self, mut data: Vec<u8>) -> Vec<u8> {
        self.encrypt(&mut data);
        if let Some(iv) = self.take_iv() {
            data.splice(0..0, iv);
        }
        data
    }
}

/// One direction of receiving: collects the IV first.
pub struct CfbDecryptor {
    key: [u8; 16],
    iv: [u8; BLOCK],
    have: usize,
    cfb: Option<Cfb>,
}

impl CfbDecryptor {
    /// Waits for the peer's IV.
    pub fn new(key: &[u8; 16]) -> Self {
        Self {
            key: *key,
            iv: [0; BLOCK],
            have: 0,
            cfb: None,
        }
    }

    /// Decrypts in place what was received; gives the plain part, which is shorter while the IV arrives.
    pub fn decrypt_stream<'a>(&mut self, mut data: &'a mut [u8]) -> &'a mut [u8] {
        if self.cfb.is_none() {
            let (iv, rest) = data.split_at_mut(data.len().min(BLOCK - self.have));
            self.iv[self.have..self.have + iv.len()].copy_from_slice(iv);
            self.have += iv.len();
            data = rest;
            if self.have == BLOCK {
                self.cfb = Some(Cfb::new(&self.key, &self.iv));
            }
        }
        if let Some(cfb) = &mut self.cfb {
            cfb.decrypt(data);
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, unhex};
    use proptest::prelude::*;

    #[test]
    fn keys_of_the_specification() {
        for (secret, key) in [
            ("secret", "8a69215e54aca50e54f738de611a87f9"),
            ("abc", "62e5ed67fdd04e5f1f71d779ceb9667f"),
            ("", "cdc9dc4c472c37331281df4c232a8407"),
        ] {
            assert_eq!(hex(&derive_key(secret.as_bytes())), key);
        }
    }

    #[test]
    fn control_stream_of_the_specification() {
        let key = derive_key(b"secret");
        let iv: [u8; 16] = std::array::from_fn(|i| i as u8);
        let mut encryptor = CfbEncryptor::with_iv(&key, iv);
        let first = encryptor.encrypt_stream(unhex("7200000000000000027b7d"));
        let second = encryptor.encrypt_stream(unhex(
            "32000000000000002a7b2270726f78795f6e616d65223a22776562222c2272656d6f74655f61646472223a223a36303030227d",
        ));
        assert_eq!(
            hex(&[first, second].concat()),
            "000102030405060708090a0b0c0d0e0fc60f8df813e99ddbfa42ac44f0f2fcbcb704d9913cbf43fd767e6e726260080296c428f5f27662db3bdfbad085279e22ebe3173a8a8fc52d837ddbba7ed8"
        );
        let ping = CfbEncryptor::with_iv(&key, [0xa0; 16]).encrypt_stream(unhex(
            "6800000000000000027b7d6300000000000000147b2270726f78795f6e616d65223a22776562227d",
        ));
        assert_eq!(
            hex(&ping),
            "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a01f8b015445c446a31a9d46387656e6f0652fcd5566427690045c23a1078506a8e9bbeadff9bf28d6"
        );
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_bytes(
            data in prop::collection::vec(any::<u8>(), 0..3000),
            cuts in prop::collection::vec(0usize..600, 1..40),
        ) {
            let key = [7; 16];
            let whole = CfbEncryptor::with_iv(&key, [9; 16]).encrypt_stream(data.clone());
            let mut encryptor = CfbEncryptor::with_iv(&key, [9; 16]);
            let mut sizes = cuts.iter().cycle();
            let (mut rest, mut cipher) = (&data[..], Vec::new());
            if rest.is_empty() {
                cipher.extend(encryptor.encrypt_stream(Vec::new()));
            }
            let mut stuck = 0;
            while !rest.is_empty() && stuck < 100 {
                let n = (*sizes.next().unwrap()).min(rest.len());
                stuck = if n == 0 { stuck + 1 } else { 0 };
                cipher.extend(encryptor.encrypt_stream(rest[..n].to_vec()));
                rest = &rest[n..];
            }
            cipher.extend(encryptor.encrypt_stream(rest.to_vec()));
            prop_assert_eq!(&cipher, &whole);

            let (mut decryptor, mut plain) = (CfbDecryptor::new(&key), Vec::new());
            let mut rest = &mut cipher[..];
            for n in cuts {
                let (now, later) = rest.split_at_mut(n.min(rest.len()));
                plain.extend_from_slice(decryptor.decrypt_stream(now));
                rest = later;
            }
            plain.extend_from_slice(decryptor.decrypt_stream(rest));
            prop_assert_eq!(plain, data);
        }
    }
}
