//! Whose turn a slot is in a store that several hosts write to, by its claims.

use jiff::{SignedDuration, Timestamp};

use crate::agent::tenure::{self, Claimant, Tenure};
use crate::agent::{Fate, Order, Stored};
use crate::catalog::SlotPath;
use crate::catalog::claim::Standing;
use crate::cli::Failure;
use crate::cli::host::{self, failed};
use crate::cli::places::destinations;
use crate::config::DestinationName;
use crate::model::{ChainId, with_causes};
use crate::store::{self, FileStore};

/// By how much later each host tries than the one before it.
pub(super) const APART: SignedDuration = SignedDuration::from_secs(5);
/// How soon a slot is looked at again that another host works on.
pub(super) const LOOKED_AT_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Claims the slot of a run that takes no backup. None in a store that only this host writes to; if another host has the
/// slot, what becomes of it here.
pub(super) fn claim(order: &Order, name: &DestinationName) -> Result<Option<Tenure>, Fate> {
    if !order.config.is_shared(name.as_str()) {
        return Ok(None);
    }
    let slot = SlotPath::new(order.schedule.clone(), order.slot.instant());
    let (store, claimant) = claimant(order, name).map_err(|failure| Fate::Failed(failure.message().to_owned()))?;
    let store = store.map_err(|error| unusable(&error))?;
    let standing = tenure::look(&store, &slot, |_| false, host::now()).map_err(|error| unusable(&error))?;
    let number = number_of(standing).map_err(without_backup)?;
    let claimed = Tenure::begin(&store, &slot, number, &claimant).map_err(|error| unusable(&error))?;
    claimed.map(Some).ok_or_else(was_faster)
}

fn claimant(order: &Order, name: &DestinationName) -> Result<(Result<FileStore, store::Error>, Claimant), Failure> {
    let config = &*order.config;
    let state = host::state(&config.cluster.name)?;
    let destinations = destinations(config, &state, &[name.to_string()])?;
    let store = destinations
        .into_iter()
        .next()
        .expect("one name gives one destination")
        .store;
    let random = getrandom::u32().map_err(failed)?;
    let claimant = Claimant {
        host: host::host_name(),
        run: format!("{random:08x}"),
        // Of no backup: it only tells this run from others.
        chain: ChainId::new(host::now(), random),
    };
    Ok((store, claimant))
}

fn without_backup(fate: Fate) -> Fate {
    match fate {
        Fate::Stored(Stored { host, .. }) => Fate::Stored(Stored { host, id: None }),
        Fate::Later { .. } | Fate::Failed(_) => fate,
    }
}

/// The number by which this host may claim a slot, or what the slot's standing means for it.
pub(super) fn number_of(standing: Standing) -> Result<u32, Fate> {
    match standing {
        Standing::Free(number) => Ok(number),
        Standing::Done { host, chain } => Err(Fate::Stored(Stored { host, id: Some(chain) })),
        Standing::Held { host, left } => Err(look_again(format!("host {host} takes it"), left)),
    }
}

/// What becomes of a slot that another host has claimed between a look and a claim.
pub(super) fn was_faster() -> Fate {
    look_again("another host was faster".to_owned(), LOOKED_AT_EVERY)
}

pub(super) fn look_again(why: String, left: SignedDuration) -> Fate {
    let until = later(host::now(), left.clamp(SignedDuration::from_secs(1), LOOKED_AT_EVERY));
    Fate::Later { why, until }
}

pub(super) fn unusable(error: &store::Error) -> Fate {
    Fate::Failed(with_causes(error))
}

pub(super) fn later(instant: Timestamp, by: SignedDuration) -> Timestamp {
    instant.saturating_add(by).unwrap_or(instant)
}
