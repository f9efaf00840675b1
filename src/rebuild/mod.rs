//! The use case of a rebuild: a data directory from a snapshot, without any etcd.
//!
//! The source's pages are kept as they are; what a restore changes is written behind them, so the work is one copy, one
//! walk over the result, and a few pages. Where it is asked for, the database is written anew before that, see `rewriting`.
//! What is written where follows `etcdutl snapshot restore` of 3.5 and 3.6.
//!
//! Invariant: nothing carries the final name before all of it was checked and is on the disk.

mod append_buckets;
mod apply;
mod copy_in;
mod database;
mod digest;
mod error;
mod exporting;
mod first_segment;
mod founding;
mod half_made_dirs;
mod log_dir;
mod rewriting;
mod salvage;
mod staging;
mod target_dirs;
#[cfg(test)]
mod tests;
mod warm;
mod warnings;
mod writeback;

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::datadir::{self, Membership, snap, wal};
use crate::durable::Dir;
use crate::keyspace::{Alarm, Auth, EtcdLine, Lease, LeaseId, Member, Version};
use crate::model::{Digest, HashKv, Revision};
use crate::source::{Changes, Source};

pub use apply::{Applied, Checkpoints};
pub use error::Error;
pub use exporting::{Exported, Wanted, export_at};
pub use founding::{Prepared, found_in, is_founded_in, prepare_in, prepared_in};
pub use half_made_dirs::is_held;
pub use log_dir::{Segments, broken_snapshots, read_log};
pub use rewriting::{Rewrite, Rewritten};
pub use salvage::{LeftBehind, Salvaged};
pub use warm::Warm;
pub use warnings::not_compared;

use copy_in::{Hashes, copy_in};
use digest::checked;
use first_segment::{write, write_log};
use staging::Staging;

/// The entry of a data directory that holds all others.
const MEMBER: &str = "member";

/// What to lay out, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The members of the new cluster.
    pub membership: Membership,
    /// The one whose directory it is.
    pub member: Member,
    /// The data directory; absent or empty.
    pub data_dir: PathBuf,
    /// A directory of its own for the log; absent or empty, and neither in the data directory nor around it.
    pub wal_dir: Option<PathBuf>,
    /// By how much revisions jump, all history before being marked as compacted.
    pub bump: Option<NonZeroU64>,
    /// The line of etcd it is for, if not for all.
    pub line: Option<EtcdLine>,
    /// Whether a missing or wrong trailing digest is borne.
    pub digest: DigestRule,
    /// Whether the source's pages are kept.
    pub rewrite: Rewrite,
    /// What the manifest says of the bytes, where there is one.
    pub expected: Option<Expected>,
    /// The dead member whose database it is, where its log is read too.
    pub left: Option<LeftBehind>,
    /// What [`Warm::history`] finds again, where it is to be kept up.
    pub history: Option<Vec<u8>>,
}

impl Plan {
    fn wish(&self) -> Wish {
        Wish {
            bump: self.bump,
            line: self.line,
            digest: self.digest,
            rewrite: self.rewrite,
            expected: self.expected,
        }
    }
}

/// What is wished of the data, whoever the members are; the fields are those of [`Plan`].
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// By how much revisions jump, all history before being marked as compacted.
    pub bump: Option<NonZeroU64>,
    /// The line of etcd it is for, if not for all.
    pub line: Option<EtcdLine>,
    /// Whether a missing or wrong trailing digest is borne.
    pub digest: DigestRule,
    /// Whether the source's pages are kept.
    pub rewrite: Rewrite,
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
    /// What was no damage of the source, and still not as it should be.
    pub oddities: Vec<String>,
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
    /// What was left out of it, if its pages were not kept.
    pub rewritten: Option<Rewritten>,
    /// How long it would be without what its compaction gave up, where it was asked to be small enough and is not.
    pub compacted_bytes: Option<u64>,
    /// Whether the source had no digest at its end: a copy of a database file, without its log.
    pub digest_was_absent: bool,
    /// What came from the log of a dead member.
    pub salvaged: Option<Salvaged>,
    /// What came from the changes behind the source.
    pub applied: Option<Applied>,
    /// User and group who own the directory now, where that is not who made it.
    pub owner: Option<(u32, u32)>,
}

