//! The destinations of a cluster, as one job finds them: each opened, listed and read once, all side by side.
//!
//! A destination that hangs or fails costs its deadline and nothing more: it is left out and named. What a job changes it
//! adds to what it has read, instead of reading again.

mod open;

use std::collections::BTreeMap;

pub use open::{
    Address, Destination, SignedList, by_number, judged_by, list_in, note_list, open, remembered_list, side_by_side,
};

use crate::catalog::{Asked, Backup, Catalog, Pinned, RolledBack};
use crate::error_chain::with_causes;
use crate::layout::{Fault, MAX_BYTES, Manifest, ObjectName};
use crate::model::{ChainId, ClusterName};
use crate::store::{self, Begun, Contents, Store, Sweep};

/// The destinations that could be read, and what is in them.
#[derive(Debug)]
pub struct Destinations {
    /// The cluster whose backups they keep.
    pub cluster: ClusterName,
    /// The stores that could be read, by name of the destination.
    pub stores: BTreeMap<String, Store>,
    /// What is in them.
    pub catalog: Catalog,
    /// What could not be read, and why.
    pub unreadable: Vec<(String, String)>,
    /// What a sweep came to, by name of the destination.
    pub swept: Vec<(String, Result<Sweep, store::Error>)>,
    /// What shows less than this host has seen before, as far as whoever reads remembers that.
    pub rolled_back: Vec<RolledBack>,
    /// Why whoever reads does not remember that, though it ought to be remembered.
    pub unremembered: Option<String>,
}

