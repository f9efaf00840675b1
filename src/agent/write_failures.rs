//! What the agent could not write to its state, until it can: a full or read-only disk there ends no backups elsewhere.

use std::collections::BTreeMap;

use crate::error_chain::with_causes;
use crate::health::{Event, Notice};

/// What `status.json` is called among what could not be written: no schedule has that name.
pub const STATUS: &str = "status.json";
/// Likewise the highest time that was seen.
pub const CLOCK: &str = "clock.json";

/// What could not be written, and why.
#[derive(Debug, Default)]
pub struct Unkept {
    why: BTreeMap<String, String>,
}

impl Unkept {
    /// Takes note of an attempt to write `what`.
    pub fn note(&mut self, what: &str, written: Result<(), impl std::error::Error + 'static>) {
        match written {
            Ok(()) => self.why.remove(what),
            Err(error) => self.why.insert(what.to_owned(), with_causes(&error)),
        };
    }

    /// Whether everything was written.
    pub fn is_empty(&self) -> bool {
        self.why.is_empty()
    }

    /// What is to be told.
    pub fn notice(&self) -> Option<Notice> {
        let mut reasons: Vec<&str> = self.why.values().map(String::as_str).collect();
        reasons.dedup();
        (!reasons.is_empty()).then(|| {
            let message = format!(
                "the agent cannot record what it did on this host, so it may do it again after a restart: {}",
                reasons.join("; ")
            );
            Notice::new(Event::StateUnwritable, message)
        })
    }
}
