//! The cases: which tunnel, which load, which figures come out.
//!
//! Names are stable: results of different days are matched by them.

use serde::Serialize;

/// What the tunnel of a case has switched on. Everything else is upstream's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Tunnel {
    /// TLS between the two programs (default on).
    pub(crate) tls: bool,
    /// The proxy's `useEncryption`.
    pub(crate) encryption: bool,
    /// The proxy's `useCompression`.
    pub(crate) compression: bool,
    /// What users connect to.
    pub(crate) proxies: Proxies,
}

/// The proxies of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Proxies {
    /// One `tcp` proxy.
    Tcp,
    /// A `tcp` proxy, and a `udp` proxy between the same port numbers.
    TcpAndUdp,
    /// `http` proxies with this many routes, one of them to the service.
    Http(u32),
    /// A group of [`MEMBERS`] `http` proxies, one of them to the slow service.
    Group(Strategy),
}

/// Members of a group.
pub(crate) const MEMBERS: u16 = 4;

/// How a group picks. Upstream's knows round robin only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Strategy {
    /// One after the other.
    RoundRobin,
    /// The member with the fewest requests.
    LeastRequest,
    /// The member with the best latency of late, of two; `HAProxy` has no such thing and takes the less loaded of two.
    Ewma,
}

impl Proxies {
    /// Whether users speak HTTP to them.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http(_) | Self::Group(_))
    }
}

const DEFAULT: Tunnel = Tunnel {
    tls: true,
    encryption: false,
    compression: false,
    proxies: Proxies::Tcp,
};
const PLAIN: Tunnel = Tunnel {
    tls: false,
    ..DEFAULT
};
const ENCRYPTED: Tunnel = Tunnel {
    encryption: true,
    ..DEFAULT
};
const COMPRESSED: Tunnel = Tunnel {
    compression: true,
    ..DEFAULT
};
const DATAGRAMS: Tunnel = Tunnel {
    proxies: Proxies::TcpAndUdp,
    ..DEFAULT
};

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// User to service.
    Up,
    /// Service to user.
    Down,
}

/// What is done through the tunnel. Volumes are those of scale 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Load {
    /// `bytes` in all over `streams` connections at once.
    Stream {
        streams: u32,
        direction: Direction,
        bytes: u64,
    },
    /// `connections` one after another by 32 workers: connect, echo one byte, close.
    NewConn { connections: u64 },
    /// `requests` of 64 bytes, one after another, over one connection.
    PingPong { requests: u64 },
    /// Small `requests` of HTTP over 64 kept-alive connections at once.
    Http { requests: u64 },
    /// One body of HTTP, service to user.
    HttpLarge { bytes: u64 },
    /// `packets` of 1,200 bytes at an even `rate` a second, from one user to the service; what gets lost is lost.
    Datagrams { rate: u32, packets: u64 },
    /// `connections` open and silent.
    Idle { connections: u64 },
    /// Nothing at all for a second.
    Start,
}

/// A figure and how to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Metric {
    /// What is measured and its unit.
    pub(crate) name: &'static str,
    /// Whether more is better.
    pub(crate) more_is_better: bool,
}

/// One row (or two) of the table.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Case {
    /// Stable name.
    pub(crate) name: &'static str,
    /// What the tunnel has on.
    pub(crate) tunnel: Tunnel,
    /// What goes through it.
    pub(crate) load: Load,
}

/// One gigabyte, decimal as in Gbit/s.
const GB: u64 = 1_000_000_000;
/// Small requests of the HTTP cases.
const REQUESTS: Load = Load::Http { requests: 40_000 };
/// For the slow layers.
const QUARTER_GB: u64 = GB / 4;

const fn stream(
    name: &'static str,
    tunnel: Tunnel,
    streams: u32,
    direction: Direction,
    bytes: u64,
) -> Case {
    Case {
        name,
        tunnel,
        load: Load::Stream {
            streams,
            direction,
            bytes,
        },
    }
}

const fn other(name: &'static str, load: Load) -> Case {
    Case {
        name,
        tunnel: DEFAULT,
        load,
    }
}

const fn http(name: &'static str, routes: u32, load: Load) -> Case {
    Case {
        name,
        tunnel: Tunnel {
            proxies: Proxies::Http(routes),
            ..DEFAULT
        },
        load,
    }
}

const fn group(name: &'static str, strategy: Strategy) -> Case {
    Case {
        name,
        tunnel: Tunnel {
            proxies: Proxies::Group(strategy),
            ..DEFAULT
        },
        load: REQUESTS,
    }
}

/// Three seconds at this rate.
const fn datagrams(name: &'static str, rate: u32) -> Case {
    Case {
        name,
        tunnel: DATAGRAMS,
        load: Load::Datagrams {
            rate,
            packets: rate as u64 * 3,
        },
    }
}

/// Every case, in the order of the table. Cases of one direction without a suffix go down: service to user.
pub(crate) const CASES: &[Case] = &[
    stream("stream1-up", DEFAULT, 1, Direction::Up, GB),
    stream("stream1-down", DEFAULT, 1, Direction::Down, GB),
    stream("stream16-up", DEFAULT, 16, Direction::Up, GB),
    stream("stream16-down", DEFAULT, 16, Direction::Down, GB),
    stream("plain-stream1", PLAIN, 1, Direction::Down, GB),
    stream("plain-stream16", PLAIN, 16, Direction::Down, GB),
    stream("enc-stream1", ENCRYPTED, 1, Direction::Down, QUARTER_GB),
    stream("comp-stream1", COMPRESSED, 1, Direction::Down, QUARTER_GB),
    other("newconn", Load::NewConn { connections: 6000 }),
    other("pingpong", Load::PingPong { requests: 15_000 }),
    http("http", 1, REQUESTS),
    http("http-routes1000", 1000, REQUESTS),
    http("http-routes10000", 10_000, REQUESTS),
    http("http-large", 1, Load::HttpLarge { bytes: GB }),
    group("group-round-robin", Strategy::RoundRobin),
    group("group-least-request", Strategy::LeastRequest),
    group("group-ewma", Strategy::Ewma),
    datagrams("udp-45k", 45_000),
    datagrams("udp-100k", 100_000),
    other("idle5000", Load::Idle { connections: 5000 }),
    other("start-memory", Load::Start),
];

