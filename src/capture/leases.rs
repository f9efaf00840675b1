//! Which leases are asked for, and which of them are kept beside the changes: each once, none for ever.
//!
//! Invariant: a lease counts as known only once its record is in a delta that is in the spool. Whatever fails before that has
//! it asked for again.

use std::collections::{HashMap, VecDeque};

/// So many are remembered; of those that are known already, as many are forgotten as need be and asked for once more.
const MOST: usize = 500_000;

/// Where a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It is to be asked for.
    Waits,
    /// A member is asked for it.
    Asked,
    /// Its record is in the delta that is cut next.
    Kept,
    /// Its record is in a delta.
    Known,
}

/// The leases that changes name.
#[derive(Debug, Default)]
pub(super) struct Leases {
    stands: HashMap<i64, Stand>,
    /// Those that wait, in order; some of them may have been asked for since.
    waiting: VecDeque<i64>,
}

impl Leases {
    /// A change names it.
    pub fn seen(&mut self, lease: i64) {
        self.seen_of(lease, MOST);
    }

    fn seen_of(&mut self, lease: i64, most: usize) {
        if lease == 0 || self.stands.contains_key(&lease) {
            return;
        }
        if self.stands.len() >= most {
            self.stands.retain(|_, stand| *stand != Stand::Known);
        }
        // More than that are never asked for fast enough: what is not known has the operator's default at a restore.
        if self.stands.len() < most {
            self.wait(lease);
        }
    }

    /// The next that is to be asked for; it counts as asked for then.
    pub fn next(&mut self) -> Option<i64> {
        while let Some(lease) = self.waiting.pop_front() {
            if let Some(stand @ Stand::Waits) = self.stands.get_mut(&lease) {
                *stand = Stand::Asked;
                return Some(lease);
            }
        }
        None
    }

    /// What it was granted is beside the changes that are cut next.
    pub fn kept(&mut self, lease: i64) {
        self.stands.insert(lease, Stand::Kept);
    }

    /// It could not be asked for: it is once more.
    pub fn not_told(&mut self, lease: i64) {
        if self.stands.get(&lease) == Some(&Stand::Asked) {
            self.wait(lease);
        }
    }

    /// What was beside the changes is in the spool now.
    pub fn cut(&mut self) {
        for stand in self.stands.values_mut().filter(|stand| **stand == Stand::Kept) {
            *stand = Stand::Known;
        }
    }

    /// What was asked for gets no answer any more.
    pub fn ask_again(&mut self) {
        self.back_to_waiting(&[Stand::Asked]);
    }

    /// What was beside the changes is thrown away with them.
    pub fn start_over(&mut self) {
        self.back_to_waiting(&[Stand::Asked, Stand::Kept]);
    }

    fn back_to_waiting(&mut self, from: &[Stand]) {
        let back = self.stands.iter().filter(|(_, stand)| from.contains(stand));
        let mut back: Vec<i64> = back.map(|(lease, _)| *lease).collect();
        back.sort_unstable();
        back.into_iter().for_each(|lease| self.wait(lease));
    }

    fn wait(&mut self, lease: i64) {
        self.stands.insert(lease, Stand::Waits);
        self.waiting.push_back(lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(leases: &mut Leases) -> Vec<i64> {
        std::iter::from_fn(|| leases.next()).collect()
    }

    #[test]
    fn each_is_asked_for_once_however_many_there_are() {
        let mut leases = Leases::default();
        for lease in (1..=1000).chain(1..=1000) {
            leases.seen(lease);
        }
        leases.seen(0);
        assert_eq!(asked(&mut leases), (1..=1000).collect::<Vec<_>>());
        leases.kept(1);
        leases.cut();
        leases.seen(1);
        leases.seen(2);
        assert_eq!(asked(&mut leases), Vec::<i64>::new());
    }

    #[test]
    fn what_was_not_told_or_was_thrown_away_is_asked_for_again() {
        let mut leases = Leases::default();
        (1..=4).for_each(|lease| leases.seen(lease));
        assert_eq!(asked(&mut leases), [1, 2, 3, 4]);
        leases.not_told(3);
        assert_eq!(asked(&mut leases), [3]);
        leases.kept(1);
        leases.cut();
        leases.kept(2);
        // The watch ended: 3 and 4 get no answer. Then the delta could not be kept, and 2 was beside it.
        leases.ask_again();
        assert_eq!(asked(&mut leases), [3, 4]);
        leases.start_over();
        assert_eq!(asked(&mut leases), [2, 3, 4]);
        // An answer that comes late all the same is as good, and a word that it failed does no harm.
        leases.not_told(1);
        leases.start_over();
        leases.kept(2);
        leases.not_told(2);
        assert_eq!(asked(&mut leases), [3, 4]);
    }

    #[test]
    fn those_that_are_known_make_room() {
        let mut leases = Leases::default();
        let see = |leases: &mut Leases, lease| leases.seen_of(lease, 3);
        (1..=3).for_each(|lease| see(&mut leases, lease));
        assert_eq!(asked(&mut leases), [1, 2, 3]);
        (1..=2).for_each(|lease| leases.kept(lease));
        leases.cut();
        see(&mut leases, 4);
        see(&mut leases, 5);
        see(&mut leases, 6);
        assert_eq!(asked(&mut leases), [4, 5], "3 has no answer yet");
    }
}
