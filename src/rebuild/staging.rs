//! The directory in which a data directory is made before it gets its name.
//!
//! A data directory that does not exist is made beside its place and renamed whole. One that exists and is empty may be
//! a mount point, which cannot be renamed over: there `member` is made in a directory inside it and moved up.
//!
//! Invariant: until it is published, everything lies in a directory whose name holds `.partial-`; it is locked while its
//! maker lives, so that another run can tell what was left by a dead one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::Error;
use crate::durable;

const PARTIAL: &str = ".partial-";

/// What etcd wants its directories to be.
pub(super) const DIR_MODE: u32 = 0o700;

/// Turns an error of the system into ours.
pub(super) fn io_error(doing: &'static str, path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    Error::Io { doing, path, source }
}

/// Makes a file that only its owner may read.
pub(super) fn create_new(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(|error| io_error("create", path, error))
}

/// What is at the place where a directory is to be.
enum Place {
    Absent,
    Empty,
}

/// A directory in the making. Dropped unpublished, it is removed.
#[must_use]
pub(super) struct Staging {
    /// What will be the content of the directory.
    pub dir: PathBuf,
    target: PathBuf,
    place: Place,
    owner: Option<(u32, u32)>,
    published: bool,
    _lock: Flock<File>,
}

impl Staging {
    /// Begins the directory that is to be at `target`.
    ///
    /// Refuses when there is anything in it, and says so when a running etcd holds it.
    pub fn begin(target: &Path) -> Result<Staging, Error> {
        let target = std::path::absolute(target).map_err(|error| io_error("resolve", target, error))?;
        let place = look(&target)?;
        let parent = target
            .parent()
            .ok_or_else(|| Error::NotEmpty { path: target.clone() })?;
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (home, prefix) = match place {
            Place::Absent => (parent.to_owned(), format!("{name}{PARTIAL}")),
            Place::Empty => (target.clone(), PARTIAL.to_owned()),
        };
        durable::create_dirs(&home, DIR_MODE)?;
        remove_leavings(&home, &prefix)?;
        let owner = owner_to_give(&home)?;
        let dir = home.join(format!("{prefix}{:08x}", random()?));
        durable::create_dirs(&dir, DIR_MODE)?;
        let lock = lock(&dir)?.ok_or_else(|| Error::Busy { path: dir.clone() })?;
        Ok(Staging {
            dir,
            target,
            place,
            owner,
            published: false,
            _lock: lock,
        })
    }

    /// The place it will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Who will own it, where that is somebody else than who makes it.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// Gives everything in it to its owner and makes it durable, all but its name.
    pub fn settle(&self) -> Result<(), Error> {
        settle(&self.dir, self.owner)
    }

    /// Gives it its name. `content` is the one entry that moves when the directory itself exists.
    pub fn publish(mut self, content: &str) -> Result<(), Error> {
        match self.place {
            Place::Absent => durable::rename_dir(&self.dir, &self.target)?,
            Place::Empty => {
                durable::rename_dir(&self.dir.join(content), &self.target.join(content))?;
                fs::remove_dir(&self.dir).map_err(|error| io_error("remove", &self.dir, error))?;
                durable::sync_dir(&self.target)?;
            }
        }
        self.published = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // Should it stay, the next run finds it unlocked and removes it.
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}

fn look(target: &Path) -> Result<Place, Error> {
    let entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Absent),
        Err(error) => return Err(io_error("read", target, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| io_error("read", target, error))?;
        // A file system's own, on a mount point; and what a run that died left behind.
        let name = entry.file_name();
        if name == "lost+found" || name.to_string_lossy().starts_with(PARTIAL) {
            continue;
        }
        let path = target.to_owned();
        return Err(match is_held(&target.join("member/snap/db")) {
            true => Error::Running { path },
            false => Error::NotEmpty { path },
        });
    }
    Ok(Place::Empty)
}

/// Whether a running etcd holds the database: it locks it for as long as it runs.
fn is_held(database: &Path) -> bool {
    let Ok(file) = File::open(database) else { return false };
    matches!(
        Flock::lock(file, FlockArg::LockExclusiveNonblock),
        Err((_, nix::errno::Errno::EWOULDBLOCK))
    )
}

/// Removes what runs that died left in `home`.
fn remove_leavings(home: &Path, prefix: &str) -> Result<(), Error> {
    let entries = fs::read_dir(home).map_err(|error| io_error("read", home, error))?;
    for entry in entries {
        let path = entry.map_err(|error| io_error("read", home, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = name.strip_prefix(prefix).is_some_and(is_random);
        if is_ours && lock(&path)?.is_some() {
            fs::remove_dir_all(&path).map_err(|error| io_error("remove", &path, error))?;
        }
    }
    Ok(())
}

/// Locks a directory; `None` when another run holds it.
fn lock(dir: &Path) -> Result<Option<Flock<File>>, Error> {
    let opened = File::open(dir).map_err(|error| io_error("open", dir, error))?;
    match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(io_error("lock", dir, error.into())),
    }
}

/// When root makes a directory in one that belongs to somebody else, such as etcd's user, it is theirs.
fn owner_to_give(home: &Path) -> Result<Option<(u32, u32)>, Error> {
    let metadata = fs::metadata(home).map_err(|error| io_error("read", home, error))?;
    let somebody = (metadata.uid(), metadata.gid());
    Ok((nix::unistd::geteuid().is_root() && somebody.0 != 0).then_some(somebody))
}

/// Syncs every file and directory below `dir` and `dir` itself.
fn settle(dir: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(|error| io_error("read", dir, error))? {
        let path = entry.map_err(|error| io_error("read", dir, error))?.path();
        if path.is_dir() {
            settle(&path, owner)?;
        } else {
            give(&path, owner)?;
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|error| io_error("sync", &path, error))?;
        }
    }
    give(dir, owner)?;
    durable::sync_dir(dir)?;
    Ok(())
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let Some((user, group)) = owner else { return Ok(()) };
    chown(path, Some(user), Some(group)).map_err(|error| io_error("give away", path, error))
}

fn is_random(suffix: &str) -> bool {
    suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_hexdigit())
}

fn random() -> Result<u32, Error> {
    getrandom::u32().map_err(|error| io_error("draw a name in", Path::new("/dev/urandom"), io::Error::other(error)))
}
