//! Whether this host has been awake, by a clock that was not set.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::text::Length;

/// Since when an agent has seen every slot come.
///
/// It compares the wall clock with one that is never set and stands still while the machine sleeps (`CLOCK_MONOTONIC`).
#[derive(Debug, Clone)]
pub struct Watch {
    from: Timestamp,
    wall: Timestamp,
    running: Duration,
}

/// What lies between two looks at the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Time as it passes.
    Time,
    /// The wall clock went forward by so much more than time did: a machine that slept, or a clock that was set.
    Jump(SignedDuration),
    /// The wall clock went back by so much.
    StepBack(SignedDuration),
}

impl Seen {
    /// What there is to say of it; nothing of time as it passes.
    pub fn told(self) -> Option<String> {
        let (way, by) = match self {
            Seen::Time => return None,
            Seen::Jump(by) => ("forward", by),
            Seen::StepBack(by) => ("back", by),
        };
        // Between the looks at the two clocks a little time goes by: an hour is told as one.
        let half = Duration::from_millis(500);
        Some(format!(
            "the clock went {way} by {}",
            Length(by.unsigned_abs().saturating_add(half))
        ))
    }
}

/// What clocks may differ by between two looks without one of them having been set.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(30);

impl Watch {
    /// Begins at `now`; `running` is what the monotonic clock shows, counted from any beginning.
    pub fn begin(now: Timestamp, running: Duration) -> Self {
        Watch {
            from: now,
            wall: now,
            running,
        }
    }

    /// Looks at both clocks again. After anything but [`Seen::Time`], the watch begins anew.
    pub fn look(&mut self, now: Timestamp, running: Duration) -> Seen {
        let passed = running.saturating_sub(self.running);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let ahead = now.duration_since(self.wall).saturating_sub(passed);
        self.wall = now;
        self.running = running;
        if ahead.abs() <= TOLERANCE {
            // A small step back must not make what came just now look as if it had come unseen.
            self.from = self.from.min(now);
            return Seen::Time;
        }
        self.from = now;
        if ahead.is_positive() {
            Seen::Jump(ahead)
        } else {
            Seen::StepBack(ahead.abs())
        }
    }

    /// Every slot that came due since was seen.
    pub fn from(&self) -> Timestamp {
        self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_clock_that_was_set_is_told_in_the_words_of_all_spans() {
        assert_eq!(Seen::Time.told(), None);
        let month = SignedDuration::from_hours(720) - SignedDuration::from_nanos(8116);
        let back = Seen::StepBack(month).told();
        assert_eq!(back.as_deref(), Some("the clock went back by 30 d"));
        let forward = Seen::Jump(SignedDuration::from_millis(3_661_200)).told();
        assert_eq!(forward.as_deref(), Some("the clock went forward by 1 h 1 m 1 s"));
    }

    #[test]
    fn it_tells_time_from_sleep_and_from_a_clock_that_was_set() {
        let mut watch = Watch::begin(at(1000), Duration::from_secs(5));
        assert_eq!(watch.look(at(1060), Duration::from_secs(65)), Seen::Time);
        assert_eq!(
            watch.look(at(1110), Duration::from_secs(125)),
            Seen::Time,
            "slewed by 10 s"
        );
        assert_eq!(watch.from(), at(1000));
        let night = SignedDuration::from_hours(8);
        assert_eq!(
            watch.look(at(1170) + night, Duration::from_secs(185)),
            Seen::Jump(night)
        );
        assert_eq!(watch.from(), at(1170) + night);
        assert_eq!(watch.look(at(1230), Duration::from_secs(245)), Seen::StepBack(night));
        assert_eq!(watch.from(), at(1230));
    }
}
