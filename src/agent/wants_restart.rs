//! Whether another agent is to take the place of this one: because the program was replaced, as an upgrade of the package
//! does; or because the host has unmounted what a destination lies on, and this process goes on to see it. Its file
//! systems are those of its unit's start, and a new start has the host's.
//!
//! Leaves to the loop when to end for it: not while a job runs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::mounts::{Mounts, Pinned};

/// What tells that another is wanted.
#[derive(Debug)]
pub(super) struct NextAgent {
    program: Option<Program>,
    pinned: Pinned,
    /// Where this process sees what the host has given up.
    given_up: Option<PathBuf>,
}

impl NextAgent {
    /// Nothing was looked at yet but the program that runs.
    pub(super) fn of_running() -> NextAgent {
        NextAgent {
            program: Program::running(),
            pinned: Pinned::default(),
            given_up: None,
        }
    }

    /// Takes in what is mounted on the way to `paths`.
    pub(super) fn look<'a>(&mut self, mounts: &Mounts, paths: impl IntoIterator<Item = &'a Path>) {
        self.given_up = self.pinned.look(mounts, paths);
    }

    /// Why another one is wanted, for the journal.
    pub(super) fn is_wanted(&self) -> Option<String> {
        if self.program.as_ref().is_some_and(Program::is_replaced) {
            return Some("the program was replaced: the new one is started".to_owned());
        }
        let place = self.given_up.as_ref()?;
        Some(format!(
            "{} was unmounted on the host, and this agent still sees what was there: another one is started, which sees \
             what is there now",
            place.display()
        ))
    }
}

/// A program as it was found on the disk.
#[derive(Debug)]
struct Program {
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
    fn running() -> Option<Program> {
        Program::at(&std::env::current_exe().ok()?).ok()
    }

    fn at(path: &Path) -> io::Result<Program> {
        Ok(Program {
            path: path.to_owned(),
            file: Identity::of(path)?,
        })
    }

    /// Whether another program has its name now. One that is gone was removed, not replaced.
    fn is_replaced(&self) -> bool {
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
