//! Points inside a chain: by a time, and by what was deleted.

use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};

use super::{Candidate, Search, belongs};
use crate::catalog::Piece;
use crate::jobs::source::source_failure;
use crate::jobs::{Exit, Failure};
use crate::layout::delta::{Decoder, Header, Record, RecordFault, TimeMark};
use crate::layout::{Epoch, ObjectName};
use crate::model::Revision;
use crate::pipeline::Buffers;
use crate::source::delta::{Pick, Unread, deltas_of, head};
use crate::source::{DeltaRecords, Notes};
use crate::text::{age, clean, count, rfc3339};

/// The last deletion of what was looked for.
pub(super) struct Deleted {
    /// The revision that made it.
    pub revision: Revision,
    /// The last mark before it.
    pub before: Option<TimeMark>,
    /// The first mark behind it.
    pub after: Option<TimeMark>,
    /// One of the keys that it deleted.
    key: Vec<u8>,
    /// How many it did.
    keys: u64,
    /// The deletions before it, those of the revision and of how many keys.
    earlier: Vec<(Revision, u64)>,
}

impl Deleted {
    pub(super) fn words(&self) -> String {
        let key = clean(&String::from_utf8_lossy(&self.key));
        let more = match self.keys {
            1 => String::new(),
            keys => format!(" and {} more", keys - 1),
        };
        let time = match (&self.before, &self.after) {
            (_, Some(after)) => format!(" ({} or shortly before)", rfc3339(after.time)),
            (Some(before), None) => format!(" (after {})", rfc3339(before.time)),
            (None, None) => String::new(),
        };
        let earlier = match self.earlier.is_empty() {
            true => String::new(),
            false => {
                let each = self.earlier.iter().rev();
                let each = each.map(|(revision, keys)| format!("{revision} ({})", count(*keys, "key")));
                format!("; earlier ones: revision {}", each.collect::<Vec<_>>().join(", "))
            }
        };
        format!("revision {} deleted `{key}`{more}{time}{earlier}", self.revision)
    }
}

/// By how much times of several hosts may go back before it is told: clocks are never quite equal.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(2);

/// So many earlier deletions are told.
const EARLIER: usize = 5;

/// What a chain tells of a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sought {
    /// The last revision that is known to have been there.
    pub mark: TimeMark,
    /// Whether the chain goes on until then: no other revision came meanwhile.
    pub goes_on: bool,
}

