//! The plain snapshot of a backup and of the changes behind it, as etcd would have sent it at that revision: no cluster is
//! founded with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::copy_in::{Hashes, copy_in};
use super::{Applied, ContentProof, DigestRule, Error, Expected, Listener, Progress, Rewrite, Wish, checked, go_on};
use crate::durable::failed;
use crate::keyspace::{History, LeaseId};
use crate::model::{Digest, HashKv, Revision};
use crate::source::{Changes, Source};

/// How much is hashed at once.
const BLOCK: usize = 256 << 10;

/// What is wished of an exported snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whether a missing or wrong digest at the end of the source is borne.
    pub digest: DigestRule,
    /// What the manifest says of the source, where there is one.
    pub expected: Option<Expected>,
    /// A second empty file, where what its compaction has given up is to be left out: the snapshot is in that one then.
    pub compacted_into: Option<&'a File>,
}

/// A snapshot that was written.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The length of the file, its digest included.
    pub bytes: u64,
    /// The digest of all of it.
    pub sha256: Digest,
    /// The revision.
    pub revision: Revision,
    /// HashKV at that revision.
    pub hash_kv: HashKv,
    /// What reports of members were worth.
    pub proof: ContentProof,
    /// Keys that live.
    pub live_keys: u64,
    /// What came from the changes, where there were any.
    pub applied: Option<Applied>,
    /// Leases that keys hang on and that nobody knew the time to live of: they live for an hour.
    pub guessed_leases: Vec<LeaseId>,
}

/// Writes a snapshot of `source`, and of the `changes` behind it, into `file`, which is empty, open for reading too, called `path`
/// in errors and nobody else's. What is in it after a failure is of no use. Nothing is brought to the disk.
pub fn export_at(
    mut source: Source,
    changes: Option<Changes>,
    (file, path): (&File, &Path),
    wanted: Wanted<'_>,
    listener: Listener<'_>,
) -> Result<Exported, Error> {
    let wish = Wish {
        bump: None,
        line: None,
        digest: wanted.digest,
        rewrite: Rewrite::Not,
        expected: wanted.expected,
    };
    let own = file.try_clone().map_err(failed("keep open", path))?;
    let hashes = Hashes::of(&source, &wish);
    let landed = copy_in(&mut source, own, path, hashes, listener)?;
    go_on(listener, Progress::Checking)?;
    let sound = checked(&source, landed, &wish)?;
    let sound = sound.followed_by(changes, &wish, listener)?;
    let (sound, file) = match wanted.compacted_into {
        None => (sound, file),
        Some(into) => {
            let history = History::asked_by(sound.marks());
            let own = into.try_clone().map_err(failed("keep open", path))?;
            (sound.rewritten(history, own)?, into)
        }
    };
    let told = sound.preview()?;
    let database_bytes = sound.bytes();
    drop(sound);
    let (bytes, sha256) = append_digest(file, database_bytes).map_err(failed("write the digest of", path))?;
    go_on(listener, Progress::Publishing)?;
    Ok(Exported {
        bytes,
        sha256,
        revision: told.revision,
        hash_kv: told.hash_kv,
        proof: told.proof,
        live_keys: told.live_keys,
        applied: told.applied,
        guessed_leases: told.added_leases,
    })
}

/// Writes the digest of the first `len` bytes of a file behind them, and returns the length and the digest of all.
fn append_digest(file: &File, len: u64) -> io::Result<(u64, Digest)> {
    let mut hasher = Sha256::new();
    let mut room = vec![0; BLOCK];
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).map_or(BLOCK, |rest| rest.min(BLOCK));
        let (part, _) = room.split_at_mut(part);
        file.read_exact_at(part, at)?;
        hasher.update(&*part);
        at += part.len() as u64;
    }
    let digest: [u8; 32] = hasher.clone().finalize().into();
    file.write_all_at(&digest, len)?;
    hasher.update(digest);
    Ok((len + digest.len() as u64, Digest(hasher.finalize().into())))
}
