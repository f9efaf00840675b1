//! What follows a full backup in its chain, brought along as it is: deltas, packs, marks, gaps and epochs.
//!
//! Each is held to its own header on the way: of a delta or a pack that is not what was stored nothing is left there. They are
//! written in the order of their revisions, so that a copy that is cut off holds the beginning of the chain without a hole. What
//! both have in other objects, packed in one of them, is not brought.
//!
//! Invariant: what the chain had when it was listed last is all there, or it is not called done.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use sha2::{Digest as _, Sha256};

use super::{Error, Job, goes_on, put};
use crate::catalog::{Link, lacking};
use crate::layout::delta::Head;
use crate::layout::{Listed, ListedObject, MAX_BYTES, ObjectName, Stream};
use crate::model::Digest;
use crate::source::delta::head_bytes;
use crate::store::{self, Object};

/// So often it is looked again what there is, where objects were packed meanwhile.
const LOOKS: usize = 8;

/// What became of one object.
enum One {
    /// It was written.
    Written,
    /// Another host has brought it.
    WasThere,
    /// It is gone from where it is copied: packed, overtaken by a later mark, or removed with its chain.
    Gone,
}

/// Brings what the chain has there and lacks here. How many objects were written.
pub(super) fn bring(job: &Job<'_>, each: &(dyn Fn(u64) + Sync)) -> Result<u64, Error> {
    let mut there = names_there(job)?;
    if there.is_empty() {
        return Ok(0);
    }
    let mut here = names(job.to.list_whole_chain(&job.manifest.chain_path())?);
    let mut written = 0;
    for _ in 0..LOOKS {
        let mut is_any_gone = false;
        for name in lacking(&there, &here) {
            match one(job, name, each)? {
                One::Gone => {
                    is_any_gone = true;
                    continue;
                }
                One::Written => written += 1,
                One::WasThere => {}
            }
            here.insert(name.clone());
        }
        if !is_any_gone {
            return Ok(written);
        }
        // What holds its changes now was listed later, or the whole chain has gone.
        there = names_there(job)?;
    }
    let id = job.manifest.chain.clone();
    Err(Error::Overtaken { id })
}

fn names(listed: Vec<ListedObject>) -> BTreeSet<ObjectName> {
    Link::listed(listed).into_iter().map(|link| link.name).collect()
}

