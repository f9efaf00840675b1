//! The use case of a copy: a backup that one destination has is brought to another, as it is. No key is needed.
//!
//! The object first, compared with the digest in the manifest on its way and read back from the disk; then the manifest,
//! byte by byte as it was. Killed in between, it leaves an object without a manifest, which the next copy takes as it is if
//! its bytes are right.
//!
//! Invariant: the copy exists, as every backup, when its manifest does, and no sooner than its bytes are proven.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::layout::{MAX_BYTES, Manifest};
use crate::model::ByteSize;
use crate::store::{self, FileStore, ReadBack};

/// What to copy, and where to.
pub struct Job<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// Its bytes, as they are stored.
    pub document: &'a [u8],
    /// A store that has it.
    pub from: &'a FileStore,
    /// The store that is to have it.
    pub to: &'a FileStore,
    /// Raised when it is to stop.
    pub stop: Arc<AtomicBool>,
}

/// What a copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// It was copied.
    Now,
    /// It was there already.
    HadIt,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The bytes that were to be copied are not those of the backup.
    #[error("`{object}` does not match its manifest: `lifeboat verify` tells which copy is good")]
    SourceDamaged {
        /// The object.
        object: String,
    },
    /// Something else has its name there.
    #[error("`{object}` is there already, with other bytes: look at it, and remove it if nobody needs it")]
    Taken {
        /// What.
        object: String,
    },
    /// There is too little room.
    #[error("needs {needed} and has {free} free: free some, keep fewer backups, or name another destination")]
    TooLittleSpace {
        /// The size of the object.
        needed: ByteSize,
        /// What there is.
        free: ByteSize,
    },
    /// Somebody asked to stop.
    #[error("stopped; the next copy goes on")]
    Stopped,
}

