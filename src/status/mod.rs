//! How everything is right now, gathered from all who know a part of it.
//!
//! What is wrong is judged in `health`; `members` asks etcd, `restores` reads what restores have left.
//!
//! What the agent says of itself is read from its file; whether there are backups is read from the destinations, so that
//! the answer is true without the agent too.

mod members;
mod restores;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use tokio::runtime::Handle;

use crate::agent::{Agenda, Memory, Report, Running, Success, schedule_state};
use crate::catalog::Backup;
use crate::config::{Config, MemberChoice, ScheduleName};
use crate::destinations::Destinations;
use crate::health::{
    AgentSigns, AgentState, BackupState, Configuration, DestinationState, Event, Facts, LaneState, Look, MemberState,
    Notice, ProofState, ScheduleState, Verdict, Window,
};
use crate::jobs::restore::settings_now;
use crate::jobs::stores::read_within;
use crate::jobs::{self, Failure, Listener, clock_set_back, configuration, host, last_seen, recipients};
use crate::model::{ClusterName, UnitName};
use crate::restore::LedgerPaths;
use crate::schedule::Slot;
use crate::slots::Stored;
use crate::state::{self, State};
use crate::store::Limits;
use crate::systemd::{LoadState, Systemd};
use members::Asking;
pub use members::MemberRow;
pub use restores::Restores;

/// How long a destination may take to be read.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long systemd may take to say how the agent's unit is.
const SYSTEMD_WITHIN: Duration = Duration::from_secs(2);
/// How many days ahead clock changes are told.
const DAYS_AHEAD: i64 = 8;

/// All there is to say, as programs see it.
#[derive(Serialize)]
pub struct Status {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// When it was asked.
    pub now: Timestamp,
    /// What is wrong.
    pub problems: Vec<Notice>,
    /// What is good to know.
    pub notes: Vec<String>,
    /// What can be restored, one for each history.
    pub windows: Vec<Window>,
    /// The newest backup that was verified.
    pub last_proof: Option<ProofState>,
    /// The agent of this host, if there ever was one.
    pub agent: Option<AgentRow>,
    /// What restores have left on this host.
    pub restores: Restores,
    /// The schedules.
    pub schedules: Vec<ScheduleRow>,
    /// The destinations, also those that are switched off.
    pub destinations: Vec<DestinationRow>,
    /// The members.
    pub members: Vec<MemberRow>,
    /// The latest backup.
    pub latest: Option<BackupState>,
    /// Whether changes between the backups are to be captured.
    #[serde(skip)]
    pub captures: bool,
    /// What the agent said of their capture, if it runs.
    #[serde(skip)]
    pub lanes: Vec<LaneState>,
}

/// A schedule.
#[derive(Serialize)]
pub struct ScheduleRow {
    /// How it is.
    #[serde(flatten)]
    pub state: ScheduleState,
    /// The days to come on which its zone's clocks are changed.
    pub clock_changes: Vec<String>,
}

/// The agent, as it said last.
#[derive(Serialize)]
pub struct AgentRow {
    /// Whether it runs.
    pub running: bool,
    /// Its process.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// When it took over its configuration.
    pub configured_at: Timestamp,
    /// What it is at.
    pub job: Option<Running>,
}

/// A destination.
#[derive(Serialize)]
pub struct DestinationRow {
    /// Whether it is configured and not switched off.
    pub enabled: bool,
    /// Why it cannot be read.
    pub error: Option<String>,
    /// What is in it.
    #[serde(flatten)]
    pub state: DestinationState,
}