/// How far the content was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentProof {
    /// Every page and entry is sound.
    Content,
    /// HashKV also equals what the live member reported; where changes were applied, for the last of their revisions.
    HashKv,
}

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The source is being read.
    Reading {
        /// How much of it has come.
        bytes: u64,
    },
    /// All of it has come and is being checked.
    Checking,
    /// The changes behind it are being applied.
    Applying {
        /// How many revisions are.
        revisions: u64,
        /// How many there are.
        of: u64,
    },
    /// Everything is made and checked, and about to get its name.
    Publishing,
}

/// Hears how far a rebuild is, and may break it off.
pub type Listener<'a> = &'a dyn Fn(Progress) -> ControlFlow<()>;

/// Lays out a data directory from `source`, and from the `changes` behind it up to the revision they are meant for, telling
/// `listener` how far it is.
pub fn rebuild(
    source: Source,
    changes: Option<Changes>,
    plan: &Plan,
    listener: Listener<'_>,
) -> Result<Rebuilt, Error> {
    let wal_dir = target_dirs::separate_log(&plan.data_dir, plan.wal_dir.as_deref())?;
    // The log first: where there is one, data of a run that died may be complete.
    let mut log = wal_dir.map(|dir| Staging::begin(&dir)).transpose()?;
    half_made_dirs::take_back(&plan.data_dir)?;
    let mut data = Staging::begin(&plan.data_dir)?;
    let built = lay_out((source, changes), plan, &mut data, &mut log, listener)?;
    let owner = data.owner();
    match log {
        None => publish(data, MEMBER)?,
        Some(log) => publish_both(data, log)?,
    }
    Ok(Rebuilt { owner, ..built })
}

/// Where [`rebuild_in`] makes things: folders of its caller's that nobody else may write to.
#[derive(Debug, Clone, Copy)]
pub struct Homes<'a> {
    /// The folder for the data, on the file system of the data directory.
    pub data: &'a Dir,
    /// The folder for the log, where that has a place of its own.
    pub log: Option<&'a Dir>,
    /// The name that what is made has in each of them; there must be nothing of that name.
    pub name: &'a str,
    /// User and group who get what is made.
    pub owner: (u32, u32),
}

/// The directory of the log of data that is exchanged by its `member`, if that does not bring the log along.
///
/// Fails when it is elsewhere in `member`, or around the data.
pub fn log_beside_member(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    target_dirs::log_beside_member(data_dir, wal_dir)
}

/// A path without links and `..`, as far as it exists.
pub fn resolved(path: &Path) -> Result<PathBuf, Error> {
    target_dirs::resolved(path)
}

/// Lays out what a data directory holds, and a log directory, in folders beside those that `plan` names, which are not
/// looked at. Nothing has its name before all of it is checked and on the disk.
pub fn rebuild_in(
    homes: Homes<'_>,
    source: Source,
    changes: Option<Changes>,
    plan: &Plan,
    listener: Listener<'_>,
) -> Result<Rebuilt, Error> {
    let mut log = homes
        .log
        .map(|home| Staging::within(home, homes.name, homes.owner))
        .transpose()?;
    let mut data = Staging::within(homes.data, homes.name, homes.owner)?;
    let built = lay_out((source, changes), plan, &mut data, &mut log, listener)?;
    if let Some(log) = log {
        publish(log, wal::FILE_NAME)?;
    }
    publish(data, MEMBER)?;
    Ok(Rebuilt {
        owner: Some(homes.owner),
        ..built
    })
}

/// How many bytes a rebuild needs for a source of `bytes`, the log included.
pub fn needed_bytes(bytes: u64, rewrite: Rewrite) -> u64 {
    target_dirs::needed_bytes(rewrite.needed_bytes(bytes))
}

