//! What a command and the agent both do: one backup, the verification of a share, retention. Both call the same path.
//!
//! A job reads its destinations once (`stores`) and says what it does to whoever listens. `slot`, `rounds` and `turn` are
//! what the agent asks for when a slot has come (`order`); `give_way` lets a restore go before every job.

pub mod accept;
pub mod backup;
pub mod copy;
mod failure;
pub mod give_way;
pub mod host;
pub mod look;
mod measured;
mod order;
pub mod prune;
pub mod recipients;
mod rounds;
mod slot;
pub mod stores;
mod turn;
pub mod verify;

pub use failure::{Exit, Failure, failed};
pub use measured::{LastBackup, Phases, Retained};
pub use order::{Ended, Findings, Order, Taken, Trouble};
pub use slot::carry_out;

/// Who hears what a job says while it works: a terminal, or a journal.
pub trait Listener: Send + Sync {
    /// What must not be missed, however little else is wanted.
    fn alarm(&self, text: &str) {
        self.warn(text);
    }

    /// What the operator should know, beside the result.
    fn warn(&self, text: &str);

    /// What is being done.
    fn detail(&self, text: &str);
}
