//! What is told of a source that is sound, and still not as it should be.

use super::Rebuilt;
use super::database::MISSING_LEASE_TTL_SECONDS;
use crate::text::count;

/// How many leases are named; the others are only counted.
const NAMED_LEASES: usize = 10;

impl Rebuilt {
    /// What was no damage of the source, and still not as it should be, and what was done about it.
    pub fn warnings_of_source(&self) -> Vec<String> {
        let mut warnings = self.oddities.clone();
        let named = self.added_leases.iter().take(NAMED_LEASES);
        let hours = MISSING_LEASE_TTL_SECONDS / 3600;
        warnings.extend(
            named.map(|id| {
                format!("keys use lease {id}, which had no entry: it was added with a lifetime of {hours} h")
            }),
        );
        let more = self.added_leases.len().saturating_sub(NAMED_LEASES);
        if more > 0 {
            warnings.push(format!("and {} like that", count(more as u64, "lease")));
        }
        warnings
    }
}
