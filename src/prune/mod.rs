//! The use case of retention: what a destination keeps, why, and the removal of the rest.
//!
//! Which chains go and in which order their objects do is decided in `retention`. Reading the stores and holding the
//! jobs lock are left to the caller. `damaged_or_lineage` plans what goes by the operator's word, `carry_out` carries a plan out.
//!
//! Invariant: whatever a kill leaves of a removal is no backup any more and is removed by a later sweep.

mod carry_out;
mod damaged_or_lineage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::capture::{Place, Proofs};
use crate::catalog::{Backup, Catalog, Pinned};
use crate::layout::{ChainPath, ObjectName, Pin};
use crate::model::{ByteSize, ChainId};
pub use crate::retention::Held;
use crate::retention::{self, Chain, Clocks, Inventory, KeepReason, Led, PinState, Policy};
use crate::schedule::{Pauses, SetBack};
use crate::store::{self, Store};
use carry_out::failed;

pub use carry_out::{Error, Removed, carry_out};
pub use damaged_or_lineage::{plan_damaged, plan_lineage};

/// The largest pin document that is read.
const PIN_MAX: u64 = 64 << 10;

/// One destination and what it is to keep.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The destination's name, as the catalog has it.
    pub destination: &'a str,
    /// Its store.
    pub store: &'a Store,
    /// What it is to keep.
    pub policy: &'a Policy,
}

/// Whether the operator has said that backups are to go for their age, whatever the clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByAge {
    /// Only where the clocks can be believed.
    IfClocksAgree,
    /// He has looked.
    Confirmed,
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
#[derive(Debug, Default)]
pub struct Plan {
    /// What is kept, the one begun first at the head.
    pub keep: Vec<Judged>,
    /// What is removed.
    pub remove: Vec<Judged>,
    /// By how much `max_bytes` is exceeded all the same.
    pub excess: ByteSize,
    /// Whether that is so for points that `pitr_window` keeps: `max_bytes` would shorten the window.
    pub is_excess_of_window: bool,
    /// What the rules would remove, if the time could be believed.
    pub held: Option<Held>,
    /// What would be removed, and is not because the store did not say whether it may be. After some of them no more are
    /// asked about, and stay too.
    pub stuck: Vec<Error>,
    chains: Vec<ChainPath>,
    /// What a chain leads: the same snapshot.
    led: BTreeMap<ChainPath, Vec<ChainPath>>,
}

/// After so many that cannot be removed it is the store that is stuck.
const MOST_STUCK: usize = 8;

/// Judges what `target` holds; `catalog` is that of all destinations, so that no lineage is overlooked.
///
/// Nothing goes for its age where the clocks of host, store and backups disagree, or where one pass would remove more than
/// the schedule explains, unless the operator has confirmed it.
///
/// `pauses` are those that the schedules leave between two backups in this destination, if there is one; `set_back` says
/// whether this host's clock has shown more before.
pub fn plan(
    target: Target<'_>,
    catalog: &Catalog,
    now: Timestamp,
    zone: &TimeZone,
    by_age: ByAge,
    pauses: Option<Pauses>,
    set_back: Result<Option<SetBack>, String>,
) -> Plan {
    let mut inventory = Inventory::of(catalog, target.destination, &pins(target, catalog));
    prove(target, catalog, now, &mut inventory);
    let led = inventory.take_out(&catalog.led_in(target.destination));
    let (judged, held) = match by_age {
        ByAge::Confirmed => (retention::plan(&inventory, target.policy, now, zone), None),
        ByAge::IfClocksAgree => {
            let store = target.store.now().map_err(|error| error.to_string());
            let clocks = Clocks {
                host: now,
                store,
                set_back,
            };
            retention::careful_plan(&inventory, target.policy, &clocks, pauses, zone)
        }
    };
    let mut plan = Plan {
        held,
        keep: judged.keep.iter().map(|v| said(v.chain, &v.reasons)).collect(),
        remove: judged.remove.iter().map(|v| said(v.chain, &v.reasons)).collect(),
        excess: judged.excess,
        is_excess_of_window: judged.excess > ByteSize(0) && judged.keep.iter().any(|v| is_for_window(&v.reasons)),
        stuck: Vec::new(),
        chains: judged.remove.iter().map(|v| v.chain.path.clone()).collect(),
        led: BTreeMap::new(),
    };
    plan.add_led(led);
    plan.without_locked(target.store, now)
}

