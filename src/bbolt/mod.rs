//! The bbolt file format: reading, checking, writing, and watching it stream past.
//!
//! What the keys and values mean is left to `keyspace`; where the bytes come from and go to is left to the caller.
//! Written after the file format of bbolt 1.3 and 1.4 as etcd 3.4 to 3.7 leaves it on disk: little-endian, only
//! top-level buckets.
//!
//! A file is an array of pages of one size. Pages 0 and 1 are metas, the newer valid one names the root page. The
//! root tree maps bucket names to trees of their own, or holds a small bucket inline in the value.
//!
//! Invariant: no bytes of a file, however wrong, cause a panic, unbounded work or unbounded memory.
//! Invariant: keys and values are borrowed from the bytes of the file, never copied by a reader.

mod bucket;
mod check;
mod file;
mod freelist;
mod measure;
mod page;
mod page_set;
mod scan;
mod tree;
mod writer;

pub use bucket::{Bucket, Buckets, Entries, Entry, Names};
pub use check::{Report, Rules, check, check_over};
pub use file::{File, Follower};
pub use measure::Measure;
pub use page::{Fault, FaultKind, Meta};
pub use page_set::PageSet;
pub use scan::{Leaves, Scan, Scanner};
pub use writer::{BucketWriter, PageSink, Unsealed, Writer, Written};

/// Why a database cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No meta page with a right checksum: something else, or damaged at its very beginning.
    #[error("not a bbolt database: no valid meta page in {bytes} bytes")]
    NotBbolt {
        /// How many bytes were looked at.
        bytes: u64,
    },
    /// A database from a machine of the other byte order; it can only be read there.
    #[error("bbolt database of a big-endian machine: it can only be read on one")]
    ForeignByteOrder,
    /// The file ends before the pages it says it has.
    #[error("bbolt database is cut short: {bytes} bytes of {expected}")]
    Truncated {
        /// The bytes at hand.
        bytes: u64,
        /// High-water mark times page size.
        expected: u64,
    },
    /// A stream goes on after the last page.
    #[error("bbolt database is followed by more: {expected} bytes have passed")]
    Overlong {
        /// High-water mark times page size.
        expected: u64,
    },
    /// A bucket passed by on a page that the scanner had no reason to keep.
    #[error("bucket `{bucket}` is not among what was kept of the bbolt database on its way past")]
    NotKept {
        /// The bucket.
        bucket: String,
    },
    /// A page contradicts the format.
    #[error("bbolt database is damaged: {0}")]
    Damaged(Fault),
    /// A database that is to be built upon does not pass the check, or the report is about another one.
    #[error("cannot build upon a bbolt database with {faults} faults, or with the report on another")]
    Unsound {
        /// The faults in the report.
        faults: u64,
    },
    /// A page size that the writer does not produce.
    #[error("cannot write a bbolt database with pages of {page_size} bytes")]
    PageSize {
        /// What was asked for.
        page_size: u32,
    },
    /// A key that is not greater than the one before it.
    #[error("cannot write to bucket `{bucket}`: keys not in ascending order")]
    KeyOrder {
        /// The bucket.
        bucket: String,
    },
    /// A key or value that bbolt has no room for, or a key without bytes.
    #[error("cannot write to bucket `{bucket}`: key of {key} and value of {value} bytes")]
    EntrySize {
        /// The bucket.
        bucket: String,
        /// The length of the key.
        key: u64,
        /// The length of the value.
        value: u64,
    },
    /// A bucket that cannot be used in the way that was asked for.
    #[error("cannot write bucket `{bucket}`: {why}")]
    Bucket {
        /// The bucket.
        bucket: String,
        /// What stands against it.
        why: BucketMisuse,
    },
    /// The counters of the format are used up.
    #[error("cannot write bbolt database: page or transaction numbers are exhausted")]
    Exhausted,
    /// The sink did not take the bytes.
    #[error("cannot write {len} bytes at offset {offset} of the bbolt database")]
    Write {
        /// Where in the file.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// What the sink says.
        source: std::io::Error,
    },
}

/// What a caller of the writer got wrong about a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketMisuse {
    /// It was kept or begun before.
    #[error("it is there already")]
    Twice,
    /// The database that is built upon has none of that name.
    #[error("there is none of that name to keep")]
    Absent,
    /// It was begun but not finished.
    #[error("it was left unfinished")]
    Unfinished,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Damaged(fault)
    }
}

/// An empty database of 16 KiB.
#[cfg(test)]
pub(crate) fn empty_database() -> Vec<u8> {
    let writer = Writer::fresh(Vec::new(), 4096).expect("it is a page size");
    let (database, _) = writer
        .finish()
        .and_then(|sealed| sealed.seal())
        .expect("memory takes it");
    database
}

#[cfg(test)]
mod tests;
