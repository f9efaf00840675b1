//! The log of bucket `key`, read once in order: HashKV, the live keys and the leases they hang on.
//!
//! HashKV at revision R of a store compacted at C is the CRC-32C of the word `key` and then of key and value of every
//! entry up to R, without
//! - entries up to C that are not the last of a key that lives at R, if any key does,
//! - tombstones of C itself.
//!
//! Whether an entry up to C counts is known only at R. So where there are such entries, what changes after the last
//! finished compaction is read first, as [`Changed`]; in most stores that is the log of a few minutes.
//!
//! When no key lives at R, a server hashes whatever its compaction has not yet removed. [`KvHash`] then holds both what
//! the entries at hand give and what a finished compaction would have left.
//!
//! Invariant: memory is that of [`Changed`], and none at all when live keys are not asked for and no entry is as old as C.
//!
//! Source of the algorithm: etcd 3.5 `server/storage/mvcc/hash.go` and `kvstore.go`; 3.4 gives the same numbers.

use std::sync::mpsc::SyncSender;

use super::changed::{BrokenLives, Changed};
use super::crc::{Batch, Run, Selections, Summing};
use super::lease::LeaseId;
use super::meta::CompactionMarks;
use super::record::KeyValue;
use super::revision::{EntryKind, RevisionKey};
use super::{Cause, Error};
use crate::model::{HashKv, Revision};

/// Whether live keys are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveKeys {
    /// They and their leases are counted.
    Counted,
    /// They are not, unless HashKV needs them.
    Ignored,
}

/// A log that is being read.
#[must_use]
#[derive(Debug)]
pub struct Replay<'a> {
    until: i64,
    live_keys: LiveKeys,
    /// Up to here there is one entry of each key at most.
    finished: i64,
    changed: Option<Changed>,
    /// Whether `changed` was read before, all of it.
    is_ahead: bool,
    /// How many entries there were after `finished`.
    places: u32,
    last: Option<RevisionKey>,
    entries: u64,
    /// The compacted revisions that HashKV is wanted for, ascending. Each has two selections: the entries that count if a
    /// key lives, and if none does.
    targets: Vec<i64>,
    has_mark: bool,
    sums: Summing<'a>,
    /// The targets that there are entries before, which a finished compaction may have removed.
    have_older: u64,
}

/// How many compacted revisions HashKV is computed for at once.
const MOST_TARGETS: usize = 32;

impl<'a> Replay<'a> {
    /// Whether the hashes that are wanted of a log take it to be read ahead.
    pub fn looks_ahead(compacted: &[i64]) -> bool {
        compacted.iter().any(|compacted| *compacted >= 0)
    }

    /// Begins a log of a store with these `marks`. HashKV is computed at `until`, or at its end, for each compacted revision
    /// of `compacted` (-1 for none), at most 32. Without any, and with live keys ignored, only order and form are checked.
    ///
    /// Where that is to be [looked ahead](Replay::looks_ahead) for, `changed` is what that gave.
    pub fn new(
        marks: CompactionMarks,
        live_keys: LiveKeys,
        until: Option<Revision>,
        compacted: &[i64],
        changed: Option<Changed>,
    ) -> Self {
        let mut targets = compacted.to_vec();
        targets.sort_unstable();
        targets.dedup();
        targets.truncate(MOST_TARGETS);
        let is_ahead = changed.is_some();
        // Of a compacted store all of the log is read, not just what is after the compaction.
        let all = CompactionMarks {
            scheduled: marks.scheduled.max(marks.finished),
            finished: None,
        };
        let along = || (live_keys == LiveKeys::Counted).then(|| Changed::since(all));
        Replay {
            until: until.map_or(i64::MAX, Revision::get),
            live_keys,
            finished: if is_ahead { marks.finished_revision() } else { -1 },
            changed: changed.or_else(along),
            is_ahead,
            places: 0,
            last: None,
            entries: 0,
            sums: Summing::Here(Selections::new(2 * targets.len())),
            targets,
            has_mark: false,
            have_older: 0,
        }
    }

