//! From revisions, as they come, to what one delta holds.
//!
//! Invariant: a delta holds whole revisions, each exactly once and without a hole; nothing is cut where nothing came.
//! Invariant: a time mark stands behind the last change that had come by then, and its time is that of a message, or of an
//! answer, that said so.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::cutting::Cutting;
use crate::etcd::{KeyChange, WholeRevision};
use crate::layout::delta::{Change, Encoder, Put, Record, RecordFault, TimeMark};
use crate::model::{HashKv, Revision};

/// How far two time marks are apart while changes come.
pub(super) const MARK_EVERY: Duration = Duration::from_millis(100);

/// So many bytes of a delta are left for marks, leases and hashes.
pub(super) const BESIDE_CHANGES: u64 = 4 << 20;

/// For so long time stands still where the clock went back; where it was further ahead, it was wrong before.
const STANDS_STILL: SignedDuration = SignedDuration::from_mins(10);

/// The time by both clocks of this host: the one that people read, and the one that never steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What people read.
    pub time: Timestamp,
    /// By how much it may be wrong, in milliseconds; none where the system does not tell.
    pub uncertainty_ms: Option<u32>,
    /// What never steps.
    pub instant: Instant,
}

/// What one delta holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its first revision.
    pub from: Revision,
    /// Its last revision.
    pub to: Revision,
    /// Its first time mark.
    pub first_mark: TimeMark,
    /// Its last time mark.
    pub last_mark: TimeMark,
    /// How many records it has.
    pub records: u64,
    /// The records.
    pub plain: Vec<u8>,
}

/// What has come and is in no delta yet.
#[derive(Debug)]
pub struct Assembly {
    encoder: Encoder,
    /// The first revision that is to come.
    next: Revision,
    /// When the first change came.
    since: Option<Instant>,
    marks: Option<(TimeMark, TimeMark)>,
    /// The last time that was said: no later mark has an earlier one.
    said: Option<Timestamp>,
    marked_at: Option<Instant>,
    /// When the last message came, where everything that there was had come with it and nothing since.
    all_at: Option<Now>,
}

impl Assembly {
    /// Nothing yet; `next` is to come.
    pub fn new(next: Revision) -> Assembly {
        Assembly {
            encoder: Encoder::new(next),
            next,
            since: None,
            marks: None,
            said: None,
            marked_at: None,
            all_at: None,
        }
    }

    /// Nothing yet, after this one was given up; `next` is to come.
    pub fn anew(&self, next: Revision) -> Assembly {
        Assembly {
            said: self.said,
            ..Assembly::new(next)
        }
    }

    /// The mark of a revision at which nothing more was written.
    pub fn mark_at_rest(&mut self, revision: Revision, now: Now) -> TimeMark {
        let mark = self.mark_at(revision, now);
        self.said = Some(mark.time);
        mark
    }

    /// The first revision that did not come yet.
    pub fn next(&self) -> Revision {
        self.next
    }

    /// Whether the next revision fits into a delta of so many bytes together with what waits.
    pub fn has_room_for(&self, whole: &WholeRevision, most: u64) -> bool {
        let weight = whole.changes.iter().map(KeyChange::weight).fold(0, u64::saturating_add);
        let waits = self.encoder.len() as u64;
        weight.saturating_add(waits).saturating_add(BESIDE_CHANGES) <= most
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.encoder.len()
    }

    /// When it was heard last that everything that etcd had has come; none where more is to come.
    pub fn all_at(&self) -> Option<Now> {
        self.all_at
    }

    /// Since when the oldest change waits.
    pub fn waits_since(&self) -> Option<Instant> {
        self.since
    }

    /// Takes the next revision. Fails where it is another one, or has what cannot be.
    pub fn take(&mut self, whole: &WholeRevision, now: Now) -> Result<(), RecordFault> {
        for (sub, change) in whole.changes.iter().enumerate() {
            self.encoder.put(&Record::Change(Change {
                revision: whole.revision,
                sub: i64::try_from(sub).unwrap_or(i64::MAX),
                key: &change.key,
                put: change.put.as_ref().map(|put| Put {
                    create_revision: put.create_revision,
                    version: put.version,
                    lease: put.lease,
                    value: &put.value,
                }),
            }))?;
        }
        self.since.get_or_insert(now.instant);
        // The message that brings it may bring more.
        self.all_at = None;
        self.next = Revision::new(whole.revision.get().saturating_add(1)).unwrap_or(self.next);
        Ok(())
    }

