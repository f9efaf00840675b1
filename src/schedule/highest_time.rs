//! The highest time that this host has seen: whether its clock was set back, also while nothing ran.
//!
//! A clock that is ahead for a moment must not be remembered for ever. So a clock that is behind the highest time, and goes
//! on evenly for a day, is believed again. Example: at 10:00 the clock says 2036 for half a minute, and is right again at
//! 10:01. Until 10:01 of the next day this host says that its clock was set back by ten years, and nothing goes by its age;
//! then 2036 is forgotten. The day is counted in the steps in which the clock is looked at, none of them for more than an
//! hour, so that a clock which jumps forward by a month has not shown a day.
//!
//! Pure; what it has seen is kept by `state`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::text::Length;

/// By how much a clock may be behind without having been set back.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(10);
/// For so long a clock that is behind must go on evenly.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// So much one step shows at the most.
const LONGEST_STEP: Duration = Duration::from_secs(3600);

/// The highest time that a host has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HighestTime {
    highest: Timestamp,
    /// The clock as it goes on below that, while it does.
    below: Option<Below>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Below {
    last: Timestamp,
    went_on_seconds: u64,
}

/// That a clock shows less than it has shown before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetBack {
    /// What it shows.
    pub now: Timestamp,
    /// The most that it has shown.
    pub highest: Timestamp,
}

impl std::fmt::Display for SetBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SetBack { now, highest } = self;
        let by = Length(Duration::from_secs(
            highest.duration_since(*now).as_secs().unsigned_abs(),
        ));
        write!(
            f,
            "the clock of this host was set back: it shows {now:.0}, and has shown {highest:.0}, {by} more"
        )
    }
}

impl HighestTime {
    /// What a host has seen that looks at its clock for the first time.
    pub fn first(now: Timestamp) -> HighestTime {
        HighestTime {
            highest: now,
            below: None,
        }
    }

    /// The same after a look at the clock.
    #[must_use]
    pub fn after(&self, now: Timestamp) -> HighestTime {
        if self.set_back(now).is_none() {
            return HighestTime::first(self.highest.max(now));
        }
        let begun = Below {
            last: now,
            went_on_seconds: 0,
        };
        let below = match &self.below {
            // It was set back once more.
            Some(below) if below.last.duration_since(now) > TOLERANCE => begun,
            Some(below) => {
                let step = Duration::try_from(now.duration_since(below.last)).unwrap_or_default();
                Below {
                    last: below.last.max(now),
                    went_on_seconds: below.went_on_seconds.saturating_add(step.min(LONGEST_STEP).as_secs()),
                }
            }
            None => begun,
        };
        match below.went_on_seconds >= BELIEVED_AFTER.as_secs() {
            true => HighestTime::first(now),
            false => HighestTime {
                highest: self.highest,
                below: Some(below),
            },
        }
    }

    /// That the clock, which shows `now`, was set back; none if it was not.
    pub fn set_back(&self, now: Timestamp) -> Option<SetBack> {
        let highest = self.highest;
        (highest.duration_since(now) > TOLERANCE).then_some(SetBack { now, highest })
    }

    /// Whether this says so little more than `kept` that it need not be kept: less than `step` has gone by.
    pub fn is_as_good_as(&self, kept: &HighestTime, step: SignedDuration) -> bool {
        let is_near = |new: Timestamp, old: Timestamp| new.duration_since(old).abs() < step;
        let is_below = match (&self.below, &kept.below) {
            (None, None) => true,
            (Some(new), Some(old)) => is_near(new.last, old.last) && new.went_on_seconds >= old.went_on_seconds,
            (Some(_), None) | (None, Some(_)) => false,
        };
        is_below && is_near(self.highest, kept.highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Looks at a clock that goes on evenly from `from` on, each `step`; how often it was told that it was set back.
    fn goes_on(highest: &mut HighestTime, from: Timestamp, step: SignedDuration, looks: i32) -> usize {
        let told = (0..looks).filter(|look| {
            let now = from + step * *look;
            *highest = highest.after(now);
            highest.set_back(now).is_some()
        });
        told.count()
    }

    #[test]
    fn a_clock_that_goes_on_is_right_and_one_that_is_set_back_is_told() {
        let ten = at("2026-11-20T10:00:00Z");
        let mut highest = HighestTime::first(ten);
        let minute = SignedDuration::from_mins(1);
        assert_eq!(goes_on(&mut highest, ten, minute, 600), 0);
        let eight = at("2026-11-20T20:00:00Z");
        assert_eq!(highest.set_back(eight - minute * 11), None, "clocks are set a little");
        let told = highest.set_back(eight - minute * 12).unwrap();
        assert_eq!(
            told.to_string(),
            "the clock of this host was set back: it shows 2026-11-20T19:48:00Z, and has shown 2026-11-20T19:59:00Z, \
             11 m more"
        );
        // Until it has come to where it was.
        assert_eq!(goes_on(&mut highest, eight - minute * 60, minute, 200), 49);
        assert_eq!(highest, HighestTime::first(eight + minute * 139));
    }

    #[test]
    fn a_clock_that_was_far_ahead_once_is_forgotten_after_a_day() {
        let (ahead, ten) = (at("2036-11-20T10:00:00Z"), at("2026-11-20T10:01:00Z"));
        let mut highest = HighestTime::first(ten).after(ahead);
        let half = SignedDuration::from_secs(30);
        let told = goes_on(&mut highest, ten, half, 2 * 60 * 30);
        assert_eq!(told, 2 * 60 * 24);
        assert!(highest.highest < at("2026-11-22T00:00:00Z"), "{highest:?}");
    }

    #[test]
    fn a_clock_that_jumps_below_the_highest_time_has_not_gone_on() {
        let ten = at("2026-11-20T10:00:00Z");
        let month = SignedDuration::from_hours(30 * 24);
        let mut highest = HighestTime::first(ten);
        // Set back by three months, then a month ahead, and again.
        for months in [3, 2, 1] {
            highest = highest.after(ten - month * months);
            assert!(highest.set_back(ten - month * months).is_some());
        }
        // Back and forth: each time it begins anew.
        for _ in 0..100 {
            highest = highest.after(ten - month);
            highest = highest.after(ten - month * 2);
        }
        assert!(highest.set_back(ten - month).is_some());
        // One that is looked at but once in a day is believed too, later.
        let day = SignedDuration::from_hours(24);
        assert_eq!(goes_on(&mut highest, ten - month * 2, day, 40), 24);
    }

    #[test]
    fn what_is_kept_is_renewed_when_something_has_changed() {
        let ten = at("2026-11-20T10:00:00Z");
        let minute = SignedDuration::from_mins(1);
        let kept = HighestTime::first(ten);
        assert!(kept.after(ten + minute / 2).is_as_good_as(&kept, minute));
        assert!(!kept.after(ten + minute).is_as_good_as(&kept, minute));
        let back = kept.after(ten - minute * 20);
        assert!(!back.is_as_good_as(&kept, minute) && !kept.is_as_good_as(&back, minute));
        assert!(back.after(ten - minute * 20).is_as_good_as(&back, minute));
        assert!(!back.after(ten - minute * 18).is_as_good_as(&back, minute));
        assert!(!back.after(ten - minute * 40).is_as_good_as(&back, minute));
    }
}
