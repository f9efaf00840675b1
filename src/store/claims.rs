//! Claims of slots: see [`crate::layout::claim`] for what they mean.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::Error;
use super::backend::Under;
use super::inner::Inner;
use crate::layout::claim::{Claim, Found, LEASE};
use crate::layout::{ChainPath, Listed, ListedObject, MAX_BYTES, Manifest, ObjectName, SlotPath};
use crate::model::ChainId;

/// The largest claim that is read.
const CLAIM_MAX: u64 = 64 << 10;

/// Chains that somebody works on, and the hosts that do.
pub(super) type Claimed = BTreeMap<ChainId, BTreeSet<String>>;

impl Inner {
    /// The claim of `slot` with the highest number.
    pub fn newest_claim(&self, slot: &SlotPath) -> Result<Option<Found>, Error> {
        let listed = self.list_all(&Under::Slot(slot.clone()))?;
        let claims = listed.iter().filter_map(|object| match &object.name {
            Listed::Ours(ObjectName::Claim(of, number)) if of == slot => Some((*number, object.modified)),
            _ => None,
        });
        match claims.max() {
            Some((number, written_at)) => self.found(slot, number, written_at).map(Some),
            None => Ok(None),
        }
    }

    /// Whether there is a backup of `slot` in `chain`: its manifest says so, and its object has that size.
    pub fn has_backup(&self, slot: &SlotPath, chain: &ChainId, sign: &dyn Fn()) -> Result<bool, Error> {
        for name in self.backend().folders()? {
            let Ok(cluster) = name.parse() else {
                continue;
            };
            let path = ChainPath {
                cluster,
                chain: chain.clone(),
            };
            let objects = self.list_chain(&path, sign)?;
            let stored = objects.iter().find_map(|object| match &object.name {
                Listed::Ours(ObjectName::Full(_)) => Some(object.bytes),
                _ => None,
            });
            for object in &objects {
                let Listed::Ours(name @ ObjectName::FullManifest(_, revision)) = &object.name else {
                    continue;
                };
                let Ok(bytes) = self.read_small(name, MAX_BYTES as u64) else {
                    continue;
                };
                let manifest = Manifest::read(&path, *revision, &bytes);
                if manifest
                    .is_ok_and(|read| read.slot_path().as_ref() == Some(slot) && Some(read.stored.bytes) == stored)
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn found(&self, slot: &SlotPath, number: u32, written_at: Timestamp) -> Result<Found, Error> {
        let name = ObjectName::Claim(slot.clone(), number);
        let claim = match self.read_small(&name, CLAIM_MAX) {
            Ok(bytes) => Claim::from_bytes(&bytes),
            Err(Error::Unfit { found, .. }) => Err(crate::layout::Fault::Unreadable { detail: found }),
            Err(error) => return Err(error),
        };
        Ok(Found {
            number,
            written_at,
            claim,
        })
    }

    /// Chains that somebody works on at `now`, as the claims among `objects` say.
    pub(super) fn claimed_chains(&self, objects: &[ListedObject], now: Timestamp) -> Result<Claimed, Error> {
        let mut chains = Claimed::new();
        for object in objects {
            let Listed::Ours(ObjectName::Claim(slot, number)) = &object.name else {
                continue;
            };
            // The others have run out, whatever stands in them.
            if now.duration_since(object.modified) > LEASE {
                continue;
            }
            match self.found(slot, *number, object.modified) {
                Ok(found) if found.is_live(now) => {
                    if let Ok(claim) = found.claim {
                        chains.entry(claim.chain).or_default().insert(claim.host);
                    }
                }
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(chains)
    }
}