impl Search<'_> {
    /// Asks the copies of an object in turn; what is of no use is told.
    fn any_copy<T>(
        &self,
        destinations: &[String],
        ask: impl Fn(&crate::store::Store) -> Result<T, Unread>,
    ) -> Result<T, Failure> {
        let mut why = Failure::new(Exit::NotFound, "an object of the chain is gone: run it again");
        for store in destinations.iter().filter_map(|name| self.places.stores.get(name)) {
            match ask(store) {
                Ok(found) => return Ok(found),
                Err(Unread::Gone) => {}
                Err(Unread::Strange(note)) => {
                    self.listener.alarm(&note);
                    why = Failure::new(Exit::Damaged, note);
                }
                Err(Unread::Unusable(error)) => {
                    why = source_failure(&error, None);
                    self.listener.alarm(why.message());
                }
            }
        }
        Err(why)
    }

    fn header(&self, candidate: &Candidate<'_>, piece: &Piece) -> Result<Header, Failure> {
        let belongs = belongs(candidate.backup);
        let judged = self.any_copy(&piece.destinations, |store| head(store, &belongs, &piece.name))?;
        Ok(judged.head.header)
    }

    /// The last mark of a chain: until then it is known what was there.
    pub(super) fn end_of(&self, candidate: &Candidate<'_>) -> TimeMark {
        let tip = candidate.window.to;
        let plan = candidate.following.plan(tip).unwrap_or_default();
        let last = plan.last().and_then(|piece| self.header(candidate, piece).ok());
        let last = last.map_or(candidate.begin(), |header| header.last_mark);
        match candidate.following.marked_at(tip) {
            Some((time, _)) if time > last.time => TimeMark {
                revision: tip,
                time,
                uncertainty_ms: last.uncertainty_ms,
            },
            _ => last,
        }
    }

    /// The last mark at or before `time`, which is not before the full backup.
    ///
    /// Each host marks by its own clock, so that times go on only within what one of them has written. Where they differ, that
    /// is told, and rather less is taken than what may have come behind `time`.
    pub(super) fn seek(&self, candidate: &Candidate<'_>, time: Timestamp) -> Result<Sought, Failure> {
        let (begin, tip) = (candidate.begin(), candidate.window.to);
        let plan = candidate.following.plan(tip);
        let plan = plan.map_err(|hole| Failure::new(Exit::NotFound, hole))?;
        let (mut found, mut latest, mut is_over) = (begin, begin, false);
        let mut apart: Option<(TimeMark, TimeMark)> = None;
        for of_one in plan.chunk_by(|one, next| epoch_of(one) == epoch_of(next)) {
            let Some((first, last)) = of_one.first().zip(of_one.last()) else {
                continue;
            };
            let first_mark = self.header(candidate, first)?.first_mark;
            let last_mark = self.header(candidate, last)?.last_mark;
            let before = latest;
            let went_back = |mark: TimeMark| match mark.revision > before.revision {
                true => before.time.duration_since(mark.time),
                false => SignedDuration::ZERO,
            };
            for mark in [first_mark, last_mark] {
                let most = apart.map_or(CLOCKS_DIFFER, |(late, early)| late.time.duration_since(early.time));
                if went_back(mark) > most {
                    apart = Some((before, mark));
                }
                if mark.time > latest.time {
                    latest = mark;
                }
            }
            // What went back is behind what is marked later, and when it was is not known: only what comes behind it may tell.
            let is_doubtful =
                went_back(last_mark) > CLOCKS_DIFFER || (went_back(first_mark) > CLOCKS_DIFFER && time <= before.time);
            if is_over || is_doubtful {
                continue;
            }
            is_over = first_mark.time > time || last_mark.time > time;
            let of_these = match is_over {
                true => self.seek_in(candidate, of_one, time)?,
                false => Some(last_mark),
            };
            found = of_these.filter(|mark| mark.revision >= found.revision).unwrap_or(found);
        }
        if let Some((late, early)) = apart {
            self.listener.alarm(&format!(
                "the clocks of the hosts that wrote the deltas of {} differ by {} or more: revision {} is marked {}, and revision {} \
                 behind it {}; times there are no more exact than that, and --to-revision is",
                candidate.backup.id(),
                age(early.time, late.time),
                late.revision,
                rfc3339(late.time),
                early.revision,
                rfc3339(early.time),
            ));
        }
        let goes_on = is_over || found.time == time || self.end_of(candidate).time >= time;
        Ok(Sought { mark: found, goes_on })
    }

    /// The same among objects of one host, one of which begins or ends behind `time`.
    fn seek_in(
        &self,
        candidate: &Candidate<'_>,
        of_one: &[&Piece],
        time: Timestamp,
    ) -> Result<Option<TimeMark>, Failure> {
        // Those that begin before: half of what is left each time, as each head is asked for.
        let (mut low, mut high) = (0, of_one.len());
        let mut begun: Option<(Header, &Piece)> = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(piece) = of_one.get(middle) else { break };
            let header = self.header(candidate, piece)?;
            match header.first_mark.time <= time {
                true => {
                    begun = Some((header, piece));
                    low = middle + 1;
                }
                false => high = middle,
            }
        }
        match begun {
            None => Ok(None),
            Some((header, piece)) if header.last_mark.time > time => self.inside(candidate, piece, time),
            Some((header, _)) => Ok(Some(header.last_mark)),
        }
    }

    /// The last mark in an object at or before `time`.
    fn inside(&self, candidate: &Candidate<'_>, piece: &Piece, time: Timestamp) -> Result<Option<TimeMark>, Failure> {
        let belongs = belongs(candidate.backup);
        self.any_copy(&piece.destinations, |store| {
            let (mut ended, mut inside, mut fault) = (None, None, None);
            let mut pick = |header: &Header| match (header.first_mark.time <= time, header.last_mark.time <= time) {
                (false, _) => Pick::Stop,
                (true, false) => Pick::Read,
                (true, true) => {
                    ended = Some(header.last_mark);
                    Pick::PassOver
                }
            };
            let mut give = |records: DeltaRecords| {
                match last_mark(&records, time) {
                    Ok(mark) => inside = mark.or(inside),
                    Err(wrong) => fault = Some((records.name, wrong)),
                }
                ControlFlow::Break(())
            };
            let with = (self.identities.as_deref(), &Buffers::default());
            deltas_of(store, &belongs, &piece.name, with, &mut pick, &mut give)?;
            let found: Option<TimeMark> = inside.or(ended);
            match fault {
                None => Ok(found),
                Some((name, wrong)) => Err(Unread::of_records(name, &wrong)),
            }
        })
    }

    /// The mark of a revision, as far as the head of the object that ends with it tells.
    pub(super) fn mark_at(&self, candidate: &Candidate<'_>, revision: Revision) -> Option<TimeMark> {
        let plan = candidate.following.plan(revision).ok()?;
        let header = self.header(candidate, plan.last()?).ok()?;
        let mut marks = [header.last_mark, header.first_mark].into_iter();
        marks.find(|mark| mark.revision == revision)
    }

    /// The last deletion in a chain of what is meant.
    pub(super) fn deleted_in(
        &self,
        candidate: &Candidate<'_>,
        is_meant: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<Deleted>, Failure> {
        let (base, tip) = (candidate.window.from, candidate.window.to);
        if base == tip {
            return Ok(None);
        }
        let notes = Notes::default();
        let mut changes = self.chain(candidate).changes(base, tip, notes.clone());
        let (mut found, mut mark): (Option<Deleted>, Option<TimeMark>) = (None, Some(candidate.begin()));
        let mut seen = base;
        loop {
            let next = changes.next_delta().map_err(|error| source_failure(&error, None))?;
            notes.take().iter().for_each(|note| self.listener.alarm(note));
            let Some(records) = next else { break };
            let wrong = |fault: RecordFault| {
                let message = format!("{}: {fault}", records.name);
                Failure::new(Exit::Damaged, message).next("give a point with --to-revision or --to-time")
            };
            let mut decoder = Decoder::new(&records.plain, records.span).map_err(wrong)?;
            while let Some(record) = decoder.next().map_err(wrong)? {
                match record {
                    Record::Mark(at) => {
                        if let Some(found) = &mut found
                            && at.revision >= found.revision
                        {
                            found.after.get_or_insert(at);
                        }
                        mark = Some(at);
                    }
                    Record::Change(change)
                        if change.revision > seen && change.put.is_none() && is_meant(change.key) =>
                    {
                        found = Some(match found.take() {
                            Some(same) if same.revision == change.revision => Deleted {
                                keys: same.keys + 1,
                                ..same
                            },
                            before => Deleted::of(change.revision, change.key, mark, before),
                        });
                    }
                    Record::Change(_) | Record::Lease { .. } | Record::Checkpoint(_) => {}
                }
            }
            seen = seen.max(records.span.to());
        }
        Ok(found)
    }
}