    /// Takes note of whether everything that there is has come by now. Marks it, unless that was done a moment ago.
    pub fn note(&mut self, is_all: bool, now: Now) -> Result<(), RecordFault> {
        self.all_at = is_all.then_some(now);
        let is_soon = self
            .marked_at
            .is_some_and(|marked| now.instant.duration_since(marked) < MARK_EVERY);
        if is_all && !is_soon && self.encoder.to().is_some() {
            self.mark(now)?;
        }
        Ok(())
    }

    /// Keeps what a lease was granted, or that it is gone, beside the changes.
    pub fn keep_lease(&mut self, id: i64, granted_ttl: Option<u64>) -> Result<(), RecordFault> {
        let granted_ttl = granted_ttl.unwrap_or(0);
        self.encoder.put(&Record::Lease { id, granted_ttl })
    }

    /// Keeps what a member reported beside the changes.
    pub fn keep_checkpoint(&mut self, hash: HashKv) -> Result<(), RecordFault> {
        self.encoder.put(&Record::Checkpoint(hash))
    }

    /// When it is to be cut, if nothing more comes; never while there is nothing to cut.
    pub fn due_at(&self, cutting: &Cutting) -> Option<Instant> {
        self.since.map(|since| cutting.due_at(since, self.bytes() as u64))
    }

    /// What has come since the last cut, as a delta; none where nothing came.
    pub fn cut(&mut self, now: Now) -> Result<Option<Batch>, RecordFault> {
        let Some(to) = self.encoder.to() else {
            return Ok(None);
        };
        match self.all_at {
            // Of the time since the last message nothing is known: whoever sends them may be dead.
            Some(heard) => self.mark_once(heard)?,
            // Old changes are caught up with: when they were made is not known, but that it was before this.
            None => self.remember(self.mark_at(to, now)),
        }
        let fresh = Assembly {
            all_at: self.all_at,
            marked_at: self.marked_at,
            ..self.anew(self.next)
        };
        let done = std::mem::replace(self, fresh);
        let fallback = done.mark_at(to, now);
        let (first_mark, last_mark) = done.marks.unwrap_or((fallback, fallback));
        Ok(Some(Batch {
            from: done.encoder.from(),
            to,
            first_mark,
            last_mark,
            records: done.encoder.records(),
            plain: done.encoder.finish(),
        }))
    }

    /// Marks what has come, unless it is marked so already.
    fn mark_once(&mut self, heard: Now) -> Result<(), RecordFault> {
        let marked = self.marks.map(|(_, last)| last.revision);
        match marked == self.encoder.to() && self.marked_at == Some(heard.instant) {
            true => Ok(()),
            false => self.mark(heard),
        }
    }

    fn mark(&mut self, now: Now) -> Result<(), RecordFault> {
        let Some(to) = self.encoder.to() else {
            return Ok(());
        };
        let mark = self.mark_at(to, now);
        self.encoder.put(&Record::Mark(mark))?;
        self.marked_at = Some(now.instant);
        self.remember(mark);
        Ok(())
    }

    fn mark_at(&self, revision: Revision, now: Now) -> TimeMark {
        // A clock that went back does not move what was said; it was wrong by as much then, or is now.
        let said = self.said.filter(|said| said.duration_since(now.time) < STANDS_STILL);
        let time = said.map_or(now.time, |said| said.max(now.time));
        let back = time.duration_since(now.time).as_millis();
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        TimeMark {
            revision,
            time,
            uncertainty_ms: now.uncertainty_ms.map(|ms| ms.saturating_add(back)),
        }
    }

