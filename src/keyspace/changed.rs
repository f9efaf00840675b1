//! The keys that the log changes after its last finished compaction, found by reading that part of it in order.
//!
//! Up to a finished compaction the log holds one entry of each key, the last one. So all that is to be known of a log
//! beside its bytes lies behind that: which entries count, how many keys live, which leases they hang on, whether the
//! lives of keys hold together. A life begins with version 1 and ends with a tombstone; each put of it adds one to the
//! version and repeats the revision that the life began at. A compaction takes entries of a key from the oldest on, so what
//! is left of a life is its end, without a gap.
//!
//! Invariant: memory for the keys that changed, however many live and however long the log is.

use super::fingerprints::{Fact, Facts, Fingerprint, LeaseSlot, Leases};
use super::lease::LeaseId;
use super::meta::CompactionMarks;
use super::record::KeyValue;
use super::revision::{EntryKind, RevisionKey};
use super::{Error, printable};
use crate::text::count;

/// How many broken lives are named; the others are only counted.
const NAMED: usize = 10;

/// The states of a key beside the digests of puts.
pub(super) const DEAD: u32 = 0;
/// As `found`: there was nothing before.
const NOTHING: u32 = 1;
/// As `found`: there may have been anything.
const ANYTHING: u32 = 2;
/// As `found`: there was a put, whichever.
pub(super) const A_PUT: u32 = 3;

/// Lives of keys that do not hold together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokenLives {
    /// The first of them.
    pub named: Vec<String>,
    /// How many there are.
    pub count: u64,
}

/// What a part of a log changes.
#[derive(Debug)]
pub struct Changed {
    facts: Facts,
    leases: Leases,
    /// How far entries may be missing, and how far only last ones are left.
    compacted: i64,
    finished: i64,
    places: u32,
    live: u64,
    /// Of the keys that were last changed before: how many live.
    older: u64,
    /// How many keys must have a put from before, of which so many are still to be seen.
    awaited: u64,
    broken: BrokenLives,
    last: Option<RevisionKey>,
}

impl Changed {
    /// Begins with the first entry after the last finished compaction.
    pub(super) fn since(marks: CompactionMarks) -> Self {
        Changed {
            facts: Facts::default(),
            leases: Leases::default(),
            compacted: marks.compact_revision(),
            finished: marks.finished_revision(),
            places: 0,
            live: 0,
            older: 0,
            awaited: 0,
            broken: BrokenLives::default(),
            last: None,
        }
    }

