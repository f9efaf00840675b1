//! What a destination lacks is copied from one that has it: the backup of the slot, then those of earlier slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};

use super::{Attempt, Stop};
use crate::backup::Written;
use crate::catalog::Backup;
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::jobs::behind::Memory;
use crate::jobs::copy::{Brought, NotBrought};
use crate::jobs::fed_since::fed_since;
use crate::jobs::{copy, host, scheduled_upkeep};
use crate::layout::claim::State as ClaimState;
use crate::layout::{Clocks, SlotPath};
use crate::model::ChainId;
use crate::restore::LedgerPaths;
use crate::slots::{Claimant, Fate, HeldClaim, Leaves, Stored, claiming, later, number_of};

/// How long a run goes on to copy what destinations lack of earlier slots: other schedules wait meanwhile.
const LONGEST_CATCH_UP: SignedDuration = SignedDuration::from_mins(10);

/// For how long it does so though a backup is due: where two schedules always come together, what is quick is copied all the
/// same.
const UNDISTURBED: SignedDuration = SignedDuration::from_secs(30);

/// A backup that a destination lacks, or lacks something of.
struct OwedBackup {
    id: ChainId,
    lacks: Lacks,
}

/// What it lacks.
enum Lacks {
    /// The backup, which is of that slot, where it has one of its own.
    Backup(Option<SlotPath>),
    /// What follows it in its chain, or some of that.
    Links,
}

