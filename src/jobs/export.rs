//! The plain snapshot of a source, as a file or on standard output.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::source::{Found, source_failure};
use super::{Exit, Failure, Listener};
use crate::durable::{self, Partial, room_at};
use crate::error_chain::with_causes;
use crate::layout::Manifest;
use crate::model::{ByteSize, Digest};
use crate::source::{self, Hashed, SnapshotHasher, Source, TrailingDigest};

/// Who may read an exported file: it is plaintext.
const FILE_MODE: u32 = 0o600;

/// What to do with a source that has no digest at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestRule {
    /// It is not taken for a snapshot.
    Required,
    /// It gets one.
    Appended,
}

/// What was written.
pub struct Exported {
    /// How many bytes.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Digest,
    /// Whether one was appended.
    pub digest: DigestRule,
}

pub(super) enum Error {
    Source(source::Error),
    NoDigest(String),
    Write(PathBuf, io::Error),
    Exists(PathBuf),
    NoRoom { free: ByteSize, needed: ByteSize },
    Wrong(String),
    Interrupted,
}

/// Whether a path stands for standard output.
pub fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Refuses a place for the file that nobody means; where a document is printed, it has standard output for itself.
pub fn refuse_place(file: &Path, is_document_printed: bool) -> Result<(), Failure> {
    let to_stdout = is_stdout(file);
    if to_stdout && io::stdout().is_terminal() {
        return Err(
            Failure::new(Exit::Usage, "standard output is a terminal").next("give a file, or send it on with `|`")
        );
    }
    if file.is_dir() {
        return Err(Failure::new(Exit::Usage, format!("{} is a directory", file.display()))
            .next("give the name of a file in it"));
    }
    if to_stdout && is_document_printed {
        return Err(Failure::new(Exit::Usage, "`--json` and `-` both want standard output").next("give a file"));
    }
    Ok(())
}

/// Writes what was found to `path`, whose file must not exist.
pub fn export(
    found: &Found,
    rule: DigestRule,
    path: &Path,
    listener: &dyn Listener,
    stop: &dyn Fn() -> bool,
) -> Result<Exported, Failure> {
    let to_stdout = is_stdout(path);
    // What has gone to standard output cannot be taken back, so another copy is no help then.
    found.with_each(
        listener,
        |source, manifest| {
            let progress = listener.progress("export");
            match to_stdout {
                true => copy(source, manifest, rule, &mut io::stdout().lock(), path, &progress, stop),
                false => write_new(path, source.length().unwrap_or(source.database_bytes()), |file| {
                    copy(source, manifest, rule, file, path, &progress, stop)
                }),
            }
        },
        |error| !to_stdout && is_of_copy(error),
        |error| failure(error, found.manifest.as_ref()),
    )
}

/// Whether another copy of the same backup may do.
pub(super) fn is_of_copy(error: &Error) -> bool {
    matches!(error, Error::Source(_) | Error::Wrong(_))
}

/// Makes a file of about `needed` bytes, which has its name only once all that is written to it is there.
pub(super) fn write_new<T, E: From<Error>>(
    path: &Path,
    needed: u64,
    fill: impl FnOnce(&mut &File) -> Result<T, E>,
) -> Result<T, E> {
    let refused = |error: durable::Error| match error {
        durable::Error::Exists { path } => Error::Exists(path),
        durable::Error::Io { path, source, .. } => Error::Write(path, source),
    };
    if path.exists() {
        return Err(Error::Exists(path.to_owned()).into());
    }
    // A name alone has an empty folder, which is this one.
    let absolute = std::path::absolute(path).map_err(|error| Error::Write(path.to_owned(), error))?;
    if let Some(room) = room_at(&absolute).filter(|room| room.available < needed) {
        let (free, needed) = (ByteSize(room.available), ByteSize(needed));
        return Err(Error::NoRoom { free, needed }.into());
    }
    let partial = Partial::create(path, FILE_MODE).map_err(refused)?;
    let written = fill(&mut partial.file())?;
    partial.commit_new().map_err(refused)?;
    Ok(written)
}

fn copy(
    mut source: Source,
    manifest: Option<&Manifest>,
    rule: DigestRule,
    to: &mut impl Write,
    path: &Path,
    progress: &dyn Fn(u64, u64),
    stop: &dyn Fn() -> bool,
) -> Result<Exported, Error> {
    let mut hasher = SnapshotHasher::default();
    // Goes on where the other ends, over the digest that is appended.
    let mut whole = (rule == DigestRule::Appended).then(Sha256::new);
    let (mut block, mut done) = (Vec::new(), 0);
    let refused = |error| Error::Write(path.to_owned(), error);
    while source.next_block(&mut block).map_err(Error::Source)? {
        if stop() {
            return Err(Error::Interrupted);
        }
        done += block.len() as u64;
        hasher.update(&block);
        if let Some(whole) = &mut whole {
            whole.update(&block);
        }
        to.write_all(&block).map_err(refused)?;
        progress(done, source.length().unwrap_or(done));
    }
    let hashed = hasher.finish();
    let exported = judge(&hashed, manifest, rule, source.name())?;
    let (sha256, bytes) = match (exported, whole) {
        (DigestRule::Appended, Some(mut whole)) => {
            whole.update(hashed.sha256.0);
            to.write_all(&hashed.sha256.0).map_err(refused)?;
            (Digest(whole.finalize().into()), done + crate::etcd::DIGEST_BYTES)
        }
        (DigestRule::Required, _) | (DigestRule::Appended, None) => (hashed.sha256, done),
    };
    to.flush().map_err(refused)?;
    Ok(Exported {
        bytes,
        sha256,
        digest: exported,
    })
}

