//! A TLS server that takes any server name.
//!
//! Go's visitors name the peer by `ip:port`, which is no host name, and rustls ends such a handshake without a way to say
//! otherwise. Here the extension has another type, of the range for private use, by the time rustls reads the hello, so to rustls
//! there is no name. The transcript, which both sides must agree on, is hashed with the type that the client has sent: the hash
//! functions of these suites put it back. Nothing is kept for that, and nothing of the handshake's security is given up: a client
//! that sends the private type itself only fails to agree.

use std::any::Any;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn::{ConnectionId, Side, TransportErrorCode};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, aws_lc_rs::cipher_suite};
use rustls::{SupportedCipherSuite, Tls13CipherSuite};

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: [u8; 2] = [0, 0];
/// What rustls sees in its place.
const HIDDEN: [u8; 2] = [0xff, 0x5e];
/// Longest handshake message of a client without a certificate.
const MAX_MESSAGE: usize = 32 * 1024;

static BASE: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];
static HASHES: LazyLock<Vec<Restoring>> = LazyLock::new(|| {
    let suites = BASE.iter().filter_map(SupportedCipherSuite::tls13);
    suites.map(|s| Restoring(s.common.hash_provider)).collect()
});
static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    let suites = BASE.iter().filter_map(SupportedCipherSuite::tls13);
    suites
        .zip(&*HASHES)
        .map(|(suite, hash)| Tls13CipherSuite {
            common: CipherSuiteCommon {
                suite: suite.common.suite,
                hash_provider: hash,
                confidentiality_limit: suite.common.confidentiality_limit,
            },
            hkdf_provider: suite.hkdf_provider,
            aead_alg: suite.aead_alg,
            quic: suite.quic,
        })
        .collect()
});

/// A provider for a [`Server`]: the TLS 1.3 suites of another one, in its order.
pub(super) fn provider(of: &CryptoProvider) -> CryptoProvider {
    let suites = of.cipher_suites.iter().filter_map(|suite| {
        let ours = SUITES.iter().find(|s| s.common.suite == suite.suite());
        ours.map(SupportedCipherSuite::Tls13)
    });
    CryptoProvider {
        cipher_suites: suites.collect(),
        ..of.clone()
    }
}

/// QUIC's view of a server whose provider is from [`provider`].
pub(super) struct Server(pub(super) Arc<QuicServerConfig>);

impl ServerConfig for Server {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn Session> {
        Box::new(Nameless {
            inner: self.0.clone().start_session(version, parameters),
            partial: Vec::new(),
        })
    }
}

/// A handshake that never hears of a name.
struct Nameless {
    inner: Box<dyn Session>,
    /// The beginning of a message.
    partial: Vec<u8>,
}

impl Session for Nameless {
    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.partial.extend_from_slice(bytes);
        let mut ready = false;
        while let Some(header) = self.partial.first_chunk::<4>() {
            let length = message_length(*header);
            if length > MAX_MESSAGE {
                return Err(TransportError {
                    code: TransportErrorCode::PROTOCOL_VIOLATION,
                    frame: None,
                    reason: "TLS message too long".into(),
                });
            }
            if self.partial.len() < length {
                break;
            }
            let rest = self.partial.split_off(length);
            let mut message = mem::replace(&mut self.partial, rest);
            replace(&mut message, SERVER_NAME, HIDDEN);
            ready |= self.inner.read_handshake(&message)?;
        }
        Ok(ready)
    }

    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.inner.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys()
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

/// A hash function that sees hellos as they were sent.
struct Restoring(&'static dyn Hash);

impl Hash for Restoring {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Transcript(self.0.start()))
    }

    fn hash(&self, data: &[u8]) -> Output {
        self.0.hash(data)
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }
}

struct Transcript(Box<dyn Context>);

