//! One full backup by hand, now.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::backup::{self, Request, read_and_sweep};
use super::backup_by_hand::{watched, wind_up};
use super::first_backup::{self, Turn, may_open_history};
use super::stores::{open_the_others, open_to_write, warn_of_unreadable};
use super::{Exit, Failure, Listener, clock_set_back, failed, host, recipients};
use crate::backup::{Outcome, Progress};
use crate::config::{Config, Kind};
use crate::destinations::{Destination, Destinations};
use crate::etcd::choose_member::{NoChoice, choose, may_answer_yet};
use crate::etcd::{Access, Ahead, survey};
use crate::model::ChainId;
use crate::process::Interrupt;
use crate::slots::{Claimant, HeldClaim};
use crate::state::{Holder, State};

/// What is asked for.
#[derive(Debug)]
pub struct Asked {
    /// The backup.
    pub request: Request,
    /// Only to these destinations; to all if it names none.
    pub to: Vec<String>,
    /// How long a member, another run or a restore is waited for.
    pub wait: Duration,
    /// Whether another host may be at the first backup of a store meanwhile.
    pub first: First,
}

/// Who sees to it that two hosts do not open two histories in a store that they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// This backup: where it may open one it is claimed.
    IsClaimed,
    /// Whoever asks for it has claimed that already.
    WasClaimed,
}

/// Takes the backup; also hands back what all destinations hold with it. `listen` begins to listen for whoever asks to stop,
/// `show` begins to show how far it is.
pub fn take_now(
    config: &Config,
    asked: Asked,
    (listener, runtime): (&dyn Listener, &Handle),
    listen: impl FnOnce() -> Interrupt,
    show: impl FnOnce(Arc<Progress>) -> JoinHandle<()>,
) -> Result<(Outcome, Destinations), Failure> {
    refuse_sample_recipient(config)?;
    // Before anything is made, so that a secret that is missing leaves nothing.
    let access = host::access(config)?;
    let state = host::state(&config.cluster.name)?;
    host::settle()?;
    // From here on it is listened to; what hangs in a store before the first await ends at the second signal.
    let interrupt = listen();
    let asked_at = Instant::now();
    let left = || asked.wait.saturating_sub(asked_at.elapsed());
    let member = asked.request.member.as_deref();
    wait_for_member(config, member, asked.wait, &access, (listener, runtime), &interrupt)?;
    let _lock = host::jobs_lock(&state, "backup", left())?;
    clock_set_back::note(listener, &state);
    let to = wanted_destinations(config, asked.request.schedule.as_deref(), &asked.to)?;
    let (mut opened, mut destinations) = open_and_read(listener, config, &state, &to)?;
    let random = getrandom::u32().map_err(failed)?;
    let chain = destinations.catalog.next_chain(host::now(), random);
    let mut job = backup::job(config, asked.request, chain, access.clone())?;
    let dead = state.begun().map_err(failed)?.dead;
    let (begun, opening) = loop {
        // Before the claim, so that after a kill this host knows that nobody stands behind it.
        let begun = state
            .begin_chain(&job.chain, &Holder::this("backup", host::now()))
            .map_err(failed)?;
        let claimant = Claimant {
            host: job.host.clone(),
            run: job.writer.run.clone(),
            chain: job.chain.clone(),
        };
        let claimed = match asked.first {
            First::IsClaimed => claim_opening(config, (&opened, &destinations), (&claimant, &dead), &access, runtime),
            First::WasClaimed => Ok(Vec::new()),
        };
        let others = match claimed {
            Ok(held) => break (begun, held),
            Err(others) => others,
        };
        begun.finish().map_err(failed)?;
        if left().is_zero() {
            return Err(others.refused());
        }
        listener.detail(&format!("waiting: {others}"));
        rest(runtime, &interrupt, LOOK_FOR_FIRST_EVERY.min(left()))?;
        (opened, destinations) = open_and_read(listener, config, &state, &to)?;
        job.chain = destinations.catalog.next_chain(host::now(), random);
    };
    if !opening.is_empty() {
        // Whoever had it before may have come to its end.
        (opened, destinations) = open_and_read(listener, config, &state, &to)?;
    }
    let other_recipients = recipients::changed_since(listener, config, &state, &destinations);
    let stop = interrupt.flag.clone();
    let progress = Arc::new(Progress::default());
    let mut renamed = |chain: &ChainId| opening.iter().for_each(|claim| claim.names(chain));
    let run = backup::Run {
        listener,
        state: &state,
        command: "backup",
        begun,
        progress: &progress,
        renamed: &mut renamed,
    };
    let taken = watched(runtime, interrupt, &progress, show, async |gives_way| {
        backup::take(run, job, opened, &mut destinations, gives_way).await
    });
    drop(opening);
    let mut outcome = taken.map_err(backup::failure)?;
    outcome.warnings.extend(other_recipients);
    wind_up((listener, &state), &mut destinations, &mut outcome, &stop);
    Ok((outcome, destinations))
}

/// Another host that is at the first backup of a destination.
struct AtFirst {
    host: String,
    destination: String,
}

impl fmt::Display for AtFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AtFirst { host, destination } = self;
        write!(f, "host {host} takes the first backup in destination {destination}")
    }
}

impl AtFirst {
    fn refused(&self) -> Failure {
        let message = format!("{self}: two would be two histories");
        Failure::new(Exit::Locked, message).next("wait until it is there, or say how long to wait: `--wait 5m`")
    }
}

