//! A store over whatever keeps its bytes: its marker, its listing, its documents. Written once for all backends; each call
//! takes as long as the backend does. Who uses a store goes through its handle ([`super::Store`]), which has a deadline for
//! every one.

use std::io::Read;
use std::sync::Arc;

use jiff::Timestamp;

use super::backend::{Backend, Cache, Opened, Under};
use super::document_cache::{Kept, Once, Sum};
use super::location::Location;
use super::marker::{Marker, StoreId};
use super::{Begun, Error, Known, Sweep};
use crate::catalog::{Catalog, Document, PinsCount};
use crate::durable;
use crate::layout::{ChainPath, Fault, HostName, Listed, ListedObject, MAX_BYTES, ObjectName};
use crate::model::{ClusterName, Digest};
use crate::signing::Authority;

const MARKER_MAX: u64 = 64 << 10;

/// Understood documents that may wait to be taken in.
const WAITING: usize = 256;

/// How often a check is looked for again that others supersede meanwhile.
const MOST_SUPERSEDED: usize = 8;

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To look at it; nothing is made.
    Read,
    /// To write to it; a new one is made where there never was one.
    Write {
        /// When: a new store says since when it is.
        now: Timestamp,
    },
}

/// What is in a store.
#[derive(Debug)]
pub struct Contents {
    /// The backups.
    pub catalog: Catalog,
    /// What a sweep came to; none if it was not asked for.
    pub swept: Option<Result<Sweep, Error>>,
}

/// What was read back from a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBack {
    /// How many bytes.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Digest,
}

/// The store of one cluster name at a destination.
#[derive(Debug, Clone)]
pub(super) struct Inner {
    backend: Arc<dyn Backend>,
    id: Option<StoreId>,
    authority: Arc<Authority>,
    /// Where documents are kept that were read once.
    kept: Option<Kept>,
}

impl Inner {
    /// Opens the store of `cluster` at a destination, where this host remembers store `expected`. A store that is
    /// remembered and not there is `NotMounted`; only `Access::Write` makes a new one. `sign` hears that it gets on: one
    /// without a marker is listed.
    pub fn open(
        location: &Location,
        cluster: &ClusterName,
        expected: Option<&Known>,
        access: Access,
        sign: &dyn Fn(),
    ) -> Result<Inner, Error> {
        let backend = match (location.store(cluster), expected) {
            (Err(Error::RootMissing { root }), Some(known)) => {
                let at = root.join(cluster.as_str()).display().to_string();
                let known = known.clone();
                return Err(Error::NotMounted { at, known });
            }
            (Err(Error::NoFolder { at, .. }), Some(known)) => {
                let known = known.clone();
                return Err(Error::NotMounted { at, known });
            }
            (backend, _) => backend?,
        };
        Inner::over(backend, cluster, expected, access, sign)
    }

    /// The store of `cluster` at a destination, whatever its marker says.
    pub(super) fn unmarked(location: &Location, cluster: &ClusterName) -> Result<Inner, Error> {
        Ok(Inner {
            backend: location.store(cluster)?,
            id: None,
            authority: Arc::new(Authority::anybody(cluster)),
            kept: None,
        })
    }

    /// The same over what keeps its bytes.
    pub fn over(
        backend: Arc<dyn Backend>,
        cluster: &ClusterName,
        expected: Option<&Known>,
        access: Access,
        sign: &dyn Fn(),
    ) -> Result<Inner, Error> {
        let at = backend.address("");
        let mut store = Inner {
            backend,
            id: None,
            authority: Arc::new(Authority::anybody(cluster)),
            kept: None,
        };
        if let Some(marker) = store.marker()? {
            store.id = Some(marker.store_id);
            return store.checked(expected);
        }
        let not_mounted = |known: &Known| Error::NotMounted {
            at: at.clone(),
            known: known.clone(),
        };
        match (store.holds_backups(sign)?, expected, access) {
            (false, Some(expected), _) => Err(not_mounted(expected)),
            (false, None, Access::Read) => Err(Error::NoStore { at }),
            (false, None, Access::Write { now }) => store.with_new_marker(now),
            // What is left can still be restored from; but without its marker nobody adds to it.
            (true, None, Access::Read) => Ok(store),
            (true, Some(_), _) | (true, None, Access::Write { .. }) => Err(Error::MarkerMissing { at }),
        }
    }