/// Under which epoch an object was written.
fn epoch_of(piece: &Piece) -> Option<Epoch> {
    match piece.name {
        ObjectName::Delta(.., epoch) | ObjectName::Pack(.., epoch) => Some(epoch),
        _ => None,
    }
}

impl Deleted {
    fn of(revision: Revision, key: &[u8], mark: Option<TimeMark>, before: Option<Deleted>) -> Deleted {
        let earlier = before.map_or(Vec::new(), |mut before| {
            before.earlier.push((before.revision, before.keys));
            let more = before.earlier.len().saturating_sub(EARLIER);
            before.earlier.split_off(more)
        });
        Deleted {
            revision,
            before: mark.filter(|mark| mark.revision < revision),
            after: None,
            key: key.to_vec(),
            keys: 1,
            earlier,
        }
    }
}

/// The last mark in a delta at or before `time`.
fn last_mark(records: &DeltaRecords, time: Timestamp) -> Result<Option<TimeMark>, RecordFault> {
    let mut decoder = Decoder::new(&records.plain, records.span)?;
    let mut found = None;
    while let Some(record) = decoder.next()? {
        match record {
            Record::Mark(mark) if mark.time <= time => found = Some(mark),
            Record::Mark(_) => break,
            Record::Change(_) | Record::Lease { .. } | Record::Checkpoint(_) => {}
        }
    }
    Ok(found)
}
