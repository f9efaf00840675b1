//! How a lane is, as whoever asks may read it at any time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::health::{LaneState, LaneThere};
use crate::layout::delta::Span;
use crate::model::ByteSize;

/// The state of a lane, kept by those who do its work.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<LaneState>,
    /// Told when what keeps it from going on comes or goes.
    turned: Arc<Notify>,
}

impl Board {
    /// That of a lane that has not begun. `turned` is told when what keeps it, or a destination, from going on comes or goes.
    pub fn new(
        (lane, turned): (&str, Arc<Notify>),
        every: Duration,
        spool_most: ByteSize,
        destinations: impl Iterator<Item = String>,
    ) -> Board {
        let there = destinations.map(|destination| LaneThere {
            destination,
            ..LaneThere::default()
        });
        let state = LaneState {
            lane: lane.to_owned(),
            spool_most: spool_most.0,
            every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
            destinations: there.collect(),
            ..LaneState::default()
        };
        Board {
            state: Mutex::new(state),
            turned,
        }
    }

    /// What it says now.
    pub fn read(&self) -> LaneState {
        self.state().clone()
    }

    /// Changes what it says.
    pub(super) fn change(&self, change: impl FnOnce(&mut LaneState)) {
        change(&mut self.state());
    }

    /// Something keeps the lane from going on; whether that is news.
    pub(super) fn trouble(&self, why: &str, now: Timestamp) -> bool {
        let mut state = self.state();
        let is_news = state.trouble.as_deref() != Some(why);
        if state.trouble.replace(why.to_owned()).is_none() {
            self.turned.notify_one();
        }
        state.trouble_since.get_or_insert(now);
        is_news
    }

    /// Nothing keeps it from going on; whether something did.
    pub(super) fn well(&self) -> bool {
        let mut state = self.state();
        (state.trouble_since, state.nobody_answers) = (None, false);
        let was_troubled = state.trouble.take().is_some();
        if was_troubled {
            self.turned.notify_one();
        }
        was_troubled
    }

    pub(super) fn spool(&self, bytes: ByteSize) {
        self.state().spool = bytes.0;
    }

    /// A chain has ended, which is counted under that reason.
    pub(super) fn gap(&self, counted_as: &str, message: &str) {
        let mut state = self.state();
        state.last_gap = Some(message.to_owned());
        *state.gaps.entry(counted_as.to_owned()).or_default() += 1;
    }

    /// A destination has what it was given, of this size.
    pub(super) fn stored(&self, destination: &str, span: Option<Span>, bytes: u64, now: Timestamp) {
        self.there(destination, |there| {
            there.puts += 1;
            there.put_bytes += bytes;
            if there.trouble.take().is_some() {
                self.turned.notify_one();
            }
            there.trouble_since = None;
            there.stored_at = Some(now);
            there.stored_to = there.stored_to.max(span.map(Span::to));
        });
    }

    pub(super) fn not_stored(&self, destination: &str, why: String, now: Timestamp) {
        self.there(destination, |there| {
            if there.trouble.replace(why).is_none() {
                self.turned.notify_one();
            }
            there.trouble_since.get_or_insert(now);
        });
    }

    /// What was told of a destination in just these words is none of its troubles.
    pub(super) fn is_no_trouble(&self, destination: &str, why: &str) {
        self.there(destination, |there| {
            if there.trouble.take_if(|trouble| trouble == why).is_some() {
                there.trouble_since = None;
                self.turned.notify_one();
            }
        });
    }

    fn there(&self, destination: &str, change: impl FnOnce(&mut LaneThere)) {
        let mut state = self.state();
        let mut all = state.destinations.iter_mut();
        if let Some(there) = all.find(|there| there.destination == destination) {
            change(there);
        }
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
