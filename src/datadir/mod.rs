//! The files around the database in etcd's data directory, and the identities that hold them together.
//!
//! Everything here is bytes and names; making directories, modes and syncing are left to `rebuild`. What a restore lays out
//! is written here, and what a member leaves behind is read: its log ([`wal_reader`]) and its `.snap` files.
//!
//! ```text
//! <data-dir>/member/snap/db                                    the database, see `keyspace::restored`
//! <data-dir>/member/snap/0000000000000001-<index>.snap         members as raft's snapshot, see `snap`
//! <data-dir>/member/wal/0000000000000000-0000000000000000.wal  raft's log, one entry per member, see `wal`
//! ```
//!
//! One layout serves every line of etcd from 3.4 to 3.7. Only the first record of the log differs between members;
//! database and `.snap` must be the same bytes on every host.

mod log_beyond_database;
mod membership;
mod peer_url;
mod raft;
pub mod snap;
pub mod wal;
pub mod wal_reader;

pub use log_beyond_database::{Tail, Unusable};
pub use membership::{Error, InitialCluster, Membership};
pub use peer_url::PeerUrl;
pub use raft::{Entry, EntryKind, HardState, SnapshotMark, VoterChange};

/// The directory of database and snapshots, below the data directory.
pub const SNAP_DIR: &str = "member/snap";
/// The directory of the log, below the data directory, unless it has a place of its own.
pub const WAL_DIR: &str = "member/wal";
/// The name of the database in [`SNAP_DIR`].
pub const DB: &str = "db";
