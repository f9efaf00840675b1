//! The backup that opens a history in a store that several hosts write to. Whoever is at it claims it there for as long as the work lasts,
//! however long that is: whether by a schedule, by capture or by hand, and of whichever slot. Two at once would be two histories.
//!
//! It is claimed as a slot is ([`crate::slots`]), beside the claim of the slot itself. Whoever has it looks at the store again
//! before it begins: another may have come to its end meanwhile.

use jiff::Timestamp;

use crate::catalog::Catalog;
use crate::etcd::Status;
use crate::layout::SlotPath;
use crate::model::ChainId;
use crate::slots::{Claimant, HeldClaim, Leaves, Standing, claiming};
use crate::store::{self, Store};

/// The schedule by whose name such a backup is claimed; no backup is of it.
const CLAIMED_AS: &str = "first-backup";

/// What came of a claim.
pub(super) enum Turn {
    /// It is this run's.
    Held(HeldClaim),
    /// It is that of another host, or of another run of this one.
    Others(String),
}

/// The one slot that it has for good.
pub(super) fn slot() -> SlotPath {
    let schedule = CLAIMED_AS.parse().expect("it is a name of a schedule");
    SlotPath::new(schedule, Timestamp::UNIX_EPOCH)
}

/// Claims it. `is_gone` tells of a chain that its run, of this very host, is dead.
pub(super) fn claim(
    store: &Store,
    claimant: &Claimant,
    is_gone: impl Fn(&ChainId) -> bool,
    now: Timestamp,
) -> Result<Turn, store::Error> {
    let slot = slot();
    let number = match claiming::look(store, &slot, Leaves::Backup, is_gone, now)? {
        Standing::Free(number) => number,
        Standing::Held { host, .. } | Standing::Done { host, .. } => return Ok(Turn::Others(host)),
    };
    let held = HeldClaim::begin(store, &slot, number, claimant)?;
    Ok(held.map_or_else(|| Turn::Others("that was faster".to_owned()), Turn::Held))
}

/// Whether a backup that is taken now may open a history in a destination: there is none of this cluster, or etcd's log is not as long
/// as it was. Where no member answers it may, too.
pub(super) fn may_open_history(catalog: &Catalog, destination: &str, members: &[Status]) -> bool {
    let Some(applied) = members.iter().map(|status| status.applied_index).max() else {
        return true;
    };
    let is_there = catalog.backups().iter().filter(|backup| {
        let is_of_it = members.iter().any(|status| status.cluster == backup.manifest().cluster);
        let has_copy = backup.copies.iter().any(|copy| copy.destination == destination);
        is_of_it && has_copy && backup.manifest().faults.is_empty()
    });
    let mut indexes = is_there
        .map(|backup| backup.manifest().consistent_index.unwrap_or(0))
        .peekable();
    indexes.peek().is_none() || indexes.any(|index| index > applied)
}
