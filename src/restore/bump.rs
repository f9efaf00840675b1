//! Whether revisions jump when an older state comes back, and why.
//!
//! A client that watched the lost cluster remembers revisions that the restored one has yet to give out. Unless the new
//! ones begin beyond them, its caches stay wrong without a word. After a jump, with all history marked as compacted,
//! every watch is told to begin anew.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::model::Revision;

/// How far revisions jump unless the operator says otherwise: more than a cluster gives out between two backups, and the
/// same on every host.
const DEFAULT: u64 = 1_000_000_000;

/// `[restore] bump_revision`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// Where a later revision is known to have been handed out.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Always, by this much.
    By(NonZeroU64),
}

/// A revision that was handed out to clients, and where that is known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOut {
    /// It.
    pub revision: Revision,
    /// Such as `backup 20261120T101530Z-9f3c4a1b`.
    pub known_from: String,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bump {
    /// By how much; 0 for no jump.
    pub by: u64,
    /// Why, in a sentence.
    pub why: String,
}

impl Bump {
    /// What a rebuild wants to know.
    pub fn get(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.by)
    }
}

/// Decides, for a restore to `revision`.
pub fn decide(rule: Rule, revision: Revision, known: &[HandedOut]) -> Bump {
    let later = known.iter().filter(|known| known.revision > revision);
    let last = later.max_by_key(|known| known.revision);
    match (rule, last) {
        (Rule::By(by), _) => Bump {
            by: by.get(),
            why: format!("revisions jump by {by}, as was asked for"),
        },
        (Rule::Never, None) => Bump {
            by: 0,
            why: "revisions go on from the restored one, as was asked for".to_owned(),
        },
        (Rule::Never, Some(last)) => Bump {
            by: 0,
            why: format!(
                "revisions go on from the restored one, as was asked for, though {} was handed out ({}): clients that \
                 watch must be restarted",
                last.revision, last.known_from
            ),
        },
        (Rule::Auto, None) => Bump {
            by: 0,
            why: format!("revisions go on from the restored one: none later than {revision} is known here"),
        },
        (Rule::Auto, Some(last)) => Bump {
            by: DEFAULT,
            why: format!(
                "revisions jump by {DEFAULT}, because {} was handed out already ({}): clients that watch begin anew",
                last.revision, last.known_from
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: i64) -> Revision {
        Revision::new(number).unwrap()
    }

    #[test]
    fn revisions_jump_where_later_ones_are_known_unless_told_otherwise() {
        let known = |number| HandedOut {
            revision: revision(number),
            known_from: format!("backup {number}"),
        };
        let by = |rule, known: &[HandedOut]| decide(rule, revision(10), known).by;
        let seven = Rule::By(NonZeroU64::new(7).unwrap());
        assert_eq!(by(Rule::Auto, &[]), 0);
        assert_eq!(by(Rule::Auto, &[known(9), known(10)]), 0);
        assert_eq!(by(Rule::Auto, &[known(9), known(11)]), DEFAULT);
        assert_eq!(by(Rule::Never, &[known(11)]), 0);
        assert_eq!((by(seven, &[]), by(seven, &[known(11)])), (7, 7));
        let why = decide(Rule::Auto, revision(10), &[known(11), known(12)]).why;
        assert!(why.contains("12 was handed out already (backup 12)"), "{why}");
        let why = decide(Rule::Never, revision(10), &[known(11)]).why;
        assert!(why.contains("must be restarted"), "{why}");
    }
}
