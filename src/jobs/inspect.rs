//! What is in a snapshot, or in a member's database: read whole, into memory, so that plaintext comes on no disk. A plain file
//! on this machine is read where it lies.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::rebuild::refused_by;
use super::source::{Found, source_failure};
use super::{Exit, Failure, Listener};
use crate::bbolt;
use crate::datadir::wal_reader::End;
use crate::datadir::{self, Tail};
use crate::durable;
use crate::error_chain::with_causes;
use crate::keyspace::entries::execute;
use crate::keyspace::{
    CompactionMarks, EtcdLine, Held, History, Inspection, KeyValue, Lease, LiveKeys, Prefixes, RevisionKey,
    RewrittenSize, Summary, Version, Versions,
};
use crate::layout::Manifest;
use crate::model::{ByteSize, ClusterId, HashKv, MemberId, Revision};
use crate::rebuild::{self, Segments, broken_snapshots, read_log};
use crate::source::{self, Hashed, Held as Whole, NotHeld, Source, TrailingDigest};

/// How many beginnings of keys are named.
const NAMED_PREFIXES: usize = 10;
/// How many keys are.
const NAMED_KEYS: usize = 10;
/// How many users and roles are.
const NAMED_USERS: usize = 5_000;

/// What a database holds.
pub struct Inspected {
    /// The walk over it.
    pub walk: Inspection,
    /// HashKV at the revision that was asked for, else at the last one.
    pub hash_kv: HashKv,
    /// Whether etcd's digest is at its end, and right.
    pub digest: TrailingDigest,
    /// Bytes of a page.
    pub page_size: u32,
    /// All pages.
    pub pages: u64,
    /// How long the database would be, written anew as `compact` does; `None` where it is too damaged for that.
    pub compacted_bytes: Option<u64>,
    /// The beginnings of keys that hold the most, and what all others hold.
    pub prefixes: (Vec<(Vec<u8>, Held)>, Held),
    /// The keys with the most versions.
    pub most_versions: Vec<(Vec<u8>, Held)>,
    /// The users that may log in where authentication is on.
    pub users: Named,
    /// What users may be allowed to do, each kind by its name.
    pub roles: Named,
    /// The write-ahead log beside it.
    pub log: LogSeen,
    /// What is wrong beside what the walk found.
    pub wrong: Vec<String>,
}

/// What was seen of the write-ahead log beside a database.
pub enum LogSeen {
    /// It was not looked at: a snapshot needs none, and of a database alone it is not known where it is.
    Not,
    /// There is none where it should be.
    Missing,
    /// What is in it.
    Read(Box<LogFound>),
}

/// A write-ahead log, against the database beside it.
pub struct LogFound {
    /// Whose log it is: cluster and member.
    pub identity: Option<(ClusterId, MemberId)>,
    /// How many segments it has.
    pub segments: u64,
    /// How it ends.
    pub end: End,
    /// The newest term in it.
    pub term: u64,
    /// The last entry that the database holds.
    pub consistent_index: u64,
    /// The last entry in it.
    pub last_index: u64,
    /// What it holds beyond the database, or why it does not go on from there.
    pub beyond: Result<Beyond, String>,
}

/// What would be lost if only the database were taken.
pub struct Beyond {
    /// The last entry that is committed for sure.
    pub committed_index: u64,
    /// How many committed entries the database does not hold.
    pub entries: u64,
    /// How many entries come after those.
    pub uncommitted: u64,
    /// The revisions in them, the first and the last, where there are any; or why that cannot be told.
    pub revisions: Result<Option<(Revision, Revision)>, String>,
}

/// Names, of which there may be more than are told.
#[derive(Debug, Default)]
pub struct Named {
    /// The first of them, at most 5 000.
    pub names: Vec<String>,
    /// How many there are.
    pub count: u64,
}

