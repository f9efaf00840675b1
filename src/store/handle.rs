//! The handle of a store: every call has a deadline, and whoever calls need not think of it.
//!
//! A file system may hang in any call: a server that is gone, an array that is stalled. Such a call keeps a thread, and the
//! caller gets an error when it has heard nothing for as long as the limit says; until the thread is back, the store is not
//! asked again.
//!
//! Invariant: no call of this handle takes longer than its limit without a sign of life.

mod asking;
mod locking;
mod writing;

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::adopt::Adopted;
use super::backend::{Cache, FreeSpace, Under};
use super::deadline::{Limits, Signs};
use super::location::Location;
use super::marker::StoreId;
use super::object::Object;
use super::over_backend::{Access, Contents, Inner, ReadBack};
use super::throttle::Throttle;
use super::{Begun, Credentials, Enforces, Error, Kept, Known, Swept};
use crate::catalog::{self, Catalog};
use crate::layout::claim::Found;
use crate::layout::{ChainPath, HostName, ListedObject, ObjectName, Pin, SlotPath};
use crate::model::{ByteSize, ChainId, ClusterName, Digest};
use crate::signing::Authority;

pub use asking::asked;
pub use writing::Transfer;

use asking::answer;

/// What a probe sends at the most: a part, and a little of the next.
const MOST_PROBED: u64 = 20 << 20;

/// What a store must sync or read back at the least.
const SLOWEST_DISK_BYTES_PER_SECOND: u64 = 1 << 20;

/// How long a store may take to sync so many bytes, or to read them back, beyond what it may take for one thing.
pub fn time_to_sync(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST_DISK_BYTES_PER_SECOND)
}

/// The store of one cluster name at a destination.
#[derive(Debug, Clone)]
pub struct Store {
    location: Location,
    inner: Inner,
    limits: Limits,
    throttle: Option<Arc<Mutex<Throttle>>>,
}

impl Store {
    /// Opens the store of `cluster` at a destination, where this host remembers store `expected`. A store that is
    /// remembered and not there is `NotMounted`; only `Access::Write` makes a new one.
    pub fn open(
        location: &Location,
        cluster: &ClusterName,
        expected: Option<&Known>,
        access: Access,
    ) -> Result<Store, Error> {
        Store::open_within(location, cluster, expected, access, Limits::default())
    }

    /// The same with other limits, which stay with the store.
    pub fn open_within(
        location: &Location,
        cluster: &ClusterName,
        expected: Option<&Known>,
        access: Access,
        limits: Limits,
    ) -> Result<Store, Error> {
        let (own, cluster, expected) = (location.clone(), cluster.clone(), expected.cloned());
        let open = move |signs: &Signs| Inner::open(&own, &cluster, expected.as_ref(), access, &|| signs.give());
        Ok(Store {
            inner: answer(&location.key(), limits.answer, open)??,
            location: location.clone(),
            limits,
            throttle: None,
        })
    }

    /// The same, written to with no more than so many bytes a second by all of this process.
    pub fn limited_to(self, bandwidth: Option<ByteSize>) -> Store {
        let throttle = bandwidth.map(|rate| Throttle::of(&self.location.key(), rate.0, Instant::now()));
        Store { throttle, ..self }
    }

    /// The same, with documents kept here that were read once.
    pub fn keeping(self, kept: Kept) -> Store {
        Store {
            inner: self.inner.keeping(kept),
            ..self
        }
    }

    /// Whether there is a limit to how fast it is written to.
    pub fn is_limited(&self) -> bool {
        self.throttle.is_some()
    }

    /// The cluster names of which there are stores at a destination, in order. Where none is seen and a folder cannot be
    /// looked into, that is the error: a store may be in it.
    pub fn clusters(location: &Location) -> Result<Vec<ClusterName>, Error> {
        let own = location.clone();
        let limit = Limits::default().answer;
        answer(&location.key(), limit, move |signs| {
            Inner::clusters(&own, &|| signs.give())
        })?
    }

    /// Whether this is the place of a store itself.
    pub fn is_one(location: &Location) -> Result<bool, Error> {
        let own = location.clone();
        let limit = Limits::default().answer;
        answer(&location.key(), limit, move |_| Inner::is_one(&own))?
    }

    /// Gives the store of `cluster` at a destination, which this host knows as `known`, its marker again.
    pub fn adopt(
        location: &Location,
        cluster: &ClusterName,
        known: Option<&Known>,
        now: Timestamp,
    ) -> Result<Adopted, Error> {
        let (own, cluster, known) = (location.clone(), cluster.clone(), known.cloned());
        let limit = Limits::default().listing;
        answer(&location.key(), limit, move |signs| {
            Inner::adopt(&own, &cluster, known.as_ref(), now, &|| signs.give())
        })?
    }

    /// The same where this authority judges what is in it, and signs what is written.
    #[must_use]
    pub fn under(self, authority: Arc<Authority>) -> Store {
        Store {
            inner: self.inner.under(authority),
            ..self
        }
    }

    /// Whose documents count in it.
    pub fn authority(&self) -> &Authority {
        self.inner.authority()
    }

