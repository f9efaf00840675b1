//! Writes the bytes of a source into the database file to be, and tells whether they are a snapshot's own.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest as _, Sha256};

use super::Error;
use super::staging::{create_new, io_error};
use crate::model::Digest;
use crate::source::Source;

/// Blocks in flight between reading, hashing and reading again.
const BLOCKS: usize = 4;

/// The digest that ends a snapshot.
const DIGEST_BYTES: usize = 32;

/// What was written.
pub(super) struct Landed {
    /// The file, without a trailing digest.
    pub file: File,
    /// Its length.
    pub database_bytes: u64,
    /// What the trailing digest says.
    pub digest: TrailingDigest,
    /// Digest of everything that came, a trailing digest included.
    pub sha256: Digest,
    /// Length of everything that came.
    pub bytes: u64,
}

/// The digest that etcd puts behind a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrailingDigest {
    /// It is there and right.
    Matches,
    /// It is there and wrong.
    Differs,
    /// There is none: a copy of a database file.
    Absent,
}

/// Writes all of `source` to a new file at `path`; `progress` hears how many bytes have come.
pub(super) fn land(source: &mut Source, path: &Path, progress: &dyn Fn(u64)) -> Result<Landed, Error> {
    let mut file = create_new(path)?;
    let (to_hash, hashed) = (mpsc::sync_channel::<Vec<u8>>(BLOCKS), mpsc::channel::<Vec<u8>>());
    let ((send, receive), (give_back, recycled)) = (to_hash, hashed);
    let hashing = std::thread::spawn(move || {
        let mut hasher = HoldingBack::default();
        for block in receive {
            hasher.update(&block);
            // Where nobody wants the block back any more, the stream has ended.
            let _ = give_back.send(block);
        }
        hasher
    });
    let mut bytes: u64 = 0;
    let mut fresh = BLOCKS;
    loop {
        let mut block = match recycled.try_recv() {
            Ok(block) => block,
            Err(_) if fresh > 0 => {
                fresh -= 1;
                Vec::new()
            }
            Err(_) => recycled.recv().expect("the hashing thread lives while its queue does"),
        };
        if !source.next_block(&mut block).map_err(Error::Source)? {
            break;
        }
        file.write_all(&block).map_err(|error| io_error("write", path, error))?;
        start_writeback(&file, bytes, block.len());
        bytes += block.len() as u64;
        progress(bytes);
        send.send(block).expect("the hashing thread lives while its queue does");
    }
    drop(send);
    let hasher = hashing.join().expect("a panic aborts the process");
    // Pages are at least 512 bytes; a snapshot is a whole number of them and a digest.
    let has_digest = bytes % 512 == DIGEST_BYTES as u64;
    let (digest, sha256) = hasher.finish(has_digest);
    let database_bytes = if has_digest { bytes - DIGEST_BYTES as u64 } else { bytes };
    file.set_len(database_bytes).map_err(|error| io_error("truncate", path, error))?;
    Ok(Landed {
        file,
        database_bytes,
        digest,
        sha256,
        bytes,
    })
}

/// Has the kernel begin to write what was just added, so that the sync at the end finds little left to do.
fn start_writeback(file: &File, offset: u64, bytes: usize) {
    // Of pages that are dirty still, this advice only starts the writing; it drops none. It may be refused: no matter.
    let (offset, bytes) = (offset.cast_signed(), bytes as i64);
    let _ = posix_fadvise(file, offset, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// Hashes a stream, always one digest's length behind, because only its end tells whether it ends with one.
#[derive(Default)]
struct HoldingBack {
    hasher: Sha256,
    tail: Vec<u8>,
}

impl HoldingBack {
    fn update(&mut self, block: &[u8]) {
        let out = (self.tail.len() + block.len()).saturating_sub(DIGEST_BYTES);
        let from_tail = out.min(self.tail.len());
        self.hasher.update(&self.tail[..from_tail]);
        self.tail.drain(..from_tail);
        let (now, held) = block.split_at(out - from_tail);
        self.hasher.update(now);
        self.tail.extend_from_slice(held);
    }

    fn finish(mut self, has_digest: bool) -> (TrailingDigest, Digest) {
        let digest = match (has_digest, self.hasher.clone().finalize()[..] == self.tail[..]) {
            (true, true) => TrailingDigest::Matches,
            (true, false) => TrailingDigest::Differs,
            (false, _) => TrailingDigest::Absent,
        };
        self.hasher.update(&self.tail);
        (digest, Digest(self.hasher.finalize().into()))
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
            let mut hasher = HoldingBack::default();
            snapshot.chunks(block).for_each(|block| hasher.update(block));
            let (digest, sha256) = hasher.finish(true);
            assert_eq!(digest, TrailingDigest::Matches, "blocks of {block}");
            assert_eq!(sha256, Digest(Sha256::digest(&snapshot).into()));
        }
        let mut hasher = HoldingBack::default();
        snapshot[17] ^= 1;
        hasher.update(&snapshot);
        assert_eq!(hasher.finish(true).0, TrailingDigest::Differs);
    }
}
