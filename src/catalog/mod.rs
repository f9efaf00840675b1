//! What is in a store: from names, sizes, times and the bytes of small documents to backups, their order and their worth.
//!
//! Listing, reading and writing are left to `store`; which backups to keep is left to retention. The listing is the
//! truth: there is no index.
//!
//! Invariant: nothing that was listed is passed over in silence. An object of ours is a backup, belongs to one, is
//! damaged, or is incomplete; the rest is foreign.
//!
//! Invariant: a backup in two destinations is one backup with two copies, whose manifests are equal to the byte.

mod backup;
mod choose;
mod document;
mod family;
mod lacking;
mod leftovers;
mod lineage;
mod merge;
mod reading;
mod remembered;
mod rollback_detection;
#[cfg(test)]
pub(crate) mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::layout::{
    Acceptance, ChainPath, Clocks, FORMAT, Fault, HostName, Listed, ListedObject, Manifest, ObjectName, Outline, Proof,
    SlotPath,
};
use crate::model::{ChainId, ClusterId, Digest, Revision};
use crate::signing::{Authority, Distrust, SignerKey};
pub use backup::{Asked, Backup, BackupCopy, LastCheck, Link, Newness, Pinned, Standing};
pub use choose::{Astray, FindError, LatestError, Lineage};
use document::{Checked, Content, Refused};
pub use document::{Document, Understood};
pub use lacking::{lacking, last_change};
pub use leftovers::{Headless, Odd, Oddity};
pub use lineage::{Descent, NewBackup, Opening, Quorum};
use reading::Reading;
pub use remembered::NumberedWord;
pub use rollback_detection::{RolledBack, Tip};
pub use window::{Following, Hole, Piece, PieceKind, Window, nearest};

/// A document of ours that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{object}` in destination `{destination}` is damaged")]
pub struct Damaged {
    /// The destination's name.
    pub destination: String,
    /// Which.
    pub object: ObjectName,
    /// What is wrong with it.
    #[source]
    pub fault: Fault,
    /// The digest of its bytes, where they were read.
    pub bytes: Option<Digest>,
}

/// A document that counts for nothing, because no signer who is named has signed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{object}` in destination `{destination}` counts for nothing")]
pub struct Stranger {
    /// The destination's name.
    pub destination: String,
    /// Which.
    pub object: ObjectName,
    /// Why.
    #[source]
    pub why: Distrust,
    /// The digest of its bytes.
    pub bytes: Option<Digest>,
}

/// A part of a store that could not be looked into: there may be backups in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The destination's name.
    pub destination: String,
    /// Where it lies.
    pub path: String,
    /// What the store said.
    pub why: String,
}

/// An object without a manifest: the leavings of a backup that did not end, or one that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// The destination's name.
    pub destination: String,
    /// Where it lies.
    pub chain: ChainPath,
    /// How large it is.
    pub bytes: u64,
    /// When it was last written.
    pub modified: Timestamp,
}

/// What is none of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Foreign {
    destination: String,
    path: String,
}

/// Documents of which one is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    newest: &'a ObjectName,
    /// What it supersedes, the newest at the head.
    older: Vec<&'a ObjectName>,
}

impl<'a> Wanted<'a> {
    /// The newest, then those that count in its place where it counts for nothing.
    pub fn in_order(&self) -> impl Iterator<Item = &'a ObjectName> {
        std::iter::once(self.newest).chain(self.older.iter().copied())
    }
}

/// What makes a backup pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinsCount {
    /// That there is a pin: whoever may write to the store may pin.
    ByPresence,
    /// That somebody who is named has signed it: each is read.
    ByWord,
}

impl PinsCount {
    /// What does where this authority judges.
    pub fn under(authority: &Authority) -> PinsCount {
        match authority.names_somebody() {
            true => PinsCount::ByWord,
            false => PinsCount::ByPresence,
        }
    }
}

/// The last acceptance that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LastWord {
    number: u32,
    acceptance: Result<Acceptance, Damaged>,
    signer: Option<SignerKey>,
}

