//! Destinations: where stored objects lie, and the promises about writing them.
//!
//! A store is the folder of one cluster name inside a destination. What its objects mean is left to `catalog`; which of
//! them to remove is left to retention, except for the leavings of backups that did not end (`sweep`).
//!
//! Invariant: an object that can be seen is whole, and is never overwritten. A store that once was there and is not is
//! not mounted; it is never made anew.

mod claims;
mod disk;
mod handle;
mod marker;
mod object;
mod patience;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;
mod upload;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};

pub use disk::{Access, Contents, FreeSpace, ReadBack};
pub use handle::{FileStore, Limits, Transfer, asked, time_to_sync};
pub use marker::StoreId;
pub use object::Object;
pub use sweep::{ABANDONED_AFTER, Begun, Swept};
pub use upload::Upload;

use crate::durable;

/// The store that this host has seen at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which it was.
    pub id: StoreId,
    /// The file in which that is remembered.
    pub record: PathBuf,
}

/// What went wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The destination's folder is not there.
    #[error("`{}` does not exist: mount it, or make it before the first backup with `mkdir -p {}`, then `chown {}: {}`", .root.display(), .root.display(), user(), .root.display())]
    RootMissing {
        /// The destination.
        root: PathBuf,
    },
    /// This host has seen the store before, and now it is gone.
    #[error("store {} is not in `{}`: mount it; if it is gone for good, remove `{}`, by which this host knows it", .known.id, .folder.display(), .known.record.display())]
    NotMounted {
        /// Where it was.
        folder: PathBuf,
        /// Which it was.
        known: Known,
    },
    /// Another store has taken the place of the one this host has seen before.
    #[error("`{}` holds store {found}, but this host knows store {} there: mount the right one; to restore from this one as it is, name it with `--from {}`; if it is here to stay, remove `{}`", .folder.display(), .known.id, .folder.display(), .known.record.display())]
    WrongStore {
        /// Where.
        folder: PathBuf,
        /// Which it was.
        known: Known,
        /// Which it is.
        found: StoreId,
    },
    /// There is no store for this cluster, and never was as far as this host knows.
    #[error("there is no store in `{}`: the first backup makes it", .folder.display())]
    NoStore {
        /// Where it would be.
        folder: PathBuf,
    },
    /// There are objects, but the store's marker is gone.
    #[error("`{}` holds backups but no store.json: put that file back, or move the folder aside", .folder.display())]
    MarkerMissing {
        /// Where.
        folder: PathBuf,
    },
    /// The store's marker cannot be read.
    #[error("`{}` is not a store's marker ({detail}): put the file back, or move the folder aside", .path.display())]
    MarkerDamaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The object is there already: another was faster.
    #[error("`{}` exists already", .path.display())]
    AlreadyExists {
        /// Which.
        path: PathBuf,
    },
    /// The object is not there.
    #[error("{doing} `{}`: it is not there", .path.display())]
    NotFound {
        /// What was attempted.
        doing: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// The object is larger than it may be, or not a plain file.
    #[error("`{}` is {found}, not {expected}", .path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it would have to be.
        expected: String,
    },
    /// What was read is not what had been written.
    #[error("`{}` changed since it was written: do not trust this file system", .path.display())]
    Altered {
        /// Which.
        path: PathBuf,
    },
    /// It does not answer.
    #[error("`{}` hangs, it is left out until it answers: {why}", .root.display())]
    Hangs {
        /// The destination.
        root: PathBuf,
        /// For how long.
        why: String,
    },
    /// What this host remembers of it cannot be read, so that it may be the wrong one.
    #[error("whether `{}` holds the right store is not known: {why}", .root.display())]
    Forgotten {
        /// The destination.
        root: PathBuf,
        /// What cannot be read.
        why: String,
    },
    /// There is no space left.
    #[error("{doing} `{}`: no space is left: free some, keep fewer backups, or name another destination", .path.display())]
    Full {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file system is mounted read-only.
    #[error("{doing} `{}`: the file system is read-only: look for the reason in the kernel log, or mount it writable", .path.display())]
    ReadOnly {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// This user may not.
    #[error("{doing} `{}`: permission denied to user {}: {}", .path.display(), user(), way_in(.path))]
    Denied {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refused for another reason.
    #[error("{doing} `{}`", .path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Error {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { doing, path, source },
            io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { doing, path, source },
            io::ErrorKind::PermissionDenied => Error::Denied { doing, path, source },
            io::ErrorKind::NotFound => Error::NotFound { doing, path },
            _ => Error::Io { doing, path, source },
        }
    }
}

/// The user that this process is to the file system.
fn user() -> String {
    let own = geteuid();
    let found = User::from_uid(own).ok().flatten();
    found.map_or_else(|| own.to_string(), |user| user.name)
}

/// What lets this user at `path`.
fn way_in(path: &Path) -> String {
    let folder = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => path,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return format!(
                "let it through the folders above (`namei -l {}` shows which)",
                path.display()
            );
        }
        Ok(_) | Err(_) => path.parent().unwrap_or(path),
    };
    format!("`chown -R {}: {}`", user(), folder.display())
}

/// Makes an error of what was attempted, for `map_err`.
fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::io(doing, path, source)
}

impl From<durable::Error> for Error {
    fn from(error: durable::Error) -> Error {
        match error {
            durable::Error::Exists { path } => Error::AlreadyExists { path },
            durable::Error::Io { doing, path, source } => Error::io(doing, &path, source),
        }
    }
}
