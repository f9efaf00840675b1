//! The units of a restore, over D-Bus.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Handle;

use super::units::{Activity, Trouble, UnitState, Units};
use crate::model::UnitName;
use crate::systemd::{ActiveState, Enabled, Error, Systemd};

/// How long a unit may take to stop; etcd takes seconds, and systemd kills what takes longer than the unit allows.
const STOP_WITHIN: Duration = Duration::from_secs(300);

/// systemd, asked from a thread that may wait.
pub struct OverDbus<'a> {
    systemd: &'a Systemd,
    runtime: &'a Handle,
}

impl<'a> OverDbus<'a> {
    /// Asks `systemd`, waiting on `runtime`.
    pub fn new(systemd: &'a Systemd, runtime: &'a Handle) -> OverDbus<'a> {
        OverDbus { systemd, runtime }
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
        Ok(self.runtime.block_on(answer)?)
    }
}

impl Units for OverDbus<'_> {
    fn state(&self, unit: &str) -> Result<UnitState, Trouble> {
        let service = self.wait(self.systemd.service(&name(unit)?))?;
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
        self.wait(self.systemd.stop(&name(unit)?, STOP_WITHIN)).map(drop)
    }

    fn start(&self, unit: &str) -> Result<(), Trouble> {
        let name = name(unit)?;
        self.wait(async {
            self.systemd.reset_failed(&name).await?;
            self.systemd.start(&name).await
        })
    }

    fn reload(&self) -> Result<(), Trouble> {
        self.wait(self.systemd.reload())
    }

    fn has_read(&self, unit: &str, drop_in: &Path) -> Result<bool, Trouble> {
        let unit = self.wait(self.systemd.unit(&name(unit)?))?;
        Ok(unit.drop_in_paths.iter().any(|path| path == drop_in))
    }

    fn enable(&self, unit: &str) -> Result<(), Trouble> {
        self.wait(self.systemd.enable(&name(unit)?, Enabled::Yes))
    }

    fn disable(&self, unit: &str) -> Result<(), Trouble> {
        self.wait(self.systemd.enable(&name(unit)?, Enabled::No))
    }
}

fn name(unit: &str) -> Result<UnitName, Trouble> {
    Ok(unit.parse()?)
}
