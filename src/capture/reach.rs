//! What of a chain there is already, and who goes on with it: from the names of what counts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::layout::delta::Span;
use crate::layout::{Epoch, ObjectName};
use crate::model::Revision;

/// How far a chain has come, by the names of what there is of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    spans: Vec<Span>,
    /// All under which somebody has begun to write.
    epochs: BTreeSet<Epoch>,
    /// The highest under which more was written than the word that begins it.
    written: Option<Epoch>,
    /// The newest mark: what moves while its writer lives and nothing is written.
    mark: Option<(Revision, Timestamp)>,
    gap: Option<Revision>,
}

impl Known {
    /// Takes in names, of this chain; others are passed over.
    pub fn take<'a>(&mut self, names: impl IntoIterator<Item = &'a ObjectName>) {
        for name in names {
            match name {
                ObjectName::Delta(_, span, _) | ObjectName::Pack(_, span, _) => self.spans.push(*span),
                ObjectName::Mark(_, revision, time, _) => self.mark = self.mark.max(Some((*revision, *time))),
                ObjectName::Gap(_, from, _) => self.gap = Some(self.gap.map_or(*from, |gap| gap.min(*from))),
                // What else there is tells at most who writes.
                _ => {}
            }
            self.epochs.extend(name.epoch());
            if !matches!(name, ObjectName::Epoch(..)) {
                self.written = self.written.max(name.epoch());
            }
        }
    }

    /// The last revision up to which nothing is missing behind `base`.
    pub fn reached(&self, base: Revision) -> Revision {
        let mut spans = self.spans.clone();
        spans.sort_by_key(|span| span.from());
        let mut reached = base;
        for span in spans {
            if span.from() > reached.next() {
                break;
            }
            reached = reached.max(span.to());
        }
        reached
    }

    /// The highest epoch, if somebody has begun to write.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epochs.last().copied()
    }

    /// How often in a row somebody has begun to write, and another took over before anything came of it.
    fn fruitless(&self) -> usize {
        let since = self.epochs.iter().rev();
        let since = since.take_while(|epoch| self.written.is_none_or(|written| **epoch > written));
        since.count().saturating_sub(1)
    }

    /// The epoch of whoever writes next: behind all that were written under, and none that a name is of already, `taken` by whomever.
    /// None where there is no more.
    pub fn next_epoch(&self, taken: &BTreeSet<Epoch>) -> Option<Epoch> {
        let first = self.epoch().map_or(1, |epoch| epoch.0.saturating_add(1));
        let mut free = (first..=Epoch::LAST.0).map(Epoch);
        free.find(|epoch| !taken.contains(epoch))
    }

    /// Whether the chain is known to end: the first revision that it does not have, where no delta has come to it since.
    pub fn ends_before(&self, base: Revision) -> Option<Revision> {
        self.gap.filter(|gap| *gap > self.reached(base))
    }
}

/// The same where those before it were silent, too: twice as long each time, and no longer than this.
const LONGEST_PATIENCE: Duration = Duration::from_secs(3600);

/// How long the writer of a chain that others may write to may be silent before one of them takes its place.
pub fn patience(every: Duration) -> Duration {
    (every * 5).clamp(Duration::from_secs(2), Duration::from_secs(60))
}

/// What a host that does not write has seen of a chain.
#[derive(Debug, Clone)]
pub struct Standby {
    seen: Known,
    since: Instant,
}

/// What such a host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It takes the next epoch.
    TakeOver,
    /// It looks again, no later than then.
    LookAgain,
}

impl Standby {
    /// What is seen first.
    pub fn new(seen: Known, now: Instant) -> Standby {
        Standby { seen, since: now }
    }

    /// What to do, where this is seen now: `is_behind` says whether etcd has changes that the chain does not, and `silent_for`
    /// is how long the writer may be silent while there is nothing to write.
    pub fn look(&mut self, seen: Known, is_behind: bool, every: Duration, silent_for: Duration, now: Instant) -> Turn {
        if seen.epochs.is_empty() {
            return Turn::TakeOver;
        }
        if seen != self.seen {
            *self = Standby::new(seen, now);
            return Turn::LookAgain;
        }
        // Whoever is far behind draws a snapshot before it writes anything. Were it given up each time before that is there,
        // nobody would ever write.
        let times = 1_u32.checked_shl(u32::try_from(self.seen.fruitless()).unwrap_or(u32::MAX));
        let patience_now = patience(every).saturating_mul(times.unwrap_or(u32::MAX));
        let patience_now = patience_now.min(LONGEST_PATIENCE.max(patience(every)));
        let patience = match is_behind {
            true => patience_now,
            false => patience_now + silent_for,
        };
        match now.duration_since(self.since) >= patience {
            true => Turn::TakeOver,
            false => Turn::LookAgain,
        }
    }
}

