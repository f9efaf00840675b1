//! Stores on a file system: `file:` destinations.
//!
//! Invariant: objects are plain files; symbolic links are neither followed nor written through.
//!
//! Invariant: the folder of the destination is made by the operator. A missing one is a mount that is not there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statvfs::statvfs;

use super::backend::{Backend, Cache, FreeSpace, NewObject, Opened, Under};
use super::{Error, failed};
use crate::durable::{self, NotPlain, Partial};
use crate::layout::{Folder as Inside, Listed, ListedObject, ObjectName};

// Group members may read, whatever the umask: what lies here is encrypted, and the group is how an operator lets another
// account carry it away (rsync, tape) without making it root. Others may not: names and sizes are told to nobody.
pub(super) const FILE_MODE: u32 = 0o640;
pub(super) const FOLDER_MODE: u32 = 0o750;

/// How much is written before the kernel is told to bring it to the disk. Large enough for long requests, small enough
/// that the final sync has little left to wait for and that etcd's pages are not driven out of the cache.
const WINDOW: u64 = 8 << 20;

/// A folder with the objects of one store, or with the folders of several.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// That of `cluster` in the destination `root`; it need not be there, but `root` must.
    pub fn in_destination(root: &Path, cluster: &str) -> Result<Folder, Error> {
        match fs::metadata(root) {
            Ok(found) if found.is_dir() => Ok(Folder::at(&root.join(cluster))),
            Ok(_) => Err(unfit(root, "a file", "a folder")),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(Error::RootMissing { root: root.to_owned() })
            }
            Err(source) => Err(failed("look at", root)(source)),
        }
    }

    /// This one.
    pub fn at(path: &Path) -> Folder {
        Folder { path: path.to_owned() }
    }

    fn path_of(&self, object: &ObjectName) -> PathBuf {
        self.path.join(object.to_string())
    }
}

impl Backend for Folder {
    fn address(&self, path: &str) -> String {
        match path {
            "" => self.path.display().to_string(),
            path => self.path.join(path).display().to_string(),
        }
    }

    fn begin(&self, object: &ObjectName) -> Result<Box<dyn NewObject>, Error> {
        Ok(Box::new(NewFile::begin(&self.path, self.path_of(object))?))
    }

    fn put_new(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path_of(object);
        match object {
            // The first object of a store makes its folder; for any other, the store itself is gone if its mount is.
            ObjectName::StoreMarker => durable::create_dir(&self.path, FOLDER_MODE)?,
            _ => make_folder_of(&self.path, &path)?,
        }
        Ok(durable::create_new(&path, bytes, FILE_MODE)?)
    }

    fn replace(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path_of(object);
        make_folder_of(&self.path, &path)?;
        Ok(durable::replace(&path, bytes, FILE_MODE)?)
    }

    fn read(&self, object: &ObjectName, most: u64) -> Result<Vec<u8>, Error> {
        let path = self.path_of(object);
        let (file, bytes) = open_plain(&path)?;
        let mut content = Vec::with_capacity(usize::try_from(bytes.min(most)).unwrap_or(0));
        file.take(most)
            .read_to_end(&mut content)
            .map_err(failed("read", &path))?;
        Ok(content)
    }

    fn open(&self, object: &ObjectName, cache: Cache) -> Result<Opened, Error> {
        let (file, bytes) = open_plain(&self.path_of(object))?;
        if cache == Cache::Dropped {
            forget(&file, 0, 0); // a length of 0 means to the end
        }
        let reader = Box::new(OfFile { file, cache, at: 0 });
        Ok(Opened {
            reader,
            bytes,
            slack: Duration::ZERO,
        })
    }

    /// Folders that are none of ours are reported and not entered; one of ours that cannot be looked into is reported, and
    /// hides nothing else.
    fn list(&self, under: &Under, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
        let (prefix, inside) = under.folder();
        // Inside, a folder comes with its first object; the store itself must be there.
        if inside.is_some() {
            fs::metadata(&self.path).map_err(failed("look at", &self.path))?;
        }
        let mut objects = Vec::new();
        let folder = match prefix.as_str() {
            "" => self.path.clone(),
            prefix => self.path.join(prefix),
        };
        list_folder(&folder, &prefix, inside, sign, &mut objects)?;
        Ok(objects)
    }