    /// Which store it is; unknown if its marker is gone.
    pub fn id(&self) -> Option<&StoreId> {
        self.inner.id()
    }

    /// Whether what was written is to be read back.
    pub fn reads_back(&self) -> bool {
        self.inner.backend().reads_back()
    }

    /// What is known of what proves to it who asks.
    pub fn credentials(&self) -> Credentials {
        self.inner.backend().credentials()
    }

    /// How far what is in it must be proven to be called good.
    pub fn asked(&self) -> catalog::Asked {
        match self.reads_back() {
            true => catalog::Asked::ReadBack,
            false => catalog::Asked::Acknowledged,
        }
    }

    /// Where it is, for people: a path or a URL.
    pub fn address(&self) -> String {
        self.inner.backend().address("")
    }

    /// Where an object is, for people and for programs that read it themselves: a path or a URL.
    pub fn address_of(&self, object: &ObjectName) -> String {
        self.inner.address_of(object)
    }

    /// Where what a listing calls `path` is.
    pub fn address_in(&self, path: &str) -> String {
        self.inner.backend().address(path)
    }

    /// Whether the chain is pinned by a pin that counts.
    pub fn is_pinned(&self, chain: &ChainPath) -> Result<bool, Error> {
        let chain = chain.clone();
        self.ask(move |store| store.is_pinned(&chain))
    }

