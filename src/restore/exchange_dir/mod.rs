//! A directory of etcd's whose content is exchanged, and our own folder in it.
//!
//! ```text
//! DIR/member                     what etcd uses (a separate log directory: DIR/*.wal and whatever lies beside)
//! DIR/.lifeboat/                 root's alone
//!   ID/member                    the new data, made here; after a way back what was since
//!   kept-ID/member               the old data
//!   gone-ID, gone-made-ID        the same while they are deleted: no data any more, whatever is left in them
//! ```
//!
//! Everything happens inside the directory, which may be a mount point and keeps its owner, mode and label.
//!
//! Invariant: our folder is entered by a handle and is nobody else's, though the directory around it is etcd's. No link that
//! etcd's user may have made leads there.

mod names;
mod removal;

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::inventory::{Inventory, Lack};
use super::ledger::{DataBefore, LogBefore};
use super::plan::{Plan, RestoreId, Site};
use super::swap::{self, Before, Direction, Holds, Kernel, Move, Next, Places};
use crate::durable::{self, Dir, ForeignLink, failed};
use crate::rebuild::Homes;

pub use names::{gone_paths, kept_path, made_path};
use names::{kept, made};

const OWN: &str = ".lifeboat";
pub(super) const MEMBER: &str = "member";
/// Of what is missing above etcd's directory; that itself is its user's alone.
const ABOVE_MODE: u32 = 0o755;
/// Of a log directory with more entries nothing is touched.
const MOST_ENTRIES: usize = 100_000;

