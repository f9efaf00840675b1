//! The log of a database that streams past, in the order of its pages: what HashKV needs of each entry is kept, nothing
//! else, and when all have passed and their order is known, it can be computed for any revision and compaction.
//!
//! HashKV is a CRC over the bytes of entries in order, some of them left out ([`super::replay`] has the rules). The CRC of
//! a sequence follows from those of its parts, so an entry leaves its CRC and its length, and a keyed hash of the user's
//! key, by which it is known whether a later entry has replaced it.
//!
//! Invariant: 20 bytes an entry, at most [`MOST_ENTRIES`] of them; no key and no value is kept.
//! Invariant: keys are told apart by 63 bits of a keyed hash, so nobody can choose keys that collide. Should two of ten
//! million do so by chance (once in 100 000 such backups), HashKV differs and the backup is not called proven.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::crc::Run;
use super::record::KeyValue;
use super::replay::KvHash;
use super::revision::{EntryKind, RevisionKey};
use crate::bbolt::{Entry, Leaves};

/// How many entries are kept: of more there is no HashKV. They take 160 MiB.
const MOST_ENTRIES: usize = 8 << 20;
/// Entries are kept in pieces of this length, so that no growing moves them all.
const PIECE: usize = 1 << 15;

/// The log of a database whose pages pass.
#[derive(Debug, Default)]
pub struct PassingLog {
    hasher: RandomState,
    pieces: Vec<Vec<Passed>>,
    len: usize,
    /// The revisions of entries that are too far from their leaf's first one, by place.
    far: HashMap<u32, i64>,
    /// Entries that are no records: their places.
    malformed: HashSet<u32>,
}

/// What is kept of an entry.
#[derive(Debug, Clone, Copy)]
struct Passed {
    /// The hash of the user's key; the lowest bit says that the entry deletes.
    key: [u32; 2],
    crc: u32,
    len: u32,
    /// How much later it is than the first of its leaf; `FAR` if that is in a place of its own.
    after_first: u32,
}

const FAR: u32 = u32::MAX;

/// The key of an entry as it orders: its revision, its place in it, and whether it deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogKey {
    main: [u32; 2],
    /// Twice the place, and one more where it deletes.
    sub: u32,
}

/// The entries of a leaf.
#[derive(Debug, Clone, Copy)]
pub struct LogLeaf {
    first: u32,
    /// At most 65 535: a page has no more.
    count: u16,
}

/// Keeps nothing of the log but where it ends.
#[derive(Debug)]
pub struct LastRevision;

impl Leaves for LastRevision {
    type Key = LogKey;
    type Leaf = ();

    fn key(&self, key: &[u8]) -> Option<LogKey> {
        LogKey::of(key)
    }

    fn leaf<'a>(&mut self, _: impl Iterator<Item = Entry<'a>>) -> Option<()> {
        Some(())
    }
}

impl LogKey {
    /// That of an entry with this key in the file; none where the log cannot have it.
    pub fn of(key: &[u8]) -> Option<LogKey> {
        let at = RevisionKey::decode(key).ok()?;
        let sub = u32::try_from(at.sub()).ok().filter(|sub| *sub < 1 << 31)?;
        Some(LogKey {
            main: halves(at.main().get()),
            sub: sub << 1 | u32::from(at.kind() == EntryKind::Tombstone),
        })
    }

    /// The revision.
    pub fn main(&self) -> i64 {
        let [high, low] = self.main;
        (i64::from(high) << 32) | i64::from(low)
    }
}

impl Leaves for PassingLog {
    type Key = LogKey;
    type Leaf = LogLeaf;

    fn key(&self, key: &[u8]) -> Option<LogKey> {
        LogKey::of(key)
    }

    fn leaf<'a>(&mut self, entries: impl Iterator<Item = Entry<'a>>) -> Option<LogLeaf> {
        let first = self.len;
        let mut first_main = None;
        for (key, value) in entries {
            let place = u32::try_from(self.len).ok().filter(|_| self.len < MOST_ENTRIES)?;
            let at = RevisionKey::decode(key).ok()?;
            let main = at.main().get();
            let first_main = *first_main.get_or_insert(main);
            let after_first = u32::try_from(main.wrapping_sub(first_main)).unwrap_or(FAR);
            if after_first == FAR {
                self.far.insert(place, main);
            }
            let mut run = Run::of(key);
            run.push(value);
            let users_key = match KeyValue::decode(value) {
                Ok(record) => record.key,
                Err(_) => {
                    self.malformed.insert(place);
                    &[]
                }
            };
            let hash = (self.hasher.hash_one(users_key) & !1) | u64::from(at.kind() == EntryKind::Tombstone);
            self.push(Passed {
                key: halves(hash.cast_signed()),
                crc: run.crc,
                // Entries are shorter than 4 GiB: bbolt has 32 bits for the length of a value.
                len: run.len as u32,
                after_first,
            });
        }
        Some(LogLeaf {
            first: u32::try_from(first).ok()?,
            count: u16::try_from(self.len - first).ok()?,
        })
    }
}

