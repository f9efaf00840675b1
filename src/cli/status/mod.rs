//! `lifeboat status`: is everything well, and if not, what is not.
//!
//! What is wrong is judged in `health`; `members` asks etcd, `restores` reads what restores have left, `text` prints.
//!
//! What the agent says of itself is read from its file; whether there are backups is read from the destinations, so that
//! the answer is true without the agent too.

mod members;
mod restores;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::agent::is_running;
use super::{Context, Exit, Failure, host};
use crate::agent::{Desk, Memory, Report, Running, Success, schedule_state};
use crate::catalog::Backup;
use crate::config::{Config, MemberChoice, ScheduleName};
use crate::destinations::Destinations;
use crate::health::{
    AgentState, BackupState, Configuration, DestinationState, Event, Facts, Look, MemberState, Notice, ProofState,
    ScheduleState, Verdict, Window,
};
use crate::jobs::restore::settings_now;
use crate::jobs::stores::read_within;
use crate::jobs::{self, recipients};
use crate::layout::Proof;
use crate::model::UnitName;
use crate::restore::LedgerPaths;
use crate::schedule::Slot;
use crate::slots::Stored;
use crate::store::Limits;
use crate::systemd::{LoadState, Systemd};
use crate::terminal::Format;
use members::{Asking, MemberRow};
use restores::Restores;

/// How long a destination may take to be read.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long systemd may take to say how the agent's unit is.
const SYSTEMD_WITHIN: Duration = Duration::from_secs(2);
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
    now: Timestamp,
    problems: Vec<Notice>,
    notes: Vec<String>,
    /// What can be restored, one for each history.
    windows: Vec<Window>,
    /// The newest backup that was verified.
    last_proof: Option<ProofState>,
    agent: Option<AgentRow>,
    /// What restores have left on this host.
    restores: Restores,
    schedules: Vec<ScheduleRow>,
    destinations: Vec<DestinationRow>,
    members: Vec<MemberRow>,
    latest: Option<BackupState>,
}

#[derive(Serialize)]
struct ScheduleRow {
    #[serde(flatten)]
    state: ScheduleState,
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
    enabled: bool,
    error: Option<String>,
    #[serde(flatten)]
    state: DestinationState,
}

