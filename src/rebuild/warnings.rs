//! What is told of a source that is sound, and still not as it should be.

use super::database::MISSING_LEASE_TTL_SECONDS;
use super::{Applied, Rebuilt};
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
        warnings.extend(self.applied.as_ref().and_then(not_compared));
        warnings
    }
}

/// What is said where reports of members were of no use.
pub fn not_compared(applied: &Applied) -> Option<String> {
    let many = match applied.checkpoints.not_compared {
        0 => return None,
        1 => "1 HashKV that a member has reported was".to_owned(),
        many => format!("{many} HashKVs that members have reported were"),
    };
    Some(format!(
        "{many} not compared: the database was compacted further than that member, or had no key"
    ))
}
