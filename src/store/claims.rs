//! Claims of slots: see [`crate::layout::claim`] for what they mean.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::Error;
use super::backend::Under;
use super::over_backend::Inner;
use crate::layout::claim::CLAIM_HOLDS;
use crate::layout::claim::{Claim, Found};
use crate::layout::{ChainPath, Fault, Listed, ListedObject, MAX_BYTES, Manifest, ObjectName, SlotPath};
use crate::model::ChainId;

/// How many claims of strangers are read. Whoever may write may leave any number of them. A slot that has more is as good as
/// free: claims spare work, and two backups are better than none.
const MOST_STRANGERS: usize = 1000;

/// The largest claim that is read.
const CLAIM_MAX: u64 = 64 << 10;

/// Chains that somebody works on, and the hosts that do.
pub(super) type Claimed = BTreeMap<ChainId, BTreeSet<String>>;

impl Inner {
    /// The claim of `slot` with the highest number among those that count, and the next number that is free: strangers may
    /// have taken some.
    pub fn newest_claim(&self, slot: &SlotPath, sign: &dyn Fn()) -> Result<(Option<Found>, u32), Error> {
        let listed = self.list_all(&Under::Slot(slot.clone()), sign)?;
        let claims = listed.iter().filter_map(|object| match &object.name {
            Listed::Ours(ObjectName::Claim(of, number)) if of == slot => Some((*number, object.modified)),
            _ => None,
        });
        let mut claims: Vec<_> = claims.collect();
        claims.sort_unstable();
        let mut newest = None;
        for (number, written_at) in self.highest_first(&claims).take(MOST_STRANGERS) {
            sign();
            newest = self.found(slot, *number, *written_at)?;
            if newest.is_some() {
                break;
            }
        }
        // The last number there is: nobody comes near it, and it is not gone beyond.
        let mut next = newest.as_ref().map_or(1, |newest| newest.number.saturating_add(1));
        for (taken, _) in &claims {
            if *taken == next {
                next = next.saturating_add(1);
            }
        }
        Ok((newest, next))
    }

    /// Where signers are named, those at the head that have all numbers up to theirs: hosts leave out none, whoever has
    /// taken it, so that a number from far above is a stranger's.
    fn highest_first<'a>(&self, claims: &'a [(u32, Timestamp)]) -> impl Iterator<Item = &'a (u32, Timestamp)> {
        let in_a_row = claims.iter().zip(1..).take_while(|((number, _), next)| number == next);
        let (head, rest) = match self.authority().names_somebody() {
            true => claims.split_at(in_a_row.count()),
            false => (claims, &[][..]),
        };
        head.iter().rev().chain(rest.iter().rev())
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
                if self.authority().judge(name, &bytes).is_err() {
                    continue;
                }
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

    /// None if it is a stranger's. Where nobody is named, one that is broken or cannot be read is somebody's all the same: whoever
    /// has taken the slot, it is not free.
    fn found(&self, slot: &SlotPath, number: u32, written_at: Timestamp) -> Result<Option<Found>, Error> {
        let name = ObjectName::Claim(slot.clone(), number);
        let authority = self.authority();
        let claim = match self.read_small(&name, CLAIM_MAX) {
            Ok(bytes) => match authority.judge(&name, &bytes) {
                Ok(_) => Claim::from_bytes(&bytes),
                Err(_) if authority.names_somebody() => return Ok(None),
                Err(forged) => Err(Fault::Forged {
                    detail: forged.to_string(),
                }),
            },
            Err(Error::Unfit { .. }) if authority.names_somebody() => return Ok(None),
            Err(Error::Unfit { found, .. }) => Err(Fault::Unreadable { detail: found }),
            Err(error) => return Err(error),
        };
        Ok(Some(Found {
            number,
            written_at,
            claim,
        }))
    }

    /// Chains that somebody works on at `now`, as the claims among `objects` say.
    pub(super) fn claimed_chains(
        &self,
        objects: &[ListedObject],
        now: Timestamp,
        sign: &dyn Fn(),
    ) -> Result<Claimed, Error> {
        let mut chains = Claimed::new();
        let mut strangers = 0;
        for object in objects {
            let Listed::Ours(ObjectName::Claim(slot, number)) = &object.name else {
                continue;
            };
            // The others have run out, whatever stands in them.
            if now.duration_since(object.modified) > CLAIM_HOLDS {
                continue;
            }
            sign();
            match self.found(slot, *number, object.modified) {
                // Nobody knows what the others say.
                Ok(None) if strangers == MOST_STRANGERS => {
                    return Err(Error::Unfit {
                        at: self.address_of(&ObjectName::Claim(slot.clone(), *number)),
                        found: format!("one of more than {MOST_STRANGERS} claims that no trusted signer has signed"),
                        expected: "one of a host".to_owned(),
                    });
                }
                Ok(None) => strangers += 1,
                Ok(Some(found)) if found.is_live(now) => {
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
