//! Which backups to verify, when not all of them.
//!
//! Invariant: whoever takes a share again and again comes to every backup.

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
    fn of(self, all: usize) -> usize {
        let exact = all as f64 * self.0 / 100.0;
        (exact.ceil() as usize).clamp(all.min(1), all)
    }
}

/// That share of the backups, in the order in which they need it: the one that `latest` means, if nobody has checked it
/// since it was taken, as it is the one that would be restored; then those that were read least recently. Taking a backup
/// reads it back too, so that new ones queue up behind the old.
pub fn least_recently_read(catalog: &Catalog, share: Share) -> Vec<&Backup> {
    let latest = catalog.latest().ok();
    let unchecked = latest.filter(|latest| latest.copies.iter().all(|copy| copy.checked_at.is_none()));
    let mut backups: Vec<&Backup> = catalog.backups().iter().collect();
    backups.sort_by_key(|backup| {
        let is_first = unchecked.is_some_and(|first| std::ptr::eq(first, *backup));
        (!is_first, last_read(backup), backup.id().clone())
    });
    backups.truncate(share.of(backups.len()));
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
    use super::*;
    use crate::catalog::Proof;
    use crate::catalog::tests::{Fixture, manifest};

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
        let all = Share::percent(100.0).unwrap();
        assert_eq!(
            ids(&least_recently_read(&unchecked, all)),
            ["00000003", "00000001", "00000002"]
        );
        let tenth = Share::percent(10.0).unwrap();
        assert_eq!(ids(&least_recently_read(&unchecked, tenth)), ["00000003"]);

        let checked = Fixture::default()
            .backup(&a)
            .check(&a, "2026-11-23T00:00:00Z", true, Proof::Stored)
            .backup(&b)
            .backup(&c)
            .check(&c, "2026-11-22T12:00:00Z", true, Proof::HashKv)
            .catalog("local");
        assert_eq!(
            ids(&least_recently_read(&checked, all)),
            ["00000002", "00000003", "00000001"]
        );
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
