//! Whether a member goes on with the history that was captured so far.
//!
//! An etcd whose data was replaced by hand, from a snapshot with the same token and peer URLs, has the cluster and member ids
//! that it had, and sooner or later a revision beyond the last one that was captured. Its log began anew, and that tells:
//! terms never fall, and no revision is made without an entry of the log.

use crate::etcd::Status;
use crate::layout::Outline;
use crate::model::Revision;

/// By so many entries an index may be ahead of the revision beside it: what writes both does so one after the other.
const SLACK: u64 = 16;

/// How far a history has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    /// A revision.
    pub revision: Revision,
    /// The index of the last entry of Raft's log that was applied, where that is known: of what counts as before no later
    /// than the revision was, of what counts as now no earlier.
    pub index: Option<u64>,
    /// The term of that entry, or of the member then.
    pub term: Option<u64>,
}

impl Stand {
    /// That of a full backup.
    pub fn of(full: &Outline) -> Stand {
        Stand {
            revision: full.to_revision,
            index: full.consistent_index,
            term: full.raft_term,
        }
    }

    /// That of a member whose store is at `revision`.
    pub fn of_member(revision: Revision, status: &Status) -> Stand {
        Stand {
            revision,
            index: Some(status.applied_index),
            term: Some(status.raft_term),
        }
    }

    /// Why `now` is not of the same history, later; none where it may be.
    pub fn fell(&self, now: &Stand) -> Option<String> {
        if let Some((before, now)) = self.term.zip(now.term)
            && now < before
        {
            return Some(format!("Raft's term is {now}, and was {before} already"));
        }
        let (before, is) = self.index.zip(now.index)?;
        let made = now.revision.get().saturating_sub(self.revision.get());
        let least = before.saturating_add(u64::try_from(made).unwrap_or(0));
        if is >= before && is >= least.saturating_sub(SLACK) {
            return None;
        }
        Some(format!(
            "the index of Raft's log is {is} at revision {}, and was {before} at revision {} already, with one entry a revision at least",
            now.revision, self.revision
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(revision: i64, index: u64, term: u64) -> Stand {
        Stand {
            revision: Revision::new(revision).unwrap(),
            index: Some(index),
            term: Some(term),
        }
    }

    #[test]
    fn what_goes_on_needs_an_entry_for_each_revision() {
        let full = stand(100, 150, 3);
        for now in [
            stand(100, 150, 3),
            stand(100, 5000, 3),
            stand(150, 200, 7),
            // The index of the backup may be ahead of its revision by what was being written.
            stand(150, 198, 3),
        ] {
            assert_eq!(full.fell(&now), None, "{now:?}");
        }
        let unknown = Stand {
            index: None,
            term: None,
            ..full
        };
        assert_eq!(unknown.fell(&stand(100, 1, 1)), None);
        assert_eq!(full.fell(&unknown), None);
    }

    #[test]
    fn a_log_that_began_anew_is_told_by_its_term_and_its_index() {
        let full = stand(100, 150, 3);
        let term = full.fell(&stand(200, 900, 2)).unwrap();
        assert_eq!(term, "Raft's term is 2, and was 3 already");
        let index = full.fell(&stand(200, 40, 3)).unwrap();
        assert!(
            index.starts_with("the index of Raft's log is 40 at revision 200"),
            "{index}"
        );
        // Put back to revision 60, and written to since: its index has overtaken the backup's, its revisions are too many for it.
        assert!(full.fell(&stand(300, 245, 3)).is_some());
        // One whose revisions were made to jump.
        assert!(full.fell(&stand(1_000_000_100, 400, 3)).is_some());
        assert!(
            full.fell(&stand(100, 149, 3)).is_some(),
            "nothing was written, and it fell all the same"
        );
    }
}