pub(super) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let (config, broken) = host::last_configuration(context)?;
    // They answer while the destinations are read.
    let asking = Asking::begin(context, &config);
    let state = host::state(&config.cluster.name)?;
    let places = read_within(&config, None, Limits::default().at_most(PATIENCE))?;
    let now = host::now();
    let mut notes = Vec::new();
    let mut others = Vec::new();
    let report = Report::read(state.folder()).unwrap_or_else(|error| {
        others.push(Notice::new(Event::AgentStopped, error));
        None
    });
    let running = is_running(&state);
    let said = report.as_ref().filter(|_| running);
    let boots_with_it = boots_with_it(context);
    if running && boots_with_it == Some(false) {
        notes.push("the agent runs, but does not start with this host: `systemctl enable lifeboat`".to_owned());
    }
    if config.schedules.is_empty() {
        notes.push("no schedule is configured: backups are taken by hand only".to_owned());
    }
    let restores = Restores::find(&LedgerPaths::default(), now, &|plan| {
        settings_now(context.runtime.handle(), &context.config, plan)
    });
    others.extend(
        restores
            .problem()
            .map(|problem| Notice::new(Event::RestoreOpen, problem)),
    );
    others.extend(recipients::notice(&config, &state, Some(&places)));
    notes.extend(restores.notes());
    let schedules = match said {
        Some(said) => said.schedules.clone(),
        None => from_destinations(&config, state.folder(), &places, now),
    };
    // Its unit may allow the agent less than this command.
    let of_the_unit = [
        Event::DestinationDisabled,
        Event::SecretUnreadable,
        Event::StateUnwritable,
        Event::HeartbeatFailed,
        Event::MetricsUnserved,
        Event::JobHangs,
    ];
    let doubts = said.iter().flat_map(|said| &said.doubts);
    others.extend(doubts.filter(|doubt| of_the_unit.contains(&doubt.event)).cloned());
    let members = asking.end(context).unwrap_or_else(|reason| {
        notes.push(format!("the members were not asked: {reason}"));
        Vec::new()
    });
    let member_states: Vec<MemberState> = members.iter().map(MemberRow::state).collect();
    let look = Look::at(&jobs::look::read(&config, &places, now));
    let wanted = wanted_member(&config);
    let facts = Facts {
        agent: Some(agent_state(&config, boots_with_it, running, said, state.folder(), now)),
        configuration: Configuration {
            broken: broken.as_ref().map(Failure::message),
            refused: said.and_then(|said| said.configuration_error.as_deref()),
        },
        schedules: &schedules,
        stores: Some(&look),
        members: &member_states,
        wanted_member: wanted.as_deref(),
        others,
    };
    let verdict = Verdict::of(&facts, now);
    notes.extend(verdict.notes);
    let document = Document {
        schema: 2,
        ok: verdict.problems.is_empty(),
        now,
        problems: verdict.problems,
        notes,
        windows: look.state.windows,
        last_proof: look.state.last_proof,
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
            .map(|state| on_clocks(&config, state, now))
            .collect(),
        destinations: destinations(&config, &places, look.state.destinations),
        members,
        latest: look.state.latest,
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

/// Whether the agent is started with the host; none if there is no unit of it, or nobody to ask.
fn boots_with_it(context: &Context) -> Option<bool> {
    let name: UnitName = "lifeboat.service".parse().expect("it is the name of a unit");
    let asked = context.runtime.block_on(async {
        let asking = async { Systemd::connect().await.ok()?.unit(&name).await.ok() };
        tokio::time::timeout(SYSTEMD_WITHIN, asking).await.ok()?
    });
    let unit = asked.filter(|unit| unit.load_state == LoadState::Loaded)?;
    unit.file_state.map(|state| state.starts_with("enabled"))
}

fn agent_state(
    config: &Config,
    boots_with_it: Option<bool>,
    running: bool,
    said: Option<&Report>,
    folder: &std::path::Path,
    now: Timestamp,
) -> AgentState {
    if !running {
        return match config.schedules.is_empty() {
            true => AgentState::Runs,
            false => AgentState::Stopped {
                next: match boots_with_it {
                    Some(false) => "`systemctl enable --now lifeboat`".to_owned(),
                    Some(true) | None => "`systemctl start lifeboat`".to_owned(),
                },
            },
        };
    }
    let silent = |since| AgentState::Silent {
        since,
        folder: folder.display().to_string(),
    };
    match said {
        None => silent(None),
        Some(said) => match said.silent_for(now) {
            Some(since) => silent(Some(since)),
            None => AgentState::Runs,
        },
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

fn on_clocks(config: &Config, state: ScheduleState, now: Timestamp) -> ScheduleRow {
    let mut configured = config.schedules.iter();
    let configured = configured.find(|(name, _)| name.as_str() == state.name);
    let within = SignedDuration::from_hours(24 * DAYS_AHEAD);
    let clock_changes = configured.map(|(_, schedule)| schedule.when.clock_changes(now, within));
    ScheduleRow {
        state,
        clock_changes: clock_changes.unwrap_or_default(),
    }
}

/// The schedules by what this host remembers and the destinations hold.
fn from_destinations(
    config: &Config,
    state: &std::path::Path,
    places: &Destinations,
    now: Timestamp,
) -> Vec<ScheduleState> {
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
        .filter_map(|(name, entry)| {
            let kind = config.schedules.get(name)?.kind;
            Some(schedule_state(name, kind, entry, now, now))
        })
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

fn destinations(config: &Config, places: &Destinations, states: Vec<DestinationState>) -> Vec<DestinationRow> {
    let rows = states.into_iter().map(|state| {
        let unread = places.unreadable.iter().find(|(unread, _)| *unread == state.name);
        DestinationRow {
            enabled: true,
            error: unread.map(|(_, error)| error.clone()),
            state,
        }
    });
    let off = config.switched_off.iter();
    let off = off.filter_map(|path| path.strip_prefix("destinations."));
    let off = off.map(|name| DestinationRow {
        enabled: false,
        error: None,
        state: DestinationState {
            name: name.to_owned(),
            ..DestinationState::default()
        },
    });
    rows.chain(off).collect()
}
