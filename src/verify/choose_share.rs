//! Which backups to verify, when not all of them.
//!
//! Invariant: whoever takes a share again and again comes to every backup that can be read. Those that cannot stay at
//! the head of the queue and are tried each time, but take nobody's place.

use std::ops::ControlFlow;

use jiff::Timestamp;

use crate::catalog::{Backup, Catalog};

/// A share of the backups, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl Share {
    /// More than nothing, and no more than all.
    pub fn percent(percent: f64) -> Option<Share> {
        (percent > 0.0 && percent <= 100.0).then_some(Share(percent))
    }

    /// How many of `all` that is, one at least.
    pub fn of(self, all: usize) -> usize {
        let exact = all as f64 * self.0 / 100.0;
        (exact.ceil() as usize).clamp(all.min(1), all)
    }
}

/// Whether a backup was read when its turn came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It was, or it is gone.
    Taken,
    /// It could not be.
    Passed,
}

/// Gives `verify` one backup after the other until so many were read, or it breaks off.
pub fn until_read<'a>(
    backups: &[&'a Backup],
    enough: usize,
    mut verify: impl FnMut(usize, &'a Backup) -> ControlFlow<(), Turn>,
) {
    let mut read = 0;
    for (index, backup) in backups.iter().enumerate() {
        if read == enough {
            return;
        }
        match verify(index, backup) {
            ControlFlow::Continue(Turn::Taken) => read += 1,
            ControlFlow::Continue(Turn::Passed) => {}
            ControlFlow::Break(()) => return,
        }
    }
}

/// The backups in the order in which they need it: the one that `latest` means, if nobody has checked it since it was
/// taken, as it is the one that would be restored; then those that were read least recently. Taking a backup reads it
/// back too, so that new ones queue up behind the old.
pub fn least_recently_read(catalog: &Catalog) -> Vec<&Backup> {
    let latest = catalog.latest().ok();
    let unchecked = latest.filter(|latest| latest.copies.iter().all(|copy| copy.checked_at.is_none()));
    let mut backups: Vec<&Backup> = catalog.backups().iter().collect();
    backups.sort_by_key(|backup| {
        let is_first = unchecked.is_some_and(|first| std::ptr::eq(first, *backup));
        (!is_first, last_read(backup), backup.id().clone())
    });
    backups
}

/// When the copy was read that was not read for longest.
fn last_read(backup: &Backup) -> Timestamp {
    let taken = backup.manifest().first_byte_at;
    let copies = backup.copies.iter();
    copies
        .map(|copy| copy.checked_at.unwrap_or(taken))
        .min()
        .unwrap_or(taken)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::tests::{Fixture, manifest};
    use crate::layout::Proof;
    use crate::model::ChainId;

    fn ids(chosen: &[&Backup]) -> Vec<String> {
        chosen.iter().map(|backup| backup.id().suffix().to_owned()).collect()
    }

    #[test]
    fn the_newest_is_proven_first_and_then_whoever_waits_longest() {
        let days = [
            "20261120T101530Z-00000001",
            "20261121T101530Z-00000002",
            "20261122T101530Z-00000003",
        ];
        let taken = |index: usize| {
            let mut manifest = manifest(0xab, days[index], 10 + index as i64);
            manifest.lineage = "ab-00000001".parse().unwrap();
            manifest.first_byte_at = manifest.chain.started_at();
            manifest
        };
        let [a, b, c] = [taken(0), taken(1), taken(2)];
        let unchecked = Fixture::default().backup(&a).backup(&b).backup(&c).catalog("local");
        assert_eq!(
            ids(&least_recently_read(&unchecked)),
            ["00000003", "00000001", "00000002"]
        );

        let checked = Fixture::default()
            .backup(&a)
            .check(&a, "2026-11-23T00:00:00Z", true, Proof::Stored)
            .backup(&b)
            .backup(&c)
            .check(&c, "2026-11-22T12:00:00Z", true, Proof::HashKv)
            .catalog("local");
        assert_eq!(
            ids(&least_recently_read(&checked)),
            ["00000002", "00000003", "00000001"]
        );
    }

    #[test]
    fn backups_that_cannot_be_read_keep_none_of_the_others_from_their_turn() {
        let taken = |number: i64| manifest(0xab, &format!("202611{:02}T101530Z-00000001", number + 1), number + 1);
        let taken: Vec<_> = (0..20).map(taken).collect();
        let is_readable = |backup: &Backup| !["20261104", "20261108"].contains(&&backup.id().as_str()[..8]);
        let mut checked: BTreeMap<ChainId, String> = BTreeMap::new();
        for round in 0..10 {
            let with = |fixture: Fixture, manifest| {
                let fixture = Fixture::backup(fixture, manifest);
                match checked.get(&manifest.chain) {
                    Some(time) => fixture.check(manifest, time, true, Proof::Stored),
                    None => fixture,
                }
            };
            let catalog = taken.iter().fold(Fixture::default(), with).catalog("local");
            let tenth = Share::percent(10.0).unwrap().of(taken.len());
            until_read(&least_recently_read(&catalog), tenth, |_, backup| {
                if !is_readable(backup) {
                    return ControlFlow::Continue(Turn::Passed);
                }
                checked.insert(backup.id().clone(), format!("2026-12-{:02}T00:00:00Z", round + 1));
                ControlFlow::Continue(Turn::Taken)
            });
        }
        assert_eq!(checked.len(), 18, "all that can be read: {checked:?}");
    }

    #[test]
    fn a_share_is_one_at_least_and_all_at_most() {
        let share = |percent| Share::percent(percent).unwrap();
        assert_eq!(
            [0, 1, 9, 10, 11, 1000].map(|all| share(10.0).of(all)),
            [0, 1, 1, 1, 2, 100]
        );
        assert_eq!(share(100.0).of(7), 7);
        assert!(
            [0.0, -1.0, 100.1, f64::NAN]
                .into_iter()
                .all(|wrong| Share::percent(wrong).is_none())
        );
    }
}
