//! What a restore asks of the init system: how a unit is, and to stop and start it.
//!
//! A trait, because tests need another body: a unit that is killed, hangs or will not stay up at a chosen step.

use std::path::Path;

/// What went wrong, in the words of whoever was asked.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

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
    /// Has the unit started at boot.
    fn enable(&self, unit: &str) -> Result<(), Trouble>;
    /// Has it not started at boot any more.
    fn disable(&self, unit: &str) -> Result<(), Trouble>;
}
