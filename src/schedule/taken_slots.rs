//! Which slots were taken.
//!
//! One "last slot" is not enough: after a clock that was a day ahead is put right, slots lie before it that were never
//! taken; after one that was a day behind, slots come again that were. So runs of consecutive slots are kept.
//! Invariant: runs are in order and do not touch or overlap; there are at most 16.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Slot, When};

/// The slots of one schedule that were taken on this host, and since when it is there. Kept in the host's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    since: Timestamp,
    runs: Vec<Run>,
}

/// Consecutive slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    first: Slot,
    last: Slot,
}

/// A new run begins after each time of downtime or clock step; more than that is long past.
const MOST_RUNS: usize = 16;

impl Handled {
    /// A schedule that is new, or newly changed: no slot up to now is taken or missing.
    pub fn since(now: Timestamp) -> Self {
        Handled {
            since: now,
            runs: Vec::new(),
        }
    }

    /// Takes note of the present time; to be called whenever the agent wakes, before it asks what is due. Returns whether
    /// there is something new to be kept.
    ///
    /// A schedule that was first seen by a clock which was ahead would otherwise wait for that time to come.
    pub fn take_note_of(&mut self, now: Timestamp) -> bool {
        let was_ahead = now < self.since;
        if was_ahead {
            self.since = now;
        }
        was_ahead
    }

    /// Takes a slot: done, given up for good, or done by another host. Slots before it that nobody took stay open, but
    /// will not be handed out unless the clock goes back to before them.
    pub fn take(&mut self, slot: Slot, when: &When) {
        if self.contains(slot) {
            return;
        }
        let at = self.runs.partition_point(|run| run.first < slot);
        self.runs.insert(
            at,
            Run {
                first: slot,
                last: slot,
            },
        );
        self.join(at, when);
        if let Some(before) = at.checked_sub(1) {
            self.join(before, when);
        }
        if self.runs.len() > MOST_RUNS {
            let oldest = self.runs.remove(0);
            self.since = self.since.max(oldest.last.0);
        }
    }

    /// Joins a run with the one after it if no slot lies between them.
    fn join(&mut self, at: usize, when: &When) {
        let (Some(&run), Some(&next)) = (self.runs.get(at), self.runs.get(at + 1)) else {
            return;
        };
        if when.slot_after(run.last.0) == Some(next.first) {
            self.runs.remove(at + 1);
            if let Some(run) = self.runs.get_mut(at) {
                run.last = next.last;
            }
        }
    }

    /// Whether a slot was taken.
    pub fn contains(&self, slot: Slot) -> bool {
        self.run_with(slot).is_some()
    }

    /// The last slot of the run that a slot is in.
    pub(super) fn run_with(&self, slot: Slot) -> Option<Slot> {
        let run = self.runs.iter().find(|run| run.first <= slot && slot <= run.last)?;
        Some(run.last)
    }

    /// Up to `end`, all that need not be thought of any more: it was taken, lies before what was taken, or before the schedule.
    pub(super) fn floor(&self, end: Timestamp) -> Timestamp {
        let runs = self.runs.iter().filter(|run| run.first.0 <= end);
        runs.map(|run| run.last.0.min(end)).fold(self.since, Timestamp::max)
    }

    /// The newest slot that was taken, by the slots' own order.
    pub fn newest(&self) -> Option<Slot> {
        self.runs.last().map(|run| run.last)
    }

    /// Since when the schedule is there.
    pub fn first_seen(&self) -> Timestamp {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hourly() -> When {
        When::Every("1h".parse().unwrap())
    }

    fn slot(hour: i64) -> Slot {
        Slot(Timestamp::from_second(hour * 3600).unwrap())
    }

    fn handled(hours: &[i64]) -> Handled {
        let mut handled = Handled::since(slot(0).0);
        hours.iter().for_each(|&hour| handled.take(slot(hour), &hourly()));
        handled
    }

    #[test]
    fn consecutive_slots_are_one_run_in_whatever_order_they_were_taken() {
        assert_eq!(handled(&[1, 2, 3, 4]).runs.len(), 1);
        assert_eq!(handled(&[4, 2, 1, 3]), handled(&[1, 2, 3, 4]));
        assert_eq!(handled(&[1, 2, 2, 1]), handled(&[1, 2]));
        assert_eq!(handled(&[1, 2, 4, 5]).runs.len(), 2);
    }

    #[test]
    fn slots_between_runs_stay_open() {
        let handled = handled(&[1, 2, 24]);
        let taken: Vec<i64> = (0..30).filter(|&hour| handled.contains(slot(hour))).collect();
        assert_eq!(taken, [1, 2, 24]);
        assert_eq!(handled.floor(slot(5).0), slot(2).0);
        assert_eq!(handled.floor(slot(30).0), slot(24).0);
        assert_eq!(handled.newest(), Some(slot(24)));
    }

    #[test]
    fn the_oldest_run_is_forgotten_and_what_lies_before_it_stays_closed() {
        let every_other: Vec<i64> = (1..=17).map(|n| n * 2).collect();
        let handled = handled(&every_other);
        assert_eq!(handled.runs.len(), MOST_RUNS);
        assert_eq!(handled.first_seen(), slot(2).0);
    }

    #[test]
    fn a_schedule_first_seen_by_a_clock_that_was_ahead_starts_now() {
        let mut handled = Handled::since(slot(900).0);
        assert!(handled.take_note_of(slot(5).0));
        assert!(!handled.take_note_of(slot(6).0));
        assert_eq!(handled.first_seen(), slot(5).0);
    }

    #[test]
    fn it_reads_back_what_it_wrote() {
        let handled = handled(&[1, 2, 24]);
        let text = serde_json::to_string(&handled).unwrap();
        assert_eq!(
            text,
            r#"{"since":"1970-01-01T00:00:00Z","runs":[{"first":"1970-01-01T01:00:00Z","last":"1970-01-01T02:00:00Z"},{"first":"1970-01-02T00:00:00Z","last":"1970-01-02T00:00:00Z"}]}"#
        );
        assert_eq!(serde_json::from_str::<Handled>(&text).unwrap(), handled);
    }
}
