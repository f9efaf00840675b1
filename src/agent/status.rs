//! `status.json`: what the agent says of itself, for every user of the host.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::desk::{Entry, Retry};
use super::memory::Success;
use crate::config::{DestinationName, ScheduleName};
use crate::durable;
use crate::health::Notice;
use crate::model::ChainId;
use crate::slots::Stored;

const FILE: &str = "status.json";
/// How often it is written at least, so that a reader can tell that the agent still can.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// After how long what an agent said is not taken for the present: longer than it sleeps and writes.
const SILENT_AFTER: Duration = Duration::from_secs(180);
const FILE_MODE: u32 = 0o644;
const LARGEST: u64 = 1 << 20;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this document, 1.
    pub schema: u32,
    /// The agent's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// When this was written.
    pub written_at: Timestamp,
    /// When the configuration that it works by was read.
    pub configured_at: Timestamp,
    /// Why it did not take the configuration that is there now.
    pub configuration_error: Option<String>,
    /// What it does now.
    pub running: Option<Running>,
    /// Its schedules.
    pub schedules: Vec<ScheduleReport>,
    /// What is wrong with the backups in the destinations.
    #[serde(default)]
    pub doubts: Vec<Notice>,
}

/// A job that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Whose.
    pub schedule: String,
    /// Of which slot.
    pub slot: Timestamp,
    /// Since when.
    pub since: Timestamp,
}

/// One schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleReport {
    /// Its name.
    pub name: String,
    /// The next run and why it is then.
    pub next: String,
    /// What is late.
    pub late: Option<String>,
    /// Why the last attempt failed, if nothing has succeeded since.
    pub failure: Option<Failure>,
    /// What is waited for: another run on this host, or another host.
    pub waits: Vec<String>,
    /// Destinations that the last slot's backup is not in, or that were not pruned after it, and why.
    pub missing: Vec<String>,
    /// The last slot that is done, and by whom.
    pub last: Option<LastSlot>,
}

/// A slot that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSlot {
    /// Which.
    pub slot: Timestamp,
    /// Its backups, by destination.
    pub copies: Vec<Copy>,
}

/// The backup of a slot in one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The destination.
    pub destination: String,
    /// The host that took it.
    pub host: String,
    /// The backup, if the schedule takes any.
    pub id: Option<ChainId>,
}

impl Copy {
    pub(super) fn of((destination, stored): (&String, &Stored)) -> Copy {
        Copy {
            destination: destination.clone(),
            host: stored.host.clone(),
            id: stored.id.clone(),
        }
    }
}

/// A slot that is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// How often.
    pub attempts: u32,
    /// Why.
    pub error: String,
    /// When it is tried again.
    pub again_at: Timestamp,
}

impl Report {
    /// Reads what the agent said last; None if it never did.
    pub fn read(folder: &Path) -> Result<Option<Report>, String> {
        let path = folder.join(FILE);
        let bytes = match durable::read_plain(&path, LARGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("read `{}`: {error}", path.display())),
        };
        match serde_json::from_slice(&bytes) {
            Ok(report) => Ok(Some(report)),
            Err(error) => Err(format!("`{}` cannot be understood ({error})", path.display())),
        }
    }

    /// Whether nothing changed since `said`, which was written but now.
    pub(super) fn says_no_more_than(&self, said: &Report) -> bool {
        let since = self.written_at.duration_since(said.written_at).unsigned_abs();
        let unchanged = Report {
            written_at: said.written_at,
            ..self.clone()
        };
        since < SAID_AGAIN_AFTER && unchanged == *said
    }

    /// For how long an agent that runs has said nothing; none while that is as it should be.
    pub fn silent_for(&self, now: Timestamp) -> Option<Duration> {
        let since = Duration::try_from(now.duration_since(self.written_at)).unwrap_or_default();
        (since > SILENT_AFTER).then_some(since)
    }

    /// Replaces the document.
    pub fn write(&self, folder: &Path) -> Result<(), durable::Error> {
        let bytes = serde_json::to_vec(self).expect("our documents have only text keys");
        durable::replace(&folder.join(FILE), &bytes, FILE_MODE)
    }

    /// Removes the document, if that can be done.
    pub(super) fn remove(folder: &Path) {
        std::fs::remove_file(folder.join(FILE)).ok();
    }

    /// What `systemctl status` shows.
    pub(super) fn one_line(&self) -> String {
        if let Some(running) = &self.running {
            return format!("at work for schedule {} since {:.0}", running.schedule, running.since);
        }
        if let Some(error) = &self.configuration_error {
            let first = error.lines().next().unwrap_or_default();
            return format!("the configuration is refused, the one before goes on: {first}");
        }
        let troubled = |schedule: &&ScheduleReport| schedule.failure.is_some() || schedule.late.is_some();
        match (self.schedules.iter().find(troubled), self.schedules.first()) {
            (Some(schedule), _) => format!("schedule {} fails or is late: see `lifeboat status`", schedule.name),
            (None, Some(schedule)) => format!("{}: {}", schedule.name, schedule.next),
            (None, None) => "no schedule is configured".to_owned(),
        }
    }
}

impl ScheduleReport {
    /// What is to be said of a schedule at `now`.
    pub fn of(name: &ScheduleName, entry: &Entry, watched_from: Timestamp, now: Timestamp) -> ScheduleReport {
        let schedule = &entry.schedule;
        let last = entry.memory.last_success.as_ref();
        ScheduleReport {
            name: name.to_string(),
            next: schedule.sentence(&schedule.due(&entry.memory.handled, watched_from, now)),
            late: schedule.complaint(&entry.lateness(now)),
            failure: entry.retry.as_ref().and_then(failure),
            waits: entry.retry.as_ref().map_or(Vec::new(), waits),
            missing: last.map_or(Vec::new(), |last| missing(entry, last)),
            last: last.map(|last| LastSlot {
                slot: last.slot.instant(),
                copies: last.stored.iter().map(Copy::of).collect(),
            }),
        }
    }
}

fn failure(retry: &Retry) -> Option<Failure> {
    let failed = || retry.rests.iter().filter(|(_, rest)| rest.failures > 0);
    let mut errors: Vec<&str> = failed().map(|(_, rest)| rest.why.as_str()).collect();
    errors.dedup();
    Some(Failure {
        attempts: failed().map(|(_, rest)| rest.failures).max()?,
        error: errors.join("; "),
        again_at: failed().map(|(_, rest)| rest.until).min()?,
    })
}

fn waits(retry: &Retry) -> Vec<String> {
    let waits = retry.rests.iter().filter(|(_, rest)| rest.failures == 0);
    waits
        .map(|(name, rest)| format!("destination {name}: slot {}: {}", retry.slot, rest.why))
        .collect()
}

/// What the last slot lacks, but for what is tried again or waited for.
fn missing(entry: &Entry, last: &Success) -> Vec<String> {
    let rests = |name: &DestinationName| {
        let retry = entry.retry.as_ref().filter(|retry| retry.slot == last.slot);
        retry.is_some_and(|retry| retry.rests.contains_key(name))
    };
    let open = entry
        .open(last.slot)
        .filter(|name| !rests(name) && !last.stored.is_empty());
    let missing = open.map(|name| format!("destination {name} does not have slot {}", last.slot));
    missing.chain(last.undone.iter().cloned()).collect()
}
