//! Whose turn a slot is in a store that several hosts write to, by its claims.

use super::stores::open_to_write;
use super::{Failure, Order, failed, host};
use crate::config::DestinationName;
use crate::error_chain::with_causes;
use crate::layout::SlotPath;
use crate::model::ChainId;
use crate::slots::{Claimant, Fate, HeldClaim, Leaves, Stored, claiming, number_of, was_faster};
use crate::store::{self, Store};

/// Claims the slot of a run that takes no backup. None in a store that only this host writes to; if another host has the
/// slot, what becomes of it here.
pub(super) fn claim(order: &Order, name: &DestinationName) -> Result<Option<HeldClaim>, Fate> {
    if !order.config.is_shared(name.as_str()) {
        return Ok(None);
    }
    let slot = SlotPath::new(order.schedule.clone(), order.slot.instant());
    let (store, claimant) = claimant(order, name).map_err(|failure| Fate::Failed(failure.message().to_owned()))?;
    let store = store.map_err(|error| unusable(&error))?;
    let standing =
        claiming::look(&store, &slot, Leaves::Nothing, |_| false, host::now()).map_err(|error| unusable(&error))?;
    let number = number_of(standing, host::now()).map_err(without_backup)?;
    let claimed = HeldClaim::begin(&store, &slot, number, &claimant).map_err(|error| unusable(&error))?;
    claimed.map(Some).ok_or_else(|| was_faster(host::now()))
}

fn claimant(order: &Order, name: &DestinationName) -> Result<(Result<Store, store::Error>, Claimant), Failure> {
    let config = &*order.config;
    let state = host::state(&config.cluster.name)?;
    let destinations = open_to_write(config, &state, &[name.to_string()])?;
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

pub(super) fn unusable(error: &store::Error) -> Fate {
    Fate::Failed(with_causes(error))
}