/// Returns after a while, unless it is to stop.
fn rest(runtime: &Handle, interrupt: &Interrupt, pause: Duration) -> Result<(), Failure> {
    runtime.block_on(async {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = interrupt.clone().raised() => Err(interrupted()),
        }
    })
}

fn interrupted() -> Failure {
    Failure::new(Exit::Failed, "interrupted; nothing was kept")
}

/// Claims what may open a history, in the shared ones of these destinations; nothing where another host is at it in any of them.
fn claim_opening(
    config: &Config,
    (opened, destinations): (&[Destination], &Destinations),
    (claimant, dead): (&Claimant, &BTreeSet<ChainId>),
    access: &Access,
    runtime: &Handle,
) -> Result<Vec<HeldClaim>, AtFirst> {
    let mut held = Vec::new();
    let shared: Vec<_> = opened.iter().filter(|open| config.is_shared(&open.name)).collect();
    if shared.is_empty() {
        return Ok(held);
    }
    let surveyed = runtime.block_on(survey(&host::endpoints(config), access, Ahead::Little));
    let answers = surveyed.into_iter().filter_map(|member| member.candidate.answer.ok());
    let answers: Vec<_> = answers.collect();
    for destination in shared {
        let name = &destination.name;
        if !may_open_history(&destinations.catalog, name, &answers) {
            continue;
        }
        // What keeps anybody from claiming there keeps the backup out of it, and is told with that.
        let Some(Ok(turn)) = destination
            .store
            .as_ref()
            .ok()
            .map(|store| first_backup::claim(store, claimant, |chain| dead.contains(chain), host::now()))
        else {
            continue;
        };
        match turn {
            Turn::Held(claim) => held.push(claim),
            Turn::Others(host) => {
                let destination = name.clone();
                return Err(AtFirst { host, destination });
            }
        }
    }
    Ok(held)
}

/// Refuses to encrypt to the key that the sample of a configuration has.
pub(super) fn refuse_sample_recipient(config: &Config) -> Result<(), Failure> {
    if !config.has_sample_recipient() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Configuration,
        "the recipient is the sample's: nobody could open the backup",
    )
    .next("make a key with `lifeboat keygen --identity FILE` and put what it prints into [encryption] recipients"))
}

/// The destinations `to`, all where it names none, opened to be written to, and what all there are hold.
pub(super) fn open_and_read(
    listener: &dyn Listener,
    config: &Config,
    state: &State,
    to: &[String],
) -> Result<(Vec<Destination>, Destinations), Failure> {
    let mut opened = open_to_write(config, state, to)?;
    let written_to = opened.len();
    // A history goes on in all destinations, also in those that this backup does not go to.
    opened.extend(open_the_others(config, state, &opened));
    let destinations = read_and_sweep(listener, config, state, &opened, &|| {});
    opened.truncate(written_to);
    // What keeps the backup out of a destination is told at the end, once.
    let told_later = opened.iter().filter(|destination| destination.store.is_err());
    let told_later: Vec<String> = told_later.map(|destination| destination.name.clone()).collect();
    warn_of_unreadable(listener, &destinations, &told_later);
    for damaged in destinations.catalog.damaged() {
        listener.warn(&format!("{damaged}: {}", damaged.fault));
    }
    Ok((opened, destinations))
}

/// How often it is asked whether a member answers.
const LOOK_FOR_MEMBER_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked whether the first backup that another host takes is there.
const LOOK_FOR_FIRST_EVERY: Duration = Duration::from_secs(2);

/// Returns when a member answers that may be asked, none can without a change, or the time is over: then the backup itself says what is wrong.
fn wait_for_member(
    config: &Config,
    member: Option<&str>,
    wait: Duration,
    access: &Access,
    (listener, runtime): (&dyn Listener, &Handle),
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    if wait.is_zero() {
        return Ok(());
    }
    let (wanted, members) = (backup::wanted(config, member)?, host::endpoints(config));
    let silent = async {
        loop {
            let surveyed = survey(&members, access, Ahead::Far).await;
            let candidates: Vec<_> = surveyed.into_iter().map(|member| member.candidate).collect();
            let Err(NoChoice::NoneAnswered { reasons }) = choose(&candidates, &wanted, &[]) else {
                return;
            };
            if !may_answer_yet(&candidates, &wanted) {
                return;
            }
            listener.detail(&format!("waiting for a member to answer: {}", reasons.join("; ")));
            tokio::time::sleep(LOOK_FOR_MEMBER_EVERY).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            answered = tokio::time::timeout(wait, silent) => {
                answered.ok();
                Ok(())
            }
            () = interrupt.clone().raised() => Err(interrupted()),
        }
    })
}

/// The destinations that were asked for; none where all are meant.
pub(super) fn wanted_destinations(
    config: &Config,
    schedule: Option<&str>,
    to: &[String],
) -> Result<Vec<String>, Failure> {
    let Some(name) = schedule else {
        return Ok(to.to_vec());
    };
    let of_kind = config
        .schedules
        .iter()
        .filter(|(_, schedule)| schedule.kind == Kind::Full);
    if let Some((_, schedule)) = of_kind.clone().find(|(known, _)| known.as_str() == name) {
        return Ok(schedule.destinations.iter().map(ToString::to_string).collect());
    }
    let known: Vec<&str> = of_kind.map(|(name, _)| name.as_str()).collect();
    let next = match known.is_empty() {
        true => "there is none: name destinations with `--to`".to_owned(),
        false => format!("one of: {}", known.join(", ")),
    };
    Err(Failure::new(
        Exit::Usage,
        format!("no schedule `{name}` of full backups is configured"),
    )
    .next(next))
}
