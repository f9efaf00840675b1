//! The use case of retention: what a destination keeps, why, and the removal of the rest.
//!
//! Which chains go and in which order their objects do is decided in `retention`. Reading the stores and holding the
//! jobs lock are left to the caller.
//!
//! Invariant: whatever a kill leaves of a removal is no backup any more and is removed by a later sweep.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::capture::{Place, Proofs};
use crate::catalog::{Backup, BackupCopy, Catalog, Following, LastCheck, Pinned, Standing};
use crate::layout::{ChainPath, Fault, Listed, ListedObject, ObjectName, Pin};
use crate::model::{ByteSize, ChainId, LineageId, Revision};
pub use crate::retention::Held;
use crate::retention::{self, Chain, Clocks, Inventory, KeepReason, Led, PinState, Policy, removal_order};
use crate::schedule::{Pauses, SetBack};
use crate::store::{self, Store};

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

/// A chain that was to be removed and was not, or not all of it.
#[derive(Debug, thiserror::Error)]
#[error("{}{id}", if *.is_backup { "remove " } else { "remove what is left (a later sweep does) of the former backup " })]
pub struct Error {
    /// Which.
    pub id: ChainId,
    /// Whether it is a backup still: its manifest was not removed.
    pub is_backup: bool,
    /// Why.
    pub source: store::Error,
}

/// What came of removals.
#[derive(Debug, Default)]
pub struct Removed {
    /// What is no backup any more.
    pub gone: Vec<ChainId>,
    /// What could not be removed, or not all of it.
    pub stuck: Vec<Error>,
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
    for path in inventory.displacing(target.policy, now) {
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

/// Removes what the plan names. One that cannot be removed keeps none of the others. `beat` is told of every object: a chain may have
/// tens of thousands.
pub fn carry_out(plan: &Plan, store: &Store, beat: impl Fn()) -> Removed {
    let mut done = Removed::default();
    for chain in &plan.chains {
        // One that was pinned since the listing stays too, and what leads such a one.
        let led = plan.led.get(chain).into_iter().flatten();
        let looked = match any_is_pinned(store, std::iter::once(chain).chain(led)) {
            Ok(true) => continue,
            Ok(false) => looked_at_again(store, chain),
            Err(error) => Err(error),
        };
        let (objects, has_strange_pin) = match looked {
            Ok(Some(looked)) => looked,
            Ok(None) => continue,
            Err(error) => {
                done.stuck.push(failed(chain, true, error));
                if done.stuck.len() == MOST_STUCK {
                    break;
                }
                continue;
            }
        };
        let Some(mut order) = removal_order(chain, &objects) else {
            continue;
        };
        order.extend(has_strange_pin.then(|| ObjectName::Pin(chain.clone())));
        let (mut is_backup, mut stuck) = (true, None);
        for object in order {
            beat();
            match store.remove(&object) {
                Ok(()) | Err(store::Error::NotFound { .. }) => is_backup = false,
                Err(error) => {
                    stuck = Some(failed(chain, is_backup, error));
                    break;
                }
            }
        }
        if !is_backup || stuck.is_none() {
            done.gone.push(chain.chain.clone());
        }
        done.stuck.extend(stuck);
        if done.stuck.len() == MOST_STUCK {
            break;
        }
        beat();
    }
    done
}

/// Whether one of them is pinned by now.
fn any_is_pinned<'a>(store: &Store, mut chains: impl Iterator<Item = &'a ChainPath>) -> Result<bool, store::Error> {
    chains.try_fold(false, |found, chain| Ok(found || store.is_pinned(chain)?))
}

/// What there is of a chain beside its pin, and whether it has one that pins nothing: a stranger's, which goes last. None if
/// it is pinned.
fn looked_at_again(store: &Store, chain: &ChainPath) -> Result<Option<(Vec<ListedObject>, bool)>, store::Error> {
    let is_pin = |object: &ListedObject| object.name == Listed::Ours(ObjectName::Pin(chain.clone()));
    // By a part of it the manifest might stay, and what it describes go.
    let listed = store.list_whole_chain(chain)?;
    let (pins, objects): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_pin);
    let has_pin = !pins.is_empty();
    Ok(match has_pin && store.is_pinned(chain)? {
        true => None,
        false => Some((objects, has_pin)),
    })
}

