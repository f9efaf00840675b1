//! Locks of whole files and folders.

use std::borrow::Borrow;
use std::fs::{File, TryLockError};
use std::ops::Deref;

/// The lock of a file or folder, by flock(2), for as long as this value lives, and no longer than the process.
///
/// It is given up before the handle is closed. To close it would not do: a child that this program is just starting has a
/// copy of every handle until its own program runs, and a copy keeps the lock.
#[must_use]
#[derive(Debug)]
pub struct Lock<F: Borrow<File> = File> {
    of: F,
}

/// What was not locked, and why.
#[derive(Debug)]
pub struct NotLocked<F = File> {
    /// What was not locked.
    pub of: F,
    /// Another has it, or the operating system refused.
    pub error: TryLockError,
}

impl<F: Borrow<File>> Lock<F> {
    /// Locks it for this handle alone. Does not wait.
    #[expect(clippy::disallowed_methods, reason = "the home of locks")]
    pub fn exclusive(of: F) -> Result<Lock<F>, NotLocked<F>> {
        match of.borrow().try_lock() {
            Ok(()) => Ok(Lock { of }),
            Err(error) => Err(NotLocked { of, error }),
        }
    }

    /// Locks it together with others that do the same. Does not wait.
    #[expect(clippy::disallowed_methods, reason = "the home of locks")]
    pub fn shared(of: F) -> Result<Lock<F>, NotLocked<F>> {
        match of.borrow().try_lock_shared() {
            Ok(()) => Ok(Lock { of }),
            Err(error) => Err(NotLocked { of, error }),
        }
    }
}

impl<F: Borrow<File>> Deref for Lock<F> {
    type Target = File;

    fn deref(&self) -> &File {
        self.of.borrow()
    }
}

impl<F: Borrow<File>> Drop for Lock<F> {
    fn drop(&mut self) {
        // Where that fails the file closes all the same.
        self.of.borrow().unlock().ok();
    }
}

/// Whether another handle has locked a whole file for itself, as etcd does with its database. A handle that holds the lock
/// itself would lose it by asking. Not every file system has locks; on such a one etcd does not start.
pub fn is_held_by_another(file: &File) -> bool {
    match Lock::shared(file) {
        Err(NotLocked {
            error: TryLockError::WouldBlock,
            ..
        }) => true,
        Ok(_) | Err(NotLocked { .. }) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_though_another_has_a_copy_of_the_handle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let open = || super::super::open_lock(&path, 0o600).unwrap();
        let file = open();
        // As a child has it between its fork and its program.
        let copy = file.try_clone().unwrap();
        let lock = Lock::exclusive(file).unwrap();
        assert!(is_held_by_another(&open()));
        assert!(matches!(
            Lock::exclusive(open()).unwrap_err().error,
            TryLockError::WouldBlock
        ));
        drop(lock);
        assert!(!is_held_by_another(&open()));
        // Who only asks keeps nobody out.
        let asks = open();
        let kept = asks.try_clone().unwrap();
        assert!(!is_held_by_another(&asks));
        let lock = Lock::exclusive(open()).unwrap();
        drop((lock, copy, kept));
    }
}
