//! The log of bucket `key`, read once in order: HashKV, the live keys and the leases they hang on.
//!
//! HashKV at revision R of a store compacted at C is the CRC-32C of the word `key` and then of key and value of every
//! entry up to R, without
//! - entries up to C that are not the last of a key that lives at R, if any key does,
//! - tombstones of C itself.
//!
//! Whether an entry up to C counts is known only at R. So entries up to C are summed one by one, later ones in one
//! run, and the sum of what counts is joined at the end; nothing is read twice.
//!
//! When no key lives at R, a server hashes whatever its compaction has not yet removed. [`KvHash`] then holds both what
//! the entries at hand give and what a finished compaction would have left.
//!
//! Invariant: memory is that of [`super::live`], and none at all when live keys are not asked for and no entry is as
//! old as C.
//!
//! Source of the algorithm: etcd 3.5 `server/storage/mvcc/hash.go` and `kvstore.go`; 3.4 gives the same numbers.

use super::crc::Run;
use super::lease::LeaseId;
use super::live::Live;
use super::record::KeyValue;
use super::revision::{EntryKind, RevisionKey};
use super::{Cause, Error};
use crate::model::{HashKv, Revision};

/// Whether live keys are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveKeys {
    /// They and their leases are counted: 32 to 64 bytes of memory for each.
    Counted,
    /// They are not, unless HashKV needs them.
    Ignored,
}

/// A log that is being read.
#[must_use]
#[derive(Debug)]
pub struct Replay {
    until: i64,
    live_keys: LiveKeys,
    live: Option<Live>,
    last: Option<RevisionKey>,
    entries: u64,
    targets: Vec<Target>,
    /// All entries as old as the youngest compaction asked for, in one run; then the later ones up to `until`.
    old: Run,
    young: Run,
    /// Entries after `until`.
    beyond: Run,
}

/// One compacted revision that HashKV is wanted for.
#[derive(Debug)]
struct Target {
    compacted: i64,
    /// The entries up to `compacted` as they stand, without the tombstones of `compacted` itself; from the first
    /// entry of `compacted` or later on.
    as_stored: Option<Run>,
    /// Set by the first entry after `compacted`.
    passed: Option<Passed>,
}

#[derive(Debug)]
struct Passed {
    /// That entry's place in the log.
    place: u32,
    /// What a finished compaction leaves.
    compacted: Run,
    /// What follows, as far as it is in `Replay::old`.
    after: Run,
}

impl Replay {
    /// Begins a log. HashKV is computed at `until`, or at its end, for each compacted revision of `compacted` (-1 for
    /// none). Without any, and with live keys ignored, only order and form are checked.
    pub fn new(live_keys: LiveKeys, until: Option<Revision>, compacted: &[i64]) -> Self {
        let mut compacted = compacted.to_vec();
        compacted.sort_unstable();
        compacted.dedup();
        let target = |compacted| Target {
            compacted,
            as_stored: None,
            passed: None,
        };
        Replay {
            until: until.map_or(i64::MAX, Revision::get),
            live_keys,
            live: None,
            last: None,
            entries: 0,
            targets: compacted.into_iter().map(target).collect(),
            old: Run::default(),
            young: Run::default(),
            beyond: Run::default(),
        }
    }

