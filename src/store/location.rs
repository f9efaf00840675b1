//! Where a destination is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::backend::Backend;
use super::folder::Folder;
use crate::model::ClusterName;

/// Where the stores of a destination are: each in a folder of its own, named after its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a folder of the file system.
    Folder(PathBuf),
}

impl Location {
    /// That of one cluster.
    pub(super) fn store(&self, cluster: &ClusterName) -> Result<Arc<dyn Backend>, Error> {
        match self {
            Location::Folder(root) => Ok(Arc::new(Folder::in_destination(root, cluster.as_str())?)),
        }
    }

    /// What holds the folders of all clusters.
    pub(super) fn top(&self) -> Result<Arc<dyn Backend>, Error> {
        match self {
            Location::Folder(root) => Ok(Arc::new(Folder::at(root))),
        }
    }
}

impl From<&Path> for Location {
    fn from(folder: &Path) -> Location {
        Location::Folder(folder.to_owned())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Folder(root) => write!(f, "{}", root.display()),
        }
    }
}
