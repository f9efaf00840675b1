//! What a host has seen of a destination, held against what it shows now: whoever may write to a store may take the newest
//! backups out of it, or put back how it was a day ago, and nothing in the store itself tells.
//!
//! A tip is the newest backup of one history that was good in one destination. It gives way to a newer one, to the operator's
//! word on another history, and to its removal by this host, which forgets it then; retention removes it nowhere, as it never
//! removes the newest. One that turns bad stays the tip: else whoever spoils it first might take it away afterwards.
//!
//! Invariant: the order in which backups are newer is that of `latest`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Backup, Catalog, Newness};
use crate::layout::{Fault, ObjectName};
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
    /// How often it was made anew for other recipients.
    #[serde(default)]
    pub generation: u32,
    /// The backup that it was made of, where it is none that was taken of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<ChainId>,
    /// The digest of what it holds in plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<Digest>,
    /// The index of the last entry of etcd's log that it holds, where its content says that: a history that has taken the place of
    /// another one is told from it by that alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The term of that entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
}

/// What a destination has under the name of a tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The same bytes, whatever they are worth there: that is told for itself.
    TheSame,
    /// Something that could not be read: whether it is the same is not known.
    Unread,
    /// Nothing, or other bytes.
    Gone,
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
            generation: backup.generation(),
            original: (backup.original() != backup.id()).then(|| backup.original().clone()),
            plain: Some(manifest.plain.sha256),
            index: manifest.consistent_index,
            term: manifest.raft_term,
        }
    }

    /// How new it is among those of its history.
    pub fn newness(&self) -> Newness<'_> {
        Newness::of(&self.chain, self.revision, self.generation)
    }

    /// Whether this backup, which is to be the newest, is less than what was seen: an older one, or one of another history,
    /// for which nobody has given up this one.
    pub fn is_more_than(&self, backup: &Backup) -> bool {
        let is_older = backup.manifest().lineage != self.lineage || backup.newness() < self.newness();
        is_older && !self.holds_the_same(backup)
    }

    /// Whether a backup holds the same snapshot: it is this one, or one was made of the other for other recipients.
    fn holds_the_same(&self, backup: &Backup) -> bool {
        let manifest = backup.manifest();
        backup.original() == self.original.as_ref().unwrap_or(&self.chain)
            && backup.revision() == self.revision
            && manifest.lineage == self.lineage
            && self.plain.is_none_or(|plain| plain == manifest.plain.sha256)
    }
}

impl Catalog {
    /// The tips of a destination, one for each history.
    pub fn tips(&self, destination: &str) -> BTreeMap<LineageId, Tip> {
        let mut tips: BTreeMap<LineageId, Tip> = BTreeMap::new();
        for backup in self.backups() {
            if is_good_in(backup, destination) {
                let tip = Tip::of(backup);
                match tips.get(&tip.lineage) {
                    Some(known) if known.newness() >= tip.newness() => {}
                    Some(_) | None => drop(tips.insert(tip.lineage.clone(), tip)),
                }
            }
        }
        tips
    }

    /// Whether the operator has given up a history for another: then its backups may go. Of one that his last word did not
    /// know he has said nothing: an older store may have been put in the place of this one.
    pub fn has_given_up(&self, lineage: &LineageId) -> bool {
        let word = self.last_word.as_ref().and_then(|word| word.acceptance.as_ref().ok());
        word.is_some_and(|word| word.accepted != *lineage && word.known.contains(lineage))
    }

    fn found(&self, destination: &str, seen: &Tip) -> Found {
        // Under another revision or in another cluster's folder it is moved, and no manifest any more.
        let is_its_name = |object: &ObjectName| match object {
            ObjectName::FullManifest(path, revision) => {
                let of_cluster = format!("{}-", path.cluster);
                path.chain == seen.chain
                    && *revision == seen.revision
                    && seen.lineage.to_string().starts_with(&of_cluster)
            }
            _ => false,
        };
        let is_it = |backup: &&Backup| *backup.id() == seen.chain && backup.manifest().document == seen.manifest;
        let is_here = |backup: &Backup| backup.destinations().any(|name| name == destination);
        let damaged = self.damaged.iter().filter(|damaged| damaged.destination == destination);
        let damaged: Vec<_> = damaged.filter(|damaged| is_its_name(&damaged.object)).collect();
        let strangers = self.strangers.iter().filter(|stranger| {
            // A key that was taken out of the list makes nothing disappear.
            stranger.destination == destination && is_its_name(&stranger.object)
        });
        let mut unused = damaged.iter().map(|damaged| damaged.bytes);
        let mut strange = strangers.map(|stranger| stranger.bytes);
        let is_same = |bytes: Option<Digest>| bytes == Some(seen.manifest);
        if self.backups().iter().filter(is_it).any(is_here) || unused.any(is_same) || strange.any(is_same) {
            return Found::TheSame;
        }
        match damaged
            .iter()
            .any(|damaged| matches!(damaged.fault, Fault::Unreadable { .. }))
        {
            true => Found::Unread,
            false => Found::Gone,
        }
    }

