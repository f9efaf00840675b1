//! A smaller snapshot of the same keys, revision and HashKV: without free pages, and without what compaction gave up.
//!
//! The source is read at random, so it is held in memory, as its plaintext may come on no disk; so is what is made of it,
//! until it has been proven to hold the same. Only then the first byte of it is written.

use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::export::{self, DigestRule, is_of_copy, is_stdout, judge, write_new};
use super::inspect::stopped;
use super::source::Found;
use super::{Exit, Failure, Listener};
use crate::bbolt;
use crate::etcd::DIGEST_BYTES;
use crate::keyspace::{self, CompactionMarks, History, Inspection, LiveKeys, RewrittenSize, prove, rewrite};
use crate::layout::Manifest;
use crate::model::{ByteSize, Digest, HashKv, Revision};
use crate::source::{Held, NotHeld, Source, room_for};

/// How many faults of a source are named.
const NAMED_FAULTS: usize = 3;
/// How much is hashed and written at once.
const BLOCK: usize = 1 << 20;

/// What was written.
pub struct Compacted {
    /// The database as it was.
    pub before: Extent,
    /// The database as it is now.
    pub after: Extent,
    /// How many bytes the file has.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Digest,
    /// Whether the source had a digest of its own.
    pub digest: DigestRule,
    /// The revision, as before.
    pub revision: Revision,
    /// The compacted revision; `None` where the store was never compacted, and so all of its history is still there.
    pub compacted: Option<Revision>,
    /// HashKV, as before.
    pub hash_kv: HashKv,
    /// Keys that live, as before.
    pub live_keys: u64,
}

/// How much a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The length of the database, without a digest.
    pub bytes: u64,
    /// All its pages.
    pub pages: u64,
    /// Puts and deletions in its history.
    pub versions: u64,
}

enum Error {
    Export(export::Error),
    /// A copy that is not sound, where another one may be.
    Unsound(String),
    TooLarge {
        needed: u64,
        memory: u64,
    },
    Rewrite(keyspace::Error),
    Unequal(String),
}

impl From<export::Error> for Error {
    fn from(error: export::Error) -> Error {
        Error::Export(error)
    }
}

/// Writes what was found to `path`, whose file must not exist, at most in so many bytes of memory.
pub fn compact(
    found: &Found,
    rule: DigestRule,
    path: &Path,
    memory: u64,
    listener: &dyn Listener,
    stop: &dyn Fn() -> bool,
) -> Result<Compacted, Failure> {
    if !is_stdout(path) && path.exists() {
        let error = export::Error::Exists(path.to_owned());
        return Err(failure(error.into(), found.manifest.as_ref()));
    }
    let made = found.with_each(
        listener,
        |source, manifest| {
            let progress = listener.progress("compact");
            make(source, manifest, rule, memory, &progress, stop)
        },
        |error| match error {
            Error::Export(error) => is_of_copy(error),
            Error::Unsound(_) => true,
            Error::TooLarge { .. } | Error::Rewrite(_) | Error::Unequal(_) => false,
        },
        |error| failure(error, found.manifest.as_ref()),
    );
    let (bytes, compacted) = made?;
    let sha256 = match is_stdout(path) {
        true => put(&bytes, &mut io::stdout().lock(), path, stop),
        false => write_new(path, compacted.bytes, |file| put(&bytes, file, path, stop)),
    };
    let sha256 = sha256.map_err(|error| failure(error.into(), found.manifest.as_ref()))?;
    Ok(Compacted { sha256, ..compacted })
}

