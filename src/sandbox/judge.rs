//! Whether the unit's user can do at a path what a configuration asks for, and what mends it if not.

use std::fmt;
use std::path::{Path, PathBuf};

use super::seen::{Seen, seen};
use super::{Acl, Sandbox};
use crate::mounts::Planned;

/// What a configuration asks for at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What it is, as the operator knows it: "destination local", "`cluster.tls.key`".
    pub what: String,
    /// Where.
    pub path: PathBuf,
    /// What is to be done there.
    pub purpose: Purpose,
}

/// What is to be done at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read a secret or a certificate, which systemd can hand over as a credential.
    Secret,
    /// To read a file that is no secret.
    Read,
    /// To run a program.
    Run,
    /// To make, read and remove files in a folder.
    Store,
}

/// The user that the unit runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Its name.
    pub name: String,
    /// The name of its group.
    pub group: String,
    /// Its numbers; none where the user does not exist on this host.
    pub ids: Option<Ids>,
}

/// The numbers of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Its own.
    pub user: u32,
    /// Those of all its groups.
    pub groups: Vec<u32>,
}

/// One name on the way to a path, without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The path so far.
    pub path: PathBuf,
    /// The owner.
    pub user: u32,
    /// The owning group.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    /// The access control list, if it has one.
    pub acl: Option<Acl>,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The path without links, as far as it exists.
    pub path: PathBuf,
    /// From the root to the last name that could be looked at.
    pub steps: Vec<Step>,
    /// How that ended.
    pub end: End,
    /// What is known of the file systems on the way.
    pub place: Place,
}

/// What is known of the file systems on the way to a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Where the one that it lies on is mounted.
    pub mount: Option<PathBuf>,
    /// What should be mounted on the way and is not.
    pub missing: Option<Planned>,
    /// Whether this host has stored something there before.
    pub was_used: bool,
}

impl Place {
    /// The path by which the unit is to be let in. That of a mount of its own: on a folder in one systemd would put a mount for
    /// the unit, and the unit would go on to see what the host has unmounted.
    fn way_in<'a>(&'a self, path: &'a Path) -> &'a Path {
        let missing = self.missing.as_ref().map(|planned| planned.point.as_path());
        let mount = missing.or(self.mount.as_deref());
        // Directly below the root there are the system's own.
        mount.filter(|mount| mount.components().count() > 2).unwrap_or(path)
    }
}

/// How the way to a path ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// At the path.
    Whole,
    /// Something on the way is missing.
    Missing,
    /// This user may look no further.
    Unknown,
}

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The unit does not see what the host has there.
    Hidden {
        /// The setting.
        by: String,
    },
    /// The unit may only read there.
    ReadOnly {
        /// The setting.
        by: String,
    },
    /// It does not exist.
    Missing,
    /// What it lies on is not mounted.
    NotMounted {
        /// What should be.
        planned: Planned,
    },
    /// It is a file where a folder is needed.
    NoFolder,
    /// The user is not let through a folder above it.
    Closed {
        /// The folder.
        folder: PathBuf,
    },
    /// The user's own rights at the path do not suffice.
    Rights {
        /// What the user may not do.
        verb: &'static str,
        /// Owner, group and mode.
        has: String,
    },
    /// Nobody could tell: whoever asked may not look there.
    Unknown,
}

/// What removes an obstacle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mend {
    /// Lines of a drop-in for the unit, below `[Service]`.
    DropIn(Vec<String>),
    /// The secret as a credential: `LoadCredential=NAME:FROM`, and the name in the configuration in the file's place.
    Credential {
        /// A name for it.
        name: String,
        /// Its file, as it stands in a unit.
        from: String,
    },
    /// A command for root.
    Command(String),
    /// Something to think about.
    Remark(String),
}

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const ENTER: u32 = 0o1;

/// What stands in the way of a need; nothing if it can be met.
pub fn judge(sandbox: &Sandbox, who: &Who, need: &Need, facts: &Facts) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let bound_at = match seen(sandbox, &facts.path) {
        Seen::Hidden { by } => {
            obstacles.push(Obstacle::Hidden { by });
            None
        }
        Seen::ReadOnly { by, bound_at } => {
            if need.purpose == Purpose::Store {
                obstacles.push(Obstacle::ReadOnly { by });
            }
            bound_at
        }
        Seen::Writable { bound_at } => bound_at,
    };
    if let (Purpose::Store, Some(planned)) = (need.purpose, &facts.place.missing) {
        // Whatever else is there or missing is beside what will be mounted.
        let planned = planned.clone();
        obstacles.push(Obstacle::NotMounted { planned });
        return obstacles;
    }
    if let Some(ids) = &who.ids {
        // systemd makes the folders above a bound one, open to all.
        let matters = |step: &&Step| bound_at.as_ref().is_none_or(|at| step.path.starts_with(at));
        let whole = facts.end == End::Whole;
        let above = facts.steps.len() - usize::from(whole);
        let closed = facts.steps[..above].iter().filter(matters);
        let closed = closed
            .filter(|step| !step.lets(ids, ENTER))
            .map(|step| Obstacle::Closed {
                folder: step.path.clone(),
            });
        obstacles.extend(closed);
        if let Some(last) = facts.steps.last().filter(|_| whole) {
            obstacles.extend(last.refuses(ids, need.purpose));
        }
    }
    match facts.end {
        End::Whole => {}
        End::Missing => obstacles.push(Obstacle::Missing),
        End::Unknown => obstacles.push(Obstacle::Unknown),
    }
    obstacles
}

