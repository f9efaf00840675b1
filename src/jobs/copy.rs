//! A destination that was away, or is slower than the others, gets what it lacks from one that has it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::tz::TimeZone;

use super::host;
use crate::backup::{DestinationError, Outcome};
use crate::catalog::{Backup, Standing};
use crate::config::{Config, Kind};
use crate::copy::{self, Copied};
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::layout::{Proof, SlotPath};
use crate::model::ChainId;
use crate::pipeline::BranchError;
use crate::prune::{self, ByAge, Target};

/// The backups that schedules of this configuration owe to a destination, and that others have, in the order in which
/// they were begun: one for each slot of which it has none, as far as its retention would keep it.
pub fn lacking<'a>(config: &Config, destinations: &'a Destinations, name: &str) -> Vec<&'a Backup> {
    let Some(store) = destinations.stores.get(name) else {
        return Vec::new();
    };
    let catalog = &destinations.catalog;
    let slot_of = |backup: &'a Backup| backup.manifest().slot.as_deref();
    let here = |backup: &&Backup| backup.destinations().any(|destination| destination == name);
    let mut has: BTreeSet<&SlotPath> = catalog.backups().iter().filter(here).filter_map(slot_of).collect();
    let owed = |slot: &SlotPath| {
        let mut schedules = config.schedules.iter();
        schedules.any(|(schedule, configured)| {
            configured.kind == Kind::Full
                && schedule.as_str() == slot.schedule().as_str()
                && configured
                    .destinations
                    .iter()
                    .any(|destination| destination.as_str() == name)
        })
    };
    let absent = catalog.backups().iter().filter(|backup| {
        let good = backup.copies.iter().any(is_good);
        good && slot_of(backup).is_some_and(|slot| owed(slot) && has.insert(slot))
    });
    let absent: Vec<&Backup> = absent.collect();
    let policy = config.destinations.iter().find(|(known, _)| known.as_str() == name);
    let Some(policy) = policy.and_then(|(_, found)| found.retention.as_ref()) else {
        return absent;
    };
    // What retention has removed there, or would remove at once, is not owed any more.
    let ids: Vec<&ChainId> = absent.iter().map(|backup| backup.id()).collect();
    let with_all = catalog.with_copies(name, &ids);
    let target = Target {
        destination: name,
        store,
        policy,
    };
    let plan = prune::plan(
        target,
        &with_all,
        host::now(),
        &TimeZone::system(),
        ByAge::Confirmed,
        None,
    );
    let kept: BTreeSet<&ChainId> = plan.keep.iter().map(|kept| &kept.id).collect();
    absent.into_iter().filter(|backup| kept.contains(backup.id())).collect()
}

fn is_good(copy: &crate::catalog::BackupCopy) -> bool {
    matches!(copy.standing, Standing::Good(proof) if proof >= Proof::Stored)
}

/// Brings a backup to the destination `to`, from the first that has a good copy of it. Says where it came from; nothing if
/// it was there.
pub fn bring(
    destinations: &Destinations,
    backup: &Backup,
    to: &str,
    from: Option<&str>,
    stop: &Arc<AtomicBool>,
    each: &(dyn Fn(u64) + Sync),
) -> Result<Option<String>, String> {
    let (manifest, document) = destinations.manifest(backup).map_err(|error| with_causes(&error))?;
    let store = destinations.stores.get(to);
    let store = store.ok_or_else(|| format!("destination {to} could not be read"))?;
    let mut why = "no other destination has a good copy".to_owned();
    let sources = backup
        .copies
        .iter()
        .filter(|copy| copy.destination != to && from.is_none_or(|from| from == copy.destination) && is_good(copy));
    for source in sources {
        let Some(source_store) = destinations.stores.get(&source.destination) else {
            continue;
        };
        let job = copy::Job {
            manifest: &manifest,
            document: &document,
            from: source_store,
            to: store,
            stop: stop.clone(),
        };
        match copy::copy(&job, each) {
            Ok(Copied::Now) => return Ok(Some(source.destination.clone())),
            Ok(Copied::HadIt) => return Ok(None),
            Err(error @ copy::Error::Stopped) => return Err(error.to_string()),
            Err(error) => why = with_causes(&error),
        }
    }
    Err(why)
}

/// Whether a destination was left behind by a backup because it is slow: the backup is copied there instead.
pub fn is_slow(error: &DestinationError) -> bool {
    matches!(error, DestinationError::Stream(BranchError::TooSlow { .. }))
}

/// Copies a backup that was just taken to the destinations that were too slow for it.
pub fn bring_to_slow(
    destinations: &mut Destinations,
    outcome: &mut Outcome,
    stop: &Arc<AtomicBool>,
    each: &(dyn Fn(u64) + Sync),
) {
    let id = outcome.manifest.chain.clone();
    for written in &mut outcome.destinations {
        if !written.result.as_ref().is_err_and(is_slow) {
            continue;
        }
        let taken = destinations.catalog.backups().iter().find(|backup| *backup.id() == id);
        let Some(taken) = taken else { return };
        // Where that fails too, what was said first stands.
        if bring(destinations, taken, &written.destination, None, stop, each).is_ok() {
            written.result = Ok(());
            let name = std::iter::once(written.destination.as_str());
            destinations.take_copy_in(&id, name);
        }
    }
}