    /// Takes in the next entry.
    ///
    /// Fails when the entry is malformed or not after the one before it; the log is then read as if it were not there.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let malformed = |source| Error::malformed("key", key, source);
        let at = RevisionKey::decode(key).map_err(|error| malformed(Cause::from(error)))?;
        if self.last.is_some_and(|last| at <= last) {
            return Err(malformed("it is not after the entry before it".into()));
        }
        let record = KeyValue::decode(value).map_err(|error| malformed(error.into()))?;
        let place = u32::try_from(self.entries).map_err(|_| Error::TooManyEntries { limit: u32::MAX })?;
        let main = at.main().get();
        if self.last.is_none() && (self.live_keys == LiveKeys::Counted || main <= self.oldest_young()) {
            self.live = Some(Live::default());
        }
        self.last = Some(at);
        self.entries += 1;
        if main > self.until {
            self.beyond.push(key);
            self.beyond.push(value);
            return Ok(());
        }
        let mut sum = Run::default();
        if main <= self.oldest_young() {
            sum.push(key);
            sum.push(value);
        }
        self.sum(main, at.kind(), place, sum);
        if main > self.oldest_young() {
            self.young.push(key);
            self.young.push(value);
        }
        match (&mut self.live, at.kind()) {
            (Some(live), EntryKind::Put) => live.put(record.key, record.lease(), place, sum),
            (Some(live), EntryKind::Tombstone) => live.delete(record.key),
            (None, _) => {}
        }
        Ok(())
    }

    /// The last entry so far.
    pub fn last(&self) -> Option<RevisionKey> {
        self.last
    }

    /// How many entries there were so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Ends the log.
    pub fn finish(mut self) -> Replayed {
        let end = u32::try_from(self.entries).unwrap_or(u32::MAX);
        let live = self.live.unwrap_or_default();
        let bounds: Vec<_> = self.targets.iter().map(|target| target.bound(end)).collect();
        let kept = live.joined_below(&bounds);
        let old = self.old;
        let hash = |target: Target, kept: Run| {
            let as_stored = target.as_stored.unwrap_or(old);
            // A compaction that is still to pass leaves what lives at the end.
            let (compacted, after) = target
                .passed
                .map_or((kept, Run::default()), |passed| (passed.compacted, passed.after));
            let hash = |first: Run| {
                let mut run = Run::of(b"key");
                run.join(first);
                run.join(after);
                run.join(self.young);
                run.crc
            };
            let (stored, settled) = if live.count() > 0 {
                (kept, kept)
            } else {
                (as_stored, compacted)
            };
            KvHash {
                compact_revision: target.compacted,
                hash: hash(stored),
                settled: hash(settled),
                stable: live.count() > 0 || as_stored == Run::default(),
            }
        };
        Replayed {
            last: self.last,
            entries: self.entries,
            live_keys: (self.live_keys == LiveKeys::Counted).then(|| live.count()),
            leases: live.leases(),
            hashes: self
                .targets
                .drain(..)
                .zip(kept)
                .map(|(target, kept)| hash(target, kept))
                .collect(),
        }
    }

    /// All bytes of the entries so far, in one run.
    pub(super) fn content(&self) -> Run {
        let mut content = self.old;
        content.join(self.young);
        content.join(self.beyond);
        content
    }

    /// The youngest of the compacted revisions: what is younger is in no doubt.
    #[inline]
    fn oldest_young(&self) -> i64 {
        self.targets.last().map_or(-1, |target| target.compacted)
    }

    /// Adds an entry that may be in doubt to the sums; `sum` is empty if it is younger than every target.
    #[inline]
    fn sum(&mut self, main: i64, kind: EntryKind, place: u32, sum: Run) {
        for target in &mut self.targets {
            if main < target.compacted {
                continue;
            }
            let as_stored = target.as_stored.get_or_insert(self.old);
            if main == target.compacted {
                if kind == EntryKind::Put {
                    as_stored.join(sum);
                }
                continue;
            }
            let passed = target.passed.get_or_insert_with(|| {
                let kept = self.live.as_ref().map(|live| live.joined_below(&[place]));
                let compacted = kept.and_then(|runs| runs.last().copied()).unwrap_or_default();
                Passed {
                    place,
                    compacted,
                    after: Run::default(),
                }
            });
            passed.after.join(sum);
        }
        self.old.join(sum);
    }
}

impl Target {
    /// The place of the first entry that is not in doubt.
    fn bound(&self, end: u32) -> u32 {
        self.passed.as_ref().map_or(end, |passed| passed.place)
    }
}

/// What a log came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The last entry, also one after the revision that was asked for.
    pub last: Option<RevisionKey>,
    /// All entries.
    pub entries: u64,
    /// How many keys live; `None` if they were ignored.
    pub live_keys: Option<u64>,
    /// The leases that live keys hang on, by id, each with its number of keys; none if live keys were ignored.
    pub leases: Vec<(LeaseId, u64)>,
    /// HashKV for each compacted revision that was asked for, ascending.
    pub hashes: Vec<KvHash>,
}

/// HashKV as computed from the entries of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvHash {
    /// The compacted revision it is for; -1 for none.
    pub compact_revision: i64,
    /// What a server with exactly these entries reports.
    pub hash: u32,
    /// What a server that has finished compacting reports; different only when no key lives.
    pub settled: u32,
    stable: bool,
}

/// How a computed HashKV stands to a recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// Equal: the content is that of the member asked.
    Equal,
    /// Different: the content is not.
    Different,
    /// Different, but no key lives, and how far that member's compaction had come decides the number.
    Unknown,
}

impl KvHash {
    /// That of a log that streamed past; `stable` where no compaction that is still to pass changes it.
    pub(super) fn of_passed(compact_revision: i64, hash: u32, stable: bool) -> Self {
        KvHash {
            compact_revision,
            hash,
            settled: hash,
            stable,
        }
    }

    /// Compares with the `hash` that a member reported for the same revision and compacted revision.
    pub fn compared_with(&self, hash: u32) -> Agreement {
        if hash == self.hash || hash == self.settled {
            Agreement::Equal
        } else if self.stable {
            Agreement::Different
        } else {
            Agreement::Unknown
        }
    }

    /// As a member reports it.
    pub fn at(&self, revision: Revision) -> HashKv {
        HashKv {
            revision,
            compact_revision: self.compact_revision,
            hash: self.hash,
        }
    }
}

#[cfg(test)]
mod tests;
