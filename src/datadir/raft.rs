//! The raft messages that a restored log and snapshot are made of.
//!
//! etcd's raft messages are proto2 with every scalar written out, zero or not; that form is read by all lines. So the
//! encoders write each field that is named here.
//!
//! Source of the format: etcd `raft/raftpb/raft.proto` of 3.5.

use super::Membership;
use crate::keyspace::wire::{put_bytes, put_int64, put_uint64};

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
