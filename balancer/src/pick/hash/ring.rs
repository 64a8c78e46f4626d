//! A hash ring whose points are those of nginx's `hash … consistent` (ketama).

/// Points a member of weight 1 has.
const POINTS: u32 = 160;
/// Points of a ring at most; weights are scaled down beyond.
const MAX_POINTS: u64 = 2_000_000;

/// Points of members `0..n` in rising order.
#[derive(Debug)]
pub(crate) struct Ring(Vec<(u32, u32)>);

impl Ring {
    /// An id that ends in `:PORT` is hashed as host NUL port, as nginx does.
    pub(crate) fn new(members: &[(&str, u32)]) -> Self {
        let sum: u64 = members.iter().map(|(_, w)| u64::from(*w)).sum();
        let scale = |w: u32| {
            let points = u64::from(w) * u64::from(POINTS);
            if sum * u64::from(POINTS) <= MAX_POINTS {
                points
            } else if w == 0 {
                0
            } else {
                (MAX_POINTS * u64::from(w) / sum).max(1)
            }
        };
        let mut points = Vec::new();
        for (i, (id, weight)) in (0..).zip(members) {
            let (host, port) = id.rsplit_once(':').unwrap_or((id, ""));
            let mut base = crc32fast::Hasher::new();
            base.update(host.as_bytes());
            base.update(&[0]);
            base.update(port.as_bytes());
            let mut previous = 0_u32;
            for _ in 0..scale(*weight) {
                let mut hasher = base.clone();
                hasher.update(&previous.to_le_bytes());
                previous = hasher.finalize();
                points.push((previous, i));
            }
        }
        points.sort_unstable();
        points.dedup_by_key(|(hash, _)| *hash);
        Self(points)
    }

    /// The members from the key's place on, once around.
    pub(crate) fn walk(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let hash = crc32fast::hash(key);
        let start = self.0.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.0.split_at(start);
        after.iter().chain(before).map(|(_, i)| *i as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_next_point_and_the_ring_closes() {
        let ring = Ring::new(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)]);
        assert_eq!(ring.0.len(), 320);
        assert!(ring.0.is_sorted());
        let mut base = crc32fast::Hasher::new();
        base.update(b"10.0.0.1\x0080\0\0\0\0");
        let first = base.finalize();
        assert!(ring.0.contains(&(first, 0)));
        assert_eq!(ring.walk(b"x").count(), 320);
        let hash = crc32fast::hash(b"x");
        let expected = ring
            .0
            .iter()
            .find(|(p, _)| *p >= hash)
            .unwrap_or(&ring.0[0])
            .1;
        assert_eq!(ring.walk(b"x").next(), Some(expected as usize));
    }

    #[test]
    fn weights_are_shares_of_the_points_and_rings_are_bounded() {
        let ring = Ring::new(&[("a:1", 1), ("b:1", 3)]);
        let of_b = ring.0.iter().filter(|(_, i)| *i == 1).count();
        assert_eq!(of_b, 480);
        let heavy = Ring::new(&[("a:1", 1_000_000), ("b:1", 0)]);
        assert!(heavy.0.len() as u64 <= MAX_POINTS);
    }
}
