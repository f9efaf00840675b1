//! Who takes a slot of a store that several hosts write to, and keeps it.
//!
//! In which `order` the hosts of a cluster try, what the claims in the store mean (`eligibility`), what becomes of the slot
//! then (`slot_outcome`): plain functions over values. `held_claim` writes a claim and renews it while the work goes on. The
//! documents are `layout::claim`'s, listing and writing them are `store`'s.

mod eligibility;
pub mod held_claim;
mod order;
mod slot_outcome;

pub use eligibility::{Standing, standing};
pub use held_claim::{Claimant, HeldClaim, Leaves};
pub use order::hosts_before;
pub use slot_outcome::{APART, Fate, Stored, later, look_again, number_of, was_faster};