impl Attempt<'_> {
    /// Copies the backup of the slot to those that lack it, where another destination has it: it was away then, or slow.
    /// Where that fails, a backup is taken instead.
    pub(super) fn copy_from_others(
        &mut self,
        destinations: &mut Destinations,
        held: &mut BTreeMap<String, HeldClaim>,
        claimant: &Claimant,
    ) -> Result<(), Stop> {
        let open: Vec<(String, bool)> = self
            .to_write()
            .map(|open| (open.name.clone(), open.store.is_ok()))
            .collect();
        let sources = clocks(destinations);
        for (name, is_opened) in open {
            let Some(id) = self.of_slot_elsewhere(destinations, &sources, &name, claimant.host.as_str()) else {
                continue;
            };
            if !is_opened {
                self.elsewhere.insert(name, id);
                continue;
            }
            if let Some(claim) = held.get(&name) {
                claim.names(&id);
            }
            let fate = match self.bring(destinations, &id, &name, host::now()) {
                Ok(host) => {
                    if let Some(claim) = held.remove(&name) {
                        claim.end(ClaimState::Done);
                    }
                    Fate::Stored(Stored { host, id: Some(id) })
                }
                Err(NotBrought::Stopped) if self.is_to_stop() => return Err(Stop::Asked),
                Err(NotBrought::Stopped) => {
                    drop(held.remove(&name));
                    scheduled_upkeep::gives_way()
                }
                Err(NotBrought::Failed(why)) => {
                    // Where no backup can be taken either, why is told as the fate of the destination.
                    self.listener
                        .detail(&format!("destination {name}: {id} could not be copied to it: {why}"));
                    if let Some(claim) = held.get(&name) {
                        claim.names(&claimant.chain);
                    }
                    self.elsewhere.insert(name, id);
                    continue;
                }
            };
            self.open.remove(&name);
            self.add(&name, fate);
        }
        Ok(())
    }

    /// Says of each destination that got neither a copy of the slot's backup nor one of its own what it lacks.
    pub(super) fn tell_who_lacks_it(&mut self, written: &[Written]) {
        for written in written {
            let (name, result) = (&written.destination, &written.result);
            let why = result
                .as_ref()
                .err()
                .map_or_else(String::new, |error| with_causes(error));
            let lacks = self
                .elsewhere
                .get(name)
                .map(|id| format!("destination {name} lacks {id}: {why}"));
            self.add(name, Fate::Failed(lacks.unwrap_or(why)));
        }
    }

    /// The backup of the slot that a destination which has none of it may get from another: one that is good there, and of
    /// this host or in a store that all share. One that it has a copy of is none: that copy is bad, or not of the slot.
    fn of_slot_elsewhere(
        &self,
        destinations: &Destinations,
        sources: &BTreeMap<String, Clocks>,
        name: &str,
        own: &str,
    ) -> Option<ChainId> {
        let is_ours = |backup: &Backup, source: &str| {
            self.config.is_shared(source)
                || destinations
                    .manifest(backup)
                    .is_ok_and(|(manifest, _)| manifest.writer.host == own)
        };
        let others = sources.iter().filter(|(source, _)| *source != name);
        let mut found = others.filter_map(|(source, clocks)| {
            let mut of_slot = destinations.catalog.of_slot(&self.slot, source, *clocks);
            of_slot.find(|backup| backup.destinations().all(|has| has != name) && is_ours(backup, source))
        });
        found.next().map(|backup| backup.id().clone())
    }

    /// Whether a backup of a slot is one that a destination of this host may get: its own, or one of a store that all share.
    fn is_ours(&self, destinations: &Destinations, backup: &Backup, own: &str) -> bool {
        let is_shared = backup.destinations().any(|name| self.config.is_shared(name));
        is_shared
            || destinations
                .manifest(backup)
                .is_ok_and(|(manifest, _)| manifest.writer.host == own)
    }

    /// Whether the agent is to stop, or a restore wants this host for itself.
    fn is_to_stop(&self) -> bool {
        *self.order.stop.borrow() || LedgerPaths::default().is_open()
    }

    /// Copies a backup to a destination, and says so; gives the host that took it. After `undisturbed_until` it gives
    /// way to a backup that is due.
    fn bring(
        &mut self,
        destinations: &mut Destinations,
        id: &ChainId,
        name: &str,
        undisturbed_until: Timestamp,
    ) -> Result<String, NotBrought> {
        let stop = Arc::new(AtomicBool::new(false));
        let each = |bytes| {
            if bytes > 0 {
                self.order.pulse.beat();
            }
            let makes_way = *self.order.gives_way.borrow() && host::now() >= undisturbed_until;
            stop.store(makes_way || self.is_to_stop(), Ordering::Relaxed);
        };
        let gone = || NotBrought::Failed("it is gone".to_owned());
        let catalog = &destinations.catalog;
        let backup = catalog.backups().iter().find(|backup| backup.id() == id);
        let backup = backup.ok_or_else(gone)?;
        let host = destinations.manifest(backup).map(|(manifest, _)| manifest.writer.host);
        let brought = copy::bring(destinations, backup, name, None, &stop, &each)?;
        let mut tell = |what: String| self.ended.findings.done.push(format!("destination {name}: {what}"));
        if let Some(from) = &brought.backup {
            tell(format!("{id} copied from {from}"));
        }
        for from in &brought.links {
            tell(format!("what follows {id} copied from {from}"));
        }
        if brought != Brought::default() {
            destinations.take_copy_in(id, brought.sources(), name);
        }
        host.map_err(|error| NotBrought::Failed(with_causes(&error)))
    }

    /// Copies to the destinations of the order what they lack of earlier slots, oldest first, for as long as a run may
    /// take.
    pub(super) fn catch_up(&mut self, destinations: &mut Destinations) {
        let begun = host::now();
        let until = later(begun, LONGEST_CATCH_UP);
        let undisturbed_until = later(begun, UNDISTURBED);
        let names: Vec<String> = self.order.destinations.iter().map(ToString::to_string).collect();
        let own = host::host_name();
        for name in names {
            for owed in self.owed(destinations, &name, own.as_str()) {
                let now = host::now();
                if self.is_to_stop() || now >= until {
                    return;
                }
                let done = self.catch_up_one(destinations, &name, &owed, undisturbed_until);
                // The next run tries again. Of what follows backups one that cannot be had keeps none of the others.
                let (why, goes_on) = match done {
                    Ok(()) => continue,
                    Err(NotBrought::Stopped) if self.is_to_stop() => return,
                    Err(NotBrought::Stopped) => ("a backup is due, and goes first".to_owned(), false),
                    Err(NotBrought::Failed(why)) => (why, matches!(owed.lacks, Lacks::Links)),
                };
                let id = &owed.id;
                let what = match owed.lacks {
                    Lacks::Backup(_) => id.to_string(),
                    Lacks::Links => format!("what follows {id}"),
                };
                let undone = format!("destination {name} still lacks {what}: {why}");
                self.ended.findings.undone.push(undone);
                if !goes_on {
                    break;
                }
            }
        }
    }

    /// What of earlier slots a destination of this host may get: backups first, then what follows those that it has.
    fn owed(&self, destinations: &Destinations, name: &str, own: &str) -> Vec<OwedBackup> {
        let led = destinations.catalog.led();
        let slot = |backup: &Backup| {
            // Of one that another one leads the slot is done by that.
            let is_led = led.contains(&backup.manifest().chain_path());
            backup.manifest().slot.as_deref().filter(|_| !is_led).cloned()
        };
        let fed_since = fed_since(self.config, destinations, host::now(), Memory::IsRead).remove(name);
        let backups = copy::lacking(self.config, destinations, name, fed_since).into_iter();
        let backups = backups.filter(|backup| backup.manifest().slot.as_deref() != Some(&self.slot));
        let backups = backups.map(|backup| (backup, Lacks::Backup(slot(backup))));
        let links = copy::lacking_links(self.config, destinations, name).into_iter();
        let links = links.map(|backup| (backup, Lacks::Links));
        let owed = backups
            .chain(links)
            .filter(|(backup, _)| self.is_ours(destinations, backup, own));
        let owed = owed.map(|(backup, lacks)| OwedBackup {
            id: backup.id().clone(),
            lacks,
        });
        owed.collect()
    }

    fn catch_up_one(
        &mut self,
        destinations: &mut Destinations,
        name: &str,
        owed: &OwedBackup,
        undisturbed_until: Timestamp,
    ) -> Result<(), NotBrought> {
        let (id, slot) = match owed {
            OwedBackup {
                id,
                lacks: Lacks::Backup(slot),
            } => (id, slot.clone()),
            // Whoever brings the same brings it as it is.
            OwedBackup {
                id,
                lacks: Lacks::Links,
            } => (id, None),
        };
        let failed = |why: &str| NotBrought::Failed(why.to_owned());
        let store = destinations.stores.get(name).cloned();
        let store = store.ok_or_else(|| failed("it could not be read"))?;
        let held = match slot.filter(|_| self.config.is_shared(name)) {
            None => None,
            Some(slot) => {
                let told = |error: crate::store::Error| failed(&with_causes(&error));
                let standing = {
                    let is_gone = |chain: &ChainId| self.gone.contains(chain);
                    claiming::look(&store, &slot, Leaves::Backup, is_gone, host::now())
                };
                // Another host is at it, or has done it.
                let Ok(number) = number_of(standing.map_err(told)?, host::now()) else {
                    return Ok(());
                };
                let random = getrandom::u32().map_err(|error| failed(&error.to_string()))?;
                let claimant = Claimant {
                    host: host::host_name(),
                    run: format!("{random:08x}"),
                    chain: id.clone(),
                };
                match HeldClaim::begin(&store, &slot, number, &claimant).map_err(told)? {
                    Some(held) => Some(held),
                    None => return Ok(()),
                }
            }
        };
        self.bring(destinations, id, name, undisturbed_until)?;
        if let Some(held) = held {
            held.end(ClaimState::Done);
        }
        Ok(())
    }
}

/// The clocks that the destinations' backups are judged by; one that does not tell its time is left out.
fn clocks(destinations: &Destinations) -> BTreeMap<String, Clocks> {
    let told = destinations.stores.iter().filter_map(|(name, store)| {
        let (store, host) = (store.now().ok()?, host::now());
        Some((name.clone(), Clocks { host, store }))
    });
    told.collect()
}
