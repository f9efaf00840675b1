//! CRC-32C of runs of bytes that are joined after they were summed.
//!
//! The CRC of `A ‖ B` follows from the CRCs of `A` and `B` and the length of `B`: `A`'s is multiplied by x^(8·len B)
//! modulo the Castagnoli polynomial, `B`'s is added. So one pass over entries can sum several selections of them, and
//! leave some out afterwards.
//!
//! Invariant: joining gives what summing all the bytes at once gives.

use std::sync::mpsc::{Receiver, SyncSender};

/// The Castagnoli polynomial with the highest power in the lowest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// The polynomial 1 in the same order of bits.
const ONE: u32 = 1 << 31;

/// `POWERS[n][d]` is x^(8·d·256^n): what skips d·256^n bytes.
static POWERS: [[u32; 256]; 8] = {
    let mut powers = [[ONE; 256]; 8];
    // x^8.
    let mut step = ONE >> 8;
    let mut n = 0;
    while n < 8 {
        let mut d = 1;
        while d < 256 {
            powers[n][d] = product(powers[n][d - 1], step);
            d += 1;
        }
        step = product(powers[n][255], step);
        n += 1;
    }
    powers
};

/// The CRC-32C of a run of bytes, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Run {
    pub(super) crc: u32,
    pub(super) len: u64,
}

impl Run {
    /// The run that `bytes` are.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Run {
            crc: crc32c::crc32c(bytes),
            len: bytes.len() as u64,
        }
    }

    /// Goes on with `bytes`.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.len = self.len.wrapping_add(bytes.len() as u64);
    }

    /// Goes on with a run that was summed by itself.
    #[inline]
    pub(super) fn join(&mut self, next: Run) {
        if next.len == 0 {
            return;
        }
        self.crc = product(self.crc, power(next.len)) ^ next.crc;
        self.len = self.len.wrapping_add(next.len);
    }
}

/// The CRCs of several selections of entries that come one after the other, each byte summed once.
///
/// Entries that are in the same selections are summed in one run; a run is joined to its selections at its end.
#[derive(Debug)]
pub(super) struct Selections {
    /// All entries.
    pub(super) all: Run,
    pub(super) sums: Vec<Run>,
    run: Run,
    /// One bit for each selection.
    of_run: u64,
}

impl Selections {
    /// So many selections, at most 64.
    pub(super) fn new(count: usize) -> Self {
        Selections {
            all: Run::default(),
            sums: vec![Run::default(); count.min(64)],
            run: Run::default(),
            of_run: 0,
        }
    }

    /// Goes on with an entry that is in the selections of `bits`.
    #[inline]
    pub(super) fn push(&mut self, bits: u64, key: &[u8], value: &[u8]) {
        if bits != self.of_run {
            self.end_run();
            self.of_run = bits;
        }
        self.run.push(key);
        self.run.push(value);
    }

    /// Joins what was pushed to what it belongs to.
    pub(super) fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        self.all.join(run);
        for (index, sum) in self.sums.iter_mut().enumerate() {
            if self.of_run >> index & 1 == 1 {
                sum.join(run);
            }
        }
    }
}

/// How many bytes of entries are handed over at once.
const BATCH_BYTES: usize = 256 << 10;

/// How many times that may wait to be summed.
pub(super) const BATCHES: usize = 4;

/// Entries that are to be summed, each with its selections.
pub(super) type Batch<'a> = Vec<(u64, &'a [u8], &'a [u8])>;

/// Where entries are summed.
#[derive(Debug)]
pub(super) enum Summing<'a> {
    /// At once.
    Here(Selections),
    /// By a thread that gets many at a time.
    There {
        to: SyncSender<Batch<'a>>,
        batch: Batch<'a>,
        bytes: usize,
    },
}

impl<'a> Summing<'a> {
    #[inline]
    pub(super) fn push(&mut self, bits: u64, key: &'a [u8], value: &'a [u8]) {
        match self {
            Summing::Here(selections) => selections.push(bits, key, value),
            Summing::There { to, batch, bytes } => {
                batch.push((bits, key, value));
                *bytes += key.len() + value.len();
                if *bytes >= BATCH_BYTES {
                    *bytes = 0;
                    // The other end sums until this one ends.
                    to.send(std::mem::take(batch)).ok();
                }
            }
        }
    }

    /// Hands over the last of them.
    pub(super) fn end(&mut self) {
        if let Summing::There { to, batch, .. } = self {
            to.send(std::mem::take(batch)).ok();
        }
    }
}

impl Selections {
    /// Sums what comes, to its end.
    pub(super) fn sum_all(mut self, batches: &Receiver<Batch<'_>>) -> Self {
        for (bits, key, value) in batches.iter().flatten() {
            self.push(bits, key, value);
        }
        self
    }
}

/// x^(8·len).
fn power(mut len: u64) -> u32 {
    let mut power = ONE;
    for digits in &POWERS {
        if len == 0 {
            break;
        }
        if let Some(&factor) = digits.get((len & 255) as usize) {
            power = if power == ONE { factor } else { product(power, factor) };
        }
        len >>= 8;
    }
    power
}

/// The product of two polynomials modulo the Castagnoli polynomial.
const fn product(a: u32, mut b: u32) -> u32 {
    let mut sum = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        sum ^= b & (a >> bit & 1).wrapping_neg();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_check_value_of_castagnoli_is_met() {
        let mut run = Run::of(b"1234");
        run.join(Run::of(b"56789"));
        assert_eq!(
            run,
            Run {
                crc: 0xE306_9283,
                len: 9
            }
        );
    }

    proptest! {
        #[test]
        fn joining_equals_summing_at_once(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 0..6)) {
            let whole = parts.concat();
            let mut joined = Run::default();
            for part in &parts {
                joined.join(Run::of(part));
            }
            prop_assert_eq!(joined, Run::of(&whole));
        }

        #[test]
        fn runs_join_associatively_at_any_length(crcs: [u32; 3], lens in [0u64..1 << 50, 0..1 << 50, 0..1 << 50]) {
            let [a, b, c] = std::array::from_fn(|at| Run { crc: crcs[at], len: lens[at] });
            let (mut left, mut right, mut tail) = (a, a, b);
            left.join(b);
            left.join(c);
            tail.join(c);
            right.join(tail);
            prop_assert_eq!(left, right);
        }
    }
}