    fn remember(&mut self, mark: TimeMark) {
        let first = self.marks.map_or(mark, |(first, _)| first);
        self.marks = Some((first, mark));
        self.said = Some(mark.time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::KeyPut;
    use crate::layout::delta::{Decoder, Span};
    use crate::model::ByteSize;

    const CUTTING: Cutting = Cutting {
        every: Duration::from_secs(10),
        max_bytes: ByteSize(200),
    };

    fn revision(revision: i64) -> Revision {
        Revision::new(revision).unwrap()
    }

    fn whole(at: i64, keys: &[&str]) -> WholeRevision {
        let change = |key: &&str| KeyChange {
            key: key.as_bytes().to_vec(),
            put: Some(KeyPut {
                value: b"value".to_vec(),
                create_revision: revision(at),
                version: 1,
                lease: 0,
            }),
        };
        WholeRevision {
            revision: revision(at),
            changes: keys.iter().map(change).collect(),
        }
    }

    struct Clock(Instant);

    impl Clock {
        fn at(&self, ms: u64) -> Now {
            let time: Timestamp = "2026-11-20T10:15:30Z".parse().unwrap();
            Now {
                time: time + Duration::from_millis(ms),
                uncertainty_ms: None,
                instant: self.0 + Duration::from_millis(ms),
            }
        }
    }

    /// Pairs of a revision and a place, or a time.
    type Pairs = Vec<(i64, i64)>;

    fn decoded(batch: &Batch) -> (Pairs, Pairs) {
        let span = Span::new(batch.from, batch.to).unwrap();
        let mut decoder = Decoder::new(&batch.plain, span).unwrap();
        let (mut changes, mut marks, mut records) = (Vec::new(), Vec::new(), 0);
        while let Some(record) = decoder.next().unwrap() {
            records += 1;
            match record {
                Record::Change(change) => changes.push((change.revision.get(), change.sub)),
                Record::Mark(mark) => marks.push((mark.revision.get(), mark.time.as_millisecond() % 10_000)),
                Record::Lease { .. } | Record::Checkpoint(_) => {}
            }
        }
        assert_eq!(records, batch.records);
        (changes, marks)
    }

    #[test]
    fn what_came_is_cut_between_revisions_when_it_has_waited_or_is_large() {
        let clock = Clock(Instant::now());
        let mut assembly = Assembly::new(revision(7));
        assert_eq!(assembly.due_at(&CUTTING), None);
        assert_eq!(assembly.cut(clock.at(0)).unwrap(), None);
        assembly.take(&whole(7, &["a", "b"]), clock.at(500)).unwrap();
        assembly.take(&whole(8, &["a"]), clock.at(900)).unwrap();
        assert_eq!(assembly.due_at(&CUTTING), Some(clock.at(10_500).instant));
        let batch = assembly.cut(clock.at(10_500)).unwrap().unwrap();
        assert_eq!((batch.from, batch.to), (revision(7), revision(8)));
        assert_eq!(decoded(&batch).0, [(7, 0), (7, 1), (8, 0)]);
        assert_eq!((assembly.due_at(&CUTTING), assembly.next()), (None, revision(9)));
        let long = "k".repeat(300);
        assembly.take(&whole(9, &[&long]), clock.at(11_000)).unwrap();
        assert_eq!(assembly.due_at(&CUTTING), Some(clock.at(11_000).instant));
        let batch = assembly.cut(clock.at(11_000)).unwrap().unwrap();
        assert_eq!((batch.from, batch.to), (revision(9), revision(9)));
    }

    #[test]
    fn no_mark_is_before_an_earlier_one_but_where_the_clock_was_far_ahead() {
        let clock = Clock(Instant::now());
        let exact = |ms| Now {
            uncertainty_ms: Some(3),
            ..clock.at(ms)
        };
        let mut assembly = Assembly::new(revision(7));
        let mut cut = |at, ms| {
            assembly.take(&whole(at, &["a"]), exact(ms)).unwrap();
            assembly.note(true, exact(ms)).unwrap();
            let mark = assembly.cut(exact(ms)).unwrap().unwrap().last_mark;
            (mark.time, mark.uncertainty_ms)
        };
        assert_eq!(cut(7, 500_000), (clock.at(500_000).time, Some(3)));
        // A second back: it stands still, and is by so much less exact.
        assert_eq!(cut(8, 499_000), (clock.at(500_000).time, Some(1003)));
        assert_eq!(cut(9, 501_000), (clock.at(501_000).time, Some(3)));
        let rest = assembly.anew(revision(10)).mark_at_rest(revision(9), exact(500_000));
        assert_eq!(rest.time, clock.at(501_000).time);
        let mut ahead = Assembly::new(revision(7));
        ahead.mark_at_rest(revision(6), exact(10_000_000));
        assert_eq!(ahead.mark_at_rest(revision(6), exact(5)).time, clock.at(5).time);
    }

    #[test]
    fn another_revision_than_the_next_is_refused() {
        let clock = Clock(Instant::now());
        for other in [6, 8] {
            let mut assembly = Assembly::new(revision(7));
            assert!(assembly.take(&whole(other, &["a"]), clock.at(0)).is_err(), "{other}");
        }
    }

    #[test]
    fn marks_stand_a_tenth_of_a_second_apart_and_only_where_all_has_come() {
        let clock = Clock(Instant::now());
        let mut assembly = Assembly::new(revision(1));
        let came = |assembly: &mut Assembly, at: i64, is_all, ms| {
            assembly.take(&whole(at, &["a"]), clock.at(ms)).unwrap();
            assembly.note(is_all, clock.at(ms)).unwrap();
        };
        came(&mut assembly, 1, false, 0);
        came(&mut assembly, 2, true, 10);
        came(&mut assembly, 3, true, 60);
        came(&mut assembly, 4, true, 110);
        came(&mut assembly, 5, true, 120);
        let batch = assembly.cut(clock.at(150)).unwrap().unwrap();
        // That nothing came behind the last one is known of when it came, not of when it is cut.
        assert_eq!(decoded(&batch).1, [(2, 10), (4, 110), (5, 120)]);
        let ends = |mark: TimeMark| (mark.revision.get(), mark.time.as_millisecond() % 10_000);
        assert_eq!((ends(batch.first_mark), ends(batch.last_mark)), ((2, 10), (5, 120)));
        // What is caught up with has none, but for the one in the header.
        came(&mut assembly, 6, false, 1000);
        let batch = assembly.cut(clock.at(1100)).unwrap().unwrap();
        assert_eq!(decoded(&batch).1, []);
        assert_eq!((ends(batch.first_mark), ends(batch.last_mark)), ((6, 1100), (6, 1100)));
    }

    #[test]
    fn a_stream_that_is_dead_says_nothing_of_the_time_since() {
        let clock = Clock(Instant::now());
        let mut assembly = Assembly::new(revision(1));
        assembly.take(&whole(1, &["a"]), clock.at(0)).unwrap();
        assembly.note(true, clock.at(0)).unwrap();
        let batch = assembly.cut(clock.at(9000)).unwrap().unwrap();
        assert_eq!(decoded(&batch).1, [(1, 0)]);
        assert_eq!(batch.last_mark.time, clock.at(0).time);
        // One that lives says it: of a message without changes, too.
        assembly.take(&whole(2, &["a"]), clock.at(9010)).unwrap();
        assembly.note(true, clock.at(9010)).unwrap();
        assembly.note(true, clock.at(9050)).unwrap();
        let batch = assembly.cut(clock.at(9990)).unwrap().unwrap();
        assert_eq!(batch.last_mark.time, clock.at(9050).time);
        // What is cut in the middle of a message was not all when the one before came.
        assembly.take(&whole(3, &["a"]), clock.at(9995)).unwrap();
        let batch = assembly.cut(clock.at(9996)).unwrap().unwrap();
        assert_eq!((decoded(&batch).1, batch.last_mark.time), (vec![], clock.at(9996).time));
        assert_eq!(assembly.all_at(), None);
    }

    #[test]
    fn what_would_not_fit_together_is_seen_before_it_is_taken() {
        let clock = Clock(Instant::now());
        let mut assembly = Assembly::new(revision(7));
        let (value, key) = ("value".len() as u64, "k".repeat(100));
        let most = BESIDE_CHANGES + 2 * (100 + value + 64);
        assert!(assembly.has_room_for(&whole(7, &[&key, &key]), most));
        assert!(!assembly.has_room_for(&whole(7, &[&key, &key, &key]), most));
        assembly.take(&whole(7, &[&key, &key]), clock.at(0)).unwrap();
        assert!(
            assembly.bytes() as u64 <= most - BESIDE_CHANGES,
            "a record is no longer than its weight"
        );
        assert!(!assembly.has_room_for(&whole(8, &[&key, &key]), most));
        assembly.cut(clock.at(10)).unwrap().unwrap();
        assert!(assembly.has_room_for(&whole(8, &[&key, &key]), most));
    }

    #[test]
    fn leases_and_checkpoints_are_in_the_delta_that_is_cut_next() {
        let clock = Clock(Instant::now());
        let mut assembly = Assembly::new(revision(1));
        assembly.take(&whole(1, &["a"]), clock.at(0)).unwrap();
        assembly.keep_lease(7, Some(60)).unwrap();
        assembly.keep_lease(8, None).unwrap();
        let hash = HashKv {
            revision: revision(1),
            compact_revision: -1,
            hash: 5,
        };
        assembly.keep_checkpoint(hash).unwrap();
        let batch = assembly.cut(clock.at(100)).unwrap().unwrap();
        assert_eq!(batch.records, 4);
        let span = Span::new(batch.from, batch.to).unwrap();
        let mut decoder = Decoder::new(&batch.plain, span).unwrap();
        let mut records = Vec::new();
        while let Some(record) = decoder.next().unwrap() {
            records.push(record);
        }
        assert!(records.contains(&Record::Checkpoint(hash)));
        assert!(records.contains(&Record::Lease { id: 8, granted_ttl: 0 }));
    }
}
