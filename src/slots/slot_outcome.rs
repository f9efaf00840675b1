//! What became of a slot in one destination, and what its claims mean for that.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::free_or_taken::Standing;
use crate::model::ChainId;

/// By how much later each host tries than the one before it.
pub const APART: SignedDuration = SignedDuration::from_secs(5);
/// How soon a slot is looked at again that another host works on.
const LOOKED_AT_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// What became of a slot in one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its backup is there, or what else was to be done is done.
    Stored(Stored),
    /// Something is waited for: another run on this host, or another host.
    Later {
        /// What.
        why: String,
        /// When to look again.
        until: Timestamp,
    },
    /// It failed.
    Failed(String),
}

/// A slot that is done in one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The host that did it: this one or, in a shared store, any.
    pub host: String,
    /// The backup; none where the work is to take none.
    pub id: Option<ChainId>,
}

/// The number by which this host may claim a slot, or what the slot's standing at `now` means for it.
pub fn number_of(standing: Standing, now: Timestamp) -> Result<u32, Fate> {
    match standing {
        Standing::Free(number) => Ok(number),
        Standing::Done { host, chain } => Err(Fate::Stored(Stored { host, id: Some(chain) })),
        Standing::Held { host, left } => Err(look_again(format!("host {host} takes it"), left, now)),
    }
}

/// What becomes of a slot that another host has claimed between a look and a claim.
pub fn was_faster(now: Timestamp) -> Fate {
    look_again("another host was faster".to_owned(), LOOKED_AT_EVERY, now)
}

/// What becomes of a slot whose backup may be the first one, where a host is at that.
pub fn was_taken_by(host: &str, now: Timestamp) -> Fate {
    look_again(
        format!("host {host} takes the first backup there"),
        LOOKED_AT_EVERY,
        now,
    )
}

/// What becomes of a slot that is looked at again when `left` is over, or before.
pub fn look_again(why: String, left: SignedDuration, now: Timestamp) -> Fate {
    let until = later(now, left.clamp(SignedDuration::from_secs(1), LOOKED_AT_EVERY));
    Fate::Later { why, until }
}

/// An instant `by` so much later, if there is one.
pub fn later(instant: Timestamp, by: SignedDuration) -> Timestamp {
    instant.saturating_add(by).unwrap_or(instant)
}
