//! Slots at a fixed distance, counted from 1970 so that all hosts agree on them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::text::Length;

/// A period of whole seconds, up to 366 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every {
    seconds: i64,
}

/// A period that no schedule can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EveryError {
    /// It is not written as a length of time.
    #[error("period `{text}`: expected a length of time, as in `6h` or `1h 30m`")]
    Malformed {
        /// What was read, cut to 80 characters.
        text: String,
    },
    /// It is too short, too long, or has a fraction of a second.
    #[error("period `{text}`: expected whole seconds, from `1s` to `366 days`")]
    OutOfRange {
        /// What was read, cut to 80 characters.
        text: String,
    },
}

const LONGEST: i64 = 366 * 86_400;

impl Every {
    /// The first instant after `after` that is a whole number of periods from 1970-01-01T00:00:00Z.
    pub fn slot_after(self, after: Timestamp) -> Option<Timestamp> {
        let periods = after.as_microsecond().div_euclid(self.seconds * 1_000_000) + 1;
        Timestamp::from_second(periods.checked_mul(self.seconds)?).ok()
    }

    /// The period.
    pub fn period(self) -> Duration {
        Duration::from_secs(self.seconds.unsigned_abs())
    }
}

impl FromStr for Every {
    type Err = EveryError;

    fn from_str(text: &str) -> Result<Self, EveryError> {
        let shown = || text.chars().take(80).collect();
        let period = text.trim().parse::<SignedDuration>();
        let period = period.map_err(|_| EveryError::Malformed { text: shown() })?;
        let seconds = period.as_secs();
        if period.subsec_nanos() != 0 || !(1..=LONGEST).contains(&seconds) {
            return Err(EveryError::OutOfRange { text: shown() });
        }
        Ok(Every { seconds })
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {}", Length(self.period()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_period_is_counted_from_1970() {
        let every: Every = "6h".parse().unwrap();
        let next = |after: &str| every.slot_after(after.parse().unwrap()).unwrap().to_string();
        assert_eq!(next("2026-11-20T10:15:30Z"), "2026-11-20T12:00:00Z");
        assert_eq!(next("2026-11-20T11:59:59.999999Z"), "2026-11-20T12:00:00Z");
        assert_eq!(next("2026-11-20T12:00:00Z"), "2026-11-20T18:00:00Z");
        assert_eq!(next("1969-12-31T23:59:59.5Z"), "1970-01-01T00:00:00Z");
        assert_eq!(every.slot_after(Timestamp::MAX), None);
    }

    #[test]
    fn a_period_prints_in_words_and_refuses_what_cannot_be_one() {
        let every = |text: &str| text.parse::<Every>();
        assert_eq!(every(" 1h 30m ").unwrap().to_string(), "every 1 h 30 m");
        assert_eq!(every("PT6H").unwrap(), every("6 hours").unwrap());
        for text in ["", "6", "often", "h"] {
            assert!(matches!(every(text), Err(EveryError::Malformed { .. })), "{text}");
        }
        for text in ["0s", "-6h", "1.5s", "500ms", "8785h", "366h ago"] {
            assert!(matches!(every(text), Err(EveryError::OutOfRange { .. })), "{text}");
        }
        assert_eq!(
            every("0s").unwrap_err().to_string(),
            "period `0s`: expected whole seconds, from `1s` to `366 days`"
        );
    }

    proptest! {
        #[test]
        fn the_next_slot_is_later_and_at_most_one_period_away(
            seconds in 1..=LONGEST,
            after in 0..4_000_000_000_000_000_i64,
        ) {
            let after = Timestamp::from_microsecond(after).unwrap();
            let slot = Every { seconds }.slot_after(after).unwrap();
            prop_assert_eq!(slot.as_second() % seconds, 0);
            prop_assert!(slot > after && slot.duration_since(after) <= SignedDuration::from_secs(seconds));
        }
    }
}
