//! What was tried and done since the agent began, for the metrics: kept in `status.json`, from which the next agent goes on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{DestinationName, ScheduleName};
use crate::jobs::{LastBackup, Retained};
use crate::slots::Fate;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLog {
    /// By schedule and destination.
    pub runs: BTreeMap<String, BTreeMap<String, Runs>>,
    /// The last backup that this host took, by schedule.
    pub backups: BTreeMap<String, LastBackup>,
    /// What retention did, by destination.
    pub retention: BTreeMap<String, Retained>,
}

/// What was tried for one schedule in one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// When it was tried last.
    pub last_attempt: Option<Timestamp>,
    /// When it was last done, by this host or, in a shared store, by another.
    pub last_success: Option<Timestamp>,
    /// How often it was tried.
    pub attempts: u64,
    /// How often it failed.
    pub failures: u64,
}

impl RunLog {
    /// Takes note of what became of a slot of a schedule in each of its destinations.
    pub fn note_fates(&mut self, schedule: &ScheduleName, fates: &BTreeMap<DestinationName, Fate>, now: Timestamp) {
        let of_schedule = self.runs.entry(schedule.to_string()).or_default();
        for (destination, fate) in fates {
            let runs = of_schedule.entry(destination.to_string()).or_default();
            match fate {
                // Looking at what another run does is no attempt.
                Fate::Later { .. } => {}
                Fate::Stored(_) => {
                    runs.attempts += 1;
                    runs.last_attempt = Some(now);
                    runs.last_success = Some(now);
                }
                Fate::Failed(_) => {
                    runs.attempts += 1;
                    runs.failures += 1;
                    runs.last_attempt = Some(now);
                }
            }
        }
    }

    /// Takes note of what retention did in a destination.
    pub fn note_retention(&mut self, destination: &str, kept: u64, removed: u64) {
        let retained = self.retention.entry(destination.to_owned()).or_default();
        retained.kept = kept;
        retained.removed += removed;
    }

    /// Forgets schedules that there are not any more.
    pub fn keep_only(&mut self, is_known: impl Fn(&str) -> bool) {
        self.runs.retain(|schedule, _| is_known(schedule));
        self.backups.retain(|schedule, _| is_known(schedule));
    }
}
