//! A whole database, read once: whether it is sound, what it says about itself, what its log comes to.
//!
//! Everything that proves a database reads it this way: a verification, a rebuild, an inspection. What the command `inspect` tells
//! beside it is in `jobs::inspect`.

use std::cell::Cell;
use std::sync::mpsc;
use std::thread;

use super::crc::{BATCHES, Selections};
use super::replay::{look_ahead, read, settle};
use super::revision::RevisionKey;
use super::{Agreement, CompactionMarks, Error, KvHash, LiveKeys, Replay, Replayed, Summary, Survey};
use crate::bbolt::{self, Report, Rules, check};
use crate::model::{HashKv, Revision};
use crate::text::count;

/// Of a database of so many bytes, another thread sums the entries.
const LARGE_BYTES: u64 = 4 << 20;

/// How many members that are not as they should be are named; the others are only counted.
const NAMED_MEMBERS: usize = 10;

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
        // One that is malformed is named by the survey.
        let marks = CompactionMarks::read(file);
        let compact_revision = marks.compact_revision();
        let wanted: Vec<i64> = std::iter::once(compact_revision).chain(recorded).collect();
        // What cannot be read of it the check names.
        let log = Log::readable(file);
        let log = |after| log.after(after);
        let changed = look_ahead(marks, None, &wanted, &log);
        let mut replay = Replay::new(marks, live_keys, None, &wanted, changed);
        let mut walk = |replay: &mut Replay<'a>, sums: &dyn Fn() -> Option<Selections>| {
            let mut survey = Survey::new(file, replay)?;
            let report = check(file, Rules::Bbolt, |bucket, key, value| {
                survey.entry(bucket, key, value);
                see(bucket, key, value);
            });
            survey.end_entries();
            if let Some(sums) = sums() {
                survey.summed(sums);
            }
            Ok::<_, bbolt::Error>((report, survey.finish()))
        };
        let is_large = file.pages().saturating_mul(u64::from(file.page_size())) >= LARGE_BYTES;
        let (report, summary) = match is_large {
            false => walk(&mut replay, &|| None)?,
            // Half of the time goes into the sums, which need nothing of all else.
            true => thread::scope(|scope| {
                let (to, batches) = mpsc::sync_channel(BATCHES);
                let sums = replay.sum_elsewhere(to);
                let summing = scope.spawn(move || sums.sum_all(&batches));
                let summing = Cell::new(Some(summing));
                walk(&mut replay, &|| {
                    let summing = summing.take()?;
                    Some(summing.join().expect("a panic aborts the process"))
                })
            })?,
        };
        let mut replayed = replay.finish();
        settle(&mut replayed, marks, None, &log);
        Ok(Inspection {
            report,
            summary,
            replayed,
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

    /// What is no damage, and still not as it should be: etcd logs it at most, and goes on. A few lines, however much there is.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings_beside_leases();
        let dangling = self.summary.dangling(&self.replayed.leases);
        if !dangling.is_empty() {
            let keys = dangling.iter().map(|(_, keys)| keys).sum();
            let leases = count(dangling.len() as u64, "lease");
            warnings.push(format!(
                "{leases} without an entry, with {}: what hangs on such a lease never expires, and members may come to differ",
                count(keys, "live key")
            ));
        }
        warnings
    }

    /// The same but for leases, for whoever gives those that lack an entry one.
    pub fn warnings_beside_leases(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.replayed.broken.named.clone();
        let unnamed = self.replayed.broken.count.saturating_sub(warnings.len() as u64);
        if unnamed > 0 {
            warnings.push(format!("and {unnamed} more like that"));
        }
        let (unknown, missing) = self.summary.disagreeing_members();
        let members = [
            (
                unknown,
                "none that raft counts: it was removed, or the database was restored",
            ),
            (
                missing,
                "counted by raft, and none of the members: the database was restored, or is damaged",
            ),
        ];
        for (ids, what) in members {
            let named = ids.iter().take(NAMED_MEMBERS);
            warnings.extend(named.map(|id| format!("member {id} is {what}")));
            if let Some(more) = ids.len().checked_sub(NAMED_MEMBERS).filter(|more| *more > 0) {
                warnings.push(format!("and {more} more like that"));
            }
        }
        warnings
    }

    /// HashKV for that compacted revision, which was the file's own or asked for.
    pub fn hash_for(&self, compact_revision: i64) -> &KvHash {
        let mut hashes = self.replayed.hashes.iter();
        let found = hashes.find(|hash| hash.compact_revision == compact_revision);
        found.expect("it was asked for")
    }

    /// Compares the HashKV of `file`, the same as before, with the one that a member `recorded` for its revision, by a compacted
    /// revision that was asked for.
    ///
    /// A difference condemns a backup. So where they differ the log is read once more, without taking for granted that a
    /// finished compaction has left one entry of each key.
    pub fn compared_with(&self, file: &bbolt::File<'_>, recorded: HashKv) -> Agreement {
        let found = self.hash_for(recorded.compact_revision).compared_with(recorded.hash);
        if found != Agreement::Different {
            return found;
        }
        let marks = CompactionMarks {
            scheduled: Revision::new(self.compact_revision).ok(),
            finished: None,
        };
        let wanted = [recorded.compact_revision];
        let log = Log::readable(file);
        let again = read(
            marks,
            LiveKeys::Ignored,
            None,
            &wanted,
            |after| log.after(after),
            |_| {},
        );
        let hashes = again.hashes.first();
        hashes.map_or(found, |hash| hash.compared_with(recorded.hash))
    }

    /// HashKV as a member with this database reports it for an earlier revision: `None` where that is compacted or still to
    /// come. Reads the log of `file`, the same as before, once more.
    ///
    /// Fails where a page of the log cannot be read.
    pub fn hash_kv_at(&self, file: &bbolt::File<'_>, revision: Revision) -> Result<Option<HashKv>, bbolt::Error> {
        if revision.get() < self.compact_revision || revision > self.summary.revision() {
            return Ok(None);
        }
        let wanted = [self.compact_revision];
        // One that is malformed is named in the summary, and passed over as there.
        let replayed = replayed(file, LiveKeys::Ignored, Some(revision), &wanted, |_| {})?;
        Ok(replayed.hashes.first().map(|hash| hash.at(revision)))
    }

    /// HashKV as a member with this database reports it.
    pub fn hash_kv(&self) -> HashKv {
        self.hash_for(self.compact_revision).at(self.summary.revision())
    }
}

