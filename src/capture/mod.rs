//! The changes behind a full backup, as they happen: a watch on the whole key space, cut into deltas, into each
//! destination.
//!
//! A lane follows the newest good full backup of its destinations. What etcd tells ([`crate::etcd::Watching`], and a snapshot of it
//! where that is far behind: `catching_up`) is gathered (`assembly`), cut, sealed and given a header (`writer`), kept on this host's disk (`spool`), and from
//! there brought to each destination (`delivery`) and packed there (`packing`), however long one of them cannot be
//! reached: the watch waits for no store. What to go on with is decided from what is proven of a chain (`proven`, `reach`); `full_to_follow` decides
//! which full is followed, and `follow` follows it; what no watch shows is asked for beside it (`unwatched`).
//!
//! Leaves to `jobs` the configuration, the clock, opening stores and taking full backups: [`Surroundings`].
//!
//! Invariant: a revision counts as captured once it is in the spool. What was not is asked for again after a kill, so
//! that no revision is left out; where etcd does not have it any more, the chain ends with a word that says so, and a
//! full backup is asked for.
//! Invariant: all of a chain that is written twice, by two hosts or after a kill, is the same history.

mod assembly;
mod catching_up;
mod cutting;
mod delivery;
mod etcd_away;
mod follow;
mod full_to_follow;
mod hashes;
mod last_epoch;
mod leases;
mod packing;
mod proven;
mod reach;
mod same_history;
mod set_aside;
mod spool;
mod status;
#[cfg(test)]
mod test_host;
mod unwatched;
mod watched;
mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::error_chain::with_causes;
use crate::etcd::choose_member::Wanted;
use crate::etcd::{self, Endpoints};
use crate::health::Level;
use crate::layout::{Cluster, Outline, Writer};
use crate::model::{ByteSize, ClusterId, LineageId};
use crate::pipeline::Encoding;
use crate::signing::Authority;
use crate::store::Store;

pub use assembly::{Assembly, Batch, Now};
pub use catching_up::SnapshotFrom;
pub use cutting::Cutting;
pub use full_to_follow::{Lane, run};
pub use hashes::{Report, report};
pub use proven::{Place, Proofs, Proven};
pub use reach::Known;
pub use spool::{Error as SpoolError, Spool};
pub use status::Board;
pub use writer::{DeltaWriter, Finished, Issue, Unwritten};

/// Who else writes to the destinations of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nobody: each host has its own.
    None,
    /// All hosts of the cluster: one of them writes at a time.
    Hosts,
}

/// What a lane is to do.
pub struct Settings {
    /// `own` or `shared`.
    pub name: &'static str,
    /// Who else writes there.
    pub others: Others,
    /// The cluster's name.
    pub cluster: crate::model::ClusterName,
    /// The destinations.
    pub destinations: BTreeSet<String>,
    /// When what has come becomes a delta.
    pub cutting: Cutting,
    /// How often it is said that nothing was written.
    pub mark_every: Duration,
    /// How long what a pack holds stays beside it.
    pub pack_after: Duration,
    /// How often a member is asked for its hash; never where it is not to be.
    pub hash_kv_every: Option<Duration>,
    /// From when on what is lacked is taken from a snapshot of etcd: what is less is caught up with by a watch.
    pub snapshot_from: SnapshotFrom,
    /// Where the spool is.
    pub spool: PathBuf,
    /// How much may wait there.
    pub spool_most: ByteSize,
    /// The members.
    pub members: Vec<Endpoints>,
    /// Which of them may be asked.
    pub wanted: Wanted,
    /// How deltas are compressed, and for whom encrypted.
    pub encoding: Encoding,
    /// Who signs them.
    pub authority: Authority,
    /// Who writes them.
    pub writer: Writer,
}

impl Settings {
    fn cluster_of(&self, full: &Outline) -> Cluster {
        Cluster {
            name: self.cluster.clone(),
            id: full.cluster,
        }
    }
}

/// What the destinations of a lane hold.
#[derive(Debug, Clone)]
pub enum Sight {
    /// The newest good full backup, and how far its chain has come.
    Full(Box<Outline>, Known),
    /// There is none to begin with, and why: one is to be taken.
    None(String),
    /// Which one counts is for the operator to say.
    Undecided(String),
    /// The same, between these histories in the order in which they were opened, and of which clusters they are.
    Unaccepted(String, Vec<(LineageId, ClusterId)>),
}

/// Which full backup a lane wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The first one: none where another has come meanwhile, as two would be two histories.
    First,
    /// One more.
    Another,
}

/// The chains of the same history beside a full backup.
#[derive(Debug, Clone, Default)]
pub struct WrittenBeside {
    /// The full backup whose chain has come furthest and has not ended, and how far: what is gone on with where the full backup cannot
    /// be followed any more, and first of all where nothing has come up to it.
    pub goes_on: Option<(Outline, Known)>,
    /// The one that came furthest, whether it has ended or not, and how far.
    pub furthest: Option<(Outline, Known)>,
}

/// What a lane leaves to others. Everything here blocks.
pub trait Surroundings: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Now;

    /// What the destinations hold.
    fn look(&self) -> Result<Sight, String>;

    /// What there is of the same history beside `full`. How far it has come is proven.
    fn written_last_beside(&self, full: &Outline) -> Result<WrittenBeside, String>;

    /// How far the chain of a backup is proven to have come, in the first of them that can be looked at.
    fn look_at(&self, full: &Outline) -> Result<Known, String>;

    /// What is proven of the chain of a backup in all of them together; none where no destination has the backup any more.
    fn prove(&self, full: &Outline) -> Result<Option<Proven>, String>;

    /// One of them, opened to be written to.
    fn open(&self, destination: &str) -> Result<Store, String>;

    /// Since when one of them is fed, where that is known: what was taken before is not owed to it.
    fn fed_since(&self, destination: &str) -> Option<Timestamp>;

    /// How to get in to etcd.
    fn access(&self) -> Result<etcd::Access, String>;

    /// How long this host waits before it takes the first full backup of destinations that others write to as well: one that
    /// goes before it may take it, and two would be two histories.
    fn turn_after(&self) -> Duration;

    /// Takes a full backup to the lane's destinations, and says what keeps it from that: another host that is at it, too, where
    /// others write there.
    fn take_full(&self, why: &str, need: Need) -> Result<(), String>;

    /// The id of the restore that is open on this host and has begun to change what etcd uses.
    fn restoring(&self) -> Option<String>;

    /// Tells people.
    fn say(&self, level: Level, what: &str);

    /// Tells people what does not change while the agent runs: once.
    fn say_once(&self, level: Level, what: &str);
}

/// An error in one line.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    with_causes(error)
}
