//! Destinations: where stored objects lie, and the promises about writing them.
//!
//! A store is the folder of one cluster name inside a destination. What its objects mean is left to `catalog`; which of
//! them to remove is left to retention, except for the leavings of backups that did not end (`sweep`).
//!
//! Invariant: an object that can be seen is whole, and is never overwritten. A store that once was there and is not is
//! not mounted; it is never made anew.

mod adopt;
mod backend;
mod bucket_options;
mod claims;
#[cfg(test)]
mod conformance;
#[cfg(any(feature = "opendal", feature = "swift"))]
mod credential_document;
mod deadline;
mod document_cache;
mod folder;
mod handle;
#[cfg(any(feature = "opendal", feature = "swift"))]
mod http;
mod location;
mod marker;
mod object;
#[cfg(feature = "opendal")]
mod objects;
mod over_backend;
mod probe;
#[cfg(any(feature = "opendal", feature = "swift", feature = "sftp"))]
mod runtime;
#[cfg(feature = "sftp")]
mod sftp;
mod sweep;
#[cfg(feature = "swift")]
mod swift;
#[cfg(test)]
pub(crate) mod tests;
mod throttle;
mod upload;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid};

pub use adopt::Adopted;
pub use backend::{Credentials, FreeSpace};
pub use bucket_options::{BucketOptions, Checksum, ReadingBack};
pub use deadline::Limits;
pub use document_cache::Kept;
pub use handle::{Store, Transfer, asked, time_to_sync};
pub use location::{Bucket, BucketKind, Location, Server, SftpOptions, built_in};
pub use marker::StoreId;
pub use object::Object;
pub use over_backend::{Access, Contents, ReadBack};
pub use probe::{Answer, Enforces, OfKind};
pub use sweep::{ABANDONED_AFTER, Begun, Sweep, Swept};
pub use upload::{Faster, Upload};

use crate::durable;
use crate::model::AGENTS_USER;
#[cfg(test)]
use crate::{layout, model};

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
    /// The bucket is not there.
    #[error("cannot {doing} `{at}`: there is no such bucket: make it, or correct the URL or the endpoint")]
    NoBucket {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        at: String,
    },
    /// The folder of the destination is not there on its server.
    #[error(
        "cannot {doing} `{at}`: there is no such folder on the server: make it there before the first backup, or correct the URL"
    )]
    NoFolder {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        at: String,
    },
    /// A server is not known by the key that it showed.
    #[error("{server} showed a key that {}: {fingerprint}; compare it on the server (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`), and if it is the same, write `host_key = \"{shown}\"` into the table of the destination", whose(*.is_another))]
    Stranger {
        /// The server, and its port.
        server: String,
        /// Its key, as OpenSSH writes it.
        shown: String,
        /// The digest of that, as OpenSSH prints it.
        fingerprint: String,
        /// Whether others are known of it.
        is_another: bool,
    },
    /// Nothing says who asks.
    #[error(
        "{doing} `{at}`: no credentials were found: name them by `credentials` in its table, or in the environment"
    )]
    NoCredentials {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        at: String,
    },
    /// This host has seen the store before, and now it is gone.
    #[error("store {} is not in `{at}`: {}; if it is gone for good, remove `{}`, by which this host knows it", .known.id, come_back(.at), .known.record.display())]
    NotMounted {
        /// Where it was.
        at: String,
        /// Which it was.
        known: Known,
    },
    /// Another store has taken the place of the one this host has seen before.
    #[error("`{at}` holds store {found}, but this host knows store {} there: {}; to restore from this one as it is, name it with `--from {at}`; if it is here to stay, remove `{}`", .known.id, right_one(.at), .known.record.display())]
    WrongStore {
        /// Where.
        at: String,
        /// Which it was.
        known: Known,
        /// Which it is.
        found: StoreId,
    },
    /// There is no store for this cluster, and never was as far as this host knows.
    #[error("there is no store in `{at}`: the first backup makes it")]
    NoStore {
        /// Where it would be.
        at: String,
    },
    /// There are objects, but the store's marker is gone.
    #[error(
        "`{at}` holds backups but no store.json: put that file back, or, if it is the right store, write a new one with `lifeboat check --adopt-store DESTINATION`"
    )]
    MarkerMissing {
        /// Where.
        at: String,
    },
    /// The store's marker cannot be read.
    #[error(
        "`{at}` is not a store's marker ({detail}): put the file back, or remove it and run `lifeboat check --adopt-store DESTINATION`"
    )]
    MarkerDamaged {
        /// Which.
        at: String,
        /// What is wrong with it.
        detail: String,
    },
    /// It does not get a marker because the operator says so.
    #[error("`{at}` is not adopted: {why}")]
    NotAdopted {
        /// Where.
        at: String,
        /// Why not.
        why: String,
    },
    /// The object is there already: another was faster.
    #[error("`{at}` exists already")]
    AlreadyExists {
        /// Which.
        at: String,
    },
    /// The object is not there.
    #[error("cannot {doing} `{at}`: it is not there")]
    NotFound {
        /// What was attempted.
        doing: &'static str,
        /// Which.
        at: String,
    },
    /// The object is larger than it may be, or not a plain file.
    #[error("`{at}` is {found}, not {expected}")]
    Unfit {
        /// Which.
        at: String,
        /// What it is.
        found: String,
        /// What it would have to be.
        expected: String,
    },
    /// What was read is not what had been written.
    #[error("`{at}` changed since it was written: do not trust what keeps it")]
    Altered {
        /// Which.
        at: String,
    },
    /// Nothing that it told proves what it took.
    #[error(
        "`{at}`: the store tells no checksum of what it took by which that could be proven: set `read_back = \"always\"`"
    )]
    Unacknowledged {
        /// Which.
        at: String,
    },
    /// It may be written to no faster than is configured.
    #[error(
        "`{at}`: the backup came faster than `bandwidth` lets it be written: it is copied later, by the agent or by `lifeboat copy`"
    )]
    Limited {
        /// Which.
        at: String,
    },
    /// It does not answer.
    #[error("`{at}` hangs, it is left out until it answers: {why}")]
    Hangs {
        /// The destination.
        at: String,
        /// For how long.
        why: String,
    },
    /// What this host remembers of it cannot be read, so that it may be the wrong one.
    #[error("whether `{at}` holds the right store is not known: {why}")]
    Forgotten {
        /// The destination.
        at: String,
        /// What cannot be read.
        why: String,
    },
    /// The server refused: who asks may not.
    #[error("cannot {doing} `{at}`: refused: look at the credentials, and at what they may do: {why}")]
    Refused {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        at: String,
        /// What it said.
        why: String,
    },
    /// There is no space left.
    #[error("cannot {doing} `{}`: no space is left: free some, keep fewer backups, or name another destination", .path.display())]
    Full {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file system is mounted read-only.
    #[error("cannot {doing} `{}`: the file system is read-only: look for the reason in the kernel log, or mount it writable", .path.display())]
    ReadOnly {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// This user may not.
    #[error("cannot {doing} `{}`: permission denied to user {}: {}", .path.display(), user(), way_in(doing, .path))]
    Denied {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It failed for another reason.
    #[error("cannot {doing} `{at}`")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        at: String,
        /// What was said.
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
            _ => Error::at(doing, path.display().to_string(), source),
        }
    }

    /// What the bytes of an object that was opened, or is being written, ran into.
    fn at(doing: &'static str, at: String, source: io::Error) -> Error {
        // It says already what it is about.
        let source = match source.downcast::<Error>() {
            Ok(error) => return error,
            Err(source) => source,
        };
        match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { doing, at },
            _ => Error::Io { doing, at, source },
        }
    }
}

