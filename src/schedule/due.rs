//! What to do now.

use jiff::Timestamp;

use super::{CatchUp, Handled, Schedule, Slot};

/// What a schedule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Take this slot.
    Run {
        /// The latest one that is due.
        slot: Slot,
        /// Why now.
        occasion: Occasion,
    },
    /// Nothing before `until`. Clocks are set and machines sleep, so whoever waits asks again every minute or so.
    Wait {
        /// The next slot to take.
        slot: Slot,
        /// When this host is to take it.
        until: Timestamp,
    },
    /// Nothing any more.
    Nothing,
}

/// Why a slot is to be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// It came while this host was watching.
    OnTime,
    /// It came while it was not.
    CatchUp,
}

impl Schedule {
    /// What to do now. `watched_from`: see [`super::Watch::from`].
    ///
    /// Of several slots that are due, the latest is handed out, and the others never will be, unless the clock goes back.
    pub fn due(&self, handled: &Handled, watched_from: Timestamp, now: Timestamp) -> Due {
        let end = self.reached(now, std::time::Duration::ZERO);
        if let Some(slot) = self.when.latest_slot(handled.floor(end), end) {
            let occasion = if self.due_at(slot) >= watched_from {
                Occasion::OnTime
            } else {
                Occasion::CatchUp
            };
            match (occasion, self.catch_up) {
                (Occasion::OnTime, CatchUp::Once | CatchUp::Never) | (Occasion::CatchUp, CatchUp::Once) => {
                    return Due::Run { slot, occasion };
                }
                (Occasion::CatchUp, CatchUp::Never) => {}
            }
        }
        match self.next(handled, end) {
            Some(slot) => Due::Wait {
                slot,
                until: self.due_at(slot),
            },
            None => Due::Nothing,
        }
    }

    /// The next slots that this host is to take, at most `count`.
    pub fn upcoming(&self, handled: &Handled, now: Timestamp, count: usize) -> Vec<Slot> {
        let end = self.reached(now, std::time::Duration::ZERO);
        let first = self.next(handled, end);
        std::iter::successors(first, |slot| self.next(handled, slot.0))
            .take(count)
            .collect()
    }

    /// The first slot after an instant that was not taken.
    fn next(&self, handled: &Handled, after: Timestamp) -> Option<Slot> {
        let mut slot = self.when.slot_after(after)?;
        // One step over each run of taken slots; each ends later than the one before.
        while let Some(last) = handled.run_with(slot) {
            slot = self.when.slot_after(last.0)?;
        }
        Some(slot)
    }
}
