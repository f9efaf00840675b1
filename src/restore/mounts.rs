//! File systems that are mounted in what a restore exchanges: they would be moved along with it.
//!
//! A mount stands on its directory, wherever that is moved to. With the old data it would leave, and come back over the
//! new data at the next boot, with what is old on it.

use std::io;
use std::path::{Path, PathBuf};

use super::exchange_dir::MEMBER;
use super::plan::Site;
use crate::durable::{self, failed};
use crate::mounts::{LARGEST_TABLE, Mounts, TABLE};
use crate::rebuild;

/// Refuses while a file system is mounted in what is exchanged as a whole, in the words of whoever asks.
pub(super) fn refuse<E>(
    site: &Site,
    unseen: impl FnOnce(rebuild::Error) -> E,
    mounted: impl FnOnce(PathBuf) -> E,
) -> Result<(), E> {
    match mounted_inside(site).map_err(unseen)? {
        Some(path) => Err(mounted(path)),
        None => Ok(()),
    }
}

/// The first thing that is mounted in what a restore exchanges as a whole: in `member` or as it, or in the directory of the
/// log, which itself may be a mount point.
fn mounted_inside(site: &Site) -> Result<Option<PathBuf>, rebuild::Error> {
    let member = rebuild::resolved(&site.data_dir)?.join(MEMBER);
    if let Some(mount) = mounted_below(&member)?.into_iter().next() {
        return Ok(Some(mount));
    }
    let Some(wal_dir) = &site.wal_dir else { return Ok(None) };
    let wal_dir = rebuild::resolved(wal_dir)?;
    Ok(mounted_below(&wal_dir)?.into_iter().find(|mount| *mount != wal_dir))
}

/// What is mounted now at `path` or below.
fn mounted_below(path: &Path) -> Result<Vec<PathBuf>, durable::Error> {
    let refused = |error: io::Error| failed("read", Path::new(TABLE))(error);
    let table = durable::read_linked(Path::new(TABLE), LARGEST_TABLE).map_err(refused)?;
    let mounts = Mounts::parse(&table).map_err(refused)?;
    let below = mounts.points().filter(|point| point.starts_with(path));
    Ok(below.map(Path::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_here_is_found_and_beside_it_nothing() {
        assert!(mounted_below(Path::new("/")).unwrap().contains(&PathBuf::from("/proc")));
        assert_eq!(mounted_below(Path::new("/proc")).unwrap()[0], Path::new("/proc"));
        assert_eq!(mounted_below(Path::new("/pro")).unwrap(), Vec::<PathBuf>::new());
    }
}
