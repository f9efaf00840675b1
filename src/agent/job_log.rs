//! What the journal is told of a job that has ended.
//!
//! Who is told beyond that, and only once, is left to `notifier`.

use std::fmt::Display;

use super::agenda::{Agenda, Entry};
use super::daemon::Job;
use super::journal::Log;
use crate::config::{DestinationName, Kind};
use crate::health::{Event, Level};
use crate::jobs::{Ended, Findings, Taken};
use crate::model::ChainId;
use crate::schedule::Slot;
use crate::slots::{Fate, Stored};

/// Tells of a job that came to something. `agenda` does not know of it yet: what it waits for is said once.
pub fn tell(log: Log, agenda: &Agenda, job: &Job, ended: &Ended) {
    if let Some(taken) = &ended.taken {
        tell_of_backup(log, job, taken);
    }
    tell_of_findings(log, job, &ended.findings);
    let own = ended.taken.as_ref().map(|taken| &taken.id);
    for (name, fate) in &ended.fates {
        tell_of_fate(log, agenda, job, name, fate, own);
    }
}

/// Tells of a job that came to nothing.
pub fn tell_of_failure(log: Log, job: &Job, error: &str) {
    let message = match job.kind {
        Kind::Full => "backup failed",
        Kind::Verify => "verification failed",
        Kind::Prune => "retention failed",
    };
    let of: [(&str, &dyn Display); 3] = [("schedule", &job.schedule), ("slot", &job.slot), ("error", &error)];
    log.event(Event::BackupFailed, message, &of);
}

fn tell_of_backup(log: Log, job: &Job, taken: &Taken) {
    let Job { schedule, slot, .. } = job;
    let id = &taken.id;
    log.event(
        Event::BackupTaken,
        "backup taken",
        &[
            ("schedule", schedule),
            ("slot", slot),
            ("backup", id),
            ("removed", &taken.removed),
        ],
    );
    for warning in &taken.warnings {
        log.line(Level::Warning, warning, &[("backup", id)]);
    }
    for undone in &taken.undone {
        log.event(
            Event::BackupIncomplete,
            undone,
            &[("schedule", schedule), ("backup", id)],
        );
    }
}

fn tell_of_findings(log: Log, job: &Job, findings: &Findings) {
    let of: [(&str, &dyn Display); 2] = [("schedule", &job.schedule), ("slot", &job.slot)];
    for text in &findings.done {
        log.line(Level::Info, text, &of);
    }
    for text in findings.wrong.iter().chain(&findings.undone) {
        log.line(Level::Error, text, &of);
    }
}

/// `own` is the backup of this run, if it took one.
fn tell_of_fate(log: Log, agenda: &Agenda, job: &Job, name: &DestinationName, fate: &Fate, own: Option<&ChainId>) {
    let Job { schedule, slot, .. } = job;
    let of: [(&str, &dyn Display); 3] = [("schedule", schedule), ("slot", slot), ("destination", name)];
    match fate {
        Fate::Stored(Stored { id: None, .. }) => {}
        Fate::Stored(Stored { id: Some(id), .. }) if own == Some(id) => {}
        Fate::Stored(Stored { host, id: Some(id) }) => {
            let by: [(&str, &dyn Display); 2] = [("host", host), ("backup", id)];
            log.line(Level::Info, "the slot is taken already", &[&of[..], &by].concat());
        }
        Fate::Later { why, .. } => {
            let entry = agenda.entries().get(schedule);
            // Said once, not each time it is looked at.
            if entry.and_then(|entry| entry.waits_for(*slot, name)) != Some(why) {
                log.line(Level::Info, why, &of);
            }
        }
        Fate::Failed(why) => {
            let event = match own {
                Some(_) => Event::BackupIncomplete,
                None => Event::BackupFailed,
            };
            log.event(
                event,
                &words_of_failure(agenda.entries().get(schedule), *slot, name, why),
                &of,
            );
        }
    }
}

/// Why it failed; in few words where it has failed for just that reason before.
pub(super) fn words_of_failure(entry: Option<&Entry>, slot: Slot, name: &DestinationName, why: &str) -> String {
    let before = entry.and_then(|entry| entry.failed_for(slot, name));
    match before.filter(|(_, before)| *before == why) {
        Some((times, _)) => format!(
            "it failed again for the same reason ({} times now)",
            times.saturating_add(1)
        ),
        None => why.to_owned(),
    }
}
