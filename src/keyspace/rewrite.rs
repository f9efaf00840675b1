//! A database written anew in the order of its keys, without free pages: as it is, or without what its compaction gave up.
//!
//! A compaction at revision C leaves of the log
//! - every entry after C,
//! - of the entries up to C the last one of each user key, unless that deletes it,
//! - the deletions of C itself, which a watch from C on still has to see.
//!
//! All later revisions read the same, and HashKV for C is the same, whether that has been done or not. Where the marks of
//! a database say that a compaction was begun and not ended, it is ended here.
//!
//! Where no key lives, a server hashes what its compaction has left so far. What comes out has then the HashKV of a
//! compaction that has ended, see [`super::KvHash::settled`].
//!
//! Invariant: equal databases are written anew to equal bytes, on every host.
//! Invariant: memory is that of [`super::fingerprints`] for the keys that live at C, and eight bytes for each entry that
//! stays of those up to C.
//!
//! Source of the rule: etcd 3.5 `server/storage/mvcc/key_index.go` and `kvstore_compaction.go`; servers before 3.4.34 and
//! 3.5.16 remove the deletions of C too.

use std::collections::BTreeSet;

use super::fingerprints::{Fact, Facts, LeaseSlot};
use super::meta::{FINISHED_COMPACT_REV, SCHEDULED_COMPACT_REV};
use super::record::KeyValue;
use super::revision::{EntryKind, RevisionKey};
use super::{CompactionMarks, Error, Inspection, LiveKeys, replayed};
use crate::bbolt::{self, Bucket, File, Measure, PageSink, Rules, Unsealed, Writer, check};
use crate::model::Revision;

/// How much of the log a database that is written anew has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// All that is there.
    Whole,
    /// What a compaction at this revision leaves; it is marked as done.
    CompactedAt(Revision),
}

impl History {
    /// What the marks of a database ask for: all of it, where it was never compacted.
    pub fn asked_by(marks: CompactionMarks) -> History {
        match marks.scheduled.max(marks.finished) {
            Some(revision) => History::CompactedAt(revision),
            None => History::Whole,
        }
    }

    fn compacted(self) -> i64 {
        match self {
            History::Whole => -1,
            History::CompactedAt(revision) => revision.get(),
        }
    }
}

/// Entries up to the compaction, told one by one in order.
#[derive(Debug)]
struct Compaction {
    compacted: i64,
    /// Of each live key the place of its last entry, and as its state how long that is.
    live: Facts,
    place: u32,
    /// Deletions of the compacted revision itself.
    deletions: Vec<Entry>,
}

/// An entry of the log that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    place: u32,
    /// Bytes of key and value.
    len: u32,
}

impl Compaction {
    fn new(compacted: i64) -> Self {
        Compaction {
            compacted,
            live: Facts::default(),
            place: 0,
            deletions: Vec::new(),
        }
    }

    /// Takes in the next entry, unless it is after the compaction: all of those stay.
    fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<bool, Error> {
        let at = RevisionKey::decode(key).map_err(|error| Error::malformed("key", key, error.into()))?;
        if at.main().get() > self.compacted {
            return Ok(false);
        }
        let record = KeyValue::decode(value).map_err(|error| Error::malformed("key", key, error.into()))?;
        let (place, len) = (self.place, (key.len() + value.len()) as u32);
        self.place = place.checked_add(1).ok_or(Error::TooManyEntries { limit: u32::MAX })?;
        let key = self.live.fingerprint(record.key);
        match at.kind() {
            EntryKind::Put => {
                let last = Fact {
                    place,
                    state: len,
                    found: 0,
                    lease: LeaseSlot::NONE,
                };
                self.live.insert(key, last);
            }
            EntryKind::Tombstone => {
                self.live.remove(key);
                if at.main().get() == self.compacted {
                    self.deletions.push(Entry { place, len });
                }
            }
        }
        Ok(true)
    }

    /// What stays of them, in order.
    fn staying(&self) -> Vec<Entry> {
        let live = self.live.iter().map(|last| Entry {
            place: last.place,
            len: last.state,
        });
        let mut staying: Vec<_> = live.chain(self.deletions.iter().copied()).collect();
        staying.sort_unstable();
        staying
    }
}

/// How long a database gets when it is written anew, found out in a walk over its entries.
#[derive(Debug)]
#[must_use]
pub struct RewrittenSize<'a> {
    names: Vec<&'a [u8]>,
    /// How many of the buckets have been begun.
    begun: usize,
    measure: Measure,
    marks: Option<usize>,
    /// As long as entries up to the compaction come.
    compaction: Option<Compaction>,
    entries: u64,
}

impl<'a> RewrittenSize<'a> {
    /// Begins with nothing; every entry of `file` is to follow.
    ///
    /// Fails when the names of the buckets cannot be read.
    pub fn new(file: &File<'a>, history: History) -> Result<Self, bbolt::Error> {
        let names = file.bucket_names()?.collect::<Result<_, _>>()?;
        let is_compacted = matches!(history, History::CompactedAt(_));
        Ok(RewrittenSize {
            names,
            begun: 0,
            measure: Measure::new(file.page_size()),
            marks: is_compacted.then_some(super::REVISION_LEN),
            compaction: is_compacted.then(|| Compaction::new(history.compacted())),
            entries: 0,
        })
    }

