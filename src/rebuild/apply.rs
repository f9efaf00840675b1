//! The changes that follow a database, appended to its log, and what they are held to: no revision missing, each change
//! following what is before it, and what members have reported on the way.
//!
//! Invariant: only one delta is held at a time, and memory is that of [`Touched`].

mod held_to_reports;

use std::collections::BTreeMap;

use super::database::MISSING_LEASE_TTL_SECONDS;
use super::writeback::Growing;
use super::{Error, Listener, Progress, go_on};
use crate::bbolt::{self, BucketWriter, Report};
use crate::keyspace::{EntryKind, KeyValue, Lease, LeaseId, RevisionKey, Summary, Touched};
use crate::layout::delta::{Change, Decoder, Record};
use crate::model::{HashKv, Revision};
use crate::source::{Changes, DeltaRecords};

/// The most reports of members that are kept; of more every other one goes.
const CHECKPOINTS: usize = 1024;

/// What the changes behind a backup came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The revision of the backup itself.
    pub from: Revision,
    /// The last revision that was applied.
    pub to: Revision,
    /// How many revisions were applied.
    pub revisions: u64,
    /// How many puts and deletions they were.
    pub changes: u64,
    /// How many deltas they came in.
    pub deltas: u64,
    /// What members have reported of these revisions.
    pub checkpoints: Checkpoints,
}

/// HashKV as members reported it while the changes were recorded, against that of what was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checkpoints {
    /// How many there are for these revisions.
    pub found: u64,
    /// The last revision at which HashKV is the reported one: up to there nothing is missing and nothing is wrong.
    pub matched: Option<Revision>,
    /// What was reported of that one.
    pub report: Option<HashKv>,
    /// How many of later revisions than that one could not be compared: the database was compacted further than they were, or no
    /// key was alive.
    pub not_compared: u64,
}

/// What is wrong with changes.
#[derive(Debug)]
pub(super) struct Broken {
    /// In which delta.
    delta: Option<String>,
    /// Nothing where it is the first change of a key that does not follow what the database has.
    what: Option<String>,
    /// The revision it is found at.
    at: Revision,
    /// The last one before that is not in doubt.
    good: Revision,
}

/// A database that changes follow.
pub(super) struct Base<'a, 'f> {
    pub file: &'a bbolt::File<'f>,
    pub report: &'a Report,
    pub summary: &'a Summary,
    /// Leases that keys hang on and that have no entry.
    pub dangling: &'a [Lease],
}

/// What was written behind a database.
pub(super) struct Appended {
    pub applied: Applied,
    /// Where changes were given up, or should have been.
    pub broken: Option<Broken>,
    /// Leases that keys hang on now and whose time to live nobody knows: they were given one.
    pub guessed: Vec<LeaseId>,
    /// Where it is to be found out which change does not follow what the database has.
    touched: Option<Touched>,
    /// By revision.
    checkpoints: Vec<HashKv>,
}

/// Writes the changes behind the pages of `base`, of which `sink` is the file.
pub(super) fn append(
    base: &Base<'_, '_>,
    sink: Growing,
    mut changes: Changes,
    listener: Listener<'_>,
) -> Result<(bbolt::Unsealed<Growing>, Appended), Error> {
    let mut writer = bbolt::Writer::over(sink, base.file, base.report).map_err(Error::Build)?;
    let has_log = base.file.bucket(b"key").map_err(Error::Build)?.is_some();
    let log = match has_log {
        true => writer.extend(b"key"),
        false => writer.bucket(b"key"),
    };
    let mut stream = Stream::begin(base, log.map_err(Error::Build)?, changes.to());
    let broken = stream.take_all(&mut changes, listener)?;
    drop(changes);
    let Stream { log, mut learned, .. } = stream;
    log.finish().map_err(Error::Build)?;
    let unfounded = learned.held_to_base(base)?;
    let guessed = learned.write_others(base, &mut writer).map_err(Error::Build)?;
    let unsealed = writer.finish().map_err(Error::Build)?;
    let broken = broken.into_iter().chain(unfounded);
    let broken = broken.min_by_key(|broken| (broken.good, broken.at));
    learned.checkpoints.sort_by_key(|report| report.revision);
    let appended = Appended {
        applied: learned.applied,
        guessed,
        touched: broken
            .as_ref()
            .filter(|broken| broken.what.is_none())
            .map(|_| learned.touched),
        broken,
        checkpoints: learned.checkpoints,
    };
    Ok((unsealed, appended))
}

/// Changes on their way into the log.
struct Stream<'w, 'f> {
    log: BucketWriter<'w, 'f, Growing>,
    to: Revision,
    learned: Learned,
    /// Room for an entry.
    key: Vec<u8>,
    value: Vec<u8>,
}

/// What is known once changes have passed.
struct Learned {
    applied: Applied,
    touched: Touched,
    /// The time to live of leases, in seconds, as it was last known.
    granted: BTreeMap<i64, i64>,
    checkpoints: Vec<HashKv>,
}

