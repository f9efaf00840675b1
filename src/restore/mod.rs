//! The use case of a restore on a host: what is there makes way for a backup, and can come back.
//!
//! [`Plan`] says what will be done, as a value. [`Run`] carries it out: everything slow (making the new data and
//! checking it) happens beside the old data while etcd still runs; then etcd is stopped, old and new change places,
//! etcd is started with the settings of the new cluster and watched until it serves, or everything is put back. How
//! far it came stands in the [`Ledger`], written before each step, so that a run that was killed at any point is taken
//! up by the next.
//!
//! Decisions are functions of values: `plan`, `bump`, `rendezvous` (who founds the new cluster), `quorum` and
//! `running_members` (whether a restore is right), `transitions` (which step comes next), `swap` (which move),
//! `inventory` (whether old data is whole) and `member_health`. What this host alone is refused for is in `refusals`. Effects
//! are in `forward_steps`, `rendezvous_steps`, `rollback_steps`, `exchange_dir` (etcd's directories), `settings_files`
//! (settings), `ledger` and `member_watch`; the init system is behind [`Units`].
//!
//! Invariant: the old data is deleted by [`release`] and by nothing else.

mod accepted_history;
mod ask_members;
mod bump;
mod dbus;
mod exchange_dir;
mod forward_steps;
mod gathering;
mod init_system;
mod inventory;
mod ledger;
mod member_health;
mod member_watch;
mod mounts;
mod new_members;
mod plan;
mod quorum;
mod quota;
mod refusals;
mod release;
mod rendezvous;
mod rendezvous_steps;
mod rollback_steps;
mod run;
mod running_members;
mod settings_files;
mod site;
mod source_preview;
mod swap;
mod transitions;

use std::path::{Path, PathBuf};

pub use accepted_history::{Word, taken_back, word_for};
pub use ask_members::look_for_clusters;
pub use bump::{Bump, Rule as BumpRule, decide as decide_bump};
pub use dbus::OverDbus;
pub use exchange_dir::{Error as ExchangeDirError, gone_paths, kept_path, made_path, owner as owner_of};
pub use forward_steps::RESUME_UNIT;
pub use gathering::{Seen, look_around};
pub use init_system::{Activity, Guarded, Trouble, UnitState, Units};
pub use inventory::{Inventory, Lack};
pub use ledger::{
    Before, Built, Downtime, Error as LedgerError, Kept, Ledger, LedgerPaths, LedgerStore, Service, closed, held,
    open_ledger,
};
pub use member_watch::{Access, Patience, ask_all, peers, strangers};
pub use new_members::{Error as MembersError, members};
pub use plan::{Backup, ClusterPlan, Error as PlanError, HostPlan, Plan, PlannedFile, RestoreId, Site, Wish};
pub use quota::OverQuota;
pub use refusals::{Error as SiteError, refuse_mounts, refuse_not_loaded, refuse_other_ways, refuse_unready};
pub use release::{GiveUp, Release, kept_folders, releasable, release, release_stray, tidy_released};
pub use rendezvous::{Founders, Identity, Nonce, Presence, Terms, Told};
pub use run::{Listener, Outcome, Run, Tools};
pub use running_members::{NotNow, ThisMember, Wanted, judge as judge_running};
pub use site::{EtcdHere, changes_after, flags};
pub use source_preview::{Error as PreviewError, Preview, preview};
pub use transitions::{End, Step};

use crate::{datadir, durable, etcd, rebuild};

