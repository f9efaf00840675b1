//! One slot's work: which destinations need it, which of the shared ones are this host's to take, the backup, retention.
//!
//! A store of this host alone has the slot if it has a backup of it that this host took; a shared one if it has any, and
//! then nobody takes another. What is left gets one backup in one stream.
//!
//! Invariant: a shared store is written to only while this host holds the claim of the slot there.

mod copy_owed;
mod opening;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::backup::{self, Request};
use super::give_way_to_restore::restore_opened;
use super::shared_slot_turn::unusable;
use super::stores::{open_the_others, open_to_write};
use super::{
    Ended, Exit, Failure, LastBackup, Listener, Order, Phases, Taken, Trouble, copy, failed, host, last_seen, prune,
    recipients, scheduled_upkeep, survey_destinations,
};
use crate::backup::{Error, Job, Outcome, Progress};
use crate::catalog::Pinned;
use crate::config::{Config, DestinationName, Kind};
use crate::destinations::{Destination, Destinations};
use crate::error_chain::with_causes;
use crate::etcd::{Ahead, survey};
use crate::layout::claim::State as ClaimState;
use crate::layout::{Clocks, Origin, SlotPath};
use crate::model::ChainId;
use crate::slots::{
    APART, Claimant, Fate, HeldClaim, Leaves, Standing, Stored, claiming, hosts_before, later, look_again, number_of,
    was_faster,
};
use crate::state::{BegunChain, Holder, State};
use crate::store::Store;
use crate::text::Length;

/// Does the work of a slot where it is due. Blocks; ends soon once `order.stop` is raised.
pub fn carry_out(order: &Order, listener: &dyn Listener, runtime: &Handle) -> Result<Ended, Trouble> {
    let done = match order.kind {
        Kind::Full => attempt(order, listener, runtime),
        Kind::Verify => scheduled_upkeep::verify(order),
        Kind::Prune => scheduled_upkeep::retention(order),
    };
    done.map_err(|failure| match failure {
        Stop::Asked => Trouble::Stopped,
        Stop::Failed(failure) if failure.exit == Exit::Locked => Trouble::Busy(failure.message().to_owned()),
        Stop::Failed(failure) => Trouble::Failed(failure.message().to_owned()),
    })
}

/// Why an attempt came to nothing.
pub(super) enum Stop {
    Asked,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

fn attempt(order: &Order, listener: &dyn Listener, runtime: &Handle) -> Result<Ended, Stop> {
    let mut attempt = Attempt::begin(order, listener, runtime)?;
    match attempt.carry_through() {
        Ok(()) => Ok(attempt.ended),
        // What is known of one destination stands, whatever keeps the backup out of the others.
        Err(Stop::Failed(failure)) if !attempt.ended.fates.is_empty() => {
            attempt.fail_the_rest(&failure);
            Ok(attempt.ended)
        }
        Err(stop) => Err(stop),
    }
}

/// One attempt at a slot.
struct Attempt<'a> {
    listener: &'a dyn Listener,
    runtime: &'a Handle,
    order: &'a Order,
    config: &'a Config,
    state: State,
    slot: SlotPath,
    /// The destinations, each opened once: those of the order, and all others as soon as a backup is to be taken.
    destinations: Vec<Destination>,
    /// Those of which is still to be found out, or done, what becomes of them.
    open: BTreeSet<String>,
    /// The backup of the slot that others have, by the destination that could not get it from them.
    elsewhere: BTreeMap<String, ChainId>,
    /// Chains of this host whose runs are dead.
    gone: BTreeSet<ChainId>,
    ended: Ended,
}

