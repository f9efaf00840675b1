//! Schedules in words, for `status`.

use std::fmt;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{Due, Lateness, Occasion, Schedule, Slot, When};

/// A length of time in words: `4 m 12 s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts = [
            (seconds / 86_400, "d"),
            (seconds / 3_600 % 24, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
        ];
        let mut space = "";
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{space}{count} {unit}")?;
            space = " ";
        }
        if space.is_empty() { f.write_str("0 s") } else { Ok(()) }
    }
}

impl Schedule {
    /// The next run and why it is then: "next run 2026-11-20T11:04:12Z: hourly, slot of Fri 2026-11-20 12:00:00 CET + 4 m
    /// 12 s jitter of this host".
    pub fn sentence(&self, due: &Due) -> String {
        match due {
            Due::Wait { slot, until } => format!("next run {until:.0}: {}", self.reason(*slot)),
            Due::Run {
                slot,
                occasion: Occasion::OnTime,
            } => format!("due now: {}", self.reason(*slot)),
            Due::Run {
                slot,
                occasion: Occasion::CatchUp,
            } => format!(
                "due now, to catch up what came while nobody was here to do it: {}",
                self.reason(*slot)
            ),
            Due::Nothing => format!("no next run: `{}` names nothing more before the year 2200", self.when),
        }
    }

    /// What is late, in words; None if nothing is.
    pub fn complaint(&self, lateness: &Lateness) -> Option<String> {
        match lateness {
            Lateness::InTime => None,
            Lateness::Late { slot, since } => Some(format!("late since {since:.0}: {}", self.reason(*slot))),
            Lateness::Ahead { slot } => Some(format!(
                "the last success is of a slot in the future, {slot}: the clock of this host was ahead when it was taken"
            )),
        }
    }

    fn reason(&self, slot: Slot) -> String {
        let zone = match &self.when {
            When::Calendar(calendar) => calendar.zone(),
            When::Every(_) => &TimeZone::UTC,
        };
        let shown = slot.0.to_zoned(zone.clone());
        let shown = shown.strftime("%a %Y-%m-%d %H:%M:%S %Z");
        let jitter = if self.jitter.is_zero() {
            String::new()
        } else {
            format!(" + {} jitter of this host", Span(self.jitter))
        };
        format!("{}, slot of {shown}{jitter}", self.when)
    }
}
