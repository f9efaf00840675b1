//! The use case of a rebuild: a data directory from a snapshot, without any etcd.
//!
//! The source's pages are kept as they are; what a restore changes is written behind them, so the work is one copy, one
//! walk over the result, and a few pages. What is written where follows `etcdutl snapshot restore` of 3.5 and 3.6.
//!
//! Invariant: nothing carries the final name before all of it was checked and is on the disk.

mod land;
mod map;
mod staging;

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};

use crate::bbolt::{self, Rules, check};
use crate::datadir::{self, Membership, snap, wal};
use crate::durable;
use crate::keyspace::{
    self, Agreement, Alarm, Auth, Change, EtcdLine, Lease, LeaseId, LiveKeys, Member, NewContent, Replay, Replayed,
    Restored, Summary, Survey, Version, restored,
};
use crate::model::{ByteSize, Digest, HashKv, Revision};
use crate::source::{self, Source, TrailingDigest};

use land::{Landed, land};
use map::Mapped;
use staging::{DIR_MODE, Staging, create_new, io_error};

/// The lifetime of a lease that keys hang on but whose own entry is missing: long enough for its owner to come back.
const MISSING_LEASE_TTL_SECONDS: i64 = 3600;

/// What to lay out, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The members of the new cluster.
    pub membership: Membership,
    /// The one whose directory it is.
    pub member: Member,
    /// The data directory; absent or empty.
    pub data_dir: PathBuf,
    /// A directory of its own for the log; absent or empty.
    pub wal_dir: Option<PathBuf>,
    /// By how much revisions jump, all history before being marked as compacted.
    pub bump: Option<NonZeroU64>,
    /// The line of etcd it is for, if not for all.
    pub line: Option<EtcdLine>,
    /// Whether a missing or wrong trailing digest is borne.
    pub digest: DigestRule,
    /// What the manifest says of the bytes, where there is one.
    pub expected: Option<Expected>,
}

/// How the digest at the end of a snapshot is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestRule {
    /// It must be there and match.
    Required,
    /// It is not looked at; the structure is checked all the same.
    Skipped,
}

/// What a manifest says of a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Digest of all its bytes.
    pub sha256: Digest,
    /// The revision it holds.
    pub revision: Revision,
    /// What the member reported for it.
    pub hash_kv: Option<HashKv>,
}

/// A data directory that is in its place.
#[derive(Debug)]
pub struct Rebuilt {
    /// The revision of the restored store, a bump included.
    pub revision: Revision,
    /// HashKV as the restored member reports it for the source's last revision, before a bump's compaction.
    pub hash_kv: HashKv,
    /// What the manifest's HashKV was worth.
    pub proof: ContentProof,
    /// Keys that live.
    pub live_keys: u64,
    /// Leases, those added included.
    pub leases: Vec<Lease>,
    /// Keys that hang on a lease.
    pub leased_keys: u64,
    /// Leases that were added because live keys hang on them.
    pub added_leases: Vec<LeaseId>,
    /// Alarms that were active in the source and are not any more.
    pub cleared_alarms: Vec<Alarm>,
    /// Whether users and passwords are asked for.
    pub auth: Auth,
    /// The storage version that was removed for an older line.
    pub dropped_storage_version: Option<Version>,
    /// The version of the cluster the source is from.
    pub cluster_version: Option<Version>,
    /// Length of the database.
    pub database_bytes: u64,
    /// Whether the source had no digest at its end: a copy of a database file, without its log.
    pub digest_was_absent: bool,
    /// User and group who own the directory now, where that is not who made it.
    pub owner: Option<(u32, u32)>,
}

/// How far the content was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentProof {
    /// Every page and entry is sound.
    Content,
    /// HashKV also equals what the live member reported.
    HashKv,
}