    /// The cluster names of which there are stores at a destination, in order. Where none is seen and a folder cannot be
    /// looked into, that is the error: a store may be in it.
    pub fn clusters(location: &Location, sign: &dyn Fn()) -> Result<Vec<ClusterName>, Error> {
        let (mut clusters, mut denied) = (Vec::new(), None);
        for name in location.top()?.folders()? {
            sign();
            let Ok(cluster) = name.parse() else { continue };
            match location.store(&cluster)?.read(&ObjectName::StoreMarker, 1) {
                Ok(_) => clusters.push(cluster),
                Err(error @ (Error::Denied { .. } | Error::Refused { .. })) => denied = Some(error),
                Err(_) => {}
            }
        }
        clusters.sort();
        match denied.filter(|_| clusters.is_empty()) {
            Some(denied) => Err(denied),
            None => Ok(clusters),
        }
    }

    /// Whether this is the place of a store itself, not of one that holds stores.
    pub fn is_one(location: &Location) -> Result<bool, Error> {
        match location.top()?.read(&ObjectName::StoreMarker, 1) {
            Ok(_) => Ok(true),
            // What is wrong with a bucket is wrong with all in it.
            Err(
                error @ (Error::Refused { .. }
                | Error::NoBucket { .. }
                | Error::NoFolder { .. }
                | Error::Stranger { .. }
                | Error::NoCredentials { .. }
                | Error::Io { .. }),
            ) if !matches!(location, Location::Folder(_)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// The same, with documents kept here that were read once.
    pub fn keeping(self, kept: Kept) -> Inner {
        Inner {
            kept: Some(kept),
            ..self
        }
    }

    /// Which store it is; unknown if its marker is gone.
    pub fn id(&self) -> Option<&StoreId> {
        self.id.as_ref()
    }

    /// The same where this authority judges what is in it.
    pub fn under(self, authority: Arc<Authority>) -> Inner {
        Inner { authority, ..self }
    }

    /// Whose documents count in it.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// What people know an object by.
    pub fn address_of(&self, object: &ObjectName) -> String {
        self.backend.address(&object.to_string())
    }

    /// Reads an object that has at most `limit` bytes; `Unfit` if it has more.
    pub fn read_small(&self, object: &ObjectName, limit: u64) -> Result<Vec<u8>, Error> {
        // It may grow while it is read.
        let content = self.backend.read(object, limit.saturating_add(1))?;
        match content.len() as u64 > limit {
            false => Ok(content),
            true => Err(Error::Unfit {
                at: self.address_of(object),
                found: format!("more than {limit} bytes large"),
                expected: format!("at most {limit}"),
            }),
        }
    }

    /// Everything in the store. `sign` hears that it gets on.
    pub fn list(&self, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
        self.backend.list(&Under::Store, sign)
    }

    /// What there is; an error if a part of it cannot be looked into. For whoever concludes from what is not there.
    pub(super) fn list_all(&self, under: &Under, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
        let objects = self.backend.list(under, sign)?;
        for object in &objects {
            if let Listed::Unreadable { path, why } = &object.name {
                let source = std::io::Error::other(why.clone());
                return Err(Error::at("look into", self.backend.address(path), source));
            }
        }
        Ok(objects)
    }

    /// What there is of one chain; nothing if it is gone.
    pub fn list_chain(&self, chain: &ChainPath, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
        self.backend.list(&Under::Chain(chain.clone()), sign)
    }

    /// The results of checks of one chain that are not of strangers, in order; the last one counts.
    pub fn checks_of(&self, chain: &ChainPath, sign: &dyn Fn()) -> Result<Vec<ObjectName>, Error> {
        let mut checks = Vec::new();
        for object in self.list_all(&Under::Checks(chain.clone()), sign)? {
            sign();
            if let Listed::Ours(name @ ObjectName::Check(..)) = object.name
                && self.counts(&name)?
            {
                checks.push(name);
            }
        }
        checks.sort_unstable();
        Ok(checks)
    }

    /// Whether the chain is pinned by a pin that counts. Where nobody is named, its presence is enough, though it is broken or
    /// cannot be read: to keep a backup is the safe side. Where somebody is, a pin of strangers would keep it for ever.
    pub fn is_pinned(&self, chain: &ChainPath) -> Result<bool, Error> {
        let pin = ObjectName::Pin(chain.clone());
        match self.read_small(&pin, MAX_BYTES as u64) {
            Ok(bytes) => Ok(!self.authority.names_somebody() || self.authority.judge(&pin, &bytes).is_ok()),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(Error::Unfit { .. }) => Ok(!self.authority.names_somebody()),
            Err(error) => Err(error),
        }
    }

    /// Whether a document counts, as far as its signature tells. Read only where signers are named: where nobody is, this
    /// leaves out none, and whoever reads it says of a broken one that it is.
    pub(super) fn counts(&self, name: &ObjectName) -> Result<bool, Error> {
        if !self.authority.names_somebody() {
            return Ok(true);
        }
        match self.read_small(name, MAX_BYTES as u64) {
            Ok(bytes) => Ok(self.authority.judge(name, &bytes).is_ok()),
            Err(Error::NotFound { .. } | Error::Unfit { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What is in the store, under the name of its destination, by one listing; with `sweep`, leavings are removed by the
    /// same. `sign` hears of each folder and document, so that who waits can tell a slow store from one that hangs.
    pub fn read(&self, destination: &str, sweep: Option<&Begun>, sign: &(dyn Fn() + Sync)) -> Result<Contents, Error> {
        let (objects, sums) = self.backend.list_with_sums(&Under::Store, sign)?;
        let swept = sweep.map(|begun| self.sweep_listed(&objects, begun, self.backend.now(), sign));
        let catalog = self.catalog_with(destination, &objects, &sums, sign);
        Ok(Contents { catalog, swept })
    }

    /// What these objects come to; nothing is taken from what is kept here.
    pub(super) fn catalog_of(&self, destination: &str, objects: &[ListedObject], sign: &(dyn Fn() + Sync)) -> Catalog {
        self.catalog_with(destination, objects, &[], sign)
    }

    /// The documents are read by several threads, those that are kept here and have the sum that the listing tells from here.
    fn catalog_with(
        &self,
        destination: &str,
        objects: &[ListedObject],
        sums: &[Option<Sum>],
        sign: &(dyn Fn() + Sync),
    ) -> Catalog {
        let pins = PinsCount::under(&self.authority);
        let wanted = Catalog::wanted(objects, pins);
        let threads = threads_for(wanted.len());
        let once = self.kept.as_ref().map(|kept| Once::of(kept, objects, sums));
        let read = |name: &ObjectName| match &once {
            Some(once) => once.document(name, || self.document(name, sign)),
            None => self.document(name, sign),
        };
        let read = &read;
        let catalog = std::thread::scope(|scope| {
            // Bounded, and what passes has been understood already: memory holds no more than the catalog needs.
            let (sender, understood) = crossbeam_channel::bounded(WAITING);
            for share in wanted.chunks(wanted.len().div_ceil(threads).max(1)) {
                let sender = sender.clone();
                scope.spawn(move || {
                    for wanted in share {
                        let documents = wanted.in_order().inspect(|_| sign()).map(read);
                        for document in documents {
                            let document = document.map(|document| document.understand(&self.authority));
                            // What a stranger wrote displaces nothing.
                            let goes_on = document.as_ref().is_some_and(|document| document.is_strange());
                            // Refused only when the other side is gone, and then nobody waits for the rest.
                            if document.is_some_and(|document| sender.send(document).is_err()) {
                                return;
                            }
                            if !goes_on {
                                break;
                            }
                        }
                    }
                });
            }
            drop(sender);
            Catalog::of_destination(destination, objects, pins, understood)
        });
        if let Some(once) = once {
            once.keep();
        }
        match self.backend.reads_back() {
            true => catalog,
            false => catalog.of_acknowledged(),
        }
    }

    /// A document as it is stored; none if it has been removed since it was listed. In the place of a check that was
    /// superseded since then, the one that counts now: without any, a bad copy would look like one that nobody checked.
    pub(super) fn document(&self, name: &ObjectName, sign: &dyn Fn()) -> Option<Document> {
        let mut name = name.clone();
        for _ in 0..MOST_SUPERSEDED {
            let content = match self.read_small(&name, MAX_BYTES as u64) {
                Ok(bytes) => Ok(bytes),
                Err(Error::NotFound { .. }) => {
                    name = self.successor_of(&name, sign)?;
                    continue;
                }
                Err(Error::Io { doing, source, .. } | Error::Denied { doing, source, .. }) => Err(Fault::Unreadable {
                    detail: format!("{doing}: {source}"),
                }),
                Err(error @ Error::Unfit { .. }) => Err(Fault::NoDocument {
                    detail: error.to_string(),
                }),
                Err(error) => Err(Fault::Unreadable {
                    detail: error.to_string(),
                }),
            };
            return Some(Document { name, content });
        }
        let content = Err(Fault::Unreadable {
            detail: "superseded again each time it was to be read".to_owned(),
        });
        Some(Document { name, content })
    }

    /// What counts in the place of a document that is gone.
    fn successor_of(&self, gone: &ObjectName, sign: &dyn Fn()) -> Option<ObjectName> {
        let (chain, _) = gone.check()?;
        self.checks_of(chain, sign).ok()?.pop()
    }

    /// Writes a canary for `host` and reads it back; `Altered` if it came back different.
    pub fn try_canary(&self, host: &HostName) -> Result<(), Error> {
        let object = ObjectName::Canary(host.clone());
        let at = self.address_of(&object);
        let song: [u8; 4096] =
            durable::random().map_err(|source| Error::at("get random bytes for", at.clone(), source))?;
        self.backend.replace(&object, &song)?;
        let Opened { reader, .. } = self.backend.open(&object, Cache::Dropped)?;
        let mut heard = Vec::new();
        let read = reader.take(2 * song.len() as u64).read_to_end(&mut heard);
        read.map_err(|source| Error::at("read back", at.clone(), source))?;
        match heard == song {
            true => Ok(()),
            false => Err(Error::Altered { at }),
        }
    }

    fn checked(self, expected: Option<&Known>) -> Result<Inner, Error> {
        match (&self.id, expected) {
            (Some(found), Some(known)) if *found != known.id => Err(Error::WrongStore {
                at: self.backend.address(""),
                known: known.clone(),
                found: found.clone(),
            }),
            (Some(_) | None, _) => Ok(self),
        }
    }

    pub(super) fn marker(&self) -> Result<Option<Marker>, Error> {
        let name = ObjectName::StoreMarker;
        match self.read_small(&name, MARKER_MAX) {
            Ok(bytes) => Marker::from_bytes(&bytes, &self.address_of(&name)).map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the marker. Where two do that at once and the backend cannot tell, the one that is read afterwards counts.
    fn with_new_marker(mut self, now: Timestamp) -> Result<Inner, Error> {
        let name = ObjectName::StoreMarker;
        let marker = Marker::new(&self.address_of(&name), now)?;
        match self.backend.put_new(&name, &marker.to_bytes()) {
            Ok(()) | Err(Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error),
        }
        self.id = self.marker()?.map(|marker| marker.store_id);
        Ok(self)
    }

    fn holds_backups(&self, sign: &dyn Fn()) -> Result<bool, Error> {
        let objects = match self.list(sign) {
            Err(Error::NotFound { .. }) => return Ok(false),
            listed => listed?,
        };
        Ok(objects.iter().any(|object| match &object.name {
            Listed::Ours(name) => name.chain().is_some(),
            // Who cannot look into it must not take it for empty.
            Listed::Unreadable { .. } => true,
            Listed::Partial { .. } | Listed::EmptyFolder { .. } | Listed::Foreign(_) => false,
        }))
    }
}

/// How many threads to read so many small things with: reading is mostly waiting, but this may be a host that runs etcd.
fn threads_for(things: usize) -> usize {
    const MOST: usize = 4;
    const WORTH_ONE: usize = 500;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    (things / WORTH_ONE).clamp(1, cores.min(MOST))
}
