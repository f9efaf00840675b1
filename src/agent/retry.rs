//! What failed is tried again after a pause, each destination for itself.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::config::DestinationName;
use crate::schedule::Slot;

/// How long a destination that failed rests: twice as long each time.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(2);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// A slot whose work is not done everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Which.
    pub slot: Slot,
    /// Where not.
    pub rests: BTreeMap<DestinationName, Rest>,
}

/// A destination that is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// How often it failed; 0 if something is only waited for.
    pub failures: u32,
    /// Why it failed the last time, or what is waited for.
    pub why: String,
    /// Until when.
    pub until: Timestamp,
}

impl Rest {
    /// After that many failures in a row, the last of which was at `now`.
    pub(super) fn after(failures: u32, why: String, now: Timestamp) -> Rest {
        Rest {
            failures,
            why,
            until: now.saturating_add(pause(failures)).unwrap_or(now),
        }
    }

    /// Whether it lasts at `now`.
    pub(super) fn is_on(&self, now: Timestamp) -> bool {
        // Longer than the longest pause it is only after the clock was set back.
        let left = self.until.duration_since(now);
        left.is_positive() && left <= LONGEST_PAUSE
    }
}

/// How long a destination rests that has failed that often in a row.
fn pause(failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings);
    pause.min(LONGEST_PAUSE)
}
