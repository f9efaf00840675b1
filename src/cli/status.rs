//! `lifeboat status`: is everything well, and if not, what is not.
//!
//! What the agent says of itself is read from its file; whether there are backups is read from the destinations, so that
//! the answer is true without the agent too.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::agent::is_running;
use super::host::{self, Places};
use super::list::{faults, rfc3339};
use super::output::{Format, Output, age};
use super::{Context, Exit, Failure};
use crate::agent::{self, Copy, Desk, Memory, Report, Running, ScheduleReport, Stored, Success};
use crate::catalog::{Backup, LatestError, Proof};
use crate::config::{Config, ScheduleName};
use crate::model::ChainId;
use crate::schedule::Slot;

/// Say in one line whether everything is well, then what there is to say
///
/// Exit code 1 if anything is wrong: a schedule that is late or fails, a backup that is not good, a history that nobody
/// has accepted, a destination that cannot be read, a configuration that is refused, an agent that does not run.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat status\n  lifeboat --json status")]
pub struct Args {}

#[derive(Serialize)]
struct Document {
    schema: u32,
    ok: bool,
    verdict: String,
    problems: Vec<String>,
    agent: Option<AgentRow>,
    schedules: Vec<ScheduleReport>,
    destinations: Vec<DestinationRow>,
    latest: Option<ChainId>,
}

#[derive(Serialize)]
struct AgentRow {
    running: bool,
    pid: u32,
    version: String,
    started_at: Timestamp,
    configured_at: Timestamp,
    job: Option<Running>,
}

#[derive(Serialize)]
struct DestinationRow {
    name: String,
    backups: usize,
    last: Option<ChainId>,
    last_time: Option<String>,
    age: Option<String>,
    error: Option<String>,
}

pub(super) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let (config, broken) = host::last_configuration(context)?;
    let state = host::state(&config.cluster.name)?;
    let places = Places::configured(context, &config, None)?;
    let now = host::now();
    let mut problems: Vec<String> = broken.iter().map(|broken| broken.message().to_owned()).collect();
    let report = Report::read(state.folder()).unwrap_or_else(|error| {
        problems.push(error);
        None
    });
    let running = is_running(&state);
    let said = report.as_ref().filter(|_| running);
    if !running && !config.schedules.is_empty() {
        problems.push("the agent does not run: no backup is taken on schedule".to_owned());
    }
    if let Some(error) = said.and_then(|said| said.configuration_error.as_ref()) {
        problems.push(format!(
            "the agent refuses the configuration, the one before goes on: {error}"
        ));
    }
    let schedules = match said {
        Some(said) => said.schedules.clone(),
        None => from_destinations(&config, state.folder(), &places, now),
    };
    problems.extend(schedules.iter().flat_map(|schedule| wrong_with(schedule, now)));
    problems.extend(wrong_with_backups(&config, &places));
    let document = Document {
        schema: 1,
        ok: problems.is_empty(),
        verdict: verdict(&problems, &places, now),
        problems,
        agent: report.map(|report| AgentRow {
            running,
            pid: report.pid,
            version: report.version,
            started_at: report.started_at,
            configured_at: report.configured_at,
            job: report.running.filter(|_| running),
        }),
        schedules,
        destinations: destinations(&config, &places, now),
        latest: places.catalog.latest().ok().map(|latest| latest.id().clone()),
    };
    match context.output.format {
        Format::Json => context.output.json(&document),
        Format::Text => print(&context.output, &document),
    }
    match document.ok {
        true => Ok(Exit::Done),
        false => Ok(Exit::Failed),
    }
}

/// The schedules by what this host remembers and the destinations hold.
fn from_destinations(config: &Config, state: &std::path::Path, places: &Places, now: Timestamp) -> Vec<ScheduleReport> {
    let remembered = |name: &ScheduleName| {
        let mut memory = Memory::read(state, name.as_str()).ok().flatten()?;
        let known = memory.last_success.as_ref().map(|success| success.slot);
        let stored = newest(name, places);
        if stored.as_ref().map(|success| success.slot) > known {
            memory.last_success = stored;
        }
        Some(memory)
    };
    let desk = Desk::new(config, host::host_name().as_str(), remembered, now);
    let entries = desk.entries().iter();
    entries
        .map(|(name, entry)| agent::schedule_report(name, entry, now, now))
        .collect()
}

