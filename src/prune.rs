//! The use case of retention: what a destination keeps, why, and the removal of the rest.
//!
//! Which chains go and in which order their objects do is decided in `retention`. Reading the stores and holding the
//! jobs lock are left to the caller.
//!
//! Invariant: whatever a kill leaves of a removal is no backup any more and is removed by a later sweep.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::catalog::{Backup, Catalog, ChainPath, LastCheck, ObjectName, Pin, Pinned, Standing};
use crate::model::{ByteSize, ChainId};
use crate::retention::{self, Chain, Inventory, PinState, Policy, removal_order};
use crate::store::{self, FileStore};

/// The largest pin document that is read.
const PIN_MAX: u64 = 64 << 10;

/// One destination and what it is to keep.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The destination's name, as the catalog has it.
    pub destination: &'a str,
    /// Its store.
    pub store: &'a FileStore,
    /// What it is to keep.
    pub policy: &'a Policy,
}

/// What is kept or removed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The chain.
    pub id: ChainId,
    /// At least one.
    pub reasons: Vec<String>,
}

/// What retention says of one destination.
#[derive(Debug)]
pub struct Plan {
    /// What is kept, the one begun first at the head.
    pub keep: Vec<Judged>,
    /// What is removed.
    pub remove: Vec<Judged>,
    /// By how much `max_bytes` is exceeded all the same.
    pub excess: ByteSize,
    chains: Vec<Chain>,
}

/// A chain that was to be removed and was not.
#[derive(Debug, thiserror::Error)]
#[error("remove {id}")]
pub struct Error {
    /// Which.
    pub id: ChainId,
    /// Why.
    pub source: store::Error,
}

/// Judges what `target` holds; `catalog` is that of all destinations, so that no lineage is overlooked.
pub fn plan(target: Target<'_>, catalog: &Catalog, now: Timestamp, zone: &TimeZone) -> Plan {
    let inventory = Inventory::of(catalog, target.destination, &pins(target, catalog));
    let judged = retention::plan(&inventory, target.policy, now, zone);
    Plan {
        keep: judged.keep.iter().map(|v| said(v.chain, &v.reasons)).collect(),
        remove: judged.remove.iter().map(|v| said(v.chain, &v.reasons)).collect(),
        excess: judged.excess,
        chains: judged.remove.iter().map(|v| v.chain.clone()).collect(),
    }
}

/// What of the backup `meant` goes from a destination because the operator says so, whatever the policy: a copy that is
/// known to be bad and not pinned. One of which is only not known what its last check said may be the last good one.
pub fn plan_damaged(destination: &str, store: &FileStore, catalog: &Catalog, meant: &ChainPath) -> Plan {
    let policy = Policy::default();
    let target = Target {
        destination,
        store,
        policy: &policy,
    };
    let inventory = Inventory::of(catalog, destination, &pins(target, catalog));
    let mut plan = Plan {
        keep: Vec::new(),
        remove: Vec::new(),
        excess: ByteSize(0),
        chains: Vec::new(),
    };
    let meant = catalog
        .backups()
        .iter()
        .find(|backup| backup.manifest().chain_path() == *meant);
    let copy_of = |backup: &'_ Backup| -> Option<(Standing, LastCheck)> {
        let copy = backup.copies.iter().find(|copy| copy.destination == destination)?;
        Some((copy.standing.clone(), copy.last_check))
    };
    let known = meant.and_then(|backup| Some((backup.manifest().chain_path(), copy_of(backup)?)));
    let Some((path, (standing, last_check))) = known else {
        return plan;
    };
    for chain in inventory.chains.into_iter().filter(|chain| chain.path == path) {
        // The catalog's word, not the inventory's, which calls bad whatever must take no place from a good one.
        let (is_kept, reason) = match (&chain.pin, &standing, last_check) {
            (PinState::Pinned(_), _, _) => (true, "pinned: `lifeboat unpin` lets it go".to_owned()),
            (PinState::Free, Standing::Bad(faults), _) => (false, format!("bad ({}), and named", faults.join("; "))),
            (PinState::Free, Standing::Good(_), LastCheck::Unknown) => (
                true,
                format!(
                    "not known to be bad, as its last check cannot be read: `lifeboat verify {}` finds out",
                    chain.id()
                ),
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
                plan.chains.push(chain);
            }
        }
    }
    plan
}

