//! A whole database, read once: whether it is sound, what it says about itself, what its log comes to.
//!
//! Everything that proves a database reads it this way: a verification, a rebuild, an inspection.

use super::{KvHash, LiveKeys, Meta, Replay, Replayed, Summary, Survey};
use crate::bbolt::{self, Report, Rules, check};
use crate::model::{HashKv, Revision};

/// What a walk over all pages and entries of a database came to.
#[derive(Debug)]
#[must_use]
pub struct Inspection {
    /// Whether the file is whole, and which of its pages are in use.
    pub report: Report,
    /// What the database says about itself.
    pub summary: Summary,
    /// What its log comes to.
    pub replayed: Replayed,
    /// How far its history is compacted: -1 for a store that was never compacted, or where that cannot be read.
    pub compact_revision: i64,
}

impl Inspection {
    /// Reads all of `file`. HashKV is computed for its own compacted revision and for `recorded`, the one that a member
    /// named. `see` is shown every entry as well: bucket, key and value.
    ///
    /// Fails when the names of the buckets cannot be read. All other faults are in what comes out.
    pub fn of<'a>(
        file: &bbolt::File<'a>,
        live_keys: LiveKeys,
        recorded: Option<i64>,
        mut see: impl FnMut(&'a [u8], &'a [u8], &'a [u8]),
    ) -> Result<Inspection, bbolt::Error> {
        // An entry that is malformed is named by the survey.
        let marks = Meta::read(file).map(|meta| meta.compaction).unwrap_or_default();
        let compact_revision = marks.compact_revision();
        let wanted: Vec<i64> = std::iter::once(compact_revision).chain(recorded).collect();
        let mut replay = Replay::new(live_keys, None, &wanted);
        let mut survey = Survey::new(file, &mut replay)?;
        let report = check(file, Rules::Bbolt, |bucket, key, value| {
            survey.entry(bucket, key, value);
            see(bucket, key, value);
        });
        let summary = survey.finish();
        Ok(Inspection {
            report,
            summary,
            replayed: replay.finish(),
            compact_revision,
        })
    }

    /// How many faults there are.
    pub fn fault_count(&self) -> u64 {
        self.report.fault_count() + self.summary.fault_count
    }

    /// The first of them, those of the file before those of what it holds.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        let structure = self.report.faults().iter().map(ToString::to_string);
        structure.chain(self.summary.faults.iter().map(ToString::to_string))
    }

    /// HashKV for that compacted revision, which was the file's own or asked for.
    pub fn hash_for(&self, compact_revision: i64) -> &KvHash {
        let mut hashes = self.replayed.hashes.iter();
        let found = hashes.find(|hash| hash.compact_revision == compact_revision);
        found.expect("it was asked for")
    }

    /// HashKV as a member with this database reports it for an earlier revision: `None` where that is compacted or still to
    /// come. Reads the log of `file`, the same as before, once more.
    pub fn hash_kv_at(&self, file: &bbolt::File<'_>, revision: Revision) -> Result<Option<HashKv>, bbolt::Error> {
        if revision.get() < self.compact_revision || revision > self.summary.revision() {
            return Ok(None);
        }
        let mut replay = Replay::new(LiveKeys::Ignored, Some(revision), &[self.compact_revision]);
        if let Some(log) = file.bucket(b"key")? {
            for entry in log.iter() {
                let (key, value) = entry?;
                // One that is malformed is named in the summary, and passed over as there.
                replay.entry(key, value).ok();
            }
        }
        let hash = replay.finish().hashes.first().map(|hash| hash.at(revision));
        Ok(hash)
    }

    /// HashKV as a member with this database reports it.
    pub fn hash_kv(&self) -> HashKv {
        self.hash_for(self.compact_revision).at(self.summary.revision())
    }
}
