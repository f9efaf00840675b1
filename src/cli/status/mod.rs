//! `lifeboat status`: is everything well, and if not, what is not.
//!
//! `judge` says what is wrong, `members` asks etcd, `restores` reads what restores have left, `text` prints.
//!
//! What the agent says of itself is read from its file; whether there are backups is read from the destinations, so that
//! the answer is true without the agent too.

mod judge;
mod members;
mod restores;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::agent::is_running;
use super::host;
use super::list::rfc3339;
use super::output::{Format, age};
use super::restore::to_change;
use super::stores::read_within;
use super::{Context, Exit, Failure};
use crate::agent::{Desk, Memory, Report, Running, ScheduleReport, Success};
use crate::catalog::{Backup, Proof};
use crate::config::{Config, MemberChoice, ScheduleName};
use crate::destinations::Destinations;
use crate::health::{Event, last_proof};
use crate::model::{ChainId, LineageId, Revision};
use crate::restore::Spots;
use crate::schedule::Slot;
use crate::slots::Stored;
use crate::store::Limits;
pub(super) use judge::unproven;
use members::{Asking, MemberRow};
use restores::Restores;

/// How long a destination may take to be read.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many days ahead clock changes are told.
const DAYS_AHEAD: i64 = 8;

/// Say in one line whether everything is well, then what there is to say
///
/// Exit code 1 if anything is wrong: a schedule that is late or fails, a backup that is not good or not proven as far as
/// it must be, a history that nobody has accepted, a destination that cannot be read or written to, a member that
/// reports an alarm, most members without an answer, a configuration that is refused, an agent that does not run, a restore
/// that is open.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat status\n  lifeboat --json status")]
pub struct Args {}

#[derive(Serialize)]
struct Document {
    schema: u32,
    ok: bool,
    verdict: String,
    problems: Vec<String>,
    notes: Vec<String>,
    /// What can be restored, one for each history.
    windows: Vec<WindowRow>,
    /// The newest backup that was verified.
    last_proof: Option<LastProofRow>,
    agent: Option<AgentRow>,
    /// What restores have left on this host.
    restores: Restores,
    schedules: Vec<ScheduleRow>,
    destinations: Vec<DestinationRow>,
    members: Vec<MemberRow>,
    latest: Option<ChainId>,
}

#[derive(Serialize)]
struct WindowRow {
    lineage: LineageId,
    accepted: bool,
    points: usize,
    from_revision: Revision,
    to_revision: Revision,
    from_time: String,
    to_time: String,
    from_age: String,
    to_age: String,
}

#[derive(Serialize)]
struct LastProofRow {
    id: ChainId,
    proof: Proof,
    checked_at: String,
    age: String,
}

#[derive(Serialize)]
struct ScheduleRow {
    #[serde(flatten)]
    report: ScheduleReport,
    /// The days to come on which its zone's clocks are changed.
    clock_changes: Vec<String>,
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
    enabled: bool,
    backups: usize,
    last: Option<ChainId>,
    last_time: Option<String>,
    age: Option<String>,
    free_bytes: Option<u64>,
    total_bytes: Option<u64>,
    error: Option<String>,
}

pub(super) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let (config, broken) = host::last_configuration(context)?;
    // They answer while the destinations are read.
    let asking = Asking::begin(context, &config);
    let state = host::state(&config.cluster.name)?;
    let places = read_within(&config, None, Limits::default().at_most(PATIENCE))?;
    let now = host::now();
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let report = Report::read(state.folder()).unwrap_or_else(|error| {
        problems.push(error);
        None
    });
    let running = is_running(&state);
    let said = report.as_ref().filter(|_| running);
    match (running, config.schedules.is_empty()) {
        (false, false) => {
            problems.push("the agent does not run, nothing is done on schedule: `systemctl start lifeboat`".to_owned())
        }
        (_, true) => notes.push("no schedule is configured: backups are taken by hand only".to_owned()),
        (true, false) => {}
    }
    let refused = said.and_then(|said| said.configuration_error.as_deref());
    problems.extend(judge::wrong_with_configuration(
        broken.as_ref().map(Failure::message),
        refused,
    ));
    problems.extend(judge::wrong_with_what_it_says(running, said, state.folder(), now));
    let restores = Restores::find(&Spots::default(), now, &|plan| to_change(context, plan));
    problems.extend(restores.problem());
    notes.extend(restores.notes());
    let schedules = match said {
        Some(said) => said.schedules.clone(),
        None => from_destinations(&config, state.folder(), &places, now),
    };
    problems.extend(schedules.iter().flat_map(|schedule| judge::wrong_with(schedule, now)));
    problems.extend(judge::wrong_with_backups(&config, &places, now));
    problems.extend(unproven(&config, &places, now));
    // Its unit may allow the agent less than this command.
    let of_the_unit = [
        Event::DestinationDisabled,
        Event::SecretUnreadable,
        Event::StateUnwritable,
    ];
    let doubts = said.iter().flat_map(|said| &said.doubts);
    let doubts = doubts.filter(|doubt| of_the_unit.contains(&doubt.event));
    for doubt in doubts.map(|doubt| &doubt.message) {
        if !problems.contains(doubt) {
            problems.push(doubt.clone());
        }
    }
    let members = asking.end(context).unwrap_or_else(|reason| {
        notes.push(format!("the members were not asked: {reason}"));
        Vec::new()
    });
    let wanted = wanted_member(&config);
    problems.extend(judge::wrong_with_members(&members, wanted.as_deref()));
    notes.extend(judge::silent_members(&members, wanted.as_deref()));
    let document = Document {
        schema: 1,
        ok: problems.is_empty(),
        verdict: verdict(&problems, &places, now),
        problems,
        notes,
        windows: windows(&places, now),
        last_proof: last_proof(&places.catalog).map(|last| LastProofRow {
            id: last.backup.id().clone(),
            proof: last.proof,
            checked_at: rfc3339(last.checked_at),
            age: age(last.checked_at, now),
        }),
        agent: report.map(|report| AgentRow {
            running,
            pid: report.pid,
            version: report.version,
            started_at: report.started_at,
            configured_at: report.configured_at,
            job: report.running.filter(|_| running),
        }),
        restores,
        schedules: schedules
            .into_iter()
            .map(|report| on_clocks(&config, report, now))
            .collect(),
        destinations: destinations(&config, &places, now),
        members,
        latest: places.catalog.latest().ok().map(|latest| latest.id().clone()),
    };
    match context.output.format {
        Format::Json => context.output.json(&document),
        Format::Text => text::print(&context.output, &document),
    }
    match document.ok {
        true => Ok(Exit::Done),
        false => Ok(Exit::Failed),
    }
}

