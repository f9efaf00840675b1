//! What a source holds, found out by reading through it once: for those that have no manifest.

use crate::bbolt::{self, Scanner};
use crate::keyspace::{self, LastRevision, Meta};
use crate::model::{Digest, Revision};
use crate::source::{self, SnapshotHasher, Source, TrailingDigest};

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// It is no database, or a damaged one.
    #[error("{name} is not a sound etcd database")]
    Database {
        /// What it is called.
        name: String,
        /// Why.
        source: bbolt::Error,
    },
    /// What etcd keeps in it is damaged.
    #[error("{name} is not a sound etcd database")]
    Keyspace {
        /// What it is called.
        name: String,
        /// Why.
        source: keyspace::Error,
    },
}

/// What a source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preview {
    /// Digest of all its plain bytes.
    pub sha256: Digest,
    /// Their number.
    pub bytes: u64,
    /// The revision of the store in it.
    pub revision: Revision,
    /// The digest at its end.
    pub digest: TrailingDigest,
}

/// How much is looked at at once before it is known how long the database is: the smallest page.
const STEP: usize = 1024;

/// Reads all of `source`; `stop` may end it, and `None` comes back then.
pub fn preview(mut source: Source, stop: &dyn Fn(u64) -> bool) -> Result<Option<Preview>, Error> {
    let name = source.name().to_owned();
    let unsound = |error| Error::Database {
        name: name.clone(),
        source: error,
    };
    let (mut hasher, mut scanner) = (
        SnapshotHasher::default(),
        Scanner::new(b"key", keyspace::META_KEYS, LastRevision),
    );
    let (mut block, mut bytes, mut scanned) = (Vec::new(), 0, 0);
    while source.next_block(&mut block)? {
        bytes += block.len() as u64;
        if stop(bytes) {
            return Ok(None);
        }
        hasher.update(&block);
        let mut rest = &block[..];
        while !rest.is_empty() {
            // Behind the last page there may be a digest, or the unused tail of a live file.
            let wanted = match scanner.database_bytes() {
                Some(length) => usize::try_from(length.saturating_sub(scanned)).unwrap_or(usize::MAX),
                None => STEP,
            };
            let (now, later) = rest.split_at(wanted.min(rest.len()));
            if now.is_empty() {
                break;
            }
            scanner.push(now).map_err(unsound)?;
            scanned += now.len() as u64;
            rest = later;
        }
    }
    let hashed = hasher.finish();
    let scan = scanner.finish().map_err(unsound)?;
    let entries = scan.entries(b"meta").map_err(unsound)?.unwrap_or_default();
    let meta = Meta::of_entries(&entries).map_err(|source| Error::Keyspace {
        name: name.clone(),
        source,
    })?;
    let last = scan.last_key().and_then(|last| Revision::new(last.main()).ok());
    Ok(Some(Preview {
        sha256: hashed.sha256,
        bytes,
        revision: meta.revision(last),
        digest: hashed.digest,
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const SNAPSHOT: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/fixtures/etcd-3.4.23-rev346-compact150.snap"
    ));

    fn seen(bytes: Vec<u8>) -> Result<Option<Preview>, Error> {
        preview(Source::open("it", Cursor::new(bytes), None, None).unwrap(), &|_| false)
    }

    #[test]
    fn a_snapshot_a_database_and_one_with_a_tail_hold_the_same_revision() {
        let snapshot = seen(SNAPSHOT.to_vec()).unwrap().unwrap();
        assert_eq!(snapshot.revision.get(), 346);
        assert_eq!(
            (snapshot.bytes, snapshot.digest),
            (SNAPSHOT.len() as u64, TrailingDigest::Matches)
        );
        let mut database = SNAPSHOT[..SNAPSHOT.len() - 32].to_vec();
        let plain = seen(database.clone()).unwrap().unwrap();
        assert_eq!(
            (plain.revision, plain.digest),
            (snapshot.revision, TrailingDigest::Absent)
        );
        assert_ne!(plain.sha256, snapshot.sha256);
        database.resize(database.len() + (16 << 20), 0);
        assert_eq!(seen(database).unwrap().unwrap().revision, snapshot.revision);
    }

    #[test]
    fn what_is_cut_short_or_no_database_is_named() {
        let error = seen(SNAPSHOT[..SNAPSHOT.len() / 2].to_vec()).unwrap_err();
        assert!(matches!(error, Error::Database { .. }), "{error}");
        let refused = |bytes: Vec<u8>| Source::open("it", Cursor::new(bytes), None, None).err();
        assert!(matches!(refused(vec![]), Some(source::Error::Empty { .. })));
        assert!(matches!(
            refused(vec![7; 4096]),
            Some(source::Error::NotADatabase { .. })
        ));
    }

    #[test]
    fn it_stops_when_it_is_told_to() {
        let source = Source::open("it", Cursor::new(SNAPSHOT), None, None).unwrap();
        assert_eq!(preview(source, &|_| true).unwrap(), None);
    }
}