    /// Reads `entries`, of which those up to `until` that are after the last finished compaction count. What is malformed is
    /// passed over.
    pub fn of<'a>(marks: CompactionMarks, until: i64, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut changed = Changed::since(marks);
        for (key, value) in entries {
            let (Ok(at), Ok(record)) = (RevisionKey::decode(key), KeyValue::decode(value)) else {
                continue;
            };
            let main = at.main().get();
            if main > until {
                break;
            }
            if main > changed.finished
                && changed.last.is_none_or(|last| at > last)
                && changed.entry(at, &record).is_err()
            {
                break;
            }
        }
        changed
    }

    /// Takes in the next entry after the last finished compaction, and returns its place.
    pub(super) fn entry(&mut self, at: RevisionKey, record: &KeyValue<'_>) -> Result<u32, Error> {
        let place = self.places;
        self.places = place.checked_add(1).ok_or(Error::TooManyEntries { limit: u32::MAX })?;
        self.last = Some(at);
        let key = self.facts.fingerprint(record.key);
        match at.kind() {
            EntryKind::Put => self.put(key, at, record, place),
            EntryKind::Tombstone => self.delete(key, at, record, place),
        }
        Ok(place)
    }

    fn put(&mut self, key: Fingerprint, at: RevisionKey, record: &KeyValue<'_>, place: u32) {
        let before = match record.version {
            // An entry that a raised revision left: no life, and what was there before does not matter.
            0 => ANYTHING,
            1 => NOTHING,
            version => state(record.create_revision, version - 1),
        };
        let known = self.facts.get(key);
        let holds = match known {
            _ if before == ANYTHING => true,
            Some(fact) if fact.state == DEAD => before == NOTHING,
            Some(fact) => before == fact.state,
            // What it follows may have been compacted away, or be found later.
            None => before == NOTHING || record.create_revision <= self.compacted,
        };
        if !holds {
            let what = format!(
                "version {} of a life since revision {}",
                record.version, record.create_revision
            );
            self.break_off(at, record.key, &what);
        }
        let lease = self.leases.take(record.lease());
        match known {
            Some(fact) if fact.state != DEAD => self.leases.release(fact.lease),
            Some(_) | None => self.live += 1,
        }
        if known.is_none() && before >= A_PUT {
            self.awaited += 1;
        }
        let fact = Fact {
            place,
            state: state(record.create_revision, record.version),
            found: known.map_or(before, |fact| fact.found),
            lease,
        };
        self.facts.insert(key, fact);
    }

    fn delete(&mut self, key: Fingerprint, at: RevisionKey, record: &KeyValue<'_>, place: u32) {
        let known = self.facts.get(key);
        match known {
            Some(fact) if fact.state != DEAD => {
                self.leases.release(fact.lease);
                self.live -= 1;
            }
            Some(_) => self.break_off(at, record.key, "a deletion"),
            None if at.main().get() > self.compacted && self.finished < 0 => {
                self.break_off(at, record.key, "a deletion");
            }
            None => self.awaited += 1,
        }
        match known {
            // Where nothing is older, a key that went leaves nothing.
            _ if self.finished < 0 => self.facts.remove(key),
            _ => self.facts.insert(
                key,
                Fact {
                    place,
                    state: DEAD,
                    found: known.map_or(A_PUT, |fact| fact.found),
                    lease: LeaseSlot::NONE,
                },
            ),
        }
    }

    #[cold]
    fn break_off(&mut self, at: RevisionKey, key: &[u8], what: &str) {
        if self.broken.named.len() < NAMED {
            let (revision, key) = (at.main(), printable(key));
            self.broken.named.push(format!(
                "key `{key}`: {what} at revision {revision} does not follow what is before it"
            ));
        }
        self.broken.count += 1;
    }

    /// Whether a put is the last entry of its key; `place` is what [`Changed::entry`] returned for it.
    #[inline]
    pub(super) fn is_last(&self, record: &KeyValue<'_>, place: u32) -> bool {
        let fact = self.facts.get(self.facts.fingerprint(record.key));
        fact.is_some_and(|fact| fact.place == place && fact.state != DEAD)
    }

    /// Takes in a put from before all that was read, once that has been: whether it is the last entry of its key.
    #[inline]
    pub(super) fn older(&mut self, at: RevisionKey, record: &KeyValue<'_>) -> bool {
        let key = self.facts.fingerprint(record.key);
        let Some(fact) = self.facts.get(key) else {
            self.older += 1;
            self.leases.take(record.lease());
            return true;
        };
        let state = state(record.create_revision, record.version);
        if fact.found >= A_PUT {
            self.awaited = self.awaited.saturating_sub(1);
        }
        if fact.found != ANYTHING && fact.found != A_PUT && fact.found != state {
            self.break_off(at, record.key, "what comes after the put");
        }
        false
    }

    /// How many keys live.
    pub(super) fn live(&self) -> u64 {
        self.live + self.older
    }

    /// The leases that live keys hang on, by id, each with how many keys.
    pub(super) fn leases(&self) -> Vec<(LeaseId, u64)> {
        self.leases.counted()
    }

    /// Lives that do not hold together.
    pub(super) fn broken(mut self) -> BrokenLives {
        // While a compaction goes on, puts from before may be gone already.
        if self.finished >= 0 && self.finished == self.compacted && self.awaited > 0 {
            let missing = format!(
                "of {} what they were at the compaction is missing",
                count(self.awaited, "key")
            );
            self.broken.named.push(missing);
            self.broken.count += self.awaited;
        }
        self.broken
    }
}

