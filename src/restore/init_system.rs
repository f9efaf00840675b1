//! What a restore asks of the init system: how a unit is, and to stop and start it.
//!
//! A trait, because tests need another body: a unit that is killed, hangs or will not stay up at a chosen step.

use std::path::Path;

/// The words of whoever was asked.
pub type Said = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Nobody answered, or something else that may be otherwise in a moment.
    #[error(transparent)]
    Momentary(Said),
    /// It is refused, and will be until somebody changes something: a unit that is masked, gone, or has a wrong setting.
    #[error(transparent)]
    Refused(Said),
}

impl Trouble {
    /// Whether waiting does not help.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Trouble::Refused(_))
    }
}

/// Whether a unit is kept from starting by the file that its guard names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    /// It is.
    Yes,
    /// It has not read the guard.
    Unread,
    /// It has read the guard, and a drop-in that is read later has taken its condition away.
    Overruled,
    /// Nobody can start it: it is masked, or cannot be read.
    Unstartable,
}

/// What a unit is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It runs and is ready.
    Active,
    /// It is to be started, and other units come first.
    Queued,
    /// It starts, or waits to be started again.
    Starting,
    /// It stops.
    Stopping,
    /// It is down.
    Inactive,
    /// It is down because it failed.
    Failed,
}

/// How a unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// What it is doing.
    pub activity: Activity,
    /// How often it was started again by itself since it was last started by somebody.
    pub restarts: u32,
    /// In the init system's own words, such as `activating (auto-restart)`.
    pub words: String,
}

impl UnitState {
    /// Whether a process of it may run now or soon.
    pub fn is_up(&self) -> bool {
        match self.activity {
            Activity::Active | Activity::Queued | Activity::Starting | Activity::Stopping => true,
            Activity::Inactive | Activity::Failed => false,
        }
    }
}

/// The init system.
pub trait Units {
    /// How the unit is.
    fn state(&self, unit: &str) -> Result<UnitState, Trouble>;
    /// Stops it; returns when it is down.
    fn stop(&self, unit: &str) -> Result<(), Trouble>;
    /// Has it started, without waiting for it; a count of failures is forgotten first.
    fn start(&self, unit: &str) -> Result<(), Trouble>;
    /// Reads all units' files anew.
    fn reload(&self) -> Result<(), Trouble>;
    /// Whether the unit, as it is loaded, has read this drop-in.
    fn has_read(&self, unit: &str, drop_in: &Path) -> Result<bool, Trouble>;
    /// Whether the unit, as it is loaded, does not start while the file `lock` exists, as this drop-in has it.
    fn guarded(&self, unit: &str, drop_in: &Path, lock: &Path) -> Result<Guarded, Trouble>;
    /// Has the unit started at boot.
    fn enable(&self, unit: &str) -> Result<(), Trouble>;
    /// Has it not started at boot any more.
    fn disable(&self, unit: &str) -> Result<(), Trouble>;
}
