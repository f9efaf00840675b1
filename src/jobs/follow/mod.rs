//! A data directory on another host that is laid out once, and then kept a few seconds behind the cluster: what comes to the
//! destinations is found by listing the chain, and appended.
//!
//! All destinations are read as a whole now and then, for a newer chain to go over to. One whose full backup is not ahead of what
//! is here is gone on with as it is; only where nothing leads on from here is another full backup laid out.

mod events;
mod history_mark;
mod lay_out;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::named_backup::chosen;
use super::point::belongs;
use super::rebuild::{expected, refused_by};
use super::source::Asked as Source;
use super::{Exit, Failure, Listener, host};
use crate::catalog::{Backup, Following};
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::model::{LineageId, Revision};
use crate::pipeline::Identities;
use crate::rebuild::{Error, Plan, Progress, Warm, not_compared};
use crate::source::{Chain, Notes, delta};
use history_mark::{Mark, held_to};
use jiff::Timestamp;
use lay_out::{heard, lay_out, newest};

pub use events::{Event, Hears, Stand};

/// How often all destinations are read.
const READ_ALL_EVERY: Duration = Duration::from_secs(30);
/// The same where the chain has ended, or nothing leads on.
const READ_STUCK_EVERY: Duration = Duration::from_secs(2);
/// How long it is waited for the rest of a chain, where a newer full backup is there and nobody has said that it has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of the time goes into changes at most, where a whole walk takes long: one part of so many.
const SHARE: u32 = 3;
/// How often it is looked whether it is to stop.
const TICK: Duration = Duration::from_millis(100);

/// What is asked for.
pub struct Asked<'a> {
    /// Where the backups are.
    pub source: Source<'a>,
    /// What to lay out.
    pub plan: &'a Plan,
    /// How often the chain is listed.
    pub every: Duration,
}

/// What is kept up, and with what.
struct Follow<'a> {
    asked: &'a Asked<'a>,
    plan: Plan,
    listener: &'a dyn Listener,
    hears: &'a dyn Hears,
    stop: &'a AtomicBool,
    identities: Option<Arc<Identities>>,
    lineage: LineageId,
    warm: Warm,
    chain: Chain,
    /// The chain of the newest full backup, where that is another one: the next changes come to it.
    next: Option<Chain>,
    as_of: Option<Timestamp>,
    /// Since when nothing leads on, though there is a newer full backup.
    stuck_since: Option<Instant>,
    /// What was told last, so that it is not told at each look.
    told: Option<String>,
    /// The destinations that could not be listed the last time.
    unlisted: BTreeSet<String>,
}

/// Where to go on.
enum Way<'a> {
    /// With what is followed.
    Same,
    /// With another chain.
    Other(&'a Backup),
    /// Nothing leads on: from another full backup.
    Anew(String),
    /// There is a newer full backup, and the rest of the chain may still come.
    Wait,
}

/// Keeps it up until `stop` is raised. How it is then.
pub fn follow(
    asked: &Asked<'_>,
    listener: &dyn Listener,
    hears: &dyn Hears,
    stop: &AtomicBool,
) -> Result<Option<Stand>, Failure> {
    // Each would be of another revision, with logs that say that all are alike: members that differ, and nobody sees it.
    if let members @ 2.. = asked.plan.membership.members().len() {
        let message = format!("a copy that is kept up is of one member, and --initial-cluster names {members}");
        return Err(Failure::new(Exit::Usage, message).next(
            "name this one alone; others join it once it serves (`etcdctl member add`), or all are rebuilt from its database",
        ));
    }
    let (places, identities) = asked.source.places(listener)?;
    let identities = identities.map(Arc::new);
    let latest = chosen(listener, &places, "latest")?;
    let lineage = latest.manifest().lineage.clone();
    let data_dir = &asked.plan.data_dir;
    let is_there = data_dir.join("member").is_dir();
    let plan = Plan {
        history: Some(Mark::of(&lineage).bytes()?),
        ..asked.plan.clone()
    };
    let warm = match is_there {
        true => {
            let warm = Warm::open(&plan).map_err(|error| refused_by(&error, None))?;
            held_to(&lineage, &warm, data_dir)?;
            warm
        }
        false => match lay_out(&plan, &places, &identities, (listener, hears), stop) {
            Ok(warm) => warm,
            Err(_) if stop.load(Ordering::Relaxed) => return Ok(None),
            Err(failure) => return Err(failure),
        },
    };
    let chain = chain_of(
        best(&places, &lineage, warm.revision()).unwrap_or(latest),
        &places,
        &identities,
    );
    let mut follow = Follow {
        asked,
        plan,
        listener,
        hears,
        stop,
        identities,
        lineage,
        warm,
        chain,
        next: None,
        as_of: None,
        stuck_since: None,
        told: None,
        unlisted: BTreeSet::new(),
    };
    if is_there {
        follow.tell(&Event::Resumed);
    }
    follow.go_on(&places)?;
    Ok(Some(follow.stand()))
}

