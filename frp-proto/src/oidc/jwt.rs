//! Signed tokens (RFC 7515) and the keys that verify them (RFC 7517). Nothing of a token is believed before its signature.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self as sig, RsaParameters, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Signature algorithms that are known; those of shared secrets, and `none`, are not.
pub(super) const ALGORITHMS: [&str; 10] = [
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA",
];

/// A token, taken apart; what it says is not verified.
pub(super) struct Token<'a> {
    pub(super) algorithm: String,
    key_id: String,
    /// What is signed: header and payload, as they came.
    signed: &'a [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a compact token apart; the error ends `malformed jwt: `.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err("go-jose/go-jose: compact JWS format must have three parts".into());
        };
        let header: Value =
            serde_json::from_slice(&decode(header)?).map_err(|_| "invalid header")?;
        let field = |name: &str| header[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            algorithm: field("alg"),
            key_id: field("kid"),
            signed: &text.as_bytes()[..text.len() - signature.len() - 1],
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }

    /// Whether one of the keys has signed it.
    pub(super) fn is_signed_by(&self, keys: &[Key]) -> bool {
        keys.iter()
            .filter(|key| self.key_id.is_empty() || key.id == self.key_id)
            .any(|key| key.verifies(&self.algorithm, self.signed, &self.signature))
    }

    /// What it claims.
    pub(super) fn claims(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.payload)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(part).map_err(|e| match e {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            format!("illegal base64 data at input byte {at}")
        }
        _ => format!("illegal base64 data at input byte {}", part.len()),
    })
}

/// A public key of a provider.
pub(super) struct Key {
    id: String,
    material: Material,
}

enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point on the named curve.
    Ec {
        curve: String,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
}

/// The keys of a key set that can be used; others are passed over.
pub(super) fn keys(set: &[u8]) -> Result<Vec<Key>, serde_json::Error> {
    let set: Value = serde_json::from_slice(set)?;
    let keys = set["keys"].as_array().map(Vec::as_slice);
    Ok(keys.unwrap_or_default().iter().filter_map(key).collect())
}

fn key(jwk: &Value) -> Option<Key> {
    let text = |name: &str| jwk[name].as_str();
    let number = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let material = match text("kty")? {
        "RSA" => Material::Rsa {
            n: number("n")?,
            e: number("e")?,
        },
        "EC" => {
            let curve = text("crv")?;
            let size = match curve {
                "P-256" => 32,
                "P-384" => 48,
                "P-521" => 66,
                _ => return None,
            };
            let mut point = vec![4];
            for coordinate in [number("x")?, number("y")?] {
                // Some providers leave out leading zeros.
                let missing = size - coordinate.len().min(size);
                point.resize(point.len() + missing, 0);
                point.extend_from_slice(&coordinate);
            }
            Material::Ec {
                curve: curve.to_owned(),
                point,
            }
        }
        "OKP" if text("crv")? == "Ed25519" => Material::Ed25519(number("x")?),
        _ => return None,
    };
    Some(Key {
        id: text("kid").unwrap_or_default().to_owned(),
        material,
    })
}

impl Key {
    fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => rsa(algorithm).is_some_and(|parameters| {
                PublicKeyComponents { n, e }
                    .verify(parameters, signed, signature)
                    .is_ok()
            }),
            Material::Ec { curve, point } => {
                let algorithm: &dyn VerificationAlgorithm = match (algorithm, curve.as_str()) {
                    ("ES256", "P-256") => &sig::ECDSA_P256_SHA256_FIXED,
                    ("ES384", "P-384") => &sig::ECDSA_P384_SHA384_FIXED,
                    ("ES512", "P-521") => &sig::ECDSA_P521_SHA512_FIXED,
                    _ => return false,
                };
                algorithm.verify_sig(point, signed, signature).is_ok()
            }
            Material::Ed25519(key) => {
                algorithm == "EdDSA" && sig::ED25519.verify_sig(key, signed, signature).is_ok()
            }
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &sig::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &sig::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &sig::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &sig::RSA_PSS_2048_8192_SHA256,
        "PS384" => &sig::RSA_PSS_2048_8192_SHA384,
        "PS512" => &sig::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, appendix A.3.
    const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    const ES256_KEYS: &str = r#"{"keys":[{"kty":"what"},{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    /// RFC 8037, appendix A.4.
    const EDDSA: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    const EDDSA_KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[test]
    fn signatures_of_the_specifications() {
        for (token, set) in [(ES256, ES256_KEYS), (EDDSA, EDDSA_KEYS)] {
            let keys = keys(set.as_bytes()).unwrap();
            assert_eq!(keys.len(), 1);
            assert!(Token::parse(token).unwrap().is_signed_by(&keys));
            let forged = token.replacen("ey", "fy", 1);
            assert!(Token::parse(&forged).is_err());
            let other = format!("{}A{}", &token[..30], &token[31..]);
            assert!(Token::parse(&other).is_ok_and(|t| !t.is_signed_by(&keys)));
        }
        assert_eq!(Token::parse(ES256).unwrap().claims().unwrap()["iss"], "joe");
    }

    #[test]
    fn a_key_verifies_only_its_own_algorithm() {
        let keys = keys(EDDSA_KEYS.as_bytes()).unwrap();
        assert!(!Token::parse(ES256).unwrap().is_signed_by(&keys));
    }

    #[test]
    fn what_is_no_token() {
        for (text, why) in [
            (
                "opaque",
                "go-jose/go-jose: compact JWS format must have three parts",
            ),
            (
                "a.b.c.d",
                "go-jose/go-jose: compact JWS format must have three parts",
            ),
            ("!!.b.c", "illegal base64 data at input byte 0"),
            ("e30.!!.c", "illegal base64 data at input byte 0"),
            ("YQ.YQ.YQ", "invalid header"),
        ] {
            assert_eq!(Token::parse(text).err().unwrap(), why, "{text}");
        }
    }
}
