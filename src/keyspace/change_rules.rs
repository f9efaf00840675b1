//! What changes that follow a database say of the keys before them, held against one another and against the database.
//!
//! Each put repeats the revision that the life of its key began at and adds one to the version before it, and only what
//! lives is deleted. So a change that got lost shows in the next one of its key.
//!
//! Invariant: 32 bytes for a key that is changed, in a table that is two thirds full at least, however many keys there are
//! and however often they change.

use super::changed::{A_PUT, DEAD, state};
use super::fingerprints::{Facts, LeaseSlot, Leases};
use super::lease::LeaseId;
use super::printable;
use super::record::KeyValue;
use super::revision::{EntryKind, RevisionKey};
use crate::model::Revision;

/// What is known of a key that is changed.
#[derive(Debug, Clone, Copy, Default)]
struct Touch {
    /// Its first and its last change, counted from the revision of the database.
    first: u32,
    last: u32,
    /// What its first change says that it was before.
    found: u32,
    /// What its last change leaves it as.
    state: u32,
    /// What the database has it as.
    base: u32,
    /// The lease it hangs on.
    lease: LeaseSlot,
}

/// A change that does not follow what is before it: at least one of its key is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenLife {
    /// The revision of the change.
    pub at: Revision,
    /// The last revision before it that is not in doubt: what is missing comes later.
    pub good: Revision,
    /// What it says, if its key is known.
    pub what: Option<String>,
}

/// The keys that changes touch.
#[derive(Debug)]
pub struct Touched {
    base: Revision,
    touches: Facts<Touch>,
    leases: Leases,
}

impl Touched {
    /// Begins behind a database of this revision.
    pub fn after(base: Revision) -> Touched {
        Touched {
            base,
            touches: Facts::default(),
            leases: Leases::default(),
        }
    }

    /// Takes in the next change.
    ///
    /// Fails where it does not follow an earlier one of its key.
    pub fn change(&mut self, at: RevisionKey, record: &KeyValue<'_>) -> Result<(), BrokenLife> {
        let main = at.main().get();
        let is_put = at.kind() == EntryKind::Put;
        let found = match (is_put, record.version) {
            (false, _) => A_PUT,
            (true, 1) => DEAD,
            (true, version) => state(record.create_revision, version.saturating_sub(1)),
        };
        // What begins a life names itself as its beginning.
        let is_sane = !is_put || record.version > 1 || (record.version == 1 && record.create_revision == main);
        let key = self.touches.fingerprint(record.key);
        let known = self.touches.get(key);
        let follows = known.is_none_or(|known| is_met(found, known.state));
        if !is_sane || !follows {
            return Err(self.broken(at, record, known));
        }
        let offset = self.offset(at);
        let lease = match is_put {
            true => self.leases.take(record.lease()),
            false => LeaseSlot::NONE,
        };
        if let Some(known) = known {
            self.leases.release(known.lease);
        }
        let touch = Touch {
            first: known.map_or(offset, |known| known.first),
            last: offset,
            found: known.map_or(found, |known| known.found),
            state: match is_put {
                true => state(record.create_revision, record.version),
                false => DEAD,
            },
            base: DEAD,
            lease,
        };
        self.touches.insert(key, touch);
        Ok(())
    }

    /// Takes in the next entry of the database, in order and after all changes.
    pub fn base_entry(&mut self, at: RevisionKey, record: &KeyValue<'_>) {
        let key = self.touches.fingerprint(record.key);
        if let Some(touch) = self.touches.get_mut(key) {
            touch.base = match at.kind() {
                EntryKind::Put => state(record.create_revision, record.version),
                EntryKind::Tombstone => DEAD,
            };
        }
    }

    /// The first change that does not follow what the database has, once all entries of that were told.
    pub fn first_broken(&self) -> Option<BrokenLife> {
        let broken = self.touches.iter().filter(|touch| !is_met(touch.found, touch.base));
        let first = broken.map(|touch| touch.first).min()?;
        Some(BrokenLife {
            at: self.revision(first),
            good: self.base,
            what: None,
        })
    }

    /// Whether this is the first change of its key, and does not follow what the database has.
    pub fn is_broken(&self, at: RevisionKey, record: &KeyValue<'_>) -> bool {
        let touch = self.touches.get(self.touches.fingerprint(record.key));
        touch.is_some_and(|touch| touch.first == self.offset(at) && !is_met(touch.found, touch.base))
    }

    /// The leases that keys hang on which were changed and live.
    pub fn leases(&self) -> impl Iterator<Item = LeaseId> {
        self.leases.counted().into_iter().map(|(lease, _)| lease)
    }

    #[cold]
    fn broken(&self, at: RevisionKey, record: &KeyValue<'_>, known: Option<Touch>) -> BrokenLife {
        BrokenLife {
            at: at.main(),
            // What is missing may be of the same revision as the last change that is there.
            good: known.map_or(self.base, |known| self.revision(known.last.saturating_sub(1))),
            what: Some(told(at, record)),
        }
    }

