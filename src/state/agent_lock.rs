//! The lock that says whether an agent runs for the cluster.

use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::State;
use crate::durable;

/// The file whose lock says that an agent runs.
const LOCK: &str = "agent.lock";
const LOCK_MODE: u32 = 0o644;

impl State {
    /// Takes the lock, which is held for as long as the file is open.
    pub fn lock_agent(&self) -> Result<File, TryLockError> {
        let file = durable::open_lock(&self.agent_lock(), LOCK_MODE).map_err(TryLockError::Error)?;
        // Whoever asks for the status opens it.
        file.set_permissions(Permissions::from_mode(LOCK_MODE))
            .map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(file)
    }

    /// Whether an agent runs for the cluster.
    pub fn agent_runs(&self) -> bool {
        match durable::open_plain(&self.agent_lock()).map(|file| file.try_lock_shared()) {
            Ok(Err(TryLockError::WouldBlock)) => true,
            Ok(Ok(()) | Err(TryLockError::Error(_))) | Err(_) => false,
        }
    }

    /// Where the lock is.
    pub fn agent_lock(&self) -> PathBuf {
        self.folder().join(LOCK)
    }
}
