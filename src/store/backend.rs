//! The seam between a store and what keeps its bytes: a file system, an object store, a server.
//!
//! Which URL has which backend is in `location`. A backend knows names and bytes. What they mean (marker, claims, leavings, backups) is written once above it.

use std::fmt;
use std::io::{Read, Write};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Error;
use super::document_cache::Sum;
use super::probe::{Answer, OfKind};
use crate::layout::{ChainPath, Folder as Inside, Listed, ListedObject, ObjectName, SlotPath};

/// What keeps the objects of one store. Every call blocks for as long as it takes; the handle of the store puts a
/// deadline on each, on a thread of its own.
pub(super) trait Backend: fmt::Debug + Send + Sync {
    /// What people know `path` in the store by: a path of the file system, a URL. An empty one is the store itself.
    fn address(&self, path: &str) -> String;

    /// Begins a new object, to be written as a stream.
    fn begin(&self, object: &ObjectName) -> Result<Box<dyn NewObject>, Error>;

    /// What is known of what proves who asks.
    fn credentials(&self) -> Credentials {
        Credentials::default()
    }

    /// Whether what was written is to be read back. Of one that says no, a new object is committed only if its own checksum of
    /// what it took is that of what was sent.
    fn reads_back(&self) -> bool {
        true
    }

    /// Writes a small new object; `AlreadyExists` if another was faster, as far as the backend can tell. Our own write
    /// whose reply was lost is none of another.
    fn put_new(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error>;

    /// Writes a small object in the place of what is there.
    fn replace(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error>;

    /// The first bytes of a small object, `most` of them or all that there are.
    fn read(&self, object: &ObjectName, most: u64) -> Result<Vec<u8>, Error>;

    /// Opens an object for one pass from its beginning.
    fn open(&self, object: &ObjectName, cache: Cache) -> Result<Opened, Error>;

    /// What there is: each object, and what is none. `sign` hears that it gets on.
    fn list(&self, under: &Under, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error>;

    /// The same, and the MD5 of each, where a listing tells it.
    fn list_with_sums(&self, under: &Under, sign: &dyn Fn()) -> Result<(Vec<ListedObject>, Vec<Option<Sum>>), Error> {
        let objects = self.list(under, sign)?;
        let none = vec![None; objects.len()];
        Ok((objects, none))
    }

    /// How far a listing may be behind what was written.
    fn listing_delay(&self) -> SignedDuration;

    /// The names of the folders at the top.
    fn folders(&self) -> Result<Vec<String>, Error>;

    /// Removes an object; `NotFound` if it is gone already and the backend can tell.
    fn remove(&self, object: &ObjectName) -> Result<(), Error>;

    /// Removes what a run left that did not end: what is listed as partial, or an empty folder.
    fn remove_leaving(&self, leaving: &Listed) -> Result<(), Error>;

    /// Uploads that were begun and not ended, where a listing does not show them: each as what it would become, and since
    /// when. None where who keeps the bytes does not tell. `listed` is what a listing of all has just told, if one was made;
    /// each sign says that it gets on.
    fn unfinished(
        &self,
        _listed: Option<&[ListedObject]>,
        _sign: &dyn Fn(),
    ) -> Result<Option<Vec<ListedObject>>, Error> {
        Ok(Some(Vec::new()))
    }

    /// Locks an object against whoever may remove it, for as long as is configured; nothing where nothing is.
    fn lock(&self, _: &ObjectName) -> Result<(), Error> {
        Ok(())
    }

    /// Whether locks are configured: then a manifest is written with one.
    fn locks(&self) -> bool {
        false
    }

    /// Until when an object is locked; none if it is not, or where nothing is ever locked.
    fn locked_until(&self, _: &ObjectName) -> Result<Option<Timestamp>, Error> {
        Ok(None)
    }

    /// Whether it tells of such uploads, as far as one question shows it.
    fn lists_uploads(&self) -> Result<Answer, Error> {
        Ok(Answer::None)
    }

    /// How large an object is that is sent in several parts; none where none is.
    fn parts_from(&self) -> Option<u64> {
        None
    }

    /// What stores of its kind may enforce besides, tried with an object that may be replaced.
    fn of_kind(&self, _: &ObjectName) -> Result<OfKind, Error> {
        Ok(OfKind::NOTHING)
    }

    /// The time by its own clock.
    fn now(&self) -> Result<Timestamp, Error>;

    /// The space that is left; none where there is no such bound.
    fn free_space(&self) -> Result<Option<FreeSpace>, Error>;
}

/// A new object. Nobody sees it before it is committed; dropped before that, nothing of it is left.
pub(super) trait NewObject: Write + Send {
    /// Makes it durable and visible; `AlreadyExists` if another was faster.
    fn commit(self: Box<Self>) -> Result<(), Error>;

    /// Lets go of it without asking what keeps the bytes, which hangs: what is there stays, and is swept later.
    fn forget(self: Box<Self>);
}

/// An object that was opened.
pub(super) struct Opened {
    pub reader: Box<dyn Read + Send>,
    pub bytes: u64,
    /// How much longer than any other answer its next bytes may take: what is asked for at once comes at once, however slow
    /// the line. The backend itself sees that something comes.
    pub slack: Duration,
}

/// What becomes of a backend's copies in the memory of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// They stay.
    Kept,
    /// They are dropped before and after: what is read comes from the disk, and a backup of gigabytes does not drive etcd's
    /// own pages out.
    Dropped,
}

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Under {
    /// All of the store.
    Store,
    /// One chain.
    Chain(ChainPath),
    /// The results of checks of one chain.
    Checks(ChainPath),
    /// The claims of one slot's schedule, as far as the backend can, those of the slot alone.
    Slot(SlotPath),
}

impl Under {
    /// How the names begin that are listed: nothing, or folders and a `/`.
    pub(super) fn prefix(&self) -> String {
        match self {
            Under::Store => String::new(),
            Under::Chain(chain) => format!("{chain}/"),
            Under::Checks(chain) => format!("{chain}/checks/"),
            Under::Slot(slot) => format!("slots/{}/", slot.schedule()),
        }
    }

    /// The same where folders are listed one by one: which one, and what kind it is; none is the store itself.
    pub(super) fn folder(&self) -> (String, Option<Inside>) {
        let inside = match self {
            Under::Store => None,
            Under::Chain(chain) | Under::Checks(chain) => Some(Inside::OfChain(chain.clone())),
            Under::Slot(_) => Some(Inside::Shared),
        };
        (self.prefix().trim_end_matches('/').to_owned(), inside)
    }
}

/// What is known of what proves to a store who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// When it runs out, where it says so itself.
    pub expires_at: Option<Timestamp>,
    /// Why it could not be read again: the last that could be is used.
    pub trouble: Option<String>,
}

/// The space that a backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// What this user can still write.
    pub available: u64,
    /// How much there is in all.
    pub total: u64,
}

impl FreeSpace {
    /// The room that is left free beside a backup, so that others who write there go on: etcd's own log may be one. A small
    /// file system is not all kept free.
    pub fn spare(self) -> u64 {
        const MOST: u64 = 64 << 20;
        MOST.min(self.total / 10)
    }
}
