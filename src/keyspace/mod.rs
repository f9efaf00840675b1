//! What etcd keeps in its bbolt file: the log of the key space, leases, members, marks.
//!
//! Pages and trees are left to `bbolt`; the files around the database, and how ids are made, to `datadir`.
//!
//! The database has ten buckets. `key` is the log: one entry per change, its key the revision, its value the record.
//! Everything else is small, and a restore replaces most of it ([`restored`]). [`Replay`] reads the log once in order
//! and answers what needs the whole of it: HashKV, which keys live, which leases they hang on. [`Survey`] does that
//! and the rest of a database in the same walk, which an [`Inspection`] makes. What a member's write-ahead log has beyond
//! its database is executed by [`entries`].
//!
//! Invariant: no bytes of a database cause a panic or more memory than a fixed share of their length.

mod alarm;
mod bump;
mod change_rules;
mod changed;
mod crc;
pub mod entries;
mod fingerprints;
mod inspection;
mod lease;
mod member;
mod meta;
mod prefixes;
mod record;
mod release_line;
mod replay;
mod restored_buckets;
mod revision;
mod rewrite;
mod streamed_hash_kv;
mod survey;
mod versions;
pub(crate) mod wire;

pub use alarm::{Alarm, AlarmKind};
pub use change_rules::{BrokenLife, Touched, told};
pub use changed::{BrokenLives, Changed};
pub use inspection::{Inspection, agreement_at, replayed};
pub use lease::{Lease, LeaseId};
pub use member::Member;
pub(crate) use member::go_json;
pub use meta::{CompactionMarks, ConfState, META_KEYS, Meta};
pub use prefixes::{Held, Prefixes};
pub use record::KeyValue;
pub use release_line::{EtcdLine, Version};
pub use replay::{Agreement, KvHash, LiveKeys, Replay, Replayed};
pub use restored_buckets::{Change, NewContent, Restored, restored};
pub use revision::{EntryKind, REVISION_LEN, RevisionKey};
pub use rewrite::{History, RewrittenSize, differences, prove, rewrite};
pub use streamed_hash_kv::{LastRevision, LogKey, LogLeaf, PassingLog};
pub use survey::{Auth, Summary, Survey};
pub use versions::Versions;
pub use wire::WireError;

use crate::bbolt;
use crate::model::Revision;

/// The buckets of etcd's database, in their order in the file.
pub const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
];

/// What a malformed entry does wrong.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a database is not what etcd keeps, or cannot become what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bucket cannot be read: the file is damaged.
    #[error("cannot read bucket `{bucket}`")]
    Unreadable {
        /// The bucket.
        bucket: &'static str,
        /// What the file does wrong.
        source: bbolt::Error,
    },
    /// An entry that etcd would not have written: the file is damaged, or no etcd's.
    #[error("entry `{key}` of bucket `{bucket}` is malformed: {cause}")]
    Malformed {
        /// The bucket.
        bucket: &'static str,
        /// The entry's key, what is not printable escaped.
        key: String,
        /// What is wrong with it.
        cause: Cause,
    },
    /// More entries than a file can hold that etcd can still serve.
    #[error("bucket `key` has more than {limit} entries")]
    TooManyEntries {
        /// The bound.
        limit: u32,
    },
    /// The database was last used by a newer etcd than the one it is meant for.
    #[error("the database has storage version {found}, which etcd {wanted} does not read")]
    Downgrade {
        /// The version in the file.
        found: Version,
        /// The line that was asked for.
        wanted: EtcdLine,
    },
    /// A bump beyond the greatest revision.
    #[error("revision {revision} cannot be bumped by {bump}")]
    BumpOverflow {
        /// The last revision of the log; 0 if it is empty.
        revision: i64,
        /// What was to be added.
        bump: u64,
    },
    /// A database cannot be written anew.
    #[error("cannot write the database anew")]
    Rewrite {
        /// What could not be read or written.
        source: bbolt::Error,
    },
    /// A lease entry was to be added where there is one.
    #[error("lease {0} has an entry already")]
    LeaseExists(LeaseId),
}

impl Error {
    fn malformed(bucket: &'static str, key: &[u8], cause: Cause) -> Self {
        Error::Malformed {
            bucket,
            key: printable(key),
            cause,
        }
    }
}

/// The revision of a store that nobody has written to.
fn first_revision() -> Revision {
    Revision::new(1).expect("1 is not negative")
}

/// `bytes` for people: at most 120 of them, what is not printable escaped.
fn printable(bytes: &[u8]) -> String {
    bytes.get(..120).unwrap_or(bytes).escape_ascii().to_string()
}

/// The entries of a bucket; none if the database has no such bucket.
fn entries_of<'a>(file: &bbolt::File<'a>, bucket: &'static str) -> Result<Vec<bbolt::Entry<'a>>, Error> {
    let unreadable = |source| Error::Unreadable { bucket, source };
    match file.bucket(bucket.as_bytes()).map_err(unreadable)? {
        Some(found) => found.iter().collect::<Result<_, _>>().map_err(unreadable),
        None => Ok(Vec::new()),
    }
}
