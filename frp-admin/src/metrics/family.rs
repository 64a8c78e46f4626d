//! [`Family`]: series that differ in two labels, as many as anybody can look at.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a series that nobody writes any more is shown, so that the last scrapes of it are not lost.
const EXPIRY: Duration = Duration::from_hours(1);

/// Values of two labels.
type Labels = [Arc<str>; 2];

/// One series. It is alive as long as somebody holds it.
#[derive(Debug)]
pub struct Series<T> {
    labels: Labels,
    value: T,
}

impl<T> Series<T> {
    /// The values of its labels.
    pub fn labels(&self) -> [&str; 2] {
        [&self.labels[0], &self.labels[1]]
    }
}

impl<T> Deref for Series<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Series by the values of their labels. The ones beyond the limit share a series that says so.
#[derive(Debug)]
pub struct Family<T> {
    limit: usize,
    series: Mutex<BTreeMap<Labels, Known<T>>>,
}

#[derive(Debug)]
struct Known<T> {
    series: Arc<Series<T>>,
    /// Since when it has been seen without a holder.
    unused: Option<Instant>,
}

impl<T: Default> Family<T> {
    /// `limit` series at most, those that others share not counted.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            series: Mutex::default(),
        }
    }

    /// The series of these labels, or that of `shared` when there is no room for one more. There must be few of the latter.
    pub fn get(&self, labels: [&str; 2], shared: [&str; 2], now: Instant) -> Arc<Series<T>> {
        let mut known = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = labels.map(Arc::from);
        if !known.contains_key(&wanted) && known.len() >= self.limit {
            sweep(&mut known, now, Duration::ZERO);
        }
        let key = if known.contains_key(&wanted) || known.len() < self.limit {
            wanted
        } else {
            shared.map(Arc::from)
        };
        let entry = known.entry(key.clone()).or_insert_with(|| Known {
            series: Arc::new(Series {
                labels: key,
                value: T::default(),
            }),
            unused: None,
        });
        entry.unused = None;
        entry.series.clone()
    }

    /// All series, sorted by their labels. Those that nobody has held for long go first.
    pub fn all(&self, now: Instant) -> Vec<Arc<Series<T>>> {
        let mut known = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        sweep(&mut known, now, EXPIRY);
        known.values().map(|known| known.series.clone()).collect()
    }
}

/// Marks what nobody holds, and removes what has been marked for `age`.
fn sweep<T>(known: &mut BTreeMap<Labels, Known<T>>, now: Instant, age: Duration) {
    known.retain(|_, known| {
        if Arc::strong_count(&known.series) > 1 {
            known.unused = None;
            return true;
        }
        let since = *known.unused.get_or_insert(now);
        now.duration_since(since) < age
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counter;

    const SHARED: [&str; 2] = ["other", "tcp"];

    fn names(family: &Family<Counter>, now: Instant) -> Vec<String> {
        let all = family.all(now);
        all.iter().map(|s| s.labels()[0].to_owned()).collect()
    }

    #[test]
    fn beyond_the_limit_a_series_is_shared() {
        let (family, now) = (Family::<Counter>::new(2), Instant::now());
        let get = |name| family.get([name, "tcp"], SHARED, now);
        let (a, _b, c, d) = (get("a"), get("b"), get("c"), get("d"));
        assert!(Arc::ptr_eq(&c, &d) && Arc::ptr_eq(&a, &get("a")));
        c.inc();
        assert_eq!((d.get(), d.labels()), (1, SHARED));
        // The dead make room at once.
        drop((a, c, d));
        assert_eq!(get("e").labels()[0], "e");
        assert_eq!(names(&family, now), ["b", "e"]);
    }

    #[test]
    fn dead_series_expire() {
        let (family, now) = (Family::<Counter>::new(9), Instant::now());
        let (alive, dead) = (
            family.get(["alive", "tcp"], SHARED, now),
            family.get(["dead", "tcp"], SHARED, now),
        );
        dead.inc();
        drop(dead);
        assert_eq!(names(&family, now), ["alive", "dead"]);
        let almost = now + EXPIRY.saturating_sub(Duration::from_secs(1));
        assert_eq!(names(&family, almost), ["alive", "dead"]);
        // Somebody comes back, and it goes on counting.
        let back = family.get(["dead", "tcp"], SHARED, almost);
        assert_eq!(back.get(), 1);
        drop(back);
        assert_eq!(names(&family, now + EXPIRY), ["alive", "dead"]);
        assert_eq!(names(&family, now + EXPIRY * 2), ["alive"]);
        drop(alive);
    }
}