    /// Takes in the next entry.
    ///
    /// Fails when the entry is malformed or not after the one before it; the log is then read as if it were not there. Fails
    /// also when it is one that etcd does not write: it is counted all the same.
    pub fn entry(&mut self, key: &'a [u8], value: &'a [u8]) -> Result<(), Error> {
        let malformed = |source| Error::malformed("key", key, source);
        let at = RevisionKey::decode(key).map_err(|error| malformed(Cause::from(error)))?;
        if self.last.is_some_and(|last| at <= last) {
            return Err(malformed("it is not after the entry before it".into()));
        }
        let record = KeyValue::decode(value).map_err(|error| malformed(error.into()))?;
        let selections = self.selections(at, &record)?;
        self.last = Some(at);
        self.entries += 1;
        self.sums.push(selections, key, value);
        match strange(at, &record, value) {
            None => Ok(()),
            Some(what) => Err(malformed(what.into())),
        }
    }

    /// The selections that an entry is in.
    #[inline]
    fn selections(&mut self, at: RevisionKey, record: &KeyValue<'_>) -> Result<u64, Error> {
        let main = at.main().get();
        if main > self.until {
            return Ok(0);
        }
        let is_put = at.kind() == EntryKind::Put;
        self.has_mark |= is_put && record.key.is_empty();
        let is_old = main <= self.finished;
        let mut is_last = true;
        match &mut self.changed {
            None => {}
            Some(changed) if !self.is_ahead => drop(changed.entry(at, record)?),
            Some(changed) if is_old => is_last = is_put && changed.older(at, record),
            Some(changed) => {
                let place = self.places;
                self.places = place.saturating_add(1);
                if self.targets.last().is_some_and(|youngest| main <= *youngest) {
                    is_last = is_put && changed.is_last(record, place);
                }
            }
        }
        let mut bits = 0;
        for (index, compacted) in self.targets.iter().enumerate() {
            let counts = main > *compacted || is_last;
            let is_there = main != *compacted || is_put;
            if is_there && main <= *compacted {
                self.have_older |= 1 << index;
            }
            bits |= (u64::from(counts) | u64::from(is_there) << 1) << (2 * index);
        }
        Ok(bits)
    }

    /// Has the bytes of entries summed elsewhere, by what is returned: until [`Replay::summed`] gives it back.
    pub(super) fn sum_elsewhere(&mut self, to: SyncSender<Batch<'a>>) -> Selections {
        let there = Summing::There {
            to,
            batch: Vec::new(),
            bytes: 0,
        };
        match std::mem::replace(&mut self.sums, there) {
            Summing::Here(selections) => selections,
            Summing::There { .. } => Selections::new(2 * self.targets.len()),
        }
    }

    /// Hands over the last entries that are to be summed elsewhere.
    pub(super) fn end_entries(&mut self) {
        self.sums.end();
        // There are no more.
        if let Summing::There { .. } = self.sums {
            self.sums = Summing::Here(Selections::new(0));
        }
    }

    /// Takes back what was summed elsewhere.
    pub(super) fn summed(&mut self, selections: Selections) {
        self.sums = Summing::Here(selections);
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
        let sums = self.sums();
        let live = self.changed.as_ref().map_or(0, Changed::live);
        let leases = self.changed.as_ref().map(Changed::leases).unwrap_or_default();
        // Where keys are not counted no entry is in doubt.
        let lives = live > 0 || self.changed.is_none();
        let hash = |(index, compacted): (usize, &i64)| {
            let hash = hash_of(&sums, 2 * index + usize::from(!lives));
            KvHash {
                compact_revision: *compacted,
                hash,
                settled: hash,
                stable: lives || self.have_older >> index & 1 == 0,
            }
        };
        let hashes = self.targets.iter().enumerate().map(hash).collect();
        Replayed {
            last: self.last,
            entries: self.entries,
            live_keys: (self.live_keys == LiveKeys::Counted).then_some(live),
            has_mark: self.has_mark,
            leases,
            hashes,
            broken: self.changed.map(Changed::broken).unwrap_or_default(),
        }
    }

    /// The sums so far; none of what is summed elsewhere.
    fn sums(&mut self) -> Vec<Run> {
        match &mut self.sums {
            Summing::Here(selections) => {
                selections.end_run();
                selections.sums.clone()
            }
            Summing::There { .. } => Vec::new(),
        }
    }

    /// All bytes of the entries so far, in one run.
    pub(super) fn content(&mut self) -> Run {
        match &mut self.sums {
            Summing::Here(selections) => {
                selections.end_run();
                selections.all
            }
            Summing::There { .. } => Run::default(),
        }
    }
}

