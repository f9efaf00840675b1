//! Facts about keys, found by a keyed hash of 64 bits: nobody can choose keys that collide, and among eight million keys
//! two do once in half a million times.
//!
//! Invariant: 24 bytes for a key, in a table that is two thirds full at least and never moved as a whole: a tenth more
//! than it holds is taken while a part of it grows.

use std::hash::{BuildHasher, RandomState};

use super::lease::LeaseId;

/// Parts of the table, each of which grows by itself.
const PARTS: usize = 256;

/// What is known of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fact {
    /// The place of its last entry.
    pub(super) place: u32,
    /// What its last entry leaves it as.
    pub(super) state: u32,
    /// What its first entry found it as.
    pub(super) found: u32,
    /// The lease it hangs on.
    pub(super) lease: LeaseSlot,
}

/// Facts by key.
#[derive(Debug)]
pub(super) struct Facts<F = Fact> {
    hasher: RandomState,
    parts: Vec<Part<F>>,
}

/// The hash of a key; never 0, which is that of a free place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl<F: Copy + Default> Default for Facts<F> {
    fn default() -> Self {
        Facts {
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| Part::default()).collect(),
        }
    }
}

impl<F: Copy + Default> Facts<F> {
    #[inline]
    pub(super) fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        Fingerprint(self.hasher.hash_one(key).max(1))
    }

    #[inline]
    pub(super) fn get(&self, key: Fingerprint) -> Option<F> {
        let part = &self.parts[key.part()];
        part.find(key.0).ok().map(|at| part.places[at].1)
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, key: Fingerprint) -> Option<&mut F> {
        let part = &mut self.parts[key.part()];
        part.find(key.0).ok().map(|at| &mut part.places[at].1)
    }

    /// Notes a fact, in place of what was known of that key.
    #[inline]
    pub(super) fn insert(&mut self, key: Fingerprint, fact: F) {
        self.parts[key.part()].insert(key.0, fact);
    }

    /// All facts, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = F> {
        let places = self.parts.iter().flat_map(|part| &part.places);
        places.filter(|(hash, _)| *hash != 0).map(|(_, fact)| *fact)
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, key: Fingerprint) {
        self.parts[key.part()].remove(key.0);
    }
}

impl Fingerprint {
    fn part(self) -> usize {
        (self.0 >> 56) as usize
    }
}

/// A table with linear probing.
#[derive(Debug, Default)]
struct Part<F> {
    places: Vec<(u64, F)>,
    used: usize,
}