/// Makes the smaller database and proves it; its digest is still to come.
fn make(
    source: Source,
    manifest: Option<&Manifest>,
    rule: DigestRule,
    memory: u64,
    progress: &dyn Fn(u64, u64),
    stop: &dyn Fn() -> bool,
) -> Result<(Vec<u8>, Compacted), Error> {
    let name = source.name().to_owned();
    let (bytes, digest) = read(source, manifest, rule, memory, progress, stop)?;
    let unsound = |error: &dyn std::fmt::Display| Error::Unsound(format!("{name} is damaged: {error}"));
    let file = bbolt::File::open(&bytes).map_err(|error| unsound(&error))?;
    let marks = CompactionMarks::read(&file);
    let history = History::asked_by(marks);
    let mut size = RewrittenSize::new(&file, history).map_err(|error| unsound(&error))?;
    let walk = Inspection::of(&file, LiveKeys::Counted, None, |bucket, key, value| {
        size.entry(bucket, key, value);
    });
    let walk = walk.map_err(|error| unsound(&error))?;
    if walk.fault_count() > 0 {
        let faults: Vec<_> = walk.faults().take(NAMED_FAULTS).collect();
        let (count, faults) = (walk.fault_count(), faults.join("; "));
        return Err(unsound(&format!("{count} faults in all, first: {faults}")));
    }
    let (needed, _) = size.finish();
    let held = bytes.len() as u64;
    let too_large = Error::TooLarge {
        needed: held.saturating_add(needed),
        memory,
    };
    let room = room_for(needed, memory.saturating_sub(held)).ok_or(too_large)?;
    go_on(stop)?;
    let made = rewrite(&file, history, room).map_err(Error::Rewrite)?;
    let (made, _) = made
        .seal()
        .map_err(|source| Error::Rewrite(keyspace::Error::Rewrite { source }))?;
    go_on(stop)?;
    let is = bbolt::File::open(&made).map_err(|error| Error::Unequal(error.to_string()))?;
    let is = prove((&file, &walk), &is, history).map_err(Error::Unequal)?;
    let live_keys = is.replayed.live_keys.unwrap_or(0);
    let extent = |walk: &Inspection, pages| Extent {
        bytes: walk.summary.total_bytes,
        pages,
        versions: walk.replayed.entries,
    };
    let after = made.len() as u64 / u64::from(file.page_size());
    let compacted = Compacted {
        before: extent(&walk, file.pages()),
        after: extent(&is, after),
        bytes: made.len() as u64 + DIGEST_BYTES,
        sha256: Digest([0; 32]),
        digest,
        revision: is.summary.revision(),
        compacted: marks.scheduled.max(marks.finished),
        hash_kv: is.hash_kv(),
        live_keys,
    };
    Ok((made, compacted))
}

/// All of the database, if its bytes are what they were.
fn read(
    mut source: Source,
    manifest: Option<&Manifest>,
    rule: DigestRule,
    memory: u64,
    progress: &dyn Fn(u64, u64),
    stop: &dyn Fn() -> bool,
) -> Result<(Vec<u8>, DigestRule), Error> {
    let length = source.length();
    let held = source.hold(memory, |done| {
        progress(done, length.unwrap_or(done));
        stopped(stop)
    });
    let Held { database, hashed } = held.map_err(|error| match error {
        NotHeld::TooLarge { needed } => Error::TooLarge { needed, memory },
        NotHeld::Unread(error) => export::Error::Source(error).into(),
        NotHeld::BrokenOff => export::Error::Interrupted.into(),
    })?;
    let digest = judge(&hashed, manifest, rule, source.name())?;
    Ok((database, digest))
}

/// Writes the database and etcd's digest behind it. Returns the digest of both.
fn put(database: &[u8], to: &mut impl Write, path: &Path, stop: &dyn Fn() -> bool) -> Result<Digest, export::Error> {
    let refused = |error| export::Error::Write(path.to_owned(), error);
    let mut hasher = Sha256::new();
    for block in database.chunks(BLOCK) {
        if stop() {
            return Err(export::Error::Interrupted);
        }
        hasher.update(block);
        to.write_all(block).map_err(refused)?;
    }
    let digest = hasher.clone().finalize();
    to.write_all(&digest).map_err(refused)?;
    to.flush().map_err(refused)?;
    hasher.update(digest);
    Ok(Digest(hasher.finalize().into()))
}

