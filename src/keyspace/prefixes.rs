//! What fills a database, by the beginnings of the keys.
//!
//! Invariant: memory is bounded, however many keys there are and however long they are.

use std::collections::HashMap;

/// How many beginnings are told apart; what comes after that is summed up.
const MOST: usize = 10_000;
/// How much of a key can count as its beginning.
const LONGEST: usize = 128;

/// What the keys with one beginning hold, all versions that are there counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Entries: puts and deletions.
    pub versions: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Held {
    pub(super) fn add(&mut self, bytes: u64) {
        self.versions += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The beginnings of keys, each with what there is.
#[derive(Debug, Default)]
pub struct Prefixes {
    told_apart: HashMap<Vec<u8>, Held>,
    others: Held,
}

impl Prefixes {
    /// Takes in one entry of the log.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) {
        let bytes = (key.len() + value.len()) as u64;
        let prefix = prefix(key);
        let is_full = self.told_apart.len() >= MOST;
        match self.told_apart.get_mut(prefix) {
            Some(held) => held.add(bytes),
            None if is_full => self.others.add(bytes),
            None => self.told_apart.entry(prefix.to_vec()).or_default().add(bytes),
        }
    }

    /// The `most` that hold the most bytes, the largest first, and what all others hold.
    pub fn largest(self, most: usize) -> (Vec<(Vec<u8>, Held)>, Held) {
        let mut sorted: Vec<_> = self.told_apart.into_iter().collect();
        sorted.sort_unstable_by(|(one, of_one), (other, of_other)| (of_other.bytes, one).cmp(&(of_one.bytes, other)));
        let rest = sorted.split_off(most.min(sorted.len()));
        let others = rest.into_iter().fold(self.others, |sum, (_, held)| Held {
            versions: sum.versions + held.versions,
            bytes: sum.bytes.saturating_add(held.bytes),
        });
        (sorted, others)
    }
}

/// The beginning of a key: up to its second slash, as in `/registry/events/`, or its only one. A key without any has none,
/// and neither has one whose beginning is too long to be told apart.
fn prefix(key: &[u8]) -> &[u8] {
    let mut slashes = (0..key.len().min(LONGEST)).filter(|at| key[*at] == b'/');
    let first = slashes.next();
    // The slash that a path begins with is none of the two.
    let (first, second) = match first {
        Some(0) => (slashes.next(), slashes.next()),
        first => (first, slashes.next()),
    };
    second.or(first).map_or(&[], |end| &key[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_begins_with_two_parts_of_its_path_at_most() {
        for (key, beginning) in [
            ("/registry/events/default/a", "/registry/events/"),
            ("/registry/health", "/registry/"),
            ("/a", ""),
            ("/", ""),
            ("", ""),
            ("compact_rev_key", ""),
            ("calico/v1/host/a", "calico/v1/"),
            ("one/two", "one/"),
            ("//x/y", "//x/"),
        ] {
            assert_eq!(prefix(key.as_bytes()), beginning.as_bytes(), "{key}");
        }
        assert_eq!(prefix(&[b'x'; 1000]), b"");
    }

    #[test]
    fn the_largest_come_first_and_nothing_is_lost() {
        let mut prefixes = Prefixes::default();
        prefixes.entry(b"/b/x/1", b"123456");
        prefixes.entry(b"/a/x/1", b"1");
        prefixes.entry(b"/a/x/2", b"12345678");
        prefixes.entry(b"plain", b"");
        let (largest, others) = prefixes.largest(2);
        let held = |versions, bytes| Held { versions, bytes };
        assert_eq!(
            largest,
            [(b"/a/x/".to_vec(), held(2, 21)), (b"/b/x/".to_vec(), held(1, 12))]
        );
        assert_eq!(others, held(1, 5));
    }

    #[test]
    fn there_are_never_too_many() {
        let mut prefixes = Prefixes::default();
        for number in 0..MOST + 500 {
            prefixes.entry(format!("/{number}/x/y").as_bytes(), b"");
        }
        assert_eq!(prefixes.told_apart.len(), MOST);
        let (largest, others) = prefixes.largest(usize::MAX);
        assert_eq!((largest.len(), others.versions), (MOST, 500));
    }
}