    /// Excludes a chain from retention. A pin that is there stays, unless it is a stranger's: that pins nothing and is in the
    /// way.
    pub fn pin(&self, chain: &ChainPath, words: &Pin) -> Result<(), Error> {
        let (name, document) = (ObjectName::Pin(chain.clone()), words.to_bytes());
        match self.put_document(&name, &document) {
            Err(Error::AlreadyExists { .. }) if self.is_pinned(chain)? => Ok(()),
            Err(Error::AlreadyExists { .. }) => {
                match self.remove(&name) {
                    Ok(()) | Err(Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.put_document(&name, &document)
            }
            put => put,
        }
    }

    /// Whether a document that is there counts. Read only where signers are named.
    pub fn counts(&self, name: &ObjectName) -> Result<bool, Error> {
        let name = name.clone();
        self.ask(move |store| store.counts(&name))
    }

    /// Opens an object for one pass from its beginning; the second value is its size.
    pub fn open_object(&self, object: &ObjectName) -> Result<(Object, u64), Error> {
        self.object(object, Cache::Kept)
    }

    /// The same from the disk, not from the page cache: for whoever wants to know what is stored.
    pub fn open_from_disk(&self, object: &ObjectName) -> Result<(Object, u64), Error> {
        self.object(object, Cache::Dropped)
    }

    /// Reads an object that has at most `limit` bytes; `Unfit` if it has more.
    pub fn read_small(&self, object: &ObjectName, limit: u64) -> Result<Vec<u8>, Error> {
        let object = object.clone();
        self.ask(move |store| store.read_small(&object, limit))
    }

    /// Reads an object from the disk, not from the page cache, and returns its length and digest. Memory: a few blocks.
    pub fn read_back(&self, object: &ObjectName) -> Result<ReadBack, Error> {
        let read = self.read_back_while(object, |_| ControlFlow::Continue(()))?;
        Ok(read.expect("nobody stopped it"))
    }

    /// The same; `each` hears how many bytes came each time, and may stop it: then there is no result.
    pub fn read_back_while(
        &self,
        object: &ObjectName,
        mut each: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<ReadBack>, Error> {
        let (mut reader, _) = self.object(object, Cache::Dropped)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0_u64);
        loop {
            let block = reader.next().map_err(|source| match source.kind() {
                io::ErrorKind::TimedOut => self.hangs(&source),
                _ => Error::at("read back", self.address_of(object), source),
            })?;
            if block.is_empty() {
                break;
            }
            hasher.update(&block);
            bytes += block.len() as u64;
            if each(block.len() as u64).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(ReadBack {
            bytes,
            sha256: Digest(hasher.finalize().into()),
        }))
    }

    /// Everything in the store. Folders that are none of ours are reported and not entered; one of ours that cannot be
    /// looked into is reported, and hides nothing else.
    pub fn list(&self) -> Result<Vec<ListedObject>, Error> {
        self.ask_for_many(|store, signs| store.list(&|| signs.give()))
    }

    /// The results of checks of one chain, in order; the last one counts.
    pub fn checks_of(&self, chain: &ChainPath) -> Result<Vec<ObjectName>, Error> {
        let chain = chain.clone();
        self.ask_on(self.limits.answer, move |store, signs| {
            store.checks_of(&chain, &|| signs.give())
        })
    }

    /// What is in the store, under the name of its destination, by one listing; with `sweep`, the leavings of backups that
    /// did not end are removed by the same.
    pub fn read(&self, destination: &str, sweep: Option<&Begun>) -> Result<Contents, Error> {
        self.read_while(destination, sweep, || {})
    }

    /// The same; `look` is called every so often meanwhile, as long as it gets on.
    pub fn read_while(&self, destination: &str, sweep: Option<&Begun>, look: impl FnMut()) -> Result<Contents, Error> {
        let (destination, sweep) = (destination.to_owned(), sweep.cloned());
        let read = move |store: &Inner, signs: &Signs| store.read(&destination, sweep.as_ref(), &|| signs.give());
        self.ask_while(self.limits.listing, read, look)
    }

    /// The backups in it, under the name of its destination.
    pub fn catalog(&self, destination: &str) -> Result<Catalog, Error> {
        Ok(self.read(destination, None)?.catalog)
    }

    /// What there is of one chain.
    pub fn list_chain(&self, chain: &ChainPath) -> Result<Vec<ListedObject>, Error> {
        let chain = chain.clone();
        self.ask_for_many(move |store, signs| store.list_chain(&chain, &|| signs.give()))
    }

    /// The same; an error if a part of it cannot be looked into. For whoever concludes from what is not there.
    pub fn list_whole_chain(&self, chain: &ChainPath) -> Result<Vec<ListedObject>, Error> {
        let under = Under::Chain(chain.clone());
        self.ask_for_many(move |store, signs| store.list_all(&under, &|| signs.give()))
    }

    /// Uploads that were begun and not ended, which no listing shows; none where the store does not tell.
    pub fn unfinished(&self) -> Result<Option<Vec<ListedObject>>, Error> {
        self.ask_for_many(|store, signs| store.backend().unfinished(None, &|| signs.give()))
    }

    /// The space that is left; none where the store has no such bound.
    pub fn free_space(&self) -> Result<Option<FreeSpace>, Error> {
        self.ask(|store| store.backend().free_space())
    }

    /// Removes an object, and folders that are empty then.
    pub fn remove(&self, object: &ObjectName) -> Result<(), Error> {
        let object = object.clone();
        self.ask(move |store| store.backend().remove(&object))
    }

    /// The time by the store's own clock, which on a network file system is not this host's.
    pub fn now(&self) -> Result<Timestamp, Error> {
        self.ask(|store| store.backend().now())
    }

    /// Writes a canary for `host` and reads it back from the disk; `Altered` if it came back different.
    pub fn try_canary(&self, host: &HostName) -> Result<(), Error> {
        let host = host.clone();
        self.ask(move |store| store.try_canary(&host))
    }

    /// The same, and what keeps its bytes enforces. Nothing of it is left where it may be removed.
    pub fn probe(&self, host: &HostName) -> Result<Enforces, Error> {
        let host = host.clone();
        let patience = self.limits.listing + time_to_sync(MOST_PROBED);
        self.ask_while(
            patience,
            move |store, signs| store.probe(&host, &|| signs.give()),
            || {},
        )
    }

    /// The claim of `slot` with the highest number among those that count, and the next number that is free.
    pub fn newest_claim(&self, slot: &SlotPath) -> Result<(Option<Found>, u32), Error> {
        let slot = slot.clone();
        self.ask_on(self.limits.answer, move |store, signs| {
            store.newest_claim(&slot, &|| signs.give())
        })
    }

    /// Whether there is a backup of `slot` in `chain`, as far as its manifest and the size of its object tell.
    pub fn has_backup(&self, slot: &SlotPath, chain: &ChainId) -> Result<bool, Error> {
        let (slot, chain) = (slot.clone(), chain.clone());
        self.ask_for_many(move |store, signs| store.has_backup(&slot, &chain, &|| signs.give()))
    }

    /// Removes the leavings of backups that did not end.
    pub fn sweep(&self, begun: &Begun) -> Result<Vec<Swept>, Error> {
        let begun = begun.clone();
        self.ask_for_many(move |store, signs| store.sweep(&begun, &|| signs.give()))
    }

    fn object(&self, object: &ObjectName, cache: Cache) -> Result<(Object, u64), Error> {
        let object = object.clone();
        let opened = self.ask(move |store| store.backend().open(&object, cache))?;
        let (whom, limit) = (self.location.key(), self.limits.answer + opened.slack);
        Ok((Object::new(opened.reader, whom, limit), opened.bytes))
    }

    /// A store over what keeps its bytes; `whom` tells it from others that may hang.
    #[cfg(test)]
    pub(super) fn over(
        backend: Arc<dyn super::backend::Backend>,
        access: Access,
        whom: &str,
        limits: Limits,
    ) -> Result<Store, Error> {
        Ok(Store {
            location: Location::Folder(whom.into()),
            inner: Inner::over(backend, &"prod".parse().expect("a name"), None, access, &|| {})?,
            limits,
            throttle: None,
        })
    }

    /// Whether it has not answered yet what it was asked, and nobody waits for any more.
    #[cfg(test)]
    pub(super) fn hangs_still(&self) -> bool {
        super::deadline::is_hanging(&self.location.key())
    }

    /// The folder of a store on a file system.
    #[cfg(test)]
    pub(crate) fn folder(&self) -> std::path::PathBuf {
        self.address().into()
    }

    /// The file of an object of a store on a file system.
    #[cfg(test)]
    pub(crate) fn path_of(&self, object: &ObjectName) -> std::path::PathBuf {
        self.address_of(object).into()
    }

    /// Without its deadlines.
    #[cfg(test)]
    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }
}
