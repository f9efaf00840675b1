//! Bucket `meta`: how far the file has applied raft's log, how far its history is compacted, what wrote it.
//!
//! ```text
//! consistent_index     u64 big-endian   raft index of the last entry in this file
//! term                 u64 big-endian   raft term of that entry (3.5 and later)
//! confState            JSON             raft's voters (3.5 and later, after the first change of members)
//! storageVersion       3.6.0            (3.6 and later)
//! scheduledCompactRev  revision key     history up to here is given up
//! finishedCompactRev   revision key     history up to here is gone from the file
//! ```
//!
//! Source of the format: etcd `server/storage/schema/{meta,cindex,confstate,migration}.go` of 3.6.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::release_line::Version;
use super::revision::RevisionKey;
use super::{Cause, Error};
use crate::bbolt;
use crate::model::{MemberId, Revision};

pub(super) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub(super) const TERM: &[u8] = b"term";
pub(super) const CONF_STATE: &[u8] = b"confState";
pub(super) const STORAGE_VERSION: &[u8] = b"storageVersion";
pub(super) const SCHEDULED_COMPACT_REV: &[u8] = b"scheduledCompactRev";
pub(super) const FINISHED_COMPACT_REV: &[u8] = b"finishedCompactRev";

/// The keys that the bucket can begin with, by which its page is told from others.
pub const META_KEYS: &[&[u8]] = &[CONF_STATE, CONSISTENT_INDEX];

/// How far a store's history is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactionMarks {
    /// The newest compaction that was asked for; a server that finds it unfinished resumes it.
    pub scheduled: Option<Revision>,
    /// The newest compaction whose entries are gone from the file.
    pub finished: Option<Revision>,
}

impl CompactionMarks {
    /// The marks of a database, whatever else is wrong with its bucket: one that cannot be read is `None`.
    pub fn read(file: &bbolt::File<'_>) -> Self {
        let bucket = file.bucket(b"meta").ok().flatten();
        let mark = |key| {
            let value = bucket?.get(key).ok()??;
            RevisionKey::decode(value).ok().map(RevisionKey::main)
        };
        CompactionMarks {
            scheduled: mark(SCHEDULED_COMPACT_REV),
            finished: mark(FINISHED_COMPACT_REV),
        }
    }

    /// The store's compacted revision, as HashKV reports it: -1 for a store that was never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.scheduled.max(self.finished).map_or(-1, Revision::get)
    }

    /// Up to where the file holds one entry of each key at most: -1 for one that was never compacted to an end.
    pub fn finished_revision(&self) -> i64 {
        self.finished.map_or(-1, Revision::get)
    }
}

/// Whom raft counts, as the last change of members left it. An official restore leaves that of the old cluster here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ConfState {
    #[serde(default)]
    voters: BTreeSet<u64>,
    #[serde(default)]
    learners: BTreeSet<u64>,
    #[serde(default)]
    voters_outgoing: BTreeSet<u64>,
    #[serde(default)]
    learners_next: BTreeSet<u64>,
}

impl ConfState {
    /// All members, with a vote or without.
    pub fn members(&self) -> BTreeSet<MemberId> {
        let all = [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next];
        all.into_iter().flatten().map(|id| MemberId(*id)).collect()
    }
}

/// What bucket `meta` says; a key that is absent is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Raft index of the last entry that was applied to this file.
    pub consistent_index: Option<u64>,
    /// Raft term of that entry.
    pub term: Option<u64>,
    /// The version of the schema.
    pub storage_version: Option<Version>,
    /// How far history is compacted.
    pub compaction: CompactionMarks,
    /// Whom raft counts; also `None` where that does not read.
    pub conf_state: Option<ConfState>,
}

impl Meta {
    /// Reads the bucket of a database; a database without it has no entries.
    ///
    /// Fails at the first entry that is malformed or cannot be read.
    pub fn read(file: &bbolt::File<'_>) -> Result<Self, Error> {
        Meta::of_entries(&super::entries_of(file, "meta")?)
    }

    /// Reads the bucket's entries, wherever they are from.
    ///
    /// Fails at the first entry that is malformed.
    pub fn of_entries(entries: &[bbolt::Entry<'_>]) -> Result<Self, Error> {
        let mut meta = Meta::default();
        for (key, value) in entries {
            meta.note(key, value)?;
        }
        Ok(meta)
    }

    /// The revision of a store whose log ends with `last`: of that entry, or of a compaction that removed it.
    pub fn revision(&self, last: Option<Revision>) -> Revision {
        [last, self.compaction.scheduled, self.compaction.finished]
            .into_iter()
            .flatten()
            .fold(super::first_revision(), Revision::max)
    }

    /// Takes in one entry; keys that it does not know are passed over.
    pub(super) fn note(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let malformed = |source| Error::malformed("meta", key, source);
        let number = || -> Result<u64, Error> {
            let bytes = value
                .try_into()
                .map_err(|_| malformed("it is not 8 bytes long".into()))?;
            Ok(u64::from_be_bytes(bytes))
        };
        let revision = || -> Result<Revision, Error> {
            RevisionKey::decode(value)
                .map(RevisionKey::main)
                .map_err(|error| malformed(Cause::from(error)))
        };
        match key {
            CONSISTENT_INDEX => self.consistent_index = Some(number()?),
            TERM => self.term = Some(number()?),
            STORAGE_VERSION => {
                self.storage_version = Some(Version::decode(value).map_err(|error| malformed(error.into()))?);
            }
            CONF_STATE => self.conf_state = serde_json::from_slice(value).ok(),
            SCHEDULED_COMPACT_REV => self.compaction.scheduled = Some(revision()?),
            FINISHED_COMPACT_REV => self.compaction.finished = Some(revision()?),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_of_a_restored_store_reads() {
        let mut meta = Meta::default();
        let mark = RevisionKey::first_put(Revision::new(150).unwrap()).encode();
        meta.note(CONSISTENT_INDEX, &3u64.to_be_bytes()).unwrap();
        meta.note(TERM, &1u64.to_be_bytes()).unwrap();
        meta.note(CONF_STATE, b"not looked at").unwrap();
        meta.note(STORAGE_VERSION, b"3.6.0").unwrap();
        assert_eq!(meta.conf_state, None);
        let conf_state = br#"{"voters":[11421717585761795258],"learners":[7],"auto_leave":false}"#;
        meta.note(CONF_STATE, conf_state).unwrap();
        let members = meta.conf_state.as_ref().map(ConfState::members);
        assert_eq!(
            members,
            Some([MemberId(7), MemberId(11_421_717_585_761_795_258)].into())
        );
        assert_eq!(meta.compaction.compact_revision(), -1);
        meta.note(FINISHED_COMPACT_REV, &mark).unwrap();
        assert_eq!(meta.compaction.compact_revision(), 150);
        assert_eq!((meta.consistent_index, meta.term), (Some(3), Some(1)));
        assert_eq!(meta.storage_version.unwrap().to_string(), "3.6.0");
    }

    #[test]
    fn malformed_entries_are_named() {
        for key in [
            CONSISTENT_INDEX,
            TERM,
            STORAGE_VERSION,
            SCHEDULED_COMPACT_REV,
            FINISHED_COMPACT_REV,
        ] {
            let error = Meta::default().note(key, b"short").unwrap_err().to_string();
            assert!(error.contains(std::str::from_utf8(key).unwrap()), "{error}");
        }
    }
}
