//! Why a chain is not followed any more.

use super::super::etcd_away::in_plain_words;
use super::super::reach::Known;
use super::super::told;
use crate::etcd;
use crate::layout::delta::GapReason;
use crate::layout::{Epoch, Outline};

/// Why a chain is not followed any more, for now or for good.
#[derive(Debug)]
pub(in crate::capture) enum End {
    /// It is to stop.
    Stopped,
    /// There is a newer full backup.
    Newer(Box<Outline>, Known),
    /// Another host writes.
    Outdone(Epoch),
    /// What was kept is lost, and stored nowhere.
    Missing,
    /// It may be gone on with in a while.
    Lost(String),
    /// The same: etcd does not answer, or the connection broke off.
    Away(String),
    /// It cannot be gone on with.
    Gap(GapReason, String),
}

impl End {
    /// A member could not do what it was asked for.
    pub(super) fn of_member(error: &etcd::Error) -> End {
        match error.may_pass() {
            true => End::Away(in_plain_words(&told(error))),
            false => End::Lost(told(error)),
        }
    }
}
