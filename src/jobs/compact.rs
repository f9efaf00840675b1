//! A smaller snapshot of the same keys, revision and HashKV: without free pages, and without what compaction gave up.
//!
//! The source is read at random, so what is encrypted is held in memory, as its plaintext may come on no disk; a plain file is
//! read where it lies. What is made of it is proven to hold the same, and only then gets its name, or goes to standard output.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::export::{self, DigestRule, is_of_copy, is_stdout, judge, write_new};
use super::inspect::stopped;
use super::source::Found;
use super::{Exit, Failure, Listener};
use crate::bbolt;
use crate::durable::Mapped;
use crate::etcd::DIGEST_BYTES;
use crate::keyspace::{self, CompactionMarks, History, Inspection, LiveKeys, RewrittenSize, prove, rewrite};
use crate::layout::Manifest;
use crate::model::{ByteSize, Digest, HashKv, Revision};
use crate::source::{Database, Held, NotHeld, Source, room_for};
use crate::text::first_of;

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
    found.with_each(
        listener,
        |source, manifest| {
            let progress = listener.progress("compact");
            let work = Work {
                rule,
                memory,
                progress: &progress,
                stop,
            };
            match is_stdout(path) {
                true => work.over(source, manifest, |source| {
                    let (bytes, made) = source.made_in_memory()?;
                    let sha256 = put(&bytes, &mut io::stdout().lock(), path, stop)?;
                    Ok(Compacted { sha256, ..made })
                }),
                false => work.over(source, manifest, |source| {
                    let needed = source.needed.saturating_add(DIGEST_BYTES);
                    write_new(path, needed, |file| source.made_in(file, path))
                }),
            }
        },
        |error| match error {
            Error::Export(error) => is_of_copy(error),
            Error::Unsound(_) => true,
            Error::TooLarge { .. } | Error::Rewrite(_) | Error::Unequal(_) => false,
        },
        |error| failure(error, found.manifest.as_ref()),
    )
}

/// What is the same for each copy of a source.
struct Work<'a> {
    rule: DigestRule,
    memory: u64,
    progress: &'a dyn Fn(u64, u64),
    stop: &'a dyn Fn() -> bool,
}

impl Work<'_> {
    /// Reads all of a source, and does something with its database, if that is sound.
    fn over<R>(
        &self,
        source: Source,
        manifest: Option<&Manifest>,
        then: impl FnOnce(Sound<'_, '_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let name = source.name().to_owned();
        let (database, digest) = self.read(source, manifest)?;
        database.over(|file| {
            let unsound = |error: &dyn std::fmt::Display| Error::Unsound(format!("{name} is damaged: {error}"));
            let file = file.map_err(|error| unsound(&error))?;
            let marks = CompactionMarks::read(&file);
            let history = History::asked_by(marks);
            let mut size = RewrittenSize::new(&file, history).map_err(|error| unsound(&error))?;
            let walk = Inspection::of(&file, LiveKeys::Counted, None, |bucket, key, value| {
                size.entry(bucket, key, value);
            });
            let walk = walk.map_err(|error| unsound(&error))?;
            if walk.fault_count() > 0 {
                let faults: Vec<_> = walk.faults().take(NAMED_FAULTS).collect();
                return Err(unsound(&first_of(&faults, walk.fault_count())));
            }
            let (needed, _) = size.finish();
            go_on(self.stop)?;
            then(Sound {
                work: self,
                file,
                walk,
                marks,
                history,
                needed,
                held: database.memory(),
                digest,
            })
        })
    }

    /// All of the database, if its bytes are what they were.
    fn read(&self, mut source: Source, manifest: Option<&Manifest>) -> Result<(Database, DigestRule), Error> {
        let length = source.length();
        let held = source.hold(self.memory, |done| {
            (self.progress)(done, length.unwrap_or(done));
            stopped(self.stop)
        });
        let Held { database, hashed } = held.map_err(|error| match error {
            NotHeld::TooLarge { needed } => self.too_large(needed),
            NotHeld::Unread(error) => export::Error::Source(error).into(),
            NotHeld::BrokenOff => export::Error::Interrupted.into(),
        })?;
        let digest = judge(&hashed, manifest, self.rule, source.name())?;
        Ok((database, digest))
    }

    fn too_large(&self, needed: u64) -> Error {
        let memory = self.memory;
        Error::TooLarge { needed, memory }
    }
}

/// A database that was found sound.
struct Sound<'w, 'a> {
    work: &'w Work<'w>,
    file: bbolt::File<'a>,
    walk: Inspection,
    marks: CompactionMarks,
    history: History,
    /// How long it will be.
    needed: u64,
    /// How much memory it takes.
    held: u64,
    digest: DigestRule,
}

impl Sound<'_, '_> {
    /// The smaller database, proven, in memory; its digest is still to come.
    fn made_in_memory(&self) -> Result<(Vec<u8>, Compacted), Error> {
        let room = self.room()?;
        let made = rewrite(&self.file, self.history, room).map_err(Error::Rewrite)?;
        let (made, _) = made.seal().map_err(not_written)?;
        go_on(self.work.stop)?;
        let is = bbolt::File::open(&made).map_err(|error| Error::Unequal(error.to_string()))?;
        let compacted = self.proven(&is)?;
        Ok((made, compacted))
    }

