//! What the system's files say of names; where there are none, nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most search domains that are tried, and longest file that is read.
const MAX_DOMAINS: usize = 6;
const MAX_FILE: u64 = 1024 * 1024;

/// The files as they are now.
pub(super) struct Files {
    hosts: String,
    resolver: String,
}

impl Files {
    pub(super) async fn read() -> Self {
        let read = tokio::task::spawn_blocking(|| {
            let text = |path: &str| {
                let short = std::fs::metadata(path).is_ok_and(|m| m.len() <= MAX_FILE);
                short.then(|| std::fs::read_to_string(path).ok()).flatten()
            };
            Self {
                hosts: text("/etc/hosts").unwrap_or_default(),
                resolver: text("/etc/resolv.conf").unwrap_or_default(),
            }
        });
        read.await.unwrap_or(Self {
            hosts: String::new(),
            resolver: String::new(),
        })
    }

    /// The addresses that the file of hosts gives a name.
    pub(super) fn hosts(&self, name: &str) -> Vec<IpAddr> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let found: Vec<_> = self
            .hosts
            .lines()
            .filter_map(|line| {
                let mut words = line.split('#').next()?.split_whitespace();
                let ip = words.next()?.parse().ok()?;
                words
                    .any(|word| word.eq_ignore_ascii_case(name))
                    .then_some(ip)
            })
            .collect();
        if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        found
    }

    pub(super) fn search(&self) -> Search {
        Search::parse(&self.resolver)
    }
}

/// How short names are completed (resolv.conf).
pub(super) struct Search {
    domains: Vec<String>,
    /// A name with so many dots is tried as it is first.
    dots: usize,
}

impl Search {
    pub(super) fn parse(text: &str) -> Self {
        let mut search = Self {
            domains: Vec::new(),
            dots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("search" | "domain") => {
                    let domains = words.map(|d| d.trim_end_matches('.').to_owned());
                    search.domains = domains
                        .filter(|d| !d.is_empty())
                        .take(MAX_DOMAINS)
                        .collect();
                }
                Some("options") => {
                    let mut dots = words.filter_map(|w| w.strip_prefix("ndots:")?.parse().ok());
                    search.dots = dots.next_back().unwrap_or(search.dots);
                }
                _ => {}
            }
        }
        search
    }

    /// The names to ask for, in order.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let completed = self.domains.iter().map(|domain| format!("{name}.{domain}"));
        let mut names: Vec<String> = completed.collect();
        if name.matches('.').count() >= self.dots {
            names.insert(0, name.to_owned());
        } else {
            names.push(name.to_owned());
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_first() {
        let files = Files {
            hosts: "10.0.0.1 one.test One # two\n::5 one\nnonsense one\n".into(),
            resolver: String::new(),
        };
        let (v4, v6) = (
            IpAddr::from([10, 0, 0, 1]),
            "::5".parse::<IpAddr>().unwrap(),
        );
        assert_eq!(files.hosts("ONE"), [v4, v6]);
        assert_eq!(files.hosts("one.test."), [v4]);
        assert!(files.hosts("two").is_empty());
        assert_eq!(files.hosts("localhost").len(), 2);
    }

    #[test]
    fn short_names_are_completed_first() {
        let search = Search::parse("# x\nsearch a.test b.test.\noptions timeout:1 ndots:2\n");
        assert_eq!(
            search.candidates("h.x"),
            ["h.x.a.test", "h.x.b.test", "h.x"]
        );
        assert_eq!(
            search.candidates("h.x.y"),
            ["h.x.y", "h.x.y.a.test", "h.x.y.b.test"]
        );
        assert_eq!(search.candidates("h."), ["h."]);
        assert_eq!(Search::parse("").candidates("h"), ["h"]);
    }
}