/// Why nothing was exchanged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Our folder is not ours alone.
    #[error("`{path}` is not root's alone: somebody else made it")]
    NotOurs {
        /// It.
        path: String,
    },
    /// The directory or our folder in it is not there, which was.
    #[error("`{path}` or `.lifeboat` in it is not there: is it mounted?")]
    Missing {
        /// The directory.
        path: String,
    },
    /// Somebody else decides where the directory is.
    #[error("`{}` is a link of user {owner}, who could lead root anywhere by it", .path.display())]
    Foreign {
        /// The link.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The old data is nowhere.
    #[error("the data from before restore {id} is nowhere: neither `{path}` nor `{kept}` holds what was there then")]
    Gone {
        /// The directory.
        path: String,
        /// Where it is kept.
        kept: String,
        /// The restore.
        id: RestoreId,
    },
    /// The old data is there and not all of it.
    #[error("the data from before restore {id}, in `{path}`, is not what it was: {lack}")]
    Incomplete {
        /// Where it is.
        path: String,
        /// What is less than it was.
        lack: Lack,
        /// The restore.
        id: RestoreId,
    },
    /// What is there cannot have come from this restore.
    #[error("`{path}` holds what neither was there before restore {id} nor was made by it: nothing is touched")]
    Strange {
        /// The directory.
        path: String,
        /// The restore.
        id: RestoreId,
    },
    /// The system refused.
    #[error(transparent)]
    Files(#[from] durable::Error),
}

/// The directories of a plan: of the data, and of the log where that has one of its own.
#[derive(Debug)]
pub struct ExchangeDirs {
    pub data: ExchangeDir,
    pub log: Option<ExchangeDir>,
}

impl ExchangeDirs {
    /// Opens those of a site, in the one way or the other.
    pub fn open(site: &Site, open: impl Fn(&Path) -> Result<ExchangeDir, Error>) -> Result<ExchangeDirs, Error> {
        let data = open(&site.data_dir)?;
        let log = site.wal_dir.as_deref().map(open).transpose()?;
        Ok(ExchangeDirs { data, log })
    }

    /// Where `rebuild` makes what a plan wants.
    pub fn homes<'a>(&'a self, plan: &'a Plan) -> Homes<'a> {
        Homes {
            data: &self.data.own,
            log: self.log.as_ref().map(|log| &log.own),
            name: plan.host.id.as_str(),
            owner: plan.host.site.owner,
        }
    }
}

/// The directory and our folder in it.
#[derive(Debug)]
pub struct ExchangeDir {
    home: Dir,
    own: Dir,
}

impl ExchangeDir {
    /// Opens the directory and our folder in it, and makes what is missing; a directory that is made is `owner`'s.
    pub fn make(path: &Path, owner: (u32, u32)) -> Result<ExchangeDir, Error> {
        let home = match reach(path)? {
            Some(home) => home,
            None => ExchangeDir::make_home(path, owner)?,
        };
        let own = match home.dir(OWN)? {
            Some(own) => own,
            None => home.make(OWN)?,
        };
        ExchangeDir::checked(home, own)
    }

    /// Opens both; `None` if one of them is missing.
    pub fn find(path: &Path) -> Result<Option<ExchangeDir>, Error> {
        if !path.is_dir() {
            return Ok(None);
        }
        let Some(home) = reach(path)? else {
            return Ok(None);
        };
        match home.dir(OWN)? {
            Some(own) => ExchangeDir::checked(home, own).map(Some),
            None => Ok(None),
        }
    }

    /// Opens both, which a restore has made: that they are gone is a fault, such as of a mount that comes later.
    pub fn again(path: &Path) -> Result<ExchangeDir, Error> {
        let path_text = || path.display().to_string();
        ExchangeDir::find(path)?.ok_or_else(|| Error::Missing { path: path_text() })
    }

    /// Makes the directory in what is above it, by the handle of that: whoever may write there could put another in its
    /// place, and is given none but the one that was made.
    fn make_home(path: &Path, owner: (u32, u32)) -> Result<Dir, Error> {
        let absent = || failed("make folder", path)(io::ErrorKind::NotFound.into());
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(absent().into());
        };
        durable::create_dirs(above, ABOVE_MODE)?;
        let made = reach(above)?.ok_or_else(absent)?.make(name)?;
        made.give(owner)?;
        made.sync()?;
        Ok(made)
    }

    fn checked(home: Dir, own: Dir) -> Result<ExchangeDir, Error> {
        let path = own.path().display().to_string();
        if !own.is_private()? {
            return Err(Error::NotOurs { path });
        }
        Ok(ExchangeDir { home, own })
    }

    /// The inode of what etcd uses as its `member`.
    pub fn live_member(&self) -> Result<Option<u64>, Error> {
        inode(&self.home, MEMBER)
    }

    /// The inode of the `member` that was made.
    pub fn made_member(&self, id: &RestoreId) -> Result<Option<u64>, Error> {
        self.inner(&made(id), MEMBER)
    }

    /// The inode of a file of the log that was made.
    pub fn made_log(&self, id: &RestoreId, name: &str) -> Result<Option<u64>, Error> {
        self.inner(&made(id), name)
    }

    /// The inodes of everything in it that is not ours.
    pub fn live_entries(&self) -> Result<Vec<u64>, Error> {
        inodes(&self.home)
    }

    /// Lets the old `member` and the new one change places, as far as that is still to be done.
    pub fn swap_member(&self, id: &RestoreId, old: Option<u64>, new: u64, direction: Direction) -> Result<(), Error> {
        let (made, kept) = (self.folder(&made(id))?, self.folder(&kept(id))?);
        let (home, made, kept) = (&self.home, &made, &kept);
        let mut kernel = Kernel::Exchanges;
        loop {
            let done = match self.next_swap(id, old, new, direction, kernel)? {
                Next::Done => return self.sync(made, kept),
                Next::Lost => return Err(self.strange(id)),
                Next::Gone => return Err(self.nowhere(id)),
                Next::Make(Move::ExchangeLiveMade) => home.exchange(MEMBER, made, MEMBER)?,
                Next::Make(Move::ExchangeLiveKept) => home.exchange(MEMBER, kept, MEMBER)?,
                Next::Make(Move::LiveToKept) => Some(home.rename(MEMBER, kept, MEMBER)?),
                Next::Make(Move::LiveToMade) => Some(home.rename(MEMBER, made, MEMBER)?),
                Next::Make(Move::MadeToLive) => Some(made.rename(MEMBER, home, MEMBER)?),
                Next::Make(Move::KeptToLive) => Some(kept.rename(MEMBER, home, MEMBER)?),
                Next::Make(Move::MadeToKept) => Some(made.rename(MEMBER, kept, MEMBER)?),
                Next::Make(Move::KeptToMade) => Some(kept.rename(MEMBER, made, MEMBER)?),
            };
            if done.is_none() {
                kernel = Kernel::OnlyMoves;
            }
            self.sync(made, kept)?;
        }
    }

    /// Sees that the old `member` can come back.
    pub fn find_member(&self, id: &RestoreId, old: Option<u64>, new: u64) -> Result<(), Error> {
        match self.next_swap(id, old, new, Direction::Back, Kernel::Exchanges)? {
            Next::Make(_) | Next::Done => Ok(()),
            Next::Lost => Err(self.strange(id)),
            Next::Gone => Err(self.nowhere(id)),
        }
    }

    /// What is in the `member` with an inode, wherever that lies; `None` if that is too much to list.
    pub fn member_files(&self, id: &RestoreId, old: u64) -> Result<Option<Inventory>, Error> {
        match self.old_member(id, old)? {
            Some(member) => Ok(Inventory::take(&member, |_, _| true)?),
            // A link, of which etcd's user may have made anything.
            None => Ok(Some(Inventory::default())),
        }
    }

    /// What of `old` is in the directory of the log, or kept; `None` if that is too much to list.
    pub fn log_files(&self, id: &RestoreId, old: &[u64]) -> Result<Option<Inventory>, Error> {
        let kept = self.own.dir(kept(id))?;
        let mut all = Some(Inventory::default());
        for dir in [Some(&self.home), kept.as_ref()].into_iter().flatten() {
            let found = Inventory::take(dir, |name, inode| !is_left_alone(name) && old.contains(&inode))?;
            all = all.zip(found).map(|(all, found)| all.with(found));
        }
        Ok(all)
    }

    /// Sees that the old `member` has all that it had.
    pub fn check_member(&self, id: &RestoreId, before: &DataBefore, has_log_inside: bool) -> Result<(), Error> {
        let Some(old) = before.member else { return Ok(()) };
        let found = self.member_files(id, old)?;
        let lack = match (&before.member_files, &found) {
            (Some(had), Some(has)) => had.lack(has),
            // What is more than can be listed is looked at no closer.
            (_, None) => None,
            (None, Some(_)) if before.has_log == LogBefore::Missing => None,
            (None, Some(has)) => has.implausible_member().or_else(|| match has_log_inside {
                true => has.implausible_log("wal/"),
                false => None,
            }),
        };
        let place = self
            .old_member(id, old)?
            .map_or_else(|| self.home.path().join(MEMBER), |dir| dir.path().to_owned());
        self.complete(id, &place, lack)
    }

    /// The same of the log in its own directory.
    pub fn check_log(&self, id: &RestoreId, before: &DataBefore) -> Result<(), Error> {
        let lack = match (&before.log_files, self.log_files(id, &before.log)?) {
            (Some(had), Some(has)) => had.lack(&has),
            (_, None) => None,
            (None, Some(_)) if before.has_log == LogBefore::Missing => None,
            (None, Some(has)) => has.implausible_log(""),
        };
        self.complete(id, &kept_path(self.home.path(), id), lack)
    }

    fn complete(&self, id: &RestoreId, place: &Path, lack: Option<Lack>) -> Result<(), Error> {
        match lack {
            None => Ok(()),
            Some(lack) => Err(Error::Incomplete {
                path: place.display().to_string(),
                lack,
                id: id.clone(),
            }),
        }
    }

    /// The `member` with an inode, wherever it lies.
    fn old_member(&self, id: &RestoreId, old: u64) -> Result<Option<Dir>, Error> {
        let (made, kept) = (self.own.dir(made(id))?, self.own.dir(kept(id))?);
        for place in [Some(&self.home), made.as_ref(), kept.as_ref()].into_iter().flatten() {
            if inode(place, MEMBER)? == Some(old) {
                return Ok(place.dir(MEMBER)?);
            }
        }
        Ok(None)
    }

    /// What comes next for old and new `member`, as they lie now.
    fn next_swap(
        &self,
        id: &RestoreId,
        old: Option<u64>,
        new: u64,
        direction: Direction,
        kernel: Kernel,
    ) -> Result<Next, Error> {
        let holds = |found: Option<u64>| match found {
            None => Holds::Nothing,
            found if found == Some(new) => Holds::New,
            found if found == old => Holds::Old,
            Some(_) => Holds::Strange,
        };
        let places = Places {
            live: holds(self.live_member()?),
            made: holds(self.made_member(id)?),
            kept: holds(self.inner(&kept(id), MEMBER)?),
        };
        let before = match old {
            Some(_) => Before::Data,
            None => Before::Nothing,
        };
        Ok(swap::next(places, before, direction, kernel))
    }

    /// Puts the new log in place of everything that was in the directory, or the other way round. The two are told apart
    /// by `old`, all that was there. Nobody uses the directory meanwhile, so it need not happen in one step.
    pub fn swap_log(&self, id: &RestoreId, old: &[u64], new: u64, direction: Direction) -> Result<(), Error> {
        let (made, kept) = (self.folder(&made(id))?, self.folder(&kept(id))?);
        match direction {
            Direction::In => {
                self.move_all(&self.home, &kept, |inode| inode != new)?;
                self.move_all(&made, &self.home, |inode| inode == new)?;
            }
            Direction::Back => {
                // Else what is there now would make way for nothing.
                self.find_log(id, old)?;
                self.move_all(&self.home, &made, |inode| !old.contains(&inode))?;
                self.move_all(&kept, &self.home, |inode| old.contains(&inode))?;
            }
        }
        self.sync(&made, &kept)?;
        let live = self.live_entries()?;
        let is_right = match direction {
            Direction::In => live == [new],
            Direction::Back => live.len() == old.len() && live.iter().all(|inode| old.contains(inode)),
        };
        match is_right {
            true => Ok(()),
            false => Err(self.strange(id)),
        }
    }

    /// Sees that all of the old log is there, in its place or kept.
    pub fn find_log(&self, id: &RestoreId, old: &[u64]) -> Result<(), Error> {
        let mut there = self.live_entries()?;
        if let Some(kept) = self.own.dir(kept(id))? {
            there.extend(inodes(&kept)?);
        }
        match old.iter().all(|inode| there.contains(inode)) {
            true => Ok(()),
            false => Err(self.nowhere(id)),
        }
    }

    fn move_all(&self, from: &Dir, to: &Dir, is_meant: impl Fn(u64) -> bool) -> Result<(), Error> {
        for name in from.names(MOST_ENTRIES)? {
            let found = inode(from, &name)?.filter(|_| !is_left_alone(&name));
            if found.is_some_and(&is_meant) {
                from.rename(&name, to, &name)?;
            }
        }
        to.sync()?;
        Ok(from.sync()?)
    }

    fn inner(&self, folder: &str, name: &str) -> Result<Option<u64>, Error> {
        match self.own.dir(folder)? {
            Some(folder) => inode(&folder, name),
            None => Ok(None),
        }
    }

    fn folder(&self, name: &str) -> Result<Dir, Error> {
        match self.own.dir(name)? {
            Some(folder) => Ok(folder),
            None => Ok(self.own.make(name)?),
        }
    }

    fn sync(&self, made: &Dir, kept: &Dir) -> Result<(), Error> {
        made.sync()?;
        kept.sync()?;
        self.own.sync()?;
        Ok(self.home.sync()?)
    }

    fn nowhere(&self, id: &RestoreId) -> Error {
        let home = self.home.path();
        Error::Gone {
            path: home.display().to_string(),
            kept: kept_path(home, id).display().to_string(),
            id: id.clone(),
        }
    }

    fn strange(&self, id: &RestoreId) -> Error {
        Error::Strange {
            path: self.home.path().display().to_string(),
            id: id.clone(),
        }
    }
}