fn failed(chain: &ChainPath, is_backup: bool, source: store::Error) -> Error {
    Error {
        id: chain.chain.clone(),
        is_backup,
        source,
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use super::*;
    use crate::catalog::tests::{Fixture, manifest};
    use crate::layout::HostName;
    use crate::store::tests::store;

    /// A destination that keeps the newest alone.
    fn keeping_one(store: &Store) -> Target<'_> {
        static ONE: LazyLock<Policy> = LazyLock::new(|| Policy {
            keep_last: 1,
            ..Policy::default()
        });
        Target {
            destination: "local",
            store,
            policy: &ONE,
        }
    }

    #[test]
    fn nothing_goes_for_its_age_while_the_clocks_disagree_but_by_the_operators_word() {
        let (_root, store) = store();
        let clock = store.now().unwrap();
        // Every hour, and the last one from a clock that went ahead by a month for a moment, or from one that was right.
        let policy = Policy {
            keep_within: Some(Duration::from_secs(86_400)),
            ..Policy::default()
        };
        let hours = jiff::SignedDuration::from_hours;
        let (month, none) = (hours(30 * 24), hours(0));
        for (jump, host_is_ahead_by, held, removed) in [
            // The host's clock alone.
            (month, month, 4, 0),
            // Its store has the same clock, and it is right again; or host and store have slept.
            (month, none, 4, 0),
            (hours(1), none, 0, 0),
        ] {
            let starts = (1..=4).rev().map(|ago| clock - jump + host_is_ahead_by - hours(ago));
            let starts = starts.chain([clock + host_is_ahead_by]);
            let manifests: Vec<_> = starts
                .zip(1_u32..)
                .map(|(start, number)| manifest(0xab, ChainId::new(start, 1).as_str(), i64::from(number)))
                .collect();
            for manifest in &manifests {
                let object = vec![0; manifest.stored.bytes as usize];
                store.put_new(&manifest.object_name(), &object).unwrap();
                store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
            }
            let target = Target {
                destination: "local",
                store: &store,
                policy: &policy,
            };
            let catalog = store.catalog("local").unwrap();
            let plan = |by_age| {
                plan(
                    target,
                    &catalog,
                    clock + host_is_ahead_by,
                    &TimeZone::UTC,
                    by_age,
                    None,
                    Ok(None),
                )
            };
            let careful = plan(ByAge::IfClocksAgree);
            assert_eq!(
                careful.held.as_ref().map_or(0, |held| held.backups),
                held,
                "{jump:?}: {careful:?}"
            );
            assert_eq!(careful.remove.len(), removed);
            assert_eq!(plan(ByAge::Confirmed).remove.len(), held + removed);
            for manifest in &manifests {
                store.remove(&manifest.name()).unwrap();
                store.remove(&manifest.object_name()).unwrap();
            }
        }
    }

    #[test]
    fn a_name_that_a_stranger_has_written_displaces_no_changes_that_the_window_needs() {
        let (_root, store) = store();
        let ids = [
            "20261101T101530Z-00000001",
            "20261102T101530Z-00000001",
            "20261120T101530Z-00000001",
        ];
        let manifests: Vec<_> = ids
            .into_iter()
            .zip([10, 50, 101])
            .map(|(id, tip)| manifest(0xab, id, tip))
            .collect();
        for manifest in &manifests {
            let object = vec![0; manifest.stored.bytes as usize];
            store.put_new(&manifest.object_name(), &object).unwrap();
            let mut of_one = manifest.clone();
            of_one.lineage = manifests[0].lineage.clone();
            store.put_new(&manifest.name(), &of_one.to_bytes()).unwrap();
        }
        let named = |of: usize, from, to| {
            let span = crate::layout::Span::new(Revision::new(from).unwrap(), Revision::new(to).unwrap()).unwrap();
            let name = ObjectName::Delta(manifests[of].chain_path(), span, crate::layout::Epoch(1));
            store.put_new(&name, b"x").unwrap();
        };
        // The changes of the first one lead to the last; those of the second are a name and nothing else.
        named(0, 11, 101);
        named(1, 51, 101);
        let policy = Policy {
            pitr_window: Some(Duration::from_secs(7 * 86_400)),
            ..Policy::default()
        };
        let target = Target {
            destination: "local",
            store: &store,
            policy: &policy,
        };
        let catalog = store.catalog("local").unwrap();
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let plan = plan(target, &catalog, now, &TimeZone::UTC, ByAge::Confirmed, None, Ok(None));
        let kept: Vec<_> = plan.keep.iter().map(|kept| kept.id.as_str()).collect();
        assert_eq!(kept, ids, "{plan:?}");
    }

    #[test]
    fn a_chain_with_many_changes_shows_that_it_gets_on_while_it_goes() {
        use std::cell::Cell;

        let (_root, store) = store();
        let manifests = ["20261120T101531Z-00000001", "20261120T101532Z-00000001"].map(|id| manifest(0xab, id, 10));
        for manifest in &manifests {
            let object = vec![0; manifest.stored.bytes as usize];
            store.put_new(&manifest.object_name(), &object).unwrap();
            store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
        }
        let epoch = crate::layout::Epoch(1);
        for at in 11..61 {
            let at = Revision::new(at).unwrap();
            let span = crate::layout::Span::new(at, at).unwrap();
            let name = ObjectName::Delta(manifests[0].chain_path(), span, epoch);
            store.put_new(&name, b"x").unwrap();
        }
        let plan = Plan {
            chains: vec![manifests[0].chain_path()],
            ..Plan::default()
        };
        let beats = Cell::new(0);
        let done = carry_out(&plan, &store, || beats.set(beats.get() + 1));
        assert_eq!(done.gone.len(), 1);
        assert!(beats.get() >= 52, "{} beats for 52 objects", beats.get());
    }

    #[test]
    fn what_cannot_be_removed_is_told_and_keeps_none_of_the_others() {
        use std::process::Command;

        let (_root, store) = store();
        let manifests: Vec<_> = (1..=4)
            .map(|number| manifest(0xab, &format!("20261120T10153{number}Z-00000001"), 10 + number))
            .collect();
        for manifest in &manifests {
            store
                .put_new(&manifest.object_name(), &vec![0; manifest.stored.bytes as usize])
                .unwrap();
            store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
        }
        let target = keeping_one(&store);
        let plan = || {
            let catalog = store.catalog("local").unwrap();
            plan(
                target,
                &catalog,
                "2026-11-21T00:00:00Z".parse().unwrap(),
                &TimeZone::UTC,
                ByAge::IfClocksAgree,
                None,
                Ok(None),
            )
        };
        let change = |name: &ObjectName, flag: &str| {
            let done = Command::new("chattr").arg(flag).arg(store.path_of(name)).output();
            done.is_ok_and(|done| done.status.success())
        };
        // A manifest that stays keeps its backup whole, an object that stays is of no backup any more.
        let (whole, left) = (manifests[0].name(), manifests[1].object_name());
        if !change(&whole, "+i") || !change(&left, "+i") {
            eprintln!("skipped: chattr +i needs root and a file system that can");
            return;
        }
        let done = carry_out(&plan(), &store, || {});
        for name in [&whole, &left] {
            assert!(change(name, "-i"));
        }
        let gone: Vec<_> = done.gone.iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["20261120T101532Z-00000001", "20261120T101533Z-00000001"]);
        let stuck: Vec<_> = done
            .stuck
            .iter()
            .map(|error| (error.id.to_string(), error.is_backup))
            .collect();
        assert_eq!(
            stuck,
            [
                ("20261120T101531Z-00000001".to_owned(), true),
                ("20261120T101532Z-00000001".to_owned(), false)
            ]
        );
        let ids = |catalog: Catalog| -> Vec<String> {
            catalog.backups().iter().map(|backup| backup.id().to_string()).collect()
        };
        let listed = ids(store.catalog("local").unwrap());
        assert_eq!(listed, ["20261120T101531Z-00000001", "20261120T101534Z-00000001"]);
        assert!(store.open_object(&manifests[0].object_name()).is_ok(), "it is whole");
        let done = carry_out(&plan(), &store, || {});
        assert!(done.stuck.is_empty() && done.gone.len() == 1, "{done:?}");
        let swept = store.sweep(&store::Begun {
            dead: [manifests[1].chain_path().chain].into(),
            ..store::Begun::default()
        });
        assert_eq!(swept.unwrap().len(), 1, "what is left");
    }

    #[test]
    fn what_leads_a_pinned_one_is_kept_with_it_and_so_it_is_where_that_is_pinned_only_now() {
        use crate::layout::Rewrapped;

        let (_root, store) = store();
        let old = manifest(0xab, "20261120T101531Z-00000001", 10);
        let mut made = manifest(0xab, "20261120T101531Z-00000002", 10);
        made.rewrapped = Some(Rewrapped {
            original: old.chain.clone(),
            generation: 1,
        });
        let mut last = manifest(0xab, "20261120T111531Z-00000003", 20);
        (made.lineage, last.lineage) = (old.lineage.clone(), old.lineage.clone());
        for manifest in [&old, &made, &last] {
            let object = vec![0; manifest.stored.bytes as usize];
            store.put_new(&manifest.object_name(), &object).unwrap();
            store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
        }
        let target = keeping_one(&store);
        let plan = || {
            let catalog = store.catalog("local").unwrap();
            let now = "2026-11-21T00:00:00Z".parse().unwrap();
            plan(target, &catalog, now, &TimeZone::UTC, ByAge::Confirmed, None, Ok(None))
        };
        let before = plan();
        let removed: Vec<&ChainId> = before.remove.iter().map(|judged| &judged.id).collect();
        assert_eq!(removed, [&old.chain, &made.chain]);
        let same = format!(
            "the same snapshot as {}, made for other recipients, and goes",
            made.chain
        );
        assert_eq!(before.remove[0].reasons, [same]);
        store
            .pin(
                &old.chain_path(),
                &Pin::new(Timestamp::UNIX_EPOCH, &HostName::nearest("a"), None),
            )
            .unwrap();
        assert!(plan().remove.is_empty(), "{:?}", plan());
        let done = carry_out(&before, &store, || {});
        assert!(done.gone.is_empty() && done.stuck.is_empty(), "{done:?}");
        assert_eq!(store.catalog("local").unwrap().backups().len(), 3);
    }

    #[test]
    fn what_is_not_known_to_be_free_of_pins_is_told_and_not_passed_over_like_what_is_pinned() {
        let (_root, store) = store();
        let manifests = [1, 2, 3].map(|number| {
            let backup = manifest(0xab, &format!("20261120T10153{number}Z-00000001"), 10 + number);
            let object = vec![0; backup.stored.bytes as usize];
            store.put_new(&backup.object_name(), &object).unwrap();
            store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
            backup
        });
        let catalog = store.catalog("local").unwrap();
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let planned = plan(
            keeping_one(&store),
            &catalog,
            now,
            &TimeZone::UTC,
            ByAge::IfClocksAgree,
            None,
            Ok(None),
        );
        assert_eq!((planned.remove.len(), planned.stuck.len()), (2, 0), "{planned:?}");
        // Where its folder was there is something in which nothing can be looked up.
        let lost = store.path_of(&manifests[0].name());
        let lost = lost.parent().unwrap();
        std::fs::remove_dir_all(lost).unwrap();
        std::fs::write(lost, b"").unwrap();
        assert!(store.is_pinned(&manifests[0].chain_path()).is_err());
        let done = carry_out(&planned, &store, || {});
        assert_eq!(done.gone, [manifests[1].chain.clone()]);
        assert_eq!(done.stuck.len(), 1, "{done:?}");
        assert_eq!(
            (&done.stuck[0].id, done.stuck[0].is_backup),
            (&manifests[0].chain, true)
        );
    }

    #[test]
    fn of_a_history_that_is_given_up_all_goes_but_what_is_pinned_and_nothing_of_others() {
        let (_root, store) = store();
        let kept = manifest(0xab, "20261120T101530Z-00000001", 10);
        let wiped = manifest(0xab, "20261121T101530Z-00000002", 1);
        let mut pinned = manifest(0xab, "20261121T111530Z-00000003", 2);
        pinned.lineage = wiped.lineage.clone();
        let fixture = Fixture::default()
            .backup(&kept)
            .backup(&wiped)
            .backup(&pinned)
            .list(&ObjectName::Pin(pinned.chain_path()).to_string(), 10);
        let plan = plan_lineage(
            "local",
            &store,
            &fixture.catalog("local"),
            &wiped.lineage,
            Timestamp::UNIX_EPOCH,
        );
        let ids = |judged: &[Judged]| judged.iter().map(|judged| judged.id.clone()).collect::<Vec<_>>();
        assert_eq!(
            (ids(&plan.remove), ids(&plan.keep)),
            (vec![wiped.chain], vec![pinned.chain])
        );
        assert_eq!(plan.chains.len(), 1);
    }

    #[test]
    fn a_backup_whose_manifest_is_damaged_goes_when_it_is_named_and_not_if_it_may_be_read_later() {
        let (_root, store) = store();
        let meant = manifest(0xab, "20261120T101530Z-00000001", 10);
        let object = vec![0; meant.stored.bytes as usize];
        store.put_new(&meant.object_name(), &object).unwrap();
        let newer = String::from_utf8(meant.to_bytes())
            .unwrap()
            .replacen("\"format\":1", "\"format\":99", 1);
        for (bytes, removed) in [(newer.into_bytes(), 0), (b"rotten".to_vec(), 1)] {
            store.put_new(&meant.name(), &bytes).unwrap();
            let catalog = store.catalog("local").unwrap();
            let plan = plan_damaged("local", &store, &catalog, &meant.chain_path(), Timestamp::UNIX_EPOCH);
            assert_eq!((plan.remove.len(), plan.keep.len()), (removed, 1 - removed), "{plan:?}");
            assert_eq!(
                plan_damaged("far", &store, &catalog, &meant.chain_path(), Timestamp::UNIX_EPOCH)
                    .remove
                    .len(),
                0
            );
            match removed {
                0 => store.remove(&meant.name()).unwrap(),
                _ => {
                    let done = carry_out(&plan, &store, || {});
                    assert_eq!((done.gone.len(), done.stuck.len()), (1, 0));
                }
            }
        }
        assert_eq!(store.list().unwrap().len(), 1, "the marker is left");
    }

    #[test]
    fn of_two_manifests_of_one_backup_neither_goes_because_nothing_tells_which_is_right() {
        let (_root, store) = store();
        let meant = manifest(0xab, "20261120T101530Z-00000001", 10);
        let mut other = meant.clone();
        other.keys = Some(0);
        let differing = Catalog::merge([
            Fixture::default().backup(&other).catalog("far"),
            Fixture::default().backup(&meant).catalog("local"),
        ]);
        let mut second = meant.clone();
        second.to_revision = Revision::new(11).unwrap();
        second.from_revision = second.to_revision;
        second.hash_kv = None;
        let doubled = Fixture::default()
            .backup(&meant)
            .document(&second.name(), second.to_bytes())
            .catalog("local");
        for (catalog, named) in [(differing, "destination far"), (doubled, "full-")] {
            let plan = plan_damaged("local", &store, &catalog, &meant.chain_path(), Timestamp::UNIX_EPOCH);
            assert!(plan.remove.is_empty() && plan.chains.is_empty(), "{plan:?}");
            let [kept] = plan.keep.as_slice() else {
                panic!("{plan:?}")
            };
            assert!(kept.reasons[0].contains(named), "{plan:?}");
        }
    }

    #[test]
    fn of_a_backup_that_is_given_up_only_copies_that_are_known_to_be_bad_go() {
        let (_root, store) = store();
        let meant = manifest(0xab, "20261120T101530Z-00000001", 10);
        let time = "2026-11-21T00:00:00Z".parse().unwrap();
        let check = ObjectName::Check(meant.chain_path(), time, HostName::nearest("a"));
        let whole = || Fixture::default().backup(&meant);
        let goes = |fixture: Fixture| {
            let plan = plan_damaged(
                "local",
                &store,
                &fixture.catalog("local"),
                &meant.chain_path(),
                Timestamp::UNIX_EPOCH,
            );
            let judged = plan.keep.iter().chain(&plan.remove);
            let reasons: Vec<String> = judged.flat_map(|judged| judged.reasons.clone()).collect();
            assert_eq!(plan.remove.len(), plan.chains.len());
            (plan.remove.len(), reasons.join("; "))
        };
        assert_eq!(goes(whole()).0, 0);
        let bad = crate::layout::Proof::None;
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

    #[test]
    fn a_bad_copy_stays_while_changes_behind_a_good_one_are_beside_it_alone() {
        let (_root, store) = store();
        let meant = manifest(0xab, "20261120T101530Z-00000001", 10);
        let delta = |from: i64, to: i64| format!("ab/{}/{from:020}-{to:020}.00000001.delta", meant.chain);
        let bad = || {
            Fixture::default()
                .backup(&meant)
                .check(&meant, "2026-11-21T00:00:00Z", false, crate::layout::Proof::None)
                .list(&delta(11, 20), 7)
                .catalog("local")
        };
        let goes = |catalogs: Vec<Catalog>| {
            let catalog = Catalog::merge(catalogs);
            let plan = plan_damaged("local", &store, &catalog, &meant.chain_path(), Timestamp::UNIX_EPOCH);
            let reasons = plan.keep.iter().flat_map(|judged| judged.reasons.clone());
            (plan.remove.len(), reasons.collect::<String>())
        };
        let good = |to: Option<i64>| {
            let fixture = Fixture::default().backup(&meant);
            let fixture = match to {
                Some(to) => fixture.list(&delta(11, to), 7),
                None => fixture,
            };
            fixture.catalog("bucket")
        };
        for alone in [None, Some(15)] {
            let (removed, reason) = goes(vec![bad(), good(alone)]);
            assert_eq!(removed, 0);
            assert!(
                reason.contains("up to revision 20 are in no other destination")
                    && reason.contains(&format!("`lifeboat copy {} --from local --to bucket`", meant.chain)),
                "{reason}"
            );
        }
        assert_eq!(goes(vec![bad(), good(Some(20))]).0, 1, "they are there, too");
        assert_eq!(goes(vec![bad()]).0, 1, "they follow nothing");
    }
}