impl Step {
    fn refuses(&self, ids: &Ids, purpose: Purpose) -> Option<Obstacle> {
        let (wanted, verb) = match purpose {
            Purpose::Secret | Purpose::Read => (READ, "read"),
            Purpose::Run => (READ | ENTER, "run"),
            Purpose::Store if !self.is_folder => return Some(Obstacle::NoFolder),
            Purpose::Store => (READ | WRITE | ENTER, "write to"),
        };
        (!self.lets(ids, wanted)).then(|| Obstacle::Rights {
            verb,
            has: format!(
                "owner {}, group {}, mode {:04o}",
                self.user,
                self.group,
                self.mode & 0o7777
            ),
        })
    }

    fn lets(&self, ids: &Ids, wanted: u32) -> bool {
        let has = |bits: u32| bits & wanted == wanted;
        if ids.user == 0 {
            return true;
        }
        if ids.user == self.user {
            return has(self.mode >> 6);
        }
        if let Some(acl) = &self.acl {
            return acl.lets(ids, self.group, wanted, self.mode);
        }
        match ids.groups.contains(&self.group) {
            true => has(self.mode >> 3),
            false => has(self.mode),
        }
    }
}

/// What removes these obstacles of a need, in the order in which to do it.
pub fn mend(need: &Need, who: &Who, facts: &Facts, obstacles: &[Obstacle]) -> Vec<Mend> {
    let is_in_the_way = |obstacle: &Obstacle| match obstacle {
        Obstacle::Hidden { .. } | Obstacle::Closed { .. } | Obstacle::Rights { .. } => true,
        Obstacle::ReadOnly { .. }
        | Obstacle::Missing
        | Obstacle::NotMounted { .. }
        | Obstacle::NoFolder
        | Obstacle::Unknown => false,
    };
    // systemd reads it as root, before there is a sandbox.
    if need.purpose == Purpose::Secret && obstacles.iter().any(is_in_the_way) {
        return vec![credential(&need.path)];
    }
    obstacles
        .iter()
        .map(|obstacle| mend_one(need, who, facts, obstacle))
        .collect()
}

fn credential(path: &Path) -> Mend {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let from = escaped(path);
    Mend::Credential { name, from }
}

fn mend_one(need: &Need, who: &Who, facts: &Facts, obstacle: &Obstacle) -> Mend {
    let path = facts.path.as_path();
    let (user, group, shown) = (&who.name, &who.group, path.display());
    let bind = match need.purpose {
        Purpose::Store => "BindPaths",
        Purpose::Secret | Purpose::Read | Purpose::Run => "BindReadOnlyPaths",
    };
    // Without the `-`, a path that is missing would keep the whole unit from starting.
    let bound = format!("{bind}=-{}", escaped(path));
    match obstacle {
        Obstacle::Hidden { by } if by.starts_with("ProtectHome=") => {
            Mend::DropIn(vec!["ProtectHome=tmpfs".to_owned(), bound])
        }
        Obstacle::Hidden { by } if by.starts_with("Private") || by.starts_with("TemporaryFileSystem=") => {
            Mend::DropIn(vec![bound])
        }
        Obstacle::Hidden { by } => Mend::Remark(format!("the unit's {by} is in the way: put it elsewhere")),
        Obstacle::ReadOnly { by } if by.starts_with("Protect") => {
            Mend::DropIn(vec![format!("ReadWritePaths=-{}", escaped(facts.place.way_in(path)))])
        }
        Obstacle::ReadOnly { by } => Mend::Remark(format!(
            "the unit's {by} is in the way: take it out, or put it elsewhere"
        )),
        Obstacle::NotMounted { planned } => Mend::Command(planned.command()),
        Obstacle::Missing if need.purpose == Purpose::Store && facts.place.was_used => Mend::Remark(format!(
            "this host has stored backups in {shown}: mount what they are on, and make no folder in its place"
        )),
        Obstacle::Missing if need.purpose == Purpose::Store => {
            Mend::Command(format!("install -d -o {user} -g {group} -m 0750 {shown}"))
        }
        Obstacle::Missing => Mend::Remark(format!("put it to {shown}, or name another")),
        Obstacle::NoFolder => Mend::Remark(format!("{shown} is a file: name a folder")),
        Obstacle::Closed { folder } => Mend::Command(format!("setfacl -m u:{user}:x {}", folder.display())),
        Obstacle::Rights { .. } => match need.purpose {
            Purpose::Store => Mend::Command(format!("chown -R {user}:{group} {shown}")),
            Purpose::Run => Mend::Command(format!("chgrp {group} {shown} && chmod g+rx {shown}")),
            Purpose::Secret | Purpose::Read => Mend::Command(format!("chgrp {group} {shown} && chmod g+r {shown}")),
        },
        Obstacle::Unknown => Mend::Remark("run this as root, who can look there".to_owned()),
    }
}

/// A path as it stands in a unit: `%` begins a specifier there, and a space ends the path.
fn escaped(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    match text.contains(|c: char| c.is_whitespace() || "\"'\\".contains(c)) {
        true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => text,
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Hidden { by } => write!(f, "the unit does not see it ({by})"),
            Obstacle::ReadOnly { by } => write!(f, "the unit may only read there ({by})"),
            Obstacle::Missing => f.write_str("it does not exist"),
            Obstacle::NotMounted { planned } => write!(
                f,
                "nothing is mounted at {}, which {planned} is to mount",
                planned.point.display()
            ),
            Obstacle::NoFolder => f.write_str("it is not a folder"),
            Obstacle::Closed { folder } => write!(f, "the unit's user cannot enter {}", folder.display()),
            Obstacle::Rights { verb, has } => write!(f, "the unit's user may not {verb} it ({has})"),
            Obstacle::Unknown => f.write_str("whether the unit's user can reach it cannot be seen from here"),
        }
    }
}
