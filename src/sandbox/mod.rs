//! What a unit's sandbox lets its processes see: a value with no opinion of where it was read.
//!
//! `systemd` fills it from what a running systemd reports; [`of_unit_file`] from the text of a unit. [`judge`] says what
//! stands in the way of a need, [`mend`] what removes it. Facts about files are handed in.
//!
//! Invariant: no file is opened here and nothing is asked of the host.
//! Source: `systemd.exec(5)`, versions 252 to 257.

mod acl;
mod judge;
mod seen;
#[cfg(test)]
mod tests;
mod unit_file;

use std::path::PathBuf;

pub use acl::Acl;
pub use judge::{End, Facts, Ids, Mend, Need, Obstacle, Place, Purpose, Step, Who, judge, mend};
pub use seen::{Seen, seen};
pub use unit_file::of_unit_file;

/// `ProtectSystem=`: which parts of the system are read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProtectSystem {
    /// None.
    #[default]
    No,
    /// `/usr` and the boot loader's directories.
    Yes,
    /// `/etc` too.
    Full,
    /// Everything but `/dev`, `/proc` and `/sys`.
    Strict,
}

impl ProtectSystem {
    /// Its value as systemd writes it.
    pub fn of(text: &str) -> Option<ProtectSystem> {
        match text {
            "full" => Some(ProtectSystem::Full),
            "strict" => Some(ProtectSystem::Strict),
            other => boolean(other).map(|on| match on {
                true => ProtectSystem::Yes,
                false => ProtectSystem::No,
            }),
        }
    }
}

/// `ProtectHome=`: what is seen of `/home`, `/root` and `/run/user`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProtectHome {
    /// All of it.
    #[default]
    No,
    /// Nothing: the directories seem empty and cannot be entered.
    Yes,
    /// All of it, but nothing can be written.
    ReadOnly,
    /// Nothing: an empty file system lies over each.
    Tmpfs,
}

impl ProtectHome {
    /// Its value as systemd writes it.
    pub fn of(text: &str) -> Option<ProtectHome> {
        match text {
            "read-only" => Some(ProtectHome::ReadOnly),
            "tmpfs" => Some(ProtectHome::Tmpfs),
            other => boolean(other).map(|on| match on {
                true => ProtectHome::Yes,
                false => ProtectHome::No,
            }),
        }
    }
}

/// A path in a list such as `ReadWritePaths=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The path, without its marks.
    pub path: PathBuf,
    /// Whether systemd starts the unit without it too (the mark `-`).
    pub optional: bool,
}

impl Listed {
    /// A path with its marks: `-` optional, `+` below the unit's root directory, which is the host's here.
    pub fn of(text: &str) -> Listed {
        let plain = text.trim_start_matches(['-', '+']);
        let marks = &text[..text.len() - plain.len()];
        Listed {
            path: PathBuf::from(plain),
            optional: marks.contains('-'),
        }
    }
}

/// A directory of the host that is seen somewhere in the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What it is on the host.
    pub from: PathBuf,
    /// Where the unit sees it.
    pub to: PathBuf,
    /// Whether the unit may write through it.
    pub writable: bool,
}

/// A credential that systemd hands to the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name below `$CREDENTIALS_DIRECTORY`.
    pub name: String,
    /// The file it is read from; none if its content is in the unit, or is looked for in systemd's own stores.
    pub from: Option<PathBuf>,
}

/// What a unit may see and write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sandbox {
    /// `User=`; root if none.
    pub user: Option<String>,
    /// `Group=`; the user's own if none.
    pub group: Option<String>,
    /// `SupplementaryGroups=`
    pub supplementary_groups: Vec<String>,
    /// `RootDirectory=`, if the unit has a root of its own.
    pub root_directory: Option<PathBuf>,
    /// `ProtectSystem=`
    pub protect_system: ProtectSystem,
    /// `ProtectHome=`
    pub protect_home: ProtectHome,
    /// `PrivateTmp=`: `/tmp` and `/var/tmp` are the unit's own.
    pub private_tmp: bool,
    /// `PrivateDevices=`: `/dev` holds only pseudo devices.
    pub private_devices: bool,
    /// `ReadWritePaths=`
    pub read_write: Vec<Listed>,
    /// `ReadOnlyPaths=`
    pub read_only: Vec<Listed>,
    /// `InaccessiblePaths=`
    pub inaccessible: Vec<Listed>,
    /// `BindPaths=` and `BindReadOnlyPaths=`
    pub bound: Vec<Bound>,
    /// The places of `TemporaryFileSystem=`.
    pub temporary: Vec<PathBuf>,
    /// `StateDirectory=`, `CacheDirectory=`, `LogsDirectory=` and `RuntimeDirectory=`, as whole paths: the unit's own.
    pub own_directories: Vec<PathBuf>,
    /// `LoadCredential=`, `SetCredential=` and their encrypted forms.
    pub credentials: Vec<Credential>,
}

/// A boolean as systemd reads and writes it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "true" | "on" | "1" | "y" | "t" => Some(true),
        "no" | "false" | "off" | "0" | "n" | "f" => Some(false),
        _ => None,
    }
}