/// Brings the backup there. `each` hears how many bytes were read or written each time.
pub fn copy(job: &Job<'_>, each: &(dyn Fn(u64) + Sync)) -> Result<Copied, Error> {
    let (name, object) = (job.manifest.name(), job.manifest.object_name());
    match job.to.read_small(&name, MAX_BYTES as u64) {
        Ok(there) if there == job.document => return Ok(Copied::HadIt),
        Ok(_) => {
            let object = name.to_string();
            return Err(Error::Taken { object });
        }
        Err(store::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let expected = ReadBack {
        bytes: job.manifest.stored.bytes,
        sha256: job.manifest.stored.sha256,
    };
    match read_back(job, each)? {
        Some(there) if there == expected => {}
        // It has no manifest, and its name is that of this backup alone.
        Some(_) => {
            let object = object.to_string();
            return Err(Error::Taken { object });
        }
        None => bring(job, expected, each)?,
    }
    match job.to.put_new(&name, job.document) {
        // Another host did the same.
        Ok(()) | Err(store::Error::AlreadyExists { .. }) => Ok(Copied::Now),
        Err(error) => Err(error.into()),
    }
}

/// Writes the object and reads it back.
fn bring(job: &Job<'_>, expected: ReadBack, each: &(dyn Fn(u64) + Sync)) -> Result<(), Error> {
    let object = job.manifest.object_name();
    let (space, needed) = (job.to.free_space()?, expected.bytes);
    let free = space.available;
    if free < needed.saturating_add(space.spare()) {
        return Err(Error::TooLittleSpace {
            needed: ByteSize(needed),
            free: ByteSize(free),
        });
    }
    let (reader, _) = job.from.open_object(&object)?;
    let stop = job.stop.clone();
    let written = job
        .to
        .write_from(&object, reader, expected, move |_| match stop.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        });
    match written {
        Ok(true) => {}
        Ok(false) => {
            let object = object.to_string();
            return Err(Error::SourceDamaged { object });
        }
        Err(_) if job.stop.load(Ordering::Relaxed) => return Err(Error::Stopped),
        Err(store::Error::AlreadyExists { .. }) => {} // another host did the same, which is read back
        Err(error) => return Err(error.into()),
    }
    match read_back(job, each)? {
        Some(there) if there == expected => Ok(()),
        Some(_) | None => {
            // Should it stay, it has no manifest, and is swept as a leaving.
            job.to.remove(&object).ok();
            let path = job.to.path_of(&object);
            Err(store::Error::Altered { path }.into())
        }
    }
}

/// What is there under the object's name; none if nothing is.
fn read_back(job: &Job<'_>, each: &(dyn Fn(u64) + Sync)) -> Result<Option<ReadBack>, Error> {
    let read = job.to.read_back_while(&job.manifest.object_name(), |bytes| {
        each(bytes);
        match job.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    match read {
        Ok(Some(read)) => Ok(Some(read)),
        Ok(None) => Err(Error::Stopped),
        Err(store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::catalog::tests::manifest;
    use crate::model::Digest;
    use crate::store::tests::store;

    fn backup(content: &[u8]) -> Manifest {
        let mut backup = manifest(0xab, "20261120T101530Z-00000001", 10);
        backup.stored.bytes = content.len() as u64;
        backup.stored.sha256 = Digest(Sha256::digest(content).into());
        backup
    }

    fn run(backup: &Manifest, from: &FileStore, to: &FileStore) -> Result<Copied, Error> {
        let job = Job {
            manifest: backup,
            document: &backup.to_bytes(),
            from,
            to,
            stop: Arc::default(),
        };
        copy(&job, &|_| {})
    }

    #[test]
    fn a_copy_is_byte_by_byte_the_same_and_made_once() {
        let ((_a, from), (_b, to)) = (store(), store());
        let content = vec![7; (1 << 20) + 1];
        let backup = backup(&content);
        from.put_new(&backup.object_name(), &content).unwrap();
        from.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        assert_eq!(run(&backup, &from, &to).unwrap(), Copied::Now);
        assert_eq!(run(&backup, &from, &to).unwrap(), Copied::HadIt);
        let names = |store: &FileStore| -> Vec<_> {
            let listed = store.list().unwrap().into_iter();
            listed.map(|object| (object.name, object.bytes)).collect()
        };
        let of_backup = |store: &FileStore| names(store).len();
        assert_eq!(of_backup(&from), of_backup(&to));
        assert_eq!(to.catalog("b").unwrap().backups().len(), 1);
        // Cut off before the manifest: what is there is taken as it is, though the source is gone.
        to.remove(&backup.name()).unwrap();
        from.remove(&backup.object_name()).unwrap();
        assert_eq!(run(&backup, &from, &to).unwrap(), Copied::Now);
    }

    #[test]
    fn bytes_that_are_not_those_of_the_backup_are_not_copied() {
        let ((_a, from), (_b, to)) = (store(), store());
        let backup = backup(&[7; 1000]);
        from.put_new(&backup.object_name(), &[8; 1000]).unwrap();
        assert!(matches!(run(&backup, &from, &to), Err(Error::SourceDamaged { .. })));
        assert_eq!(to.list().unwrap().len(), 1, "its marker alone");
        to.put_new(&backup.object_name(), &[9; 10]).unwrap();
        assert!(matches!(run(&backup, &from, &to), Err(Error::Taken { .. })));
    }

    #[test]
    fn a_copy_that_is_stopped_leaves_nothing() {
        let ((_a, from), (_b, to)) = (store(), store());
        let backup = backup(&[7; 1000]);
        from.put_new(&backup.object_name(), &[7; 1000]).unwrap();
        let job = Job {
            manifest: &backup,
            document: &backup.to_bytes(),
            from: &from,
            to: &to,
            stop: Arc::new(AtomicBool::new(true)),
        };
        assert!(matches!(copy(&job, &|_| {}), Err(Error::Stopped)));
        assert_eq!(to.list().unwrap().len(), 1, "its marker alone");
    }
}