/// The hash of one selection.
fn hash_of(sums: &[Run], selection: usize) -> u32 {
    let mut run = Run::of(b"key");
    run.join(sums.get(selection).copied().unwrap_or_default());
    run.crc
}

/// Reads a log in as many passes as it takes. `log` gives its entries, from wherever it likes before the first one after
/// the revision that it is given; `wrong` hears of those that are malformed.
pub(super) fn read<'a, I: Iterator<Item = (&'a [u8], &'a [u8])>>(
    marks: CompactionMarks,
    live_keys: LiveKeys,
    until: Option<Revision>,
    compacted: &[i64],
    log: impl Fn(i64) -> I,
    mut wrong: impl FnMut(Error),
) -> Replayed {
    let changed = look_ahead(marks, until, compacted, &log);
    let mut replay = Replay::new(marks, live_keys, until, compacted, changed);
    for (key, value) in log(-1) {
        if let Err(error) = replay.entry(key, value) {
            wrong(error);
        }
    }
    let mut replayed = replay.finish();
    settle(&mut replayed, marks, until, &log);
    replayed
}

/// What is to be known of a log before it is read.
pub(super) fn look_ahead<'a, I: Iterator<Item = (&'a [u8], &'a [u8])>>(
    marks: CompactionMarks,
    until: Option<Revision>,
    compacted: &[i64],
    log: &impl Fn(i64) -> I,
) -> Option<Changed> {
    let until = until.map_or(i64::MAX, Revision::get);
    let ahead = || Changed::of(marks, until, log(marks.finished_revision()));
    Replay::looks_ahead(compacted).then(ahead)
}

/// Where no key lives, finds what finished compactions would have left; that takes two passes more for each.
pub(super) fn settle<'a, I: Iterator<Item = (&'a [u8], &'a [u8])>>(
    replayed: &mut Replayed,
    marks: CompactionMarks,
    until: Option<Revision>,
    log: &impl Fn(i64) -> I,
) {
    for hash in replayed.hashes.iter_mut().filter(|hash| !hash.stable) {
        let compacted = hash.compact_revision;
        // What lives at the compaction, and all that follows it.
        let last = until.map_or(compacted, |until| until.get().min(compacted));
        let changed = Changed::of(marks, last, log(marks.finished_revision()));
        let mut replay = Replay::new(marks, LiveKeys::Ignored, until, &[compacted], Some(changed));
        for (key, value) in log(-1) {
            replay.entry(key, value).ok();
        }
        hash.settled = hash_of(&replay.sums(), 0);
    }
}

/// What is wrong with an entry whose bytes can be read.
#[inline]
fn strange(at: RevisionKey, record: &KeyValue<'_>, value: &[u8]) -> Option<String> {
    let main = at.main().get();
    match at.kind() {
        // What a raised revision left is the only put without anything.
        EntryKind::Put if value.is_empty() => None,
        EntryKind::Put if record.mod_revision != main => {
            Some(format!("its record is of revision {}", record.mod_revision))
        }
        EntryKind::Put if record.version < 1 || !(1..=main).contains(&record.create_revision) => Some(format!(
            "its record says that it is version {} of a life since revision {}",
            record.version, record.create_revision
        )),
        EntryKind::Tombstone if KeyValue::tombstone(record.key) != *record => {
            Some("it deletes, and holds more than the key".to_owned())
        }
        EntryKind::Put | EntryKind::Tombstone => None,
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
    /// Whether one of them is what a restore that raises revisions leaves at the highest: its name is empty, and no client can
    /// make, see or remove it.
    pub has_mark: bool,
    /// The leases that live keys hang on, by id, each with its number of keys; none if live keys were ignored.
    pub leases: Vec<(LeaseId, u64)>,
    /// HashKV for each compacted revision that was asked for, ascending.
    pub hashes: Vec<KvHash>,
    /// Lives of keys that do not hold together.
    pub broken: BrokenLives,
}

impl Replayed {
    /// How many live keys clients see, as etcd counts them for them; `None` if they were ignored.
    pub fn clients_keys(&self) -> Option<u64> {
        self.live_keys.map(|live| live.saturating_sub(u64::from(self.has_mark)))
    }
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
