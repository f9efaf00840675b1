//! Samples, changed at random: bits and bytes, pieces that go, come twice or come from elsewhere, lengths at their extremes,
//! words of the format.

/// A sequence of changes, the same for the same seed.
pub struct Mutator {
    random: u64,
    words: &'static [&'static str],
}

/// No input is longer.
const MOST_BYTES: usize = 1 << 20;

impl Mutator {
    /// The changes of a seed. `words` are of the format: what random bytes would never make.
    pub fn new(seed: u64, words: &'static [&'static str]) -> Mutator {
        Mutator { random: seed, words }
    }

    /// One of the samples, changed in one to eight places.
    pub fn changed(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..1 + self.below(8) {
            self.change(&mut input, corpus);
        }
        input.truncate(MOST_BYTES);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let some = 1 + self.below(64).min(input.len() - at);
        let end = (at + some).min(input.len());
        match self.below(12) {
            0..=1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 if at < input.len() => {
                let extremes = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'"', b'\n'];
                input[at] = extremes[self.below(extremes.len())];
            }
            3..=4 => self.set_number(input, at),
            5 => drop(input.drain(at..end)),
            6 => {
                let piece = input[at..end].to_vec();
                let times = 1 + self.below(8);
                input.splice(at..at, piece.repeat(times));
            }
            7 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                let length = self.below(other.len() - from + 1).min(4_096);
                let piece = other[from..from + length].to_vec();
                // In the place of what is there, or in between.
                let until = if self.below(2) == 0 {
                    at
                } else {
                    (at + length).min(input.len())
                };
                input.splice(at..until, piece);
            }
            8 => input.truncate(at),
            9 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                let until = if self.below(2) == 0 { at } else { end };
                input.splice(at..until, word.bytes());
            }
            10 => {
                let bytes: Vec<u8> = (0..some).map(|_| self.next().to_le_bytes()[0]).collect();
                input.splice(at..at, bytes);
            }
            _ => {
                // Lines, as far as there are any, change places.
                let mut lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
                let (one, other) = (self.below(lines.len().max(1)), self.below(lines.len().max(1)));
                if one < lines.len() && other < lines.len() {
                    lines.swap(one, other);
                }
                *input = lines.concat();
            }
        }
    }

    /// A number of 1, 2, 4 or 8 bytes, in either order, becomes an extreme, or one that is near what is there.
    fn set_number(&mut self, input: &mut [u8], at: usize) {
        let width = 1 << self.below(4);
        // Formats align their numbers.
        let at = if self.below(4) == 0 { at } else { at / width * width };
        let length = input.len() as u64;
        let Some(bytes) = input.get_mut(at..at + width) else {
            return;
        };
        let mut padded = [0; 8];
        padded[..width].copy_from_slice(bytes);
        let there = u64::from_le_bytes(padded);
        let all = u64::MAX >> (64 - 8 * width);
        let numbers = [
            0,
            1,
            2,
            15,
            16,
            17,
            all,
            all - 1,
            all >> 1,
            (all >> 1) + 1,
            length,
            length + 1,
            length / 2,
            4_096,
            1_024,
            65_535,
            there.wrapping_add(1),
            there.wrapping_sub(1),
            there << 1,
            there >> 1,
            there.wrapping_add(4_096),
        ];
        let number = numbers[self.below(numbers.len())].to_le_bytes();
        bytes.copy_from_slice(&number[..width]);
        if self.below(3) == 0 {
            bytes.reverse();
        }
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// The next number of the SplitMix64 sequence.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn the_same_seed_gives_the_same_inputs_and_most_are_changed() {
    let corpus = [b"some lines\nof a sample\n".to_vec(), vec![0; 200]];
    let inputs = |seed| {
        let mut mutator = Mutator::new(seed, &["word"]);
        (0..1_000).map(|_| mutator.changed(&corpus)).collect::<Vec<_>>()
    };
    let once = inputs(7);
    assert!(once == inputs(7) && once != inputs(8));
    assert!(once.iter().filter(|input| corpus.contains(input)).count() < 100);
}
