//! The use case of a backup: one full snapshot of one member, or one that was made of an earlier one and its deltas, to several
//! destinations at once.

mod destinations;
mod failure;
mod full;
mod manifest;
mod member;
mod pace;
mod placing;
mod proof;
mod signs_of_life;
mod sink;
mod snapshot_observer;
mod synthetic;
mod uncommitted;

pub use destinations::{DestinationError, Written, is_left_behind};
pub use full::{Error, HashKvPolicy, Job, Outcome, full, is_lately_wrong, v2_keys_are_missing};
pub use pace::{Pace, Slowness, TooSlow};
pub use proof::{Verdict, judge};
pub use signs_of_life::Pulse;
pub use snapshot_observer::{ContentError, Facts, Observed, Seen};
pub use synthetic::{Made, SyntheticJob, synthetic};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a backup has come, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    received: AtomicU64,
    total: AtomicU64,
    has_written: AtomicBool,
    pulse: Pulse,
}

impl Progress {
    /// No way yet, with signs of life to `pulse`.
    pub fn with(pulse: Pulse) -> Progress {
        Progress {
            pulse,
            ..Progress::default()
        }
    }

    /// Bytes received from the member, and bytes that it promised; the latter is 0 before the first message.
    pub fn bytes(&self) -> (u64, u64) {
        (
            self.received.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// Whether all bytes have come, so that only syncing, reading back and HashKV are left.
    pub fn is_streamed(&self) -> bool {
        let (received, total) = self.bytes();
        total > 0 && received == total
    }

    /// Whether anything of it may be in a destination.
    pub fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Relaxed)
    }

    fn writes(&self, has_written: bool) {
        self.has_written.store(has_written, Ordering::Relaxed);
    }

    /// Nothing has come yet of what another member sends now.
    fn begin_again(&self) {
        self.received.store(0, Ordering::Relaxed);
        self.total.store(0, Ordering::Relaxed);
    }

    fn promise(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.pulse.beat();
    }
}
