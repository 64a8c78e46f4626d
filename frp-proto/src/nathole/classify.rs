//! Kinds of NAT (nathole.md §4).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::MAX_ADDRESSES;

/// Differences between ports that are regular: the next port can be guessed.
const REGULAR: std::ops::RangeInclusive<u16> = 1..=5;

/// How hard a NAT is to get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatType {
    /// Every destination sees the same address.
    Easy,
    /// Different destinations see different addresses.
    Hard,
}

/// What changes from destination to destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Behavior {
    NoChange,
    IpChanged,
    PortChanged,
    BothChanged,
}

impl fmt::Display for NatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Easy => "EasyNAT",
            Self::Hard => "HardNAT",
        })
    }
}

impl fmt::Display for Behavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoChange => "BehaviorNoChange",
            Self::IpChanged => "BehaviorIPChanged",
            Self::PortChanged => "BehaviorPortChanged",
            Self::BothChanged => "BehaviorBothChanged",
        })
    }
}

/// What the addresses of a peer tell about its NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// How hard it is.
    pub nat_type: NatType,
    /// What changes.
    pub behavior: Behavior,
    /// From the lowest to the highest port, if only ports change.
    pub ports_difference: u16,
    /// Ports change by so little that the next one can be guessed.
    pub regular: bool,
    /// There is no NAT: the peer has an address that is seen from outside.
    pub public: bool,
}

/// Addresses that tell nothing. The texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum ClassifyError {
    #[error("not enough addresses")]
    TooFew,
    #[error("too many addresses")]
    TooMany,
    #[error("address {0}: missing port in address")]
    NoPort(String),
    #[error("address {0}: invalid address")]
    Address(String),
}

/// Reads the addresses that a peer has sent.
pub fn parse(addresses: &[String]) -> Result<Vec<SocketAddr>, ClassifyError> {
    if addresses.len() > MAX_ADDRESSES {
        return Err(ClassifyError::TooMany);
    }
    let parsed = addresses.iter().map(|text| {
        text.parse().map_err(|_| {
            let text: String = text.chars().take(super::MAX_ID).collect();
            if text.contains(':') {
                ClassifyError::Address(text)
            } else {
                ClassifyError::NoPort(text)
            }
        })
    });
    parsed.collect()
}

/// Classifies a NAT by the addresses that different servers see, at least two, and the host's own.
pub fn classify(mapped: &[SocketAddr], local: &[IpAddr]) -> Result<Feature, ClassifyError> {
    let [first, others @ ..] = mapped else {
        return Err(ClassifyError::TooFew);
    };
    if others.is_empty() {
        return Err(ClassifyError::TooFew);
    }
    let ip_changed = others.iter().any(|a| a.ip() != first.ip());
    let port_changed = others.iter().any(|a| a.port() != first.port());
    let behavior = match (ip_changed, port_changed) {
        (false, false) => Behavior::NoChange,
        (true, false) => Behavior::IpChanged,
        (false, true) => Behavior::PortChanged,
        (true, true) => Behavior::BothChanged,
    };
    let ports = || mapped.iter().map(SocketAddr::port);
    let ports_difference = match behavior {
        Behavior::PortChanged => ports().max().unwrap_or(0) - ports().min().unwrap_or(0),
        _ => 0,
    };
    Ok(Feature {
        nat_type: match behavior {
            Behavior::NoChange => NatType::Easy,
            _ => NatType::Hard,
        },
        behavior,
        ports_difference,
        regular: REGULAR.contains(&ports_difference),
        public: mapped.iter().any(|a| local.contains(&a.ip())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mapped: &[&str], local: &[&str]) -> Result<Feature, ClassifyError> {
        let mapped: Vec<_> = mapped.iter().map(|a| (*a).to_owned()).collect();
        let local: Vec<_> = local.iter().map(|a| a.parse().unwrap()).collect();
        classify(&parse(&mapped)?, &local)
    }

    #[test]
    fn changes_of_ip_and_port_tell_the_kind() {
        for (second, nat_type, behavior, difference, regular) in [
            ("1.1.1.1:100", "EasyNAT", "BehaviorNoChange", 0, false),
            ("1.1.1.1:105", "HardNAT", "BehaviorPortChanged", 5, true),
            ("1.1.1.1:94", "HardNAT", "BehaviorPortChanged", 6, false),
            ("1.1.1.2:100", "HardNAT", "BehaviorIPChanged", 0, false),
            ("1.1.1.2:101", "HardNAT", "BehaviorBothChanged", 0, false),
        ] {
            let feature = of(&["1.1.1.1:100", second], &["10.0.0.1"]).unwrap();
            assert_eq!(feature.nat_type.to_string(), nat_type, "{second}");
            assert_eq!(feature.behavior.to_string(), behavior, "{second}");
            assert_eq!(feature.ports_difference, difference, "{second}");
            assert_eq!(feature.regular, regular, "{second}");
            assert!(!feature.public);
        }
        let addresses = ["1.1.1.1:1", "1.1.1.1:2"];
        assert!(of(&addresses, &["10.0.0.1", "1.1.1.1"]).unwrap().public);
    }

    #[test]
    fn useless_addresses_are_refused() {
        let error = |mapped: &[&str]| of(mapped, &[]).unwrap_err().to_string();
        assert_eq!(error(&[]), "not enough addresses");
        assert_eq!(error(&["1.1.1.1:1"]), "not enough addresses");
        assert_eq!(
            error(&["1.1.1.1:1", "nope"]),
            "address nope: missing port in address"
        );
        assert!(error(&["1.1.1.1:1", "a:b"]).ends_with("invalid address"));
        assert_eq!(error(&["1.1.1.1:1"; 33]), "too many addresses");
    }
}
