//! What the network needs to know of a packet.

use std::net::IpAddr;

/// Where a packet comes from and where it wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
}

impl Ends {
    /// `None` if this is no IPv4 or IPv6 packet, or one that ends within its header.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet[0] & 0xf) * 4;
                if packet.len() < header.max(20) {
                    return None;
                }
                Some(Self {
                    from: IpAddr::from(*packet[12..].first_chunk::<4>()?),
                    to: IpAddr::from(*packet[16..].first_chunk::<4>()?),
                })
            }
            6 if packet.len() >= 40 => Some(Self {
                from: IpAddr::from(*packet[8..].first_chunk::<16>()?),
                to: IpAddr::from(*packet[24..].first_chunk::<16>()?),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The header of a packet.
    pub(in super::super) fn packet(from: IpAddr, to: IpAddr) -> Vec<u8> {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut packet = vec![0x45; 12];
                packet.extend(from.octets());
                packet.extend(to.octets());
                packet
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut packet = vec![0x60; 8];
                packet.extend(from.octets());
                packet.extend(to.octets());
                packet
            }
            _ => panic!("both ends are of one family"),
        }
    }

    #[test]
    fn ends_are_read_from_both_families() {
        for (from, to) in [("100.86.0.2", "100.86.0.1"), ("fd00::2", "fd00::1")] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let whole = packet(from, to);
            assert_eq!(Ends::of(&whole), Some(Ends { from, to }));
            for cut in 0..whole.len() {
                assert_eq!(Ends::of(&whole[..cut]), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn options_belong_to_the_header() {
        let mut with_options = packet([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        with_options[0] = 0x46;
        assert_eq!(Ends::of(&with_options), None);
        with_options.extend([0; 4]);
        assert!(Ends::of(&with_options).is_some());
    }

    #[test]
    fn other_versions_are_no_packets() {
        for version in (0..16_u8).filter(|v| ![4, 6].contains(v)) {
            assert_eq!(Ends::of(&[version << 4; 60]), None);
        }
    }

    #[test]
    fn a_captured_packet() {
        let echo = [
            0x45, 0x00, 0x00, 0x24, 0x3d, 0xfe, 0x40, 0x00, 0x40, 0x01, 0x34, 0x2c, 0x64, 0x56,
            0x00, 0x02, 0x64, 0x56, 0x00, 0x01, 0x08, 0x00, 0x61, 0x08, 0x66, 0x68, 0x00, 0x01,
        ];
        let expected = Ends {
            from: [100, 86, 0, 2].into(),
            to: [100, 86, 0, 1].into(),
        };
        assert_eq!(Ends::of(&echo), Some(expected));
    }
}
