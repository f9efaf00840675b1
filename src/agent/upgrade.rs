//! Whether the program that runs here was replaced by another, as an upgrade of the package does.
//!
//! Leaves to the loop when to end for it: not while a job runs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A program as it was found on the disk.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    file: Identity,
}

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Program {
    /// The one that runs; None where the kernel does not say which that is, or it is gone already.
    pub(super) fn running() -> Option<Program> {
        Program::at(&std::env::current_exe().ok()?).ok()
    }

    fn at(path: &Path) -> io::Result<Program> {
        Ok(Program {
            path: path.to_owned(),
            file: Identity::of(path)?,
        })
    }

    /// Whether another program has its name now. One that is gone was removed, not replaced.
    pub(super) fn is_replaced(&self) -> bool {
        Identity::of(&self.path).is_ok_and(|found| found != self.file)
    }
}

impl Identity {
    fn of(path: &Path) -> io::Result<Identity> {
        let found = fs::metadata(path)?;
        Ok(Identity {
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_of_the_same_name_is_a_replacement_and_none_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeboat");
        let next = folder.path().join("next");
        fs::write(&path, "one").unwrap();
        fs::write(&next, "two").unwrap();
        let program = Program::at(&path).unwrap();
        assert!(!program.is_replaced());
        fs::remove_file(&path).unwrap();
        assert!(!program.is_replaced());
        std::os::unix::fs::symlink(&next, &path).unwrap();
        assert!(program.is_replaced());
    }
}