/// What follows the backup where it is copied from, as long as it is there itself: of a chain that is being removed nobody knows
/// what it had.
fn names_there(job: &Job<'_>) -> Result<BTreeSet<ObjectName>, Error> {
    let listed = job.from.list_whole_chain(&job.manifest.chain_path())?;
    let manifest = job.manifest.name();
    if !listed
        .iter()
        .any(|object| object.name == Listed::Ours(manifest.clone()))
    {
        // It is asked for by its name: a listing may be behind.
        match job.from.read_small(&manifest, MAX_BYTES as u64) {
            Ok(_) => {}
            Err(store::Error::NotFound { .. }) => {
                let (at, id) = (job.from.address_of(&manifest), job.manifest.chain.clone());
                return Err(Error::SourceGone { at, id });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(names(listed))
}

/// Brings one object.
fn one(job: &Job<'_>, name: &ObjectName, each: &(dyn Fn(u64) + Sync)) -> Result<One, Error> {
    let is_document = matches!(name, ObjectName::Epoch(..) | ObjectName::Gap(..));
    if is_document {
        return match job.from.read_small(name, MAX_BYTES as u64) {
            Ok(document) => Ok(match put(job.to, name, &document)? {
                true => One::Written,
                false => One::WasThere,
            }),
            Err(store::Error::NotFound { .. }) => Ok(One::Gone),
            Err(error) => Err(error.into()),
        };
    }
    let object = match job.from.open_object(name) {
        Ok((object, _)) => object,
        Err(store::Error::NotFound { .. }) => return Ok(One::Gone),
        Err(error) => return Err(error.into()),
    };
    let source = Held::new(object, name.clone());
    match job.to.write_stream(name, source, |bytes| goes_on(job, each, bytes)) {
        Ok(None) => return Err(Error::Stopped),
        Ok(Some(written)) if job.to.reads_back() => {
            let read = job.to.read_back_while(name, |bytes| goes_on(job, each, bytes))?;
            match read {
                None => return Err(Error::Stopped),
                Some(read) if read == written => {}
                Some(_) => {
                    job.to.remove(name).ok();
                    let at = job.to.address_of(name);
                    return Err(store::Error::Altered { at }.into());
                }
            }
        }
        Ok(Some(_)) => {}
        Err(store::Error::AlreadyExists { .. }) => return Ok(One::WasThere),
        // It may have gone while it was read.
        Err(error) => {
            return match job.from.open_object(name) {
                Err(store::Error::NotFound { .. }) => Ok(One::Gone),
                Ok(_) | Err(_) => Err(error.into()),
            };
        }
    }
    job.to.lock(name)?;
    Ok(One::Written)
}

/// An object that ends with an error where it is not what its own header says.
struct Held {
    from: BufReader<Object>,
    name: ObjectName,
    /// The head while it is given out, and how much of it was.
    head: Option<(Vec<u8>, usize)>,
    recorded: Option<Stream>,
    hasher: Sha256,
    bytes: u64,
}

impl Held {
    fn new(object: Object, name: ObjectName) -> Held {
        Held {
            from: BufReader::with_capacity(256 << 10, object),
            name,
            head: None,
            recorded: None,
            hasher: Sha256::new(),
            bytes: 0,
        }
    }

    fn wrong(&self, what: &str) -> io::Error {
        io::Error::other(format!("`{}` is not what its header says: {what}", self.name))
    }

    /// Reads the head, and what it says of the body.
    fn begin(&mut self) -> io::Result<()> {
        let head = head_bytes(&mut self.from)?;
        let read = Head::read(&self.name, &head).map_err(|fault| self.wrong(&fault.to_string()))?;
        self.recorded = read.header.stored;
        self.head = Some((head, 0));
        Ok(())
    }
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.head.is_none() {
            self.begin()?;
        }
        if let Some((head, given)) = &mut self.head {
            let mut left = head.get(*given..).unwrap_or_default();
            let read = left.read(buffer)?;
            *given += read;
            if read > 0 {
                return Ok(read);
            }
        }
        let read = self.from.read(buffer)?;
        if read > 0 {
            self.hasher.update(buffer.get(..read).unwrap_or_default());
            self.bytes += read as u64;
            return Ok(read);
        }
        let found = Digest(self.hasher.clone().finalize().into());
        match self.recorded {
            None if self.bytes == 0 => Ok(0),
            Some(recorded) if (recorded.bytes, recorded.sha256) == (self.bytes, found) => Ok(0),
            Some(_) | None => Err(self.wrong("its body is damaged")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::copy::{Copied, copy};
    use crate::layout::Manifest;
    use crate::layout::manifest::tests::manifest;
    use crate::source::test_objects::{Maker, put as put_all};
    use crate::store::Store;
    use crate::store::tests::store;

    fn backup(content: &[u8]) -> Manifest {
        let mut backup = manifest(0xab, "20261120T101530Z-00000001", 10);
        backup.stored.bytes = content.len() as u64;
        backup.stored.sha256 = Digest(Sha256::digest(content).into());
        backup
    }

    fn run(backup: &Manifest, from: &Store, to: &Store) -> Result<Copied, Error> {
        let job = Job {
            manifest: backup,
            document: &backup.to_bytes(),
            from,
            to,
            family: &[],
            host: &"node-1".parse().unwrap(),
            stop: Arc::default(),
        };
        copy(&job, &|_| {})
    }

    #[test]
    fn what_follows_a_backup_comes_along_byte_by_byte_and_later_what_came_since() {
        let ((_a, from), (_b, to), maker) = (store(), store(), Maker::new());
        let backup = backup(&[7; 1000]);
        from.put_new(&backup.object_name(), &[7; 1000]).unwrap();
        from.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        let deltas = [maker.delta(11, 20, 1), maker.delta(21, 30, 1)];
        put_all(&from, [&maker.pack(&deltas), &maker.mark(30, 5)]);
        let epoch = ObjectName::Epoch(backup.chain_path(), crate::layout::Epoch(1));
        from.put_new(&epoch, b"{}").unwrap();
        assert_eq!(run(&backup, &from, &to).unwrap(), Copied::Now);
        put_all(&from, &deltas);
        put_all(&from, [&maker.delta(31, 40, 1)]);
        assert_eq!(run(&backup, &from, &to).unwrap(), Copied::Rest);
        assert_eq!(run(&backup, &from, &to).unwrap(), Copied::HadIt);
        let contents = |store: &Store| -> Vec<_> {
            let listed = store.list_chain(&backup.chain_path()).unwrap().into_iter();
            let named = listed.filter_map(|object| match object.name {
                Listed::Ours(name) => Some((std::fs::read(store.path_of(&name)).unwrap(), name)),
                _ => None,
            });
            let mut all: Vec<_> = named.collect();
            all.sort();
            all
        };
        assert_eq!(contents(&from).len(), 8);
        // Two deltas are there in their pack.
        let lacking: BTreeSet<_> = deltas.iter().map(|(name, _)| name).collect();
        let mut expected = contents(&from);
        expected.retain(|(_, name)| !lacking.contains(name));
        assert!(contents(&to) == expected);
    }

    /// Copies; `act` is done when the first bytes have come, once.
    fn run_while(backup: &Manifest, from: &Store, to: &Store, act: impl Fn() + Sync) -> Result<Copied, Error> {
        let is_done = std::sync::atomic::AtomicBool::new(false);
        let job = Job {
            manifest: backup,
            document: &backup.to_bytes(),
            from,
            to,
            family: &[],
            host: &"node-1".parse().unwrap(),
            stop: Arc::default(),
        };
        copy(&job, &|bytes| {
            if bytes > 0 && !is_done.swap(true, std::sync::atomic::Ordering::Relaxed) {
                act();
            }
        })
    }

    /// A backup that is in both already, and its deltas in one: what comes next is of the links.
    fn in_both_with_deltas(from: &Store, to: &Store, deltas: &[(ObjectName, Vec<u8>)]) -> Manifest {
        let backup = backup(&[7; 1000]);
        for store in [from, to] {
            store.put_new(&backup.object_name(), &[7; 1000]).unwrap();
            store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        }
        put_all(from, deltas);
        backup
    }

    fn window_of(store: &Store, backup: &Manifest) -> i64 {
        let links = Link::listed(store.list_chain(&backup.chain_path()).unwrap());
        let links = links.iter().map(|link| ("", link));
        crate::catalog::Following::of_links(backup.to_revision, links)
            .window()
            .to
            .get()
    }

    #[test]
    fn what_is_packed_while_it_is_copied_is_brought_as_the_pack() {
        let ((_a, from), (_b, to), maker) = (store(), store(), Maker::new());
        let deltas = [maker.delta(11, 20, 1), maker.delta(21, 30, 1), maker.delta(31, 40, 1)];
        let backup = in_both_with_deltas(&from, &to, &deltas);
        let done = run_while(&backup, &from, &to, || {
            put_all(&from, [&maker.pack(&deltas)]);
            for (name, _) in &deltas {
                from.remove(name).unwrap();
            }
        });
        assert_eq!(done.unwrap(), Copied::Rest);
        assert_eq!(window_of(&to, &backup), 40);
    }

    #[test]
    fn a_chain_that_is_removed_while_it_is_copied_is_not_called_copied() {
        let ((_a, from), (_b, to), maker) = (store(), store(), Maker::new());
        let deltas = [maker.delta(11, 20, 1), maker.delta(21, 30, 1), maker.delta(31, 40, 1)];
        let backup = in_both_with_deltas(&from, &to, &deltas);
        let remove = || {
            from.remove(&backup.name()).unwrap();
            for (name, _) in &deltas {
                from.remove(name).unwrap();
            }
            from.remove(&backup.object_name()).unwrap();
        };
        let gone = run_while(&backup, &from, &to, remove);
        assert!(matches!(gone, Err(Error::SourceGone { .. })), "{gone:?}");
        // And where it was gone before its links were listed.
        let gone = run(&backup, &from, &to);
        assert!(matches!(gone, Err(Error::SourceGone { .. })), "{gone:?}");
    }

    #[test]
    fn a_delta_that_is_damaged_is_not_copied() {
        let ((_a, from), (_b, to), maker) = (store(), store(), Maker::new());
        let backup = backup(&[7; 1000]);
        from.put_new(&backup.object_name(), &[7; 1000]).unwrap();
        from.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        let (name, mut bytes) = maker.delta(11, 20, 1);
        *bytes.last_mut().unwrap() ^= 1;
        from.put_new(&name, &bytes).unwrap();
        let error = run(&backup, &from, &to).unwrap_err();
        assert!(
            crate::error_chain::with_causes(&error).contains("its body is damaged"),
            "{error}"
        );
        let names = to.list_chain(&backup.chain_path()).unwrap();
        assert!(
            names.iter().all(|object| object.name != Listed::Ours(name.clone())),
            "{names:?}"
        );
    }
}
