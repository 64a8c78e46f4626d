//! `acceptProxies.localTargets`: which addresses the proxies that frps pushes may have behind them.
//!
//! An address is allowed by an address or a network, a host name by the same name. Names are never resolved to decide: what
//! they mean to the resolver is not known before a user comes, and may be something else then.

use std::net::IpAddr;

use ipnet::IpNet;

use super::units::number_spans;

/// What an entry looks like, for errors.
const EXPECTED: &str = "an address, network or host name with a port or range of ports was expected, such as \
     \"127.0.0.1:8080\", \"192.168.1.0/24:80-90\" or \"[::1]:22\"";

/// Hosts and ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalTargets(Vec<Target>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    host: Host,
    first_port: u16,
    last_port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Network(IpNet),
    /// In lower case.
    Name(String),
}

impl LocalTargets {
    /// Reads the entries; the error names the one that cannot be used, and what was expected.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let target = |entry: &String| {
            Target::parse(entry).map_err(|why| {
                let why = why.unwrap_or_else(|| EXPECTED.to_owned());
                format!("{entry:?}: {why}")
            })
        };
        entries
            .iter()
            .map(target)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a proxy may have this behind it.
    pub fn allow(&self, host: &str, port: u16) -> bool {
        let address = host.parse::<IpAddr>().map(|a| a.to_canonical());
        let is_host = |host_allowed: &Host| match (host_allowed, &address) {
            (Host::Network(network), Ok(address)) => network.contains(address),
            (Host::Name(name), Err(_)) => name.eq_ignore_ascii_case(host),
            _ => false,
        };
        self.0
            .iter()
            .any(|t| (t.first_port..=t.last_port).contains(&port) && is_host(&t.host))
    }
}

impl Target {
    /// `None` in the error: it looks like nothing that was expected.
    fn parse(entry: &str) -> Result<Self, Option<String>> {
        let (host, ports) = match entry.strip_prefix('[') {
            Some(rest) => {
                let (host, ports) = rest.split_once("]:").ok_or(None)?;
                // In brackets stand IPv6 addresses and networks only.
                if !host.contains(':') {
                    return Err(None);
                }
                (host, ports)
            }
            None => entry.split_once(':').ok_or(None)?,
        };
        let (first_port, last_port) = port_range(ports)
            .ok_or_else(|| format!("{ports:?} is no port or range of ports between 1 and 65535"))?;
        Ok(Self {
            host: Host::parse(host)?,
            first_port,
            last_port,
        })
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, Option<String>> {
        if let Some(network) = super::network(text) {
            let trimmed = network.trunc();
            if trimmed != network {
                return Err(Some(format!("the network is {trimmed}")));
            }
            return Ok(Self::Network(network));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        // Resolvers take `127.1` and `0x7f.1` for addresses; nobody means these by a name.
        let last = text
            .trim_end_matches('.')
            .rsplit('.')
            .next()
            .unwrap_or_default();
        if last.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(allowed) {
            return Err(None);
        }
        if last.is_empty() {
            return Err(None);
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

/// `80` or `80-90`.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let digits = |c: char| c.is_ascii_digit() || c == '-';
    if !text.chars().all(digits) {
        return None;
    }
    let [(first, last)] = number_spans(text).ok()?[..] else {
        return None;
    };
    let port = |n: i64| u16::try_from(n).ok().filter(|n| *n > 0);
    Some((port(first)?, port(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(entries: &[&str]) -> Result<LocalTargets, String> {
        let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
        LocalTargets::parse(&entries)
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        let allowed = targets(&[
            "127.0.0.1:8080",
            "192.168.1.0/24:80-90",
            "[::1]:22",
            "[fd00::/8]:443",
            "NAS.lan:80",
        ])
        .unwrap();
        for (host, port, expected) in [
            ("127.0.0.1", 8080, true),
            ("::ffff:127.0.0.1", 8080, true),
            ("127.0.0.1", 8081, false),
            ("127.0.0.1", 0, false),
            ("127.0.0.2", 8080, false),
            ("0.0.0.0", 8080, false),
            ("192.168.1.0", 80, true),
            ("192.168.1.255", 90, true),
            ("192.168.1.1", 91, false),
            ("192.168.2.1", 80, false),
            ("::1", 22, true),
            ("0:0:0:0:0:0:0:1", 22, true),
            ("[::1]", 22, false),
            ("::", 22, false),
            ("fd12::1", 443, true),
            ("fe80::1", 443, false),
            ("nas.lan", 80, true),
            ("nas.LAN", 80, true),
            ("nas.lan.", 80, false),
            ("nas.lan", 443, false),
            ("localhost", 8080, false),
            ("2130706433", 8080, false),
            ("127.1", 8080, false),
            ("127.0.0.1 ", 8080, false),
            ("127.0.0.1\0", 8080, false),
            ("", 8080, false),
        ] {
            assert_eq!(allowed.allow(host, port), expected, "{host} {port}");
        }
        assert!(!LocalTargets::default().allow("127.0.0.1", 80));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_named() {
        for entry in [
            "",
            ":",
            ":80",
            "127.0.0.1",
            "::1:22",
            "[::1]",
            "[::1]22",
            "[127.0.0.1]:80",
            "[nas]:80",
            "127.1:80",
            "2130706433:80",
            "0x7f.0x1:80",
            "300.1.1.1:80",
            "a b:80",
            "a/24:80",
            "*:80",
            "10.0.0.0/33:80",
            "ä:80",
            ".:80",
        ] {
            let error = targets(&[entry]).unwrap_err();
            assert!(error.starts_with(&format!("{entry:?}: ")), "{error}");
        }
        for (entry, expected) in [
            ("10.0.0.1/8:80", "the network is 10.0.0.0/8"),
            (
                "10.0.0.1:0",
                "\"0\" is no port or range of ports between 1 and 65535",
            ),
            (
                "10.0.0.1:90-80",
                "\"90-80\" is no port or range of ports between 1 and 65535",
            ),
            (
                "10.0.0.1:80,90",
                "\"80,90\" is no port or range of ports between 1 and 65535",
            ),
            (
                "10.0.0.1:65536",
                "\"65536\" is no port or range of ports between 1 and 65535",
            ),
            (
                "10.0.0.1:+80",
                "\"+80\" is no port or range of ports between 1 and 65535",
            ),
            (
                "10.0.0.1:http",
                "\"http\" is no port or range of ports between 1 and 65535",
            ),
        ] {
            assert_eq!(
                targets(&[entry]).unwrap_err(),
                format!("{entry:?}: {expected}")
            );
        }
    }
}
