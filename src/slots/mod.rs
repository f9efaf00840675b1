//! Who takes a slot of a store that several hosts write to, and keeps it.
//!
//! In which `order` the hosts of a cluster try, what the claims in the store mean (`free_or_taken`), what becomes of
//! the slot then (`slot_outcome`): plain functions over values. `claiming` writes a claim and renews it while the
//! work goes on. The documents are `layout::claim`'s, listing and writing them are `store`'s.

pub mod claiming;
mod free_or_taken;
mod order;
mod slot_outcome;

pub use claiming::{Claimant, HeldClaim, Leaves};
pub use free_or_taken::{Standing, standing};
pub use order::hosts_before;
pub use slot_outcome::{APART, Fate, Stored, later, look_again, number_of, was_faster, was_taken_by};