impl<'a> Attempt<'a> {
    fn begin(order: &'a Order, listener: &'a dyn Listener, runtime: &'a Handle) -> Result<Attempt<'a>, Failure> {
        let config = &*order.config;
        let state = host::state(&config.cluster.name)?;
        let names: Vec<String> = order.destinations.iter().map(ToString::to_string).collect();
        Ok(Attempt {
            destinations: open_to_write(config, &state, &names)?,
            open: names.into_iter().collect(),
            elsewhere: BTreeMap::new(),
            gone: state.begun().map_err(failed)?.dead,
            slot: SlotPath::new(order.schedule.clone(), order.slot.instant()),
            listener,
            runtime,
            order,
            config,
            state,
            ended: Ended::default(),
        })
    }

    /// Goes on until of each destination is known what becomes of it, or nothing more can be done.
    fn carry_through(&mut self) -> Result<(), Stop> {
        self.look_at_claims();
        if self.open.is_empty() || self.leaves_it_to_others()? {
            return Ok(());
        }
        let lock = host::jobs_lock(&self.state, host::AGENT, Duration::ZERO)?;
        let others = open_the_others(self.config, &self.state, &self.destinations);
        self.destinations.extend(others);
        let done = self.back_up();
        drop(lock);
        done
    }

    /// Says of each destination of which nothing is known that this is why.
    fn fail_the_rest(&mut self, failure: &Failure) {
        let why = failure.message().to_owned();
        let fate = match failure.exit == Exit::Locked {
            true => look_again(why, SignedDuration::ZERO, host::now()),
            false => Fate::Failed(why),
        };
        for name in &self.order.destinations {
            self.ended.fates.entry(name.clone()).or_insert_with(|| fate.clone());
        }
    }

    /// Sorts out what others have done or are at, in the shared stores.
    fn look_at_claims(&mut self) {
        self.settle(|attempt, name, store| {
            if !attempt.config.is_shared(name) {
                return Ok(None);
            }
            let standing = attempt.standing_in(store)?;
            Ok(number_of(standing, host::now()).err())
        });
    }

    /// Whether hosts go before this one that have not had the time to. The survey is made anew each time: the leader may
    /// be another one.
    fn leaves_it_to_others(&mut self) -> Result<bool, Stop> {
        let all = i32::try_from(self.config.members.len()).unwrap_or(i32::MAX);
        let last = later(self.order.due_at, APART.saturating_mul(all));
        if host::now() >= last || !self.open.iter().any(|open| self.config.is_shared(open)) {
            return Ok(false);
        }
        let access = host::access(self.config)?;
        let members = host::endpoints(self.config);
        let surveyed = self.runtime.block_on(async {
            tokio::select! {
                surveyed = survey(&members, &access, Ahead::Far) => Ok(surveyed),
                () = raised(self.order.stop.clone()) => Err(Stop::Asked),
            }
        })?;
        let candidates: Vec<_> = surveyed.into_iter().map(|surveyed| surveyed.candidate).collect();
        let local = self.config.local_member(&host::this_host()?);
        let before = hosts_before(&candidates, local.name().map(|name| name.as_str()));
        let before = i32::try_from(before).unwrap_or(i32::MAX);
        let until = later(self.order.due_at, APART.saturating_mul(before));
        if host::now() >= until {
            return Ok(false);
        }
        let why = match before {
            1 => "waiting: 1 other host has priority".to_owned(),
            several => format!("waiting: {several} other hosts have priority"),
        };
        // Looked at in between: it may be done, and this host's status says so then.
        let until = until.min(later(host::now(), APART));
        self.settle(|_, _, _| {
            let why = why.clone();
            Ok(Some(Fate::Later { why, until }))
        });
        Ok(true)
    }

    /// Claims what is to be claimed, and takes the backup for all that is left then.
    fn back_up(&mut self) -> Result<(), Stop> {
        let access = host::access(self.config)?;
        let now = host::now();
        let id = ChainId::new(now, getrandom::u32().map_err(failed)?);
        let request = Request {
            origin: Origin::Schedule,
            schedule: Some(self.order.schedule.to_string()),
            slot: Some(self.order.slot.instant()),
            member: None,
            pace: None,
            pinned: Pinned::No,
            note: None,
        };
        let job = backup::job(self.config, request, id.clone(), access.clone())?;
        // Before the first claim, so that after a kill this host knows that nobody stands behind it.
        let begun = self
            .state
            .begin_chain(&id, &Holder::this("agent", now))
            .map_err(failed)?;
        let claimant = Claimant {
            host: job.host.clone(),
            run: job.writer.run.clone(),
            chain: id,
        };
        let mut held = self.claim(&claimant);
        // Only now: while nobody else can add to it.
        self.order.pulse.beat();
        let pulse = &self.order.pulse;
        let mut destinations =
            backup::read_and_sweep(self.listener, self.config, &self.state, &self.destinations, &|| {
                pulse.beat()
            });
        for (name, error) in &destinations.unreadable {
            self.listener.warn(&format!("destination {name}: {error}"));
        }
        self.order.pulse.beat();
        let opening = self.claim_opening(&mut destinations, &claimant, &access)?;
        held.retain(|name, _| self.open.contains(name));
        self.look_at_backups(&destinations, job.host.as_str());
        self.copy_from_others(&mut destinations, &mut held, &claimant)?;
        if self.open.is_empty() {
            self.catch_up(&mut destinations);
            self.ended.look = Some(survey_destinations::after(self.config, &destinations));
            return begun.finish().map_err(|error| failed(error).into());
        }
        let apart = self.clocks_apart();
        let progress = Progress::with(self.order.pulse.clone());
        let mut renamed = |chain: &ChainId| held.values().chain(&opening).for_each(|claim| claim.names(chain));
        let outcome = match self.take(job, &mut destinations, begun, &progress, &mut renamed) {
            Err(Error::Interrupted { .. }) => return Err(Stop::Asked),
            // Others have it: it is these that are wrong, and not the schedule.
            Err(Error::NoDestination(written)) if !self.elsewhere.is_empty() => {
                self.tell_who_lacks_it(&written);
                return Ok(());
            }
            taken => taken.map_err(|error| Stop::Failed(Failure::new(Exit::Failed, with_causes(&error))))?,
        };
        let is_good = outcome.manifest.faults.is_empty();
        for written in outcome.destinations.iter().filter(|_| is_good) {
            if let (Ok(()), Some(claim)) = (&written.result, held.remove(&written.destination)) {
                claim.end(ClaimState::Done);
            }
        }
        // The others are given up.
        drop((held, opening));
        self.tell(&outcome, &mut destinations, apart);
        self.catch_up(&mut destinations);
        self.ended.look = Some(survey_destinations::after(self.config, &destinations));
        Ok(())
    }

    fn standing_in(&self, store: &Store) -> Result<Standing, crate::store::Error> {
        let is_gone = |chain: &ChainId| self.gone.contains(chain);
        claiming::look(store, &self.slot, Leaves::Backup, is_gone, host::now())
    }

    /// What is to be known of the clock of a shared store to which the backup goes: it decides there what is late or done.
    fn clocks_apart(&self) -> Vec<String> {
        let shared = self.to_write().filter(|open| self.config.is_shared(&open.name));
        let apart = shared.filter_map(|open| {
            let store = open.store.as_ref().ok()?;
            let (store, host) = (store.now().ok()?, host::now());
            let by = Clocks { host, store }.apart()?;
            let (name, by) = (&open.name, Length(by.unsigned_abs()));
            Some(format!(
                "this host's clock is {by} ahead of destination {name}'s: correct the wrong one; if it is this host's, other hosts repeat the same slots"
            ))
        });
        apart.collect()
    }

    /// Claims the slot in each shared store.
    fn claim(&mut self, claimant: &Claimant) -> BTreeMap<String, HeldClaim> {
        let mut held = BTreeMap::new();
        self.settle(|attempt, name, store| {
            if !attempt.config.is_shared(name) {
                return Ok(None);
            }
            let standing = attempt.standing_in(store)?;
            let number = match number_of(standing, host::now()) {
                Ok(number) => number,
                Err(fate) => return Ok(Some(fate)),
            };
            match HeldClaim::begin(store, &attempt.slot, number, claimant)? {
                Some(claim) => held.insert(name.to_owned(), claim),
                None => return Ok(Some(was_faster(host::now()))),
            };
            Ok(None)
        });
        held
    }

    /// Sorts out what has the backup already, though no claim or memory says so.
    fn look_at_backups(&mut self, destinations: &Destinations, own: &str) {
        self.settle(|attempt, name, store| {
            let clocks = Clocks {
                host: host::now(),
                store: store.now()?,
            };
            for backup in destinations.catalog.of_slot(&attempt.slot, name, clocks) {
                let Ok((manifest, _)) = destinations.manifest(backup) else {
                    continue;
                };
                if attempt.config.is_shared(name) || manifest.writer.host == own {
                    return Ok(Some(Fate::Stored(Stored {
                        host: manifest.writer.host,
                        id: Some(manifest.chain),
                    })));
                }
            }
            Ok(None)
        });
    }

    /// The destinations that the backup goes to.
    fn to_write(&self) -> impl Iterator<Item = &Destination> {
        let all = self.destinations.iter();
        all.filter(|destination| self.open.contains(&destination.name))
    }

    fn take(
        &mut self,
        job: Job,
        destinations: &mut Destinations,
        begun: BegunChain,
        progress: &Progress,
        renamed: &mut dyn FnMut(&ChainId),
    ) -> Result<Outcome, Error> {
        let open = std::mem::take(&mut self.open);
        let mut to = std::mem::take(&mut self.destinations);
        to.retain(|destination| open.contains(&destination.name));
        let stop = raised(self.order.stop.clone());
        let other_recipients = recipients::changed_since(self.listener, self.config, &self.state, destinations);
        let run = backup::Run {
            listener: self.listener,
            state: &self.state,
            command: "agent",
            begun,
            progress,
            renamed,
        };
        let mut outcome = self.runtime.block_on(backup::take(run, job, to, destinations, stop))?;
        outcome.warnings.extend(other_recipients);
        outcome
            .warnings
            .extend(last_seen::remember(&self.state, destinations).err());
        Ok(outcome)
    }

    /// Says what became of each destination, and applies retention to those that have the backup.
    fn tell(&mut self, outcome: &Outcome, destinations: &mut Destinations, apart: Vec<String>) {
        let mut taken = Taken {
            id: outcome.manifest.chain.clone(),
            warnings: outcome
                .unaccepted
                .iter()
                .chain(&outcome.warnings)
                .cloned()
                .chain(apart)
                .collect(),
            removed: 0,
            last: LastBackup::default(),
            undone: Vec::new(),
        };
        for written in &outcome.destinations {
            let name = &written.destination;
            let fate = match &written.result {
                Ok(()) if !outcome.manifest.faults.is_empty() => Fate::Failed(format!(
                    "no member gives a good backup; {} is kept, marked as bad: {}",
                    taken.id,
                    outcome.manifest.faults.join("; ")
                )),
                Ok(()) => Fate::Stored(Stored {
                    host: outcome.manifest.writer.host.clone(),
                    id: Some(taken.id.clone()),
                }),
                // The next attempt finds the backup elsewhere, and copies it at the pace that this one has.
                Err(error) if copy::is_slow(error) => Fate::Later {
                    why: format!("it is slow: {} is copied from another destination", taken.id),
                    until: host::now(),
                },
                Err(error) => Fate::Failed(format!("destination {name} lacks {}: {}", taken.id, with_causes(error))),
            };
            self.add(name, fate);
        }
        // What is wrong with it is the fate of its slot.
        if !outcome.manifest.faults.is_empty() {
            return;
        }
        let begun = Instant::now();
        if !*self.order.stop.borrow() {
            self.prune(outcome, destinations, &mut taken);
        }
        taken.last = LastBackup::new(
            outcome.manifest.plain.bytes,
            outcome.manifest.stored.bytes,
            &phases(outcome).with("retention", begun.elapsed()),
        );
        self.ended.taken = Some(taken);
    }

    /// Applies retention to those that have the backup, by what was read before it.
    fn prune(&mut self, outcome: &Outcome, destinations: &mut Destinations, taken: &mut Taken) {
        for written in outcome.destinations.iter().filter(|written| written.result.is_ok()) {
            let name = &written.destination;
            let applied = prune::apply(self.config, destinations, name, || self.order.pulse.beat());
            taken.removed += applied.gone.len();
            if let (Some(name), Some(retained)) = (self.order.destinations.get(name.as_str()), applied.retained) {
                self.ended.retained.insert(name.clone(), retained);
            }
            destinations.forget(name, &applied.gone);
            let undone = applied.undone.into_iter();
            taken
                .undone
                .extend(undone.map(|why| format!("destination {name}: {why}")));
        }
    }

    /// Takes out of the open destinations those whose fate is known by `judge`. One that cannot be opened is left to the
    /// backup, which names the reason, unless it is shared: nobody can claim it.
    fn settle(
        &mut self,
        mut judge: impl FnMut(&Attempt<'_>, &str, &Store) -> Result<Option<Fate>, crate::store::Error>,
    ) {
        let fates = self.to_write().filter_map(|destination| {
            let name = &destination.name;
            let fate = match &destination.store {
                Ok(store) => judge(self, name, store).unwrap_or_else(|error| Some(unusable(&error))),
                Err(error) if self.config.is_shared(name) => Some(unusable(error)),
                Err(_) => None,
            };
            Some((name.clone(), fate?))
        });
        let fates: Vec<(String, Fate)> = fates.collect();
        for (name, fate) in fates {
            self.open.remove(&name);
            self.add(&name, fate);
        }
    }

    fn add(&mut self, name: &str, fate: Fate) {
        let name: Option<&DestinationName> = self.order.destinations.get(name);
        self.ended.fates.extend(name.cloned().map(|name| (name, fate)));
    }
}

/// How long the parts of a backup took, by the manifest and by a clock that is never set.
fn phases(outcome: &Outcome) -> Phases {
    let manifest = &outcome.manifest;
    let between =
        |from: jiff::Timestamp, to: jiff::Timestamp| Duration::try_from(to.duration_since(from)).unwrap_or_default();
    let prepare = between(manifest.started_at, manifest.first_byte_at);
    let transfer = between(manifest.first_byte_at, manifest.finished_at);
    Phases::default()
        .with("prepare", prepare)
        .with("transfer", transfer)
        .with("prove", outcome.took.saturating_sub(prepare + transfer))
}

/// Done when the agent is to stop, or a restore wants etcd for itself.
async fn raised(mut stop: watch::Receiver<bool>) {
    let told = async {
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = told => {}
        () = restore_opened() => {}
    }
}
