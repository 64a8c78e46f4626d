//! Bytes a day, made from a total that only grows.

use chrono::NaiveDate;

/// Days kept, today included.
pub(crate) const KEPT_DAYS: usize = 7;

/// Bytes a day, today first.
pub(crate) type History = [u64; KEPT_DAYS];

/// The last days of one total.
#[derive(Debug)]
pub(super) struct Days {
    /// The day of the first slot.
    today: NaiveDate,
    slots: History,
    /// What of the total is in the slots, or was before.
    counted: u64,
}

impl Days {
    /// What `total` has already does not count.
    pub(super) fn new(today: NaiveDate, total: u64) -> Self {
        Self {
            today,
            slots: [0; KEPT_DAYS],
            counted: total,
        }
    }

    /// Takes over what `total` has gained since the last call, which belongs to the day of that call, and begins `today`
    /// if it is a later one.
    pub(super) fn update(&mut self, today: NaiveDate, total: u64) {
        self.slots[0] += total.wrapping_sub(self.counted);
        self.counted = total;
        let passed = (today - self.today).num_days();
        // A clock that was set back changes nothing until it has caught up.
        let Some(passed) = usize::try_from(passed).ok().filter(|days| *days > 0) else {
            return;
        };
        self.today = today;
        let kept = KEPT_DAYS.saturating_sub(passed);
        self.slots.copy_within(..kept, KEPT_DAYS - kept);
        self.slots[..KEPT_DAYS - kept].fill(0);
    }

    pub(super) fn slots(&self) -> History {
        self.slots
    }
}

#[cfg(test)]
mod tests {
    use chrono::Days as Plus;

    use super::*;

    #[test]
    fn days_move_back_and_fall_off() {
        let day = |n| NaiveDate::from_ymd_opt(2026, 3, 27).unwrap() + Plus::new(n);
        let mut days = Days::new(day(0), 100);
        days.update(day(0), 110);
        assert_eq!(days.slots(), [10, 0, 0, 0, 0, 0, 0]);
        // What came before midnight and is seen after it belongs to the day before.
        days.update(day(1), 115);
        assert_eq!(days.slots(), [0, 15, 0, 0, 0, 0, 0]);
        days.update(day(1), 116);
        // The day on which clocks go forward has 23 hours, and is a day.
        days.update(day(2), 116);
        assert_eq!(days.slots(), [0, 1, 15, 0, 0, 0, 0]);
        days.update(day(0), 118);
        assert_eq!(days.slots(), [2, 1, 15, 0, 0, 0, 0]);
        days.update(day(6), 118);
        assert_eq!(days.slots(), [0, 0, 0, 0, 2, 1, 15]);
        days.update(day(7), 118);
        assert_eq!(days.slots(), [0, 0, 0, 0, 0, 2, 1]);
        days.update(day(30), 119);
        assert_eq!(days.slots(), [0; 7]);
    }
}
