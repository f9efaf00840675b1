//! Whether revisions jump when an older state comes back, and by how much.
//!
//! A client that watched the lost cluster remembers revisions that the restored one has yet to give out. Unless the new
//! ones begin beyond them, its caches stay wrong without a word. After a jump, with all history marked as compacted,
//! every watch is told to begin anew.
//!
//! Invariant: the configuration alone decides. What a host sees beside it, another one may not see, and all members of a
//! cluster must come to the same revision.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// How far revisions jump unless the operator says otherwise: more than a cluster gives out between two backups.
const DEFAULT: u64 = 1_000_000_000;

/// `[restore] bump_revision`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// By 1 000 000 000.
    #[default]
    Auto,
    /// Not at all.
    Never,
    /// By this much.
    By(NonZeroU64),
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bump {
    /// By how much; 0 for no jump.
    pub by: u64,
    /// What that means, in a sentence.
    pub why: String,
}

impl Bump {
    /// What a rebuild wants to know.
    pub fn get(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.by)
    }
}

/// Decides by the rule.
pub fn decide(rule: Rule) -> Bump {
    let by = match rule {
        Rule::Auto => DEFAULT,
        Rule::Never => 0,
        Rule::By(by) => by.get(),
    };
    let why = match by {
        0 => "revisions go on from there, as `bump_revision` says: clients that watch must be restarted".to_owned(),
        by => format!("revisions jump by {by}: clients that watch begin anew"),
    };
    Bump { by, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_jump_by_the_same_everywhere_unless_told_otherwise() {
        let by = |rule| decide(rule).by;
        let seven = Rule::By(NonZeroU64::new(7).unwrap());
        assert_eq!((by(Rule::default()), by(Rule::Never), by(seven)), (1_000_000_000, 0, 7));
        assert!(decide(Rule::Never).why.contains("must be restarted"));
        assert!(decide(seven).why.contains("jump by 7"));
    }
}
