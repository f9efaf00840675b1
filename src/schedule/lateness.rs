//! When a schedule has failed to do its work. When a destination lacks what others have is `health::behind`.

use jiff::Timestamp;

use super::{Schedule, Slot};

/// How a schedule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// The work of every slot was done, or there is still time for it.
    InTime,
    /// The work of this slot is not done, nor that of any after it.
    Late {
        /// The first slot whose time is over.
        slot: Slot,
        /// When its time was over.
        since: Timestamp,
    },
    /// The last success is of a slot that lies in the future: this host's clock was ahead, and what the schedule has done
    /// since cannot be told. Until that slot comes, the slots before it count as done where they were taken.
    Ahead {
        /// The slot of that success.
        slot: Slot,
    },
}

impl Schedule {
    /// Whether the work is late at `now`. `since`: when the schedule was first seen, slots before which count for nothing;
    /// `last_success`: the newest slot whose work was done.
    pub fn lateness(&self, since: Timestamp, last_success: Option<Slot>, now: Timestamp) -> Lateness {
        if let Some(slot) = last_success.filter(|slot| slot.0 > now) {
            return Lateness::Ahead { slot };
        }
        let done = last_success.map_or(since, |slot| slot.0.max(since));
        let end = self.reached(now, self.late_after);
        match self.when.slot_after(done).filter(|slot| slot.0 < end) {
            None => Lateness::InTime,
            Some(slot) => Lateness::Late {
                slot,
                since: self.due_at(slot).saturating_add(self.late_after).unwrap_or(now),
            },
        }
    }
}