    /// Takes in the next entry of the file: buckets by name, and the entries of each by key.
    #[inline]
    pub fn entry(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) {
        if self.current() != Some(bucket) {
            self.enter(bucket);
        }
        if bucket == b"key" && self.is_up_to_compaction(key, value) {
            return;
        }
        if self.marks.is_some() && bucket == b"meta" && is_mark(key) {
            return;
        }
        self.put(key.len(), value.len());
    }

    /// The length of the file, and how many entries its log has.
    pub fn finish(mut self) -> (u64, u64) {
        while self.begun < self.names.len() {
            self.begin();
        }
        self.leave();
        (self.measure.file_len(), self.entries)
    }

    fn current(&self) -> Option<&'a [u8]> {
        self.names.get(self.begun.checked_sub(1)?).copied()
    }

    #[cold]
    fn enter(&mut self, bucket: &[u8]) {
        while self.names.get(self.begun).is_some_and(|name| *name <= bucket) {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.leave();
        if let Some(name) = self.names.get(self.begun) {
            self.measure.bucket(name.len());
            self.begun += 1;
        }
    }

    /// What a bucket has at its end.
    fn leave(&mut self) {
        match (self.current(), self.marks) {
            (Some(b"key"), _) => self.pass_compaction(),
            (Some(b"meta"), Some(mark)) => {
                self.measure.put(FINISHED_COMPACT_REV.len(), mark);
                self.measure.put(SCHEDULED_COMPACT_REV.len(), mark);
            }
            (_, _) => {}
        }
    }

    fn is_up_to_compaction(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some(compaction) = &mut self.compaction else {
            return false;
        };
        match compaction.entry(key, value) {
            // A malformed one is named elsewhere.
            Ok(true) | Err(_) => true,
            Ok(false) => {
                self.pass_compaction();
                false
            }
        }
    }

    fn pass_compaction(&mut self) {
        for entry in self.compaction.take().iter().flat_map(Compaction::staying) {
            let key = super::REVISION_LEN;
            self.put(key, (entry.len as usize).saturating_sub(key));
        }
    }

    #[inline]
    fn put(&mut self, key: usize, value: usize) {
        self.entries += u64::from(self.current() == Some(b"key"));
        self.measure.put(key, value);
    }
}

fn is_mark(key: &[u8]) -> bool {
    key == FINISHED_COMPACT_REV || key == SCHEDULED_COMPACT_REV
}

/// Writes the content of `source`, which was found sound, into the empty `sink`. Only the metas are left to be written.
///
/// Fails when the source cannot be read, has pages of a size that we do not write, or when the sink fails.
pub fn rewrite<S: PageSink>(source: &File<'_>, history: History, sink: S) -> Result<Unsealed<S>, Error> {
    let writing = |source| Error::Rewrite { source };
    let mut writer = Writer::fresh(sink, source.page_size()).map_err(writing)?;
    let mut names: BTreeSet<&[u8]> = source.bucket_names().and_then(Iterator::collect).map_err(writing)?;
    if let History::CompactedAt(_) = history {
        names.insert(b"meta");
    }
    for name in names {
        let bucket = source.bucket(name).map_err(writing)?;
        match (name, history) {
            (b"key", History::CompactedAt(_)) => write_log(&mut writer, bucket, history.compacted())?,
            (b"meta", History::CompactedAt(at)) => write_meta(&mut writer, bucket, at).map_err(writing)?,
            (_, _) => write_bucket(&mut writer, name, bucket).map_err(writing)?,
        }
    }
    writer.finish().map_err(writing)
}

fn write_bucket<S: PageSink>(
    writer: &mut Writer<'_, S>,
    name: &[u8],
    bucket: Option<Bucket<'_>>,
) -> Result<(), bbolt::Error> {
    let mut written = writer.bucket(name)?;
    for entry in bucket.iter().flat_map(Bucket::iter) {
        let (key, value) = entry?;
        written.put(key, value)?;
    }
    written.finish()
}

fn write_meta<S: PageSink>(
    writer: &mut Writer<'_, S>,
    bucket: Option<Bucket<'_>>,
    at: Revision,
) -> Result<(), bbolt::Error> {
    let mark = RevisionKey::first_put(at).encode();
    let mut entries: Vec<bbolt::Entry<'_>> = vec![(FINISHED_COMPACT_REV, &mark), (SCHEDULED_COMPACT_REV, &mark)];
    for entry in bucket.iter().flat_map(Bucket::iter) {
        entries.push(entry?);
    }
    // The new marks come before those that they replace.
    entries.sort_by_key(|(key, _)| *key);
    entries.dedup_by_key(|(key, _)| *key);
    let mut written = writer.bucket(b"meta")?;
    for (key, value) in entries {
        written.put(key, value)?;
    }
    written.finish()
}

