//! What of a chain one place has and another lacks: from names alone.
//!
//! A revision counts as there, whichever object holds it: what was packed in one place need not be in the other as it was.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::layout::{ObjectName, Span};
use crate::model::Revision;

/// What `there` has of a chain and `here` lacks, in the order in which it is brought: changes before all others, so that the
/// beginning is there without a hole when it is cut off. Of objects that hold the same revisions the fewest are meant, and of
/// marks the newest, where nothing behind it is known.
pub fn lacking<'a, 'b>(
    there: impl IntoIterator<Item = &'a ObjectName>,
    here: impl IntoIterator<Item = &'b ObjectName>,
) -> Vec<&'a ObjectName> {
    let (mut covered, mut has, mut newest_here) = (Covered::default(), BTreeSet::new(), None);
    for name in here {
        covered.extend(changes(name));
        newest_here = newest_here.max(mark(name));
        has.insert(name);
    }
    let (mut pieces, mut newest, mut words) = (Vec::new(), None, Vec::new());
    for name in there {
        match (changes(name), mark(name), name) {
            (Some(span), ..) => pieces.push((span, name)),
            (_, Some(mark), _) => newest = newest.max(Some((mark, name))),
            (_, _, ObjectName::Gap(..) | ObjectName::Epoch(..)) if !has.contains(name) => words.push(name),
            _ => {}
        }
    }
    let is_pack = |name: &ObjectName| matches!(name, ObjectName::Pack(..));
    pieces.sort_by_key(|(span, name)| (span.from(), Reverse(span.to()), Reverse(is_pack(name)), *name));
    let mut lacking = Vec::new();
    for (span, name) in pieces {
        if !covered.holds(span) {
            covered.extend(Some(span));
            lacking.push(name);
        }
    }
    let newest = newest.filter(|((revision, _), _)| covered.last().is_none_or(|last| last <= *revision));
    lacking.extend(
        newest
            .filter(|(mark, _)| Some(*mark) > newest_here)
            .map(|(_, name)| name),
    );
    words.sort_by_key(|name| name.to_string());
    lacking.extend(words);
    lacking
}

/// The last revision of the changes that these objects hold; none where they hold none.
pub fn last_change<'a>(names: impl IntoIterator<Item = &'a ObjectName>) -> Option<Revision> {
    names.into_iter().filter_map(changes).map(Span::to).max()
}

/// The revisions that an object holds the changes of.
fn changes(name: &ObjectName) -> Option<Span> {
    match name {
        ObjectName::Delta(_, span, _) | ObjectName::Pack(_, span, _) => Some(*span),
        _ => None,
    }
}

fn mark(name: &ObjectName) -> Option<(Revision, Timestamp)> {
    match name {
        ObjectName::Mark(_, revision, time, _) => Some((*revision, *time)),
        _ => None,
    }
}

/// Revisions that are held, as ranges from and to: none touches another.
#[derive(Default)]
struct Covered(BTreeMap<Revision, Revision>);

impl Covered {
    fn extend(&mut self, span: Option<Span>) {
        let Some(span) = span else { return };
        let (mut from, mut to) = (span.from(), span.to());
        while let Some((first, last)) = self.before(to.next()).filter(|(_, last)| last.next() >= from) {
            self.0.remove(&first);
            (from, to) = (from.min(first), to.max(last));
        }
        self.0.insert(from, to);
    }

    fn holds(&self, span: Span) -> bool {
        self.before(span.from()).is_some_and(|(_, last)| last >= span.to())
    }

    fn last(&self) -> Option<Revision> {
        self.0.last_key_value().map(|(_, last)| *last)
    }

