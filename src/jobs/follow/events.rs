//! What is heard of a data directory that is kept up.

use std::time::Duration;

use jiff::Timestamp;

use crate::layout::Manifest;
use crate::model::{ChainId, HashKv, Revision};
use crate::rebuild::{Applied, Rebuilt};

/// What has happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// It was laid out, for the first time or anew.
    LaidOut {
        /// The full backup.
        manifest: &'a Manifest,
        /// What was made.
        rebuilt: &'a Rebuilt,
        /// Why anew.
        instead: Option<String>,
    },
    /// An earlier run has laid it out.
    Resumed,
    /// Changes were taken in.
    Applied(Applied),
    /// Another chain is gone on with.
    WentOver(&'a ChainId),
}

/// How it is.
#[derive(Debug, Clone, Copy)]
pub struct Stand {
    /// The revision of the data.
    pub revision: Revision,
    /// HashKV of it.
    pub hash_kv: HashKv,
    /// Until when it is known that there was nothing behind that, by the clock of whoever captures.
    pub as_of: Option<Timestamp>,
    /// How long the database is.
    pub bytes: u64,
    /// Whether there are users and passwords.
    pub has_users: bool,
}

impl Stand {
    /// How far it is behind, where that is known.
    pub fn lag(&self, now: Timestamp) -> Option<Duration> {
        let behind = now.duration_since(self.as_of?);
        Some(behind.try_into().unwrap_or(Duration::ZERO))
    }
}

/// What is heard of it.
pub trait Hears {
    /// Something has happened.
    fn event(&self, event: &Event<'_>, stand: &Stand);

    /// Nothing has.
    fn stands(&self, stand: &Stand);

    /// How far the laying out is: bytes and all there are.
    fn lays_out(&self, bytes: u64, of: u64);
}
