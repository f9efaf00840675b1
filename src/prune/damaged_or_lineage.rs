//! What goes by the operator's word: one backup that is damaged, or all of a history.

use jiff::Timestamp;

use super::carry_out::failed;
use super::{Judged, Plan, Target, pins, said};
use crate::catalog::{Backup, BackupCopy, Catalog, Following, LastCheck, Standing};
use crate::layout::{ChainPath, Fault, ObjectName};
use crate::model::{LineageId, Revision};
use crate::retention::{Chain, Inventory, PinState, Policy};
use crate::store::Store;

/// What of the backup `meant` goes from a destination because the operator says so, whatever the policy: a copy that is
/// known to be bad and not pinned. One of which is only not known what its last check said may be the last good one.
pub fn plan_damaged(destination: &str, store: &Store, catalog: &Catalog, named: &ChainPath, now: Timestamp) -> Plan {
    let inventory = inventory(destination, store, catalog);
    let mut plan = Plan::default();
    let meant = catalog
        .backups()
        .iter()
        .find(|backup| backup.manifest().chain_path() == *named);
    let copy_of = |backup: &'_ Backup| -> Option<(Standing, LastCheck)> {
        let copy = backup.copies.iter().find(|copy| copy.destination == destination)?;
        Some((copy.standing.clone(), copy.last_check))
    };
    let known = meant.and_then(|backup| Some((backup.manifest().chain_path(), copy_of(backup)?)));
    let Some((path, (standing, last_check))) = known else {
        plan.give_up_unreadable(destination, store, catalog, named);
        return plan.without_locked(store, now);
    };
    for chain in inventory.chains.into_iter().filter(|chain| chain.path == path) {
        // The catalog's word, not the inventory's, which calls bad whatever must take no place from a good one.
        let (is_kept, reason) = match (&chain.pin, &standing, last_check) {
            (PinState::Pinned(_), _, _) => (true, "pinned: `lifeboat unpin` lets it go".to_owned()),
            (PinState::Free, Standing::Bad(faults), _) => match meant.and_then(|meant| only_here(meant, destination)) {
                Some(only) => (
                    true,
                    format!(
                        "its changes up to revision {} are in no other destination, and lead on from the good full backup in {}: \
                         `lifeboat copy {} --from {destination} --to {}` first",
                        only.to,
                        only.good_in,
                        chain.id(),
                        only.good_in
                    ),
                ),
                None => (false, format!("bad ({}), and named", faults.join("; "))),
            },
            (PinState::Free, Standing::Good(_), LastCheck::Unknown) => (
                true,
                format!("its last check cannot be read: run `lifeboat verify {}`", chain.id()),
            ),
            (PinState::Free, Standing::Good(_), LastCheck::Known) => {
                (true, "good: only the policy removes it".to_owned())
            }
        };
        let judged = said(&chain, &[reason]);
        match is_kept {
            true => plan.keep.push(judged),
            false => {
                plan.remove.push(judged);
                plan.chains.push(chain.path);
            }
        }
    }
    plan.without_locked(store, now)
}

/// Changes of a chain that only one destination has.
struct OnlyHere<'a> {
    /// The last of them.
    to: Revision,
    /// Another destination, whose full backup is good.
    good_in: &'a str,
}

/// What of a backup's changes could not be restored any more without those in `destination`; none where no other one has a
/// full backup that they could follow.
fn only_here<'a>(backup: &'a Backup, destination: &str) -> Option<OnlyHere<'a>> {
    let is_other = |copy: &&BackupCopy| copy.destination != destination;
    let good = backup.copies.iter().filter(is_other).find(|copy| copy.is_good())?;
    let links = |copies: Vec<&'a BackupCopy>| {
        let links = copies.into_iter();
        let links = links.flat_map(|copy| copy.links.iter().map(|link| (copy.destination.as_str(), link)));
        Following::of_links(backup.revision(), links).window().to
    };
    let (with, without) = (
        links(backup.copies.iter().collect()),
        links(backup.copies.iter().filter(is_other).collect()),
    );
    (with > without).then_some(OnlyHere {
        to: with,
        good_in: &good.destination,
    })
}

/// What goes from a destination with a history that the operator gives up: all of it but what is pinned.
pub fn plan_lineage(destination: &str, store: &Store, catalog: &Catalog, given_up: &LineageId, now: Timestamp) -> Plan {
    let inventory = inventory(destination, store, catalog);
    let mut plan = Plan::default();
    let is_of_it = |chain: &Chain| {
        let mut manifests = catalog.backups().iter().map(Backup::manifest);
        manifests.any(|manifest| manifest.lineage == *given_up && manifest.chain_path() == chain.path)
    };
    for chain in inventory.chains.into_iter().filter(is_of_it) {
        match &chain.pin {
            PinState::Pinned(_) => plan.keep.push(said(&chain, &["pinned: `lifeboat unpin` lets it go"])),
            PinState::Free => {
                plan.remove
                    .push(said(&chain, &[format!("lineage {given_up} is given up")]));
                plan.chains.push(chain.path);
            }
        }
    }
    plan.without_locked(store, now)
}

fn inventory(destination: &str, store: &Store, catalog: &Catalog) -> Inventory {
    let policy = Policy::default();
    let target = Target {
        destination,
        store,
        policy: &policy,
    };
    Inventory::of(catalog, destination, &pins(target, catalog))
}

impl Plan {
    /// Gives up a backup of which the manifest in this destination is damaged for good. One that only could not be read now,
    /// or that a later version understands, stays.
    fn give_up_unreadable(&mut self, destination: &str, store: &Store, catalog: &Catalog, named: &ChainPath) {
        let is_meant = |object: &ObjectName| object.is_manifest() && object.chain() == Some(named);
        let mut damaged = catalog.damaged().iter();
        let Some(damaged) = damaged.find(|damaged| damaged.destination == destination && is_meant(&damaged.object))
        else {
            return;
        };
        let judged = |reason: String| Judged {
            id: named.chain.clone(),
            reasons: vec![reason],
        };
        let fault = &damaged.fault;
        let is_pinned = match store.is_pinned(named) {
            Ok(is_pinned) => is_pinned,
            Err(error) => return self.stuck.push(failed(named, true, error)),
        };
        match (is_pinned, fault) {
            (true, _) => self.keep.push(judged("pinned: `lifeboat unpin` lets it go".to_owned())),
            (false, Fault::Unreadable { .. } | Fault::UnknownFormat { .. }) => {
                self.keep.push(judged(format!("not known to be damaged ({fault})")));
            }
            (false, Fault::Differs { other }) => self.keep.push(judged(format!(
                "may be the good one: its manifest differs from the one in destination {other}; compare both, and remove the wrong one by hand"
            ))),
            (false, Fault::NotAlone { other }) => self.keep.push(judged(format!(
                "may be a good one: `{other}` is of the same chain; compare both, and remove the wrong one by hand"
            ))),
            (false, _) => {
                self.remove
                    .push(judged(format!("its manifest is damaged ({fault}), and named")));
                self.chains.push(named.clone());
            }
        }
    }
}
