//! The commands of `ExecStart=`, and the signs before their programs.
//!
//! Source of the signs and of their names on D-Bus: systemd.service(5), "Command lines"; systemd `src/shared/exec-util.c`
//! (`exec_command_strings`). Of these names 258 took away `ambient` and brought `via-shell`: more may come.

use std::fmt;
use std::path::PathBuf;

use super::exec_words;

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// One of a newer systemd, by its name there: what it does to the command is not known.
    Unknown(String),
}

impl Command {
    /// The name of a sign that nobody here knows: what the words then mean is not known either.
    pub(super) fn unknown_flag(&self) -> Option<&str> {
        self.flags.iter().find_map(|flag| match flag {
            ExecFlag::Unknown(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The command as it would be written behind `ExecStart=` in a unit.
    pub(super) fn line(&self) -> String {
        exec_words::exec_start(self)
    }
}

impl ExecFlag {
    /// The flag by the name that systemd's D-Bus interface gives it.
    pub fn named(name: &str) -> ExecFlag {
        match name {
            "ignore-failure" => ExecFlag::IgnoreFailure,
            "privileged" => ExecFlag::Privileged,
            "no-setuid" => ExecFlag::NoSetuid,
            "ambient" => ExecFlag::Ambient,
            "no-env-expand" => ExecFlag::NoVariables,
            unknown => ExecFlag::Unknown(unknown.to_owned()),
        }
    }
}

/// The sign as it is written; the name of one that is not known, in brackets.
impl fmt::Display for ExecFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExecFlag::IgnoreFailure => f.write_str("-"),
            ExecFlag::Privileged => f.write_str("+"),
            ExecFlag::NoSetuid => f.write_str("!"),
            ExecFlag::Ambient => f.write_str("!!"),
            ExecFlag::NoVariables => f.write_str(":"),
            ExecFlag::Unknown(name) => write!(f, "[{}]", name.escape_debug()),
        }
    }
}
