//! The use case of a copy: a backup that one destination has is brought to another, as it is. No key is needed.
//!
//! The object first, compared with the digest in the manifest on its way and read back from the disk; then the pin, if the
//! source has one, or the same snapshot has one there; then the manifest, byte by byte as it was. Killed in between, it
//! leaves an object without a manifest, which the next copy takes as it is if its bytes are right: by reading them or, where
//! nothing is read back, by what the store tells of them.
//!
//! Such an object may be removed meanwhile, by a sweep of another host. So it is looked for once more after the manifest,
//! which goes again if the object has gone.
//!
//! Invariant: the copy exists, as every backup, when its manifest does, and no sooner than its bytes are proven.
//!
//! What follows the full backup in its chain comes behind its manifest, object by object as it is; what a chain has got since
//! it was copied, the next copy brings.
//!
//! Invariant: nothing is removed but what this copy has written.

mod links;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::layout::{ChainPath, Check, HostName, Listed, ListedObject, MAX_BYTES, Manifest, ObjectName, Pin};
use crate::model::{ByteSize, ChainId};
use crate::store::{self, ReadBack, Store, Transfer};

/// What to copy, and where to.
pub struct Job<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// Its bytes, as they are stored.
    pub document: &'a [u8],
    /// A store that has it.
    pub from: &'a Store,
    /// The store that is to have it.
    pub to: &'a Store,
    /// The chains of the same snapshot that it is to take the place of: where one of them is pinned there, the copy is.
    pub family: &'a [ChainPath],
    /// Who copies.
    pub host: &'a HostName,
    /// Raised when it is to stop.
    pub stop: Arc<AtomicBool>,
}

/// What a copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// It was copied.
    Now,
    /// It was there already, and what has come to its chain since was brought.
    Rest,
    /// It was there already, with all that follows it.
    HadIt,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The bytes that were to be copied are not those of the backup.
    #[error("`{at}` does not match its manifest: `lifeboat verify {id}` tells which copy is good")]
    SourceDamaged {
        /// The object that was to be copied.
        at: String,
        /// The backup.
        id: ChainId,
    },
    /// Its manifest is there, and its object is not, or not all of it.
    #[error("its copy there is bad: `lifeboat prune --damaged {id}`, then copy again")]
    BadThere {
        /// The backup.
        id: ChainId,
    },
    /// The object that was written is not there any more.
    #[error("`{at}` was removed while it was copied: copy it again")]
    Lost {
        /// The object.
        at: String,
    },
    /// The chain is not there any more where it was copied from, and was not brought whole before.
    #[error(
        "`{at}` has gone while {id} was copied, and not all that followed it was brought: copy it from another destination, if one has it"
    )]
    SourceGone {
        /// Its manifest.
        at: String,
        /// The backup.
        id: ChainId,
    },
    /// What follows it was packed each time it was to be copied.
    #[error("what follows {id} has gone, again and again, before it was copied: copy it again")]
    Overtaken {
        /// The backup.
        id: ChainId,
    },
    /// Something else has its name there.
    #[error(
        "`{object}` is there already, and is not known to be this backup's: look at it, and remove it if nobody needs it"
    )]
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

/// Brings the backup there, and what follows it in its chain. `each` hears every so often how many bytes more were written or read back, which may be none.
pub fn copy(job: &Job<'_>, each: &(dyn Fn(u64) + Sync)) -> Result<Copied, Error> {
    let copied = copy_full(job, each)?;
    match (copied, links::bring(job, each)?) {
        (Copied::HadIt, 1..) => Ok(Copied::Rest),
        (copied, _) => Ok(copied),
    }
}

