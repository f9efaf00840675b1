//! Watches a snapshot stream past: its digest, and what the content says of itself.
//!
//! The revision of a snapshot is known from its content only: writes go on before, while and after it is asked for.

use sha2::{Digest as _, Sha256};

use crate::bbolt::{self, Leaves, Scan, Scanner};
use crate::etcd::DIGEST_BYTES;
use crate::keyspace::{self, KvHash, LogKey, Meta, PassingLog};
use crate::model::{Digest, Revision};
use crate::pipeline::Observer;

/// How many faults of a database are named.
const NAMED_FAULTS: usize = 3;

/// Why the bytes are no sound snapshot.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The digest that etcd sent is not that of the bytes.
    #[error("its SHA-256 is not the one etcd sent with it; the bytes were changed on the way")]
    Digest,
    /// The pages contradict each other: the member's own database is damaged.
    #[error("{0}")]
    Database(#[source] bbolt::Error),
    /// The marks of the key space are damaged.
    #[error("{0}")]
    Keyspace(#[source] keyspace::Error),
}

/// What the content says of itself.
#[derive(Debug)]
pub struct Facts {
    /// The last revision that it holds.
    pub revision: Revision,
    /// Compaction, raft's index and term, storage version.
    pub meta: Meta,
    /// Length of the database, without the digest.
    pub database_bytes: u64,
    /// Digest of everything, etcd's own digest included.
    pub sha256: Digest,
    /// What its pages and entries came to.
    pub structure: Structure,
}

/// What was seen of the structure of a database on its way past.
#[derive(Debug)]
pub enum Structure {
    /// All of it, and nothing is wrong.
    Whole(Log),
    /// Something is wrong: the first faults, and how many there are.
    Damaged(Vec<String>),
    /// Not all of it, for lack of memory.
    Unseen,
}

/// The log of a database that has passed.
#[derive(Debug)]
pub struct Log {
    scan: Box<Scan<PassingLog>>,
}

impl Log {
    /// HashKV at `revision` of a store that is compacted at `compacted`; `None` where an entry is no record.
    pub fn hash_kv(&self, revision: Revision, compacted: i64) -> Option<KvHash> {
        let leaves = self.scan.leaves();
        self.scan.owner().hash_kv(leaves, revision.get(), compacted)
    }
}

/// A snapshot that has passed, and what was made of the leaves of its log.
#[derive(Debug)]
pub struct Seen<L: Leaves> {
    /// The last revision that it holds.
    pub revision: Revision,
    /// Compaction, raft's index and term, storage version.
    pub meta: Meta,
    /// Length of the database, without the digest.
    pub database_bytes: u64,
    /// Digest of everything, etcd's own digest included.
    pub sha256: Digest,
    /// Its pages.
    pub scan: Scan<L>,
}

/// The stream as far as it has come; `L` makes something of the leaves of its log.
pub struct Observed<L: Leaves = PassingLog> {
    hasher: Sha256,
    scanner: Scanner<L>,
    fault: Option<bbolt::Error>,
    database_bytes: u64,
    /// Bytes of the database that are still to come.
    to_come: u64,
    sent_digest: Vec<u8>,
    own_digest: Option<[u8; 32]>,
}

impl Observed {
    /// A stream of `total` bytes, of which the last are etcd's digest.
    pub fn new(total: u64) -> Self {
        Observed::with(total, PassingLog::default())
    }

    /// What was seen, once everything has come.
    pub fn finish(self) -> Result<Facts, ContentError> {
        let seen = self.seen()?;
        Ok(Facts {
            revision: seen.revision,
            meta: seen.meta,
            database_bytes: seen.database_bytes,
            sha256: seen.sha256,
            structure: structure(seen.scan),
        })
    }
}

impl<L: Leaves<Key = LogKey>> Observed<L> {
    /// A stream of `total` bytes, of which the last are etcd's digest. What is made of the leaves of its log is for `leaves`.
    pub fn with(total: u64, leaves: L) -> Self {
        let database_bytes = total.saturating_sub(DIGEST_BYTES);
        Observed {
            hasher: Sha256::new(),
            scanner: Scanner::new(b"key", keyspace::META_KEYS, leaves),
            fault: None,
            database_bytes,
            to_come: database_bytes,
            sent_digest: Vec::new(),
            own_digest: None,
        }
    }

    /// Who makes something of the leaves.
    pub fn owner(&self) -> &L {
        self.scanner.owner()
    }

    /// What was seen, once everything has come. Whether the structure is whole is to be asked of the scan.
    pub fn seen(self) -> Result<Seen<L>, ContentError> {
        if self.own_digest.map(|digest| digest.to_vec()) != Some(self.sent_digest) {
            return Err(ContentError::Digest);
        }
        if let Some(fault) = self.fault {
            return Err(ContentError::Database(fault));
        }
        let scan = self.scanner.finish().map_err(ContentError::Database)?;
        let entries = scan
            .entries(b"meta")
            .map_err(ContentError::Database)?
            .unwrap_or_default();
        let meta = Meta::of_entries(&entries).map_err(ContentError::Keyspace)?;
        let last = scan.last_key().and_then(|last| Revision::new(last.main()).ok());
        Ok(Seen {
            revision: meta.revision(last),
            meta,
            database_bytes: self.database_bytes,
            sha256: Digest(self.hasher.finalize().into()),
            scan,
        })
    }
}

fn structure(scan: Scan<PassingLog>) -> Structure {
    if scan.fault_count() > 0 {
        let mut faults: Vec<String> = scan
            .faults()
            .iter()
            .take(NAMED_FAULTS)
            .map(ToString::to_string)
            .collect();
        let more = scan.fault_count() - faults.len() as u64;
        if more > 0 {
            faults.push(format!("and {more} faults more"));
        }
        return Structure::Damaged(faults);
    }
    match scan.is_whole() {
        true => Structure::Whole(Log { scan: Box::new(scan) }),
        false => Structure::Unseen,
    }
}

impl<L> Observer for Observed<L>
where
    L: Leaves<Key = LogKey, Leaf: Send> + Send + 'static,
{
    fn observe(&mut self, bytes: &[u8]) {
        let (database, digest) = bytes.split_at(bytes.len().min(usize::try_from(self.to_come).unwrap_or(usize::MAX)));
        self.hasher.update(database);
        self.to_come -= database.len() as u64;
        if self.fault.is_none()
            && let Err(fault) = self.scanner.push(database)
        {
            self.fault = Some(fault);
        }
        if self.to_come == 0 && self.own_digest.is_none() {
            self.own_digest = Some(self.hasher.clone().finalize().into());
        }
        self.sent_digest.extend_from_slice(digest);
        self.hasher.update(digest);
    }
}
