//! Days on which clocks are changed, and what becomes of a schedule's slots on them.

use std::fmt::Write as _;

use jiff::tz::{TimeZone, TimeZoneTransition};
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use super::{Slot, When};

/// How many slots of a day are named; of more than that only their number is told.
const NAMED_SLOTS: usize = 3;
/// Beyond this many slots nobody counts.
const COUNTED_SLOTS: usize = 1000;

impl When {
    /// The days up to `within` from `now` on which the clocks of the zone are changed, each in a sentence: "on Sun
    /// 2027-03-28 clocks go forward 1 h at 02:00:00 CET; slot of that day: 03:30:00 CEST".
    pub fn clock_changes(&self, now: Timestamp, within: SignedDuration) -> Vec<String> {
        let When::Calendar(calendar) = self else {
            return Vec::new();
        };
        let zone = calendar.zone();
        let end = now.saturating_add(within).unwrap_or(Timestamp::MAX);
        let coming = zone.following(now).take_while(|change| change.timestamp() <= end);
        coming.filter_map(|change| self.clock_change(zone, &change)).collect()
    }

    /// None if only the zone's name changes.
    fn clock_change(&self, zone: &TimeZone, change: &TimeZoneTransition<'_>) -> Option<String> {
        let before = change
            .timestamp()
            .checked_sub(1.nanosecond())
            .ok()?
            .to_zoned(zone.clone());
        let shift = i64::from(change.offset().seconds()) - i64::from(before.offset().seconds());
        let way = match shift {
            0 => return None,
            ..0 => "back",
            1.. => "forward",
        };
        let last = before.checked_add(1.nanosecond()).ok().map(|_| {
            // What the clock would have shown next.
            let shown = before.offset().to_datetime(change.timestamp());
            format!("{} {}", shown.strftime("%H:%M:%S"), before.strftime("%Z"))
        })?;
        let by = crate::text::Length(std::time::Duration::from_secs(shift.unsigned_abs()));
        let day = before.strftime("%a %Y-%m-%d");
        let mut sentence = format!("on {day} clocks go {way} {by} at {last}; ");
        let slots = self.slots_of_day(&before);
        match slots.as_slice() {
            [] => sentence.push_str("no slot on that day"),
            few if few.len() <= NAMED_SLOTS => {
                sentence.push_str("slots of that day:");
                for slot in few {
                    write!(sentence, " {}", slot.0.to_zoned(zone.clone()).strftime("%H:%M:%S %Z"))
                        .expect("a string can be written to");
                }
            }
            many if many.len() < COUNTED_SLOTS => {
                write!(sentence, "{} slots on that day", many.len()).expect("a string can be written to");
            }
            _ => return None,
        }
        Some(sentence)
    }

    /// The slots of the day on which `moment` falls, at most [`COUNTED_SLOTS`].
    fn slots_of_day(&self, moment: &Zoned) -> Vec<Slot> {
        let (Ok(start), Ok(next)) = (moment.start_of_day(), moment.tomorrow()) else {
            return Vec::new();
        };
        let Ok(end) = next.start_of_day() else {
            return Vec::new();
        };
        let before = start
            .timestamp()
            .saturating_sub(1.nanosecond())
            .unwrap_or(Timestamp::MIN);
        let slots = std::iter::successors(self.slot_after(before), |slot| self.slot_after(slot.0));
        let of_day = slots.take_while(|slot| slot.0 < end.timestamp());
        of_day.take(COUNTED_SLOTS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(expression: &str, now: &str) -> Vec<String> {
        let expression = format!("{expression} Europe/Berlin");
        let calendar = super::super::calendar::OnCalendar::parse(&expression, &TimeZone::UTC, jiff::tz::db()).unwrap();
        let when = When::Calendar(Box::new(calendar));
        when.clock_changes(now.parse().unwrap(), SignedDuration::from_hours(8 * 24))
    }

    #[test]
    fn the_days_are_named_with_what_becomes_of_the_slots() {
        let spring = "2027-03-25T00:00:00Z";
        assert_eq!(
            changes("*-*-* 04:00", spring),
            ["on Sun 2027-03-28 clocks go forward 1 h at 02:00:00 CET; slots of that day: 04:00:00 CEST"]
        );
        assert_eq!(
            changes("hourly", spring),
            ["on Sun 2027-03-28 clocks go forward 1 h at 02:00:00 CET; 23 slots on that day"]
        );
        assert_eq!(
            changes("Mon 04:00", spring),
            ["on Sun 2027-03-28 clocks go forward 1 h at 02:00:00 CET; no slot on that day"]
        );
        let autumn = "2026-10-20T00:00:00Z";
        assert!(changes("*-*-* 02:30", autumn)[0].starts_with("on Sun 2026-10-25 clocks go back 1 h at 03:00:00 CEST"));
        assert_eq!(changes("hourly", "2026-11-20T00:00:00Z"), [""; 0]);
    }
}
