//! `status.json`: what the agent says of itself, for every user of the host.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::agenda::Entry;
use super::retry::Retry;
use super::run_log::RunLog;
use super::schedule_memory::Success;
use crate::config::{DestinationName, Kind, ScheduleName};
use crate::durable;
use crate::health::{
    AgentSigns, AgentState, Configuration, Copy, Facts, FailedThere, Failure, LaneState, LastSlot, Late, Missing,
    NextRun, Notice, ScheduleState, StoresState, Verdict, Wait,
};
use crate::schedule::{Due, Lateness, Occasion};
use crate::slots::Stored;
use crate::state::AGENTS_REPORT;

const FILE: &str = AGENTS_REPORT;
/// How often it is written at least, so that a reader can tell that the agent still can.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);
const FILE_MODE: u32 = 0o644;
const LARGEST: u64 = 1 << 20;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this document, 2.
    pub schema: u32,
    /// The agent's process.
    pub pid: u32,
    /// Its host, as the backups name it.
    #[serde(default)]
    pub host: String,
    /// The main file of its configuration, from the root on.
    #[serde(default)]
    pub configuration: PathBuf,
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
    pub schedules: Vec<ScheduleState>,
    /// What is wrong beside the schedules: with the destinations, the backups in them, this host.
    pub doubts: Vec<Notice>,
    /// How many more backups are not good or not proven than `doubts` names.
    #[serde(default)]
    pub more_unproven: u64,
    /// What the last look at the destinations found.
    pub stores: Option<StoresState>,
    /// How the capture of changes is; nothing where none are captured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<LaneState>,
    /// What was tried and done.
    #[serde(default)]
    pub log: RunLog,
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

    /// How things are by this report at `now`; `is_up` says whether the agent runs.
    pub fn verdict(&self, now: Timestamp, is_up: bool) -> Verdict {
        let signs = AgentSigns {
            runs: is_up,
            has_schedules: !self.schedules.is_empty(),
            said_at: Some(self.written_at),
            starts_with_host: None,
            folder: None,
        };
        let facts = Facts {
            agent: Some(AgentState::of(&signs, now)),
            configuration: Configuration {
                broken: None,
                refused: self.configuration_error.as_deref(),
            },
            schedules: &self.schedules,
            others: self.doubts.clone(),
            ..Facts::default()
        };
        Verdict::of(&facts, now)
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
            return format!("the configuration is invalid, the previous one stays in force: {first}");
        }
        let troubled = |schedule: &&ScheduleState| schedule.failure.is_some() || schedule.late.is_some();
        match (self.schedules.iter().find(troubled), self.schedules.first()) {
            (Some(schedule), _) => format!("schedule {} fails or is late: see `lifeboat status`", schedule.name),
            (None, Some(schedule)) => match &schedule.next {
                Some(next) => format!("{}: next run {:.0} ({})", schedule.name, next.at, schedule.when),
                None => format!("{}: no next run ({})", schedule.name, schedule.when),
            },
            (None, None) => "no schedule is configured".to_owned(),
        }
    }
}

/// How a schedule stands at `now`.
pub fn schedule_state(
    name: &ScheduleName,
    kind: Kind,
    entry: &Entry,
    watched_from: Timestamp,
    now: Timestamp,
) -> ScheduleState {
    let schedule = &entry.schedule;
    let last = entry.memory.last_success.as_ref();
    let next = match schedule.due(&entry.memory.handled, watched_from, now) {
        Due::Run { slot, occasion } => Some(NextRun {
            slot: slot.instant(),
            at: schedule.due_at(slot),
            is_catch_up: occasion == Occasion::CatchUp,
        }),
        Due::Wait { slot, until } => Some(NextRun {
            slot: slot.instant(),
            at: until,
            is_catch_up: false,
        }),
        Due::Nothing => None,
    };
    let (late, ahead) = match entry.lateness(now) {
        Lateness::InTime => (None, None),
        Lateness::Late { slot, since } => {
            let slot = slot.instant();
            (Some(Late { slot, since }), None)
        }
        Lateness::Ahead { slot } => (None, Some(slot.instant())),
    };
    ScheduleState {
        name: name.to_string(),
        kind: kind.name().to_owned(),
        when: schedule.when.to_string(),
        jitter_seconds: schedule.jitter.as_secs(),
        next,
        late,
        ahead,
        failure: entry.retry.as_ref().and_then(failure),
        waits: entry.retry.as_ref().map_or(Vec::new(), waits),
        missing: last.map_or(Vec::new(), |last| missing(entry, last)),
        last: last.map(|last| LastSlot {
            slot: last.slot.instant(),
            at: last.at,
            copies: last.stored.iter().map(copy).collect(),
        }),
        destinations: entry.destinations.iter().map(ToString::to_string).collect(),
    }
}

fn copy((destination, stored): (&String, &Stored)) -> Copy {
    Copy {
        destination: destination.clone(),
        host: stored.host.clone(),
        id: stored.id.clone(),
    }
}

fn failure(retry: &Retry) -> Option<Failure> {
    let failed = retry.rests.iter().filter(|(_, rest)| rest.failures > 0);
    let failed: Vec<FailedThere> = failed
        .map(|(name, rest)| FailedThere {
            destination: name.to_string(),
            attempts: rest.failures,
            error: rest.why.clone(),
            again_at: rest.until,
        })
        .collect();
    let mut errors: Vec<&str> = failed.iter().map(|there| there.error.as_str()).collect();
    errors.dedup();
    Some(Failure {
        attempts: failed.iter().map(|there| there.attempts).max()?,
        error: errors.join("; "),
        again_at: failed.iter().map(|there| there.again_at).min()?,
        destinations: failed,
    })
}

fn waits(retry: &Retry) -> Vec<Wait> {
    let waits = retry.rests.iter().filter(|(_, rest)| rest.failures == 0);
    let waits = waits.map(|(name, rest)| Wait {
        slot: retry.slot.instant(),
        destination: name.to_string(),
        why: rest.why.clone(),
    });
    waits.collect()
}

/// What the last slot lacks, but for what is tried again or waited for.
fn missing(entry: &Entry, last: &Success) -> Vec<Missing> {
    let rests = |name: &DestinationName| {
        let retry = entry.retry.as_ref().filter(|retry| retry.slot == last.slot);
        retry.is_some_and(|retry| retry.rests.contains_key(name))
    };
    // A slot that was taken is done wherever it was to go then: a destination that came since owes nothing for it.
    let is_taken = entry.memory.handled.contains(last.slot);
    let open = entry
        .open(last.slot)
        .filter(|name| !is_taken && !rests(name) && !last.stored.is_empty());
    let missing = open.map(|name| Missing {
        destination: Some(name.to_string()),
        message: format!("destination {name} does not have slot {}", last.slot),
    });
    let undone = last.undone.iter().map(|undone| Missing {
        destination: None,
        message: undone.clone(),
    });
    missing.chain(undone).collect()
}