impl<F: Copy + Default> Part<F> {
    /// Where a hash is looked for first.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        // Of the lower half, as a fraction of all places: they keep their order when the table grows.
        (((hash & u64::from(u32::MAX)) * self.places.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.places.len() { 0 } else { at + 1 }
    }

    /// Where it is, else where it would go; a table without places is full.
    #[inline]
    fn find(&self, hash: u64) -> Result<usize, usize> {
        if self.places.is_empty() {
            return Err(0);
        }
        let mut at = self.home(hash);
        loop {
            match self.places[at].0 {
                0 => return Err(at),
                found if found == hash => return Ok(at),
                _ => at = self.after(at),
            }
        }
    }

    fn insert(&mut self, hash: u64, fact: F) {
        match self.find(hash) {
            Ok(at) => self.places[at].1 = fact,
            Err(at) if (self.used + 1) * 5 <= self.places.len() * 4 => {
                self.places[at] = (hash, fact);
                self.used += 1;
            }
            Err(_) => {
                self.grow();
                self.insert(hash, fact);
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let places = self.places.len() + self.places.len() / 5 + 8;
        let before = std::mem::replace(&mut self.places, vec![(0, F::default()); places]);
        for place in before.into_iter().filter(|place| place.0 != 0) {
            if let Err(at) = self.find(place.0) {
                self.places[at] = place;
            }
        }
    }

    fn remove(&mut self, hash: u64) {
        let Ok(mut gap) = self.find(hash) else { return };
        self.used -= 1;
        // Those behind it that were pushed on by it move up.
        let mut at = gap;
        loop {
            at = self.after(at);
            if self.places[at].0 == 0 {
                break;
            }
            let home = self.home(self.places[at].0);
            let stays = match gap <= at {
                true => gap < home && home <= at,
                false => gap < home || home <= at,
            };
            if !stays {
                self.places[gap] = self.places[at];
                gap = at;
            }
        }
        self.places[gap] = (0, F::default());
    }
}

/// A place in `Leases::counts`; the first is for keys without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LeaseSlot(u32);

impl LeaseSlot {
    /// That of a key without a lease.
    pub(super) const NONE: LeaseSlot = LeaseSlot(0);
}

/// The leases in use, each with the number of its keys.
#[derive(Debug)]
pub(super) struct Leases {
    slots: std::collections::HashMap<LeaseId, LeaseSlot>,
    counts: Vec<(Option<LeaseId>, u64)>,
    /// Places whose lease has no key left.
    free: Vec<LeaseSlot>,
}

impl Default for Leases {
    fn default() -> Self {
        Leases {
            slots: std::collections::HashMap::new(),
            counts: vec![(None, 0)],
            free: Vec::new(),
        }
    }
}

impl Leases {
    /// Those that keys hang on, by id, each with how many.
    pub(super) fn counted(&self) -> Vec<(LeaseId, u64)> {
        let held = self.counts.iter().filter_map(|(id, keys)| Some(((*id)?, *keys)));
        let mut leases: Vec<_> = held.collect();
        leases.sort_unstable();
        leases
    }

    pub(super) fn take(&mut self, lease: Option<LeaseId>) -> LeaseSlot {
        let Some(id) = lease else {
            return LeaseSlot(0);
        };
        let slot = *self.slots.entry(id).or_insert_with(|| {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.counts.push((None, 0));
                // At most one lease per live key, and there are fewer than 2^32 of those.
                LeaseSlot((self.counts.len() - 1) as u32)
            });
            if let Some(count) = self.counts.get_mut(slot.0 as usize) {
                *count = (Some(id), 0);
            }
            slot
        });
        if let Some((_, keys)) = self.counts.get_mut(slot.0 as usize) {
            *keys += 1;
        }
        slot
    }

    pub(super) fn release(&mut self, slot: LeaseSlot) {
        let Some((holder, keys)) = self.counts.get_mut(slot.0 as usize) else {
            return;
        };
        let Some(id) = *holder else {
            return;
        };
        *keys = keys.saturating_sub(1);
        if *keys == 0 {
            self.slots.remove(&id);
            *holder = None;
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    fn fact(place: u32) -> Fact {
        Fact {
            place,
            ..Fact::default()
        }
    }

    #[test]
    fn a_key_takes_24_bytes_and_a_table_half_as_much_more() {
        assert_eq!(size_of::<(u64, Fact)>(), 24);
        let mut facts = Facts::<Fact>::default();
        for number in 0..200_000_u32 {
            let key = facts.fingerprint(&number.to_le_bytes());
            facts.insert(key, fact(number));
            assert_eq!(facts.get(key), Some(fact(number)));
        }
        let places: usize = facts.parts.iter().map(|part| part.places.len()).sum();
        assert!(places <= 300_000, "{places}");
        assert!(
            (0..200_000_u32)
                .all(|number| { facts.get(facts.fingerprint(&number.to_le_bytes())) == Some(fact(number)) })
        );
    }

    proptest! {
        #[test]
        fn a_part_is_a_map(steps in prop::collection::vec((any::<bool>(), 1_u64..60, any::<u32>()), 0..300)) {
            let (mut part, mut map) = (Part::<Fact>::default(), HashMap::new());
            for (inserts, hash, place) in steps {
                // Spread, and still close enough to each other to collide.
                let hash = ((hash % 12) << 30) | hash;
                if inserts {
                    part.insert(hash, fact(place));
                    map.insert(hash, place);
                } else {
                    part.remove(hash);
                    map.remove(&hash);
                }
                prop_assert_eq!(part.used, map.len());
            }
            for hash in (1_u64..60).map(|hash| ((hash % 12) << 30) | hash) {
                let found = part.find(hash).ok().map(|at| part.places[at].1.place);
                prop_assert_eq!(found, map.get(&hash).copied());
            }
        }
    }
}
