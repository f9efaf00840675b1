//! What is measured of a job.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A backup that was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// The size of the snapshot.
    pub bytes: u64,
    /// The size of the object.
    pub stored_bytes: u64,
    /// How long each part of it took, in milliseconds.
    pub phases: BTreeMap<String, u64>,
}

/// What retention did in one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// How many backups it kept the last time.
    pub kept: u64,
    /// How many it has removed.
    pub removed: u64,
}

/// How long the parts of a backup took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Phases(Vec<(&'static str, Duration)>);

impl Phases {
    /// Adds one.
    #[must_use]
    pub fn with(mut self, name: &'static str, took: Duration) -> Phases {
        self.0.push((name, took));
        self
    }
}

impl LastBackup {
    /// A backup of that size, in those parts.
    pub fn new(bytes: u64, stored_bytes: u64, phases: &Phases) -> LastBackup {
        let millis = |took: &Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let phases = phases.0.iter().map(|(name, took)| ((*name).to_owned(), millis(took)));
        LastBackup {
            bytes,
            stored_bytes,
            phases: phases.collect(),
        }
    }
}
