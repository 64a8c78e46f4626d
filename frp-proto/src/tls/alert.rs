//! Alerts (RFC 8446 §6), and TLS failures in the words of Go's programs, which users and scripts know.

use std::io;

use chrono::{DateTime, SecondsFormat};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, Error, InvalidMessage};

pub(super) const CLOSE_NOTIFY: u8 = 0;
pub(super) const UNEXPECTED_MESSAGE: u8 = 10;
pub(super) const BAD_RECORD_MAC: u8 = 20;
pub(super) const RECORD_OVERFLOW: u8 = 22;
pub(super) const DECODE_ERROR: u8 = 50;
pub(super) const INTERNAL_ERROR: u8 = 80;
pub(super) const USER_CANCELED: u8 = 90;

/// What an alert says.
pub(super) fn text(alert: u8) -> String {
    let text = match alert {
        CLOSE_NOTIFY => "close notify",
        UNEXPECTED_MESSAGE => "unexpected message",
        BAD_RECORD_MAC => "bad record MAC",
        21 => "decryption failed",
        RECORD_OVERFLOW => "record overflow",
        30 => "decompression failure",
        40 => "handshake failure",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "revoked certificate",
        45 => "expired certificate",
        46 => "unknown certificate",
        47 => "illegal parameter",
        48 => "unknown certificate authority",
        49 => "access denied",
        DECODE_ERROR => "error decoding message",
        51 => "error decrypting message",
        60 => "export restriction",
        70 => "protocol version not supported",
        71 => "insufficient security level",
        INTERNAL_ERROR => "internal error",
        86 => "inappropriate fallback",
        USER_CANCELED => "user canceled",
        100 => "no renegotiation",
        109 => "missing extension",
        110 => "unsupported extension",
        111 => "certificate unobtainable",
        112 => "unrecognized name",
        113 => "bad certificate status response",
        114 => "bad certificate hash value",
        115 => "unknown PSK identity",
        116 => "certificate required",
        120 => "no application protocol",
        121 => "encrypted client hello required",
        _ => return format!("alert({alert})"),
    };
    text.to_owned()
}

/// The error of an alert that the peer sent.
pub(super) fn received(alert: u8) -> io::Error {
    invalid_data(format!("remote error: tls: {}", text(alert)))
}

/// The error of a fault for which we send `alert`.
pub(super) fn sent(alert: u8) -> io::Error {
    invalid_data(format!("local error: tls: {}", text(alert)))
}

/// A failed handshake.
pub(super) fn handshake_error(e: &Error) -> io::Error {
    invalid_data(match e {
        Error::AlertReceived(alert) => return received(u8::from(*alert)),
        Error::InvalidCertificate(e) => {
            format!("tls: failed to verify certificate: {}", certificate_text(e))
        }
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "tls: first record does not look like a TLS handshake".to_owned(),
        e => format!("tls: {e}"),
    })
}

fn invalid_data(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn certificate_text(e: &CertificateError) -> String {
    const VALIDITY: &str = "x509: certificate has expired or is not yet valid: current time";
    match e {
        CertificateError::ExpiredContext { time, not_after } => {
            format!(
                "{VALIDITY} {} is after {}",
                rfc3339(*time),
                rfc3339(*not_after)
            )
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!(
                "{VALIDITY} {} is before {}",
                rfc3339(*time),
                rfc3339(*not_before)
            )
        }
        CertificateError::UnknownIssuer => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "x509: certificate specifies an incompatible key usage".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let name = expected.to_str();
            match expected {
                _ if !presented.is_empty() => {
                    format!(
                        "x509: certificate is valid for {}, not {name}",
                        presented.join(", ")
                    )
                }
                ServerName::IpAddress(_) => format!(
                    "x509: cannot validate certificate for {name} because it doesn't contain any IP SANs"
                ),
                _ => format!(
                    "x509: certificate is not valid for any names, but wanted to match {name}"
                ),
            }
        }
        CertificateError::BadEncoding => "x509: malformed certificate".to_owned(),
        e => format!("x509: {e}"),
    }
}

fn rfc3339(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|secs| DateTime::from_timestamp(secs, 0))
        .map_or_else(
            || time.as_secs().to_string(),
            |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
        )
}