    /// How far it is from the database; what is farther than 32 bits say is only told less exactly.
    fn offset(&self, at: RevisionKey) -> u32 {
        u32::try_from(at.main().get() - self.base.get()).unwrap_or(u32::MAX)
    }

    fn revision(&self, offset: u32) -> Revision {
        Revision::new(self.base.get().saturating_add(i64::from(offset))).unwrap_or(self.base)
    }
}

/// A change that is missing what it follows, for people.
pub fn told(at: RevisionKey, record: &KeyValue<'_>) -> String {
    let key = printable(record.key);
    match at.kind() {
        EntryKind::Put => format!(
            "a put of key `{key}` as version {} of a life since revision {}",
            record.version, record.create_revision
        ),
        EntryKind::Tombstone => format!("a deletion of key `{key}`"),
    }
}

/// Whether a key in some state is as a change has found it.
fn is_met(found: u32, state: u32) -> bool {
    match found {
        A_PUT => state != DEAD,
        found => state == found,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::changed::tests::{Entry, compacted, log};
    use super::*;

    /// What is wrong with `changes` behind `base`, a database of revision `at`.
    fn broken(base: &[Entry], at: i64, changes: &[Entry]) -> Option<BrokenLife> {
        let mut touched = Touched::after(Revision::new(at).unwrap());
        let mut first: Option<BrokenLife> = None;
        for entry in changes {
            let (key, value) = entry.bytes();
            let (at, record) = (RevisionKey::decode(&key).unwrap(), KeyValue::decode(&value).unwrap());
            first = touched.change(at, &record).err();
            if first.is_some() {
                break;
            }
        }
        for entry in base {
            let (key, value) = entry.bytes();
            let (at, record) = (RevisionKey::decode(&key).unwrap(), KeyValue::decode(&value).unwrap());
            touched.base_entry(at, &record);
        }
        touched
            .first_broken()
            .into_iter()
            .chain(first)
            .min_by_key(|broken| broken.at)
    }

    proptest! {
        #[test]
        fn what_a_store_does_follows_whatever_a_compaction_has_left(log in log(), split in 1..40_i64, compaction in -1..40_i64) {
            let (base, changes): (Vec<Entry>, Vec<Entry>) = log.iter().copied().partition(|entry| entry.main <= split);
            let compaction = compaction.min(split);
            let base = compacted(&base, compaction, compaction);
            prop_assert_eq!(broken(&base, split, &changes), None);
        }

        #[test]
        fn what_is_lost_is_seen_by_the_next_change_of_its_key(
            log in log(), split in 1..40_i64, place in any::<prop::sample::Index>(),
        ) {
            let (base, mut changes): (Vec<Entry>, Vec<Entry>) = log.iter().copied().partition(|entry| entry.main <= split);
            prop_assume!(!changes.is_empty());
            let lost = changes.remove(place.index(changes.len()));
            let of_key = |entry: &&Entry| entry.key == lost.key;
            let before = log.iter().filter(of_key).rfind(|entry| entry.main < lost.main);
            let after = log.iter().filter(of_key).find(|entry| entry.main > lost.main);
            // A put that is deleted says nothing more to what follows, if its key lived before.
            let says_nothing = before.is_some_and(|entry| entry.life.is_some())
                && lost.life.is_some()
                && after.is_some_and(|entry| entry.life.is_none());
            let expected = after.filter(|_| !says_nothing).map(|after| {
                (after.main, before.map_or(split, |before| (before.main - 1).max(split)))
            });
            let found = broken(&base, split, &changes).map(|broken| (broken.at.get(), broken.good.get()));
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_key_takes_32_bytes() {
        assert_eq!(size_of::<(u64, Touch)>(), 32);
    }

    #[test]
    fn leases_are_those_of_keys_that_live() {
        let mut touched = Touched::after(Revision::new(5).unwrap());
        let mut change = |main, key: &[u8], life: Option<(i64, i64)>| {
            let kind = if life.is_some() {
                EntryKind::Put
            } else {
                EntryKind::Tombstone
            };
            let at = RevisionKey::new(Revision::new(main).unwrap(), 0, kind).unwrap();
            let mut record = KeyValue::tombstone(key);
            if let Some((version, lease)) = life {
                record = KeyValue {
                    create_revision: 6,
                    mod_revision: main,
                    version,
                    lease,
                    ..record
                };
            }
            touched.change(at, &record).unwrap();
        };
        change(6, b"a", Some((1, 10)));
        change(7, b"a", Some((2, 11)));
        change(8, b"a", Some((3, 0)));
        change(9, b"a", Some((4, 12)));
        let leases = |touched: &Touched| touched.leases().map(|lease| lease.0).collect::<Vec<_>>();
        assert_eq!(leases(&touched), [12]);
        let at = RevisionKey::new(Revision::new(10).unwrap(), 0, EntryKind::Tombstone).unwrap();
        touched.change(at, &KeyValue::tombstone(b"a")).unwrap();
        assert_eq!(leases(&touched), [0; 0]);
    }
}
