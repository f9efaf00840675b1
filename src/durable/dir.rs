//! A folder that is held open: what is made in it lands there, whatever becomes of its name meanwhile.
//!
//! For folders in places where somebody else may write too: a name that was looked at can be another thing, such as a
//! link to `/etc`, by the time it is used again; a handle cannot.
//!
//! Invariant: names given to a held folder are single ones, and links in their place are not followed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::{Error, ForeignLink, Lock, NotLocked, exchange, failed, rename_new, resolve};

const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// What the system knows of an entry of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Tells it from every other one of the same file system, whatever its name.
    pub inode: u64,
    /// Whether it is a folder itself.
    pub is_dir: bool,
    /// Its size.
    pub bytes: u64,
}

/// An open folder, and the name it was opened by, for messages.
#[derive(Debug, Clone)]
pub struct Dir {
    handle: Arc<File>,
    path: PathBuf,
}

impl Dir {
    /// Opens the folder at `path`, which may be a link to it.
    #[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
    pub fn open(path: &Path) -> Result<Dir, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open(path, flags, Mode::empty());
        Ok(Dir {
            handle: Arc::new(opened.map_err(|errno| failed("open", path)(errno.into()))?.into()),
            path: path.to_owned(),
        })
    }

    /// Opens the folder at `path`, to which links may lead as long as they are root's or this user's; `None` when there is
    /// none.
    ///
    /// Fails when a link of somebody else is on the way.
    #[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
    pub fn reach(path: &Path) -> Result<Option<Dir>, Error> {
        let folder = match resolve::walk(path)? {
            resolve::End::Folder(folder) => folder,
            resolve::End::Missing => return Ok(None),
            resolve::End::ForeignLink(link) => {
                let said = format!("user {} made this link, and could have it lead anywhere", link.owner);
                let said = io::Error::new(io::ErrorKind::PermissionDenied, said);
                return Err(failed("follow", &link.path)(said));
            }
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = openat(&folder, ".", flags, Mode::empty());
        Ok(Some(Dir {
            handle: Arc::new(opened.map_err(|errno| failed("open", path)(errno.into()))?.into()),
            path: path.to_owned(),
        }))
    }

    /// The link on the way to `path`, as far as that is there, for which [`Dir::reach`] fails.
    pub fn foreign_link(path: &Path) -> Result<Option<ForeignLink>, Error> {
        for path in path.ancestors() {
            match resolve::walk(path)? {
                resolve::End::Folder(_) => return Ok(None),
                resolve::End::ForeignLink(link) => return Ok(Some(link)),
                resolve::End::Missing => {}
            }
        }
        Ok(None)
    }

    /// Makes a folder in it that only this user may enter, and opens it.
    ///
    /// Fails when there is something of that name, or when somebody put another folder in its place at once.
    pub fn make(&self, name: impl AsRef<Path>) -> Result<Dir, Error> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let made = mkdirat(&*self.handle, name, mode(PRIVATE_DIR));
        made.map_err(|errno| refused("make folder", &path, errno))?;
        let dir = self
            .dir(name)?
            .ok_or_else(|| failed("open", &path)(io::ErrorKind::NotADirectory.into()))?;
        if !dir.is_private()? {
            let swapped = io::Error::new(io::ErrorKind::PermissionDenied, "somebody put another in its place");
            return Err(failed("make folder", &path)(swapped));
        }
        // The mode given to mkdir(2) is cut by the umask.
        dir.set_mode(PRIVATE_DIR)?;
        self.sync()?;
        Ok(dir)
    }

    /// Opens the folder of that name in it; `None` when there is none.
    #[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
    pub fn dir(&self, name: impl AsRef<Path>) -> Result<Option<Dir>, Error> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&*self.handle, name, flags, Mode::empty()) {
            Ok(opened) => Ok(Some(Dir {
                handle: Arc::new(opened.into()),
                path,
            })),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(refused("open", &path, errno)),
        }
    }

    /// Makes a file in it that only this user may read, open for reading and writing.
    ///
    /// Fails when there is something of that name.
    #[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
    pub fn create(&self, name: impl AsRef<Path>) -> Result<File, Error> {
        let name = name.as_ref();
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&*self.handle, name, flags, mode(PRIVATE_FILE)) {
            Ok(opened) => Ok(opened.into()),
            Err(errno) => Err(refused("create", &self.path.join(name), errno)),
        }
    }

    /// Opens a plain file in it for reading; `None` when there is none.
    pub fn file(&self, name: impl AsRef<Path>) -> Result<Option<File>, Error> {
        self.plain(name.as_ref(), OFlag::O_RDONLY)
    }

    #[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
    fn plain(&self, name: &Path, access: OFlag) -> Result<Option<File>, Error> {
        let path = self.path.join(name);
        // A pipe in its place is not waited for.
        let flags = access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&*self.handle, name, flags, Mode::empty()) {
            Ok(opened) => File::from(opened),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(errno) => return Err(refused("open", &path, errno)),
        };
        let metadata = file.metadata().map_err(failed("look at", &path))?;
        Ok(metadata.is_file().then_some(file))
    }

    /// Opens a plain file of ours in it for reading and writing; `None` when there is none.
    pub fn own_file(&self, name: impl AsRef<Path>) -> Result<Option<File>, Error> {
        self.plain(name.as_ref(), OFlag::O_RDWR)
    }

    /// Moves an entry to another folder of the same file system; `Exists` if there is something under the new name. The
    /// move survives a power cut once both folders are synced.
    pub fn rename(&self, name: impl AsRef<Path>, to: &Dir, new_name: impl AsRef<Path>) -> Result<(), Error> {
        let (name, new_name) = (name.as_ref(), new_name.as_ref());
        let target = to.path.join(new_name);
        let renamed = rename_new(&*self.handle, name, &*to.handle, new_name);
        renamed.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { path: target.clone() },
            _ => failed("rename to", &target)(source),
        })
    }

    /// Lets two entries, of this folder and of another one of the same file system, change places in one step; both are
    /// always there. `None` where the file system cannot. Durable once both folders are synced.
    pub fn exchange(
        &self,
        name: impl AsRef<Path>,
        other: &Dir,
        other_name: impl AsRef<Path>,
    ) -> Result<Option<()>, Error> {
        let (name, other_name) = (name.as_ref(), other_name.as_ref());
        let path = self.path.join(name);
        exchange(&*self.handle, name, &*other.handle, other_name).map_err(failed("exchange", &path))
    }

    /// What the system knows of an entry, not following a link; `None` where there is none of that name.
    pub fn look(&self, name: impl AsRef<Path>) -> Result<Option<Entry>, Error> {
        let name = name.as_ref();
        match fstatat(&*self.handle, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(Entry {
                inode: found.st_ino,
                is_dir: found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits(),
                bytes: u64::try_from(found.st_size).unwrap_or(0),
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(refused("look at", &self.path.join(name), errno)),
        }
    }

    /// The names in it, in order; at most `most`, so that no folder takes all memory.
    pub fn names(&self, most: usize) -> Result<Vec<OsString>, Error> {
        self.names_up_to(most)?.ok_or_else(|| {
            let many = io::Error::other(format!("it has more than {most} entries"));
            failed("list", &self.path)(many)
        })
    }

    /// The names in it, in order; `None` if there are more than `most`.
    pub fn names_up_to(&self, most: usize) -> Result<Option<Vec<OsString>>, Error> {
        let refused = |errno: Errno| refused("list", &self.path, errno);
        let mut listing =
            nix::dir::Dir::openat(&*self.handle, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
                .map_err(refused)?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let name = OsStr::from_bytes(entry.map_err(refused)?.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == most {
                return Ok(None);
            }
            names.push(name);
        }
        names.sort();
        Ok(Some(names))
    }

    /// Removes a folder and all that is in it; a link in its place is not followed.
    pub fn remove_tree(&self, name: impl AsRef<Path>) -> Result<(), Error> {
        let path = Path::new("/proc/self/fd")
            .join(self.handle.as_raw_fd().to_string())
            .join(name.as_ref());
        std::fs::remove_dir_all(path).map_err(failed("remove", &self.path.join(name.as_ref())))
    }

    /// Removes a file.
    pub fn remove_file(&self, name: impl AsRef<Path>) -> Result<(), Error> {
        let name = name.as_ref();
        let removed = unlinkat(&*self.handle, name, UnlinkatFlags::NoRemoveDir);
        removed.map_err(|errno| refused("remove", &self.path.join(name), errno))
    }

    /// Removes an empty folder.
    pub fn remove_dir(&self, name: impl AsRef<Path>) -> Result<(), Error> {
        let name = name.as_ref();
        let removed = unlinkat(&*self.handle, name, UnlinkatFlags::RemoveDir);
        removed.map_err(|errno| refused("remove", &self.path.join(name), errno))
    }

    /// Locks it; none when another process has locked it.
    pub fn try_lock(&self) -> Result<Option<Lock<Arc<File>>>, Error> {
        match Lock::exclusive(Arc::clone(&self.handle)) {
            Ok(lock) => Ok(Some(lock)),
            Err(NotLocked { error, .. }) => match error {
                TryLockError::WouldBlock => Ok(None),
                TryLockError::Error(source) => Err(failed("lock", &self.path)(source)),
            },
        }
    }

    /// Gives it to a user and a group.
    pub fn give(&self, (user, group): (u32, u32)) -> Result<(), Error> {
        fchown(self.handle.as_fd(), Some(user), Some(group)).map_err(failed("give away", &self.path))
    }

    /// Gives it exactly the permissions of `mode`.
    pub fn set_mode(&self, mode: u32) -> Result<(), Error> {
        let set = self.handle.set_permissions(Permissions::from_mode(mode));
        set.map_err(failed("set the mode of", &self.path))
    }

    /// Makes the names in it durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.handle.sync_all().map_err(failed("sync", &self.path))
    }

    /// Whether it is this user's, and nobody else may enter it.
    pub fn is_private(&self) -> Result<bool, Error> {
        let metadata = self.metadata()?;
        Ok(metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0)
    }

    /// What the system knows of it.
    pub fn metadata(&self) -> Result<Metadata, Error> {
        self.handle.metadata().map_err(failed("look at", &self.path))
    }

    /// The name it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits)
}

fn refused(doing: &'static str, path: &Path, errno: Errno) -> Error {
    match errno {
        Errno::EEXIST => Error::Exists { path: path.to_owned() },
        errno => failed(doing, path)(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "somebody else swaps a folder")]
    fn what_is_made_in_a_held_folder_lands_there_though_its_name_is_a_link_now() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("victim")).unwrap();
        let held = Dir::open(place.path()).unwrap().make("new").unwrap();
        fs::rename(at("new"), at("away")).unwrap();
        symlink(at("victim"), at("new")).unwrap();
        held.create("file").unwrap();
        held.make("folder").unwrap();
        assert!(at("away/file").is_file() && at("away/folder").is_dir());
        assert_eq!(fs::read_dir(at("victim")).unwrap().count(), 0);
    }

    #[test]
    fn links_and_pipes_in_the_place_of_an_entry_are_neither_followed_nor_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), b"").unwrap();
        symlink(at("folder"), at("to-folder")).unwrap();
        symlink(at("file"), at("to-file")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), mode(0o600)).unwrap();
        let dir = Dir::open(place.path()).unwrap();
        assert!(dir.dir("folder").unwrap().is_some() && dir.file("file").unwrap().is_some());
        for name in ["to-folder", "to-file", "pipe", "absent"] {
            assert!(dir.dir(name).unwrap().is_none(), "{name}");
            assert!(dir.file(name).unwrap().is_none(), "{name}");
            if name != "absent" {
                assert!(matches!(dir.create(name), Err(Error::Exists { .. })), "{name}");
                assert!(matches!(dir.make(name), Err(Error::Exists { .. })), "{name}");
            }
        }
    }

    #[test]
    fn a_folder_is_reached_through_own_links_and_not_through_those_of_others() {
        let place = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(place.path()).unwrap();
        let at = |name: &str| real.join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("file"), b"").unwrap();
        symlink("a/../a", at("relative")).unwrap();
        symlink(at("relative/b"), at("absolute")).unwrap();
        symlink("round", at("round")).unwrap();
        symlink("absent", at("dangling")).unwrap();
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        for path in ["a/b", "relative/b", "absolute", "absolute/.", "a/b/../b/"] {
            let reached = Dir::reach(&at(path)).unwrap().unwrap();
            assert_eq!(reached.metadata().unwrap().ino(), inode(at("a/b")), "{path}");
            assert_eq!(Dir::foreign_link(&at(path)).unwrap(), None, "{path}");
        }
        for path in ["absent", "dangling", "a/absent/deeper"] {
            assert!(Dir::reach(&at(path)).unwrap().is_none(), "{path}");
            assert_eq!(Dir::foreign_link(&at(path)).unwrap(), None, "{path}");
        }
        for path in ["file", "file/deeper", "round"] {
            assert!(Dir::reach(&at(path)).is_err(), "{path}");
        }
        if !geteuid().is_root() {
            return; // Nobody else can be played.
        }
        std::os::unix::fs::lchown(at("relative"), Some(12345), None).unwrap();
        let link = ForeignLink {
            path: at("relative"),
            owner: 12345,
        };
        for path in ["relative", "relative/b", "relative/absent", "absolute"] {
            let refused = Dir::reach(&at(path)).unwrap_err();
            assert!(refused.to_string().contains("follow"), "{refused}");
            assert_eq!(Dir::foreign_link(&at(path)).unwrap().as_ref(), Some(&link), "{path}");
        }
    }

    #[test]
    fn two_entries_change_places_and_keep_what_they_are() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        let (a, b) = (dir.make("a").unwrap(), dir.make("b").unwrap());
        a.make("member").unwrap().create("old").unwrap();
        b.make("member").unwrap().create("new").unwrap();
        let (old, new) = (a.look("member").unwrap().unwrap(), b.look("member").unwrap().unwrap());
        assert!(old.is_dir && old.inode != new.inode);
        if a.exchange("member", &b, "member").unwrap().is_none() {
            return;
        }
        assert_eq!(
            (a.look("member").unwrap(), b.look("member").unwrap()),
            (Some(new), Some(old))
        );
        assert!(place.path().join("a/member/new").is_file() && place.path().join("b/member/old").is_file());
        assert!(matches!(a.exchange("member", &b, "absent"), Err(Error::Io { .. })));
        assert_eq!(dir.look("absent").unwrap(), None);
    }

    #[test]
    fn a_tree_is_removed_and_what_links_in_it_lead_to_is_not() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        fs::create_dir(place.path().join("kept")).unwrap();
        fs::write(place.path().join("kept/file"), b"").unwrap();
        let tree = dir.make("tree").unwrap();
        tree.make("folder").unwrap().create("file").unwrap();
        symlink(place.path().join("kept"), place.path().join("tree/link")).unwrap();
        dir.remove_tree("tree").unwrap();
        assert_eq!(dir.names(10).unwrap(), ["kept"]);
        assert!(place.path().join("kept/file").is_file());
        dir.make("another").unwrap();
        assert!(dir.names(1).is_err());
    }

    #[test]
    fn an_entry_is_moved_but_never_over_another() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        let (a, _b) = (dir.make("a").unwrap(), dir.make("b").unwrap());
        a.create("file").unwrap();
        assert!(matches!(dir.rename("a", &dir, "b"), Err(Error::Exists { .. })));
        dir.rename("a", &dir, "c").unwrap();
        assert!(place.path().join("c/file").is_file());
        assert!(matches!(dir.rename("a", &dir, "d"), Err(Error::Io { .. })));
    }
}
