//! Stores on a file system: `file:` destinations, as their file system has them. Each call takes as long as that takes: who
//! uses a store goes through its handle ([`super::FileStore`]), which has a deadline for every one.
//!
//! Invariant: objects are plain files; symbolic links are neither followed nor written through.
//!
//! Invariant: the folder of the destination is made by the operator. A missing one is a mount that is not there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statvfs::statvfs;

use super::marker::{Marker, StoreId};
use super::{Begun, Error, Known, Swept, failed};
use crate::catalog::{Catalog, Document};
use crate::durable::{self, NotPlain, Partial};
use crate::layout::{ChainPath, Folder, HostName, Listed, ListedObject, MAX_BYTES, ObjectName};
use crate::model::{ClusterName, Digest};

// Group members may read, whatever the umask: what lies here is encrypted, and the group is how an operator lets another
// account carry it away (rsync, tape) without making it root. Others may not: names and sizes are told to nobody.
pub(super) const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

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

/// The space in the file system of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// What this user can still write.
    pub available: u64,
    /// How large the file system is.
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

/// What is in a store.
#[derive(Debug)]
pub struct Contents {
    /// The backups.
    pub catalog: Catalog,
    /// What a sweep removed, or why it did not; none if it was not asked for.
    pub swept: Option<Result<Vec<Swept>, Error>>,
}

/// What was read back from the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBack {
    /// How many bytes.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Digest,
}

/// The store of one cluster name in a folder.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    folder: PathBuf,
    id: Option<StoreId>,
}

