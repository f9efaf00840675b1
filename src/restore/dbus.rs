//! The units of a restore, over D-Bus.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Handle;

use super::init_system::{Activity, Guarded, Trouble, UnitState, Units};
use crate::model::UnitName;
use crate::systemd::{ActiveState, Enabled, Error, LoadState, Systemd};

/// How long a unit may take to stop; etcd takes seconds, and systemd kills what takes longer than the unit allows.
const STOP_WITHIN: Duration = Duration::from_secs(300);

/// How systemd calls a condition of a file that must be there, or must not.
const PATH_EXISTS: &str = "ConditionPathExists";

/// systemd, asked from a thread that may wait.
pub struct OverDbus<'a> {
    systemd: &'a Systemd,
    runtime: &'a Handle,
    /// Units that systemd keeps in mind for us. It forgets one that nothing refers to as soon as that is stopped.
    kept_loaded: RefCell<BTreeSet<UnitName>>,
}

impl<'a> OverDbus<'a> {
    /// Asks `systemd`, waiting on `runtime`.
    pub fn new(systemd: &'a Systemd, runtime: &'a Handle) -> OverDbus<'a> {
        OverDbus {
            systemd,
            runtime,
            kept_loaded: RefCell::default(),
        }
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
        self.runtime.block_on(answer).map_err(trouble)
    }

    /// The name of a unit, which stays loaded from now on.
    fn unit(&self, unit: &str) -> Result<UnitName, Trouble> {
        let name: UnitName = unit.parse().map_err(|error| Trouble::Refused(Box::new(error)))?;
        if !self.kept_loaded.borrow().contains(&name) {
            // Where it is not granted, each call loads the unit anew.
            let kept = self.runtime.block_on(self.systemd.keep_loaded(&name));
            if kept.is_ok() {
                self.kept_loaded.borrow_mut().insert(name.clone());
            }
        }
        Ok(name)
    }
}

fn trouble(error: Error) -> Trouble {
    match error.is_refusal() {
        true => Trouble::Refused(Box::new(error)),
        false => Trouble::Momentary(Box::new(error)),
    }
}

impl Units for OverDbus<'_> {
    fn state(&self, unit: &str) -> Result<UnitState, Trouble> {
        let name = self.unit(unit)?;
        let service = match self.runtime.block_on(self.systemd.service(&name)) {
            Err(Error::NoUnit { .. }) => {
                return Ok(UnitState {
                    activity: Activity::Inactive,
                    restarts: 0,
                    words: "systemd knows it no more".to_owned(),
                });
            }
            answer => answer.map_err(trouble)?,
        };
        let activity = match &service.unit.active_state {
            ActiveState::Active | ActiveState::Reloading => Activity::Active,
            ActiveState::Inactive if service.unit.job.is_some() => Activity::Queued,
            ActiveState::Inactive => Activity::Inactive,
            ActiveState::Failed => Activity::Failed,
            ActiveState::Activating => Activity::Starting,
            ActiveState::Deactivating => Activity::Stopping,
            // What a newer systemd may say is nothing to act upon.
            ActiveState::Other(_) => Activity::Starting,
        };
        Ok(UnitState {
            activity,
            restarts: service.restarts,
            words: format!("{}, {}", service.unit.sub_state, service.result),
        })
    }

    fn stop(&self, unit: &str) -> Result<(), Trouble> {
        let name = self.unit(unit)?;
        match self.runtime.block_on(self.systemd.unit(&name)) {
            // Nothing of it can run.
            Err(Error::NoUnit { .. }) => return Ok(()),
            answer => answer.map_err(trouble)?,
        };
        self.wait(self.systemd.stop(&name, STOP_WITHIN)).map(drop)
    }

    fn start(&self, unit: &str) -> Result<(), Trouble> {
        let name = self.unit(unit)?;
        self.wait(async {
            self.systemd.reset_failed(&name).await?;
            self.systemd.start(&name).await
        })
    }

    fn reload(&self) -> Result<(), Trouble> {
        self.wait(self.systemd.reload())
    }

    fn has_read(&self, unit: &str, drop_in: &Path) -> Result<bool, Trouble> {
        let name = self.unit(unit)?;
        match self.runtime.block_on(self.systemd.unit(&name)) {
            // It is read when somebody asks for it.
            Err(Error::NoUnit { .. }) => Ok(false),
            answer => Ok(answer
                .map_err(trouble)?
                .drop_in_paths
                .iter()
                .any(|path| path == drop_in)),
        }
    }

    fn guarded(&self, unit: &str, drop_in: &Path, lock: &Path) -> Result<Guarded, Trouble> {
        let name = self.unit(unit)?;
        let unit = match self.runtime.block_on(self.systemd.unit(&name)) {
            Err(Error::NoUnit { .. }) => return Ok(Guarded::Unstartable),
            answer => answer.map_err(trouble)?,
        };
        // An empty setting in a later drop-in takes all conditions of that kind away: what counts is what is left.
        let holds = unit.conditions.iter().any(|condition| {
            let is_meant = condition.kind == PATH_EXISTS && Path::new(&condition.parameter) == lock;
            is_meant && condition.is_negated && !condition.is_trigger
        });
        let has_read = unit.drop_in_paths.iter().any(|path| path == drop_in);
        Ok(match (holds, has_read, unit.load_state) {
            (true, _, _) => Guarded::Yes,
            (false, _, LoadState::Masked | LoadState::BadSetting | LoadState::Error | LoadState::NotFound) => {
                Guarded::Unstartable
            }
            (false, true, LoadState::Loaded | LoadState::Other(_)) => Guarded::Overruled,
            (false, false, LoadState::Loaded | LoadState::Other(_)) => Guarded::Unread,
        })
    }

    fn enable(&self, unit: &str) -> Result<(), Trouble> {
        self.wait(self.systemd.enable(&self.unit(unit)?, Enabled::Yes))
    }

    fn disable(&self, unit: &str) -> Result<(), Trouble> {
        self.wait(self.systemd.enable(&self.unit(unit)?, Enabled::No))
    }
}