/// Why a restore, or the way back from one, does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one comes first.
    #[error("restore {id} is unfinished (now: {})", .step.words())]
    Open {
        /// The one that is open.
        id: RestoreId,
        /// Where it is.
        step: Step,
    },
    /// Nothing was restored here that could be taken back.
    #[error("no restore on this host can be taken back")]
    NoRestore,
    /// The old data was given up.
    #[error("the data from before restore {id} was given up with `release`")]
    Released {
        /// The restore.
        id: RestoreId,
    },
    /// The old data is being given up, which was cut off.
    #[error("the data from before restore {id} is being given up: a `release` was begun and has not ended")]
    Releasing {
        /// The restore.
        id: RestoreId,
    },
    /// The old data is not all where it was kept.
    #[error("restore {id} cannot be taken back, and nothing was touched")]
    NotKept {
        /// The restore.
        id: RestoreId,
        /// What is missing.
        source: exchange_dir::Error,
    },
    /// There was no data before.
    #[error("there was no data before restore {id} that etcd could be started on: there is nothing to go back to")]
    NothingBefore {
        /// The restore.
        id: RestoreId,
    },
    /// The listener ended the run.
    #[error("stopped before {}", .step.words())]
    Stopped {
        /// The step that was not taken.
        step: Step,
    },
    /// The init system refused.
    #[error("{doing} {unit}")]
    Units {
        /// What was attempted.
        doing: &'static str,
        /// On which unit.
        unit: String,
        /// What it said.
        source: Trouble,
    },
    /// The guard is written and not in force.
    #[error("{unit} would start though a restore is under way: {}", not_guarded(.why, .path))]
    NotGuarded {
        /// The unit.
        unit: String,
        /// The drop-in.
        path: PathBuf,
        /// How that is.
        why: Guarded,
    },
    /// Something is mounted in what is exchanged.
    #[error("`{}` is a mount point in what a restore exchanges as a whole: it would be moved along", .path.display())]
    Mounted {
        /// Where.
        path: PathBuf,
    },
    /// Something uses the data though the unit is down.
    #[error("something holds `{}` though {unit} is stopped: an etcd that was started otherwise?", .data_dir.display())]
    Held {
        /// The unit.
        unit: String,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// At this member's peer address nobody can be answered.
    #[error("answer the other members")]
    Port(#[from] etcd::PeerPortError),
    /// The other members cannot be asked.
    #[error("ask the other members")]
    Ask(#[source] etcd::Error),
    /// A cluster lives at the members' addresses.
    #[error("{words}")]
    Lives {
        /// Where, and which.
        words: String,
    },
    /// The new data cannot be made that of the new cluster.
    #[error("write who the members are into the new data")]
    Found(#[source] rebuild::Error),
    /// The founders give ids that etcd cannot work with.
    #[error("found the new cluster")]
    Founders(#[source] datadir::Error),
    /// It cannot be told whether anything holds the data.
    #[error("see whether the data is in use")]
    Look(#[source] rebuild::Error),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The directories.
    #[error(transparent)]
    ExchangeDir(#[from] exchange_dir::Error),
    /// The files of the settings.
    #[error(transparent)]
    Files(#[from] durable::Error),
}

impl Error {
    /// Whether it says only that it cannot be seen how things are. An init system that does not answer, as when the host
    /// shuts down, is no reason to take the new data away once the way to it is decided: others may serve it by then. And of
    /// a directory that is not mounted nothing is known: neither way may be gone. Nor does one whose place somebody else
    /// decides lead to the old data any more than to the new.
    fn is_blind(&self, step: Step) -> bool {
        // What is mounted there hides what is below. Before etcd is stopped that takes nothing away from it.
        let is_hidden = matches!(self, Error::Mounted { .. }) && step != Step::Guard;
        let is_silent = matches!(
            (self, step),
            (Error::Units { source, .. }, Step::Swap | Step::Settings | Step::Start | Step::Serve) if !source.is_refusal()
        );
        let is_away = matches!(
            (self, step),
            (Error::ExchangeDir(exchange_dir::Error::Missing { .. }), _)
                | (
                    Error::ExchangeDir(exchange_dir::Error::Foreign { .. }),
                    Step::Swap | Step::Start
                )
        );
        is_hidden || is_silent || is_away
    }

    /// Whether systemd will not do what was asked for, however often it is asked.
    pub fn is_refused_by_systemd(&self) -> bool {
        matches!(self, Error::Units { source, .. } if source.is_refusal())
    }

    fn units<'a>(doing: &'static str, unit: &'a str) -> impl FnOnce(Trouble) -> Error + 'a {
        move |source| Error::Units {
            doing,
            unit: unit.to_owned(),
            source,
        }
    }
}

/// How it comes that a guard does not hold.
fn not_guarded(why: &Guarded, path: &Path) -> String {
    let path = path.display();
    match why {
        Guarded::Unread | Guarded::Yes => format!("it has not read `{path}`, which is to keep it from that"),
        Guarded::Overruled => format!(
            "it has read `{path}`, which is to keep it from that, and then another drop-in that empties \
             `ConditionPathExists=`"
        ),
        Guarded::Unstartable => "systemd cannot read it, or it is masked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_done_at_a_step_and_not_what_the_code_calls_it() {
        let id: RestoreId = "20261120T101530Z-9f3c4a1b".parse().unwrap();
        for step in Step::ALL {
            let (id, words) = (id.clone(), step.words());
            let open = Error::Open { id, step }.to_string();
            assert_eq!(
                open,
                format!("restore 20261120T101530Z-9f3c4a1b is unfinished (now: {words})")
            );
            assert_eq!(Error::Stopped { step }.to_string(), format!("stopped before {words}"));
        }
    }
}