/// Opens a directory to which no link of somebody else leads; `None` if it is not there.
fn reach(path: &Path) -> Result<Option<Dir>, Error> {
    match Dir::foreign_link(path)? {
        Some(ForeignLink { path, owner }) => Err(Error::Foreign { path, owner }),
        None => Ok(Dir::reach(path)?),
    }
}

/// User and group who own a directory; `None` if it is not there.
pub fn owner(path: &Path) -> Result<Option<(u32, u32)>, Error> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.uid(), found.gid()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path)(error).into()),
    }
}

fn inode(dir: &Dir, name: impl AsRef<Path>) -> Result<Option<u64>, Error> {
    Ok(dir.look(name)?.map(|entry| entry.inode))
}

/// The inodes of everything in a directory that is not ours.
fn inodes(dir: &Dir) -> Result<Vec<u64>, Error> {
    let mut inodes = Vec::new();
    for name in dir.names(MOST_ENTRIES)? {
        if !is_left_alone(&name) {
            inodes.extend(inode(dir, &name)?);
        }
    }
    Ok(inodes)
}

/// What is ours, and what is a file system's own on a mount point.
fn is_left_alone(name: &OsStr) -> bool {
    name == OWN || name == "lost+found"
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn id() -> RestoreId {
        "20261120T101530Z-9f3c4a1b".parse().unwrap()
    }

    fn ours() -> (u32, u32) {
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    }

    fn read(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    #[test]
    fn old_and_new_change_places_and_back_and_the_directory_stays_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        fs::create_dir_all(data.join("member")).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
        fs::write(data.join("member/is"), "old").unwrap();
        let exchange = ExchangeDir::make(&data, ours()).unwrap();
        let made = data.join(format!(".lifeboat/{}", id()));
        fs::create_dir_all(made.join("member")).unwrap();
        fs::write(made.join("member/is"), "new").unwrap();
        let (old, new) = (
            exchange.live_member().unwrap(),
            exchange.made_member(&id()).unwrap().unwrap(),
        );
        for _ in 0..2 {
            exchange.swap_member(&id(), old, new, Direction::In).unwrap();
            assert_eq!(read(&data.join("member/is")).as_deref(), Some("new"));
            assert_eq!(read(&kept_path(&data, &id()).join("member/is")).as_deref(), Some("old"));
        }
        for _ in 0..2 {
            exchange.swap_member(&id(), old, new, Direction::Back).unwrap();
            assert_eq!(read(&data.join("member/is")).as_deref(), Some("old"));
            assert_eq!(read(&made.join("member/is")).as_deref(), Some("new"));
        }
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o750);
        exchange.discard_made(&id()).unwrap();
        exchange.tidy(&id()).unwrap();
        assert!(!data.join(".lifeboat").exists());
    }

    #[test]
    fn a_directory_that_is_gone_is_made_and_emptied_again() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("a/b");
        let exchange = ExchangeDir::make(&data, ours()).unwrap();
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o700);
        fs::create_dir_all(made_path(&data, &id()).join("member")).unwrap();
        let new = exchange.made_member(&id()).unwrap().unwrap();
        exchange.swap_member(&id(), None, new, Direction::In).unwrap();
        assert!(data.join("member").is_dir());
        exchange.swap_member(&id(), None, new, Direction::Back).unwrap();
        assert!(!data.join("member").exists() && made_path(&data, &id()).join("member").is_dir());
    }

    #[test]
    fn a_log_directory_changes_all_its_entries_and_gets_them_back() {
        let place = tempfile::tempdir().unwrap();
        let wal = place.path().join("wal");
        fs::create_dir_all(wal.join("lost+found")).unwrap();
        for name in ["0.wal", "1.wal", "note"] {
            fs::write(wal.join(name), "old").unwrap();
        }
        let exchange = ExchangeDir::make(&wal, ours()).unwrap();
        let old = exchange.live_entries().unwrap();
        fs::create_dir_all(made_path(&wal, &id())).unwrap();
        fs::write(made_path(&wal, &id()).join("0.wal"), "new").unwrap();
        let new = exchange.made_log(&id(), "0.wal").unwrap().unwrap();
        // A run that died half-way.
        let kept = exchange.folder(&kept(&id())).unwrap();
        exchange.home.rename("1.wal", &kept, "1.wal").unwrap();
        for _ in 0..2 {
            exchange.swap_log(&id(), &old, new, Direction::In).unwrap();
            assert_eq!(read(&wal.join("0.wal")).as_deref(), Some("new"));
            assert!(!wal.join("note").exists() && wal.join("lost+found").is_dir());
        }
        // etcd went on with it.
        fs::write(wal.join("1.wal"), "new").unwrap();
        for _ in 0..2 {
            exchange.swap_log(&id(), &old, new, Direction::Back).unwrap();
            for name in ["0.wal", "1.wal", "note"] {
                assert_eq!(read(&wal.join(name)).as_deref(), Some("old"), "{name}");
            }
        }
        assert_eq!(
            read(&made_path(&wal, &id()).join("1.wal")).as_deref(),
            Some("new"),
            "nothing is lost"
        );
    }

    #[test]
    fn a_folder_that_somebody_else_prepared_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join(".lifeboat")).unwrap();
        fs::set_permissions(place.path().join(".lifeboat"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            ExchangeDir::make(place.path(), ours()),
            Err(Error::NotOurs { .. })
        ));
        assert!(matches!(ExchangeDir::find(place.path()), Err(Error::NotOurs { .. })));
    }
}
