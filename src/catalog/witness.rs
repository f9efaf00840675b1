//! What a host has seen of a destination, held against what it shows now: whoever may write to a store may take the newest
//! backups out of it, or put back how it was a day ago, and nothing in the store itself tells.
//!
//! A tip is the newest good backup of one history in one destination. It may give way to a newer one, turn out to be bad, or
//! be removed by this host, which forgets it then; retention removes it nowhere, as it never removes the newest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Backup, Catalog};
use crate::model::{ChainId, Digest, LineageId, Revision};

/// The newest good backup of a history in a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// The history.
    pub lineage: LineageId,
    /// The backup.
    pub chain: ChainId,
    /// Its revision.
    pub revision: Revision,
    /// The digest of its manifest.
    pub manifest: Digest,
}

/// A destination that shows less than it has shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "destination {destination} was rolled back: this host has seen {} there (revision {}), and now {}",
    .seen.chain, .seen.revision, newest(.shows)
)]
pub struct RolledBack {
    /// Which.
    pub destination: String,
    /// What was seen there.
    pub seen: Tip,
    /// The newest of that history that it shows now.
    pub shows: Option<Tip>,
}

fn newest(shows: &Option<Tip>) -> String {
    match shows {
        Some(tip) => format!("the newest is {} (revision {})", tip.chain, tip.revision),
        None => "there is no good one of its history".to_owned(),
    }
}

impl Tip {
    fn of(backup: &Backup) -> Tip {
        let manifest = backup.manifest();
        Tip {
            lineage: manifest.lineage.clone(),
            chain: backup.id().clone(),
            revision: backup.revision(),
            manifest: manifest.document,
        }
    }

    /// The order in which backups of one history are newer.
    fn rank(&self) -> (Revision, &ChainId) {
        (self.revision, &self.chain)
    }
}

impl Catalog {
    /// The tips of a destination, one for each history.
    pub fn tips(&self, destination: &str) -> BTreeMap<LineageId, Tip> {
        let mut tips: BTreeMap<LineageId, Tip> = BTreeMap::new();
        for backup in self.backups() {
            let mut copies = backup.copies.iter();
            if !copies.any(|copy| copy.destination == destination && copy.is_good()) {
                continue;
            }
            let tip = Tip::of(backup);
            match tips.get(&tip.lineage) {
                Some(known) if known.rank() >= tip.rank() => {}
                Some(_) | None => drop(tips.insert(tip.lineage.clone(), tip)),
            }
        }
        tips
    }

    /// Whether a destination, all of which was read, shows less than the tip that was seen there.
    pub fn rolled_back(&self, destination: &str, seen: &Tip) -> Option<RolledBack> {
        // Of a history that the operator has given up for another, backups may go.
        let word = self.last_word.as_ref().and_then(|word| word.acceptance.as_ref().ok());
        if word.is_some_and(|word| word.accepted != seen.lineage) {
            return None;
        }
        let is_it = |backup: &&Backup| *backup.id() == seen.chain && backup.manifest().document == seen.manifest;
        let is_here = |backup: &Backup| backup.destinations().any(|name| name == destination);
        // A bad copy is told for itself.
        if self.backups().iter().filter(is_it).any(is_here) {
            return None;
        }
        let shows = self.tips(destination).remove(&seen.lineage);
        if shows.as_ref().is_some_and(|shows| shows.rank() > seen.rank()) {
            return None;
        }
        Some(RolledBack {
            destination: destination.to_owned(),
            seen: seen.clone(),
            shows,
        })
    }

    /// Whether what was seen is newer than this backup of the same history.
    pub fn is_before(backup: &Backup, seen: &Tip) -> bool {
        backup.manifest().lineage == seen.lineage && Tip::of(backup).rank() < seen.rank()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::{Fixture, manifest};
    use crate::layout::Proof;

    #[test]
    fn a_destination_that_shows_less_than_was_seen_is_rolled_back_and_one_that_shows_more_is_not() {
        let [a, b, c] = [(1, 10), (2, 20), (3, 30)].map(|(day, revision)| {
            let mut made = manifest(0xab, &format!("2026112{day}T101530Z-0000000{day}"), revision);
            made.lineage = "ab-00000001".parse().unwrap();
            made
        });
        let two = || Fixture::default().backup(&a).backup(&b);
        let seen = two().catalog("far").tips("far").remove(&b.lineage).unwrap();
        assert_eq!(seen.chain, b.chain);
        assert_eq!(two().catalog("far").rolled_back("far", &seen), None);
        assert_eq!(two().backup(&c).catalog("far").rolled_back("far", &seen), None);
        // Pruned by whoever has a newer one.
        let only_c = Fixture::default().backup(&c).catalog("far");
        assert_eq!(only_c.rolled_back("far", &seen), None);
        // Bad, and told as that.
        let bad = two()
            .check(&b, "2026-11-25T00:00:00Z", false, Proof::None)
            .catalog("far");
        assert_eq!(bad.rolled_back("far", &seen), None);

        let back = Fixture::default()
            .backup(&a)
            .catalog("far")
            .rolled_back("far", &seen)
            .unwrap();
        assert_eq!(back.shows.as_ref().unwrap().chain, a.chain);
        assert!(
            Fixture::default()
                .catalog("far")
                .rolled_back("far", &seen)
                .unwrap()
                .shows
                .is_none()
        );
        // Another manifest under its name is not it.
        let mut swapped = b.clone();
        swapped.note = Some("other".to_owned());
        let swapped = Fixture::default().backup(&swapped).catalog("far");
        assert!(swapped.rolled_back("far", &seen).is_some());
        // What another destination shows is no excuse for this one.
        let near = two().catalog("near");
        let merged = Catalog::merge([Fixture::default().backup(&a).catalog("far"), near]);
        assert!(merged.rolled_back("far", &seen).is_some() && merged.rolled_back("near", &seen).is_none());
    }

    #[test]
    fn a_history_that_was_given_up_for_another_may_go() {
        let old = manifest(0xab, "20261121T101530Z-00000001", 10);
        let new = manifest(0xab, "20261122T101530Z-00000002", 5);
        let seen = Fixture::default()
            .backup(&old)
            .catalog("far")
            .tips("far")
            .remove(&old.lineage)
            .unwrap();
        let both = [&old.lineage, &new.lineage];
        let after = Fixture::default()
            .backup(&new)
            .accepted(1, &new.lineage, &both, "2026-11-22T11:00:00Z");
        assert_eq!(after.catalog("far").rolled_back("far", &seen), None);
        let hidden = Fixture::default().backup(&new).catalog("far");
        assert!(hidden.rolled_back("far", &seen).is_some());
    }
}
