//! The directory in which a data directory is made before it gets its name.
//!
//! A data directory that does not exist is made beside its place and renamed whole. One that exists and is empty may be
//! a mount point, which cannot be renamed over: there `member` is made in a directory inside it and moved up.
//!
//! Invariant: until it is published, everything lies in a directory whose name holds `.partial-`; it is locked while its
//! maker lives, so that another run can tell what was left by a dead one.
//! Invariant: that directory is entered by a handle only and is its maker's alone, so that nobody else, though they own
//! the place, decides where root writes or what it gives away.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{getegid, geteuid};

use super::Error;
use super::half_made_dirs::{self, PARTIAL, Word};
use super::target_dirs::look;
use crate::durable::{self, Dir, Lock, failed};

/// What etcd wants its directories to be.
const DIR_MODE: u32 = 0o700;

/// What is given away, inside the directory in the making: that one itself stays its maker's.
pub(super) const CONTENT: &str = "new";

/// What is at the place where a directory is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Absent,
    Empty,
}

/// A directory in the making. Dropped unpublished, it is removed.
#[must_use]
pub(super) struct Staging {
    home: Dir,
    /// The directory in the making, in `home`; its name there.
    outer: Dir,
    _lock: Lock<Arc<File>>,
    name: String,
    /// What was made in it, parents first; the first is what will be the content of the directory.
    dirs: Vec<Dir>,
    files: Vec<(File, PathBuf)>,
    target: PathBuf,
    place: Place,
    owner: Option<(u32, u32)>,
    is_up: bool,
}

impl Staging {
    /// Begins the directory that is to be at `target`.
    ///
    /// Refuses when there is anything in it, and says so when a running etcd holds it or another run makes it.
    pub fn begin(target: &Path) -> Result<Staging, Error> {
        let target = std::path::absolute(target).map_err(failed("resolve", target))?;
        let place = look(&target)?;
        let (home, prefix) = match place {
            Place::Absent => half_made_dirs::beside(&target)?,
            Place::Empty => half_made_dirs::inside(&target),
        };
        durable::create_dirs(&home, DIR_MODE)?;
        let home = Dir::open(&home)?;
        for left in half_made_dirs::of(&home, &prefix)? {
            left.remove()?;
        }
        let owner = owner_to_give(&home)?;
        Staging::make(home, &prefix, target, place, owner)
    }

    /// Begins a directory that is to have the name `name` in `home`, where nobody else may write, and to belong to
    /// `owner`. What runs that died left of it is removed.
    pub fn within(home: &Dir, name: &str, owner: (u32, u32)) -> Result<Staging, Error> {
        let target = home.path().join(name);
        if home.look(name)?.is_some() {
            return Err(Error::NotEmpty { path: target });
        }
        let prefix = format!("{name}{PARTIAL}");
        for left in half_made_dirs::of(home, &prefix)? {
            left.remove()?;
        }
        let own = (geteuid().as_raw(), getegid().as_raw());
        let owner = (owner != own).then_some(owner);
        Staging::make(home.clone(), &prefix, target, Place::Absent, owner)
    }

    fn make(
        home: Dir,
        prefix: &str,
        target: PathBuf,
        place: Place,
        owner: Option<(u32, u32)>,
    ) -> Result<Staging, Error> {
        let random = durable::random::<4>().map_err(failed("draw a name in", home.path()))?;
        let name = format!("{prefix}{:08x}", u32::from_be_bytes(random));
        let outer = home.make(&name)?;
        let Some(_lock) = outer.try_lock()? else {
            let path = outer.path().to_owned();
            return Err(Error::Busy { path });
        };
        let content = outer.make(CONTENT)?;
        Ok(Staging {
            home,
            outer,
            _lock,
            name,
            dirs: vec![content],
            files: Vec::new(),
            target,
            place,
            owner,
            is_up: false,
        })
    }

    /// What will be the content of the directory.
    pub fn content(&self) -> &Dir {
        self.dirs.first().expect("it was made at the beginning")
    }

    /// The place it will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Who will own it, where that is somebody else than who makes it.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// Whether it has its name.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Makes the directories of a path that begins in the content, where they are missing.
    pub fn make_dirs(&mut self, path: &str) -> Result<Dir, Error> {
        let mut dir = self.content().clone();
        for name in path.split('/') {
            let path = dir.path().join(name);
            dir = match self.dirs.iter().find(|made| made.path() == path) {
                Some(made) => made.clone(),
                None => {
                    let made = dir.make(name)?;
                    self.dirs.push(made.clone());
                    made
                }
            };
        }
        Ok(dir)
    }