/// Why there is no data directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is there.
    #[error("`{}` is not empty", .path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A running etcd uses it.
    #[error("`{}` is in use: a running etcd holds its database", .path.display())]
    Running {
        /// The directory.
        path: PathBuf,
    },
    /// Another run makes the same directory.
    #[error("another run is making `{}`", .path.display())]
    Busy {
        /// The directory in the making.
        path: PathBuf,
    },
    /// There is too little room.
    #[error("`{}` has {free} free, and {needed} are needed", .path.display())]
    TooLittleSpace {
        /// The directory.
        path: PathBuf,
        /// What there is.
        free: ByteSize,
        /// What is needed.
        needed: ByteSize,
    },
    /// Somebody asked to stop.
    #[error("interrupted; nothing was kept")]
    Interrupted,
    /// The source cannot be read.
    #[error(transparent)]
    Source(source::Error),
    /// There is no digest at the end.
    #[error("{name} has no SHA-256 at its end: it is a copy of a database file, or cut short")]
    NoDigest {
        /// The source.
        name: String,
    },
    /// The digest at the end is wrong.
    #[error("{name} is damaged: its bytes do not match the SHA-256 at its end")]
    DigestDiffers {
        /// The source.
        name: String,
    },
    /// The bytes are not those that were backed up.
    #[error("{name} is not what its manifest says: {what}")]
    NotAsRecorded {
        /// The source.
        name: String,
        /// The difference.
        what: String,
    },
    /// The database is not sound.
    #[error("{name} is not a sound etcd database: {} in all, first: {}", .count, .faults.join("; "))]
    Unsound {
        /// The source.
        name: String,
        /// The first faults.
        faults: Vec<String>,
        /// How many there are.
        count: u64,
    },
    /// It cannot be restored as wished.
    #[error("{name} cannot be restored so: {error}")]
    Content {
        /// The source.
        name: String,
        /// Why.
        error: keyspace::Error,
    },
    /// What was built is not sound: a fault of this program or of the disk.
    #[error("the new database did not pass its own check: {fault}")]
    BuiltUnsound {
        /// The first fault.
        fault: String,
    },
    /// The new pages could not be written.
    #[error("cannot write the new database: {0}")]
    Build(#[source] bbolt::Error),
    /// The system refused.
    #[error("cannot {doing} `{}`: {source}", .path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl From<durable::Error> for Error {
    fn from(error: durable::Error) -> Error {
        match error {
            durable::Error::Exists { path } => Error::NotEmpty { path },
            durable::Error::Io { doing, path, source } => Error::Io { doing, path, source },
        }
    }
}

/// Lays out a data directory from `source`. `progress` hears how many bytes have been read, and may break off.
pub fn rebuild(mut source: Source, plan: &Plan, progress: &dyn Fn(u64) -> ControlFlow<()>) -> Result<Rebuilt, Error> {
    let data = Staging::begin(&plan.data_dir)?;
    let log = plan.wal_dir.as_deref().map(Staging::begin).transpose()?;
    if let Some(bytes) = source.length() {
        // The new pages are few; the log is of a fixed size.
        refuse_without_space(&data.dir, bytes + wal::SEGMENT_BYTES + (16 << 20))?;
    }
    let snap_dir = data.dir.join(datadir::SNAP_DIR);
    durable::create_dirs(&snap_dir, DIR_MODE)?;
    let database = snap_dir.join(datadir::DB);
    let landed = land(&mut source, &database, progress)?;
    check_digest(source.name(), &landed, plan)?;
    let built = build(source.name(), landed, plan)?;
    write_new(
        &snap_dir.join(snap::file_name(&plan.membership)),
        &snap::file(&plan.membership),
    )?;
    let wal_dir = match &log {
        Some(log) => log.dir.clone(),
        None => data.dir.join(datadir::WAL_DIR),
    };
    durable::create_dirs(&wal_dir, DIR_MODE)?;
    write_log(
        &wal_dir.join(wal::FILE_NAME),
        &wal::first_segment(&plan.membership, &plan.member),
    )?;
    data.settle()?;
    let owner = data.owner();
    match log {
        None => data.publish("member")?,
        Some(log) => publish_both(data, log)?,
    }
    Ok(Rebuilt { owner, ..built })
}

/// The log first: a log without data is nothing that etcd starts on, and it is taken back if the data cannot follow.
fn publish_both(data: Staging, log: Staging) -> Result<(), Error> {
    log.settle()?;
    let at = log.target().to_owned();
    log.publish(wal::FILE_NAME)?;
    data.publish("member").inspect_err(|_| {
        std::fs::remove_file(at.join(wal::FILE_NAME)).ok();
        std::fs::remove_dir(&at).ok();
    })
}

fn refuse_without_space(path: &Path, needed: u64) -> Result<(), Error> {
    let found = nix::sys::statvfs::statvfs(path).map_err(|error| io_error("measure", path, error.into()))?;
    let free = found.blocks_available() * found.fragment_size();
    if free >= needed {
        return Ok(());
    }
    Err(Error::TooLittleSpace {
        path: path.parent().unwrap_or(path).to_owned(),
        free: ByteSize(free),
        needed: ByteSize(needed),
    })
}