/// What the log of `file` comes to at a revision, or at its end; `wrong` hears of entries that are malformed. HashKV is
/// computed for each compacted revision of `compacted`.
///
/// Fails where a page of the log cannot be read.
pub fn replayed(
    file: &bbolt::File<'_>,
    live_keys: LiveKeys,
    until: Option<Revision>,
    compacted: &[i64],
    wrong: impl FnMut(Error),
) -> Result<Replayed, bbolt::Error> {
    let marks = CompactionMarks::read(file);
    let log = Log::of(file, i64::MAX)?;
    let replayed = read(marks, live_keys, until, compacted, |after| log.after(after), wrong);
    log.is_whole(replayed)
}

/// Compares what the log of `file` comes to at a revision, which need not be its last, with the HashKV that a member
/// `recorded` for it. As [`Inspection::compared_with`] does, it reads the log once more before it calls them different.
///
/// Fails where a page of the log cannot be read.
pub fn agreement_at(file: &bbolt::File<'_>, recorded: HashKv) -> Result<Agreement, bbolt::Error> {
    let wanted = [recorded.compact_revision];
    // What comes later has no part in it.
    let log = Log::of(file, recorded.revision.get())?;
    let compared = |marks: CompactionMarks| {
        let until = Some(recorded.revision);
        let replayed = read(
            marks,
            LiveKeys::Ignored,
            until,
            &wanted,
            |after| log.after(after),
            |_| {},
        );
        let hash = replayed.hashes.first();
        hash.map_or(Agreement::Unknown, |hash| hash.compared_with(recorded.hash))
    };
    let marks = CompactionMarks::read(file);
    let found = match compared(marks) {
        Agreement::Different => compared(CompactionMarks {
            scheduled: Revision::new(marks.compact_revision()).ok(),
            finished: None,
        }),
        found => found,
    };
    log.is_whole(found)
}

/// The log of a database up to a revision, and where it turned out that it cannot be read.
struct Log<'f> {
    bucket: Option<bbolt::Bucket<'f>>,
    /// The last revision that is of interest.
    to: i64,
    fault: Cell<Option<bbolt::Error>>,
}