/// Whether the bytes are a whole snapshot as they are, or with their digest appended.
pub(super) fn judge(
    hashed: &Hashed,
    manifest: Option<&Manifest>,
    rule: DigestRule,
    name: &str,
) -> Result<DigestRule, Error> {
    match (hashed.digest, manifest, rule) {
        (_, Some(manifest), _) if manifest.plain.sha256 != hashed.sha256 => {
            let (found, recorded) = (hashed.sha256, manifest.plain.sha256);
            Err(Error::Wrong(format!("{name}: SHA-256 {found} instead of {recorded}")))
        }
        (TrailingDigest::Matches, _, _) => Ok(DigestRule::Required),
        (TrailingDigest::Differs, _, _) => Err(Error::Wrong(format!(
            "{name}: its bytes do not match the SHA-256 at its end"
        ))),
        (TrailingDigest::Absent, None, DigestRule::Appended) => Ok(DigestRule::Appended),
        (TrailingDigest::Absent, None, DigestRule::Required) => Err(Error::NoDigest(name.to_owned())),
        (TrailingDigest::Absent, Some(_), _) => Err(Error::Wrong(format!(
            "{name} has no SHA-256 at its end: it is not a whole snapshot"
        ))),
    }
}

pub(super) fn failure(error: Error, manifest: Option<&Manifest>) -> Failure {
    match error {
        Error::Source(error) => source_failure(&error, manifest),
        Error::Write(path, error) if path.as_os_str() == "-" => Failure::new(
            Exit::Failed,
            format!("cannot write to standard output: {}", with_causes(&error)),
        ),
        Error::Write(path, error) => Failure::new(
            Exit::Failed,
            format!("cannot write {}: {}", path.display(), with_causes(&error)),
        ),
        Error::Exists(path) => Failure::new(Exit::Refused, format!("{} exists", path.display()))
            .next("give another file, or remove it first"),
        Error::NoRoom { free, needed } => Failure::new(
            Exit::Failed,
            format!("there are {free} free for the file, and {needed} are needed"),
        )
        .next("give a file on another disk"),
        Error::NoDigest(name) => Failure::new(
            Exit::Refused,
            format!("{name} has no SHA-256 at its end: it is a copy of a database file, or not a whole snapshot"),
        )
        .next("if a copy is meant, say so with --skip-hash-check"),
        Error::Wrong(what) => Failure::new(Exit::Damaged, what).next("choose another backup: `lifeboat list`"),
        Error::Interrupted => Failure::new(Exit::Failed, "interrupted; nothing was kept"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bbolt;

    fn hashed(digest: TrailingDigest) -> Hashed {
        Hashed {
            digest,
            sha256: Digest([7; 32]),
            database_bytes: 4096,
        }
    }

    #[test]
    fn only_a_file_without_a_digest_gets_one_and_only_when_asked_for() {
        use DigestRule::{Appended, Required};
        let judged = |digest, rule| judge(&hashed(digest), None, rule, "x");
        assert!(matches!(judged(TrailingDigest::Matches, Appended), Ok(Required)));
        assert!(matches!(judged(TrailingDigest::Absent, Appended), Ok(Appended)));
        assert!(matches!(
            judged(TrailingDigest::Absent, Required),
            Err(Error::NoDigest(_))
        ));
        assert!(matches!(
            judged(TrailingDigest::Differs, Appended),
            Err(Error::Wrong(_))
        ));
        let backup = crate::catalog::tests::manifest(0xab, "20261120T101530Z-00000001", 10);
        let stored = judge(&hashed(TrailingDigest::Absent), Some(&backup), Appended, "x");
        assert!(
            matches!(stored, Err(Error::Wrong(_))),
            "a backup is what its manifest says"
        );
    }

    #[test]
    fn a_database_becomes_what_etcdctl_would_have_saved() {
        let writer = bbolt::Writer::fresh(Vec::new(), 4096).unwrap();
        let (database, _) = writer.finish().unwrap().seal().unwrap();
        let source = || Source::open("db", io::Cursor::new(database.clone()), None, None);
        let mut saved = Vec::new();
        let (path, stop) = (Path::new("x"), || false);
        let source = source().unwrap_or_else(|error| panic!("{error}"));
        let Ok(done) = copy(source, None, DigestRule::Appended, &mut saved, path, &|_, _| {}, &stop) else {
            panic!("a database without a digest was asked for");
        };
        assert_eq!(saved[database.len()..], Sha256::digest(&database)[..]);
        assert_eq!(done.bytes, saved.len() as u64);
        assert_eq!(done.sha256, Digest(Sha256::digest(&saved).into()));
    }
}
