//! What follows a full backup in its chain, brought along as it is: deltas, packs, marks, gaps and epochs.
//!
//! Each is held to its own header on the way: of a delta or a pack that is not what was stored nothing is left there. They are
//! written in the order of their names, so that a copy that is cut off holds the beginning of the chain without a hole.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use sha2::{Digest as _, Sha256};

use super::{Error, Job, goes_on, put};
use crate::catalog::Link;
use crate::layout::delta::Head;
use crate::layout::{MAX_BYTES, ObjectName, Stream};
use crate::model::Digest;
use crate::source::delta::head_bytes;
use crate::store::{self, Object};

/// Brings what the chain has there and lacks here. How many objects were written.
pub(super) fn bring(job: &Job<'_>, each: &(dyn Fn(u64) + Sync)) -> Result<u64, Error> {
    let chain = job.manifest.chain_path();
    let names = |store: &store::Store| -> Result<BTreeSet<ObjectName>, store::Error> {
        let links = Link::listed(store.list_chain(&chain)?).into_iter();
        Ok(links.map(|link| link.name).collect())
    };
    let there = names(job.from)?;
    if there.is_empty() {
        return Ok(0);
    }
    let here = names(job.to)?;
    let mut lacking: Vec<&ObjectName> = there.difference(&here).collect();
    lacking.sort_by_key(|name| name.to_string());
    let mut written = 0;
    for name in lacking {
        written += u64::from(one(job, name, each)?);
    }
    Ok(written)
}

/// Brings one object; not where it is gone meanwhile, or another host has brought it.
fn one(job: &Job<'_>, name: &ObjectName, each: &(dyn Fn(u64) + Sync)) -> Result<bool, Error> {
    let is_document = matches!(name, ObjectName::Epoch(..) | ObjectName::Gap(..));
    if is_document {
        return match job.from.read_small(name, MAX_BYTES as u64) {
            Ok(document) => Ok(put(job.to, name, &document)?),
            Err(store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        };
    }
    let object = match job.from.open_object(name) {
        Ok((object, _)) => object,
        Err(store::Error::NotFound { .. }) => return Ok(false),
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
        Err(store::Error::AlreadyExists { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    job.to.lock(name)?;
    Ok(true)
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
    use crate::layout::manifest::tests::manifest;
    use crate::layout::{Listed, Manifest};
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
        assert!(contents(&from) == contents(&to));
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
