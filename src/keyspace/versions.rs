//! The keys with the most versions, in a log of any length.
//!
//! Where there are too many keys to count each, those that count most are found first (Misra and Gries, "Finding repeated elements",
//! 1982): whatever makes up more than one in [`MOST`] entries is among them. Then they are counted by themselves.
//!
//! Invariant: memory is bounded, however many keys there are. Keys are copied, but for long ones: to look again and again at
//! those of a database that is mapped would keep a good part of it resident.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Held;

/// How many keys are told apart.
const MOST: usize = 10_000;

/// Keys up to so many bytes are copied: 10 MiB at most.
const COPIED: usize = 1024;

/// The keys of a log, as its entries pass.
#[derive(Debug)]
pub struct Versions<'a> {
    seen: HashMap<Cow<'a, [u8]>, Seen>,
    most: usize,
    /// No key was given up: what is held is all there is.
    is_all: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Falls by one for each time that a key found no place.
    weight: u64,
    held: Held,
}

impl Default for Versions<'_> {
    fn default() -> Self {
        Versions::up_to(MOST)
    }
}

impl<'a> Versions<'a> {
    fn up_to(most: usize) -> Self {
        Versions {
            seen: HashMap::new(),
            most,
            is_all: true,
        }
    }

    /// Takes in one entry of the log.
    pub fn entry(&mut self, key: &'a [u8], value: &[u8]) {
        let is_full = self.seen.len() >= self.most;
        match self.seen.get_mut(key) {
            Some(seen) => seen.add(key, value),
            None if is_full => {
                self.is_all = false;
                self.seen.retain(|_, seen| {
                    seen.weight -= 1;
                    seen.weight > 0
                });
            }
            None => {
                let kept = match key.len() <= COPIED {
                    true => Cow::Owned(key.to_vec()),
                    false => Cow::Borrowed(key),
                };
                self.seen.entry(kept).or_default().add(key, value);
            }
        }
    }

    /// Whether the entries have to pass once more, through [`Versions::again`].
    pub fn is_to_be_counted(&self) -> bool {
        !self.is_all
    }

    /// Begins to count those that may have the most.
    pub fn begin_again(&mut self) {
        self.seen.values_mut().for_each(|seen| seen.held = Held::default());
    }

    /// Counts an entry of the same log.
    pub fn again(&mut self, key: &[u8], value: &[u8]) {
        if let Some(seen) = self.seen.get_mut(key) {
            seen.held.add((key.len() + value.len()) as u64);
        }
    }

    /// The `most` keys with the most versions, of those that have several: those with the most first.
    pub fn largest(self, most: usize) -> Vec<(Cow<'a, [u8]>, Held)> {
        let held = self.seen.into_iter().map(|(key, seen)| (key, seen.held));
        let mut sorted: Vec<_> = held.filter(|(_, held)| held.versions > 1).collect();
        sorted.sort_unstable_by(|(one, of_one), (other, of_other)| {
            let (one, other) = (
                (of_one.versions, of_one.bytes, other),
                (of_other.versions, of_other.bytes, one),
            );
            other.cmp(&one)
        });
        sorted.truncate(most);
        sorted
    }
}

impl Seen {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.weight += 1;
        self.held.add((key.len() + value.len()) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three keys that come often, and many that come once or twice in between.
    fn log() -> Vec<Vec<u8>> {
        let mut log = Vec::new();
        for round in 0..300_u32 {
            log.push(b"often".to_vec());
            if round % 2 == 0 {
                log.push(b"second".to_vec());
            }
            if round % 3 == 0 {
                log.push(b"third".to_vec());
            }
            log.extend((0..2).map(|number| format!("other-{}", (round * 2 + number) / 3).into_bytes()));
        }
        log
    }

    fn largest(most: usize, log: &[Vec<u8>]) -> (Vec<(Vec<u8>, u64)>, bool) {
        let mut versions = Versions::up_to(most);
        log.iter().for_each(|key| versions.entry(key, b"value"));
        assert!(versions.seen.len() <= most);
        let counts_again = versions.is_to_be_counted();
        if counts_again {
            versions.begin_again();
            log.iter().for_each(|key| versions.again(key, b"value"));
        }
        let largest = versions.largest(3);
        assert!(
            largest
                .iter()
                .all(|(key, held)| held.bytes == held.versions * (key.len() as u64 + 5))
        );
        let largest = largest.into_iter().map(|(key, held)| (key.into_owned(), held.versions));
        (largest.collect(), counts_again)
    }

    #[test]
    fn the_keys_with_the_most_versions_are_counted_however_many_there_are() {
        let log = log();
        let expected = [("often", 300), ("second", 150), ("third", 100)];
        let expected = expected
            .map(|(key, versions)| (key.as_bytes().to_vec(), versions))
            .to_vec();
        assert_eq!(largest(10_000, &log), (expected.clone(), false));
        // Each of them is more than one in fifteen entries.
        assert_eq!(largest(15, &log), (expected, true));
        let once: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number]).collect();
        assert_eq!(largest(10_000, &once), (Vec::new(), false));
        assert_eq!(largest(10, &once), (Vec::new(), true));
    }
}