fn check_digest(name: &str, landed: &Landed, plan: &Plan) -> Result<(), Error> {
    let name = name.to_owned();
    if let Some(expected) = plan.expected
        && expected.sha256 != landed.hashed.sha256
    {
        let what = format!("SHA-256 {} instead of {}", landed.hashed.sha256, expected.sha256);
        return Err(Error::NotAsRecorded { name, what });
    }
    match (landed.hashed.digest, plan.digest) {
        (TrailingDigest::Matches, _) | (_, DigestRule::Skipped) => Ok(()),
        (TrailingDigest::Differs, DigestRule::Required) => Err(Error::DigestDiffers { name }),
        // What is no database at all is not to be let through by a flag.
        (TrailingDigest::Absent, DigestRule::Required) => {
            let map = Mapped::new(&landed.file).map_err(|error| io_error("map", Path::new(datadir::DB), error))?;
            Err(match bbolt::File::open(&map) {
                Ok(_) => Error::NoDigest { name },
                Err(error) => unreadable(&name, &error),
            })
        }
    }
}

/// Checks the landed database and turns it into that of the new cluster.
fn build(name: &str, landed: Landed, plan: &Plan) -> Result<Rebuilt, Error> {
    let file = landed.file;
    let path = Path::new(datadir::DB);
    let unreadable = |error: &dyn std::fmt::Display| unreadable(name, error);
    // A copy of a live file has a tail that is not in use; new pages go there, so it must not be mapped.
    let used = {
        let map = Mapped::new(&file).map_err(|error| io_error("map", path, error))?;
        let whole = bbolt::File::open(&map).map_err(|error| unreadable(&error))?;
        whole.pages() * u64::from(whole.page_size())
    };
    file.set_len(used).map_err(|error| io_error("truncate", path, error))?;
    let map = Mapped::new(&file).map_err(|error| io_error("map", path, error))?;
    let source = bbolt::File::open(&map).map_err(|error| unreadable(&error))?;
    let compact_revision = keyspace::Meta::read(&source)
        .map_err(|error| unreadable(&error))?
        .compaction
        .compact_revision();
    let recorded = plan.expected.and_then(|expected| expected.hash_kv);
    let wanted: Vec<i64> = std::iter::once(compact_revision)
        .chain(recorded.map(|hash| hash.compact_revision))
        .collect();
    let mut replay = Replay::new(LiveKeys::Counted, None, &wanted);
    let mut survey = Survey::new(&source, &mut replay).map_err(|error| unreadable(&error))?;
    let report = check(&source, Rules::Bbolt, |bucket, key, value| {
        survey.entry(bucket, key, value)
    });
    let summary = survey.finish();
    refuse_unsound(name, &report, &summary)?;
    let replayed = replay.finish();
    let proof = prove(name, plan.expected.as_ref(), &summary, &replayed)?;
    let added = missing_leases(&summary, &replayed);
    let wished = NewContent {
        members: plan.membership.members(),
        last: summary.last,
        bump: plan.bump,
        leases: &added,
        line: plan.line,
    };
    let restored = restored(&source, &wished).map_err(|error| Error::Content {
        name: name.to_owned(),
        error,
    })?;
    let unsealed = graft(&file, &source, &report, &restored)?;
    // The metas are written in place.
    drop(map);
    let len = seal(unsealed)?;
    check_built(&file, len)?;
    let hash = replayed
        .hashes
        .iter()
        .find(|hash| hash.compact_revision == compact_revision);
    let hash = hash.expect("it was asked for").at(summary.revision());
    let added_leases = added.iter().map(|lease| lease.id).collect();
    let mut leases = summary.leases;
    leases.extend(added);
    Ok(Rebuilt {
        revision: restored.revision,
        hash_kv: hash,
        proof,
        live_keys: replayed.live_keys.unwrap_or(0),
        leases,
        leased_keys: replayed.leases.iter().map(|(_, keys)| keys).sum(),
        added_leases,
        cleared_alarms: summary.alarms,
        auth: summary.auth,
        dropped_storage_version: restored.dropped_storage_version,
        cluster_version: summary.cluster_version,
        database_bytes: len,
        digest_was_absent: landed.hashed.digest == TrailingDigest::Absent,
        owner: None,
    })
}

fn unreadable(name: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Unsound {
        name: name.to_owned(),
        faults: vec![error.to_string()],
        count: 1,
    }
}

fn refuse_unsound(name: &str, report: &bbolt::Report, summary: &Summary) -> Result<(), Error> {
    let count = report.fault_count() + summary.fault_count;
    if count == 0 {
        return Ok(());
    }
    let structure = report.faults().iter().map(ToString::to_string);
    let content = summary.faults.iter().map(ToString::to_string);
    Err(Error::Unsound {
        name: name.to_owned(),
        faults: structure.chain(content).take(3).collect(),
        count,
    })
}

