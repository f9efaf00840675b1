//! From the spool to one destination: in order, each until it is there, however long that takes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::Surroundings;
use super::packing::Arrived;
use super::spool::{Next, Spool};
use super::status::Board;
use crate::error_chain::with_causes;
use crate::layout::delta::Head;
use crate::layout::{ChainPath, Listed, ObjectName};
use crate::model::Digest;
use crate::source::delta::{self, Belongs};
use crate::store::{self, ReadBack, Store};

/// How long it waits for something to store before it looks whether it is to stop.
const WAIT: Duration = Duration::from_millis(500);
/// How long it waits after a failure, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// For how long after it was begun a backup may be on its way to a destination.
const BACKUP_COMES_WITHIN: Duration = Duration::from_secs(900);
/// After how many objects that were passed over it is asked again whether a destination has come to have the backup.
const ASK_AGAIN_AFTER: u32 = 200;

/// The delivery to one destination.
pub struct Delivery {
    /// Its name.
    pub destination: String,
    /// Where everything comes from.
    pub spool: Arc<Spool>,
    /// What it may ask for.
    pub around: Arc<dyn Surroundings>,
    /// Where it says how it is.
    pub board: Arc<Board>,
    /// Where it leaves word of what is there now.
    pub arrived: Arc<Arrived>,
    /// Raised when it is to end.
    pub stop: Arc<AtomicBool>,
}

impl Delivery {
    /// Delivers until it is stopped. Blocks.
    pub fn run(&self) {
        let mut store = None;
        let mut has_chain = BTreeMap::new();
        let mut pause = PAUSES.0;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(next) = self.spool.next_for(&self.destination, WAIT) else {
                continue;
            };
            match self.deliver(&next, &mut store, &mut has_chain) {
                Ok(stored) => {
                    pause = PAUSES.0;
                    if let Some(bytes) = stored {
                        self.arrived.add(&next.name, bytes);
                    }
                    self.spool.confirm(&next, &self.destination);
                    let (span, now) = (next.name.span(), self.around.now().time);
                    self.board.stored(&self.destination, span, stored, now);
                    self.board.spool(self.spool.bytes());
                }
                Err(error) => {
                    store = None;
                    self.board.not_stored(&self.destination, error, self.around.now().time);
                    self.rest(pause);
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Gives how large it is; nothing where the destination is not to have it.
    fn deliver(
        &self,
        next: &Next,
        store: &mut Option<Store>,
        has_chain: &mut BTreeMap<ChainPath, (bool, u32)>,
    ) -> Result<Option<u64>, String> {
        let store = match store {
            Some(store) => store,
            None => store.insert(self.around.open(&self.destination)?),
        };
        let Some(chain) = next.name.chain() else {
            return Ok(None);
        };
        // Without the backup, what follows it is of no use there. It may be on its way.
        let (has, asked) = has_chain.entry(chain.clone()).or_insert((false, 0));
        if !*has {
            let age = self.around.now().time.duration_since(chain.chain.started_at());
            let may_come = age.unsigned_abs() < BACKUP_COMES_WITHIN;
            if may_come || *asked % ASK_AGAIN_AFTER == 0 {
                let listed = store.list_chain(chain).map_err(|error| with_causes(&error))?;
                *has = listed
                    .iter()
                    .any(|object| matches!(&object.name, Listed::Ours(name) if name.is_manifest()));
            }
            *asked = asked.wrapping_add(1);
            match (*has, may_come) {
                (true, _) => {}
                (false, true) => return Err(format!("backup {} is not there yet", chain.chain)),
                (false, false) => return Ok(None),
            }
        }
        let bytes = self.spool.read(next).map_err(|error| with_causes(&error))?;
        put(store, &next.name, &bytes).map_err(|error| with_causes(&error))?;
        Ok(Some(bytes.len() as u64))
    }

    fn rest(&self, pause: Duration) {
        let step = Duration::from_millis(100);
        let mut left = pause;
        while !left.is_zero() && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(step.min(left));
            left = left.saturating_sub(step);
        }
    }
}

/// Stores an object and, where the destination is read back, proves that it is there. One that is there already counts: a lost
/// reply is no failure, and what another run or host has written under the name is the same history.
fn put(store: &Store, name: &ObjectName, bytes: &[u8]) -> Result<(), store::Error> {
    let is_ours = match store.put_new(name, bytes) {
        // A word of who writes, or of where a chain ends: whoever said it first, it holds.
        Err(store::Error::AlreadyExists { .. }) if name.span().is_none() => return Ok(()),
        Err(store::Error::AlreadyExists { .. }) => false,
        Ok(()) => true,
        Err(error) => return Err(error),
    };
    store.lock_if_it_is_not(name)?;
    if !store.reads_back() {
        return Ok(());
    }
    let expected = ReadBack {
        bytes: bytes.len() as u64,
        sha256: Digest(Sha256::digest(bytes).into()),
    };
    if store.read_back(name)? == expected || (!is_ours && is_whole(store, name, bytes)) {
        return Ok(());
    }
    // What a store has altered is no delta, and the right bytes are at hand: they are stored anew.
    store.remove(name)?;
    Err(store::Error::Altered {
        at: store.address_of(name),
    })
}

/// Whether what has the name of these bytes is a delta of the same chain, whole and by somebody who counts.
fn is_whole(store: &Store, name: &ObjectName, bytes: &[u8]) -> bool {
    let Ok(head) = Head::read(name, bytes) else {
        return false;
    };
    let belongs = Belongs {
        chain: head.header.chain_path(),
        lineage: head.header.lineage,
    };
    delta::prove(store, &belongs, name, &|| ControlFlow::Continue(())).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::test_objects::Maker;
    use crate::store::tests::store;

    #[test]
    fn what_another_has_written_under_the_name_stays_and_what_is_damaged_is_stored_anew() {
        let ((_home, store), maker) = (store(), Maker::new());
        // Encrypted anew, it has other bytes.
        let ((name, ours), (_, others)) = (maker.delta(7, 9, 1), maker.delta(7, 9, 1));
        assert_ne!(ours, others);
        let there = || fs::read(store.path_of(&name)).unwrap();
        put(&store, &name, &others).unwrap();
        put(&store, &name, &ours).unwrap();
        assert!(there() == others);
        fs::write(store.path_of(&name), &others[..others.len() - 1]).unwrap();
        let altered = put(&store, &name, &ours);
        assert!(matches!(altered, Err(store::Error::Altered { .. })), "{altered:?}");
        put(&store, &name, &ours).unwrap();
        assert!(there() == ours);
    }
}
