//! The use case of retention: what a destination keeps, why, and the removal of the rest.
//!
//! Which chains go and in which order their objects do is decided in `retention`. Reading the stores and holding the
//! jobs lock are left to the caller.
//!
//! Invariant: whatever a kill leaves of a removal is no backup any more and is removed by a later sweep.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::catalog::{Catalog, ChainPath, ObjectName, Pin, Pinned, Standing};
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
/// known to be bad and not pinned.
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
    for chain in inventory.chains.into_iter().filter(|chain| chain.path == *meant) {
        let (is_kept, reason) = match (&chain.pin, &chain.standing) {
            (PinState::Pinned(_), _) => (true, "pinned: `lifeboat unpin` lets it go".to_owned()),
            (PinState::Free, Standing::Good(_)) => (true, "good: only the policy removes it".to_owned()),
            (PinState::Free, Standing::Bad(faults)) => (false, format!("bad ({}), and named", faults.join("; "))),
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
    let is_pinned_here = |backup: &&crate::catalog::Backup| {
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
