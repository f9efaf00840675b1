//! Whether the clock has jumped: a span between two backups that the schedule does not explain.
//!
//! A clock that is ahead for half a minute makes a backup of next month, and by its age everything else is to go. That
//! span is longer than any before it. It may also be true, after a host was off; then a day of backups shows it. A clock that
//! was set back gives a span that is negative.

use jiff::{SignedDuration, Timestamp};

/// How many spans before tell what the schedule is.
const REMEMBERED: usize = 30;
/// By how much clocks may differ.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(10);
/// So long after a jump the times after it count.
const PROVEN_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// So many usual spans may be missed without a jump.
const USUAL_TIMES: i32 = 3;

/// The last span that is not explained, if there was one within a day; it is negative where the clock was set back; `starts` are those of the backups of one history, in
/// its order.
pub fn unexplained(starts: &[Timestamp]) -> Option<SignedDuration> {
    let newest = *starts.last()?;
    let spans: Vec<(Timestamp, SignedDuration)> = starts
        .iter()
        .zip(starts.iter().skip(1))
        .map(|(before, after)| (*after, after.duration_since(*before)))
        .collect();
    let last = spans.iter().enumerate().rev().find(|(place, (_, span))| {
        let usual = spans.get(place.saturating_sub(REMEMBERED)..*place).unwrap_or_default();
        // Where nothing tells what is usual, a day is long.
        let longest = match usual_span(usual) {
            Some(usual) => usual.saturating_mul(USUAL_TIMES).max(TOLERANCE),
            None => PROVEN_AFTER,
        };
        *span < -TOLERANCE || *span > longest
    });
    let (_, (after, span)) = last?;
    (newest.duration_since(*after) < PROVEN_AFTER).then_some(*span)
}

/// The one in the middle.
fn usual_span(spans: &[(Timestamp, SignedDuration)]) -> Option<SignedDuration> {
    let mut spans: Vec<SignedDuration> = spans.iter().map(|(_, span)| *span).collect();
    spans.sort();
    spans.get(spans.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn starts(seconds: impl IntoIterator<Item = i64>) -> Vec<Timestamp> {
        let at = |seconds| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        seconds.into_iter().map(at).collect()
    }

    #[test]
    fn a_regular_schedule_explains_itself_and_a_missed_slot_too() {
        assert_eq!(unexplained(&starts([])), None);
        assert_eq!(unexplained(&starts([0])), None);
        assert_eq!(
            unexplained(&starts([0, 24 * HOUR])),
            None,
            "nothing tells what is usual"
        );
        assert_eq!(
            unexplained(&starts([0, 25 * HOUR])),
            Some(SignedDuration::from_hours(25))
        );
        assert_eq!(unexplained(&starts((0..50).map(|n| n * HOUR))), None);
        assert_eq!(unexplained(&starts([0, 1, 2, 5, 6].map(|n| n * HOUR))), None);
        assert_eq!(unexplained(&starts([0, 10, 20, 30, 600])), None, "clocks may differ");
    }

    #[test]
    fn a_jump_is_one_until_a_day_of_backups_has_come_after_it() {
        let month = 30 * 24 * HOUR;
        let before = [0, 1, 2, 3].map(|n| n * HOUR);
        for ran in 0..24 {
            let after = (0..=ran).map(|n| month + n * HOUR);
            let found = unexplained(&starts(before.into_iter().chain(after)));
            assert_eq!(found, Some(SignedDuration::from_secs(month - 3 * HOUR)), "{ran} h");
        }
        let after = (0..=24).map(|n| month + n * HOUR);
        assert_eq!(unexplained(&starts(before.into_iter().chain(after))), None);
    }

    #[test]
    fn a_clock_that_was_set_back_is_told_until_a_day_of_backups_has_come_after_it() {
        assert_eq!(
            unexplained(&starts([100, 110, 120, 0, 10, 20])),
            None,
            "clocks may differ"
        );
        let back = |ran: i64| starts([10, 11, 12].into_iter().chain(0..=ran).map(|n| n * HOUR));
        assert_eq!(unexplained(&back(23)), Some(SignedDuration::from_hours(-12)));
        assert_eq!(unexplained(&back(24)), None);
    }
}