/// Removes what the plan names; returns what is gone. Stops at the first object that cannot be removed. `removed` is told
/// of every chain.
pub fn carry_out(plan: &Plan, store: &FileStore, removed: impl Fn()) -> Result<Vec<ChainId>, Error> {
    let mut gone = Vec::new();
    if plan.chains.is_empty() {
        return Ok(gone);
    }
    let failed = |chain: &Chain, source| Error {
        id: chain.id().clone(),
        source,
    };
    let mut objects = None;
    for chain in &plan.chains {
        let objects = match &objects {
            Some(objects) => objects,
            None => objects.insert(store.list().map_err(|error| failed(chain, error))?),
        };
        // One that was pinned since the listing stays too.
        match store.read_small(&ObjectName::Pin(chain.path.clone()), PIN_MAX) {
            Err(store::Error::NotFound { .. }) => {}
            Ok(_) | Err(_) => continue,
        }
        let Some(order) = removal_order(chain, objects) else {
            continue;
        };
        for object in order {
            match store.remove(&object) {
                Ok(()) | Err(store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(chain, error)),
            }
        }
        gone.push(chain.id().clone());
        removed();
    }
    Ok(gone)
}

fn said<R: std::fmt::Display>(chain: &Chain, reasons: &[R]) -> Judged {
    Judged {
        id: chain.id().clone(),
        reasons: reasons.iter().map(ToString::to_string).collect(),
    }
}

/// What the pins say; one that cannot be read pins all the same.
fn pins(target: Target<'_>, catalog: &Catalog) -> BTreeMap<ChainPath, Pin> {
    let is_pinned_here = |backup: &&Backup| {
        let mut copies = backup.copies.iter();
        copies.any(|copy| copy.destination == target.destination && copy.pinned == Pinned::Yes)
    };
    let chains = catalog.backups().iter().filter(is_pinned_here);
    let read = chains.filter_map(|backup| {
        let path = backup.manifest().chain_path();
        let bytes = target.store.read_small(&ObjectName::Pin(path.clone()), PIN_MAX).ok()?;
        Some((path, serde_json::from_slice(&bytes).ok()?))
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::HostName;
    use crate::catalog::tests::{Fixture, manifest};
    use crate::store::Access;

    #[test]
    fn of_a_backup_that_is_given_up_only_copies_that_are_known_to_be_bad_go() {
        let root = tempfile::tempdir().unwrap();
        let access = Access::Write {
            now: Timestamp::UNIX_EPOCH,
        };
        let store = FileStore::open(root.path(), &"prod".parse().unwrap(), None, access).unwrap();
        let meant = manifest(0xab, "20261120T101530Z-00000001", 10);
        let time = "2026-11-21T00:00:00Z".parse().unwrap();
        let check = ObjectName::Check(meant.chain_path(), time, HostName::nearest("a"));
        let whole = || Fixture::default().backup(&meant);
        let goes = |fixture: Fixture| {
            let plan = plan_damaged("local", &store, &fixture.catalog("local"), &meant.chain_path());
            let judged = plan.keep.iter().chain(&plan.remove);
            let reasons: Vec<String> = judged.flat_map(|judged| judged.reasons.clone()).collect();
            assert_eq!(plan.remove.len(), plan.chains.len());
            (plan.remove.len(), reasons.join("; "))
        };
        assert_eq!(goes(whole()).0, 0);
        let bad = crate::catalog::Proof::None;
        assert_eq!(goes(whole().check(&meant, "2026-11-21T00:00:00Z", false, bad)).0, 1);
        for unknown in [
            whole().document(&check, b"rotten".to_vec()),
            whole().list(&check.to_string(), 300),
        ] {
            let (removed, reason) = goes(unknown);
            assert_eq!(removed, 0, "{reason}");
            assert!(
                reason.contains("`lifeboat verify 20261120T101530Z-00000001`"),
                "{reason}"
            );
        }
        let cut = Fixture::default()
            .document(&meant.name(), meant.to_bytes())
            .list(&meant.object_name().to_string(), meant.stored.bytes - 1)
            .document(&check, b"rotten".to_vec());
        assert_eq!(goes(cut).0, 1, "its length alone shows it");
    }
}
