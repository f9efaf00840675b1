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
    /// the pin is to keep.
    pub fn take_out(&mut self, led: &BTreeMap<ChainPath, ChainPath>) -> Vec<Led> {
        let chains = std::mem::take(&mut self.chains);
        let mut taken = Vec::new();
        for chain in chains {
            match led.get(&chain.path) {
                Some(by) => taken.push(Led { chain, by: by.clone() }),
                None => self.chains.push(chain),
            }
        }
        for Led { chain, by } in taken.iter().filter(|led| led.chain.is_pinned()) {
            let leader = self.chains.iter_mut().find(|leader| leader.path == *by);
            if let Some(leader) = leader.filter(|leader| !leader.is_pinned()) {
                leader.pin = chain.pin.clone();
            }
        }
        taken
    }
}
