//! What is kept of restores, given up as a command asks for it.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;
use tokio::runtime::Handle;

use super::errors::failure;
use super::find_etcd::connect;
use crate::error_chain::with_causes;
use crate::jobs::{Exit, Failure, Listener};
use crate::restore::{
    Error, ExchangeDirError, Kept, Ledger, LedgerError, LedgerPaths, LedgerStore, OverDbus, Release, RestoreId,
    kept_folders, releasable, release, release_stray, tidy_released,
};

/// What is kept of a restore.
#[derive(Debug, Serialize)]
pub struct KeptOf {
    /// The restore.
    pub id: String,
    /// The folders.
    pub paths: Vec<PathBuf>,
    /// How much is in them.
    pub bytes: u64,
}

/// All that is given up.
pub struct Releasing {
    /// What is deleted. Of restores that never came to it, nothing is kept.
    pub kept: Vec<KeptOf>,
    ledgers: Vec<Ledger>,
    stray: Option<String>,
}

impl Releasing {
    /// Finds what is kept, or what is kept of `only` one restore.
    pub fn find(only: Option<&RestoreId>) -> Result<Releasing, Failure> {
        let Release { mut ledgers, stray } = releasable(&LedgerPaths::default()).map_err(failure)?;
        let is_meant = |held: &String| only.is_none_or(|id| id.to_string() == *held);
        let stray = stray.filter(is_meant);
        if let Some(id) = only {
            // What was begun is finished with it.
            if ledgers.iter().all(|ledger| ledger.id() != id) && stray.is_none() {
                return Err(Failure::new(Exit::NotFound, format!("nothing is kept of restore {id}")));
            }
            ledgers.retain(|ledger| ledger.id() == id || ledger.kept == Kept::Releasing);
        }
        let kept = ledgers.iter().map(kept).filter(|kept| !kept.paths.is_empty());
        Ok(Releasing {
            kept: kept.collect(),
            ledgers,
            stray,
        })
    }

    /// Whether anything is given up that no release has begun to.
    pub fn begins(&self) -> bool {
        let is_asked_for = |kept: &KeptOf| {
            self.ledgers
                .iter()
                .any(|ledger| ledger.kept == Kept::Here && ledger.id().to_string() == kept.id)
        };
        self.kept.iter().any(is_asked_for)
    }

    /// Deletes it.
    pub fn carry_out(&self, listener: &dyn Listener, runtime: &Handle) -> Result<(), Failure> {
        let ledger_paths = LedgerPaths::default();
        // Looking for one must not make the folder.
        if !ledger_paths.folder.exists() {
            return Ok(());
        }
        let ledger_store = LedgerStore::open(ledger_paths).map_err(|error| failure(error.into()))?;
        if !self.ledgers.is_empty() {
            let systemd = connect(runtime)?;
            let units = OverDbus::new(&systemd, runtime);
            for ledger in &self.ledgers {
                let given_up = release(&ledger_store, ledger.id(), &units, &|_| ControlFlow::Continue(()));
                given_up.map_err(|error| cut_off(ledger.id(), error))?;
            }
        }
        if let Some(stray) = &self.stray {
            release_stray(&ledger_store).map_err(failure)?;
            listener.warn(&format!(
                "etcd was kept from starting by restore {stray}, whose ledger is gone; it may start again"
            ));
        }
        tidy_released(&ledger_store).map_err(failure)
    }
}

/// What is said of a release that does not come to its end.
fn cut_off(id: &RestoreId, error: Error) -> Failure {
    let text = with_causes(&error);
    match error {
        // Of data that somebody has to reach first, nothing is deleted.
        Error::ExchangeDir(ExchangeDirError::Files(_)) | Error::Files(_) | Error::Ledger(LedgerError::Files(_)) => {
            Failure::new(Exit::Failed, format!("what is kept of restore {id} is not all deleted: {text}")).next(
                "nothing of it comes back any more; when the cause is gone (a file that is immutable: `lsattr`, `chattr -i`), \
                 run `lifeboat release` again, which deletes the rest",
            )
        }
        Error::ExchangeDir(ExchangeDirError::Missing { .. }) => {
            Failure::new(Exit::Failed, text).next("when it is mounted, run it again: what is kept there stays until then")
        }
        other => failure(other),
    }
}

fn kept(ledger: &Ledger) -> KeptOf {
    let (paths, bytes) = kept_folders(ledger);
    KeptOf {
        id: ledger.id().to_string(),
        paths,
        bytes,
    }
}
