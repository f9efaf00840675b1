//! A unit as systemd has loaded it: what matters to how its program starts.

use std::path::{Path, PathBuf};

use super::exec::Command;
use crate::model::UnitName;

/// A loaded service unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: UnitName,
    /// Its files in the order in which they are read: the unit itself, then its drop-ins.
    pub files: Vec<PathBuf>,
    /// `ExecStart=`
    pub exec_start: Vec<Command>,
    /// What its programs are given as their environment.
    pub environment: Environment,
    /// `WorkingDirectory=`; `/` if it is not set, `None` if it is the home directory of the unit's user.
    pub working_directory: Option<PathBuf>,
    /// `RootDirectory=` or `RootImage=`: the paths in its settings are not this host's.
    pub root: Option<PathBuf>,
    /// `User=`; root if it is not set.
    pub user: Option<String>,
}

/// What makes up the environment of a unit's programs; what comes later wins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// The manager's own, `NAME=value`.
    pub manager: Vec<String>,
    /// `Environment=`, `NAME=value`.
    pub set: Vec<String>,
    /// `EnvironmentFile=`
    pub files: Vec<EnvironmentFile>,
    /// `UnsetEnvironment=`: `NAME` or `NAME=value`, taken away from all of the above.
    pub unset: Vec<String>,
}

/// One `EnvironmentFile=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentFile {
    /// Its path; may be a pattern.
    pub path: PathBuf,
    /// Whether the unit starts without it (`-`).
    pub is_optional: bool,
}

impl Unit {
    /// A path as the unit's program sees it.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        let folder = self.working_directory.as_deref().unwrap_or(Path::new("/"));
        let joined = folder.join(path);
        // `./` and doubled slashes would make equal paths look different.
        joined.components().collect()
    }
}