/// Asks everybody; `path` is where the configuration is.
pub fn gather(path: &Path, listener: &dyn Listener, runtime: &Handle) -> Result<Status, Failure> {
    let (config, broken) = configuration::read_last(path, listener)?;
    // They answer while the destinations are read.
    let asking = Asking::begin(runtime, &config);
    let state = host::state_to_read(&config.cluster.name)?;
    let places = read_within(&config, None, Limits::default().at_most(PATIENCE))?;
    let now = host::now();
    let mut notes = Vec::new();
    let mut others = Vec::new();
    let report = Report::read(state.folder()).unwrap_or_else(|error| {
        others.push(Notice::new(Event::AgentStopped, error));
        None
    });
    let running = state.agent_runs();
    let said = report.as_ref().filter(|_| running);
    let boots_with_it = boots_with_it(runtime);
    if running && boots_with_it == Some(false) {
        notes.push("the agent runs, but does not start with this host: `systemctl enable lifeboat`".to_owned());
    }
    if config.schedules.is_empty() {
        notes.push("no schedule is configured: backups are taken by hand only".to_owned());
    }
    let restores = Restores::find(&LedgerPaths::default(), now, &|plan| settings_now(runtime, path, plan));
    others.extend(
        restores
            .problem()
            .map(|problem| Notice::new(Event::RestoreOpen, problem)),
    );
    others.extend(recipients::notice(&config, &state, Some(&places)));
    others.extend(last_seen::notices(&places));
    notes.extend(last_seen::new_signers(&state, &places));
    others.extend(clock_set_back::notice(&state, now));
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
        // Nobody else knows.
        Event::DeltasBehind,
        Event::DeltasLate,
    ];
    let doubts = said.iter().flat_map(|said| &said.doubts);
    others.extend(doubts.filter(|doubt| of_the_unit.contains(&doubt.event)).cloned());
    let members = asking.end(runtime).unwrap_or_else(|reason| {
        notes.push(format!("the members were not asked: {reason}"));
        Vec::new()
    });
    let member_states: Vec<MemberState> = members.iter().map(MemberRow::state).collect();
    let look = Look::at(&jobs::survey_destinations::read(
        &config,
        &places,
        now,
        jobs::behind::Memory::IsRead,
    ));
    let wanted = wanted_member(&config);
    let signs = AgentSigns {
        runs: running,
        has_schedules: !config.schedules.is_empty(),
        said_at: said.map(|said| said.written_at),
        starts_with_host: boots_with_it,
        folder: Some(state.folder()),
    };
    let facts = Facts {
        agent: Some(AgentState::of(&signs, now)),
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
    let lanes = said.map_or(Vec::new(), |said| said.deltas.clone());
    Ok(Status {
        captures: config.deltas.enabled,
        lanes,
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
    })
}

/// Whether the agent is started with the host; none if there is no unit of it, or nobody to ask.
fn boots_with_it(runtime: &Handle) -> Option<bool> {
    let name: UnitName = "lifeboat.service".parse().expect("it is the name of a unit");
    let asked = runtime.block_on(async {
        let asking = async { Systemd::connect().await.ok()?.unit(&name).await.ok() };
        tokio::time::timeout(SYSTEMD_WITHIN, asking).await.ok()?
    });
    let unit = asked.filter(|unit| unit.load_state == LoadState::Loaded)?;
    unit.file_state.map(|state| state.starts_with("enabled"))
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
fn from_destinations(config: &Config, state: &Path, places: &Destinations, now: Timestamp) -> Vec<ScheduleState> {
    let remembered = |name: &ScheduleName| {
        let mut memory = Memory::read(state, name.as_str()).ok().flatten()?;
        let known = memory.last_success.as_ref().map(|success| success.slot);
        let stored = newest(name, places);
        if stored.as_ref().map(|success| success.slot) > known {
            memory.last_success = stored;
        }
        Some(memory)
    };
    let agenda = Agenda::new(config, host::host_name().as_str(), remembered, now);
    let entries = agenda.entries().iter();
    entries
        .filter_map(|(name, entry)| {
            let kind = config.schedules.get(name)?.kind;
            Some(schedule_state(name, kind, entry, now, now))
        })
        .collect()
}

/// The newest slot of a schedule of which there are good backups, as the manifests tell.
fn newest(name: &ScheduleName, places: &Destinations) -> Option<Success> {
    let good = places.catalog.backups().iter().filter(|backup| backup.is_good());
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

/// The cluster of the agent that runs with the configuration at `path`, if it is not `own`.
pub fn agents_other_name(path: &Path, own: &ClusterName) -> Option<ClusterName> {
    let path = std::path::absolute(path).ok()?;
    let base = state::base_folder().ok()?;
    let folders = std::fs::read_dir(&base).ok()?.flatten();
    let names = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<ClusterName>().ok());
    let mut others = names.filter(|name| name != own);
    others.find(|name| {
        let state = State::at(&base, name);
        let report = || Report::read(state.folder()).ok().flatten();
        state.agent_runs() && report().is_some_and(|report| report.configuration == path)
    })
}
