//! A restore on this host, as a command asks for it.
//!
//! `begin` finds out what is here (`this_host`, which has `find_etcd` find etcd), what is restored and to whom
//! (`restore_source`), and whether it may be (`running_members`), and carries it out; `finish` takes up the one that is open,
//! `rollback` takes one back, `release` gives up what they have kept. `first_backup` says who takes the next backup, `errors`
//! what to do next, `warnings` what to think of a plan and its end. What a restore does is `restore`'s; its `refusals` lists
//! where each refusal stands.

mod begin;
mod errors;
mod find_etcd;
mod finish;
mod first_backup;
mod member_access;
mod release;
mod restore_source;
mod rollback;
mod running_members;
mod session;
mod this_host;
mod warnings;

pub use begin::{Asked, Prepared, Watching, finish_in_background, prepare};
pub use find_etcd::{SettingsNow, data_dir, foreseen, settings_now};
pub use finish::{By, finish};
pub use first_backup::FirstBackup;
pub use release::{KeptOf, Releasing};
pub use rollback::{WayBack, set_aside};
pub use session::leave_session;
pub use this_host::Here;
pub use warnings::{begins_anew, not_revived, over_quota, seconds_down, undone, warnings, was_down};

use super::{Exit, Failure};
use crate::etcd_settings::Change;
use crate::restore::{Ledger, Outcome, Run};

/// A run that has come to its end.
#[derive(Debug)]
pub struct Ended {
    /// What was done.
    pub ledger: Ledger,
    /// What came of it.
    pub outcome: Outcome,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Whether it was turned back because another cluster lives.
    pub is_refused: bool,
    /// What the operator should change in etcd's own settings.
    pub to_change: Vec<Change>,
    /// Who takes the first backup of it.
    pub first_backup: FirstBackup,
}

impl Ended {
    /// What came of `run`.
    pub fn of(run: &Run<'_>, outcome: Outcome, to_change: Vec<Change>, first_backup: FirstBackup) -> Ended {
        Ended {
            ledger: run.ledger().clone(),
            outcome,
            notes: run.notes().to_vec(),
            is_refused: run.is_refused(),
            to_change,
            first_backup,
        }
    }
}

/// Refuses whoever is not root.
pub fn need_root(command: &str) -> Result<(), Failure> {
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Failed,
            format!("`{command}` stops and starts etcd and changes its data: only root may"),
        )
        .next(format!("run it again as `sudo lifeboat {command} …`"))),
    }
}
