//! Files and names that are still there after a power cut: write, sync, link or rename, sync the folder.
//!
//! The only caller of `rename` and `link` in the crate. What the bytes mean is left to the callers.
//!
//! Invariant: a name that is visible has its whole content on disk; what is still being written has a name of the form
//! `.NAME.RANDOM.partial`, and only that.
//!
//! The steps are those of `open(2)`, `link(2)`, `rename(2)` and `fsync(2)` in the Linux manual: a new name is durable
//! only once its folder was synced.

mod dir;
mod free_space;
mod group;
mod growth;
mod lock;
mod mapped;
pub mod nameless;
mod partial;
mod plain;
mod resolve;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, renameat, renameat2};
use nix::sys::stat::fstatat;

pub use dir::{Dir, Entry};
pub use free_space::{Room, room_at};
pub use group::joins_readers_of;
pub use growth::{begin_to_write, take_room};
pub use lock::{Lock, NotLocked, is_held_by_another};
pub use mapped::{Behind, Mapped};
pub use partial::{Partial, create_new, partial_name, remove_partials, replace, replace_owned, target_of};
pub use plain::{
    NotPlain, open_given, open_linked, open_lock, open_plain, read_given, read_kernel, read_linked, read_plain,
};
pub use resolve::ForeignLink;

/// What went wrong on the file system.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken; nothing was changed.
    #[error("`{}` exists already", .path.display())]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{doing} `{}`", .path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Makes an error of what was attempted, for `map_err`.
pub(crate) fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// Renames; `AlreadyExists` if there is something under the new name, even an empty folder.
#[expect(clippy::disallowed_methods, reason = "the one place that renames to a new name")]
fn rename_new(from_dir: impl AsFd, from: &Path, to_dir: impl AsFd, to: &Path) -> io::Result<()> {
    match renameat2(&from_dir, from, &to_dir, to, RenameFlags::RENAME_NOREPLACE) {
        // The file system does not know the flag. A plain rename replaces, so look first.
        Err(Errno::EINVAL | Errno::ENOSYS) => match fstatat(&to_dir, to, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => renameat(&from_dir, from, &to_dir, to).map_err(io::Error::from),
        },
        answer => answer.map_err(io::Error::from),
    }
}

/// Lets two entries change places in one step; `None` where the file system cannot.
#[expect(clippy::disallowed_methods, reason = "the one place that exchanges names")]
fn exchange(a_dir: impl AsFd, a: &Path, b_dir: impl AsFd, b: &Path) -> io::Result<Option<()>> {
    match renameat2(&a_dir, a, &b_dir, b, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => Ok(None),
        answer => answer.map(Some).map_err(io::Error::from),
    }
}

/// Opens a folder; whatever else is there is not opened.
#[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
fn open_dir(path: &Path, flags: OFlag) -> io::Result<File> {
    let flags = (flags | OFlag::O_DIRECTORY).bits();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Makes the names in a folder durable.
pub fn sync_dir(path: &Path) -> Result<(), Error> {
    let opened = open_dir(path, OFlag::empty()).map_err(failed("open", path))?;
    opened.sync_all().map_err(failed("sync", path))
}

/// Makes a folder and the missing ones above it, each with exactly the permissions of `mode`, and durable.
pub fn create_dirs(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    if above != path {
        create_dirs(above, mode)?;
    }
    create_dir(path, mode)
}

/// Makes a folder, if it is not there, with exactly the permissions of `mode`, and durable. The one above it must be there.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // Not by its name: where others may write too, that may be a link to something else by now.
            let opened = open_dir(path, OFlag::O_NOFOLLOW);
            let set = opened.and_then(|made| made.set_permissions(fs::Permissions::from_mode(mode)));
            set.map_err(failed("set the mode of", path))?;
            sync_dir(parent(path))
        }
        // Another was faster, which is as good; a file in its place is not.
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(source) => Err(failed("make folder", path)(source)),
    }
}

/// Random bytes for names that nobody else chooses.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn missing_folders_are_made_and_present_ones_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let before = fs::metadata(dir.path()).unwrap().mode();
        let deep = dir.path().join("a/b/c");
        create_dirs(&deep, 0o777).unwrap();
        create_dirs(&deep, 0o700).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o7777, 0o777);
        assert_eq!(fs::metadata(dir.path()).unwrap().mode(), before);
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(create_dirs(&dir.path().join("file/x"), 0o700).is_err());
        // One alone needs the one above it.
        let (gone, below) = (dir.path().join("gone"), dir.path().join("gone/below"));
        assert!(create_dir(&below, 0o700).is_err() && !gone.exists());
        create_dir(&gone, 0o700).unwrap();
        create_dir(&below, 0o700).unwrap();
        create_dir(&below, 0o700).unwrap();
    }
}
