//! The numbers that each unit of a pattern can have.

use std::ops::RangeInclusive;

use super::next_elapse::LAST_YEAR;
use super::parse::{CalendarError, Part, cut};
use super::pattern::{DaysFrom, Pattern, SECOND, Span, Unit, Values};

/// Days counted from the end of a month: every month has that many.
const LAST_FROM_END: i32 = 28;

/// Holds a unit of a normalised pattern to the numbers that it can have.
pub(super) fn check_range(pattern: &Pattern, unit: Unit, text: &str) -> Result<(), CalendarError> {
    let (part, allowed) = match (unit, pattern.days_from) {
        (Unit::Year, _) => (Part::Year, 1970..=LAST_YEAR),
        (Unit::Month, _) => (Part::Month, 1..=12),
        (Unit::Day, DaysFrom::Start) => (Part::Day, 1..=31),
        (Unit::Day, DaysFrom::End) => (Part::Day, 1..=LAST_FROM_END),
        (Unit::Hour, _) => (Part::Hour, 0..=23),
        (Unit::Minute, _) => (Part::Minute, 0..=59),
        (Unit::Second, _) => (Part::Second, 0..=60 * SECOND - 1),
    };
    let Values::Listed(spans) = pattern.values(unit) else {
        return Ok(());
    };
    let from_end = unit == Unit::Day && pattern.days_from == DaysFrom::End;
    let mut span_allowed = allowed.clone();
    for span in spans {
        if !is_possible(span, &span_allowed, from_end) {
            return Err(out_of_range(part, unit, allowed, text));
        }
        if from_end {
            // systemd allows three days less for each further item of a list.
            span_allowed = *allowed.start()..=span_allowed.end() - 3;
        }
    }
    Ok(())
}

fn out_of_range(part: Part, unit: Unit, allowed: RangeInclusive<i32>, text: &str) -> CalendarError {
    let allowed = if unit == Unit::Second { 0..=59 } else { allowed };
    let found = cut(text);
    CalendarError::OutOfRange { part, found, allowed }
}

/// Whether a span stays in range, and its step leads to at least one more value in it.
fn is_possible(span: &Span, allowed: &RangeInclusive<i32>, from_end: bool) -> bool {
    if !allowed.contains(&span.start) || span.step > allowed.end() - allowed.start() {
        return false;
    }
    match span.stop {
        Some(stop) => allowed.contains(&stop) && span.start + span.step <= stop,
        None if from_end => span.start - span.step >= *allowed.start(),
        None => span.start + span.step <= *allowed.end(),
    }
}
