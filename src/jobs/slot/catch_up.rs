//! What a destination lacks is copied from one that has it: the backup of the slot, then those of earlier slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::SignedDuration;

use super::Attempt;
use crate::catalog::Backup;
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::jobs::{copy, host};
use crate::layout::SlotPath;
use crate::layout::claim::State as ClaimState;
use crate::model::ChainId;
use crate::restore::LedgerPaths;
use crate::slots::{Claimant, Fate, HeldClaim, Leaves, Stored, held_claim, later, number_of};

/// How long a run goes on to copy what destinations lack of earlier slots: other schedules wait meanwhile.
const LONGEST_CATCH_UP: SignedDuration = SignedDuration::from_mins(10);

impl Attempt<'_> {
    /// Copies the backup of the slot to those that lack it, where another destination has it: it was away then, or slow.
    pub(super) fn copy_from_others(
        &mut self,
        destinations: &mut Destinations,
        held: &mut BTreeMap<String, HeldClaim>,
        own: &str,
    ) {
        let open: Vec<String> = self
            .to_write()
            .filter(|open| open.store.is_ok())
            .map(|open| open.name.clone())
            .collect();
        for name in open {
            let catalog = &destinations.catalog;
            let of_slot = catalog.backups().iter().find(|backup| {
                backup.manifest().slot.as_deref() == Some(&self.slot) && self.is_ours(destinations, backup, own)
            });
            let Some(id) = of_slot.map(|backup| backup.id().clone()) else {
                continue;
            };
            let fate = match self.bring(destinations, &id, &name) {
                Ok(host) => {
                    if let Some(claim) = held.remove(&name) {
                        claim.end(ClaimState::Done);
                    }
                    Fate::Stored(Stored { host, id: Some(id) })
                }
                Err(why) => Fate::Failed(format!("destination {name} lacks {id}: {why}")),
            };
            self.open.remove(&name);
            self.add(&name, fate);
        }
    }

    /// Whether a backup of a slot is one that a destination of this host may get: its own, or one of a store that all share.
    fn is_ours(&self, destinations: &Destinations, backup: &Backup, own: &str) -> bool {
        let is_shared = backup.destinations().any(|name| self.config.is_shared(name));
        is_shared
            || destinations
                .manifest(backup)
                .is_ok_and(|(manifest, _)| manifest.writer.host == own)
    }

    /// Copies a backup to a destination, and says so; gives the host that took it.
    fn bring(&mut self, destinations: &mut Destinations, id: &ChainId, name: &str) -> Result<String, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let each = |_| {
            self.order.pulse.beat();
            stop.store(
                *self.order.stop.borrow() || LedgerPaths::default().is_open(),
                Ordering::Relaxed,
            );
        };
        let catalog = &destinations.catalog;
        let backup = catalog.backups().iter().find(|backup| backup.id() == id);
        let backup = backup.ok_or("it is gone")?;
        let host = destinations.manifest(backup).map(|(manifest, _)| manifest.writer.host);
        let from = copy::bring(destinations, backup, name, None, &stop, &each)?;
        if let Some(from) = from {
            let done = format!("destination {name}: {id} copied from {from}");
            self.ended.findings.done.push(done);
        }
        destinations.take_copy_in(id, std::iter::once(name));
        host.map_err(|error| with_causes(&error))
    }

    /// Copies to the destinations of the order what they lack of earlier slots, oldest first, for as long as a run may
    /// take.
    pub(super) fn catch_up(&mut self, destinations: &mut Destinations) {
        let until = later(host::now(), LONGEST_CATCH_UP);
        let names: Vec<String> = self.order.destinations.iter().map(ToString::to_string).collect();
        let own = host::host_name();
        for name in names {
            let lacking = copy::lacking(self.config, destinations, &name).into_iter();
            let lacking = lacking.filter(|backup| {
                let is_this = backup.manifest().slot.as_deref() == Some(&self.slot);
                !is_this && self.is_ours(destinations, backup, own.as_str())
            });
            let lacking: Vec<(ChainId, Option<SlotPath>)> = lacking
                .map(|backup| (backup.id().clone(), backup.manifest().slot.as_deref().cloned()))
                .collect();
            for (id, slot) in lacking {
                if *self.order.stop.borrow() || host::now() >= until {
                    return;
                }
                if let Err(why) = self.catch_up_one(destinations, &name, &id, slot) {
                    let undone = format!("destination {name} still lacks {id}: {why}");
                    self.ended.findings.undone.push(undone);
                    // The next run tries again.
                    break;
                }
            }
        }
    }

    fn catch_up_one(
        &mut self,
        destinations: &mut Destinations,
        name: &str,
        id: &ChainId,
        slot: Option<SlotPath>,
    ) -> Result<(), String> {
        let store = destinations.stores.get(name).cloned().ok_or("it could not be read")?;
        let held = match slot.filter(|_| self.config.is_shared(name)) {
            None => None,
            Some(slot) => {
                let told = |error: crate::store::Error| with_causes(&error);
                let standing = {
                    let is_gone = |chain: &ChainId| self.gone.contains(chain);
                    held_claim::look(&store, &slot, Leaves::Backup, is_gone, host::now())
                };
                // Another host is at it, or has done it.
                let Ok(number) = number_of(standing.map_err(told)?, host::now()) else {
                    return Ok(());
                };
                let random = getrandom::u32().map_err(|error| error.to_string())?;
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
        self.bring(destinations, id, name)?;
        if let Some(held) = held {
            held.end(ClaimState::Done);
        }
        Ok(())
    }
}