    /// Makes a file in one of its directories.
    pub fn create(&mut self, dir: &Dir, name: &str) -> Result<File, Error> {
        let (file, path) = (dir.create(name)?, dir.path().join(name));
        let kept = file.try_clone().map_err(failed("keep open", &path))?;
        self.files.push((kept, path));
        Ok(file)
    }

    /// Has the file `new` of one of its directories take the place of the file `old`, which goes.
    pub fn replace(&mut self, dir: &Dir, old: &str, new: &str) -> Result<(), Error> {
        let [old_path, new_path] = [old, new].map(|name| dir.path().join(name));
        self.files.retain(|(_, path)| *path != old_path);
        dir.remove_file(old)?;
        dir.rename(new, dir, old)?;
        for (_, path) in self.files.iter_mut().filter(|(_, path)| *path == new_path) {
            path.clone_from(&old_path);
        }
        Ok(())
    }

    /// Gives everything in it to its owner and makes it durable, all but its name.
    pub fn settle(&self) -> Result<(), Error> {
        for (file, path) in &self.files {
            if let Some((user, group)) = self.owner {
                fchown(file, Some(user), Some(group)).map_err(failed("give away", path))?;
            }
            file.sync_all().map_err(failed("sync", path))?;
        }
        // Where only what is in the content moves up, the content itself is removed.
        let moving = match self.place {
            Place::Absent => &self.dirs[..],
            Place::Empty => &self.dirs[1..],
        };
        for dir in moving.iter().rev() {
            if let Some(owner) = self.owner {
                dir.give(owner)?;
            }
            dir.sync()?;
        }
        self.content().sync()?;
        Ok(self.outer.sync()?)
    }

    /// Leaves word for the next run, should this one die before the log at `log` has followed.
    pub fn announce(&self, log: &Path) -> Result<(), Error> {
        Word::leave(&self.outer, self.content().path(), log)
    }

    /// Gives it its name; what is left of its making stays until [`Staging::clear`]. `entry` is the one entry that moves
    /// when the directory itself exists. After an error it may have its name all the same, see [`Staging::is_up`].
    pub fn move_up(&mut self, entry: &str) -> Result<(), Error> {
        let (from, name, new_name) = self.move_of(entry);
        from.rename(name, &self.home, new_name)?;
        self.is_up = true;
        self.home.sync()?;
        Ok(from.sync()?)
    }

    /// Takes it back from its place into the making.
    pub fn take_back(&mut self, entry: &str) -> Result<(), Error> {
        let (to, name, new_name) = self.move_of(entry);
        self.home.rename(new_name, &to, name)?;
        self.is_up = false;
        Ok(self.home.sync()?)
    }

    /// Removes what is left of the making of a directory that is in its place.
    pub fn clear(self) -> Result<(), Error> {
        Word::take_back(&self.outer)?;
        if self.place == Place::Empty {
            self.outer.remove_dir(CONTENT)?;
        }
        self.home.remove_dir(&self.name)?;
        Ok(self.home.sync()?)
    }

    /// From which folder which entry moves to `home`, and its name there.
    fn move_of<'a>(&self, entry: &'a str) -> (Dir, &'a str, OsString) {
        match self.place {
            Place::Absent => {
                let name = self.target.file_name().unwrap_or_default();
                (self.outer.clone(), CONTENT, name.to_owned())
            }
            Place::Empty => (self.content().clone(), entry, entry.into()),
        }
    }

    /// Leaves everything as a run leaves it that is killed.
    #[cfg(test)]
    pub fn die(self) {
        self._lock.unlock().unwrap();
        std::mem::forget(self);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_up {
            // Should it stay, the next run finds it unlocked and removes it.
            fs::remove_dir_all(self.outer.path()).ok();
        }
    }
}

/// When root makes a directory in one that belongs to somebody else, such as etcd's user, it is theirs.
fn owner_to_give(home: &Dir) -> Result<Option<(u32, u32)>, Error> {
    let metadata = home.metadata()?;
    let somebody = (metadata.uid(), metadata.gid());
    Ok((geteuid().is_root() && somebody.0 != 0).then_some(somebody))
}
