//! How long a claim of a slot counts, by the store's clock.

use jiff::SignedDuration;

/// For how long a host claims a slot. It claims it again three times within that while its work goes on.
pub const LEASE: SignedDuration = SignedDuration::from_secs(60);

/// A claim is of no use to anybody so long after it was written.
pub const SWEPT_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);
