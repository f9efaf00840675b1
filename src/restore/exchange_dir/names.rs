//! What is called how in our folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::OWN;
use crate::restore::plan::RestoreId;

/// The folder in which the old data of a restore is kept, below the data directory.
pub fn kept_path(data_dir: &Path, id: &RestoreId) -> PathBuf {
    data_dir.join(OWN).join(kept(id))
}

/// The folder in which the new data of a restore is made, below the data directory.
pub fn made_path(data_dir: &Path, id: &RestoreId) -> PathBuf {
    data_dir.join(OWN).join(made(id))
}

pub(super) fn made(id: &RestoreId) -> String {
    id.to_string()
}

pub(super) fn kept(id: &RestoreId) -> String {
    format!("kept-{id}")
}

/// The folders of what is being deleted of a restore, below the data directory.
pub fn gone_paths(data_dir: &Path, id: &RestoreId) -> [PathBuf; 2] {
    [gone(id), gone_made(id)].map(|name| data_dir.join(OWN).join(name))
}

pub(super) fn gone(id: &RestoreId) -> String {
    format!("gone-{id}")
}

pub(super) fn gone_made(id: &RestoreId) -> String {
    format!("gone-made-{id}")
}

/// What a folder of a restore is called while it is deleted; `None` for those of others.
pub(super) fn condemned_as(name: &OsStr, id: &RestoreId) -> Option<String> {
    let name = name.to_str()?;
    if name == kept(id) {
        return Some(gone(id));
    }
    let rest = name.strip_prefix(&made(id))?;
    Some(format!("{}{rest}", gone_made(id)))
}