/// Why a delta was not taken to its end.
enum Stop {
    Broken(Broken),
    Failed(Error),
}

impl<'w, 'f> Stream<'w, 'f> {
    fn begin(base: &Base<'_, '_>, log: BucketWriter<'w, 'f, Growing>, to: Revision) -> Self {
        let from = base.summary.revision();
        Stream {
            log,
            to,
            learned: Learned {
                applied: Applied {
                    from,
                    to: from,
                    revisions: 0,
                    changes: 0,
                    deltas: 0,
                    checkpoints: Checkpoints::default(),
                },
                touched: Touched::after(from),
                granted: BTreeMap::new(),
                checkpoints: Vec::new(),
            },
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Takes all changes, or as many as there are before the first that is wrong.
    fn take_all(&mut self, changes: &mut Changes, listener: Listener<'_>) -> Result<Option<Broken>, Error> {
        loop {
            let Applied { from, to, .. } = self.learned.applied;
            let done = (to.get() - from.get()).unsigned_abs();
            let of = self.to.get().saturating_sub(from.get()).max(0).unsigned_abs();
            go_on(listener, Progress::Applying { revisions: done, of })?;
            let Some(delta) = changes.next_delta().map_err(Error::Source)? else {
                break;
            };
            match self.take(&delta) {
                Ok(()) => {}
                Err(Stop::Broken(broken)) => return Ok(Some(broken)),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        let last = self.learned.applied.to;
        let short = (last < self.to).then(|| Broken {
            delta: None,
            what: Some(format!("they end with revision {last}, and {} is meant", self.to)),
            at: last.next(),
            good: last,
        });
        Ok(short)
    }

    fn take(&mut self, delta: &DeltaRecords) -> Result<(), Stop> {
        let last = self.learned.applied.to;
        if delta.span.to() <= last {
            self.learned.reports_of(delta);
            return Ok(());
        }
        if delta.span.from() > last.next() && last < self.to {
            return Err(Stop::Broken(Broken {
                delta: Some(delta.name.clone()),
                what: Some(format!(
                    "it begins with revision {}, and {} is missing",
                    delta.span.from(),
                    last.next()
                )),
                at: last.next(),
                good: last,
            }));
        }
        self.learned.applied.deltas += 1;
        let mut decoder =
            Decoder::new(&delta.plain, delta.span).map_err(|error| self.unread(&delta.name, last, &error))?;
        loop {
            match decoder.next() {
                Ok(Some(Record::Change(change))) => self.change(&delta.name, &change, last)?,
                Ok(Some(Record::Lease { id, granted_ttl })) => self.learned.lease(id, granted_ttl),
                Ok(Some(Record::Checkpoint(hash))) => self.learned.checkpoint(hash, self.to),
                Ok(Some(Record::Mark(_))) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.unread(&delta.name, last, &error)),
            }
        }
    }

    /// Takes the next change, if it is one of those that are wanted and behind the revision `known`.
    fn change(&mut self, delta: &str, change: &Change<'_>, known: Revision) -> Result<(), Stop> {
        if change.revision <= known || change.revision > self.to {
            return Ok(());
        }
        let kind = match change.put {
            Some(_) => EntryKind::Put,
            None => EntryKind::Tombstone,
        };
        let (revision, applied) = (change.revision, &mut self.learned.applied);
        let broken = |what: String, good| {
            Stop::Broken(Broken {
                delta: Some(delta.to_owned()),
                what: Some(what),
                at: revision,
                good,
            })
        };
        let at = RevisionKey::new(revision, change.sub, kind).map_err(|error| broken(error.to_string(), applied.to))?;
        let record = match change.put {
            None => KeyValue::tombstone(change.key),
            Some(put) => KeyValue {
                key: change.key,
                create_revision: put.create_revision.get(),
                mod_revision: revision.get(),
                version: put.version,
                value: put.value,
                lease: put.lease,
            },
        };
        self.learned.touched.change(at, &record).map_err(|life| {
            let what = life.what.unwrap_or_default();
            broken(follows_nothing(&what, revision), life.good)
        })?;
        if change.sub == 0 {
            applied.revisions += 1;
        }
        applied.changes += 1;
        applied.to = revision;
        self.key.clear();
        self.value.clear();
        at.encode_into(&mut self.key);
        record.encode_into(&mut self.value);
        let put = self.log.put(&self.key, &self.value);
        put.map_err(|error| Stop::Failed(Error::Build(error)))
    }

    /// A delta that does not read, which was begun after the revision `before`: of the last revision that came of it more
    /// may be missing.
    #[cold]
    fn unread(&self, delta: &str, before: Revision, error: &dyn std::fmt::Display) -> Stop {
        let last = self.learned.applied.to;
        let (at, good) = match last > before {
            true => (last, Revision::new(last.get() - 1).unwrap_or(before)),
            false => (last.next(), last),
        };
        Stop::Broken(Broken {
            delta: Some(delta.to_owned()),
            what: Some(format!("it is damaged: {error}")),
            at,
            good,
        })
    }
}

impl Learned {
    fn lease(&mut self, id: i64, granted_ttl: u64) {
        // One that is gone is of no use to keys that hang on it at an earlier revision.
        if let Ok(seconds @ 1..) = i64::try_from(granted_ttl) {
            self.granted.insert(id, seconds);
        }
    }

    /// What members have reported in a delta of which no change is wanted. Where it does not read, nothing of it is needed.
    fn reports_of(&mut self, delta: &DeltaRecords) {
        let Ok(mut decoder) = Decoder::new(&delta.plain, delta.span) else {
            return;
        };
        while let Ok(Some(record)) = decoder.next() {
            if let Record::Checkpoint(hash) = record {
                self.checkpoint(hash, self.applied.to);
            }
        }
    }

    /// Keeps a report of a revision up to `to`. One may come late, when that revision was taken in before: it is computed of the
    /// log, which has it still.
    fn checkpoint(&mut self, hash: HashKv, to: Revision) {
        if hash.revision > to {
            return;
        }
        self.applied.checkpoints.found += 1;
        if self.checkpoints.len() >= CHECKPOINTS {
            let mut place = 0;
            self.checkpoints.retain(|_| {
                place += 1;
                place % 2 == 0
            });
        }
        self.checkpoints.push(hash);
    }

    /// Holds the first change of each key to what the database has.
    fn held_to_base(&mut self, base: &Base<'_, '_>) -> Result<Option<Broken>, Error> {
        let log = base.file.bucket(b"key").map_err(Error::Build)?;
        for entry in log.iter().flat_map(bbolt::Bucket::iter) {
            let (key, value) = entry.map_err(Error::Build)?;
            // What is malformed was found before.
            if let (Ok(at), Ok(record)) = (RevisionKey::decode(key), KeyValue::decode(value)) {
                self.touched.base_entry(at, &record);
            }
        }
        Ok(self.touched.first_broken().map(|life| Broken {
            delta: None,
            what: None,
            at: life.at,
            good: life.good,
        }))
    }

    /// All buckets but the log: they stay, but for leases. Returns those leases whose time to live is not known.
    fn write_others(
        &self,
        base: &Base<'_, '_>,
        writer: &mut bbolt::Writer<'_, Growing>,
    ) -> Result<Vec<LeaseId>, bbolt::Error> {
        let (leases, guessed) = self.leases(base);
        let is_changed = leases.len() != base.summary.leases.len()
            || base
                .summary
                .leases
                .iter()
                .any(|lease| leases.get(&lease.key()) != Some(lease));
        for bucket in base.file.buckets()? {
            match bucket?.0 {
                b"key" => {}
                b"lease" if is_changed => {}
                name => writer.keep(name)?,
            }
        }
        if is_changed {
            let mut bucket = writer.bucket(b"lease")?;
            for (key, lease) in leases {
                bucket.put(&key, &lease.encode())?;
            }
            bucket.finish()?;
        }
        Ok(guessed)
    }

    /// The leases of the database by key, with those that keys hang on now. A lease that was granted anew has the new time to
    /// live.
    fn leases(&self, base: &Base<'_, '_>) -> (BTreeMap<Vec<u8>, Lease>, Vec<LeaseId>) {
        let granted = |id: LeaseId| Some(Lease::granted(id, *self.granted.get(&id.0)?));
        let before = base.summary.leases.iter();
        let mut leases: BTreeMap<Vec<u8>, Lease> = before.map(|lease| (lease.key(), *lease)).collect();
        for lease in leases.values_mut() {
            // What was left of it at the full backup is over since; it is alive because it was kept alive.
            lease.remaining_seconds = 0;
            if let Some(anew) = granted(lease.id).filter(|anew| anew.ttl_seconds != lease.ttl_seconds) {
                *lease = anew;
            }
        }
        // Whether keys still hang on those is seen when all of the log is read.
        let dangling = base.dangling.iter().filter_map(|lease| granted(lease.id));
        leases.extend(dangling.map(|lease| (lease.key(), lease)));
        let mut guessed = Vec::new();
        for id in self.touched.leases() {
            let lease = granted(id).unwrap_or_else(|| Lease::granted(id, MISSING_LEASE_TTL_SECONDS));
            leases.entry(lease.key()).or_insert_with(|| {
                if !self.granted.contains_key(&id.0) {
                    guessed.push(id);
                }
                lease
            });
        }
        (leases, guessed)
    }
}

fn follows_nothing(change: &str, revision: Revision) -> String {
    format!("{change}, at revision {revision}, does not follow what is before it: a change is missing")
}

#[cfg(test)]
mod tests;