/// The member that backups are taken from and from no other.
fn wanted_member(config: &Config) -> Option<String> {
    match &config.backup.member {
        MemberChoice::Auto => None,
        MemberChoice::Local => {
            let local = config.local_member(&host::this_host().ok()?);
            local.name().map(ToString::to_string)
        }
        MemberChoice::Named(name) => Some(name.to_string()),
    }
}

fn on_clocks(config: &Config, report: ScheduleReport, now: Timestamp) -> ScheduleRow {
    let mut configured = config.schedules.iter();
    let configured = configured.find(|(name, _)| name.as_str() == report.name);
    let within = SignedDuration::from_hours(24 * DAYS_AHEAD);
    let clock_changes = configured.map(|(_, schedule)| schedule.when.clock_changes(now, within));
    ScheduleRow {
        report,
        clock_changes: clock_changes.unwrap_or_default(),
    }
}

/// The schedules by what this host remembers and the destinations hold.
fn from_destinations(
    config: &Config,
    state: &std::path::Path,
    places: &Destinations,
    now: Timestamp,
) -> Vec<ScheduleReport> {
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
        .map(|(name, entry)| ScheduleReport::of(name, entry, now, now))
        .collect()
}

/// The newest slot of a schedule of which there are good backups, as the manifests tell.
fn newest(name: &ScheduleName, places: &Destinations) -> Option<Success> {
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
            id: Some(manifest.chain),
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

fn verdict(problems: &[String], places: &Destinations, now: Timestamp) -> String {
    match (problems, places.catalog.latest()) {
        ([], Ok(latest)) => format!(
            "ok: the latest backup is {} old, {}",
            age(latest.manifest().first_byte_at, now),
            latest.id()
        ),
        ([], Err(_)) => "ok".to_owned(),
        ([only], _) => format!("WRONG: {}", only.lines().next().unwrap_or_default()),
        (several, _) => format!("WRONG: {} problems", several.len()),
    }
}

/// What can be restored of each history that has a good backup.
fn windows(places: &Destinations, now: Timestamp) -> Vec<WindowRow> {
    let catalog = &places.catalog;
    let accepted = catalog.accepted_lineage().ok();
    let rows = catalog.lineages().into_iter().filter_map(|lineage| {
        let is_good = |backup: &&Backup| backup.manifest().lineage == lineage.id && backup.proof() >= Proof::Stored;
        let good = || catalog.backups().iter().filter(is_good);
        let [from, to] = [
            good().min_by_key(|backup| backup.revision())?,
            good().max_by_key(|backup| backup.revision())?,
        ];
        let taken = |backup: &Backup| backup.manifest().first_byte_at;
        Some(WindowRow {
            accepted: accepted.as_ref().is_some_and(|accepted| accepted.id == lineage.id),
            points: good().count(),
            from_revision: from.revision(),
            to_revision: to.revision(),
            from_time: rfc3339(taken(from)),
            to_time: rfc3339(taken(to)),
            from_age: age(taken(from), now),
            to_age: age(taken(to), now),
            lineage: lineage.id,
        })
    });
    rows.collect()
}

fn destinations(config: &Config, places: &Destinations, now: Timestamp) -> Vec<DestinationRow> {
    let rows = config.destinations.keys().map(|name| {
        let name = name.to_string();
        let here = || {
            let backups = places.catalog.backups().iter();
            backups.filter(|backup| backup.destinations().any(|destination| destination == name))
        };
        let last = here().next_back();
        let unread = places.unreadable.iter().find(|(unread, _)| *unread == name);
        let free = places.stores.get(&name).and_then(|store| store.free_space().ok());
        DestinationRow {
            enabled: true,
            backups: here().count(),
            last: last.map(|last| last.id().clone()),
            last_time: last.map(|last| rfc3339(last.manifest().first_byte_at)),
            age: last.map(|last| age(last.manifest().first_byte_at, now)),
            free_bytes: free.map(|free| free.available),
            total_bytes: free.map(|free| free.total),
            error: unread.map(|(_, error)| error.clone()),
            name,
        }
    });
    let off = config.switched_off.iter();
    let off = off.filter_map(|path| path.strip_prefix("destinations."));
    let off = off.map(|name| DestinationRow {
        name: name.to_owned(),
        enabled: false,
        backups: 0,
        last: None,
        last_time: None,
        age: None,
        free_bytes: None,
        total_bytes: None,
        error: None,
    });
    rows.chain(off).collect()
}
