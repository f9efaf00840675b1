//! Calendar expressions: what `when = "Mon..Fri 02:30"` names.
//!
//! The language and its meaning are those of systemd's `OnCalendar=`: systemd.time(7), "Calendar Events", as systemd
//! 252 and 257 compute it. Where that page is silent (days on which a clock is changed, above all), what the program
//! `systemd-analyze calendar` prints is the specification, and `tests/it/calendar.rs` compares this module with it.
//! `parse` reads the text, `canonical_form` brings it into the form that systemd prints, `next_elapse` finds the next
//! elapse, `wall_clock` turns wall clock readings into instants.
//!
//! Leaves to the caller which zone is the host's, and where zones are looked up.
//! Invariant: an `OnCalendar` is valid and normalised; what it prints is what systemd prints.
//! Invariant: every search ends after a bounded number of steps, for any expression.

mod canonical_form;
mod clock_change;
mod next_elapse;
mod parse;
mod pattern;
mod range;
mod wall_clock;

use std::fmt;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

pub use clock_change::{ClockChange, Direction};
pub use parse::{CalendarError, Part, SHORTHANDS};

use next_elapse::Elapse;
use pattern::{DaysFrom, Pattern};
use wall_clock::{MICROSECOND, Repeated, Season};

/// A calendar expression.
#[derive(Debug, Clone)]
pub struct OnCalendar {
    written: String,
    pattern: Pattern,
    zone: Zone,
}

/// Whose wall clock an expression is about.
#[derive(Debug, Clone, PartialEq)]
enum Zone {
    Utc,
    /// The host's.
    Local(TimeZone),
    /// The host's by the abbreviation of one half of the year, which systemd takes as a demand for that half's offset.
    LocalSeason {
        zone: TimeZone,
        abbreviation: String,
        season: Season,
    },
    Named {
        name: String,
        zone: TimeZone,
    },
}

impl OnCalendar {
    /// Reads an expression. `local` is the zone of expressions that name none; other zones are looked up in `zones`.
    ///
    /// # Errors
    /// What systemd refuses too: the error names the part, what was expected, and an example.
    pub fn parse(text: &str, local: &TimeZone, zones: &TimeZoneDatabase) -> Result<Self, CalendarError> {
        let (pattern, zone) = parse::expression(text, local, zones)?;
        Ok(OnCalendar {
            written: text.to_owned(),
            pattern,
            zone,
        })
    }

    /// The expression as it was written; its `Display` is the normalised form.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// The zone whose wall clock is meant.
    pub fn zone(&self) -> &TimeZone {
        match &self.zone {
            Zone::Utc => &UTC,
            Zone::Local(zone) | Zone::LocalSeason { zone, .. } | Zone::Named { zone, .. } => zone,
        }
    }

    /// Whether there is a second with more than one elapse.
    pub fn divides_seconds(&self) -> bool {
        self.pattern.divides_seconds()
    }

    /// The first elapse after an instant, as systemd computes it when that instant is all it knows. None if there is none
    /// before the year 2200, or if systemd gives up.
    ///
    /// In an hour that comes twice, systemd's answer depends on which of the two the question is asked in. For answers that
    /// do not depend on who asks when, see [`OnCalendar::slot_after`].
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.elapse(after).instant()
    }

    /// The first elapse after an instant in the one sequence that systemd goes through when it counts on from elapse to
    /// elapse: the same on each host, whenever its agent was started.
    ///
    /// There are expressions that systemd gives up on, on some days on which the clock is changed (`0/2:*` in Africa/Cairo),
    /// and those that end in the abbreviation of the other half of the year (`12:00 CET` in summer). A timer of systemd then
    /// never elapses again. Here the sequence goes on with what systemd names when it is asked at a later hour.
    pub fn slot_after(&self, after: Timestamp) -> Option<Timestamp> {
        // Into a span that is repeated, the sequence leads from before it.
        let Some(repeated) = Repeated::around(self.zone(), after) else {
            return self.elapse_or_later(after);
        };
        let entry = if self.is_unsteady() {
            repeated.begin
        } else {
            // Nothing in the first pass leads into the second, so the sequence can be entered at the end of the first.
            repeated.change.checked_sub(MICROSECOND).ok()?.min(after)
        };
        let mut slot = self.elapse_or_later(entry.checked_sub(MICROSECOND).ok()?)?;
        for _ in 0..MOST_IN_A_REPEATED_HOUR {
            if slot > after {
                return Some(slot);
            }
            slot = self.elapse_or_later(slot)?;
        }
        self.elapse_or_later(after)
    }

    fn elapse(&self, after: Timestamp) -> Elapse {
        next_elapse::elapse(&self.pattern, self.zone(), self.season(), after)
    }

    /// The next elapse; where systemd has no answer, its answer at the first later hour at which it has one.
    fn elapse_or_later(&self, after: Timestamp) -> Option<Timestamp> {
        let is_answer = |found: Elapse| match found {
            Elapse::At(_) => true,
            Elapse::Never => self.season().is_none(),
            Elapse::GivenUp => false,
        };
        let found = self.elapse(after);
        if is_answer(found) {
            return found.instant();
        }
        let this_hour = after.as_second().div_euclid(3_600);
        let in_hours = |hours: i64| match Timestamp::from_second((this_hour + hours) * 3_600) {
            Ok(later) => self.elapse(later),
            Err(_) => Elapse::Never,
        };
        let days = (1..=MOST_DAYS_WITHOUT_ANSWER).find(|days| is_answer(in_hours(days * 24)))?;
        let mut hours = (days * 24 - 23..=days * 24).map(in_hours);
        hours.find(|&found| is_answer(found))?.instant()
    }

    /// Whether systemd may go from the first pass of a repeated hour into the second: if it had to look at another time of
    /// year in between, be it the end of the month.
    fn is_unsteady(&self) -> bool {
        self.pattern.days_from == DaysFrom::End || self.season().is_some()
    }

    fn season(&self) -> Option<Season> {
        match &self.zone {
            Zone::LocalSeason { season, .. } => Some(*season),
            Zone::Utc | Zone::Local(_) | Zone::Named { .. } => None,
        }
    }
}

/// How far ahead an answer is looked for. Whatever it is that systemd stumbles over comes once a year.
const MOST_DAYS_WITHOUT_ANSWER: i64 = 400;

static UTC: TimeZone = TimeZone::UTC;

/// Elapses looked at in the second pass of a repeated hour. One a second for three hours is less.
const MOST_IN_A_REPEATED_HOUR: usize = 12_000;

impl PartialEq for OnCalendar {
    /// Equal if they name the same instants for the same reason; how they are written does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern && self.zone == other.zone
    }
}

impl fmt::Display for OnCalendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pattern)?;
        match &self.zone {
            Zone::Utc => f.write_str(" UTC"),
            Zone::Local(_) => Ok(()),
            Zone::LocalSeason { abbreviation, .. } => write!(f, " {abbreviation}"),
            Zone::Named { name, .. } => write!(f, " {name}"),
        }
    }
}

#[cfg(test)]
mod tests;