impl Context for Transcript {
    fn fork_finish(&self) -> Output {
        self.0.fork_finish()
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self(self.0.fork()))
    }

    fn finish(self: Box<Self>) -> Output {
        self.0.finish()
    }

    fn update(&mut self, mut data: &[u8]) {
        // It comes in whole messages, sometimes in several.
        while let Some(header) = data.first_chunk::<4>() {
            let Some((message, rest)) = data.split_at_checked(message_length(*header)) else {
                break;
            };
            if header[0] == CLIENT_HELLO {
                let mut message = message.to_vec();
                replace(&mut message, HIDDEN, SERVER_NAME);
                self.0.update(&message);
            } else {
                self.0.update(message);
            }
            data = rest;
        }
        self.0.update(data);
    }
}

/// Length of a handshake message with its header.
fn message_length([_, length @ ..]: [u8; 4]) -> usize {
    4 + (usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]))
}

/// Changes the type of an extension, if the message is a hello that has it.
fn replace(message: &mut [u8], from: [u8; 2], to: [u8; 2]) {
    if let Some(at) = extension(message, from) {
        message[at].copy_from_slice(&to);
    }
}

/// Where the type of an extension stands in a hello.
fn extension(message: &[u8], kind: [u8; 2]) -> Option<Range<usize>> {
    /// Header, version and random.
    const FIXED: usize = 4 + 2 + 32;
    if message.first() != Some(&CLIENT_HELLO) {
        return None;
    }
    let short = |at: usize| Some(usize::from(*message.get(at)?));
    let long = |at: usize| Some(short(at)? << 8 | short(at + 1)?);
    let mut at = FIXED;
    // Session id, suites, compression methods.
    at += 1 + short(at)?;
    at += 2 + long(at)?;
    at += 1 + short(at)?;
    let end = at + 2 + long(at)?;
    at += 2;
    while at + 4 <= end {
        if *message.get(at..at + 2)? == kind {
            return Some(at..at + 2);
        }
        at += 4 + long(at + 2)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with these extensions.
    fn hello(extensions: &[([u8; 2], &[u8])]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([1, 9, 0, 2, 0x13, 1, 1, 0]);
        let list: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, data)| [kind, &(data.len() as u16).to_be_bytes(), *data].concat())
            .collect();
        body.extend((list.len() as u16).to_be_bytes());
        body.extend(list);
        let mut message = (body.len() as u32 | 1 << 24).to_be_bytes().to_vec();
        message.extend(body);
        message
    }

    #[test]
    fn the_name_is_hidden_and_the_transcript_is_what_was_sent() {
        let sent = hello(&[([0, 43], b"abc"), (SERVER_NAME, b"name"), ([0, 51], b"")]);
        let mut seen = sent.clone();
        replace(&mut seen, SERVER_NAME, HIDDEN);
        assert_eq!(
            seen,
            hello(&[([0, 43], b"abc"), (HIDDEN, b"name"), ([0, 51], b"")])
        );
        let mut others = vec![254, 0, 0, 2, 1, 2];
        for messages in [seen.clone(), [&others[..], &seen].concat()] {
            let mut transcript = HASHES[0].start();
            transcript.update(&messages);
            transcript.update(&[20, 0, 0, 1, 0]);
            let mut expected = messages[..messages.len() - seen.len()].to_vec();
            expected.extend(&sent);
            expected.extend([20, 0, 0, 1, 0]);
            assert_eq!(
                transcript.fork_finish().as_ref(),
                HASHES[0].hash(&expected).as_ref()
            );
        }
        replace(&mut others, SERVER_NAME, HIDDEN);
        assert_eq!(others, [254, 0, 0, 2, 1, 2]);
    }

    #[test]
    fn no_beginning_of_a_hello_is_misread() {
        let hello = hello(&[([0, 43], b"abc"), (SERVER_NAME, b"name")]);
        for end in 0..hello.len() {
            extension(&hello[..end], HIDDEN);
        }
        assert_eq!(extension(&hello, HIDDEN), None);
    }
}