/// Finds out how far those chains lead by whose changes others may be displaced: a stranger can give an object any name. Where that cannot be
/// read they displace nobody.
fn prove(target: Target<'_>, catalog: &Catalog, now: Timestamp, inventory: &mut Inventory) {
    let mut proofs = Proofs::default();
    for path in inventory.take_displacing(target.policy, now) {
        let mut backups = catalog.backups().iter();
        let Some(backup) = backups.find(|backup| backup.manifest().chain_path() == path) else {
            continue;
        };
        let copy = backup.copies.iter().find(|copy| copy.destination == target.destination);
        let place = Place {
            destination: target.destination,
            store: target.store,
            links: copy.map(|copy| copy.links.clone()).unwrap_or_default(),
        };
        let full = backup.manifest();
        let proven = proofs.prove(full, &[place]);
        let reached = proven.map_or(full.to_revision, |proven| proven.known.reached(full.to_revision));
        inventory.is_proven(&path, reached);
    }
}

/// Whether nothing but `pitr_window` keeps a backup from `max_bytes`.
fn is_for_window(reasons: &[KeepReason<'_>]) -> bool {
    let is_firm = |reason: &KeepReason<'_>| {
        matches!(
            reason,
            KeepReason::Pinned(_)
                | KeepReason::Unjudged(_)
                | KeepReason::NewestGood(_)
                | KeepReason::ReachesFurther(_)
                | KeepReason::MayReachFurther(_)
                | KeepReason::BadButFurthest(_)
        )
    };
    reasons.iter().any(|reason| matches!(reason, KeepReason::Points { .. })) && !reasons.iter().any(is_firm)
}

/// What of the target's copies its policy keeps, one history like the other: also while there is one that the operator has
/// not judged, when nothing of the others is removed.
pub fn kept_by_policy(target: Target<'_>, catalog: &Catalog, now: Timestamp, zone: &TimeZone) -> BTreeSet<ChainId> {
    let mut inventory = Inventory::of(catalog, target.destination, &pins(target, catalog));
    inventory.unjudged = None;
    inventory.take_out(&catalog.led_in(target.destination));
    let judged = retention::plan(&inventory, target.policy, now, zone);
    judged.keep.iter().map(|kept| kept.chain.id().clone()).collect()
}

impl Plan {
    /// Has what others lead share their fate.
    fn add_led(&mut self, led: Vec<Led>) {
        for Led { chain, by } in led {
            self.led.entry(by.clone()).or_default().push(chain.path.clone());
            let is_removed = self.chains.contains(&by);
            let same = format!("the same snapshot as {}, made for other recipients", by.chain);
            match &chain.pin {
                PinState::Pinned(_) => self.keep.push(said(&chain, &["pinned: `lifeboat unpin` lets it go"])),
                PinState::Free if is_removed => {
                    self.remove.push(said(&chain, &[format!("{same}, and goes")]));
                    self.chains.push(chain.path);
                }
                PinState::Free => self.keep.push(said(&chain, &[same])),
            }
        }
        self.keep.sort_by(|a, b| a.id.cmp(&b.id));
        self.remove.sort_by(|a, b| a.id.cmp(&b.id));
    }
}

impl Plan {
    /// Passes over what the store has locked: a removal would hide it and free nothing. Who may not ask leaves it alone too.
    /// Of what nothing is known because the store does not answer, or answers something else, it is no word that it stays.
    fn without_locked(mut self, store: &Store, now: Timestamp) -> Plan {
        let mut stays: BTreeMap<ChainId, Option<String>> = BTreeMap::new();
        for chain in &self.chains {
            let reason = match self.stuck.len() {
                MOST_STUCK.. => None,
                _ => match store.locked_until(&ObjectName::Full(chain.clone())) {
                    Ok(Some(until)) if until > now => Some(format!("locked until {until:.0}")),
                    Ok(Some(_) | None) => continue,
                    Err(error @ store::Error::Refused { .. }) => Some(format!("may be locked: {error}")),
                    Err(error) => {
                        self.stuck.push(failed(chain, true, error));
                        None
                    }
                },
            };
            stays.insert(chain.chain.clone(), reason);
        }
        if stays.is_empty() {
            return self;
        }
        self.chains.retain(|chain| !stays.contains_key(&chain.chain));
        for judged in std::mem::take(&mut self.remove) {
            match stays.remove(&judged.id) {
                None => self.remove.push(judged),
                Some(reason) => self.keep.extend(reason.map(|reason| Judged {
                    id: judged.id,
                    reasons: vec![reason],
                })),
            }
        }
        self.keep.sort_by(|a, b| a.id.cmp(&b.id));
        self
    }
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