impl PassingLog {
    /// HashKV at revision `until` of a store with these leaves that is compacted at `compacted` (-1 for none). `None` where
    /// an entry is no record.
    ///
    /// `leaves` are all leaves of the log in order, and the entries as old as `compacted` that it needs are there: it must
    /// be no older than the compaction of the database.
    pub fn hash_kv<'a>(
        &self,
        leaves: impl DoubleEndedIterator<Item = (&'a LogKey, LogLeaf)>,
        until: i64,
        compacted: i64,
    ) -> Option<KvHash> {
        let mut seen: HashSet<u64, BuildHasherDefault<Folded>> = HashSet::default();
        let mut leaves = leaves.peekable();
        let has_old = leaves.peek().is_some_and(|(first, _)| first.main() <= compacted);
        // From the last to the first: an entry that is as old as the compaction counts if it is a put, and the last of its
        // key.
        let (mut kept, mut stored) = (Run::default(), Run::default());
        let (mut lives, mut old_is_stored) = (false, false);
        for (first, leaf) in leaves.rev() {
            for place in (leaf.first..leaf.first + u32::from(leaf.count)).rev() {
                let entry = self.at(place)?;
                let main = self.main_of(first, place, entry);
                if main > until {
                    continue;
                }
                if self.malformed.contains(&place) {
                    return None;
                }
                let run = Run {
                    crc: entry.crc,
                    len: u64::from(entry.len),
                };
                let hash = whole(entry.key).cast_unsigned();
                let is_put = hash & 1 == 0;
                let is_last = has_old && seen.insert(hash & !1);
                lives |= is_last && is_put;
                let is_young = main > compacted;
                if is_young || is_last && is_put {
                    kept = before(run, kept);
                }
                if is_young || main < compacted || is_put {
                    stored = before(run, stored);
                    old_is_stored |= !is_young;
                }
            }
        }
        let finished = |run: Run| before(Run::of(b"key"), run).crc;
        // Without a key that lives, etcd hashes what its compaction has not removed yet.
        let is_stable = lives || !old_is_stored;
        let hash = finished(if is_stable { kept } else { stored });
        Some(KvHash::of_passed(compacted, hash, is_stable))
    }

    /// How many entries have passed, those in no tree counted.
    pub fn entries(&self) -> usize {
        self.len
    }

    fn push(&mut self, entry: Passed) {
        match self.pieces.last_mut().filter(|piece| piece.len() < PIECE) {
            Some(piece) => piece.push(entry),
            None => {
                let mut piece = Vec::with_capacity(if self.pieces.is_empty() { 0 } else { PIECE });
                piece.push(entry);
                self.pieces.push(piece);
            }
        }
        self.len += 1;
    }

    fn at(&self, place: u32) -> Option<&Passed> {
        let place = place as usize;
        self.pieces.get(place / PIECE)?.get(place % PIECE)
    }

    fn main_of(&self, first: &LogKey, place: u32, entry: &Passed) -> i64 {
        match entry.after_first {
            FAR => self.far.get(&place).copied().unwrap_or(i64::MAX),
            after_first => first.main().saturating_add(i64::from(after_first)),
        }
    }
}

/// `first`, and then `rest`.
fn before(mut first: Run, rest: Run) -> Run {
    first.join(rest);
    first
}

fn halves(number: i64) -> [u32; 2] {
    let number = number.cast_unsigned();
    [(number >> 32) as u32, number as u32]
}

fn whole([high, low]: [u32; 2]) -> i64 {
    (u64::from(high) << 32 | u64::from(low)).cast_signed()
}