/// Compares with what the manifest recorded.
fn prove(
    name: &str,
    expected: Option<&Expected>,
    summary: &Summary,
    replayed: &Replayed,
) -> Result<ContentProof, Error> {
    let Some(expected) = expected else {
        return Ok(ContentProof::Content);
    };
    let differs = |what: String| Error::NotAsRecorded {
        name: name.to_owned(),
        what,
    };
    if summary.revision() != expected.revision {
        let (found, recorded) = (summary.revision(), expected.revision);
        return Err(differs(format!("revision {found} instead of {recorded}")));
    }
    let Some(recorded) = expected.hash_kv else {
        return Ok(ContentProof::Content);
    };
    let computed = replayed
        .hashes
        .iter()
        .find(|hash| hash.compact_revision == recorded.compact_revision);
    match computed.expect("it was asked for").compared_with(recorded.hash) {
        Agreement::Equal => Ok(ContentProof::HashKv),
        Agreement::Unknown => Ok(ContentProof::Content),
        Agreement::Different => Err(differs(format!(
            "HashKV differs from the {} that the member reported for revision {}",
            recorded.hash, recorded.revision
        ))),
    }
}

/// A key on a lease without an entry would never expire, and members could diverge over it.
fn missing_leases(summary: &Summary, replayed: &Replayed) -> Vec<Lease> {
    let missing = summary.dangling(&replayed.leases);
    missing
        .iter()
        .map(|(id, _)| Lease::granted(*id, MISSING_LEASE_TTL_SECONDS))
        .collect()
}

/// Writes the new buckets behind the old pages, to which the metas still point.
fn graft(
    file: &File,
    source: &bbolt::File<'_>,
    report: &bbolt::Report,
    restored: &Restored,
) -> Result<bbolt::Unsealed<File>, Error> {
    let sink = file
        .try_clone()
        .map_err(|error| io_error("open again", Path::new(datadir::DB), error))?;
    let mut writer = bbolt::Writer::over(sink, source, report).map_err(Error::Build)?;
    write_buckets(&mut writer, source, restored).map_err(Error::Build)?;
    writer.finish().map_err(Error::Build)
}

/// Lets the metas point to the new pages, once these are on the disk. Returns the length of the database.
fn seal(mut unsealed: bbolt::Unsealed<File>) -> Result<u64, Error> {
    let synced = unsealed.sink().sync_data();
    synced.map_err(|error| io_error("sync", Path::new(datadir::DB), error))?;
    let (_, written) = unsealed.seal().map_err(Error::Build)?;
    Ok(written.len)
}

fn write_buckets(
    writer: &mut bbolt::Writer<'_, File>,
    source: &bbolt::File<'_>,
    restored: &Restored,
) -> Result<(), bbolt::Error> {
    for bucket in source.buckets()? {
        let (name, _) = bucket?;
        if !restored.buckets.iter().any(|(known, _)| known.as_bytes() == name) {
            writer.keep(name)?;
        }
    }
    for (name, change) in &restored.buckets {
        let name = name.as_bytes();
        let exists = source.bucket(name)?.is_some();
        let (mut bucket, entries) = match change {
            Change::Kept if exists => {
                writer.keep(name)?;
                continue;
            }
            Change::Kept => (writer.bucket(name)?, [].as_slice()),
            Change::Replaced(entries) => (writer.bucket(name)?, entries.as_slice()),
            Change::Extended(entries) if exists => (writer.extend(name)?, entries.as_slice()),
            Change::Extended(entries) => (writer.bucket(name)?, entries.as_slice()),
        };
        for (key, value) in entries {
            bucket.put(key, value)?;
        }
        bucket.finish()?;
    }
    Ok(())
}

/// Reads the finished database once more, as bbolt would check it.
fn check_built(file: &File, len: u64) -> Result<(), Error> {
    let path = Path::new(datadir::DB);
    file.set_len(len)
        .map_err(|error| io_error("set the length of", path, error))?;
    let map = Mapped::new(file).map_err(|error| io_error("map", path, error))?;
    let built = bbolt::File::open(&map).map_err(|error| Error::BuiltUnsound {
        fault: error.to_string(),
    })?;
    let report = check(&built, Rules::Bbolt, |_, _, _| {});
    match report.faults().first() {
        None => Ok(()),
        Some(fault) => Err(Error::BuiltUnsound {
            fault: fault.to_string(),
        }),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = create_new(path)?;
    file.write_all(bytes).map_err(|error| io_error("write", path, error))
}

/// Writes the log's records and reserves the rest of the segment, as etcd does, so that its first writes cannot fail.
fn write_log(path: &Path, records: &[u8]) -> Result<(), Error> {
    let mut file = create_new(path)?;
    file.write_all(records)
        .map_err(|error| io_error("write", path, error))?;
    let reserved = fallocate(&file, FallocateFlags::empty(), 0, wal::SEGMENT_BYTES.cast_signed());
    match reserved {
        // A file system that cannot reserve: a short segment is read just as well.
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(io_error("reserve space for", path, error.into())),
    }
}