    fn listing_delay(&self) -> SignedDuration {
        SignedDuration::ZERO
    }

    fn folders(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::RootMissing {
                root: self.path.clone(),
            },
            _ => failed("list", &self.path)(source),
        })?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string()));
        let names: Result<Vec<_>, _> = names.collect();
        // A name that is no text is none of ours.
        Ok(names
            .map_err(failed("list", &self.path))?
            .into_iter()
            .filter_map(Result::ok)
            .collect())
    }

    /// And folders that are empty then.
    fn remove(&self, object: &ObjectName) -> Result<(), Error> {
        self.remove_file(&self.path_of(object))
    }

    fn remove_leaving(&self, leaving: &Listed) -> Result<(), Error> {
        match leaving {
            Listed::Ours(name) => self.remove(name),
            Listed::Partial { path, .. } => self.remove_file(&self.path.join(path)),
            Listed::EmptyFolder { path, .. } => {
                let path = self.path.join(path);
                match fs::remove_dir(&path) {
                    // Another has just put something into it: there is no empty one any more.
                    Err(source) if source.kind() == io::ErrorKind::DirectoryNotEmpty => Err(Error::NotFound {
                        doing: "remove",
                        at: path.display().to_string(),
                    }),
                    removed => {
                        removed.map_err(failed("remove", &path))?;
                        remove_empty_folders(&self.path, &path);
                        Ok(())
                    }
                }
            }
            // Not ours to remove.
            Listed::Foreign(_) | Listed::Unreadable { .. } => Ok(()),
        }
    }

    /// On a network file system, the server's.
    fn now(&self) -> Result<Timestamp, Error> {
        let trial = Partial::create(&self.path_of(&ObjectName::StoreMarker), FILE_MODE)?;
        let looked = trial.file().metadata();
        Ok(modified(&looked.map_err(failed("look at", trial.target()))?))
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, Error> {
        let found = statvfs(&self.path).map_err(|errno| failed("ask for space in", &self.path)(errno.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
        Ok(Some(FreeSpace {
            available: bytes(found.blocks_available()),
            total: bytes(found.blocks()),
        }))
    }
}

impl Folder {
    fn remove_file(&self, path: &Path) -> Result<(), Error> {
        fs::remove_file(path).map_err(failed("remove", path))?;
        if let Some(above) = path.parent() {
            durable::sync_dir(above)?;
        }
        remove_empty_folders(&self.path, path);
        Ok(())
    }
}

/// A file that is read once; with [`Cache::Dropped`], what was read is forgotten.
struct OfFile {
    file: File,
    cache: Cache,
    at: u64,
}

impl Read for OfFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        if self.cache == Cache::Dropped {
            forget(&self.file, self.at, length as u64);
        }
        self.at += length as u64;
        Ok(length)
    }
}

/// A file that is being written beside its name.
struct NewFile {
    /// Dropped, it removes the file.
    partial: Option<Partial>,
    target: PathBuf,
    store: PathBuf,
    written: u64,
    pushed: u64,
}