impl Disk {
    /// Opens the store of `cluster` in the destination `root`, where this host remembers store `expected`. A store that
    /// is remembered and not there is `NotMounted`; only `Access::Write` makes a new one.
    pub fn open(root: &Path, cluster: &ClusterName, expected: Option<&Known>, access: Access) -> Result<Disk, Error> {
        let folder = root.join(cluster.as_str());
        let not_mounted = |known: &Known| Error::NotMounted {
            folder: folder.clone(),
            known: known.clone(),
        };
        match fs::metadata(root) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(unfit(root, "a file", "a folder")),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                let root = root.to_owned();
                return Err(expected.map_or(Error::RootMissing { root }, not_mounted));
            }
            Err(source) => return Err(failed("look at", root)(source)),
        }
        let mut store = Disk {
            folder: folder.clone(),
            id: None,
        };
        if let Some(marker) = store.marker()? {
            store.id = Some(marker.store_id);
            return store.checked(expected);
        }
        match (store.holds_backups()?, expected, access) {
            (false, Some(expected), _) => Err(not_mounted(expected)),
            (false, None, Access::Read) => Err(Error::NoStore { folder }),
            (false, None, Access::Write { now }) => store.with_new_marker(now),
            // What is left can still be restored from; but without its marker nobody adds to it.
            (true, None, Access::Read) => Ok(store),
            (true, Some(_), _) | (true, None, Access::Write { .. }) => Err(Error::MarkerMissing { folder }),
        }
    }

    /// The cluster names of which there are stores in `root`, in order. Where none is seen and a folder cannot be looked
    /// into, that is the error: a store may be in it.
    pub fn clusters(root: &Path) -> Result<Vec<ClusterName>, Error> {
        let entries = fs::read_dir(root).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::RootMissing { root: root.to_owned() },
            _ => failed("list", root)(source),
        })?;
        let (mut clusters, mut denied) = (Vec::new(), None);
        for entry in entries {
            let entry = entry.map_err(failed("list", root))?;
            let name = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(cluster) = name else { continue };
            let marker = entry.path().join(ObjectName::StoreMarker.to_string());
            match fs::metadata(&marker) {
                Ok(found) if found.is_file() => clusters.push(cluster),
                Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                    denied = Some(failed("look at", &marker)(source));
                }
                Ok(_) | Err(_) => {}
            }
        }
        clusters.sort();
        match denied.filter(|_| clusters.is_empty()) {
            Some(denied) => Err(denied),
            None => Ok(clusters),
        }
    }

    /// Which store it is; unknown if its marker is gone.
    pub fn id(&self) -> Option<&StoreId> {
        self.id.as_ref()
    }

    /// The folder that holds the objects.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where an object lies, for messages and for programs that read it themselves.
    pub fn path_of(&self, object: &ObjectName) -> PathBuf {
        self.folder.join(object.to_string())
    }

    /// Writes a small new object; `AlreadyExists` if another was faster.
    pub fn put_new(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path_of(object);
        make_folder_of(&self.folder, &path)?;
        Ok(durable::create_new(&path, bytes, FILE_MODE)?)
    }

    /// Opens an object for one pass from its beginning; the second value is its size.
    pub fn open_object(&self, object: &ObjectName) -> Result<(File, u64), Error> {
        open_plain(&self.path_of(object))
    }

    /// Reads an object that has at most `limit` bytes; `Unfit` if it has more.
    pub fn read_small(&self, object: &ObjectName, limit: u64) -> Result<Vec<u8>, Error> {
        let path = self.path_of(object);
        let (file, bytes) = open_plain(&path)?;
        let mut content = Vec::with_capacity(usize::try_from(bytes.min(limit)).unwrap_or(0).saturating_add(1));
        // It may grow while it is read.
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut content);
        read.map_err(failed("read", &path))?;
        if content.len() as u64 > limit {
            let found = format!("{} bytes large", bytes.max(content.len() as u64));
            return Err(unfit(&path, &found, &format!("at most {limit}")));
        }
        Ok(content)
    }

    /// Everything in the store. Folders that are none of ours are reported and not entered; one of ours that cannot be
    /// looked into is reported, and hides nothing else. `sign` hears of each folder.
    pub fn list(&self, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
        let mut objects = Vec::new();
        list_folder(&self.folder, "", None, sign, &mut objects)?;
        Ok(objects)
    }

    /// What there is of one chain; nothing if its folder is gone.
    pub fn list_chain(&self, chain: &ChainPath, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
        let (folder, inside) = (chain.to_string(), Some(Folder::OfChain(chain.clone())));
        let mut objects = Vec::new();
        list_folder(&self.folder.join(&folder), &folder, inside, sign, &mut objects)?;
        Ok(objects)
    }

    /// The results of checks of one chain, in order; the last one counts.
    pub fn checks_of(&self, chain: &ChainPath) -> Result<Vec<ObjectName>, Error> {
        let folder = format!("{chain}/checks");
        let mut objects = Vec::new();
        let inside = Some(Folder::OfChain(chain.clone()));
        list_folder(&self.folder.join(&folder), &folder, inside, &|| {}, &mut objects)?;
        let mut checks = Vec::new();
        for object in objects {
            match object.name {
                Listed::Ours(name @ ObjectName::Check(..)) => checks.push(name),
                Listed::Ours(_) | Listed::Partial { .. } | Listed::EmptyFolder { .. } | Listed::Foreign(_) => {}
                Listed::Unreadable { path, why } => {
                    return Err(failed("look into", &self.folder.join(path))(io::Error::other(why)));
                }
            }
        }
        checks.sort_unstable();
        Ok(checks)
    }

    /// What is in the store, under the name of its destination, by one listing; with `sweep`, leavings are removed by the
    /// same. `sign` hears of each folder and document, so that who waits can tell a slow store from one that hangs.
    pub fn read(&self, destination: &str, sweep: Option<&Begun>, sign: &(dyn Fn() + Sync)) -> Result<Contents, Error> {
        let objects = self.list(sign)?;
        let swept = sweep.map(|begun| self.sweep_listed(&objects, begun, self.now(), sign));
        let catalog = self.catalog_of(destination, &objects, sign);
        Ok(Contents { catalog, swept })
    }

    /// The documents are read by several threads.
    fn catalog_of(&self, destination: &str, objects: &[ListedObject], sign: &(dyn Fn() + Sync)) -> Catalog {
        let wanted = Catalog::wanted(objects);
        let threads = threads_for(wanted.len());
        std::thread::scope(|scope| {
            // Bounded, and what passes has been understood already: memory holds no more than the catalog needs.
            let (sender, understood) = crossbeam_channel::bounded(WAITING);
            for share in wanted.chunks(wanted.len().div_ceil(threads).max(1)) {
                let sender = sender.clone();
                scope.spawn(move || {
                    let documents = share.iter().inspect(|_| sign()).filter_map(|name| self.document(name));
                    for document in documents.map(Document::understand) {
                        // Refused only when the other side is gone, and then nobody waits for the rest.
                        if sender.send(document).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            Catalog::of_destination(destination, objects, understood)
        })
    }

    /// A document as it is stored; none if it has been removed since it was listed. In the place of a check that was
    /// superseded since then, the one that counts now: without any, a bad copy would look like one that nobody checked.
    pub(super) fn document(&self, name: &ObjectName) -> Option<Document> {
        let mut name = name.clone();
        for _ in 0..MOST_SUPERSEDED {
            let content = match self.read_small(&name, MAX_BYTES as u64) {
                Ok(bytes) => Ok(bytes),
                Err(Error::NotFound { .. }) => {
                    name = self.successor_of(&name)?;
                    continue;
                }
                Err(Error::Io { doing, source, .. } | Error::Denied { doing, source, .. }) => {
                    Err(format!("{doing}: {source}"))
                }
                Err(error) => Err(error.to_string()),
            };
            return Some(Document { name, content });
        }
        let content = Err("superseded again each time it was to be read".to_owned());
        Some(Document { name, content })
    }

    /// What counts in the place of a document that is gone.
    fn successor_of(&self, gone: &ObjectName) -> Option<ObjectName> {
        let (chain, _) = gone.check()?;
        self.checks_of(chain).ok()?.pop()
    }

    /// The space that is left.
    pub fn free_space(&self) -> Result<FreeSpace, Error> {
        let found = statvfs(&self.folder).map_err(|errno| failed("ask for space in", &self.folder)(errno.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
        Ok(FreeSpace {
            available: bytes(found.blocks_available()),
            total: bytes(found.blocks()),
        })
    }

    /// Removes an object, and folders that are empty then.
    pub fn remove(&self, object: &ObjectName) -> Result<(), Error> {
        let path = self.path_of(object);
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        if let Some(above) = path.parent() {
            durable::sync_dir(above)?;
        }
        remove_empty_folders(&self.folder, &path);
        Ok(())
    }

    /// The time by the store's own clock, which on a network file system is not this host's.
    pub fn now(&self) -> Result<Timestamp, Error> {
        let trial = Partial::create(&self.path_of(&ObjectName::StoreMarker), FILE_MODE)?;
        let looked = trial.file().metadata();
        Ok(modified(&looked.map_err(failed("look at", trial.target()))?))
    }

    /// Writes a canary for `host` and reads it back from the disk; `Altered` if it came back different.
    pub fn try_canary(&self, host: &HostName) -> Result<(), Error> {
        let object = ObjectName::Canary(host.clone());
        let path = self.path_of(&object);
        make_folder_of(&self.folder, &path)?;
        let song: [u8; 4096] = durable::random().map_err(failed("get random bytes for", &path))?;
        durable::replace(&path, &song, FILE_MODE)?;
        let (file, _) = open_plain(&path)?;
        forget(&file, 0, 0); // a length of 0 means to the end
        let mut heard = Vec::new();
        let read = file.take(2 * song.len() as u64).read_to_end(&mut heard);
        read.map_err(failed("read back", &path))?;
        if heard != song {
            return Err(Error::Altered { path });
        }
        Ok(())
    }

    fn checked(self, expected: Option<&Known>) -> Result<Disk, Error> {
        match (&self.id, expected) {
            (Some(found), Some(known)) if *found != known.id => Err(Error::WrongStore {
                folder: self.folder.clone(),
                known: known.clone(),
                found: found.clone(),
            }),
            (Some(_) | None, _) => Ok(self),
        }
    }

    fn marker(&self) -> Result<Option<Marker>, Error> {
        match self.read_small(&ObjectName::StoreMarker, MARKER_MAX) {
            Ok(bytes) => Marker::from_bytes(&bytes, &self.path_of(&ObjectName::StoreMarker)).map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn with_new_marker(mut self, now: Timestamp) -> Result<Disk, Error> {
        let path = self.path_of(&ObjectName::StoreMarker);
        let marker = Marker::new(&path, now)?;
        durable::create_dirs(&self.folder, FOLDER_MODE)?;
        let marker = match durable::create_new(&path, &marker.to_bytes(), FILE_MODE) {
            Ok(()) => Some(marker),
            Err(durable::Error::Exists { .. }) => self.marker()?,
            Err(error) => return Err(error.into()),
        };
        self.id = marker.map(|marker| marker.store_id);
        Ok(self)
    }

    fn holds_backups(&self) -> Result<bool, Error> {
        let objects = match self.list(&|| {}) {
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

/// Makes the folder of `path`, but never the store's own: that one is gone if its mount is.
pub(super) fn make_folder_of(store: &Path, path: &Path) -> Result<(), Error> {
    if let Err(source) = fs::metadata(store) {
        return Err(failed("look at", store)(source));
    }
    let folder = path.parent().unwrap_or(store);
    durable::create_dirs(folder, FOLDER_MODE).map_err(|error| match error {
        // Not what was to be made: the file system takes no folder there.
        durable::Error::Io { doing, path, source } if source.kind() == io::ErrorKind::NotFound => {
            Error::Io { doing, path, source }
        }
        other => other.into(),
    })
}

/// Removes the folders from that of `path` up to the store's own that have nothing in them.
pub(super) fn remove_empty_folders(store: &Path, path: &Path) {
    let above = path.ancestors().skip(1).take_while(|folder| *folder != store);
    for folder in above {
        // One that is not empty refuses, and that is the test.
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
}

/// Has the kernel forget what it has of a file. Where the advice is not taken (tmpfs), the bytes are in memory only and
/// that is what they are.
pub(super) fn forget(file: &File, from: u64, length: u64) {
    let (Ok(from), Ok(length)) = (i64::try_from(from), i64::try_from(length)) else {
        return;
    };
    posix_fadvise(file, from, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok();
}

fn open_plain(path: &Path) -> Result<(File, u64), Error> {
    let file = durable::open_plain(path).map_err(|source| match NotPlain::of(&source) {
        Some(instead) => unfit(path, instead.found(), "a plain file"),
        None => failed("open", path)(source),
    })?;
    let found = file.metadata().map_err(failed("look at", path))?;
    // Reads ahead further; where the advice is not taken, reading is slower.
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL).ok();
    Ok((file, found.len()))
}

/// Lists the folder whose path in the store is `prefix`. The depth is bounded by `Folder::at`, which knows no deeper one.
fn list_folder(
    path: &Path,
    prefix: &str,
    folder: Option<Folder>,
    sign: &dyn Fn(),
    objects: &mut Vec<ListedObject>,
) -> Result<(), Error> {
    sign();
    let entries = match fs::read_dir(path) {
        // A folder inside may have been removed since it was seen; the store itself may not.
        Err(source) if source.kind() == io::ErrorKind::NotFound && folder.is_some() => return Ok(()),
        Err(source) if folder.is_some() => {
            objects.push(unreadable(prefix, &source));
            return Ok(());
        }
        opened => opened.map_err(failed("list", path))?,
    };
    let mut empty = true;
    for entry in entries {
        let entry = match entry {
            Err(source) if folder.is_some() => {
                objects.push(unreadable(prefix, &source));
                return Ok(());
            }
            entry => entry.map_err(failed("list", path))?,
        };
        empty = false;
        let file_name = entry.file_name();
        let name = join(prefix, &file_name.to_string_lossy());
        // Told by the listing itself: a folder of ours is not looked at more closely, and most entries are such.
        let Ok(kind) = entry.file_type() else {
            continue; // removed since it was seen
        };
        if kind.is_dir()
            && let Some(inside) = Folder::at(&name)
        {
            list_folder(&entry.path(), &name, Some(inside), sign, objects)?;
            continue;
        }
        let found = match entry.metadata() {
            Ok(found) => found,
            // Removed since it was seen.
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                objects.push(unreadable(&name, &source));
                continue;
            }
        };
        let of_partial = file_name
            .to_str()
            .and_then(durable::target_of)
            .map(|target| join(prefix, target));
        let name = match of_partial.and_then(|target| target.parse().ok()) {
            _ if !kind.is_file() || file_name.to_str().is_none() => Listed::Foreign(name),
            Some(of) => Listed::Partial { path: name, of },
            None => Listed::file(&name),
        };
        objects.push(ListedObject {
            name,
            bytes: found.len(),
            modified: modified(&found),
        });
    }
    if let Some(folder) = folder.filter(|_| empty) {
        let found = match fs::symlink_metadata(path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            looked => looked.map_err(failed("look at", path))?,
        };
        let path = prefix.to_owned();
        objects.push(ListedObject {
            name: Listed::EmptyFolder { path, folder },
            bytes: 0,
            modified: modified(&found),
        });
    }
    Ok(())
}

fn unreadable(path: &str, source: &io::Error) -> ListedObject {
    ListedObject {
        name: Listed::Unreadable {
            path: path.to_owned(),
            why: source.to_string(),
        },
        bytes: 0,
        modified: Timestamp::MAX,
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        return name.to_owned();
    }
    format!("{prefix}/{name}")
}

pub(super) fn modified(found: &fs::Metadata) -> Timestamp {
    // A time that cannot be told counts as just now: nothing is swept for it.
    let nanoseconds = i32::try_from(found.mtime_nsec()).unwrap_or_default();
    Timestamp::new(found.mtime(), nanoseconds).unwrap_or(Timestamp::MAX)
}

fn unfit(path: &Path, found: &str, expected: &str) -> Error {
    Error::Unfit {
        path: path.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}
