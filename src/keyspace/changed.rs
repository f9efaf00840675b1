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
const DEAD: u32 = 0;
/// As `found`: there was nothing before.
const NOTHING: u32 = 1;
/// As `found`: something was there, whatever it was.
const SOMETHING: u32 = 2;

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
            0 => SOMETHING,
            1 => NOTHING,
            version => state(record.create_revision, version - 1),
        };
        let known = self.facts.get(key);
        let holds = match known {
            _ if before == SOMETHING => true,
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
        if known.is_none() && before > SOMETHING {
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
            None => {}
        }
        match known {
            // Where nothing is older, a key that went leaves nothing.
            _ if self.finished < 0 => self.facts.remove(key),
            _ => self.facts.insert(
                key,
                Fact {
                    place,
                    state: DEAD,
                    found: known.map_or(SOMETHING, |fact| fact.found),
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
        if fact.found > SOMETHING {
            self.awaited = self.awaited.saturating_sub(1);
        }
        if fact.found != SOMETHING && fact.found != state {
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
fn state(create_revision: i64, version: i64) -> u32 {
    let mixed = create_revision.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ version.cast_unsigned().wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    let digest = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
    (digest as u32).max(SOMETHING + 1)
}
