//! What the days on which a clock is changed do to an expression.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::OnCalendar;
use super::next_elapse::{self, Elapse};

/// Which way a clock was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Readings are skipped.
    Forward,
    /// Readings come twice.
    Back,
}

/// A change of a clock at which an expression elapses less or more often than its text names readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockChange {
    /// When the clock is changed.
    pub at: Timestamp,
    /// Which way.
    pub direction: Direction,
    /// The first and the last reading that the expression names among those skipped or repeated.
    pub readings: (DateTime, DateTime),
    /// Elapses in the first and in the second pass of a repeated span; none for a skipped one.
    pub elapses: (usize, usize),
}

impl fmt::Display for ClockChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.readings;
        let date = first.date();
        if first == last {
            write!(f, "{date}: {} ", first.time())?;
        } else {
            write!(f, "{date}: {} to {} ", first.time(), last.time())?;
        }
        match (self.direction, self.elapses) {
            (Direction::Forward, _) => f.write_str("does not exist (the clock goes forward): no run for it"),
            (Direction::Back, (0, 0)) => f.write_str("comes twice (the clock goes back): no run for it"),
            (Direction::Back, (_, 0)) => f.write_str("comes twice (the clock goes back): runs the first time only"),
            (Direction::Back, (0, _)) => f.write_str("comes twice (the clock goes back): runs the second time only"),
            (Direction::Back, _) => f.write_str("comes twice (the clock goes back): runs both times"),
        }
    }
}

impl OnCalendar {
    /// The changes of the clock between two instants that skip or repeat a reading that this expression names.
    pub fn clock_changes(&self, from: Timestamp, until: Timestamp) -> Vec<ClockChange> {
        let changes = self.zone().following(from);
        let changes = changes.map(|change| change.timestamp()).take_while(|&at| at < until);
        changes
            .take(MOST_CHANGES)
            .filter_map(|at| self.clock_change(at))
            .collect()
    }

    fn clock_change(&self, at: Timestamp) -> Option<ClockChange> {
        let before = at.checked_sub(SignedDuration::from_micros(1)).ok()?;
        let old = i64::from(self.zone().to_offset(before).seconds());
        let new = i64::from(self.zone().to_offset(at).seconds());
        let span = SignedDuration::from_secs((new - old).abs());
        let direction = match new.cmp(&old) {
            std::cmp::Ordering::Greater => Direction::Forward,
            std::cmp::Ordering::Less => Direction::Back,
            std::cmp::Ordering::Equal => return None,
        };
        // The readings in question, as instants of a clock that is never changed.
        let first = at.checked_add(SignedDuration::from_secs(old.min(new))).ok()?;
        let named = self.named_readings(first, span);
        let (&earliest, &latest) = (named.first()?, named.last()?);
        let elapses = match direction {
            Direction::Forward => (0, 0),
            Direction::Back => {
                let begin = at.checked_sub(span).ok()?;
                (self.count(begin, at), self.count(at, at.checked_add(span).ok()?))
            }
        };
        let shown = |instant| jiff::tz::Offset::UTC.to_datetime(instant);
        Some(ClockChange {
            at,
            direction,
            readings: (shown(earliest), shown(latest)),
            elapses,
        })
    }

    /// What the pattern names from `first` on, for the length of `span`, by a clock that is never changed.
    fn named_readings(&self, first: Timestamp, span: SignedDuration) -> Vec<Timestamp> {
        let mut named = Vec::new();
        let Ok(mut after) = first.checked_sub(SignedDuration::from_micros(1)) else {
            return named;
        };
        while let Elapse::At(reading) = next_elapse::elapse(&self.pattern, &TimeZone::UTC, None, after) {
            if reading.duration_since(first) >= span || named.len() == MOST_READINGS {
                break;
            }
            named.push(reading);
            after = reading;
        }
        named
    }

    /// Elapses from `begin` until `end`.
    fn count(&self, begin: Timestamp, end: Timestamp) -> usize {
        let Ok(mut after) = begin.checked_sub(SignedDuration::from_micros(1)) else {
            return 0;
        };
        let mut count = 0;
        while let Some(elapse) = self.slot_after(after) {
            if elapse >= end || count == MOST_READINGS {
                break;
            }
            count += 1;
            after = elapse;
        }
        count
    }
}

/// No zone changes its clock so often in the time that anybody looks ahead.
const MOST_CHANGES: usize = 400;
/// Enough to tell first from last for anything that elapses at most once a second.
const MOST_READINGS: usize = 12_000;
