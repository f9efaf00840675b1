//! What this host has seen last in each destination, and who signed it: `tips.json`, `seen-signers.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, FOLDER_MODE, State, lock};
use crate::catalog::Tip;
use crate::durable::{self, Lock};
use crate::signing::SignerKey;
use crate::store::StoreId;

const TIPS: &str = "tips.json";
const LOCK: &str = "seen.lock";
/// How long it is waited for others that change what was seen: they only read and write one file.
const LOCK_WITHIN: Duration = Duration::from_secs(10);
const SIGNERS: &str = "seen-signers.json";
/// How many histories of one destination are remembered, those whose newest backup began last.
const MOST_HISTORIES: usize = 16;
/// How many signers are remembered: more than that no cluster has.
const MOST_SIGNERS: usize = 256;

/// By destination.
pub type SeenTips = BTreeMap<String, SeenThere>;

/// What was seen in one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenThere {
    /// Which store it was. What was seen in another says nothing of this one.
    pub store_id: StoreId,
    /// The newest good backup of each history.
    pub tips: Vec<Tip>,
}

#[derive(Serialize, Deserialize)]
struct Tips {
    destinations: SeenTips,
}

#[derive(Serialize, Deserialize)]
struct SeenSigners {
    signers: BTreeSet<SignerKey>,
}

impl State {
    /// What was seen last in each destination.
    pub fn tips(&self) -> Result<SeenTips, Error> {
        let read: Option<Tips> = self.recall(TIPS)?;
        Ok(read.map(|tips| tips.destinations).unwrap_or_default())
    }

    /// Changes what is remembered of what was seen; whoever does so at the same time waits for the other.
    pub fn update_tips(&self, change: impl FnOnce(&mut SeenTips)) -> Result<(), Error> {
        let _lock = self.lock_of_what_was_seen()?;
        let before = self.tips()?;
        let mut destinations = before.clone();
        change(&mut destinations);
        for seen in destinations.values_mut() {
            seen.tips.sort_by(|a, b| b.chain.cmp(&a.chain));
            seen.tips.truncate(MOST_HISTORIES);
        }
        match before == destinations {
            true => Ok(()),
            false => self.remember(TIPS, Tips { destinations }),
        }
    }

    /// Held while one of what was seen is changed.
    pub(super) fn lock_of_what_was_seen(&self) -> Result<Lock, Error> {
        durable::create_dirs(self.folder(), FOLDER_MODE)?;
        lock(&self.folder().join(LOCK), LOCK_WITHIN)
    }

    /// Those who have signed what this host has seen; none where it has not looked yet.
    pub fn seen_signers(&self) -> Result<Option<BTreeSet<SignerKey>>, Error> {
        let read: Option<SeenSigners> = self.recall(SIGNERS)?;
        Ok(read.map(|seen| seen.signers))
    }

    /// Remembers these too.
    pub fn remember_signers(&self, new: &BTreeSet<SignerKey>) -> Result<(), Error> {
        let _lock = self.lock_of_what_was_seen()?;
        let seen = self.seen_signers()?;
        let mut signers = seen.clone().unwrap_or_default();
        let room = MOST_SIGNERS.saturating_sub(signers.len());
        signers.extend(new.difference(&signers.clone()).take(room));
        match seen.as_ref() == Some(&signers) {
            true => Ok(()),
            false => self.remember(SIGNERS, SeenSigners { signers }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::{Role, SigningKey};

    #[test]
    fn what_was_seen_is_remembered_with_a_bound() {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        assert!(state.tips().unwrap().is_empty());
        let tip = |number: u32| Tip {
            lineage: format!("ab-{number:08x}").parse().unwrap(),
            chain: format!("20261121T101530Z-{number:08x}").parse().unwrap(),
            revision: crate::model::Revision::new(i64::from(number) + 1).unwrap(),
            manifest: crate::model::Digest([1; 32]),
            generation: 0,
            original: None,
            plain: None,
            index: Some(7),
            term: None,
        };
        let store_id: StoreId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let tips = (0..100).map(tip).collect();
        let seen = SeenThere { store_id, tips };
        state
            .update_tips(|all| drop(all.insert("far".to_owned(), seen)))
            .unwrap();
        let kept = &state.tips().unwrap()["far"].tips;
        assert_eq!((kept.len(), kept[0] == tip(99)), (MOST_HISTORIES, true));

        // Two at once lose nothing of each other.
        let empty = |number: u32| SeenThere {
            store_id: format!("{number:032x}").parse().unwrap(),
            tips: Vec::new(),
        };
        std::thread::scope(|scope| {
            for number in 0..16 {
                let state = &state;
                scope.spawn(move || {
                    let name = format!("n{number}");
                    state.update_tips(|all| drop(all.insert(name, empty(number)))).unwrap();
                });
            }
        });
        assert_eq!(state.tips().unwrap().len(), 17);

        assert_eq!(state.seen_signers().unwrap(), None);
        let key = |number: u16| {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&number.to_le_bytes());
            SigningKey::of_seed(Role::Signer, seed).public()
        };
        state.remember_signers(&(0..300).map(key).collect()).unwrap();
        assert_eq!(state.seen_signers().unwrap().unwrap().len(), MOST_SIGNERS);
    }
}
