//! Whether this host has been awake, by a clock that was not set.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

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