impl NewFile {
    /// Begins the object at `target`, somewhere below the folder `store`.
    fn begin(store: &Path, target: PathBuf) -> Result<NewFile, Error> {
        // A sweep may take away the folder while it is empty, between these two steps.
        const ATTEMPTS: u32 = 3;
        let mut attempt = 1;
        let partial = loop {
            make_folder_of(store, &target)?;
            match Partial::create(&target, FILE_MODE) {
                Ok(partial) => break partial,
                Err(durable::Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok(NewFile {
            partial: Some(partial),
            target,
            store: store.to_owned(),
            written: 0,
            pushed: 0,
        })
    }

    fn partial(&self) -> &Partial {
        self.partial
            .as_ref()
            .expect("only commit and drop take it, and each comes once")
    }

    /// Has the kernel write what is dirty, and forget what it has written. The advice is that and no more: it returns
    /// without waiting for the disk, and what is still dirty stays.
    fn push(&mut self) {
        let from = self.pushed.saturating_sub(WINDOW);
        let (Ok(offset), Ok(length)) = (i64::try_from(from), i64::try_from(self.written - from)) else {
            return;
        };
        // Advice that is not taken costs time, not safety.
        posix_fadvise(
            self.partial().file(),
            offset,
            length,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )
        .ok();
        self.pushed = self.written;
    }
}

impl NewObject for NewFile {
    fn commit(mut self: Box<Self>) -> Result<(), Error> {
        let partial = self
            .partial
            .take()
            .expect("only commit and drop take it, and each comes once");
        partial.commit_new()?;
        Ok(())
    }

    fn forget(mut self: Box<Self>) {
        // Its file is not closed either: that may hang, too.
        std::mem::forget(self.partial.take());
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.partial().file().write(bytes);
        let written = written.map_err(|source| match source.kind() {
            io::ErrorKind::Interrupted => source,
            kind => io::Error::new(kind, failed("write", &self.target)(source)),
        })?;
        self.written += written as u64;
        if self.written - self.pushed >= WINDOW {
            self.push();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.partial.take().is_some() {
            remove_empty_folders(&self.store, &self.target);
        }
    }
}

/// Makes the folder of `path`, but never the store's own: that one is gone if its mount is, also from one moment to the next.
fn make_folder_of(store: &Path, path: &Path) -> Result<(), Error> {
    if let Err(source) = fs::metadata(store) {
        return Err(failed("look at", store)(source));
    }
    make_below(store, path.parent().unwrap_or(store))
}

/// Makes a folder and those above it, up to the store's, which must be there.
fn make_below(store: &Path, folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut below: Vec<&Path> = folder.ancestors().take_while(|above| *above != store).collect();
    below.reverse();
    for folder in below {
        durable::create_dir(folder, FOLDER_MODE).map_err(|error| match error {
            // Not what was to be made: the file system takes no folder there.
            durable::Error::Io { doing, path, source } if source.kind() == io::ErrorKind::NotFound => {
                let at = path.display().to_string();
                Error::Io { doing, at, source }
            }
            other => other.into(),
        })?;
    }
    Ok(())
}

/// Removes the folders from that of `path` up to the store's own that have nothing in them.
fn remove_empty_folders(store: &Path, path: &Path) {
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
fn forget(file: &File, from: u64, length: u64) {
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

/// Lists the folder whose path in the store is `prefix`. The depth is bounded by `Inside::at`, which knows no deeper one.
fn list_folder(
    path: &Path,
    prefix: &str,
    folder: Option<Inside>,
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
            && let Some(inside) = Inside::at(&name)
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

fn modified(found: &fs::Metadata) -> Timestamp {
    // A time that cannot be told counts as just now: nothing is swept for it.
    let nanoseconds = i32::try_from(found.mtime_nsec()).unwrap_or_default();
    Timestamp::new(found.mtime(), nanoseconds).unwrap_or(Timestamp::MAX)
}

fn unfit(path: &Path, found: &str, expected: &str) -> Error {
    Error::Unfit {
        at: path.display().to_string(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_folders_of_a_store_is_not_made_anew_once_it_has_gone() {
        let place = tempfile::tempdir().unwrap();
        let (root, store) = (place.path().join("mount"), place.path().join("mount/prod"));
        let folder = store.join("slots/often");
        // As if it went after it was looked for.
        assert!(make_below(&store, &folder).is_err() && !root.exists());
        fs::create_dir(&root).unwrap();
        assert!(make_below(&store, &folder).is_err() && !store.exists());
        fs::create_dir(&store).unwrap();
        make_below(&store, &folder).unwrap();
        assert!(folder.is_dir());
    }
}