fn write_log<S: PageSink>(writer: &mut Writer<'_, S>, bucket: Option<Bucket<'_>>, compacted: i64) -> Result<(), Error> {
    let writing = |source| Error::Rewrite { source };
    let mut compaction = Compaction::new(compacted);
    for entry in bucket.iter().flat_map(Bucket::iter) {
        let (key, value) = entry.map_err(writing)?;
        if !compaction.entry(key, value)? {
            break;
        }
    }
    let old = u64::from(compaction.place);
    let mut staying = compaction
        .staying()
        .into_iter()
        .map(|entry| u64::from(entry.place))
        .peekable();
    drop(compaction);
    let mut written = writer.bucket(b"key").map_err(writing)?;
    for (place, entry) in (0..).zip(bucket.iter().flat_map(Bucket::iter)) {
        if place >= old || staying.next_if_eq(&place).is_some() {
            let (key, value) = entry.map_err(writing)?;
            written.put(key, value).map_err(writing)?;
        }
    }
    written.finish().map_err(writing)
}

/// Reads all of a database that was written anew, by the strict rules, and compares it with the one that it is `before`; says
/// what is wrong with it.
pub fn prove(before: (&File<'_>, &Inspection), made: &File<'_>, history: History) -> Result<Inspection, String> {
    let told = |error: bbolt::Error| error.to_string();
    if let Some(fault) = check(made, Rules::Ours, |_, _, _| {}).faults().first() {
        return Err(fault.to_string());
    }
    let walk = Inspection::of(made, LiveKeys::Counted, None, |_, _, _| {}).map_err(told)?;
    if let Some(fault) = walk.faults().next() {
        return Err(fault);
    }
    match differences(before, (made, &walk), history).map_err(told)?.as_slice() {
        [] => Ok(walk),
        different => Err(format!("different are {}", different.join(", "))),
    }
}

/// How a database that was written anew from another one differs from it, though it must not: empty where it holds the
/// same. Every later revision is compared by HashKV, and so is the compacted one.
///
/// Fails when one of the two cannot be read.
pub fn differences(
    (before, was): (&File<'_>, &Inspection),
    (after, is): (&File<'_>, &Inspection),
    history: History,
) -> Result<Vec<&'static str>, bbolt::Error> {
    let revision = was.summary.revision();
    let compacted = match history {
        History::Whole => was.compact_revision,
        History::CompactedAt(at) => at.get(),
    };
    let mut found = Vec::new();
    let mut compare = |what, is_equal: bool| {
        if !is_equal {
            found.push(what);
        }
    };
    compare("revision", is.summary.revision() == revision);
    compare("compacted revision", is.compact_revision == compacted);
    compare("live keys", is.replayed.live_keys == was.replayed.live_keys);
    compare("leases of live keys", is.replayed.leases == was.replayed.leases);
    let hash = is.hash_for(is.compact_revision);
    match history {
        History::Whole => compare("HashKV", *hash == *was.hash_for(was.compact_revision)),
        History::CompactedAt(at) => {
            let settled = settled(before, revision, at)?;
            compare("HashKV", hash.hash == settled && hash.settled == settled);
            if at < revision {
                let (before, after) = (self::settled(before, at, at)?, self::settled(after, at, at)?);
                compare("HashKV at the compacted revision", before == after);
            }
        }
    }
    let names = |file: &File<'_>| -> Result<BTreeSet<Vec<u8>>, bbolt::Error> {
        let names = file.bucket_names()?.map(|name| name.map(<[u8]>::to_vec));
        // Marks may have been written where there was no such bucket.
        Ok(names
            .collect::<Result<BTreeSet<_>, _>>()?
            .into_iter()
            .chain([b"meta".to_vec()])
            .collect())
    };
    compare("names of buckets", names(before)? == names(after)?);
    for name in before.bucket_names()? {
        let name = name?;
        if name != b"key" {
            compare("buckets beside the log", bucket_is_equal(name, before, after, history)?);
        }
    }
    Ok(found)
}

/// HashKV at a revision, once everything up to `compacted` that can go is gone.
fn settled(file: &File<'_>, until: Revision, compacted: Revision) -> Result<u32, bbolt::Error> {
    // What is malformed is named elsewhere.
    let replayed = replayed(file, LiveKeys::Ignored, Some(until), &[compacted.get()], |_| {})?;
    Ok(replayed.hashes.first().map_or(0, |hash| hash.settled))
}

fn bucket_is_equal(name: &[u8], before: &File<'_>, after: &File<'_>, history: History) -> Result<bool, bbolt::Error> {
    let (before, after) = (before.bucket(name)?, after.bucket(name)?);
    let counts = |entry: &Result<bbolt::Entry<'_>, bbolt::Error>| match (entry, history) {
        (Ok((key, _)), History::CompactedAt(_)) => name != b"meta" || !is_mark(key),
        (_, _) => true,
    };
    let mut before = before.iter().flat_map(Bucket::iter).filter(counts);
    let mut after = after.iter().flat_map(Bucket::iter).filter(counts);
    loop {
        match (before.next().transpose()?, after.next().transpose()?) {
            (None, None) => return Ok(true),
            (before, after) if before == after => {}
            (_, _) => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests;