/// The backups of one cluster name, from one destination or from several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    backups: Vec<Backup>,
    damaged: Vec<Damaged>,
    strangers: Vec<Stranger>,
    incomplete: Vec<Incomplete>,
    headless: Vec<Headless>,
    foreign: Vec<Foreign>,
    unreadable: Vec<Unreadable>,
    /// What of it nothing else here tells.
    loose: Vec<Odd>,
    last_word: Option<LastWord>,
    /// The newest backups of each history that this host has seen, here and elsewhere.
    remembered: Vec<Tip>,
}

impl Catalog {
    /// Which of the listed documents have to be read for a catalog: manifests, the newest of what is superseded, and pins
    /// where their words count.
    pub fn wanted(objects: &[ListedObject], pins: PinsCount) -> Vec<Wanted<'_>> {
        let mut single = Vec::new();
        let mut checks: BTreeMap<&ChainPath, Vec<&ObjectName>> = BTreeMap::new();
        let mut words = Vec::new();
        for name in ours(objects).map(|(name, _)| name) {
            match name {
                ObjectName::FullManifest(..) => single.push(name),
                ObjectName::Pin(_) if pins == PinsCount::ByWord => single.push(name),
                ObjectName::Check(chain, ..) => checks.entry(chain).or_default().push(name),
                ObjectName::Acceptance(_) => words.push(name),
                // Who takes a slot is asked for one slot at a time: see `claim`.
                ObjectName::StoreMarker
                | ObjectName::Signers
                | ObjectName::Full(_)
                | ObjectName::Epoch(..)
                | ObjectName::Delta(..)
                | ObjectName::Pack(..)
                | ObjectName::Mark(..)
                | ObjectName::Gap(..)
                | ObjectName::Pin(_)
                | ObjectName::Canary(_)
                | ObjectName::Claim(..) => {}
            }
        }
        let single = single.into_iter().map(|newest| Wanted {
            newest,
            older: Vec::new(),
        });
        // A check's name begins with its time: the greatest is the newest.
        let superseding = checks
            .into_values()
            .chain(std::iter::once(words))
            .filter_map(|mut names| {
                names.sort_unstable_by(|a, b| b.cmp(a));
                let mut names = names.into_iter();
                Some(Wanted {
                    newest: names.next()?,
                    older: names.collect(),
                })
            });
        single.chain(superseding).collect()
    }

    /// The catalog of one destination, from its listing and the documents that `wanted` named, in any order.
    pub fn of_destination(
        destination: &str,
        objects: &[ListedObject],
        pins: PinsCount,
        documents: impl IntoIterator<Item = Understood>,
    ) -> Catalog {
        let mut reading = Reading::of(destination, objects, pins);
        for document in documents {
            reading.take(document);
        }
        reading.finish()
    }

    /// The catalog of a destination that has just this backup, as whoever wrote it there knows without a listing.
    /// `document` is the manifest as it was stored, `signer` the one who signed it.
    pub fn of_new_backup(
        destination: &str,
        manifest: &Manifest,
        document: &[u8],
        signer: Option<SignerKey>,
    ) -> Catalog {
        let listed = |name: ObjectName, bytes| ListedObject {
            name: Listed::Ours(name),
            bytes,
            modified: manifest.finished_at,
        };
        let objects = [
            listed(manifest.object_name(), manifest.stored.bytes),
            listed(manifest.name(), document.len() as u64),
        ];
        let understood = Understood {
            name: manifest.name(),
            content: Ok(Content::Manifest(Box::new(Outline::of(manifest.clone(), document)))),
            signer,
            bytes: None,
        };
        Catalog::of_destination(destination, &objects, PinsCount::ByPresence, [understood])
    }

    /// Says that nothing of this destination is read back: what was acknowledged there is good.
    pub fn of_acknowledged(mut self) -> Catalog {
        for copy in self.backups.iter_mut().flat_map(|backup| &mut backup.copies) {
            copy.asked = Asked::Acknowledged;
        }
        self
    }

    /// The same of one that has just a new backup, which was not read back.
    pub fn of_new_acknowledged(self) -> Catalog {
        let mut catalog = self.of_acknowledged();
        for copy in catalog.backups.iter_mut().flat_map(|backup| &mut backup.copies) {
            if let Standing::Good(_) = copy.standing {
                copy.standing = Standing::Good(Proof::Acknowledged);
            }
        }
        catalog
    }

    /// Takes in that a destination has good copies of these backups too. One that is there already stays as it is.
    pub fn add_copies(&mut self, destination: &str, ids: &BTreeSet<&ChainId>, pinned: Pinned, asked: Asked) {
        for backup in self.backups.iter_mut().filter(|backup| ids.contains(backup.id())) {
            if backup.destinations().any(|known| known == destination) {
                continue;
            }
            let before = backup.destinations().take_while(|known| *known < destination);
            let place = before.count();
            let copy = BackupCopy {
                destination: destination.to_owned(),
                standing: Standing::Good(asked.least()),
                written_at: Some(backup.manifest.first_byte_at),
                checked_at: None,
                last_check: LastCheck::Known,
                faults_behind: Vec::new(),
                pinned,
                asked,
                links: Vec::new(),
            };
            backup.copies.insert(place, copy);
        }
    }

    /// Takes in that a destination has what follows a backup in its chain in another one, too.
    pub fn add_links(&mut self, destination: &str, id: &ChainId, from: &str) {
        for backup in self.backups.iter_mut().filter(|backup| backup.id() == id) {
            let source = backup.copies.iter().find(|copy| copy.destination == from);
            let links = source.map_or_else(Vec::new, |source| source.links.clone());
            let mut copies = backup.copies.iter_mut();
            if let Some(copy) = copies.find(|copy| copy.destination == destination) {
                copy.links.extend(links);
                // What it has stays as it was listed.
                copy.links.sort_by(|a, b| a.name.cmp(&b.name));
                copy.links.dedup_by(|a, b| a.name == b.name);
            }
        }
    }

    /// Takes out what was removed from a destination since it was listed.
    pub fn forget(&mut self, destination: &str, gone: &[ChainId]) {
        for backup in self.backups.iter_mut().filter(|backup| gone.contains(backup.id())) {
            backup.copies.retain(|copy| copy.destination != destination);
        }
        self.backups.retain(|backup| !backup.copies.is_empty());
    }

    /// One view of several destinations. Of two unequal manifests of one backup, that of the earlier destination counts
    /// and the other is damaged.
    pub fn merge(catalogs: impl IntoIterator<Item = Catalog>) -> Catalog {
        let mut merged = Catalog::default();
        for catalog in catalogs {
            merged.backups = merge::backups(merged.backups, catalog.backups, &mut merged.damaged);
            merged.damaged.extend(catalog.damaged);
            merged.strangers.extend(catalog.strangers);
            merged.incomplete.extend(catalog.incomplete);
            merged.headless.extend(catalog.headless);
            merged.foreign.extend(catalog.foreign);
            merged.unreadable.extend(catalog.unreadable);
            merged.loose.extend(catalog.loose);
            merged.last_word = merge::newer_word(merged.last_word, catalog.last_word);
        }
        merged
    }

    /// The backups, the one begun first at the head.
    pub fn backups(&self) -> &[Backup] {
        &self.backups
    }

    /// An id for a chain that is begun at `now`, after those of the same second that are known.
    pub fn next_chain(&self, now: Timestamp, random: u32) -> ChainId {
        let id = ChainId::new(now, random);
        let Some(last) = self.backups.last().map(Backup::id) else {
            return id;
        };
        let is_before = id <= *last && id.started_at() == last.started_at();
        let taken = u32::from_str_radix(last.suffix(), 16).unwrap_or(u32::MAX);
        match (u32::MAX - taken, is_before) {
            (0, _) | (_, false) => id,
            (left, true) => ChainId::new(now, taken + 1 + random % left),
        }
    }

    /// The good backups that were taken for a slot, in one destination, the one begun first at the head. One that was
    /// there well before the slot is not of it, though its manifest says so: the clock of its host was ahead of this one's.
    pub fn of_slot<'a>(
        &'a self,
        slot: &'a SlotPath,
        destination: &'a str,
        clocks: Clocks,
    ) -> impl Iterator<Item = &'a Backup> {
        let counts = move |written_at| clocks.counts_for(slot.instant(), written_at);
        let is_good = move |copy: &BackupCopy| {
            copy.destination == destination && copy.is_good() && copy.written_at.is_some_and(counts)
        };
        self.backups
            .iter()
            .filter(move |backup| backup.manifest.slot.as_deref() == Some(slot) && backup.copies.iter().any(is_good))
    }

    /// What cannot be used.
    pub fn damaged(&self) -> &[Damaged] {
        &self.damaged
    }

    /// What counts for nothing, because nobody who is named has signed it.
    pub fn strangers(&self) -> &[Stranger] {
        &self.strangers
    }

    /// Those who signed what counts, each once.
    pub fn signers(&self) -> BTreeSet<SignerKey> {
        let of_backups = self.backups.iter().filter_map(|backup| backup.signer);
        let word = self.last_word.as_ref();
        of_backups.chain(word.and_then(|word| word.signer)).collect()
    }

    /// Deltas and packs with no full backup before them in their destination.
    pub fn headless(&self) -> &[Headless] {
        &self.headless
    }

    /// What has no manifest.
    pub fn incomplete(&self) -> &[Incomplete] {
        &self.incomplete
    }

    /// Paths that are none of ours, in the order of their listing.
    pub fn foreign(&self) -> impl Iterator<Item = &str> {
        self.foreign.iter().map(|found| found.path.as_str())
    }

    /// What could not be looked into, in the order of its listing.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Manifests that no destination has in a usable form: backups of which only the name is known.
    fn lost(&self) -> impl Iterator<Item = (&Damaged, &ChainPath, Revision)> {
        let is_readable = |path: &ChainPath| {
            let place = (&path.chain, path.cluster);
            self.backups
                .binary_search_by(|backup| order(backup).cmp(&place))
                .is_ok()
        };
        self.damaged.iter().filter_map(move |damaged| match &damaged.object {
            ObjectName::FullManifest(chain, revision) if !is_readable(chain) => Some((damaged, chain, *revision)),
            ObjectName::FullManifest(..)
            | ObjectName::StoreMarker
            | ObjectName::Signers
            | ObjectName::Acceptance(_)
            | ObjectName::Full(_)
            | ObjectName::Epoch(..)
            | ObjectName::Delta(..)
            | ObjectName::Pack(..)
            | ObjectName::Mark(..)
            | ObjectName::Gap(..)
            | ObjectName::Pin(_)
            | ObjectName::Check(..)
            | ObjectName::Canary(_)
            | ObjectName::Claim(..) => None,
        })
    }
}

/// The order of a catalog's backups. A chain has one place in it, whatever its manifest says besides.
fn order(backup: &Backup) -> (&ChainId, ClusterId) {
    (backup.id(), backup.manifest().cluster)
}

fn ours(objects: &[ListedObject]) -> impl Iterator<Item = (&ObjectName, &ListedObject)> {
    objects.iter().filter_map(|object| match &object.name {
        Listed::Ours(name) => Some((name, object)),
        Listed::Partial { .. } | Listed::EmptyFolder { .. } | Listed::Foreign(_) | Listed::Unreadable { .. } => None,
    })
}

fn damaged(destination: &str, object: &ObjectName, fault: Fault, bytes: Option<Digest>) -> Damaged {
    Damaged {
        destination: destination.to_owned(),
        object: object.clone(),
        fault,
        bytes,
    }
}

fn stranger(destination: &str, object: &ObjectName, why: Distrust, bytes: Option<Digest>) -> Stranger {
    Stranger {
        destination: destination.to_owned(),
        object: object.clone(),
        why,
        bytes,
    }
}
