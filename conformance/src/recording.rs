//! Recorded sessions of upstream's programs: the bytes between frpc and frps, and what they say.
//!
//! A recording is a JSON file in `vectors/`. Its bytes are as they were on the wire, so they hold random IVs, nonces, ids,
//! times and ports; [`decode`](Recording::decode) turns them into messages and payload.

mod decode;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use frp_proto::msg::Version;

use crate::Outcome;

pub use decode::{Session, Work, layered};

/// One session with one user, from the first connection to the user's last byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recording {
    /// Version of both programs.
    pub upstream: String,
    /// `v1` or `v2`.
    pub wire: String,
    /// `transport.tcpMux` of both.
    pub mux: bool,
    /// `transport.useEncryption` of the proxy.
    pub encryption: bool,
    /// `transport.useCompression` of the proxy.
    pub compression: bool,
    /// `auth.token` of both.
    pub token: String,
    /// What the user sent, and got back from an echo service.
    pub request: String,
    /// TCP connections of frpc to frps in the order they were made; TLS is off.
    pub connections: Vec<Vec<Chunk>>,
}

/// Bytes in one direction, until the other side said something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chunk {
    /// Who sent them.
    pub from: Sender,
    /// The bytes.
    #[serde(with = "hex")]
    pub hex: Vec<u8>,
}

/// A side of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sender {
    /// The client.
    Frpc,
    /// The server.
    Frps,
}

impl Recording {
    /// The wire protocol.
    pub fn version(&self) -> Version {
        if self.wire == "v2" {
            Version::V2
        } else {
            Version::V1
        }
    }

    /// Name of the file, without extension: what makes the session different from others.
    pub fn name(&self) -> String {
        let mut name = self.wire.clone();
        for (on, part) in [
            (self.mux, "mux"),
            (!self.mux, "mux_off"),
            (self.encryption, "encryption"),
            (self.compression, "compression"),
        ] {
            if on {
                name.push('-');
                name.push_str(part);
            }
        }
        name
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Outcome<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// Writes the file of [`Recording::name`].
    pub fn save(&self, directory: &Path) -> Outcome<PathBuf> {
        let path = directory.join(self.name()).with_extension("json");
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// Where recordings are kept.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Bytes as hex digits.
mod hex {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Write as _;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            let _ = write!(text, "{byte:02x}");
        }
        s.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        let digits = text.chars().map(|c| c.to_digit(16).map(|d| d as u8));
        let digits: Option<Vec<u8>> = digits.collect();
        match digits {
            Some(digits) if digits.len() % 2 == 0 => {
                Ok(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
            }
            _ => Err(D::Error::custom("not pairs of hex digits")),
        }
    }
}
