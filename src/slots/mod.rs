//! Who takes a slot of a store that several hosts write to, and keeps it.
//!
//! In which `order` the hosts of a cluster try, what the claims in the store mean (`standing`), what becomes of the slot
//! then (`fate`): plain functions over values. `held_claim` writes a claim and renews it while the work goes on. The
//! documents are `layout::claim`'s, listing and writing them are `store`'s.

mod fate;
pub mod held_claim;
mod order;
mod standing;

pub use fate::{APART, Fate, Stored, later, look_again, number_of, was_faster};
pub use held_claim::{Claimant, HeldClaim, Leaves};
pub use order::hosts_before;
pub use standing::{Standing, standing};