    /// The same in the empty `file` at `path`, etcd's digest behind it: no memory is needed where that is on this machine.
    fn made_in(&self, file: &File, path: &Path) -> Result<Compacted, Error> {
        let refused = |error| export::Error::Write(path.to_owned(), error);
        let sink = file.try_clone().map_err(refused)?;
        let made = rewrite(&self.file, self.history, sink).map_err(Error::Rewrite)?;
        let (_, written) = made.seal().map_err(not_written)?;
        go_on(self.work.stop)?;
        let made = match Mapped::given(file).map_err(refused)? {
            Some(map) => Database::Mapped { len: map.len(), map },
            None => {
                let mut room = self.room()?;
                let mut file = file;
                file.seek(SeekFrom::Start(0)).map_err(refused)?;
                file.take(written.len).read_to_end(&mut room).map_err(refused)?;
                Database::InMemory(room)
            }
        };
        let compacted = made.over(|is| {
            let is = is.map_err(|error| Error::Unequal(error.to_string()))?;
            self.proven(&is)
        })?;
        let sha256 = put_digest(file, written.len, path, self.work.stop)?;
        Ok(Compacted { sha256, ..compacted })
    }

    /// Memory for what is made, beside what is held.
    fn room(&self) -> Result<Vec<u8>, Error> {
        let room = room_for(self.needed, self.work.memory.saturating_sub(self.held));
        room.ok_or_else(|| self.work.too_large(self.held.saturating_add(self.needed)))
    }

    /// Compares what was made with what it is from.
    fn proven(&self, made: &bbolt::File<'_>) -> Result<Compacted, Error> {
        let is = prove((&self.file, &self.walk), made, self.history).map_err(Error::Unequal)?;
        let extent = |walk: &Inspection, pages| Extent {
            bytes: walk.summary.total_bytes,
            pages,
            versions: walk.replayed.entries,
        };
        Ok(Compacted {
            before: extent(&self.walk, self.file.pages()),
            after: extent(&is, made.pages()),
            bytes: is.summary.total_bytes + DIGEST_BYTES,
            sha256: Digest([0; 32]),
            digest: self.digest,
            revision: is.summary.revision(),
            compacted: self.marks.scheduled.max(self.marks.finished),
            hash_kv: is.hash_kv(),
            live_keys: is.replayed.clients_keys().unwrap_or(0),
        })
    }
}

fn not_written(source: bbolt::Error) -> Error {
    Error::Rewrite(keyspace::Error::Rewrite { source })
}

/// Writes etcd's digest behind the `len` bytes of a database. Returns the digest of both.
fn put_digest(file: &File, len: u64, path: &Path, stop: &dyn Fn() -> bool) -> Result<Digest, export::Error> {
    let refused = |error| export::Error::Write(path.to_owned(), error);
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    while at < len {
        if stop() {
            return Err(export::Error::Interrupted);
        }
        let left = usize::try_from(len - at).map_or(BLOCK, |left| left.min(BLOCK));
        let part = &mut block[..left];
        file.read_exact_at(part, at).map_err(refused)?;
        hasher.update(&*part);
        at += left as u64;
    }
    let digest = hasher.clone().finalize();
    file.write_all_at(&digest, len).map_err(refused)?;
    hasher.update(digest);
    Ok(Digest(hasher.finalize().into()))
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
        with(rule, memory, |work| {
            work.over(source, None, |sound| sound.made_in_memory())
        })
    }

    fn with<R>(rule: DigestRule, memory: u64, then: impl FnOnce(&Work<'_>) -> R) -> R {
        then(&Work {
            rule,
            memory,
            progress: &|_, _| {},
            stop: &|| false,
        })
    }

    #[test]
    fn a_plain_file_is_made_smaller_without_memory_and_to_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, small) = (dir.path().join("it.snap"), dir.path().join("small"));
        std::fs::write(&path, SNAPSHOT).unwrap();
        let file = File::open(&path).unwrap();
        let source = Source::open_file("it", file, Some(SNAPSHOT.len() as u64), None);
        let source = source.unwrap_or_else(|error| panic!("{error}"));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&small).unwrap();
        let compacted = with(DigestRule::Required, 0, |work| {
            work.over(source, None, |sound| sound.made_in(&file, &small))
        });
        let Ok(compacted) = compacted else {
            panic!("it takes no memory");
        };
        let Ok((mut in_memory, other)) = made(SNAPSHOT, DigestRule::Required, u64::MAX) else {
            panic!("it is sound");
        };
        in_memory.extend(Sha256::digest(&in_memory));
        let written = std::fs::read(&small).unwrap();
        assert!(written == in_memory);
        assert_eq!(compacted.sha256, Digest(Sha256::digest(&written).into()));
        assert_eq!((compacted.bytes, compacted.after), (other.bytes, other.after));
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
        let Some(Error::Unsound(told)) = refused else {
            panic!("it is damaged");
        };
        assert!(!told.contains(" in all"), "{told}");
    }
}