    /// Whether a destination, all of which was read, shows less than the tip that was seen there.
    pub fn rolled_back(&self, destination: &str, seen: &Tip) -> Option<RolledBack> {
        if self.has_given_up(&seen.lineage) || self.found(destination, seen) != Found::Gone {
            return None;
        }
        let stands_for_it = |backup: &&Backup| seen.holds_the_same(backup) && *backup.id() != seen.chain;
        let mut others = self.backups().iter().filter(stands_for_it);
        if others.any(|backup| is_good_in(backup, destination)) {
            return None;
        }
        let shows = self.tips(destination).remove(&seen.lineage);
        if shows.as_ref().is_some_and(|shows| shows.newness() > seen.newness()) {
            return None;
        }
        Some(RolledBack {
            destination: destination.to_owned(),
            seen: seen.clone(),
            shows,
        })
    }
}

fn is_good_in(backup: &Backup, destination: &str) -> bool {
    let mut copies = backup.copies.iter();
    copies.any(|copy| copy.destination == destination && copy.is_good())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::{Fixture, manifest};
    use crate::layout::{Proof, Rewrapped};
    use crate::signing::{Authority, Role, SigningKey, Trust};

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

    /// What a destination showed before and after a backup was made anew, whose id ends in less.
    fn remade() -> (Catalog, Catalog, Catalog) {
        let old = manifest(0xab, "20261121T101530Z-00000009", 10);
        let mut new = manifest(0xab, "20261121T101530Z-00000001", 10);
        new.lineage = old.lineage.clone();
        new.rewrapped = Some(Rewrapped {
            original: old.chain.clone(),
            generation: 1,
        });
        let [before, between, after] = [
            Fixture::default().backup(&old),
            Fixture::default().backup(&old).backup(&new),
            Fixture::default().backup(&new),
        ];
        (before.catalog("far"), between.catalog("far"), after.catalog("far"))
    }

    fn tip(catalog: &Catalog) -> Tip {
        let (_, tip) = catalog.tips("far").pop_first().unwrap();
        tip
    }

    #[test]
    fn one_that_is_made_anew_by_any_host_is_as_new_and_takes_the_place_of_the_one_before() {
        let (before, between, after) = remade();
        // Whichever of the three states each of two hosts has seen.
        for seen in [tip(&before), tip(&between)] {
            assert_eq!(after.rolled_back("far", &seen), None, "{seen:?}");
            assert!(!seen.is_more_than(after.latest().unwrap()), "{seen:?}");
        }
        assert!(tip(&between).newness() > tip(&before).newness());
        // The one before stands for it too, where what was made anew is removed and the other is kept.
        let seen = tip(&after);
        assert_eq!(before.rolled_back("far", &seen), None);
        assert!(!seen.is_more_than(before.latest().unwrap()));
        // One that only says so does not.
        let mut other = manifest(0xab, "20261121T101530Z-00000001", 10);
        other.lineage = seen.lineage.clone();
        other.plain.bytes += 1;
        other.plain.sha256 = Digest([7; 32]);
        other.rewrapped = Some(Rewrapped {
            original: "20261121T101530Z-00000009".parse().unwrap(),
            generation: 0,
        });
        let other = Fixture::default().backup(&other).catalog("far");
        assert!(other.rolled_back("far", &tip(&before)).is_some());
    }

    #[test]
    fn a_tip_of_an_earlier_version_is_read() {
        let (before, _, after) = remade();
        let written = serde_json::json!({
            "lineage": tip(&before).lineage, "chain": tip(&before).chain, "revision": 10, "manifest": tip(&before).manifest,
        });
        let seen: Tip = serde_json::from_value(written).unwrap();
        assert_eq!(
            (before.rolled_back("far", &seen), after.rolled_back("far", &seen)),
            (None, None)
        );
    }

    #[test]
    fn what_is_there_and_does_not_count_was_not_taken_away_and_what_cannot_be_read_is_not_known() {
        let key = SigningKey::of_seed(Role::Signer, [1; 32]);
        let cluster = "prod".parse().unwrap();
        let made = manifest(0xab, "20261121T101530Z-00000001", 10);
        let signed = key.sign(&cluster, &made.name(), &made.to_bytes());
        let there = |bytes: Vec<u8>| {
            let object = made.object_name().to_string();
            Fixture::default()
                .list(&object, made.stored.bytes)
                .document(&made.name(), bytes)
        };
        let trusting = |key: &SigningKey| Authority::anybody(&cluster).trusting(Trust::of([key.public()]));
        let seen = tip(&there(signed.clone()).catalog_under("far", &trusting(&key)));

        // The key is taken out of the list.
        let without = trusting(&SigningKey::of_seed(Role::Signer, [2; 32]));
        let strange = there(signed.clone()).catalog_under("far", &without);
        assert_eq!(
            (strange.strangers().len(), strange.rolled_back("far", &seen)),
            (1, None)
        );
        // Other bytes are not it, whether they are signed by nobody or broken.
        let broken = there(signed[..signed.len() - 20].to_vec()).catalog_under("far", &trusting(&key));
        assert_eq!(broken.strangers().len(), 1);
        assert!(broken.rolled_back("far", &seen).is_some());
        let anybody = Authority::anybody(&cluster);
        let rotten = Fixture::default().rotten(&made).catalog_under("far", &anybody);
        assert!(rotten.rolled_back("far", &seen).is_some());

        // A passing error of the store is no verdict; that there is no document is one.
        let detail = || "503".to_owned();
        let fails = there(signed.clone()).instead(&made.name(), Fault::Unreadable { detail: detail() });
        assert_eq!(fails.catalog_under("far", &anybody).rolled_back("far", &seen), None);
        let large = there(signed).instead(&made.name(), Fault::NoDocument { detail: detail() });
        assert!(large.catalog_under("far", &anybody).rolled_back("far", &seen).is_some());
    }

    #[test]
    fn a_manifest_that_was_moved_to_another_revision_is_gone() {
        let made = manifest(0xab, "20261121T101530Z-00000001", 10);
        let whole = |name: &ObjectName| {
            let object = made.object_name().to_string();
            let listed = Fixture::default().list(&object, made.stored.bytes);
            listed.document(name, made.to_bytes()).catalog("far")
        };
        let seen = tip(&whole(&made.name()));
        assert_eq!(whole(&made.name()).rolled_back("far", &seen), None);
        let elsewhere = ObjectName::FullManifest(made.chain_path(), Revision::new(1).unwrap());
        let moved = whole(&elsewhere);
        assert!(moved.backups().is_empty());
        assert!(moved.rolled_back("far", &seen).is_some());
    }

    #[test]
    fn a_store_from_before_the_last_word_has_not_given_up_what_came_after_it() {
        let [old, new] = [("20261121T101530Z-00000001", 10), ("20261122T101530Z-00000002", 20)]
            .map(|(chain, revision)| manifest(0xab, chain, revision));
        let seen = tip(&Fixture::default().backup(&new).catalog("far"));
        // The word of then knew nothing of the history that is gone.
        let before = Fixture::default()
            .backup(&old)
            .accepted(1, &old.lineage, &[&old.lineage], "2026-11-21T11:00:00Z")
            .catalog("far");
        assert!(!before.has_given_up(&new.lineage));
        assert!(before.rolled_back("far", &seen).is_some());
    }

    #[test]
    fn one_that_was_seen_is_more_than_any_of_another_history() {
        let old = manifest(0xab, "20261121T101530Z-00000001", 10);
        let wiped = manifest(0xab, "20261122T101530Z-00000002", 20);
        let seen = tip(&Fixture::default().backup(&old).catalog("far"));
        let left = Fixture::default().backup(&wiped).catalog("far");
        assert!(seen.is_more_than(left.latest().unwrap()));
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