impl Load {
    /// The same load with `factor` times the volume, at least one unit a stream.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        match self {
            Self::Stream {
                streams,
                direction,
                bytes,
            } => Self::Stream {
                streams,
                direction,
                bytes: scale(bytes, factor, u64::from(streams)),
            },
            Self::NewConn { connections } => Self::NewConn {
                connections: scale(connections, factor, 1),
            },
            Self::PingPong { requests } => Self::PingPong {
                requests: scale(requests, factor, 1),
            },
            Self::Http { requests } => Self::Http {
                requests: scale(requests, factor, 1),
            },
            Self::HttpLarge { bytes } => Self::HttpLarge {
                bytes: scale(bytes, factor, 1),
            },
            Self::Datagrams { rate, packets } => Self::Datagrams {
                rate,
                packets: scale(packets, factor, 1),
            },
            Self::Idle { connections } => Self::Idle {
                connections: scale(connections, factor, 1),
            },
            Self::Start => Self::Start,
        }
    }

    /// The part of this load that brings a pair up to speed before it is measured.
    pub(crate) fn warm_up(self) -> Option<Self> {
        match self {
            Self::Stream { .. }
            | Self::NewConn { .. }
            | Self::PingPong { .. }
            | Self::Http { .. }
            | Self::HttpLarge { .. }
            | Self::Datagrams { .. } => Some(self.scaled(1.0 / 16.0)),
            Self::Idle { .. } | Self::Start => None,
        }
    }

    /// Whether the time it takes says something, so that `--seconds` can set its volume.
    pub(crate) fn is_timed(self) -> bool {
        self.warm_up().is_some()
    }

    /// The figures that come out, the main one first.
    pub(crate) fn metrics(self) -> &'static [Metric] {
        const fn more(name: &'static str) -> Metric {
            Metric {
                name,
                more_is_better: true,
            }
        }
        const fn less(name: &'static str) -> Metric {
            Metric {
                name,
                more_is_better: false,
            }
        }
        const STREAM: &[Metric] = &[more("Gbit/s")];
        const NEW_CONN: &[Metric] = &[more("connections/s")];
        const PING_PONG: &[Metric] = &[less("p50 µs"), less("p99 µs")];
        const HTTP: &[Metric] = &[more("requests/s"), less("p50 µs"), less("p99 µs")];
        const DATAGRAMS: &[Metric] = &[more("packets/s"), less("loss %")];
        const IDLE: &[Metric] = &[less("KiB/connection")];
        const START: &[Metric] = &[less("MiB")];
        match self {
            Self::Stream { .. } | Self::HttpLarge { .. } => STREAM,
            Self::NewConn { .. } => NEW_CONN,
            Self::PingPong { .. } => PING_PONG,
            Self::Http { .. } => HTTP,
            Self::Datagrams { .. } => DATAGRAMS,
            Self::Idle { .. } => IDLE,
            Self::Start => START,
        }
    }

    /// How CPU time is told: the unit, and how many units of work and of time make one.
    pub(crate) fn cpu_unit(self) -> Option<CpuUnit> {
        let (name, work, per_second) = match self {
            Self::Stream { .. } | Self::HttpLarge { .. } => ("s/GB", 1e9, 1.0),
            Self::NewConn { .. } => ("µs/connection", 1.0, 1e6),
            Self::PingPong { .. } | Self::Http { .. } => ("µs/request", 1.0, 1e6),
            Self::Datagrams { .. } => ("µs/packet", 1.0, 1e6),
            Self::Idle { .. } | Self::Start => return None,
        };
        Some(CpuUnit {
            name,
            work,
            per_second,
        })
    }
}

/// Turns CPU seconds and an amount of work into a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuUnit {
    /// As printed.
    pub(crate) name: &'static str,
    work: f64,
    per_second: f64,
}

impl CpuUnit {
    /// CPU time for one unit of work, given `seconds` for `work` bytes, connections or requests.
    pub(crate) fn of(self, seconds: f64, work: f64) -> f64 {
        seconds * self.per_second / (work / self.work)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "volumes are far below 2^52 and factors are checked to be positive"
)]
fn scale(volume: u64, factor: f64, least: u64) -> u64 {
    ((volume as f64 * factor) as u64).max(least)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the expected values are exact in binary")]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_every_case_has_a_metric() {
        let names: HashSet<_> = CASES.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), CASES.len());
        assert!(CASES.iter().all(|c| !c.load.metrics().is_empty()));
    }

    #[test]
    fn scaling_leaves_something_for_every_stream() {
        let load = Load::Stream {
            streams: 16,
            direction: Direction::Up,
            bytes: 1000,
        };
        assert!(matches!(load.scaled(1e-9), Load::Stream { bytes: 16, .. }));
        assert!(matches!(load.scaled(2.0), Load::Stream { bytes: 2000, .. }));
    }

    #[test]
    fn cpu_units() {
        let stream = CASES[0].load.cpu_unit().unwrap();
        assert_eq!(stream.of(7.0, 2e9), 3.5);
        let conn = Load::NewConn { connections: 1 }.cpu_unit().unwrap();
        assert_eq!(conn.of(1.0, 2000.0), 500.0);
    }
}