/// Until when the next object follows one that is written now, if its writer lives.
pub fn next_by(now: Timestamp, every: Duration, mark_every: Duration) -> Timestamp {
    now.saturating_add(mark_every.max(every) + every).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::ChainPath;
    use crate::model::ClusterId;

    fn revision(revision: i64) -> Revision {
        Revision::new(revision).unwrap()
    }

    fn path() -> ChainPath {
        ChainPath {
            cluster: ClusterId(0xab),
            chain: "20261120T101530Z-00000001".parse().unwrap(),
        }
    }

    fn delta(from: i64, to: i64, epoch: u32) -> ObjectName {
        let span = Span::new(revision(from), revision(to)).unwrap();
        ObjectName::Delta(path(), span, Epoch(epoch))
    }

    fn known(names: &[ObjectName]) -> Known {
        let mut known = Known::default();
        known.take(names);
        known
    }

    #[test]
    fn a_chain_reaches_as_far_as_nothing_is_missing() {
        let base = revision(10);
        assert_eq!(known(&[]).reached(base), base);
        let names = [delta(14, 20, 2), delta(9, 12, 1), delta(11, 14, 1), delta(22, 30, 2)];
        assert_eq!(known(&names).reached(base), revision(20));
        let span = Span::new(revision(1), revision(25)).unwrap();
        let with_pack = [names.to_vec(), vec![ObjectName::Pack(path(), span, Epoch(3))]].concat();
        assert_eq!(known(&with_pack).reached(base), revision(30));
        assert_eq!(known(&[delta(12, 14, 1)]).reached(base), base);
    }

    #[test]
    fn the_next_epoch_is_behind_all_that_was_written_under() {
        let next = |names: &[ObjectName], taken: &[u32]| {
            let taken = taken.iter().copied().map(Epoch).collect();
            known(names).next_epoch(&taken)
        };
        assert_eq!(next(&[], &[]), Some(Epoch(1)));
        let names = [ObjectName::Epoch(path(), Epoch(2)), delta(11, 14, 4)];
        assert_eq!(next(&names, &[2, 4]), Some(Epoch(5)));
        assert_eq!(next(&names, &[5, 6, 99_999_999]), Some(Epoch(7)));
        assert_eq!(next(&[delta(11, 14, 99_999_999)], &[]), None);
    }

    #[test]
    fn a_chain_ends_at_a_gap_that_nothing_has_come_to_since() {
        let gap = ObjectName::Gap(path(), revision(15), Epoch(1));
        let base = revision(10);
        assert_eq!(
            known(&[delta(11, 14, 1), gap.clone()]).ends_before(base),
            Some(revision(15))
        );
        assert_eq!(known(&[delta(11, 15, 1), gap]).ends_before(base), None);
    }

    #[test]
    fn who_stands_by_takes_over_from_one_that_is_silent_and_from_nobody_at_once() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let (every, silent_for) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut standby = Standby::new(Known::default(), begun);
        let mut look = |names: &[ObjectName], is_behind, seconds| {
            standby.look(known(names), is_behind, every, silent_for, at(seconds))
        };
        assert_eq!(look(&[], false, 0), Turn::TakeOver);
        let first = [delta(11, 14, 1)];
        assert_eq!(look(&first, true, 1), Turn::LookAgain);
        assert_eq!(look(&first, true, 5), Turn::LookAgain);
        assert_eq!(look(&first, true, 6), Turn::TakeOver);
        assert_eq!(look(&first, false, 6), Turn::LookAgain, "nothing is to be written");
        let more = [delta(11, 14, 1), delta(15, 16, 1)];
        assert_eq!(look(&more, true, 7), Turn::LookAgain);
        assert_eq!(look(&more, false, 71), Turn::LookAgain);
        assert_eq!(look(&more, false, 72), Turn::TakeOver);
    }

    #[test]
    fn who_takes_over_again_and_again_without_anything_to_show_is_given_twice_as_long_each_time() {
        let begun = Instant::now();
        let every = Duration::from_secs(1);
        let begins = |epoch| ObjectName::Epoch(path(), Epoch(epoch));
        // For how many seconds the last one may be silent.
        let bears = |names: &[ObjectName]| {
            let mut standby = Standby::new(known(names), begun);
            let mut look = |seconds| {
                let now = begun + Duration::from_secs(seconds);
                standby.look(known(names), true, every, Duration::ZERO, now)
            };
            (0..).find(|seconds| look(*seconds) == Turn::TakeOver).unwrap()
        };
        let mut names = vec![begins(1), delta(11, 14, 1)];
        assert_eq!(bears(&names), 5);
        names.push(begins(2));
        assert_eq!(bears(&names), 5);
        names.push(begins(3));
        assert_eq!(bears(&names), 10);
        // Numbers that were passed over are nobody's.
        names.push(begins(9));
        assert_eq!(bears(&names), 20);
        names.push(delta(15, 16, 9));
        assert_eq!(bears(&names), 5);
        names.extend((10..40).map(begins));
        assert_eq!(bears(&names), 3600);
    }
}
