//! The digest that ends a snapshot, found in a stream whose end is not known beforehand.
//!
//! Source: `Maintenance.Snapshot` sends the SHA-256 of the database behind it, and `etcdctl snapshot save` keeps it
//! there; a copy of a database file has none.

use sha2::{Digest as _, Sha256};

use crate::model::Digest;

const DIGEST_BYTES: usize = 32;
/// A database is a whole number of these, whatever its page size; a snapshot is that and a digest.
const SECTOR_BYTES: u64 = 512;

/// The digest that etcd puts behind a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailingDigest {
    /// It is there and right.
    Matches,
    /// It is there and wrong.
    Differs,
    /// There is none: a copy of a database file.
    Absent,
}

/// How long the digest at the end of so many bytes is: none at all where they end with whole sectors.
pub fn trailing_digest(bytes: u64) -> u64 {
    match bytes % SECTOR_BYTES == DIGEST_BYTES as u64 {
        true => DIGEST_BYTES as u64,
        false => 0,
    }
}

/// What the bytes of a snapshot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    /// The digest at its end.
    pub digest: TrailingDigest,
    /// Digest of everything, a trailing digest included.
    pub sha256: Digest,
    /// Length of the database, without the digest.
    pub database_bytes: u64,
}

/// Hashes a snapshot as it comes, always one digest's length behind, because only its end tells whether it ends with one.
#[derive(Default)]
pub struct SnapshotHasher {
    hasher: Sha256,
    tail: Vec<u8>,
    bytes: u64,
}

impl SnapshotHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, block: &[u8]) {
        self.bytes += block.len() as u64;
        let out = (self.tail.len() + block.len()).saturating_sub(DIGEST_BYTES);
        let from_tail = out.min(self.tail.len());
        self.hasher.update(&self.tail[..from_tail]);
        self.tail.drain(..from_tail);
        let (now, held) = block.split_at(out - from_tail);
        self.hasher.update(now);
        self.tail.extend_from_slice(held);
    }

    /// What came, after all of it did.
    pub fn finish(mut self) -> Hashed {
        let trailing = trailing_digest(self.bytes);
        let digest = match (trailing > 0, self.hasher.clone().finalize()[..] == self.tail[..]) {
            (true, true) => TrailingDigest::Matches,
            (true, false) => TrailingDigest::Differs,
            (false, _) => TrailingDigest::Absent,
        };
        self.hasher.update(&self.tail);
        Hashed {
            digest,
            sha256: Digest(self.hasher.finalize().into()),
            database_bytes: self.bytes - trailing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_found_however_the_blocks_fall() {
        let database: Vec<u8> = (0..5120u32).map(|i| (i * 31) as u8).collect();
        let mut snapshot = database.clone();
        snapshot.extend(Sha256::digest(&database));
        for block in [1, 7, 31, 32, 33, 512, 5121, 9000] {
            let mut hasher = SnapshotHasher::default();
            snapshot.chunks(block).for_each(|block| hasher.update(block));
            let hashed = hasher.finish();
            assert_eq!(hashed.digest, TrailingDigest::Matches, "blocks of {block}");
            assert_eq!(hashed.sha256, Digest(Sha256::digest(&snapshot).into()));
            assert_eq!(hashed.database_bytes, database.len() as u64);
        }
        let mut hasher = SnapshotHasher::default();
        snapshot[17] ^= 1;
        hasher.update(&snapshot);
        assert_eq!(hasher.finish().digest, TrailingDigest::Differs);
        let mut hasher = SnapshotHasher::default();
        hasher.update(&database);
        assert_eq!(hasher.finish().digest, TrailingDigest::Absent);
    }
}
