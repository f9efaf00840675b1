//! Whether backups are proven as far as they have to be.

use std::time::Duration;

use jiff::Timestamp;

use crate::catalog::{Backup, BackupCopy, Catalog, Standing};
use crate::layout::Proof;
use crate::schedule::{Slot, When};

/// How long backups may go without the proof that is required, where no schedule says how often they get one.
const UNPROVEN_FOR: Duration = Duration::from_secs(26 * 3600);

/// The newest backup that was proven: while it was taken, or checked by itself since then and found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastProof<'a> {
    /// Which.
    pub backup: &'a Backup,
    /// How far it is proven.
    pub proof: Proof,
    /// When that was: as it was taken, or checked since then.
    pub checked_at: Timestamp,
}

/// The good backup of the highest revision that was ever proven further than that it is stored, or checked, in the history that
/// `latest` is taken from; of its copies, the one that is proven furthest. Another history tells nothing of how far that one is
/// proven, however high its revisions; without an accepted one there is none.
pub fn last_proof(catalog: &Catalog) -> Option<LastProof<'_>> {
    let accepted = catalog.accepted_lineage().ok()?.id;
    let backups = catalog.backups().iter();
    let of_it = backups.filter(|backup| backup.manifest().lineage == accepted);
    let checked = of_it.flat_map(|backup| {
        let copies = backup.copies.iter();
        copies.filter_map(move |copy| match (&copy.standing, copy.checked_at) {
            (Standing::Good(proof), Some(checked_at)) => Some(LastProof {
                backup,
                proof: *proof,
                checked_at,
            }),
            (Standing::Good(proof), None) if *proof > Proof::Stored => Some(LastProof {
                backup,
                proof: *proof,
                checked_at: backup.manifest().first_byte_at,
            }),
            (Standing::Good(_), None) | (Standing::Bad(_), _) => None,
        })
    });
    checked.max_by_key(|last| (last.backup.revision(), last.backup.id(), last.proof, last.checked_at))
}

/// The first good backup in `destination` since which none was proven as far as `required`; none if the newest is.
pub fn unproven_since<'a>(catalog: &'a Catalog, destination: &str, required: Proof) -> Option<&'a Backup> {
    let mut since = None;
    for backup in catalog.backups() {
        let here = |copy: &&BackupCopy| copy.destination == destination;
        match backup.copies.iter().find(here).map(|copy| (&copy.standing, copy)) {
            Some((Standing::Good(proof), copy)) if *proof >= required_of(copy, required) => since = None,
            Some((Standing::Good(_), _)) => since = since.or(Some(backup)),
            // One that is bad is told of by itself.
            Some((Standing::Bad(_), _)) | None => {}
        }
    }
    since
}

/// What is required of a copy: of one that is not read back, what all others have from the first moment is not.
pub(super) fn required_of(copy: &BackupCopy, required: Proof) -> Proof {
    match required {
        Proof::Stored => copy.asked.least(),
        other => other,
    }
}

/// How long backups may go without proof: from a slot of what verifies them to the next, and until that one is late.
/// `verifies`: the schedules that do, each with how long after a slot its work must be done.
pub fn proof_within<'a>(verifies: impl Iterator<Item = (&'a When, Duration)>, now: Timestamp) -> Duration {
    let within = verifies.map(|(when, done_after)| longest_gap(when, now) + done_after);
    within.min().unwrap_or(UNPROVEN_FOR)
}

