//! Backups that share the fate of another one: the same snapshot, made anew for other recipients.

use std::collections::BTreeMap;

use super::{Chain, Inventory};
use crate::layout::ChainPath;

/// A chain that is judged as another one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Led {
    /// The chain.
    pub chain: Chain,
    /// The other one.
    pub by: ChainPath,
}

impl Inventory {
    /// Takes out what others lead, so that a snapshot counts once. What leads one that is pinned is pinned: with it goes what
    /// the pin is to keep. It takes as many bytes as all of them, and leads as far as the one whose changes lead furthest: with it
    /// go those, too.
    pub fn take_out(&mut self, led: &BTreeMap<ChainPath, ChainPath>) -> Vec<Led> {
        let chains = std::mem::take(&mut self.chains);
        let mut taken = Vec::new();
        for chain in chains {
            match led.get(&chain.path) {
                Some(by) => taken.push(Led { chain, by: by.clone() }),
                None => self.chains.push(chain),
            }
        }
        for Led { chain, by } in &taken {
            let Some(leader) = self.chains.iter_mut().find(|leader| leader.path == *by) else {
                continue;
            };
            leader.bytes = leader.bytes.saturating_add(chain.bytes);
            if chain.is_good() {
                let proven = leader.proven().max(chain.proven());
                leader.reach = leader.reach.max(chain.reach);
                leader.proven = Some(proven).filter(|proven| *proven < leader.reach);
                leader.captured_at = leader.captured_at.max(chain.captured_at);
            }
            if chain.is_pinned() && !leader.is_pinned() {
                leader.pin = chain.pin.clone();
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::super::{KeepReason, Policy, plan};
    use super::*;
    use crate::catalog::tests::{Fixture, manifest};
    use crate::layout::{Epoch, Manifest, ObjectName, Proof, Rewrapped, Span};
    use crate::model::{ByteSize, Revision};

    /// A backup with changes up to revision 50, the same made anew for others, and a newer one.
    fn family() -> [Manifest; 3] {
        let old = manifest(0xab, "20261120T101530Z-00000001", 10);
        let mut anew = manifest(0xab, "20261120T101530Z-00000002", 10);
        anew.rewrapped = Some(Rewrapped {
            original: old.chain.clone(),
            generation: 1,
        });
        let mut newer = manifest(0xab, "20261120T111530Z-00000003", 20);
        (anew.lineage, newer.lineage) = (old.lineage.clone(), old.lineage.clone());
        [old, anew, newer]
    }

    fn inventory_of([old, anew, newer]: &[Manifest; 3], more: impl Fn(Fixture) -> Fixture) -> Inventory {
        let span = Span::new(Revision::new(11).unwrap(), Revision::new(50).unwrap()).unwrap();
        let delta = ObjectName::Delta(old.chain_path(), span, Epoch(1));
        let all = Fixture::default().backup(old).backup(anew).backup(newer);
        let catalog = more(all.list(&delta.to_string(), 1000)).catalog("local");
        let mut inventory = Inventory::of(&catalog, "local", &BTreeMap::new());
        let led = inventory.take_out(&catalog.led_in("local"));
        assert_eq!(led.len(), 1);
        inventory
    }

    fn planned(inventory: &Inventory, policy: &Policy, act: impl Fn(&super::super::Plan<'_>)) {
        let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        act(&plan(inventory, policy, now, &TimeZone::UTC));
    }

    #[test]
    fn what_leads_one_whose_changes_lead_furthest_stays_with_it() {
        let family = family();
        let policy = Policy {
            keep_last: 1,
            ..Policy::default()
        };
        planned(&inventory_of(&family, |all| all), &policy, |plan| {
            let kept = plan.keep.iter().find(|kept| *kept.chain.id() == family[1].chain);
            let reasons = &kept.unwrap().reasons;
            let furthest = Revision::new(50).unwrap();
            assert!(
                reasons
                    .iter()
                    .any(|reason| matches!(reason, KeepReason::ReachesFurther(to) if *to == furthest)),
                "{reasons:?}"
            );
        });
        // Of one that is bad nothing can be restored.
        let bad = |all: Fixture| all.check(&family[0], "2026-11-20T12:00:00Z", false, Proof::None);
        planned(&inventory_of(&family, bad), &policy, |plan| {
            assert_eq!(plan.remove.len(), 1, "{plan:?}");
        });
    }

    #[test]
    fn what_leads_takes_as_many_bytes_as_all_that_go_with_it() {
        let family = family();
        let [old, anew, newer] = &family;
        let all = old.stored.bytes + anew.stored.bytes + newer.stored.bytes + 1000;
        let policy = |max_bytes| Policy {
            max_bytes: Some(ByteSize(max_bytes)),
            ..Policy::default()
        };
        let inventory = inventory_of(&family, |all| all);
        planned(&inventory, &policy(all), |plan| {
            assert_eq!((plan.remove.len(), plan.excess), (0, ByteSize(0)));
        });
        planned(&inventory, &policy(all - 1), |plan| {
            assert_eq!(
                (plan.remove.len(), plan.excess),
                (0, ByteSize(1)),
                "it reaches furthest"
            );
        });
    }
}