impl<'f> Log<'f> {
    fn of(file: &bbolt::File<'f>, to: i64) -> Result<Self, bbolt::Error> {
        Ok(Log {
            bucket: file.bucket(b"key")?,
            to,
            fault: Cell::new(None),
        })
    }

    /// All of it, as far as it can be read.
    fn readable(file: &bbolt::File<'f>) -> Self {
        Log {
            bucket: file.bucket(b"key").ok().flatten(),
            to: i64::MAX,
            fault: Cell::new(None),
        }
    }

    /// The entries from the first one after a revision on, as far as they can be read.
    fn after(&self, after: i64) -> impl Iterator<Item = bbolt::Entry<'f>> {
        let first = after.checked_add(1).and_then(|first| Revision::new(first).ok());
        let entries = self.bucket.as_ref().zip(first).map(|(bucket, first)| {
            let first = RevisionKey::first_put(first).encode();
            bucket.iter_from(&first)
        });
        let read = entries.into_iter().flatten().map_while(|entry| match entry {
            Ok(entry) => Some(entry),
            Err(error) => {
                self.fault.set(Some(error));
                None
            }
        });
        let end = Revision::new(self.to).ok().filter(|_| self.to < i64::MAX);
        let end = end.map(|last| RevisionKey::first_put(last.next()).encode());
        read.take_while(move |(key, _)| end.as_ref().is_none_or(|end| *key < end.as_slice()))
    }

    /// What was found, if all of it could be read.
    fn is_whole<T>(&self, found: T) -> Result<T, bbolt::Error> {
        self.fault.take().map_or(Ok(found), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KeyValue, Lease, LeaseId};
    use super::*;
    use crate::bbolt::{File, Writer};

    const PAGE: usize = 4096;

    /// Two keys, marks of a compaction, and so many leases that they have a page of their own.
    fn database(term: &[u8]) -> Vec<u8> {
        let mut writer = Writer::fresh(Vec::new(), 4096).unwrap();
        let mut put = |name: &str, entries: &[(Vec<u8>, Vec<u8>)]| {
            let mut bucket = writer.bucket(name.as_bytes()).unwrap();
            entries.iter().for_each(|(key, value)| bucket.put(key, value).unwrap());
            bucket.finish().unwrap();
        };
        let at = |revision| {
            RevisionKey::first_put(Revision::new(revision).unwrap())
                .encode()
                .to_vec()
        };
        let record = |key: &[u8], revision| {
            let record = KeyValue {
                key,
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                ..KeyValue::default()
            };
            let mut bytes = Vec::new();
            record.encode_into(&mut bytes);
            bytes
        };
        put("key", &[(at(5), record(b"a", 5)), (at(6), record(b"b", 6))]);
        let leases = (1..=100).map(|id| Lease::granted(LeaseId(id), 30));
        let leases: Vec<_> = leases.map(|lease| (lease.key().to_vec(), lease.encode())).collect();
        put("lease", &leases);
        put(
            "meta",
            &[
                (b"finishedCompactRev".to_vec(), at(5)),
                (b"term".to_vec(), term.to_vec()),
            ],
        );
        writer.finish().unwrap().seal().unwrap().0
    }

    fn inspected(bytes: &[u8]) -> Inspection {
        let file = File::open(bytes).unwrap();
        Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}).unwrap()
    }

    #[test]
    fn what_is_wrong_in_one_place_keeps_nothing_else_from_being_told() {
        let whole = inspected(&database(&1_u64.to_be_bytes()));
        assert_eq!((whole.fault_count(), whole.compact_revision), (0, 5));
        assert_eq!((whole.summary.leases.len(), whole.replayed.live_keys), (100, Some(2)));

        // An entry beside the marks is no number.
        let malformed = inspected(&database(b"seven b"));
        assert_eq!((malformed.fault_count(), malformed.compact_revision), (1, 5));
        assert_eq!(malformed.hash_kv(), whole.hash_kv());

        // The only page of the leases is gone.
        let mut holed = database(&1_u64.to_be_bytes());
        let key = Lease::granted(LeaseId(77), 30).key();
        let is_of_leases = |page: &[u8]| page.windows(key.len()).any(|bytes| bytes == key);
        let page = holed.chunks(PAGE).position(is_of_leases).unwrap();
        holed[page * PAGE..][..PAGE].fill(0);
        let holed = inspected(&holed);
        assert!(holed.fault_count() > 0);
        assert_eq!((holed.summary.leases.len(), holed.replayed.live_keys), (0, Some(2)));
        assert_eq!(holed.hash_kv(), whole.hash_kv());
    }

    #[test]
    fn a_compaction_that_left_more_than_it_should_condemns_no_backup() {
        // Marked as finished at 5, and key `a` has two entries up to there all the same.
        let record = |revision, version| {
            let mut bytes = Vec::new();
            let record = KeyValue {
                key: b"a",
                create_revision: 3,
                mod_revision: revision,
                version,
                ..KeyValue::default()
            };
            record.encode_into(&mut bytes);
            bytes
        };
        let at = |revision| RevisionKey::first_put(Revision::new(revision).unwrap()).encode();
        let mut writer = Writer::fresh(Vec::new(), 4096).unwrap();
        let mut log = writer.bucket(b"key").unwrap();
        log.put(&at(3), &record(3, 1)).unwrap();
        log.put(&at(5), &record(5, 2)).unwrap();
        log.finish().unwrap();
        let mut meta = writer.bucket(b"meta").unwrap();
        meta.put(b"finishedCompactRev", &at(5)).unwrap();
        meta.finish().unwrap();
        let bytes = writer.finish().unwrap().seal().unwrap().0;
        let (file, walk) = (File::open(&bytes).unwrap(), inspected(&bytes));
        let recorded = |hash| HashKv {
            revision: Revision::new(5).unwrap(),
            compact_revision: 5,
            hash,
        };
        let theirs = crc32c::crc32c(&[&b"key"[..], &at(5), &record(5, 2)].concat());
        assert_ne!(walk.hash_kv().hash, theirs);
        assert_eq!(walk.compared_with(&file, recorded(theirs)), Agreement::Equal);
        assert_eq!(walk.compared_with(&file, recorded(theirs ^ 1)), Agreement::Different);
    }

    #[test]
    fn what_is_no_damage_is_told_in_a_few_lines_however_much_there_is() {
        let mut writer = Writer::fresh(Vec::new(), 4096).unwrap();
        let mut log = writer.bucket(b"key").unwrap();
        for revision in 2..2 + 500 {
            let at = RevisionKey::first_put(Revision::new(revision).unwrap()).encode();
            let (key, mut bytes) = (format!("k{revision}"), Vec::new());
            // Of a second version that has no first one, on a lease of its own.
            let record = KeyValue {
                key: key.as_bytes(),
                create_revision: 1,
                mod_revision: revision,
                version: 2,
                lease: revision,
                ..KeyValue::default()
            };
            record.encode_into(&mut bytes);
            log.put(&at, &bytes).unwrap();
        }
        log.finish().unwrap();
        let voters: Vec<String> = (1..=500_u64).map(|id| id.to_string()).collect();
        let conf_state = format!("{{\"voters\":[{}]}}", voters.join(","));
        let mut meta = writer.bucket(b"meta").unwrap();
        meta.put(b"confState", conf_state.as_bytes()).unwrap();
        meta.finish().unwrap();
        let bytes = writer.finish().unwrap().seal().unwrap().0;
        let walk = inspected(&bytes);
        assert_eq!(walk.fault_count(), 0);
        let warnings = walk.warnings();
        assert_eq!(warnings.len(), 10 + 1 + 10 + 1 + 1, "{warnings:#?}");
        for line in [
            "and 490 more like that",
            "500 leases without an entry, with 500 live keys: what hangs on such a lease never expires, and members may come to differ",
        ] {
            assert!(
                warnings.iter().any(|warning| warning == line),
                "no `{line}` in {warnings:#?}"
            );
        }
        assert_eq!(walk.warnings_beside_leases().len(), warnings.len() - 1);
    }

    #[test]
    fn hash_kv_is_there_from_the_compaction_to_the_end() {
        let bytes = database(&1_u64.to_be_bytes());
        let (file, walk) = (File::open(&bytes).unwrap(), inspected(&bytes));
        let at = |revision| walk.hash_kv_at(&file, Revision::new(revision).unwrap()).unwrap();
        assert_eq!(at(6), Some(walk.hash_kv()));
        assert!(at(5).is_some_and(|hash| hash.revision.get() == 5 && hash.hash != walk.hash_kv().hash));
        assert_eq!((at(4), at(7)), (None, None));
    }
}
