//! What a command or the agent does: one backup, the verification of a share, retention. Where both do it, both call
//! the same path.
//!
//! `configuration`, `named_store`, `source` and `named_backup` find what a command names: the configuration, a store,
//! a snapshot, the backup that is meant. `store_variables` are the names by which a store is named without a
//! configuration.
//!
//! A job reads its destinations once (`stores`) and says what it does to whoever listens. `slot`, `scheduled_upkeep`
//! and `shared_slot_turn` are what the agent asks for when a slot has come (`slot_job`); `give_way_to_restore` lets a restore go
//! before every job.

pub mod accept_lineage;
pub mod adopt_store;
pub mod backup;
mod backup_by_hand;
pub mod backup_now;
pub mod backup_synthetic;
mod bandwidth;
pub mod behind;
pub mod capture;
pub mod check;
mod clock_error;
pub mod clock_set_back;
pub mod compact;
pub mod configuration;
pub mod copy;
mod exit;
pub mod export;
pub mod export_point;
mod failure;
mod fed_since;
mod first_backup;
pub mod follow;
pub mod give_way_to_restore;
pub mod headless;
pub mod host;
pub mod identities;
pub mod inspect;
mod job_metrics;
pub mod keygen;
pub mod last_seen;
pub mod named_backup;
pub mod named_store;
pub mod pin;
pub mod point;
mod point_snapshot;
pub mod probe_destinations;
pub mod prove_identity;
pub mod prune;
pub mod rebuild;
pub mod recipients;
pub mod recovery_sheet;
pub mod restore;
pub mod rewrap;
mod scheduled_upkeep;
mod shared_slot_turn;
pub mod signing;
mod slot;
mod slot_job;
pub mod source;
mod standard_input;
mod store_variables;
pub mod stores;
pub mod survey_destinations;
pub mod unit_access;
pub mod verify;

pub use exit::Exit;
pub use failure::{Failure, failed};
pub use job_metrics::{LastBackup, Phases, Retained};
pub use slot::carry_out;
pub use slot_job::{Ended, Findings, Order, Taken, Trouble};

/// How many columns the names of values have, in what is said of one thing.
pub const FIELD: usize = 14;

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

    /// What is going to be done, before anything is.
    fn announce(&self, text: &str) {
        self.detail(text);
    }

    /// A named value of what is going to be done.
    fn announce_field(&self, name: &str, value: &str) {
        self.announce(&format!("{name:<FIELD$} {value}"));
    }

    /// Begins to show how far something is: called with the bytes that are done and all there are. It is shown until what
    /// is returned is dropped.
    fn progress(&self, _what: &'static str) -> Box<dyn Fn(u64, u64)> {
        Box::new(|_, _| {})
    }
}