/// A digest of what a put leaves its key as; it need not be one that nobody can forge.
pub(super) fn state(create_revision: i64, version: i64) -> u32 {
    let mixed = create_revision.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ version.cast_unsigned().wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    let digest = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
    (digest as u32).max(A_PUT + 1)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::keyspace::replay::read;
    use crate::keyspace::{LiveKeys, Replayed};
    use crate::model::Revision;

    /// An entry: where it is, and what it says of a key.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::keyspace) struct Entry {
        pub(in crate::keyspace) main: i64,
        pub(in crate::keyspace) sub: i64,
        pub(in crate::keyspace) key: u8,
        /// Revision of the first put and version, or a deletion.
        pub(in crate::keyspace) life: Option<(i64, i64)>,
    }

    impl Entry {
        pub(in crate::keyspace) fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
            let kind = self.life.map_or(EntryKind::Tombstone, |_| EntryKind::Put);
            let at = RevisionKey::new(Revision::new(self.main).unwrap(), self.sub, kind).unwrap();
            let key = [self.key];
            let mut record = KeyValue::tombstone(&key);
            if let Some((create_revision, version)) = self.life {
                record = KeyValue {
                    create_revision,
                    mod_revision: self.main,
                    version,
                    ..record
                };
            }
            let mut value = Vec::new();
            record.encode_into(&mut value);
            (at.encode(), value)
        }
    }

    /// A log as etcd writes one: deletions only of what lives, and puts that count on.
    pub(in crate::keyspace) fn log() -> impl Strategy<Value = Vec<Entry>> {
        prop::collection::vec(prop::collection::btree_map(0..6_u8, 0..3_u8, 1..4), 0..40).prop_map(|revisions| {
            let mut lives = BTreeMap::new();
            let mut log: Vec<Entry> = Vec::new();
            let mut main = 2;
            for changes in revisions {
                let before = log.len();
                for (key, kind) in changes {
                    let life = match (kind, lives.get(&key)) {
                        (0, None) => continue,
                        (0, Some(_)) => None,
                        (_, None) => Some((main, 1)),
                        (_, Some((create, version))) => Some((*create, version + 1)),
                    };
                    match life {
                        None => lives.remove(&key),
                        Some(life) => lives.insert(key, life),
                    };
                    let sub = (log.len() - before) as i64;
                    log.push(Entry { main, sub, key, life });
                }
                main += i64::from(log.len() > before);
            }
            log
        })
    }

    /// What is left of a log when a compaction at `at` has come as far as `done`.
    pub(in crate::keyspace) fn compacted(log: &[Entry], at: i64, done: i64) -> Vec<Entry> {
        let mut last = BTreeMap::new();
        for entry in log.iter().filter(|entry| entry.main <= at) {
            last.insert(entry.key, *entry);
        }
        let stays = |entry: &&Entry| {
            let is_kept = last.get(&entry.key) == Some(entry) && entry.life.is_some();
            entry.main > at.min(done) || is_kept || (entry.main == at && entry.life.is_none())
        };
        log.iter().filter(stays).copied().collect()
    }

    fn replayed(log: &[Entry], finished: i64, scheduled: i64) -> Replayed {
        let marks = CompactionMarks {
            scheduled: Revision::new(scheduled).ok(),
            finished: Revision::new(finished).ok(),
        };
        let bytes: Vec<_> = log.iter().map(Entry::bytes).collect();
        let entries = |_| bytes.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        read(
            marks,
            LiveKeys::Counted,
            None,
            &[marks.compact_revision()],
            entries,
            |_| {},
        )
    }

    proptest! {
        #[test]
        fn lives_hold_together_however_far_a_compaction_has_come(
            log in log(), finished in -1..40_i64, scheduled in -1..40_i64, done in 0..40_i64,
        ) {
            let end = log.last().map_or(1, |entry| entry.main);
            let scheduled = scheduled.min(end);
            let finished = finished.min(scheduled);
            let left = compacted(&compacted(&log, finished, finished), scheduled, done);
            // A compaction that has come to its end is marked so.
            let finished = if done >= scheduled { scheduled } else { finished };
            let replayed = replayed(&left, finished, scheduled);
            prop_assert_eq!(&replayed.broken, &BrokenLives::default());
        }

        #[test]
        fn what_is_lost_behind_a_compaction_is_seen_by_what_follows_it(
            log in log(), finished in -1..40_i64, place in any::<prop::sample::Index>(),
        ) {
            let end = log.last().map_or(1, |entry| entry.main);
            let finished = finished.min(end);
            let mut left = compacted(&log, finished, finished);
            prop_assume!(!left.is_empty());
            let lost = left.remove(place.index(left.len()));
            let is_followed = left.iter().any(|entry| entry.key == lost.key && (entry.main, entry.sub) > (lost.main, lost.sub));
            let after = left.iter().find(|entry| entry.key == lost.key && (entry.main, entry.sub) > (lost.main, lost.sub));
            // A life that follows a whole one says nothing of it, and a deletion nothing of how often its key was put.
            let before = left.iter().rfind(|entry| entry.key == lost.key && (entry.main, entry.sub) < (lost.main, lost.sub));
            let says_nothing = match (before.map(|entry| entry.life.is_some()), after.and_then(|entry| entry.life)) {
                (Some(true), None) | (None | Some(false), Some((_, 1))) => true,
                (_, _) => lost.main <= finished && lost.life.is_none(),
            };
            let broken = replayed(&left, finished, finished).broken;
            prop_assert_eq!(broken.count > 0, is_followed && !says_nothing, "{:?} of {:?}: {:?}", lost, left, broken);
        }
    }

    #[test]
    fn a_broken_life_is_named() {
        let put = |main, life| Entry {
            main,
            sub: 0,
            key: b'k',
            life,
        };
        let log = [put(2, Some((2, 1))), put(4, Some((2, 3))), put(5, None), put(6, None)];
        let broken = replayed(&log, -1, -1).broken;
        assert_eq!(broken.count, 2);
        assert_eq!(
            broken.named,
            [
                "key `k`: version 3 of a life since revision 2 at revision 4 does not follow what is before it",
                "key `k`: a deletion at revision 6 does not follow what is before it"
            ]
        );
    }
}
