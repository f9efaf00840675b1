//! In which order the objects of a chain are removed, so that a kill between any two does no harm.
//!
//! ```text
//! manifest   from here on it is no backup: nothing lists it, restores it or counts it
//! checks     after the manifest, or a bad backup would look good for a while
//! deltas     and what else follows the full
//! object     last: an object without a manifest is what a sweep looks for, and it leads it to the rest
//! ```
//!
//! Invariant: nothing is removed that was not listed and is not of this chain and of a kind that this version knows.

use crate::layout::{ChainPath, Listed, ListedObject, ObjectName};

/// The listed objects of `chain` in the order of their removal; none if a pin has come since it was judged. Each must be
/// gone for good before the next is removed, and the listing be made after the plan. What is left of a removal that was
/// killed gives the rest of the same order.
pub fn removal_order(chain: &ChainPath, objects: &[ListedObject]) -> Option<Vec<ObjectName>> {
    let mut order: Vec<(Step, &ObjectName)> = Vec::new();
    for object in objects {
        let Listed::Ours(name) = &object.name else { continue };
        if name.chain() != Some(chain) {
            continue;
        }
        let step = match name {
            ObjectName::FullManifest(..) => Step::Manifest,
            ObjectName::Check(..) => Step::Check,
            ObjectName::Epoch(..)
            | ObjectName::Delta(..)
            | ObjectName::Pack(..)
            | ObjectName::Mark(..)
            | ObjectName::Gap(..) => Step::Link,
            ObjectName::Full(_) => Step::Object,
            ObjectName::Pin(_) => return None,
            // They are of no chain.
            ObjectName::StoreMarker
            | ObjectName::Signers
            | ObjectName::Acceptance(_)
            | ObjectName::Canary(_)
            | ObjectName::Claim(..) => {
                continue;
            }
        };
        order.push((step, name));
    }
    order.sort();
    Some(order.into_iter().map(|(_, name)| name.clone()).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Manifest,
    Check,
    Link,
    Object,
}