    /// The last range that begins at this revision or before.
    fn before(&self, revision: Revision) -> Option<(Revision, Revision)> {
        let found = self.0.range(..=revision).next_back();
        found.map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::{ChainPath, Epoch};
    use crate::model::ClusterId;

    fn chain() -> ChainPath {
        ChainPath {
            cluster: ClusterId(0xab),
            chain: "20261120T101530Z-00000001".parse().unwrap(),
        }
    }

    fn revision(revision: i64) -> Revision {
        Revision::new(revision).unwrap()
    }

    fn span(from: i64, to: i64) -> Span {
        Span::new(revision(from), revision(to)).unwrap()
    }

    fn delta(from: i64, to: i64) -> ObjectName {
        ObjectName::Delta(chain(), span(from, to), Epoch(1))
    }

    fn pack(from: i64, to: i64) -> ObjectName {
        ObjectName::Pack(chain(), span(from, to), Epoch(1))
    }

    fn mark(at: i64, second: i64) -> ObjectName {
        ObjectName::Mark(chain(), revision(at), Timestamp::from_second(second).unwrap(), Epoch(1))
    }

    #[test]
    fn what_was_packed_in_one_place_is_not_lacking_in_the_other() {
        let there = [delta(11, 20), delta(21, 30), delta(31, 40)];
        assert_eq!(lacking(&there, &[pack(11, 30)]), [&there[2]]);
        assert_eq!(lacking(&[pack(11, 30)], &there).len(), 0);
        let with_pack = [delta(11, 20), pack(11, 30), delta(21, 30), delta(31, 40)];
        assert_eq!(lacking(&with_pack, &[]), [&with_pack[1], &with_pack[3]]);
        // One revision is enough.
        assert_eq!(
            lacking(&[pack(11, 30)], &[delta(11, 19), delta(21, 30)]),
            [&pack(11, 30)]
        );
    }

    #[test]
    fn of_marks_the_newest_is_lacking_where_no_change_is_behind_it() {
        let there = [delta(11, 20), mark(20, 5), mark(20, 7)];
        assert_eq!(lacking(&there, &[]), [&there[0], &there[2]]);
        assert_eq!(lacking(&there, &[delta(11, 20), mark(20, 7)]).len(), 0);
        assert_eq!(lacking(&there, &[delta(11, 20), mark(20, 6)]), [&there[2]]);
        assert_eq!(lacking(&there, &[delta(11, 25)]).len(), 0);
    }

    #[test]
    fn words_are_lacking_by_their_names() {
        let there = [
            ObjectName::Epoch(chain(), Epoch(1)),
            ObjectName::Epoch(chain(), Epoch(2)),
            ObjectName::Gap(chain(), revision(31), Epoch(2)),
        ];
        assert_eq!(lacking(&there, &there[..1]), [&there[2], &there[1]]);
    }

    proptest! {
        #[test]
        fn with_what_was_lacking_every_revision_is_in_both(
            there in prop::collection::vec((0_i64..40, 0_i64..12, any::<bool>()), 0..12),
            here in prop::collection::vec((0_i64..40, 0_i64..12, any::<bool>()), 0..12),
        ) {
            let names = |all: &[(i64, i64, bool)]| -> Vec<ObjectName> {
                let names = all.iter().map(|(from, length, is_pack)| match is_pack {
                    true => pack(*from, from + length),
                    false => delta(*from, from + length),
                });
                names.collect()
            };
            let (there, mut here) = (names(&there), names(&here));
            let held = |names: &[ObjectName]| -> BTreeSet<i64> {
                let spans = names.iter().filter_map(changes);
                spans.flat_map(|span| span.from().get()..=span.to().get()).collect()
            };
            let before = held(&here);
            let brought: Vec<ObjectName> = lacking(&there, &here).into_iter().cloned().collect();
            for name in &brought {
                let of_it = held(std::slice::from_ref(name));
                prop_assert!(!of_it.is_subset(&held(&here)), "{name} is of no use");
                here.push(name.clone());
            }
            let after = held(&here);
            prop_assert!(held(&there).is_subset(&after));
            prop_assert_eq!(after, before.union(&held(&there)).copied().collect());
            prop_assert!(lacking(&there, &here).is_empty());
        }
    }
}
