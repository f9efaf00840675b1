//! What is asked for when a slot has come, and what is told when that is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::job_metrics::{LastBackup, Retained};
use crate::backup::Pulse;
use crate::config::{Config, DestinationName, Kind, ScheduleName};
use crate::health::Look;
use crate::model::ChainId;
use crate::schedule::Slot;
use crate::slots::Fate;

/// One slot's work.
#[derive(Debug, Clone)]
pub struct Order {
    /// The configuration as it was when the slot came.
    pub config: Arc<Config>,
    /// The schedule.
    pub schedule: ScheduleName,
    /// What is to be done.
    pub kind: Kind,
    /// The slot.
    pub slot: Slot,
    /// When it came to this host.
    pub due_at: Timestamp,
    /// The destinations that need it and can be tried now; at least one.
    pub destinations: BTreeSet<DestinationName>,
    /// Raised when the agent is to stop.
    pub stop: watch::Receiver<bool>,
    /// Raised when a backup is due that this work keeps waiting.
    pub gives_way: watch::Receiver<bool>,
    /// Where the job shows that it gets on.
    pub pulse: Pulse,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// What became of each destination of the order.
    pub fates: BTreeMap<DestinationName, Fate>,
    /// The backup that was taken, if one was.
    pub taken: Option<Taken>,
    /// What there is in the destinations after it; none if they were not all read for it.
    pub look: Option<Look>,
    /// What else was done, and found.
    pub findings: Findings,
    /// What retention did, by destination.
    pub retained: BTreeMap<DestinationName, Retained>,
}

/// What work came to that takes no backup.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What was done, in words.
    pub done: Vec<String>,
    /// What is wrong with what was looked at. The work is done all the same.
    pub wrong: Vec<String>,
    /// What could not be done, and is not tried again for this slot.
    pub undone: Vec<String>,
}

/// A backup that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Its id.
    pub id: ChainId,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// How many retention removed.
    pub removed: usize,
    /// Its size, and how long its parts took.
    pub last: LastBackup,
    /// Destinations that were not pruned after it, and why.
    pub undone: Vec<String>,
}

/// Why there is nothing to say of single destinations.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Another run is active.
    Busy(String),
    /// It was told to stop.
    Stopped,
    /// Anything else.
    Failed(String),
}