/// What is wrong with the key of a server.
fn whose(is_another: bool) -> &'static str {
    match is_another {
        true => "is not one of those that are known of it: somebody may be in between",
        false => "nobody wrote down",
    }
}

/// The way out where another store is than the right one.
fn right_one(at: &str) -> &'static str {
    match at.contains("://") {
        true => "look at the address",
        false => "mount the right one",
    }
}

/// What brings the right store back to where it was.
fn come_back(at: &str) -> &'static str {
    match at.contains("://") {
        true => "look at the address and the credentials",
        false => "mount it",
    }
}

/// The user that this process is to the file system.
fn user() -> String {
    let own = geteuid();
    let found = User::from_uid(own).ok().flatten();
    found.map_or_else(|| own.to_string(), |user| user.name)
}

/// What only looks: the group of a store may.
const LOOKS: [&str; 5] = ["look at", "look into", "list", "read", "open"];

/// What lets this user at `path`.
fn way_in(doing: &str, path: &Path) -> String {
    if LOOKS.contains(&doing)
        && let Some(command) = durable::joins_readers_of(path)
    {
        return format!("as root `{command}` lets you, from the next login on");
    }
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
    // Who is not the agent's user does not take from it what is its own.
    let owner = fs::metadata(folder).ok().map(|found| Uid::from_raw(found.uid()));
    let owner = owner
        .filter(|owner| *owner != geteuid())
        .and_then(|owner| User::from_uid(owner).ok().flatten());
    if let Some(owner) = owner.filter(|owner| owner.name == AGENTS_USER) {
        return format!("it belongs to user {}: run this as root, or as that user", owner.name);
    }
    format!("`chown -R {}: {}`", user(), folder.display())
}

/// Makes an error of what was attempted, for `map_err`.
fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::io(doing, path, source)
}

impl From<durable::Error> for Error {
    fn from(error: durable::Error) -> Error {
        match error {
            durable::Error::Exists { path } => Error::AlreadyExists {
                at: path.display().to_string(),
            },
            durable::Error::Io { doing, path, source } => Error::io(doing, &path, source),
        }
    }
}