/// Between the next slots of a schedule: over a weekend it may be longer than in between.
fn longest_gap(when: &When, now: Timestamp) -> Duration {
    const LOOKED_AT: usize = 8;
    let next = |after: &Slot| when.slot_after(after.instant());
    let slots: Vec<Slot> = std::iter::successors(when.slot_after(now), next)
        .take(LOOKED_AT)
        .collect();
    let gaps = slots.windows(2).filter_map(|pair| match pair {
        [one, other] => Some(other.instant().duration_since(one.instant()).unsigned_abs()),
        _ => None,
    });
    gaps.max().unwrap_or(UNPROVEN_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::{Fixture, manifest};

    #[test]
    fn backups_wait_for_their_proof_since_the_last_one_that_has_it() {
        let taken = |hour, revision| manifest(0xab, &format!("20261120T{hour}1530Z-00000001"), revision);
        let [a, b, c] = [taken(10, 10), taken(11, 20), taken(12, 30)];
        let all = || Fixture::default().backup(&a).backup(&b).backup(&c);
        let since = |fixture: Fixture, required| {
            let catalog = fixture.catalog("local");
            unproven_since(&catalog, "local", required).map(|backup| backup.revision().get())
        };
        assert_eq!(since(all(), Proof::Stored), None);
        assert_eq!(since(all(), Proof::Content), Some(10));
        let day = "2026-11-21T00:00:00Z";
        let second = || all().check(&b, day, true, Proof::Content);
        assert_eq!(since(second(), Proof::Content), Some(30));
        assert_eq!(since(second(), Proof::HashKv), Some(10));
        assert_eq!(since(second().check(&c, day, true, Proof::HashKv), Proof::HashKv), None);
        let first_is_bad = second().check(&a, day, false, Proof::None);
        assert_eq!(since(first_is_bad, Proof::HashKv), Some(20));
        assert_eq!(unproven_since(&all().catalog("local"), "far", Proof::Content), None);
    }

    #[test]
    fn what_was_proven_while_it_was_taken_is_proven() {
        let older = manifest(0xab, "20261120T101530Z-00000001", 10);
        let mut newer = manifest(0xab, "20261120T111530Z-00000001", 20);
        newer.proof = Some(Proof::HashKv);
        let both = || Fixture::default().backup(&older).backup(&newer);
        let catalog = both()
            .check(&older, "2026-11-22T00:00:00Z", true, Proof::HashKv)
            .catalog("local");
        let last = last_proof(&catalog).unwrap();
        assert_eq!((last.backup.revision().get(), last.proof), (20, Proof::HashKv));
        assert_eq!(last.checked_at, newer.first_byte_at);
        // A check that finds less takes nothing of it, and one that finds damage all.
        let day = "2026-11-23T00:00:00Z";
        let stored = both().check(&newer, day, true, Proof::Stored).catalog("local");
        assert_eq!(last_proof(&stored).unwrap().proof, Proof::HashKv);
        assert!(last_proof(&both().check(&newer, day, false, Proof::None).catalog("local")).is_none());
        // What was wrong while it was taken, no check makes good.
        newer.faults = vec!["HashKV differs".to_owned()];
        let wrong = Fixture::default()
            .backup(&newer)
            .check(&newer, day, true, Proof::HashKv)
            .catalog("local");
        assert!(last_proof(&wrong).is_none() && wrong.latest().is_err());
    }

    #[test]
    fn the_last_proof_is_of_the_history_that_latest_is_taken_from() {
        let left = manifest(0xab, "20261120T101530Z-00000001", 1000);
        let [a, b] = [(1, 10), (2, 20)].map(|(hour, revision)| {
            let mut backup = manifest(0xab, &format!("20261121T0{hour}1530Z-00000002"), revision);
            backup.lineage = "ab-00000002".parse().unwrap();
            backup
        });
        let all = || {
            let all = Fixture::default().backup(&left).backup(&a).backup(&b);
            all.check(&left, "2026-11-20T12:00:00Z", true, Proof::HashKv).check(
                &a,
                "2026-11-21T02:00:00Z",
                true,
                Proof::Content,
            )
        };
        assert_eq!(
            last_proof(&all().catalog("local")),
            None,
            "nobody has said which one goes on"
        );
        let both = [&left.lineage, &a.lineage];
        let catalog = all()
            .accepted(1, &a.lineage, &both, "2026-11-21T03:00:00Z")
            .catalog("local");
        assert_eq!(catalog.latest().unwrap().id(), &b.chain);
        let last = last_proof(&catalog).unwrap();
        assert_eq!((last.backup.revision().get(), last.proof), (10, Proof::Content));
        let back = all()
            .accepted(1, &left.lineage, &both, "2026-11-21T03:00:00Z")
            .catalog("local");
        assert_eq!(last_proof(&back).unwrap().backup.revision().get(), 1000);
    }

    #[test]
    fn the_last_proof_is_that_of_the_newest_backup_that_was_checked() {
        let [a, b] = [10, 20].map(|revision| manifest(0xab, &format!("20261120T{revision}1530Z-00000001"), revision));
        let both = || Fixture::default().backup(&a).backup(&b);
        assert_eq!(last_proof(&both().catalog("local")), None);
        let catalog = both()
            .check(&a, "2026-11-22T00:00:00Z", true, Proof::HashKv)
            .check(&b, "2026-11-21T00:00:00Z", true, Proof::Content)
            .catalog("local");
        let last = last_proof(&catalog).unwrap();
        assert_eq!((last.backup.revision().get(), last.proof), (20, Proof::Content));
    }
}
