//! Whether all is well, and if not, what is wrong: one verdict for `status`, the agent's alerts, the metrics and the
//! heartbeat. They print it; none of them judges.
//!
//! Pure: from what was read of the destinations, of the schedules and of the members, and from `now`.

mod event;
mod notice;
mod proof;

pub use event::{Event, Level};
pub use notice::{About, Notice};
pub use proof::{LastProof, last_proof, unproven_since};