fn copy_full(job: &Job<'_>, each: &(dyn Fn(u64) + Sync)) -> Result<Copied, Error> {
    let (name, object) = (job.manifest.name(), job.manifest.object_name());
    match job.to.read_small(&name, MAX_BYTES as u64) {
        Ok(there) if there == job.document => {
            let id = job.manifest.chain.clone();
            if !is_whole(job)? {
                return Err(Error::BadThere { id });
            }
            job.to.lock_if_it_is_not(&object)?;
            job.to.lock_if_it_is_not(&name)?;
            return Ok(Copied::HadIt);
        }
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
    // Where nothing is read back, it is written anew: what is there already is known by the store's own checksum then.
    let there = match job.to.reads_back() {
        true => read_back(job, each)?,
        false => None,
    };
    match there {
        Some(there) if there == expected => {}
        // It has no manifest, and its name is that of this backup alone.
        Some(_) => {
            let object = object.to_string();
            return Err(Error::Taken { object });
        }
        None => bring(job, expected, each)?,
    }
    let has_put_pin = put_pin(job)?;
    let check = match job.to.reads_back() {
        true => None,
        false => put_check(job)?,
    };
    job.to.lock(&object)?;
    let has_put = put(job.to, &name, job.document)?;
    if is_whole(job)? {
        return Ok(Copied::Now);
    }
    if has_put {
        job.to.remove(&name)?;
    }
    if has_put_pin {
        // Should it stay, it is swept as a leaving.
        job.to.remove(&ObjectName::Pin(job.manifest.chain_path())).ok();
    }
    if let Some(check) = check {
        job.to.remove(&check).ok();
    }
    let at = job.to.address_of(&object);
    Err(Error::Lost { at })
}

/// Pins the copy if the source is pinned, or what it takes the place of: before it has its manifest, so that no moment is left
/// for retention to find it without, and no sooner, as one that never comes leaves no pin. Whether this has written the source's.
fn put_pin(job: &Job<'_>) -> Result<bool, store::Error> {
    let path = job.manifest.chain_path();
    let pin = ObjectName::Pin(path.clone());
    let has_put = match job.from.read_small(&pin, MAX_BYTES as u64) {
        Ok(_) if !job.from.counts(&pin)? => false, // a stranger's
        Ok(words) => put(job.to, &pin, &words)?,
        Err(store::Error::NotFound { .. }) => false,
        Err(error) => return Err(error),
    };
    if !has_put {
        let otherwise = Pin::new(job.manifest.finished_at, job.host, None);
        hand_pin_on(job.to, job.family, &path, &otherwise)?;
    }
    Ok(has_put)
}

/// Pins `to` where one of the `family` is pinned. To be called before `to` has its manifest, as it leads the family from then
/// on: no moment is left for retention to find it without. `otherwise` are the words where the pin cannot be read.
pub fn hand_pin_on(store: &Store, family: &[ChainPath], to: &ChainPath, otherwise: &Pin) -> Result<(), store::Error> {
    for chain in family.iter().filter(|chain| *chain != to) {
        if !store.is_pinned(chain)? {
            continue;
        }
        let words: Option<Pin> = match store.read_small(&ObjectName::Pin(chain.clone()), MAX_BYTES as u64) {
            Ok(words) => serde_json::from_slice(&words).ok(),
            // It counts though it cannot be read.
            Err(store::Error::Unfit { .. }) => None,
            Err(store::Error::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        return store.pin(to, words.as_ref().unwrap_or(otherwise));
    }
    Ok(())
}

/// Says that the copy is not read back: before it has its manifest, so that nobody takes it for read back. What this has
/// written.
fn put_check(job: &Job<'_>) -> Result<Option<ObjectName>, store::Error> {
    let check = Check::acknowledged(job.manifest, job.host);
    let name = ObjectName::Check(job.manifest.chain_path(), check.checked_at, job.host.clone());
    // A document of this host's own, and no copy: signed by it.
    Ok(is_new(job.to.put_document(&name, &check.to_bytes()))?.then_some(name))
}

/// Writes a document as it was; not if another host did the same.
fn put(store: &Store, name: &ObjectName, bytes: &[u8]) -> Result<bool, store::Error> {
    is_new(store.put_new(name, bytes))
}

fn is_new(put: Result<(), store::Error>) -> Result<bool, store::Error> {
    match put {
        Ok(()) => Ok(true),
        Err(store::Error::AlreadyExists { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the object is there, as far as its size tells. It is asked for by its name: a listing may be behind.
fn is_whole(job: &Job<'_>) -> Result<bool, store::Error> {
    let object = job.manifest.object_name();
    if !job.to.reads_back() {
        // Who reads nothing back may not be let at it.
        let listed = job.to.list_chain(&job.manifest.chain_path())?;
        let is_it = |listed: &ListedObject| listed.name == Listed::Ours(object.clone());
        return Ok(listed
            .iter()
            .any(|listed| is_it(listed) && listed.bytes == job.manifest.stored.bytes));
    }
    match job.to.open_object(&object) {
        Ok((_, bytes)) => Ok(bytes == job.manifest.stored.bytes),
        Err(store::Error::NotFound { .. } | store::Error::Unfit { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes the object and reads it back.
fn bring(job: &Job<'_>, expected: ReadBack, each: &(dyn Fn(u64) + Sync)) -> Result<(), Error> {
    let object = job.manifest.object_name();
    let needed = expected.bytes;
    if let Some(space) = job.to.free_space()?
        && space.available < needed.saturating_add(space.spare())
    {
        return Err(Error::TooLittleSpace {
            needed: ByteSize(needed),
            free: ByteSize(space.available),
        });
    }
    let (reader, _) = job.from.open_object(&object)?;
    let is_own = match job
        .to
        .write_from(&object, reader, expected, |bytes| goes_on(job, each, bytes))
    {
        Ok(Transfer::Done) => true,
        Ok(Transfer::Differs) => {
            let (at, id) = (job.from.address_of(&object), job.manifest.chain.clone());
            return Err(Error::SourceDamaged { at, id });
        }
        Ok(Transfer::Stopped) => return Err(Error::Stopped),
        Err(store::Error::AlreadyExists { .. }) => false, // another host did the same, which is read back
        Err(error) => return Err(error.into()),
    };
    let at = job.to.address_of(&object);
    if !job.to.reads_back() {
        // Its checksum has been compared; of what was there already it has not.
        return match is_own {
            true => Ok(()),
            false => Err(Error::Taken {
                object: object.to_string(),
            }),
        };
    }
    match read_back(job, each)? {
        Some(there) if there == expected => Ok(()),
        None => Err(Error::Lost { at }),
        Some(_) if is_own => {
            // Should it stay, it has no manifest, and is swept as a leaving.
            job.to.remove(&object).ok();
            Err(store::Error::Altered { at }.into())
        }
        Some(_) => {
            let object = object.to_string();
            Err(Error::Taken { object })
        }
    }
}

/// Tells of more bytes, and asks whether to go on.
fn goes_on(job: &Job<'_>, each: &(dyn Fn(u64) + Sync), bytes: u64) -> ControlFlow<()> {
    each(bytes);
    match job.stop.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// What is there under the object's name; none if nothing is.
fn read_back(job: &Job<'_>, each: &(dyn Fn(u64) + Sync)) -> Result<Option<ReadBack>, Error> {
    let object = job.manifest.object_name();
    match job.to.read_back_while(&object, |bytes| goes_on(job, each, bytes)) {
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

    fn run(backup: &Manifest, from: &Store, to: &Store) -> Result<Copied, Error> {
        attempt(backup, from, to, false, &|_| {})
    }

    /// Copies; `each` hears how far it is.
    fn attempt(
        backup: &Manifest,
        from: &Store,
        to: &Store,
        is_stopped: bool,
        each: &(dyn Fn(u64) + Sync),
    ) -> Result<Copied, Error> {
        let job = Job {
            manifest: backup,
            document: &backup.to_bytes(),
            from,
            to,
            family: &[],
            host: &"node-1".parse().unwrap(),
            stop: Arc::new(AtomicBool::new(is_stopped)),
        };
        copy(&job, each)
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
        let names = |store: &Store| -> Vec<_> {
            let listed = store.list().unwrap().into_iter();
            listed.map(|object| (object.name, object.bytes)).collect()
        };
        let of_backup = |store: &Store| names(store).len();
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
        let stopped = attempt(&backup, &from, &to, true, &|_| {});
        assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
        assert_eq!(to.list().unwrap().len(), 1, "its marker alone");
    }

    #[test]
    fn a_copy_that_is_cut_or_lost_is_not_called_there_already() {
        let ((_a, from), (_b, to)) = (store(), store());
        let backup = backup(&[7; 1000]);
        from.put_new(&backup.object_name(), &[7; 1000]).unwrap();
        to.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        let refused = run(&backup, &from, &to).unwrap_err();
        assert!(matches!(refused, Error::BadThere { .. }), "{refused}");
        to.put_new(&backup.object_name(), &[7; 999]).unwrap();
        assert!(matches!(run(&backup, &from, &to), Err(Error::BadThere { .. })));
    }

    #[test]
    fn a_pin_goes_with_the_backup() {
        let ((_a, from), (_b, to)) = (store(), store());
        let backup = backup(&[7; 1000]);
        let pin = ObjectName::Pin(backup.chain_path());
        from.put_new(&backup.object_name(), &[7; 1000]).unwrap();
        from.put_new(&pin, b"words").unwrap();
        from.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        assert_eq!(run(&backup, &from, &to).unwrap(), Copied::Now);
        assert_eq!(to.read_small(&pin, 10).unwrap(), b"words");
        assert!(to.catalog("b").unwrap().backups()[0].is_pinned());
    }

    /// Does something to the store when the object has been read back, before its manifest is written.
    fn run_while(backup: &Manifest, from: &Store, to: &Store, act: impl Fn() + Sync) -> Result<Copied, Error> {
        let read = std::sync::atomic::AtomicU64::new(0);
        let twice = 2 * backup.stored.bytes;
        attempt(backup, from, to, false, &|bytes| {
            if read.fetch_add(bytes, Ordering::Relaxed) + bytes == twice {
                act();
            }
        })
    }

    #[test]
    fn a_manifest_whose_object_was_swept_meanwhile_is_taken_back_with_its_pin() {
        let ((_a, from), (_b, to)) = (store(), store());
        let backup = backup(&[7; 1000]);
        from.put_new(&backup.object_name(), &[7; 1000]).unwrap();
        from.put_new(&ObjectName::Pin(backup.chain_path()), b"words").unwrap();
        from.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        let dead = store::Begun {
            dead: [backup.chain.clone()].into(),
            ..store::Begun::default()
        };
        let lost = run_while(&backup, &from, &to, || assert_eq!(to.sweep(&dead).unwrap().len(), 1));
        assert!(matches!(lost, Err(Error::Lost { .. })), "{lost:?}");
        assert_eq!(to.list().unwrap().len(), 1, "its marker alone");
        assert_eq!(run(&backup, &from, &to).unwrap(), Copied::Now);
    }

    #[test]
    fn an_object_that_another_has_written_is_not_removed() {
        let ((_a, from), (_b, to)) = (store(), store());
        let backup = backup(&[7; 1000]);
        from.put_new(&backup.object_name(), &[7; 1000]).unwrap();
        // While it is written: what is told first is of the writing.
        let told = AtomicBool::new(false);
        let taken = attempt(&backup, &from, &to, false, &|_| {
            if !told.swap(true, Ordering::Relaxed) {
                to.put_new(&backup.object_name(), &[9; 10]).unwrap();
            }
        });
        assert!(matches!(taken, Err(Error::Taken { .. })), "{taken:?}");
        assert_eq!(to.read_small(&backup.object_name(), 10).unwrap(), [9; 10]);
    }
}