fn go_on(stop: &dyn Fn() -> bool) -> Result<(), Error> {
    match stop() {
        true => Err(Error::Export(export::Error::Interrupted)),
        false => Ok(()),
    }
}

fn failure(error: Error, manifest: Option<&Manifest>) -> Failure {
    match error {
        Error::Export(error) => export::failure(error, manifest),
        Error::Unsound(what) => Failure::new(Exit::Damaged, what).next("choose another backup: `lifeboat list`"),
        Error::TooLarge { needed, memory } => {
            let (needed, memory) = (ByteSize(needed), ByteSize(memory));
            let message = format!("it takes {needed} of memory, and {memory} of this host's may be used");
            Failure::new(Exit::Failed, message).next(
                "compact it on a host with more memory; or lay out a data directory, which takes none: `lifeboat rebuild \
                 --compact`",
            )
        }
        Error::Rewrite(error) => Failure::new(Exit::Failed, crate::error_chain::with_causes(&error)),
        Error::Unequal(what) => Failure::new(
            Exit::Failed,
            format!("the smaller database did not pass its own check, and was not written: {what}"),
        )
        .next("run it again, on another host if that does not help; use `lifeboat export` meanwhile"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/fixtures/etcd-3.4.23-rev346-compact150.snap"
    ));

    fn made(bytes: &[u8], rule: DigestRule, memory: u64) -> Result<(Vec<u8>, Compacted), Error> {
        let source = Source::open("it", io::Cursor::new(bytes.to_vec()), None, None);
        let source = source.unwrap_or_else(|error| panic!("{error}"));
        make(source, None, rule, memory, &|_, _| {}, &|| false)
    }

    #[test]
    fn what_is_made_is_smaller_and_ends_with_etcds_digest() {
        let Ok((database, compacted)) = made(SNAPSHOT, DigestRule::Required, u64::MAX) else {
            panic!("it is sound");
        };
        assert!(compacted.after.bytes < compacted.before.bytes);
        assert_eq!(compacted.after.bytes, database.len() as u64);
        assert_eq!(
            (compacted.revision.get(), compacted.compacted.map(Revision::get)),
            (346, Some(150))
        );
        let mut file = Vec::new();
        let Ok(sha256) = put(&database, &mut file, Path::new("x"), &|| false) else {
            panic!("memory takes it");
        };
        assert_eq!(file.len() as u64, compacted.bytes);
        assert_eq!(file[database.len()..], Sha256::digest(&database)[..]);
        assert_eq!(sha256, Digest(Sha256::digest(&file).into()));
        // Once more changes nothing.
        let Ok((again, _)) = made(&file, DigestRule::Required, u64::MAX) else {
            panic!("it is a snapshot");
        };
        assert_eq!(again, database);
    }

    #[test]
    fn what_does_not_fit_or_is_damaged_is_refused() {
        let bytes = SNAPSHOT.len() as u64;
        for memory in [0, bytes - 33, bytes + 4096] {
            let refused = made(SNAPSHOT, DigestRule::Required, memory).err();
            assert!(matches!(refused, Some(Error::TooLarge { .. })), "{memory}");
        }
        let copy = &SNAPSHOT[..SNAPSHOT.len() - 32];
        assert!(matches!(
            made(copy, DigestRule::Required, u64::MAX).err(),
            Some(Error::Export(export::Error::NoDigest(_)))
        ));
        let Ok((_, compacted)) = made(copy, DigestRule::Appended, u64::MAX) else {
            panic!("a copy was asked for");
        };
        assert_eq!(compacted.digest, DigestRule::Appended);
        let mut holed = copy.to_vec();
        let middle = copy.len() / 2 / 4096 * 4096;
        holed[middle..middle + 4096].fill(0);
        let refused = made(&holed, DigestRule::Appended, u64::MAX).err();
        assert!(matches!(refused, Some(Error::Unsound(_))));
    }
}
