//! What a member's log holds beyond its database: the entries that etcd would execute when it starts on both.
//!
//! Raft knows an entry to be committed up to the commit index of its hard state, and up to what the database has applied
//! already. That index is written late, so the last entries that clients were told of may come after it. Where the member is
//! the only one who votes, every entry of its log is committed. Otherwise what comes after the index is left out, as etcd's
//! `--force-new-cluster` does.

use std::collections::BTreeSet;

use super::raft::{EntryKind, VoterChange};
use super::wal_reader::{Damage, End, Log};
use crate::keyspace::Summary;
use crate::keyspace::WireError;
use crate::keyspace::entries::LogEntry;
use crate::model::MemberId;

/// The entries of a log that a database does not hold.
#[derive(Debug, Clone)]
pub struct Tail<'l> {
    /// The last entry that the database holds.
    pub consistent_index: u64,
    /// The last entry that is committed for sure.
    pub committed_index: u64,
    /// How many committed entries the database does not hold, of all kinds.
    pub entries: u64,
    /// How many entries come after those; other members may have committed them.
    pub uncommitted: u64,
    /// Those of the committed ones that ask for something.
    pub requests: Vec<LogEntry<'l>>,
}

/// Why a log does not go on from a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is damaged where it is wanted.
    #[error(transparent)]
    Damaged(Damage),
    /// It is another member's.
    #[error("the log is that of member {0}, of whom the database knows nothing")]
    Foreign(MemberId),
    /// It has no identity.
    #[error("the log does not tell whose it is")]
    Nameless,
    /// It begins later, or has a hole that a snapshot of another member fills.
    #[error("the database ends with entry {last}, and the log goes on with entry {next}")]
    Hole {
        /// The last entry that the database holds.
        last: u64,
        /// The first one in the log after that.
        next: u64,
    },
    /// An entry that etcd would stop at.
    #[error("entry {index} of the log is of a kind that etcd does not write")]
    Kind {
        /// The entry.
        index: u64,
    },
    /// A change of members that does not decode.
    #[error("entry {index} of the log, a change of members, cannot be read: {cause}")]
    ConfChange {
        /// The entry.
        index: u64,
        /// What is wrong.
        cause: WireError,
    },
}

impl<'l> Tail<'l> {
    /// What `log`, read after the consistent index of a database, holds beyond that, of which `summary` is.
    pub fn of(log: &'l Log, summary: &Summary) -> Result<Tail<'l>, Unusable> {
        let consistent_index = summary.meta.consistent_index.unwrap_or(0);
        if log.end == End::Damaged
            && let Some(damage) = log.damages.last()
        {
            return Err(Unusable::Damaged(damage.clone()));
        }
        let (_, own) = log.identity.ok_or(Unusable::Nameless)?;
        if let Some(missing) = log.missing_up_to {
            return Err(Unusable::Hole {
                last: consistent_index,
                next: missing.saturating_add(1),
            });
        }
        let known_to_be_committed = log.hard_state.commit.max(consistent_index);
        let mut voters: BTreeSet<u64> = BTreeSet::new();
        let members = summary.members.iter();
        voters.extend(members.filter(|member| !member.is_learner).map(|member| member.id.0));
        let mut known: BTreeSet<u64> = summary.members.iter().map(|member| member.id.0).collect();
        let mut is_in_doubt = false;
        for entry in &log.entries {
            let index = entry.index;
            match entry.kind {
                EntryKind::Normal => {}
                EntryKind::ConfChange if index > known_to_be_committed => is_in_doubt = true,
                EntryKind::ConfChange => {
                    let change = VoterChange::decode(&entry.data);
                    match change.map_err(|cause| Unusable::ConfChange { index, cause })? {
                        Some(VoterChange::Added(id)) => {
                            voters.insert(id);
                            known.insert(id);
                        }
                        Some(VoterChange::Removed(id)) => drop(voters.remove(&id)),
                        Some(VoterChange::None) => {}
                        None => return Err(Unusable::Kind { index }),
                    }
                }
                EntryKind::Other(_) => return Err(Unusable::Kind { index }),
            }
        }
        if !known.is_empty() && !known.contains(&own.0) {
            return Err(Unusable::Foreign(own));
        }
        let is_alone = !is_in_doubt && voters.len() == 1 && voters.contains(&own.0);
        let last = log.entries.last().map_or(consistent_index, |entry| entry.index);
        let committed_index = match is_alone {
            true => last.max(consistent_index),
            false => known_to_be_committed.min(last).max(consistent_index),
        };
        let committed = log.entries.iter().filter(|entry| entry.index <= committed_index);
        let requests = committed.filter(|entry| entry.kind == EntryKind::Normal && !entry.data.is_empty());
        Ok(Tail {
            consistent_index,
            committed_index,
            entries: committed_index - consistent_index,
            uncommitted: last.saturating_sub(committed_index),
            requests: requests
                .map(|entry| LogEntry {
                    index: entry.index,
                    data: &entry.data,
                })
                .collect(),
        })
    }
}
