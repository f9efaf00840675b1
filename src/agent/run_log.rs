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
    /// Takes note of what became of a slot of a schedule in each of its destinations; `own` is the name of this host.
    pub fn note_fates(
        &mut self,
        schedule: &ScheduleName,
        own: &str,
        fates: &BTreeMap<DestinationName, Fate>,
        now: Timestamp,
    ) {
        let of_schedule = self.runs.entry(schedule.to_string()).or_default();
        for (destination, fate) in fates {
            let runs = of_schedule.entry(destination.to_string()).or_default();
            match fate {
                // Looking at what another run does is no attempt.
                Fate::Later { .. } => {}
                // Nor is it what another host has done.
                Fate::Stored(stored) if stored.host != own => runs.last_success = Some(now),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Stored;

    #[test]
    fn what_another_host_did_is_a_success_and_no_attempt_of_this_one() {
        let now: Timestamp = "2026-11-20T10:15:30Z".parse().unwrap();
        let by = |host: &str| {
            Fate::Stored(Stored {
                host: host.to_owned(),
                id: None,
            })
        };
        let (schedule, mut log) = ("hourly".parse().unwrap(), RunLog::default());
        let later = Fate::Later {
            why: "host h2 takes it".to_owned(),
            until: now,
        };
        let fates = [
            ("own", by("h1")),
            ("others", by("h2")),
            ("failed", Fate::Failed("no space".to_owned())),
            ("later", later),
        ];
        let fates = fates.map(|(name, fate)| (name.parse().unwrap(), fate));
        log.note_fates(&schedule, "h1", &BTreeMap::from(fates), now);
        let runs = |attempt: bool, success: bool, failures: u64| Runs {
            last_attempt: attempt.then_some(now),
            last_success: success.then_some(now),
            attempts: u64::from(attempt),
            failures,
        };
        let of = |name: &str| log.runs["hourly"][name].clone();
        assert_eq!(of("own"), runs(true, true, 0));
        assert_eq!(of("others"), runs(false, true, 0));
        assert_eq!(of("failed"), runs(true, false, 1));
        assert_eq!(of("later"), runs(false, false, 0));
    }
}