/// The newest slot of a schedule of which there are good backups, as the manifests tell.
fn newest(name: &ScheduleName, places: &Places) -> Option<Success> {
    let good = places
        .catalog
        .backups()
        .iter()
        .filter(|backup| backup.proof() >= Proof::Stored);
    let of = |backup: &Backup| {
        backup
            .manifest()
            .slot
            .as_deref()
            .filter(|slot| slot.schedule() == name)
            .cloned()
    };
    let newest = good.clone().filter_map(of).max()?;
    let mut success: Option<Success> = None;
    for backup in good.filter(|backup| of(backup).as_ref() == Some(&newest)) {
        let Ok((manifest, _)) = places.manifest(backup) else {
            continue;
        };
        let Some(slot) = manifest.slot else { continue };
        let stored = Stored {
            host: manifest.writer.host,
            id: manifest.chain,
        };
        let copies = backup
            .destinations()
            .map(|destination| (destination.to_owned(), stored.clone()));
        let success = success.get_or_insert(Success {
            slot: Slot::new(slot),
            at: manifest.finished_at,
            stored: BTreeMap::new(),
            undone: Vec::new(),
        });
        success.stored.extend(copies);
    }
    success
}

fn wrong_with(schedule: &ScheduleReport, now: Timestamp) -> Vec<String> {
    let name = &schedule.name;
    let mut wrong = Vec::new();
    if let Some(late) = &schedule.late {
        wrong.push(format!("schedule {name} is {late}"));
    }
    if let Some(failure) = &schedule.failure {
        let left = failure.again_at.duration_since(now).as_secs().max(0);
        wrong.push(format!(
            "schedule {name} failed {} times, again in {left} s: {}",
            failure.attempts, failure.error
        ));
    }
    wrong.extend(
        schedule
            .missing
            .iter()
            .map(|missing| format!("schedule {name}: {missing}")),
    );
    wrong
}

fn wrong_with_backups(config: &Config, places: &Places) -> Vec<String> {
    let catalog = &places.catalog;
    let mut wrong: Vec<String> = Vec::new();
    wrong.extend(
        places
            .unreadable
            .iter()
            .map(|(name, error)| format!("destination {name}: {error}")),
    );
    wrong.extend(
        catalog
            .damaged()
            .iter()
            .map(|damaged| format!("{damaged}: {}", damaged.fault)),
    );
    for backup in catalog.backups() {
        wrong.extend(
            faults(backup)
                .into_iter()
                .map(|fault| format!("{} is not good in {fault}", backup.id())),
        );
    }
    match catalog.latest() {
        Ok(_) => {}
        Err(LatestError::Empty) => wrong.push("there is no backup".to_owned()),
        Err(error) => wrong.push(format!("`latest` is refused: {}", host::chain(&error))),
    }
    if config.destinations.is_empty() {
        wrong.push("no destination is configured".to_owned());
    }
    wrong
}

fn verdict(problems: &[String], places: &Places, now: Timestamp) -> String {
    match (problems, places.catalog.latest()) {
        ([], Ok(latest)) => format!(
            "ok: the latest backup is {} old, {}",
            age(latest.manifest().first_byte_at, now),
            latest.id()
        ),
        ([], Err(_)) => "ok".to_owned(),
        ([only], _) => format!("WRONG: {only}"),
        (several, _) => format!("WRONG: {} problems", several.len()),
    }
}

fn destinations(config: &Config, places: &Places, now: Timestamp) -> Vec<DestinationRow> {
    let rows = config.destinations.keys().map(|name| {
        let name = name.to_string();
        let here = || {
            let backups = places.catalog.backups().iter();
            backups.filter(|backup| backup.destinations().any(|destination| destination == name))
        };
        let last = here().next_back();
        let unread = places.unreadable.iter().find(|(unread, _)| *unread == name);
        DestinationRow {
            backups: here().count(),
            last: last.map(|last| last.id().clone()),
            last_time: last.map(|last| rfc3339(last.manifest().first_byte_at)),
            age: last.map(|last| age(last.manifest().first_byte_at, now)),
            error: unread.map(|(_, error)| error.clone()),
            name,
        }
    });
    rows.collect()
}

fn print(output: &Output, document: &Document) {
    output.line(&document.verdict);
    if document.problems.len() > 1 {
        for problem in &document.problems {
            output.line(format!("  - {problem}"));
        }
    }
    if let Some(job) = document.agent.as_ref().and_then(|agent| agent.job.as_ref()) {
        output.line(format!(
            "now: backup of schedule {} since {:.0}",
            job.schedule, job.since
        ));
    }
    for schedule in &document.schedules {
        output.line(format!("schedule {}: {}", schedule.name, schedule.next));
        for wait in &schedule.waits {
            output.line(format!("  {wait}"));
        }
        if let Some(last) = &schedule.last {
            for Copy { destination, host, id } in &last.copies {
                output.line(format!(
                    "  slot {} taken by host {host}: {id} in {destination}",
                    last.slot
                ));
            }
        }
    }
    for destination in &document.destinations {
        let last = match (&destination.last, &destination.age) {
            (Some(last), Some(age)) => format!("the last is {last}, {age} old"),
            (_, _) => "none yet".to_owned(),
        };
        let count = super::output::count(destination.backups as u64, "backup");
        output.line(format!("destination {}: {count}, {last}", destination.name));
    }
}
