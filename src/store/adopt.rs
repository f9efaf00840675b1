//! A store that has lost its `store.json` gets one again, because the operator says that it is the right one.
//!
//! Invariant: nothing but the marker is written, and only where there is none and all that lies there can be read.

use jiff::Timestamp;

use super::backend::Cache;
use super::location::Location;
use super::marker::{Marker, StoreId};
use super::over_backend::Inner;
use super::{Error, Known};
use crate::error_chain::with_causes;
use crate::layout::{Fault, Listed, ObjectName};
use crate::model::ClusterName;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Which store it is now.
    pub id: StoreId,
    /// Whether it had its marker already: nothing was written.
    pub had_it: bool,
    /// How many backups are in it.
    pub backups: usize,
}

impl Inner {
    /// Writes the marker of the store of `cluster` at a destination, with the id by which this host knows it; a new one
    /// where it knows none. Other hosts that share it go by that id too. `sign` hears of each thing that was looked at.
    pub(super) fn adopt(
        location: &Location,
        cluster: &ClusterName,
        known: Option<&Known>,
        now: Timestamp,
        sign: &(dyn Fn() + Sync),
    ) -> Result<Adopted, Error> {
        let store = Inner::unmarked(location, cluster)?;
        let at = store.backend().address("");
        let refused = |why: String| Error::NotAdopted { at: at.clone(), why };
        let objects = match store.list(sign) {
            Err(Error::NotFound { .. }) => return Err(refused("there is nothing in it".to_owned())),
            listed => listed?,
        };
        let with = |marker: Marker, had_it, backups| match known {
            Some(known) if known.id != marker.store_id => Err(Error::WrongStore {
                at: at.clone(),
                known: known.clone(),
                found: marker.store_id,
            }),
            Some(_) | None => Ok(Adopted {
                id: marker.store_id,
                had_it,
                backups,
            }),
        };
        if let Some(marker) = store.marker()? {
            let backups = store.catalog_of("it", &objects, sign).backups().len();
            return with(marker, true, backups);
        }
        for object in &objects {
            sign();
            match &object.name {
                Listed::Ours(name) => {
                    let opened = store.backend().open(name, Cache::Kept);
                    drop(opened.map_err(|error| refused(with_causes(&error)))?);
                }
                Listed::Unreadable { path, why } => {
                    let path = store.backend().address(path);
                    return Err(refused(format!("`{path}` cannot be looked into: {why}")));
                }
                Listed::Partial { .. } | Listed::EmptyFolder { .. } | Listed::Foreign(_) => {}
            }
        }
        let catalog = store.catalog_of("it", &objects, sign);
        // One that is damaged is told by every command; one that was not read may be anything.
        let mut damaged = catalog.damaged().iter();
        if let Some(unread) = damaged.find(|damaged| matches!(damaged.fault, Fault::Unreadable { .. })) {
            return Err(refused(format!("{unread}: {}", unread.fault)));
        }
        let backups = catalog.backups().len();
        if backups == 0 {
            return Err(refused("there is no backup in it".to_owned()));
        }
        let name = ObjectName::StoreMarker;
        let marker = match known {
            Some(known) => Marker::of(known.id.clone(), now),
            None => Marker::new(&store.address_of(&name), now)?,
        };
        match store.backend().put_new(&name, &marker.to_bytes()) {
            // Where two do that at once and the backend cannot tell, the one that is read afterwards counts.
            Ok(()) => with(store.marker()?.unwrap_or(marker), false, backups),
            // Another host was faster: what it has written is looked at.
            Err(Error::AlreadyExists { .. }) => Inner::adopt(location, cluster, known, now, sign),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::catalog::tests::manifest;
    use crate::store::{Access, Store};

    fn cluster() -> ClusterName {
        "prod".parse().unwrap()
    }

    fn known(id: &StoreId) -> Known {
        Known {
            id: id.clone(),
            record: "/state/stores/local.json".into(),
        }
    }

    /// A store with a backup that has lost its marker, and the id that it had.
    fn lost() -> (tempfile::TempDir, StoreId) {
        let root = tempfile::tempdir().unwrap();
        let access = Access::Write {
            now: Timestamp::UNIX_EPOCH,
        };
        let store = Store::open(&root.path().into(), &cluster(), None, access).unwrap();
        let id = store.id().unwrap().clone();
        let backup = manifest(0xab, "20261120T101530Z-00000001", 10);
        let object = vec![0; usize::try_from(backup.stored.bytes).unwrap()];
        store.put_new(&backup.object_name(), &object).unwrap();
        store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        store.remove(&ObjectName::StoreMarker).unwrap();
        (root, id)
    }

    fn adopt(root: &Path, known: Option<&Known>) -> Result<Adopted, Error> {
        Store::adopt(&root.into(), &cluster(), known, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_store_gets_back_the_id_by_which_it_is_known_and_once() {
        let (root, id) = lost();
        let known = known(&id);
        let open = |access| Store::open(&root.path().into(), &cluster(), Some(&known), access).map(drop);
        let write = Access::Write {
            now: Timestamp::UNIX_EPOCH,
        };
        assert!(matches!(open(write), Err(Error::MarkerMissing { .. })));
        let adopted = |had_it| Adopted {
            id: id.clone(),
            had_it,
            backups: 1,
        };
        assert_eq!(adopt(root.path(), Some(&known)).unwrap(), adopted(false));
        open(write).unwrap();
        assert_eq!(adopt(root.path(), Some(&known)).unwrap(), adopted(true));
        // By a host that has forgotten it.
        assert_eq!(adopt(root.path(), None).unwrap(), adopted(true));
    }

    #[test]
    fn a_store_that_nobody_knows_gets_a_new_id() {
        let (root, id) = lost();
        let new = adopt(root.path(), None).unwrap();
        assert!(!new.had_it && new.id != id);
        // That of another store than the one that is known.
        let refused = adopt(root.path(), Some(&known(&id))).unwrap_err();
        assert!(matches!(refused, Error::WrongStore { .. }), "{refused}");
    }

    #[test]
    fn what_holds_no_backup_or_cannot_be_read_is_not_adopted() {
        let refuses = |root: &Path, why: &str| {
            let refused = adopt(root, None).unwrap_err();
            assert!(matches!(refused, Error::NotAdopted { .. }), "{refused}");
            assert!(refused.to_string().contains(why), "{refused}");
            assert!(!root.join("prod/store.json").exists());
        };
        let empty = tempfile::tempdir().unwrap();
        refuses(empty.path(), "nothing in it");
        fs::create_dir(empty.path().join("prod")).unwrap();
        refuses(empty.path(), "no backup in it");
        let nowhere = empty.path().join("nowhere");
        assert!(matches!(adopt(&nowhere, None), Err(Error::RootMissing { .. })));
        let (root, _) = lost();
        fs::write(root.path().join("prod/store.json"), "{").unwrap();
        assert!(matches!(adopt(root.path(), None), Err(Error::MarkerDamaged { .. })));
        // For root no mode closes anything.
        let (root, _) = lost();
        let backup = manifest(0xab, "20261120T101530Z-00000001", 10);
        let chain = root.path().join("prod").join(backup.chain_path().to_string());
        fs::set_permissions(&chain, fs::Permissions::from_mode(0o000)).unwrap();
        if !nix::unistd::geteuid().is_root() {
            refuses(root.path(), "cannot be looked into");
        }
        fs::set_permissions(&chain, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