impl Named {
    fn take(&mut self, name: &[u8]) {
        self.count += 1;
        if self.names.len() < NAMED_USERS {
            self.names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
}

impl Inspected {
    /// The number that `etcdutl snapshot status` of a line calls its keys.
    pub fn total_keys(&self, line: EtcdLine) -> u64 {
        match line {
            EtcdLine::V3_4 | EtcdLine::V3_5 => self.walk.summary.total_entries,
            EtcdLine::V3_6 | EtcdLine::V3_7 => self.walk.replayed.live_keys.unwrap_or(0),
        }
    }

    /// The keys that are there at the last revision.
    pub fn live_keys(&self) -> u64 {
        self.walk.replayed.clients_keys().unwrap_or(0)
    }

    /// The revision as etcd's tools print it: that of the last entry of the log, 0 where it has none.
    pub fn revision(&self) -> i64 {
        let last = self.walk.summary.last.map(RevisionKey::main);
        last.map_or(0, Revision::get)
    }

    /// The version of etcd that is written in it.
    pub fn etcd_version(&self) -> Option<&Version> {
        let summary = &self.walk.summary;
        let of_storage = summary.meta.storage_version.as_ref();
        of_storage.or(summary.cluster_version.as_ref())
    }

    /// How many live keys hang on a lease.
    pub fn keys_on(&self, lease: &Lease) -> u64 {
        let leases = &self.walk.replayed.leases;
        let place = leases.binary_search_by_key(&lease.id, |(id, _)| *id);
        place.map_or(0, |place| leases[place].1)
    }

    /// How many faults there are.
    pub fn fault_count(&self) -> u64 {
        self.wrong.len() as u64 + self.walk.fault_count()
    }

    /// All of them that are named.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        self.wrong.iter().cloned().chain(self.walk.faults())
    }

    /// The pages that nothing uses: etcd fills them again before the file grows.
    pub fn free_pages(&self) -> u64 {
        self.pages.saturating_sub(self.walk.report.reachable().len())
    }
}

enum Error {
    Source(source::Error),
    TooLarge {
        needed: u64,
        memory: u64,
    },
    Unreadable {
        name: String,
        error: bbolt::Error,
    },
    /// The revision that was asked for is compacted, or still to come.
    NoRevision {
        asked: Revision,
        compacted: i64,
        last: Revision,
    },
    /// The log beside it cannot be read.
    Log(rebuild::Error),
    Interrupted,
}

/// A member's data directory.
pub struct DataDir {
    /// The database in it.
    pub database: PathBuf,
    /// Where its `.snap` files are.
    pub snap_dir: PathBuf,
    /// Where its log is, unless it has a place of its own.
    pub wal_dir: PathBuf,
}

/// The data directory that `source` names, where it is one.
pub fn data_dir_of(source: &str) -> Result<Option<DataDir>, Failure> {
    let folder = Path::new(source);
    if !source.contains('/') || !folder.is_dir() {
        return Ok(None);
    }
    let database = folder.join(datadir::SNAP_DIR).join(datadir::DB);
    match database.try_exists() {
        Ok(true) => Ok(Some(DataDir {
            database,
            snap_dir: folder.join(datadir::SNAP_DIR),
            wal_dir: folder.join(datadir::WAL_DIR),
        })),
        Ok(false) => {
            let message = format!(
                "{source} is no data directory of etcd: {} is missing",
                database.display()
            );
            Err(Failure::new(Exit::NotFound, message).next("name a data directory, a file or a backup"))
        }
        Err(error) => {
            let message = format!("cannot look for {}: {error}", database.display());
            Err(Failure::new(Exit::Failed, message).next("run it as root, or as a user that may read it"))
        }
    }
}

/// Refuses a file that a running etcd holds: it changes while it is read. To be asked before it is read, and after.
pub fn refuse_living(source: &str) -> Result<(), Failure> {
    let path = Path::new(source);
    if !source.contains('/') || !path.is_file() {
        return Ok(());
    }
    // That it cannot be opened is said where it is read.
    let Ok(file) = durable::open_given(path) else {
        return Ok(());
    };
    if durable::is_held_by_another(&file) {
        let message = format!("{source} is in use: a running etcd holds it, and changes it while it is read");
        return Err(Failure::new(Exit::Refused, message)
            .next("look at a backup instead: `lifeboat backup`, then `lifeboat inspect latest`"));
    }
    Ok(())
}

/// Reads all of what was found, and computes HashKV at `revision`, or at the last one; at most so many bytes of memory. A
/// database that is in a data directory is compared with the log there.
pub fn inspect(
    found: &Found,
    data_dir: Option<&DataDir>,
    revision: Option<Revision>,
    memory: u64,
    listener: &dyn Listener,
    stop: &dyn Fn() -> bool,
) -> Result<Inspected, Failure> {
    found.with_each(
        listener,
        |source, manifest| {
            let progress = listener.progress("inspect");
            read(source, manifest, data_dir, revision, memory, &progress, stop)
        },
        |error| matches!(error, Error::Source(_) | Error::Unreadable { .. }),
        |error| failure(error, found.manifest.as_ref()),
    )
}

/// Breaks off where that was asked for.
pub(super) fn stopped(stop: &dyn Fn() -> bool) -> ControlFlow<()> {
    match stop() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

fn read(
    mut source: Source,
    manifest: Option<&Manifest>,
    data_dir: Option<&DataDir>,
    revision: Option<Revision>,
    memory: u64,
    progress: &dyn Fn(u64, u64),
    stop: &dyn Fn() -> bool,
) -> Result<Inspected, Error> {
    let name = source.name().to_owned();
    let length = source.length();
    let held = source.hold(memory, |done| {
        progress(done, length.unwrap_or(done));
        stopped(stop)
    });
    let Whole { database, hashed } = held.map_err(|error| match error {
        NotHeld::TooLarge { needed } => Error::TooLarge { needed, memory },
        NotHeld::Unread(error) => Error::Source(error),
        NotHeld::BrokenOff => Error::Interrupted,
    })?;
    database.over(|file| {
        let file = file.map_err(|error| Error::Unreadable {
            name: name.clone(),
            error,
        })?;
        look(&name, file, &hashed, manifest, data_dir, revision)
    })
}

/// Reads all of a database whose bytes came to `hashed`.
fn look(
    name: &str,
    file: bbolt::File<'_>,
    hashed: &Hashed,
    manifest: Option<&Manifest>,
    data_dir: Option<&DataDir>,
    revision: Option<Revision>,
) -> Result<Inspected, Error> {
    let mut wrong = Vec::new();
    if hashed.digest == TrailingDigest::Differs {
        wrong.push("its bytes do not match the SHA-256 at its end".to_owned());
    }
    if let Some(manifest) = manifest.filter(|manifest| manifest.plain.sha256 != hashed.sha256) {
        let (found, recorded) = (hashed.sha256, manifest.plain.sha256);
        wrong.push(format!("its SHA-256 is {found}, and {recorded} in the manifest"));
    }
    let unreadable = |error| Error::Unreadable {
        name: name.to_owned(),
        error,
    };
    let (mut prefixes, mut versions) = (Prefixes::default(), Versions::default());
    let (mut users, mut roles) = (Named::default(), Named::default());
    let history = History::asked_by(CompactionMarks::read(&file));
    let mut compacted = RewrittenSize::new(&file, history).map_err(unreadable)?;
    let walk = Inspection::of(&file, LiveKeys::Counted, None, |bucket, key, value| {
        compacted.entry(bucket, key, value);
        match bucket {
            b"key" => {
                // One that does not read is among the faults.
                if let Ok(record) = KeyValue::decode(value) {
                    prefixes.entry(record.key, record.value);
                    versions.entry(record.key, record.value);
                }
            }
            b"authUsers" => users.take(key),
            b"authRoles" => roles.take(key),
            _ => {}
        }
    });
    let walk = walk.map_err(unreadable)?;
    let hash_kv = match revision.map(|asked| (asked, walk.hash_kv_at(&file, asked))) {
        None => walk.hash_kv(),
        Some((_, Ok(Some(hash)))) => hash,
        Some((asked, Ok(None))) => {
            return Err(Error::NoRevision {
                asked,
                compacted: walk.compact_revision,
                last: walk.summary.revision(),
            });
        }
        Some((asked, Err(error))) => {
            wrong.push(format!("HashKV at revision {asked} cannot be computed: {error}"));
            walk.hash_kv()
        }
    };
    let log = match data_dir {
        None => LogSeen::Not,
        Some(dir) => log_seen(dir, &file, &walk.summary, &mut wrong)?,
    };
    Ok(Inspected {
        log,
        hash_kv,
        digest: hashed.digest,
        page_size: file.page_size(),
        pages: file.pages(),
        compacted_bytes: (walk.fault_count() == 0).then(|| compacted.finish().0),
        prefixes: prefixes.largest(NAMED_PREFIXES),
        most_versions: most_versions(versions, &file),
        users,
        roles,
        wrong,
        walk,
    })
}

/// Reads the log of a data directory, and what it holds beyond a database.
fn log_seen(
    dir: &DataDir,
    file: &bbolt::File<'_>,
    summary: &Summary,
    wrong: &mut Vec<String>,
) -> Result<LogSeen, Error> {
    wrong.extend(broken_snapshots(&dir.snap_dir).map_err(Error::Log)?);
    let consistent_index = summary.meta.consistent_index.unwrap_or(0);
    let log = match read_log(&dir.wal_dir, consistent_index, Segments::All) {
        Err(rebuild::Error::NoLog { .. }) => return Ok(LogSeen::Missing),
        read => read.map_err(Error::Log)?,
    };
    wrong.extend(log.damages.iter().map(ToString::to_string));
    let beyond = Tail::of(&log, summary).map(|tail| Beyond {
        committed_index: tail.committed_index,
        entries: tail.entries,
        uncommitted: tail.uncommitted,
        revisions: match execute(file, summary, &tail.requests) {
            Ok(executed) => Ok(executed.first.map(|first| (first, executed.revision))),
            Err(error) => Err(with_causes(&error)),
        },
    });
    Ok(LogSeen::Read(Box::new(LogFound {
        identity: log.identity,
        segments: log.segments,
        end: log.end,
        term: log.hard_state.term,
        consistent_index,
        last_index: log.last_index,
        beyond: beyond.map_err(|error| error.to_string()),
    })))
}

/// The keys with the most versions. Where there are too many keys to count each as they pass, the log is read once more.
fn most_versions<'a>(mut versions: Versions<'a>, file: &bbolt::File<'a>) -> Vec<(Vec<u8>, Held)> {
    if versions.is_to_be_counted() {
        versions.begin_again();
        let log = file.bucket(b"key").ok().flatten();
        // Where a page cannot be read, that is among the faults.
        for (_, value) in log.iter().flat_map(bbolt::Bucket::iter).flatten() {
            if let Ok(record) = KeyValue::decode(value) {
                versions.again(record.key, record.value);
            }
        }
    }
    let largest = versions.largest(NAMED_KEYS).into_iter();
    largest.map(|(key, held)| (key.into_owned(), held)).collect()
}

fn failure(error: Error, manifest: Option<&Manifest>) -> Failure {
    match error {
        Error::Source(error) => source_failure(&error, manifest),
        Error::TooLarge { needed, memory } => {
            let (needed, memory) = (ByteSize(needed), ByteSize(memory));
            let message = format!("it takes {needed} of memory, and {memory} of this host's may be used");
            Failure::new(Exit::Failed, message).next(
                "inspect it on a host with more memory; or a plain file of it, which takes none: `lifeboat export`",
            )
        }
        Error::Unreadable { name, error } => Failure::new(Exit::Damaged, format!("{name} is damaged: {error}"))
            .next("choose another backup: `lifeboat list`"),
        Error::NoRevision { asked, compacted, last } if asked > last => Failure::new(
            Exit::NotFound,
            format!("revision {asked} is still to come: the last one in it is {last}"),
        )
        .next(format!("ask for a revision from {} to {last}", compacted.max(1))),
        Error::NoRevision { asked, compacted, last } => Failure::new(
            Exit::NotFound,
            format!("revision {asked} is compacted: history begins at {compacted}"),
        )
        .next(format!("ask for a revision from {compacted} to {last}")),
        Error::Log(error) => refused_by(&error, manifest),
        Error::Interrupted => Failure::new(Exit::Failed, "interrupted"),
    }
}
