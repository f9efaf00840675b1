//! The clocks of a host and of a store, and what is too early for a slot by them.

use jiff::{SignedDuration, Timestamp};

/// How long before its slot something may be done and still count: the clocks of hosts and stores are never quite equal.
const EARLY: SignedDuration = SignedDuration::from_mins(5);

/// What two clocks show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// That of the host which looks.
    pub host: Timestamp,
    /// The store's.
    pub store: Timestamp,
}

impl Clocks {
    /// Whether what was done at `done_at`, by the store's clock, can be of `slot`: not if that was well before it.
    pub fn counts_for(self, slot: Timestamp, done_at: Timestamp) -> bool {
        slot.duration_since(done_at) <= EARLY.saturating_add(self.ahead())
    }

    /// By how much the host's clock is ahead of the store's, if that is more than clocks ever differ.
    pub fn apart(self) -> Option<SignedDuration> {
        Some(self.ahead()).filter(|ahead| *ahead > EARLY)
    }

    fn ahead(self) -> SignedDuration {
        self.host.duration_since(self.store).max(SignedDuration::ZERO)
    }
}
