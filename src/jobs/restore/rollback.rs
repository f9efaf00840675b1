//! The way back from a restore, as a command asks for it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::Ended;
use super::errors::failure;
use super::first_backup::FirstBackup;
use super::member_access::reach;
use super::session::{leave_session, take_over};
use super::this_host::refuse_mounts;
use crate::jobs::{Exit, Failure, Listener, host};
use crate::restore::{
    Access, End, Error, Kept, Ledger, LedgerError, LedgerPaths, OverDbus, Patience, RESUME_UNIT, Run, Step, Tools,
    Units, closed, made_path, open_ledger, peers,
};
use crate::systemd::Systemd;

/// A restore that can be taken back.
pub struct WayBack {
    /// Its ledger.
    pub ledger: Ledger,
    systemd: Systemd,
    access: Access,
}

impl WayBack {
    /// Finds the restore that would be taken back. Refuses while other members serve the cluster that this one would leave,
    /// unless that is meant.
    pub fn find(
        although_serving: bool,
        configuration: &Path,
        listener: &dyn Listener,
        runtime: &Handle,
    ) -> Result<WayBack, Failure> {
        let Some(ledger) = meant(&LedgerPaths::default())? else {
            return Err(Failure::new(
                Exit::NotFound,
                "no restore on this host can be taken back",
            ));
        };
        let (systemd, access) = reach(runtime, listener, configuration, &ledger)?;
        refuse_mounts(&ledger.plan.host.site)?;
        if !although_serving {
            refuse_serving(runtime, &ledger, &access)?;
        }
        Ok(WayBack {
            ledger,
            systemd,
            access,
        })
    }

    /// Takes the restore back.
    pub fn go(self, listener: &dyn Listener, runtime: &Handle) -> Result<Ended, Failure> {
        // Should this be killed, an open restore is taken up, and goes on as its ledger says: that must say first that the way
        // is back.
        let is_open = self.ledger.end.is_none();
        if !is_open {
            leave_session(runtime, listener, &self.systemd, "rollback");
        }
        let units = OverDbus::new(&self.systemd, runtime);
        let go_on = |_: Step| ControlFlow::Continue(());
        let tools = Tools {
            units: &units,
            access: &self.access,
            runtime,
            now: host::now,
            listener: &go_on,
            stop: &|| false,
            tell: &|_| {},
        };
        let turned = take_over(runtime, &LedgerPaths::default()).map_err(Into::into);
        let mut run = turned
            .and_then(|ledger_store| Run::roll_back(ledger_store, tools))
            .map_err(|error| {
                if is_open {
                    // Whoever waited in the background does so again.
                    units.start(RESUME_UNIT).ok();
                }
                failure(error)
            })?;
        if is_open {
            leave_session(runtime, listener, &self.systemd, "rollback");
        }
        let outcome = run.go(Patience::Healthy).map_err(failure)?;
        Ok(Ended::of(&run, outcome, Vec::new(), FirstBackup::ByHand))
    }
}

/// Where what was written since a restore lies, once that was taken back; none where nothing was.
pub fn set_aside(ended: &Ended) -> Option<PathBuf> {
    let host = &ended.ledger.plan.host;
    let aside = made_path(&host.site.data_dir, &host.id);
    aside.exists().then_some(aside)
}

/// The restore that would be taken back.
fn meant(ledger_paths: &LedgerPaths) -> Result<Option<Ledger>, Failure> {
    let unreadable = |error: LedgerError| failure(error.into());
    if let Some(open) = open_ledger(ledger_paths).map_err(unreadable)? {
        return Ok(Some(open));
    }
    let ended = closed(ledger_paths).map_err(unreadable)?;
    let good = |ledger: &Ledger| ledger.end.is_some_and(|(end, _)| end == End::Restored);
    let Some(last) = ended.into_iter().rev().find(good) else {
        return Ok(None);
    };
    let id = last.id().clone();
    match last.kept {
        Kept::Here => Ok(Some(last)),
        Kept::Releasing => Err(failure(Error::Releasing { id })),
        Kept::Released => Err(failure(Error::Released { id })),
    }
}

fn refuse_serving(runtime: &Handle, ledger: &Ledger, access: &Access) -> Result<(), Failure> {
    let plan = &ledger.plan;
    let answers = runtime.block_on(peers(plan, access));
    let serving: Vec<&str> = answers
        .iter()
        .filter(|(_, answer)| {
            answer
                .as_ref()
                .is_some_and(|answer| Some(answer.cluster) == plan.cluster_id())
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if serving.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} run as members of the restored cluster, which this member would leave",
        serving.join(", ")
    );
    Err(Failure::new(Exit::Refused, message)
        .next("stop etcd there and roll back on every host; or go on here alone with --although-serving"))
}