/// The good full backup at or before `revision` whose chain reaches furthest; of several the newest.
fn best<'a>(places: &'a Destinations, lineage: &LineageId, revision: Revision) -> Option<&'a Backup> {
    let is_meant =
        |backup: &&Backup| backup.is_good() && backup.manifest().lineage == *lineage && backup.revision() <= revision;
    let backups = places.catalog.backups().iter().filter(is_meant);
    backups.max_by_key(|backup| (Following::of(backup).window().to, backup.newness()))
}

fn chain_of(backup: &Backup, places: &Destinations, identities: &Option<Arc<Identities>>) -> Chain {
    Chain {
        belongs: belongs(backup),
        following: Following::of(backup),
        stores: places.stores.clone(),
        identities: identities.clone(),
    }
}

fn stand_of(warm: &Warm, as_of: Option<Timestamp>) -> Stand {
    Stand {
        revision: warm.revision(),
        hash_kv: warm.hash_kv(),
        as_of,
        bytes: warm.bytes(),
        has_users: warm.has_users(),
    }
}

impl Follow<'_> {
    fn stand(&self) -> Stand {
        stand_of(&self.warm, self.as_of)
    }

    fn tell(&self, event: &Event<'_>) {
        self.hears.event(event, &self.stand());
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn go_on(&mut self, places: &Destinations) -> Result<(), Failure> {
        let mut read_at = Instant::now();
        self.choose(places)?;
        while !self.is_stopped() {
            let begun = Instant::now();
            self.look()?;
            let took = begun.elapsed();
            if self.is_stopped() {
                break;
            }
            let every = match self.stuck_since.is_some() || self.has_ended() {
                true => READ_STUCK_EVERY,
                false => READ_ALL_EVERY,
            };
            if read_at.elapsed() >= every {
                match self.asked.source.places(self.listener) {
                    Ok((read, _)) => self.choose(&read)?,
                    Err(failure) => self.warn(failure.message()),
                }
                read_at = Instant::now();
            }
            self.hears.stands(&self.stand());
            self.rest(self.asked.every.max(took * (SHARE - 1)));
        }
        Ok(())
    }

    fn rest(&self, pause: Duration) {
        let begun = Instant::now();
        while !self.is_stopped() && begun.elapsed() < pause {
            std::thread::sleep(TICK.min(pause.saturating_sub(begun.elapsed())));
        }
    }

    /// Says it, unless it was said last.
    fn warn(&mut self, what: &str) {
        if self.told.as_deref() != Some(what) {
            self.listener.warn(what);
            self.told = Some(what.to_owned());
        }
    }

    /// Whether somebody has said that what comes next is not in its chain.
    fn has_ended(&self) -> bool {
        let revision = self.warm.revision();
        self.chain.following.gaps().any(|(_, from)| from > revision)
    }

    /// Takes in what has come to the chain since.
    fn look(&mut self) -> Result<(), Failure> {
        let mut unlisted = self.chain.look_again();
        if let Some(mut next) = self.next.take() {
            unlisted.extend(next.look_again());
            let window = next.following.window();
            let revision = self.warm.revision();
            let leads_on = window.from <= revision && window.to > self.chain.following.window().to.max(revision);
            match leads_on {
                true => {
                    self.chain = next;
                    self.tell(&Event::WentOver(&self.chain.belongs.chain.chain));
                }
                false => self.next = Some(next),
            }
        }
        self.tell_unlisted(unlisted);
        let tip = self.chain.following.window().to;
        if tip > self.warm.revision() {
            self.advance(tip)?;
            if self.warm.is_grown() {
                self.warm.tidy().map_err(|error| refused_by(&error, None))?;
            }
        }
        self.as_of = self.time_of(self.warm.revision()).or(self.as_of);
        Ok(())
    }

    /// Says once of each destination that it cannot be listed, and that it can again.
    fn tell_unlisted(&mut self, unlisted: BTreeMap<String, String>) {
        for (name, error) in unlisted.iter().filter(|(name, _)| !self.unlisted.contains(*name)) {
            self.listener.warn(&format!(
                "destination {name} cannot be listed; what comes to it alone is not taken in until it can: {error}"
            ));
        }
        for name in self.unlisted.iter().filter(|name| !unlisted.contains_key(*name)) {
            self.listener.warn(&format!("destination {name} is listed again"));
        }
        self.unlisted = unlisted.into_keys().collect();
    }

    /// When a revision is known to have been the last one, at the latest.
    fn time_of(&self, revision: Revision) -> Option<Timestamp> {
        let following = &self.chain.following;
        let marked = following.marked_at(revision).map(|(time, _)| time);
        let plan = following.plan(revision).ok()?;
        let written = plan.last().and_then(|piece| {
            let mut stores = piece.destinations.iter().filter_map(|name| self.chain.stores.get(name));
            let judged = stores.find_map(|store| delta::head(store, &self.chain.belongs, &piece.name).ok())?;
            let last = judged.head.header.last_mark;
            (last.revision == revision).then_some(last.time)
        });
        marked.max(written)
    }

    fn advance(&mut self, to: Revision) -> Result<(), Failure> {
        let (from, notes) = (self.warm.revision(), Notes::default());
        let reached = std::cell::Cell::new(0_u64);
        let changes = self.chain.clone().changes(from, to, notes.clone());
        let stop = self.stop;
        let applied = self.warm.advance(changes, &|progress| {
            if let Progress::Applying { revisions, .. } = progress {
                reached.set(revisions);
            }
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        notes.take().iter().for_each(|note| self.warn(note));
        let reached = from.get().saturating_add(i64::try_from(reached.get()).unwrap_or(0));
        match applied {
            Ok(applied) => {
                self.told = None;
                if let Some(what) = not_compared(&applied) {
                    self.warn(&what);
                }
                self.as_of = self.time_of(applied.to).or(self.as_of);
                self.tell(&Event::Applied(applied));
                Ok(())
            }
            Err(Error::Interrupted) => Ok(()),
            // What comes before it is good. The object may come again, or another full backup will.
            Err(Error::Source(error)) => {
                self.warn(&with_causes(&error));
                match Revision::new(reached) {
                    Ok(reached) if reached > from && reached < to => self.advance(reached),
                    _ => Ok(()),
                }
            }
            Err(broken @ Error::BrokenChanges { good, .. }) => {
                if good > from && good < to {
                    self.advance(good)?;
                }
                let at = self.warm.revision();
                let message = format!("{}: what is laid out stays at revision {at}", with_causes(&broken));
                Err(Failure::new(Exit::Damaged, message).next(
                    "it can be started as it is; the next full backup begins a new chain: remove the directory then, and run this again",
                ))
            }
            // A report that came late: what is there was wrong before.
            Err(wrong @ Error::BaseDiffers { .. }) => {
                let message = format!(
                    "{}: what is laid out, at revision {from}, is wrong",
                    with_causes(&wrong)
                );
                Err(Failure::new(Exit::Damaged, message).next(
                    "start no etcd on it: compare the members (`lifeboat watch`), take a full backup, then remove the directory and run this again",
                ))
            }
            Err(error) => Err(refused_by(&error, None)),
        }
    }

    /// Where to go on, by all that there is.
    fn way<'p>(&mut self, places: &'p Destinations) -> Result<Way<'p>, Failure> {
        let latest = chosen(self.listener, places, "latest")?;
        let (lineage, revision) = (&self.lineage, self.warm.revision());
        if latest.manifest().lineage != *lineage {
            let message = format!(
                "lineage {} is the one that counts now, and what is laid out is of {lineage}: etcd's data was replaced or restored",
                latest.manifest().lineage
            );
            return Err(Failure::new(Exit::Refused, message).next("remove the directory, or give another one"));
        }
        let is_other = latest.id() != &self.chain.belongs.chain.chain;
        self.next = is_other.then(|| chain_of(latest, places, &self.identities));
        let found = best(places, lineage, revision);
        let leads_on = found.filter(|found| Following::of(found).window().to > revision);
        if leads_on.is_some() || latest.revision() <= revision {
            self.stuck_since = None;
            return Ok(match leads_on {
                Some(found) if found.id() != &self.chain.belongs.chain.chain => Way::Other(found),
                Some(_) | None => Way::Same,
            });
        }
        let has_ended = self.has_ended();
        let since = *self.stuck_since.get_or_insert_with(Instant::now);
        let why = match (has_ended, found.is_none()) {
            (true, _) => "its chain has ended",
            (false, true) => "its chain is gone",
            (false, false) if since.elapsed() >= PATIENCE => "nothing leads on from it",
            (false, false) => return Ok(Way::Wait),
        };
        let full = latest.id();
        Ok(Way::Anew(format!(
            "{why} before full backup {full}, which begins at revision {}",
            latest.revision()
        )))
    }

    fn choose(&mut self, places: &Destinations) -> Result<(), Failure> {
        match self.way(places)? {
            Way::Same | Way::Wait => Ok(()),
            Way::Other(backup) => {
                self.chain = chain_of(backup, places, &self.identities);
                self.tell(&Event::WentOver(backup.id()));
                Ok(())
            }
            Way::Anew(why) => self.begin_anew(places, &why),
        }
    }

    /// Lays out another full backup in place of what is there.
    fn begin_anew(&mut self, places: &Destinations, why: &str) -> Result<(), Failure> {
        self.listener.alarm(&format!(
            "revision {} is not gone on with: {why}; that one is laid out beside it",
            self.warm.revision()
        ));
        let (found, manifest) = newest(places, &self.identities, self.listener)?;
        let (plan, hears, stop) = (&self.plan, self.hears, self.stop);
        let made = found.with_each(
            self.listener,
            |source, _| {
                let length = source.length();
                let listener = |progress| heard(progress, length, hears, stop);
                self.warm
                    .replace(source, found.changes(), Some(expected(&manifest)), plan, &listener)
            },
            Error::is_fault_of_source,
            |error| refused_by(&error, Some(&manifest)),
        );
        found.tell_notes(self.listener);
        let rebuilt = match made {
            Ok(rebuilt) => rebuilt,
            Err(_) if self.is_stopped() => return Ok(()),
            Err(failure) => return Err(failure),
        };
        self.stuck_since = None;
        let revision = self.warm.revision();
        if let Some(backup) = best(places, &self.lineage, revision) {
            self.chain = chain_of(backup, places, &self.identities);
        }
        self.as_of = self.time_of(revision);
        self.tell(&Event::LaidOut {
            manifest: &manifest,
            rebuilt: &rebuilt,
            instead: Some(why.to_owned()),
        });
        Ok(())
    }
}

/// The time, for whoever tells how far behind it is.
pub fn now() -> Timestamp {
    host::now()
}
