//! A plan carried out: each chain that goes, object by object.

use super::{MOST_STUCK, Plan};
use crate::layout::{ChainPath, Listed, ListedObject, ObjectName};
use crate::model::ChainId;
use crate::retention::removal_order;
use crate::store::{self, Store};

/// A chain that was to be removed and was not, or not all of it.
#[derive(Debug, thiserror::Error)]
#[error("{}{id}", if *.is_backup { "remove " } else { "remove what is left (a later sweep does) of the former backup " })]
pub struct Error {
    /// Which.
    pub id: ChainId,
    /// Whether it is a backup still: its manifest was not removed.
    pub is_backup: bool,
    /// Why.
    pub source: store::Error,
}

/// What came of removals.
#[derive(Debug, Default)]
pub struct Removed {
    /// What is no backup any more.
    pub gone: Vec<ChainId>,
    /// What could not be removed, or not all of it.
    pub stuck: Vec<Error>,
}

/// Removes what the plan names. One that cannot be removed keeps none of the others. `beat` is told of every object: a chain may have
/// tens of thousands.
pub fn carry_out(plan: &Plan, store: &Store, beat: impl Fn()) -> Removed {
    let mut done = Removed::default();
    for chain in &plan.chains {
        // One that was pinned since the listing stays too, and what leads such a one.
        let led = plan.led.get(chain).into_iter().flatten();
        let looked = match any_is_pinned(store, std::iter::once(chain).chain(led)) {
            Ok(true) => continue,
            Ok(false) => looked_at_again(store, chain),
            Err(error) => Err(error),
        };
        let (objects, has_strange_pin) = match looked {
            Ok(Some(looked)) => looked,
            Ok(None) => continue,
            Err(error) => {
                done.stuck.push(failed(chain, true, error));
                if done.stuck.len() == MOST_STUCK {
                    break;
                }
                continue;
            }
        };
        let Some(mut order) = removal_order(chain, &objects) else {
            continue;
        };
        order.extend(has_strange_pin.then(|| ObjectName::Pin(chain.clone())));
        let (mut is_backup, mut stuck) = (true, None);
        for object in order {
            beat();
            match store.remove(&object) {
                Ok(()) | Err(store::Error::NotFound { .. }) => is_backup = false,
                Err(error) => {
                    stuck = Some(failed(chain, is_backup, error));
                    break;
                }
            }
        }
        if !is_backup || stuck.is_none() {
            done.gone.push(chain.chain.clone());
        }
        done.stuck.extend(stuck);
        if done.stuck.len() == MOST_STUCK {
            break;
        }
        beat();
    }
    done
}

/// Whether one of them is pinned by now.
fn any_is_pinned<'a>(store: &Store, mut chains: impl Iterator<Item = &'a ChainPath>) -> Result<bool, store::Error> {
    chains.try_fold(false, |found, chain| Ok(found || store.is_pinned(chain)?))
}

/// What there is of a chain beside its pin, and whether it has one that pins nothing: a stranger's, which goes last. None if
/// it is pinned.
fn looked_at_again(store: &Store, chain: &ChainPath) -> Result<Option<(Vec<ListedObject>, bool)>, store::Error> {
    let is_pin = |object: &ListedObject| object.name == Listed::Ours(ObjectName::Pin(chain.clone()));
    // By a part of it the manifest might stay, and what it describes go.
    let listed = store.list_whole_chain(chain)?;
    let (pins, objects): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_pin);
    let has_pin = !pins.is_empty();
    Ok(match has_pin && store.is_pinned(chain)? {
        true => None,
        false => Some((objects, has_pin)),
    })
}

pub(super) fn failed(chain: &ChainPath, is_backup: bool, source: store::Error) -> Error {
    Error {
        id: chain.chain.clone(),
        is_backup,
        source,
    }
}