/// Takes the hash as it is: it is a keyed hash already.
#[derive(Debug, Clone, Copy, Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        // The table takes its tags from the upper bits and its places from the lower ones, of which the lowest is always 0.
        self.0.rotate_right(1)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bbolt::{File, Scanner, Writer};
    use crate::keyspace::replay::read;
    use crate::keyspace::{CompactionMarks, LiveKeys};
    use crate::model::Revision;

    /// What happens to one of a few keys, and by how much the revision rises before it.
    fn changes() -> impl Strategy<Value = Vec<(u8, bool, u8, u16)>> {
        proptest::collection::vec((0..12_u8, prop::bool::weighted(0.3), 0..4_u8, 0..3000_u16), 0..300)
    }

    /// The entries that these changes leave.
    fn log(changes: &[(u8, bool, u8, u16)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut main, mut sub) = (1, 0);
        let mut entries = Vec::new();
        for (key, deletes, rise, len) in changes {
            (main, sub) = match rise {
                0 if !entries.is_empty() => (main, sub + 1),
                rise => (main + 1 + i64::from(*rise), 0),
            };
            let kind = if *deletes { EntryKind::Tombstone } else { EntryKind::Put };
            let at = RevisionKey::new(Revision::new(main).unwrap(), sub, kind).unwrap();
            let name = [b'k', *key];
            let value = vec![*key; usize::from(*len)];
            let record = match deletes {
                true => KeyValue::tombstone(&name),
                false => KeyValue {
                    key: &name,
                    create_revision: main,
                    mod_revision: main,
                    version: 1,
                    value: &value,
                    lease: 0,
                },
            };
            let mut message = Vec::new();
            record.encode_into(&mut message);
            entries.push((at.encode(), message));
        }
        entries
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn what_passed_hashes_as_what_is_read(changes in changes(), chunk_len in 1..40_000_usize, page_size in 10..14_u32) {
            let entries = log(&changes);
            let mut writer = Writer::fresh(Vec::new(), 1 << page_size).unwrap();
            let mut bucket = writer.bucket(b"key").unwrap();
            entries.iter().for_each(|(key, value)| bucket.put(key, value).unwrap());
            bucket.finish().unwrap();
            let bytes = writer.finish().unwrap().seal().unwrap().0;
            let mut scanner = Scanner::new(b"key", &[], PassingLog::default());
            bytes.chunks(chunk_len).for_each(|chunk| scanner.push(chunk).unwrap());
            let scan = scanner.finish().unwrap();
            prop_assert!(scan.is_whole());
            let last = scan.last_key().map_or(0, LogKey::main);
            let file = File::open(&bytes).unwrap();
            for until in [0, last / 3, last - 1, last, last + 5].map(|until| until.max(0)) {
                for compacted in [-1, 0, 2, last / 4, last / 2, until] {
                    let log = |_| file.bucket(b"key").unwrap().unwrap().iter().map(Result::unwrap);
                    let at = Revision::new(until).ok();
                    let read = read(CompactionMarks::default(), LiveKeys::Ignored, at, &[compacted], log, |_| {});
                    let expected = read.hashes[0];
                    let found = scan.owner().hash_kv(scan.leaves(), until, compacted).unwrap();
                    prop_assert_eq!(found.hash, expected.hash, "until {}, compacted {}", until, compacted);
                    let agree = |other: u32| found.compared_with(other);
                    prop_assert_eq!(agree(expected.hash), expected.compared_with(expected.hash));
                    prop_assert_eq!(agree(expected.hash ^ 1), expected.compared_with(expected.hash ^ 1));
                }
            }
        }
    }

    #[test]
    fn revisions_far_apart_and_records_that_are_none() {
        let at = |main| RevisionKey::first_put(Revision::new(main).unwrap()).encode();
        let record = |key: &[u8]| [&[0x0a, key.len() as u8], key].concat();
        let far = i64::MAX - 7;
        let entries = [(at(2), record(b"a")), (at(3), record(b"b")), (at(far), Vec::new())];
        let mut log = PassingLog::default();
        let leaf = log
            .leaf(entries.iter().map(|(key, value)| (&key[..], &value[..])))
            .unwrap();
        let first = log.key(&entries[0].0).unwrap();
        let hash = |until| log.hash_kv([(&first, leaf)].into_iter(), until, -1).unwrap();
        let whole = hash(i64::MAX);
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|(key, value)| [&key[..], &value[..]].concat())
            .collect();
        assert_eq!(whole.hash, crc32c::crc32c(&[b"key", &bytes[..]].concat()));
        let without_last = hash(far - 1);
        assert_ne!(without_last.hash, whole.hash);

        let malformed = [(at(9), b"\xff".to_vec())];
        let leaf = log
            .leaf(malformed.iter().map(|(key, value)| (&key[..], &value[..])))
            .unwrap();
        let first = log.key(&malformed[0].0).unwrap();
        assert!(log.hash_kv([(&first, leaf)].into_iter(), i64::MAX, -1).is_none());
    }

    #[test]
    fn keys_order_as_revisions_do() {
        let log = PassingLog::default();
        let key = |main, sub, kind| {
            let at = RevisionKey::new(Revision::new(main).unwrap(), sub, kind).unwrap();
            log.key(&at.encode())
        };
        let puts = |main, sub| key(main, sub, EntryKind::Put);
        assert!(puts(5, 0) < key(5, 0, EntryKind::Tombstone));
        assert!(key(5, 0, EntryKind::Tombstone) < puts(5, 1) && puts(5, 9) < puts(6, 0));
        assert!(puts(5, 9) < puts(1 << 33, 0));
        assert_eq!(puts(1 << 40, 3).unwrap().main(), 1 << 40);
        assert_eq!(puts(5, 1 << 31), None, "no transaction has as many");
        assert_eq!(log.key(b"lease id"), None);
    }
}