/// The least that a database and the changes behind it take.
fn bytes_of(source: &Source, changes: Option<&Changes>) -> u64 {
    let behind = changes.map_or(0, Changes::stored_bytes);
    source.database_bytes().saturating_add(behind)
}

/// Makes everything, checks it and brings it onto the disk; all but the names is done then.
fn lay_out(
    (mut source, changes): (Source, Option<Changes>),
    plan: &Plan,
    data: &mut Staging,
    log: &mut Option<Staging>,
    listener: Listener<'_>,
) -> Result<Rebuilt, Error> {
    target_dirs::refuse_without_space(
        plan.rewrite.needed_bytes(bytes_of(&source, changes.as_ref())),
        data.content(),
        log.as_ref().map(Staging::content),
    )?;
    let snap_dir = data.make_dirs(datadir::SNAP_DIR)?;
    let database = data.create(&snap_dir, datadir::DB)?;
    let wish = plan.wish();
    let (path, hashes) = (snap_dir.path().join(datadir::DB), Hashes::of(&source, &wish));
    let landed = copy_in(&mut source, database, &path, hashes, listener)?;
    go_on(listener, Progress::Checking)?;
    let sound = checked(&source, landed, &wish)?;
    let sound = sound.followed_by(changes, &wish, listener)?;
    let sound = rewriting::rewritten(sound, &wish, data, &snap_dir)?;
    let sound = match &plan.left {
        Some(left) => sound.with_log(&left.wal_dir)?,
        None => sound,
    };
    let built = sound.found(plan.membership.members())?;
    if let Some(history) = &plan.history {
        let dir = data.make_dirs(MEMBER)?;
        write(&data.create(&dir, warm::HISTORY)?, &dir, history)?;
    }
    let mark = data.create(&snap_dir, &snap::file_name(&plan.membership))?;
    write(&mark, &snap_dir, &snap::file(&plan.membership))?;
    let records = wal::first_segment(&plan.membership, &plan.member);
    match log {
        Some(log) => write_log(
            &log.create(&log.content().clone(), wal::FILE_NAME)?,
            log.content(),
            &records,
        )?,
        None => {
            let dir = data.make_dirs(datadir::WAL_DIR)?;
            write_log(&data.create(&dir, wal::FILE_NAME)?, &dir, &records)?;
        }
    }
    data.settle()?;
    log.as_ref().map(Staging::settle).transpose()?;
    // An etcd that was started on it meanwhile has changed what was read.
    plan.left.as_ref().map_or(Ok(()), salvage::refuse_living)?;
    go_on(listener, Progress::Publishing)?;
    Ok(built)
}

fn go_on(listener: Listener<'_>, at: Progress) -> Result<(), Error> {
    match listener(at) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}

fn publish(mut made: Staging, entry: &str) -> Result<(), Error> {
    made.move_up(entry)?;
    made.clear()
}

/// The data first: on a log without data etcd serves an empty cluster, on data without a log what was backed up, or
/// nothing. It is taken back if the log cannot follow.
fn publish_both(mut data: Staging, mut log: Staging) -> Result<(), Error> {
    data.announce(log.target())?;
    let moved = data.move_up(MEMBER).and_then(|()| log.move_up(wal::FILE_NAME));
    if let Err(error) = moved {
        // Once the log is there too, both are: all that failed is the last sync.
        if data.is_up() && !log.is_up() {
            return Err(without_log(data, error));
        }
        return Err(error);
    }
    log.clear()?;
    data.clear()
}

/// Takes data back whose log could not follow, unless an etcd was started on it meanwhile.
fn without_log(mut data: Staging, error: Error) -> Error {
    let in_use = is_held(data.target()).unwrap_or(true);
    if !in_use && data.take_back(MEMBER).is_ok() {
        return error;
    }
    Error::WithoutLog {
        data_dir: data.target().to_owned(),
        error: Box::new(error),
    }
}