/// Why a manifest that was listed cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It was removed.
    #[error("`{name}` is gone since it was listed")]
    Gone {
        /// Which.
        name: ObjectName,
    },
    /// It cannot be understood.
    #[error("`{name}`")]
    Damaged {
        /// Which.
        name: ObjectName,
        /// What is wrong with it.
        source: Box<Fault>,
    },
    /// It has other bytes now.
    #[error("`{name}` in destination {destination} has changed since it was listed")]
    Changed {
        /// Which.
        name: ObjectName,
        /// Where.
        destination: String,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Destinations {
    /// None that can be read.
    pub fn none(cluster: ClusterName) -> Destinations {
        Destinations {
            cluster,
            stores: BTreeMap::new(),
            catalog: Catalog::default(),
            unreadable: Vec::new(),
            swept: Vec::new(),
            rolled_back: Vec::new(),
            unremembered: None,
        }
    }

    /// Lists and reads those that were opened, each once. With `sweep`, what runs of this host that died have left is
    /// removed by the same listing.
    pub fn read(cluster: ClusterName, opened: &[Destination], sweep: Option<&Begun>) -> Destinations {
        Destinations::read_while(cluster, opened, sweep, &|| {})
    }

    /// The same; `look` is called every so often meanwhile, as long as one of them gets on.
    pub fn read_while(
        cluster: ClusterName,
        opened: &[Destination],
        sweep: Option<&Begun>,
        look: &(dyn Fn() + Sync),
    ) -> Destinations {
        let read = side_by_side(opened.iter(), |destination| match &destination.store {
            Ok(store) => store
                .read_while(&destination.name, sweep, look)
                .map(|contents| Some((store.clone(), contents)))
                .map_err(|error| with_causes(&error)),
            // A store that never was there has no backups.
            Err(store::Error::NoStore { .. }) => Ok(None),
            Err(error) => Err(with_causes(error)),
        });
        let mut destinations = Destinations::none(cluster);
        for (destination, read) in read {
            destinations.add(&destination.name, read);
        }
        destinations
    }

    fn add(&mut self, name: &str, read: Result<Option<(Store, Contents)>, String>) {
        match read {
            Ok(Some((store, Contents { catalog, swept }))) => {
                for unread in catalog.unreadable() {
                    let (at, why) = (store.address_in(&unread.path), &unread.why);
                    let error = format!("`{at}` cannot be looked into, backups may be in it: {why}");
                    self.unreadable.push((name.to_owned(), error));
                }
                let before = std::mem::take(&mut self.catalog);
                self.catalog = Catalog::merge([before, catalog]);
                self.stores.insert(name.to_owned(), store);
                self.swept.extend(swept.map(|swept| (name.to_owned(), swept)));
            }
            Ok(None) => {}
            Err(error) => self.unreadable.push((name.to_owned(), error)),
        }
    }

    /// Whether all could be read and swept, and nothing of a dead run's chain was passed over: then it is nowhere.
    pub fn are_rid_of(&self, dead: &ChainId) -> bool {
        let is_rid = |sweep: &Sweep| !sweep.passed_over.contains(dead);
        self.unreadable.is_empty() && self.swept.iter().all(|(_, swept)| swept.as_ref().is_ok_and(is_rid))
    }

    /// Takes in a backup that was written since to the destinations that are named.
    /// `document` is its manifest as it was stored.
    pub fn take_in<'a>(&mut self, manifest: &Manifest, document: &[u8], destinations: impl Iterator<Item = &'a str>) {
        let stores = &self.stores;
        let is_read_back = |name: &str| stores.get(name).is_none_or(Store::reads_back);
        let new = destinations.map(|name| {
            let authority = stores.get(name).map(Store::authority);
            let signer = authority.and_then(|authority| authority.judge(&manifest.name(), document).ok());
            let new = Catalog::of_new_backup(name, manifest, document, signer.flatten());
            match is_read_back(name) {
                true => new,
                false => new.of_new_acknowledged(),
            }
        });
        let new: Vec<Catalog> = new.collect();
        let before = std::mem::take(&mut self.catalog);
        self.catalog = Catalog::merge(std::iter::once(before).chain(new));
    }

    /// Takes in a copy of a known backup that was made since, or got what follows it, from these: pinned as one that it was made
    /// from.
    pub fn take_copy_in<'a>(&mut self, id: &ChainId, from: impl Iterator<Item = &'a str>, to: &str) {
        let from: Vec<&str> = from.collect();
        let backup = self.catalog.backups().iter().find(|backup| backup.id() == id);
        let copies = backup.into_iter().flat_map(|backup| &backup.copies);
        let mut sources = copies.filter(|copy| from.contains(&copy.destination.as_str()));
        let pinned = match sources.any(|source| source.pinned == Pinned::Yes) {
            true => Pinned::Yes,
            false => Pinned::No,
        };
        let asked = self.stores.get(to).map_or(Asked::ReadBack, Store::asked);
        self.catalog.add_copies(to, &[id].into(), pinned, asked);
        for source in from {
            self.catalog.add_links(to, id, source);
        }
    }

    /// Takes out backups that were removed since from one destination.
    pub fn forget(&mut self, destination: &str, gone: &[ChainId]) {
        self.catalog.forget(destination, gone);
    }

    /// Why the destination could not be read, if so.
    pub fn why_unreadable(&self, name: &str) -> Option<&str> {
        let mut unreadable = self.unreadable.iter();
        unreadable.find_map(|(unread, why)| (unread == name).then_some(why.as_str()))
    }

    /// The whole manifest of a backup, and its bytes, from whichever store still has the document that was listed.
    pub fn manifest(&self, backup: &Backup) -> Result<(Manifest, Vec<u8>), ManifestError> {
        let outline = backup.manifest();
        let name = outline.name();
        let mut found = Err(ManifestError::Gone { name: name.clone() });
        for copy in &backup.copies {
            let Some(store) = self.stores.get(&copy.destination) else {
                continue;
            };
            match store.read_small(&name, MAX_BYTES as u64) {
                Ok(bytes) if outline.is_of(&bytes) => {
                    let manifest = Manifest::read(&outline.chain_path(), outline.to_revision, &bytes);
                    return manifest
                        .map(|manifest| (manifest, bytes))
                        .map_err(|fault| ManifestError::Damaged {
                            name,
                            source: Box::new(fault),
                        });
                }
                Ok(_) => {
                    found = Err(ManifestError::Changed {
                        name: name.clone(),
                        destination: copy.destination.clone(),
                    });
                }
                Err(store::Error::NotFound { .. }) => {}
                Err(error) => found = Err(error.into()),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::catalog::tests::manifest;
    use crate::store::Access;

    fn opened(folder: &std::path::Path) -> [Destination; 1] {
        let cluster: ClusterName = "prod".parse().unwrap();
        let access = Access::Write {
            now: Timestamp::UNIX_EPOCH,
        };
        let store = Store::open(&folder.into(), &cluster, None, access);
        [Destination {
            name: "local".to_owned(),
            store,
        }]
    }

    #[test]
    fn a_backup_that_is_removed_after_it_was_listed_is_gone_and_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let opened = opened(folder.path());
        let store = opened[0].store.as_ref().unwrap();
        let backup = manifest(0xab, "20261120T101530Z-00000001", 10);
        store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        let read = Destinations::read("prod".parse().unwrap(), &opened, None);
        let listed = &read.catalog.backups()[0];
        assert!(read.manifest(listed).is_ok());
        store.remove(&backup.name()).unwrap();
        assert!(matches!(read.manifest(listed), Err(ManifestError::Gone { .. })));
    }

    #[test]
    fn a_backup_that_is_taken_in_is_as_if_it_had_been_listed() {
        let folder = tempfile::tempdir().unwrap();
        let opened = opened(folder.path());
        let store = opened[0].store.as_ref().unwrap();
        let first = manifest(0xab, "20261120T101530Z-00000001", 10);
        let put = |backup: &Manifest| {
            let object = vec![0; usize::try_from(backup.stored.bytes).unwrap()];
            store.put_new(&backup.object_name(), &object).unwrap();
            store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        };
        put(&first);
        let mut read = Destinations::read("prod".parse().unwrap(), &opened, None);
        let second = manifest(0xab, "20261120T111530Z-00000002", 20);
        put(&second);
        read.take_in(&second, &second.to_bytes(), ["local"].into_iter());
        let again = Destinations::read("prod".parse().unwrap(), &opened, None);
        let known = |read: &Destinations| -> Vec<_> {
            let backups = read.catalog.backups().iter();
            let known = backups.map(|backup| {
                let copies = backup.copies.iter();
                let copies: Vec<_> = copies
                    .map(|copy| (copy.destination.clone(), copy.standing.clone()))
                    .collect();
                (backup.manifest().clone(), copies)
            });
            known.collect()
        };
        assert_eq!(known(&read), known(&again));
        store.remove(&first.name()).unwrap();
        read.forget("far", std::slice::from_ref(&first.chain));
        assert_eq!(known(&read), known(&again), "another destination's");
        read.forget("local", std::slice::from_ref(&first.chain));
        let again = Destinations::read("prod".parse().unwrap(), &opened, None);
        assert_eq!(known(&read), known(&again));
        assert!(read.catalog.incomplete().is_empty() && read.catalog.damaged().is_empty());
    }
}
