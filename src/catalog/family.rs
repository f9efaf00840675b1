//! Backups of one snapshot: the one that was taken of etcd, and those that were made of it for other recipients.
//!
//! While such a change is under way, both are there. They are one point in time: one of them leads, and the others share
//! its fate.
//!
//! Invariant: a backup leads only what holds the same bytes in plain, at the same revision of the same history.

use std::collections::{BTreeMap, BTreeSet};

use super::{Backup, BackupCopy, Catalog};
use crate::layout::ChainPath;

/// The order in which backups of one snapshot were made; of two that were made at once one is taken as the later.
fn made(backup: &Backup) -> (u32, &crate::model::ChainId) {
    (backup.generation(), backup.id())
}

/// Whether both hold the same.
fn hold_the_same(one: &Backup, other: &Backup) -> bool {
    let (one, other) = (one.manifest(), other.manifest());
    one.plain == other.plain
        && one.to_revision == other.to_revision
        && one.lineage == other.lineage
        && one.cluster == other.cluster
}

impl Catalog {
    /// The backups of one snapshot, the one that leads at the head, for each snapshot that has several. A leader has a good
    /// copy; of the others that is not asked.
    pub fn families(&self) -> Vec<Vec<&Backup>> {
        self.families_of(Backup::is_good, |_| true)
    }

    /// Which backup leads which, as one destination has them.
    pub fn led_in(&self, destination: &str) -> BTreeMap<ChainPath, ChainPath> {
        let copy = |backup: &Backup| -> Option<BackupCopy> {
            let copy = backup.copies.iter().find(|copy| copy.destination == destination);
            copy.cloned()
        };
        let is_good = |backup: &Backup| copy(backup).is_some_and(|copy| copy.is_good());
        let families = self.families_of(is_good, |backup| copy(backup).is_some());
        let led = families.into_iter().flat_map(|family| {
            let mut family = family.into_iter().map(|backup| backup.manifest().chain_path());
            let leader = family.next();
            family.filter_map(move |follower| Some((follower, leader.clone()?)))
        });
        led.collect()
    }

    /// The backups that another one leads. Whatever a destination is to be given of them, it is given that one.
    pub fn led(&self) -> BTreeSet<ChainPath> {
        let followers = self
            .families()
            .into_iter()
            .flat_map(|family| family.into_iter().skip(1));
        followers.map(|backup| backup.manifest().chain_path()).collect()
    }

    fn families_of(&self, may_lead: impl Fn(&Backup) -> bool, counts: impl Fn(&Backup) -> bool) -> Vec<Vec<&Backup>> {
        let backups = || self.backups().iter().filter(|backup| counts(backup));
        let mut families: BTreeMap<_, Vec<&Backup>> = BTreeMap::new();
        for backup in backups().filter(|backup| backup.generation() > 0) {
            families.insert((backup.manifest().cluster, backup.original()), Vec::new());
        }
        if families.is_empty() {
            return Vec::new();
        }
        for backup in backups() {
            if let Some(family) = families.get_mut(&(backup.manifest().cluster, backup.original())) {
                family.push(backup);
            }
        }
        let led = families.into_values().filter_map(|mut family| {
            let leader = family
                .iter()
                .copied()
                .filter(|backup| may_lead(backup))
                .max_by_key(|backup| made(backup))?;
            family.retain(|backup| !std::ptr::eq(*backup, leader) && hold_the_same(leader, backup));
            family.insert(0, leader);
            Some(family).filter(|family| family.len() > 1)
        });
        led.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, manifest};
    use crate::layout::{Manifest, Proof, Rewrapped};

    const OLD: &str = "20261120T101530Z-00000009";
    const NEW: &str = "20261120T101530Z-00000001";

    fn pair() -> (Manifest, Manifest) {
        let old = manifest(0xab, OLD, 10);
        let mut new = manifest(0xab, NEW, 10);
        new.lineage = old.lineage.clone();
        new.rewrapped = Some(Rewrapped {
            original: old.chain.clone(),
            generation: 1,
        });
        (old, new)
    }

    #[test]
    fn what_was_made_anew_leads_and_is_the_latest_unless_it_is_bad() {
        let (old, new) = pair();
        let both = || Fixture::default().backup(&old).backup(&new);
        let catalog = both().catalog("local");
        assert_eq!(catalog.latest().unwrap().id(), &new.chain);
        let led = catalog.led_in("local");
        assert_eq!(led.get(&old.chain_path()), Some(&new.chain_path()));
        assert_eq!(led.len(), 1);
        assert!(catalog.led_in("elsewhere").is_empty());
        assert_eq!(catalog.led(), [old.chain_path()].into());
        let bad = both()
            .check(&new, "2026-11-23T00:00:00Z", false, Proof::None)
            .catalog("local");
        assert_eq!(bad.latest().unwrap().id(), &old.chain);
        assert_eq!(bad.led_in("local").get(&new.chain_path()), Some(&old.chain_path()));
        assert_eq!(bad.led(), [new.chain_path()].into());
    }

    #[test]
    fn one_that_only_says_so_leads_nothing_that_holds_something_else() {
        let (old, mut new) = pair();
        new.plain.bytes += 1;
        let catalog = Fixture::default().backup(&old).backup(&new).catalog("local");
        assert!(catalog.led_in("local").is_empty());
    }
}
