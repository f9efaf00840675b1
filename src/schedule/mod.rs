//! When something is to be done.
//!
//! A schedule names slots: `calendar` by an expression of systemd's calendar language, `every` by a period counted
//! from 1970. Each host is a fixed `jitter` behind the slot. `taken_slots` remembers which slots were taken, `watch`
//! notices when this host slept or its clock was set, `highest_time` whether it was set back before, and `due` says
//! from all that what to do now: take a slot, or wait for one. `lateness` says when a schedule has failed to do its
//! work.
//!
//! Leaves to the caller the clock, the host's zone, keeping [`Handled`], and the agreement with other hosts on who
//! takes a slot of a shared store.
//! Invariant: nothing here reads a clock or a file (zones come from the database that the caller passes in).
//! Invariant: a slot that was taken is never handed out again, whatever the clock does; a slot that comes while the
//! host is watching is handed out, unless a later one has come before anybody asked.

pub mod calendar;
mod clock;
mod due;
mod fixed_interval;
mod highest_time;
mod jitter;
mod lateness;
mod taken_slots;
mod watch;

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use due::{Due, Occasion};
pub use fixed_interval::{Every, EveryError};
pub use highest_time::{HighestTime, SetBack};
pub use jitter::jitter;
pub use lateness::Lateness;
pub use taken_slots::Handled;
pub use watch::{Seen, Watch};

use calendar::OnCalendar;

/// The instant of one elapse of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(Timestamp);

impl Slot {
    /// The slot at an instant, as it was read from a manifest or a claim.
    pub fn new(instant: Timestamp) -> Self {
        Slot(instant)
    }

    /// Its instant.
    pub fn instant(self) -> Timestamp {
        self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// So many slots show each pause of a timetable: more than a week of every minute of working hours.
const SLOTS: usize = 5000;

/// From one slot to the next: for each hour from nine to five, an hour and a night.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// The shortest.
    pub shortest: SignedDuration,
    /// The longest.
    pub longest: SignedDuration,
}

/// What names the slots.
#[derive(Debug, Clone, PartialEq)]
pub enum When {
    /// `when = "Mon..Fri 02:30"`.
    Calendar(Box<OnCalendar>),
    /// `every = "6h"`.
    Every(Every),
}

impl When {
    /// The first slot after an instant; None if there is none before the year 2200.
    pub fn slot_after(&self, after: Timestamp) -> Option<Slot> {
        match self {
            When::Calendar(calendar) => calendar.slot_after(after).map(Slot),
            When::Every(every) => every.slot_after(after).map(Slot),
        }
    }

    /// The pauses between the slots after `from`, by [`SLOTS`] of them at the most and by 400 days; none if there are not two.
    pub fn pauses(&self, from: Timestamp) -> Option<Pauses> {
        let end = from.saturating_add(SignedDuration::from_hours(400 * 24)).ok()?;
        let first = self.slot_after(from)?;
        let mut slot = self.slot_after(first.0)?;
        let pause = slot.0.duration_since(first.0);
        let mut pauses = Pauses {
            shortest: pause,
            longest: pause,
        };
        if let When::Every(_) = self {
            return Some(pauses);
        }
        for _ in 0..SLOTS {
            let next = self.slot_after(slot.0).filter(|next| next.0 <= end);
            let Some(next) = next else { break };
            let pause = next.0.duration_since(slot.0);
            pauses.shortest = pauses.shortest.min(pause);
            pauses.longest = pauses.longest.max(pause);
            slot = next;
        }
        Some(pauses)
    }

    /// The last slot after `floor` and up to `end`, in a bounded number of questions.
    fn latest_slot(&self, floor: Timestamp, end: Timestamp) -> Option<Slot> {
        let up_to_end = |after: Timestamp| self.slot_after(after).filter(|slot| slot.0 <= end);
        let mut latest = up_to_end(floor)?;
        let mut beyond = end;
        while let Some(next) = up_to_end(latest.0) {
            latest = next;
            // Halves what is left between a slot and an instant after which there is none.
            let middle = latest.0.as_microsecond().midpoint(beyond.as_microsecond());
            let middle = Timestamp::from_microsecond(middle).unwrap_or(latest.0);
            match up_to_end(middle) {
                Some(slot) => latest = slot,
                None => beyond = middle,
            }
        }
        Some(latest)
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Calendar(calendar) => f.write_str(calendar.as_written()),
            When::Every(every) => every.fmt(f),
        }
    }
}

/// What becomes of slots that came while the host was off, asleep, or had its clock set forward over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// The latest of them is taken, once.
    Once,
    /// Nothing.
    Never,
}

/// One schedule on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// What names its slots.
    pub when: When,
    /// How far this host is behind each slot: see [`jitter()`].
    pub jitter: Duration,
    /// What becomes of missed slots.
    pub catch_up: CatchUp,
    /// How long after a slot is due its work must have been done.
    pub late_after: Duration,
}

impl Schedule {
    /// When this host is to take a slot.
    pub fn due_at(&self, slot: Slot) -> Timestamp {
        slot.0.saturating_add(self.jitter).unwrap_or(Timestamp::MAX)
    }

    /// The latest instant whose slot would be due by `now`, and late by `grace`.
    fn reached(&self, now: Timestamp, grace: Duration) -> Timestamp {
        let behind = self.jitter.saturating_add(grace);
        now.saturating_sub(behind).unwrap_or(Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests;
