//! The raft messages that logs and snapshots are made of.
//!
//! etcd's raft messages are proto2 with every scalar written out, zero or not; that form is read by all lines. So the
//! encoders write each field that is named here. 3.7 leaves out what is zero, so the decoders need none of them.
//!
//! Source of the format: etcd `raft/raftpb/raft.proto` and `server/storage/wal/walpb/record.proto` of 3.5.

use super::Membership;
use crate::keyspace::wire::{Fields, WireError, put_bytes, put_int64, put_uint64};

/// The raft term of everything in a restored log.
pub(super) const TERM: u64 = 1;

/// The index of the last entry of a restored log: one entry per member.
pub(super) fn last_index(membership: &Membership) -> u64 {
    membership.members().len() as u64
}

/// `ConfState`: every member votes.
pub(super) fn conf_state(membership: &Membership) -> Vec<u8> {
    let mut state = Vec::new();
    for member in membership.members() {
        put_uint64(&mut state, 1, member.id.0);
    }
    // auto_leave
    put_uint64(&mut state, 5, 0);
    state
}

/// `Entry` with a `ConfChange` that adds `member` at `index`.
pub(super) fn add_member(member: &crate::keyspace::Member, index: u64) -> Vec<u8> {
    const ENTRY_CONF_CHANGE: u64 = 1;
    const ADD_NODE: u64 = 0;
    let mut change = Vec::new();
    put_uint64(&mut change, 1, 0);
    put_uint64(&mut change, 2, ADD_NODE);
    put_uint64(&mut change, 3, member.id.0);
    put_bytes(&mut change, 4, member.to_json().as_bytes());
    let mut entry = Vec::new();
    put_uint64(&mut entry, 1, ENTRY_CONF_CHANGE);
    put_uint64(&mut entry, 2, TERM);
    put_uint64(&mut entry, 3, index);
    put_bytes(&mut entry, 4, &change);
    entry
}

/// `HardState`: everything is committed, the vote is the first member's on every host.
pub(super) fn hard_state(membership: &Membership) -> Vec<u8> {
    let vote = membership.members().first().map_or(0, |member| member.id.0);
    let mut state = Vec::new();
    put_uint64(&mut state, 1, TERM);
    put_uint64(&mut state, 2, vote);
    put_uint64(&mut state, 3, last_index(membership));
    state
}

/// `Record` of a log: type, rolling checksum, and data unless it has none.
pub(super) fn record(record_type: i64, crc: u32, data: Option<&[u8]>) -> Vec<u8> {
    let mut record = Vec::new();
    put_int64(&mut record, 1, record_type);
    put_uint64(&mut record, 2, u64::from(crc));
    if let Some(data) = data {
        put_bytes(&mut record, 3, data);
    }
    record
}

/// What an entry of the log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A request of a client or of the cluster itself; without data, the first entry of a new leader.
    Normal,
    /// A change of members.
    ConfChange,
    /// A kind that etcd does not write, by its number.
    Other(u64),
}

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that wrote it.
    pub term: u64,
    /// Its place in the log, from 1.
    pub index: u64,
    /// What it is about.
    pub kind: EntryKind,
    /// The request, or the change of members.
    pub data: Vec<u8>,
}

impl Entry {
    /// Reads a `raftpb.Entry`; unknown fields are passed over.
    pub(super) fn decode(message: &[u8]) -> Result<Entry, WireError> {
        let (mut kind, mut term, mut index, mut data) = (0, 0, 0, &[][..]);
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => kind = field.uint64()?,
                2 => term = field.uint64()?,
                3 => index = field.uint64()?,
                4 => data = field.bytes()?,
                _ => {}
            }
        }
        let kind = match kind {
            0 => EntryKind::Normal,
            1 => EntryKind::ConfChange,
            other => EntryKind::Other(other),
        };
        Ok(Entry {
            term,
            index,
            kind,
            data: data.to_vec(),
        })
    }
}

/// What raft remembers beside its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The newest term it has seen.
    pub term: u64,
    /// For whom it voted in it; 0 for nobody.
    pub vote: u64,
    /// The index up to which entries were known to be committed.
    pub commit: u64,
}

impl HardState {
    /// Reads a `raftpb.HardState`; unknown fields are passed over.
    pub(super) fn decode(message: &[u8]) -> Result<HardState, WireError> {
        let mut state = HardState::default();
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => state.term = field.uint64()?,
                2 => state.vote = field.uint64()?,
                3 => state.commit = field.uint64()?,
                _ => {}
            }
        }
        Ok(state)
    }
}

/// Up to where a `.snap` file covers the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotMark {
    /// The index of the last entry that it covers.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
}

impl SnapshotMark {
    /// Reads a `walpb.Snapshot`; who the members were then is not looked at.
    pub(super) fn decode(message: &[u8]) -> Result<SnapshotMark, WireError> {
        let mut mark = SnapshotMark { index: 0, term: 0 };
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => mark.index = field.uint64()?,
                2 => mark.term = field.uint64()?,
                _ => {}
            }
        }
        Ok(mark)
    }
}

/// A change of the members who vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoterChange {
    /// The member votes from now on.
    Added(u64),
    /// It does not vote, or is gone.
    Removed(u64),
    /// Who votes stays as it is.
    None,
}

impl VoterChange {
    /// Reads a `raftpb.ConfChange`; `None` for a kind that etcd does not write.
    pub fn decode(message: &[u8]) -> Result<Option<VoterChange>, WireError> {
        let (mut kind, mut member) = (0, 0);
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                2 => kind = field.uint64()?,
                3 => member = field.uint64()?,
                _ => {}
            }
        }
        Ok(match kind {
            0 => Some(VoterChange::Added(member)),
            // Removed, or added as a learner.
            1 | 3 => Some(VoterChange::Removed(member)),
            2 => Some(VoterChange::None),
            _ => None,
        })
    }
}
