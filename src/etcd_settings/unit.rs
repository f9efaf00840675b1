//! A unit as systemd has loaded it: what matters to how its program starts.

use std::path::{Path, PathBuf};

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

/// One command of `ExecStart=`, its specifiers replaced, its variables not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program.
    pub program: PathBuf,
    /// Its words, the program's own name first.
    pub words: Vec<String>,
    /// The signs before the program.
    pub flags: Vec<ExecFlag>,
}

/// A sign before the program in `ExecStart=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecFlag {
    /// `-`
    IgnoreFailure,
    /// `+`
    Privileged,
    /// `!`
    NoSetuid,
    /// `!!`
    Ambient,
    /// `:`
    NoVariables,
}

impl ExecFlag {
    /// The flag by the name that systemd's D-Bus interface gives it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ignore-failure" => Some(ExecFlag::IgnoreFailure),
            "privileged" => Some(ExecFlag::Privileged),
            "no-setuid" => Some(ExecFlag::NoSetuid),
            "ambient" => Some(ExecFlag::Ambient),
            "no-env-expand" => Some(ExecFlag::NoVariables),
            _ => None,
        }
    }

    /// The sign.
    pub fn sign(self) -> &'static str {
        match self {
            ExecFlag::IgnoreFailure => "-",
            ExecFlag::Privileged => "+",
            ExecFlag::NoSetuid => "!",
            ExecFlag::Ambient => "!!",
            ExecFlag::NoVariables => ":",
        }
    }
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

    /// The `ExecStart=` line of a command, as it would be written in a unit.
    pub(super) fn line(command: &Command) -> String {
        super::words::exec_start(command)
    }
}
