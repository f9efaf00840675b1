//! Why there is no data directory.

use std::io;
use std::path::PathBuf;

use crate::bbolt;
use crate::datadir;
use crate::durable;
use crate::keyspace;
use crate::keyspace::entries::CannotExecute;
use crate::model::{ByteSize, Revision};
use crate::source;
use crate::text::first_of;

/// Why there is no data directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is there.
    #[error("`{}` is not empty", .path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be kept up with changes.
    #[error("`{}` is not as it was laid out for this member: an etcd has run on it, or it is of another cluster", .path.display())]
    NotWarm {
        /// The directory.
        path: PathBuf,
    },
    /// A running etcd uses it.
    #[error("`{}` is in use: a running etcd holds its database", .path.display())]
    Running {
        /// The directory.
        path: PathBuf,
    },
    /// Another run makes the same directory.
    #[error("another run is making `{}`", .path.display())]
    Busy {
        /// The directory in the making.
        path: PathBuf,
    },
    /// One of the two directories is the other, or in it.
    #[error("`{}` and `{}` are one in the other", .data_dir.display(), .wal_dir.display())]
    Nested {
        /// The data directory.
        data_dir: PathBuf,
        /// The log's.
        wal_dir: PathBuf,
    },
    /// The data has its name, its log has not, and the data could not be taken back.
    #[error("{error}; and `{}` has been published already, without its log", .data_dir.display())]
    WithoutLog {
        /// The data directory.
        data_dir: PathBuf,
        /// Why the log could not follow.
        error: Box<Error>,
    },
    /// There is no log where one was named.
    #[error("there is no write-ahead log in `{}`", .path.display())]
    NoLog {
        /// The directory.
        path: PathBuf,
    },
    /// A running etcd uses what is to be read.
    #[error("`{}` is in use: a running etcd holds it", .path.display())]
    Alive {
        /// The database.
        path: PathBuf,
    },
    /// The log does not go on from the database.
    #[error("the log in `{}` cannot be used: {error}", .path.display())]
    LogUnusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: datadir::Unusable,
    },
    /// What the log holds beyond the database cannot be executed.
    #[error("{error}")]
    CannotExecute {
        /// Why.
        error: CannotExecute,
    },
    /// There is too little room.
    #[error("`{}` has {free} free, and {needed} are needed", .path.display())]
    TooLittleSpace {
        /// The directory.
        path: PathBuf,
        /// What there is.
        free: ByteSize,
        /// What is needed.
        needed: ByteSize,
    },
    /// Somebody asked to stop.
    #[error("interrupted; nothing was kept")]
    Interrupted,
    /// The source cannot be read.
    #[error(transparent)]
    Source(source::Error),
    /// There is no digest at the end.
    #[error("{name} has no SHA-256 at its end: it is a copy of a database file, or cut short")]
    NoDigest {
        /// The source.
        name: String,
    },
    /// The digest at the end is wrong.
    #[error("{name} is damaged: its bytes do not match the SHA-256 at its end")]
    DigestDiffers {
        /// The source.
        name: String,
    },
    /// The bytes are not those that were backed up.
    #[error("{name} is not what its manifest says: {what}")]
    NotAsRecorded {
        /// The source.
        name: String,
        /// The difference.
        what: String,
    },
    /// The database is not sound.
    #[error("{name} is not a sound etcd database: {}", first_of(.faults, *.count))]
    Unsound {
        /// The source.
        name: String,
        /// The first faults.
        faults: Vec<String>,
        /// How many there are.
        count: u64,
    },
    /// It cannot be restored as wished.
    #[error("{name} cannot be restored so: {error}")]
    Content {
        /// The source.
        name: String,
        /// Why.
        error: keyspace::Error,
    },
    /// The changes behind the source do not hold together, or not with it.
    #[error("the changes behind the backup are not whole{}: {what}", .delta.as_ref().map(|delta| format!(" ({delta})")).unwrap_or_default())]
    BrokenChanges {
        /// The delta that it is found in, where it is one.
        delta: Option<String>,
        /// What is wrong.
        what: String,
        /// The revision at which that shows.
        at: Revision,
        /// The last revision that nothing speaks against: a restore to it, or to any before it, is possible.
        good: Revision,
    },
    /// What changes are to follow is not what a member had.
    #[error(
        "HashKV at revision {at} is not the {reported} that a member has reported: what is before the changes is wrong already"
    )]
    BaseDiffers {
        /// The revision that was reported of; the changes begin behind it.
        at: Revision,
        /// HashKV as it was reported.
        reported: u32,
    },
    /// What was built is not sound: a fault of this program or of the disk.
    #[error("the new database did not pass its own check: {fault}")]
    BuiltUnsound {
        /// The first fault.
        fault: String,
    },
    /// The new pages could not be written.
    #[error("cannot write the new database: {0}")]
    Build(#[source] bbolt::Error),
    /// The system refused.
    #[error("cannot {doing} `{}`: {source}", .path.display())]
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
    /// Whether another copy of the same backup may do.
    pub fn is_fault_of_source(&self) -> bool {
        matches!(
            self,
            Error::Source(_) | Error::NotAsRecorded { .. } | Error::DigestDiffers { .. } | Error::Unsound { .. }
        )
    }
}

impl From<durable::Error> for Error {
    fn from(error: durable::Error) -> Error {
        match error {
            durable::Error::Exists { path } => Error::NotEmpty { path },
            durable::Error::Io { doing, path, source } => Error::Io { doing, path, source },
        }
    }
}
