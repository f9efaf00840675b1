//! The guard: a drop-in of etcd's unit that keeps it from starting while a restore changes its data.

use std::path::{Path, PathBuf};

use super::overlay::{NewFile, Start, drop_in};
use crate::model::UnitName;

/// Its name.
const GUARD: &str = "50-lifeboat-guard.conf";

/// The drop-in that keeps `unit` from starting as long as `lock` exists, with `more` lines on how it starts.
pub fn guard(unit: &UnitName, lock: &Path, more: &str, start: Start) -> NewFile {
    let folder = lock.parent().unwrap_or(Path::new("/"));
    let (lock, folder) = (lock.display(), folder.display());
    let mut content = format!(
        "# Written by etcd-lifeboat: as long as the file below exists, a restore is changing etcd's data directory.\n\
         # `lifeboat status` says how far it is; `lifeboat rollback` puts back what was there before.\n\
         [Unit]\n\
         RequiresMountsFor={folder}\n\
         ConditionPathExists=!{lock}\n{more}"
    );
    if start == Start::WaitsForOthers {
        content.push_str(
            "[Service]\n\
             # etcd is ready when it sees a majority of the members, whenever they are started.\n\
             TimeoutStartSec=infinity\n",
        );
    }
    NewFile {
        path: guard_path(unit),
        content,
    }
}

/// Where the guard of a unit is.
pub fn guard_path(unit: &UnitName) -> PathBuf {
    drop_in(unit, GUARD)
}
