//! The lock that says whether an agent runs for the cluster.

use std::fs::{Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::State;
use crate::durable::{self, Lock};

/// The file whose lock says that an agent runs.
const LOCK: &str = "agent.lock";
const LOCK_MODE: u32 = 0o644;

impl State {
    /// Takes the lock.
    pub fn lock_agent(&self) -> Result<Lock, TryLockError> {
        let file = durable::open_lock(&self.agent_lock(), LOCK_MODE).map_err(TryLockError::Error)?;
        // Whoever asks for the status opens it.
        file.set_permissions(Permissions::from_mode(LOCK_MODE))
            .map_err(TryLockError::Error)?;
        Lock::exclusive(file).map_err(|not| not.error)
    }

    /// Whether an agent runs for the cluster.
    pub fn agent_runs(&self) -> bool {
        durable::open_plain(&self.agent_lock()).is_ok_and(|file| durable::is_held_by_another(&file))
    }

    /// Where the lock is.
    pub fn agent_lock(&self) -> PathBuf {
        self.folder().join(LOCK)
    }
}
