//! Which user keys live at a point of the log, which entry is the last of each, and which leases they hang on.
//!
//! Invariant: 32 bytes per live key (a hash table holds up to twice that), whatever the keys' lengths and however
//! long the log is; deleted keys take nothing.
//! Invariant: keys are told apart by 128 bits of two keyed hashes, so nobody can choose keys that collide.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::crc::Run;
use super::lease::LeaseId;

/// The live keys of a log that is read in order.
#[derive(Debug, Default)]
pub(super) struct Live {
    hashers: (RandomState, RandomState),
    latest: HashMap<KeyHash, Latest, BuildFolded>,
    leases: Leases,
}

/// What is kept of a live key's last entry.
#[derive(Debug, Clone, Copy)]
struct Latest {
    /// The entry's place in the log.
    place: u32,
    crc: u32,
    len: u32,
    lease: LeaseSlot,
}

impl Live {
    /// The entry at `place` puts `key`; `sum` is the run of its bytes, if that is going to be wanted.
    pub(super) fn put(&mut self, key: &[u8], lease: Option<LeaseId>, place: u32, sum: Run) {
        let lease = self.leases.take(lease);
        // Entries are shorter than 4 GiB: bbolt has 32 bits for the length of a value.
        let latest = Latest {
            place,
            crc: sum.crc,
            len: sum.len as u32,
            lease,
        };
        if let Some(before) = self.latest.insert(self.hash(key), latest) {
            self.leases.release(before.lease);
        }
    }

    /// An entry deletes `key`.
    pub(super) fn delete(&mut self, key: &[u8]) {
        if let Some(before) = self.latest.remove(&self.hash(key)) {
            self.leases.release(before.lease);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.latest.len() as u64
    }

    /// Place and length of the last entry of each live key, in no order.
    pub(super) fn last_entries(&self) -> impl Iterator<Item = (u32, u32)> {
        self.latest.values().map(|latest| (latest.place, latest.len))
    }

    /// The last entries of live keys, joined in order of the log: for each of the ascending `bounds` those at places
    /// below it.
    pub(super) fn joined_below(&self, bounds: &[u32]) -> Vec<Run> {
        let end = bounds.last().copied().unwrap_or_default();
        let mut entries: Vec<_> = self
            .latest
            .values()
            .filter(|latest| latest.place < end)
            .map(|latest| (latest.place, latest.crc, latest.len))
            .collect();
        entries.sort_unstable_by_key(|(place, ..)| *place);
        let mut entries = entries.into_iter().peekable();
        let mut joined = Run::default();
        let below = |bound: &u32| {
            while let Some((_, crc, len)) = entries.next_if(|(place, ..)| place < bound) {
                joined.join(Run {
                    crc,
                    len: u64::from(len),
                });
            }
            joined
        };
        bounds.iter().map(below).collect()
    }

    /// The leases that live keys hang on, by id, each with how many keys.
    pub(super) fn leases(&self) -> Vec<(LeaseId, u64)> {
        let mut leases: Vec<_> = self
            .leases
            .counts
            .iter()
            .filter_map(|(id, keys)| Some(((*id)?, *keys)))
            .collect();
        leases.sort_unstable();
        leases
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(self.hashers.0.hash_one(key), self.hashers.1.hash_one(key))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeyHash(u64, u64);

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Takes the hash as it is: it is a keyed hash already.
#[derive(Debug, Clone, Copy, Default)]
struct BuildFolded;

impl BuildHasher for BuildFolded {
    type Hasher = Folded;
    fn build_hasher(&self) -> Folded {
        Folded(0)
    }
}

struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .iter()
            .fold(self.0, |sum, &byte| sum.rotate_left(8) ^ u64::from(byte));
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A place in `Leases::counts`; the first is for keys without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LeaseSlot(u32);

/// The leases in use, each with the number of its keys.
#[derive(Debug)]
struct Leases {
    slots: HashMap<LeaseId, LeaseSlot>,
    counts: Vec<(Option<LeaseId>, u64)>,
    /// Places whose lease has no key left.
    free: Vec<LeaseSlot>,
}

impl Default for Leases {
    fn default() -> Self {
        Leases {
            slots: HashMap::new(),
            counts: vec![(None, 0)],
            free: Vec::new(),
        }
    }
}

impl Leases {
    fn take(&mut self, lease: Option<LeaseId>) -> LeaseSlot {
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

    fn release(&mut self, slot: LeaseSlot) {
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
    use super::*;

    #[test]
    fn a_live_key_takes_32_bytes() {
        assert_eq!(size_of::<(KeyHash, Latest)>(), 32);
    }

    #[test]
    fn leases_are_those_of_the_last_put_of_live_keys() {
        let mut live = Live::default();
        let run = Run::default();
        live.put(b"a", Some(LeaseId(7)), 0, run);
        live.put(b"b", Some(LeaseId(7)), 1, run);
        live.put(b"c", Some(LeaseId(-1)), 2, run);
        assert_eq!(live.leases(), [(LeaseId(-1), 1), (LeaseId(7), 2)]);
        live.put(b"a", None, 3, run);
        live.delete(b"c");
        live.delete(b"never there");
        assert_eq!(live.leases(), [(LeaseId(7), 1)]);
        live.put(b"c", Some(LeaseId(9)), 4, run);
        live.put(b"c", Some(LeaseId(9)), 5, run);
        assert_eq!(live.leases(), [(LeaseId(7), 1), (LeaseId(9), 1)]);
        assert_eq!(live.count(), 3);
    }

    #[test]
    fn only_last_entries_below_a_bound_are_joined() {
        let mut live = Live::default();
        for (place, (key, bytes)) in [("a", "one"), ("b", "two"), ("a", "three"), ("c", "four")]
            .into_iter()
            .enumerate()
        {
            live.put(key.as_bytes(), None, place as u32, Run::of(bytes.as_bytes()));
        }
        let below = live.joined_below(&[0, 2, 3, 9]);
        let expected = ["", "two", "twothree", "twothreefour"].map(|text| Run::of(text.as_bytes()));
        assert_eq!(below, expected);
    }
}
