//! The exit codes of the contract, and which of them a refusal of a store ends with.

use crate::store;

/// What an exit code says. The numbers are documented and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Some destination failed; which is in the output.
    Partly = 3,
    /// There is no such backup.
    NotFound = 4,
    /// Data is wrong.
    Damaged = 5,
    /// Another run is active.
    Locked = 6,
    /// A guard stopped it; the message names what overrides it.
    Refused = 7,
    /// No given identity opens it.
    WrongKey = 8,
    /// The configuration is invalid.
    Configuration = 78,
}

impl Exit {
    /// How work ends that a store refused.
    pub fn of_store(error: &store::Error) -> Exit {
        match error {
            store::Error::NoStore { .. }
            | store::Error::RootMissing { .. }
            | store::Error::NoBucket { .. }
            | store::Error::NoFolder { .. } => Exit::NotFound,
            store::Error::Altered { .. } | store::Error::MarkerDamaged { .. } => Exit::Damaged,
            _ => Exit::Failed,
        }
    }
}
