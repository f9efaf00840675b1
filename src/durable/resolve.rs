//! The way to a folder, gone step by step: links on it are followed only if nobody else has made them.
//!
//! Where root works in a place to which somebody else may write too, a link that this somebody made leads wherever they
//! like, and may lead elsewhere a moment after it was looked at. Each step here is taken from the handle of the one before.
//!
//! Source of the rules: path_resolution(7); `O_PATH` and `O_NOFOLLOW` in open(2).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::geteuid;

use super::{Error, failed};

/// As the kernel has it.
const MOST_LINKS: usize = 40;
/// With `O_DIRECTORY`, which has a file system mounted that is so on demand.
const FOLDER: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
const LINK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Where a way ended.
pub(super) enum End {
    /// At the folder.
    Folder(OwnedFd),
    /// Before something that is not there.
    Missing,
    /// Before a link of somebody else.
    ForeignLink(ForeignLink),
}

/// A link that neither root nor this user has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignLink {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub owner: u32,
}

/// Goes to the folder at `path`.
#[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
pub(super) fn walk(path: &Path) -> Result<End, Error> {
    let refused = |errno: Errno| failed("open", path)(errno.into());
    let absolute = std::path::absolute(path).map_err(failed("open", path))?;
    let root = || open("/", FOLDER, Mode::empty());
    let (mut at, mut here, mut links) = (root().map_err(refused)?, PathBuf::from("/"), 0);
    let mut parts = parts(&absolute);
    while let Some(part) = parts.pop_front() {
        match openat(&at, part.as_os_str(), FOLDER, Mode::empty()) {
            Ok(next) => {
                at = next;
                match part == ".." {
                    true => drop(here.pop()),
                    false => here.push(part),
                }
                continue;
            }
            Err(Errno::ENOENT) => return Ok(End::Missing),
            // A link is no folder.
            Err(Errno::ENOTDIR) => {}
            Err(errno) => return Err(refused(errno)),
        }
        let link = openat(&at, part.as_os_str(), LINK, Mode::empty()).map_err(refused)?;
        let found = fstat(&link).map_err(refused)?;
        if found.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFLNK.bits() {
            return Err(refused(Errno::ENOTDIR));
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(refused(Errno::ELOOP));
        }
        let owner = found.st_uid;
        if owner != 0 && owner != geteuid().as_raw() {
            let path = here.join(part);
            return Ok(End::ForeignLink(ForeignLink { path, owner }));
        }
        let target = PathBuf::from(readlinkat(&link, "").map_err(refused)?);
        if target.is_absolute() {
            (at, here) = (root().map_err(refused)?, PathBuf::from("/"));
        }
        for part in self::parts(&target).into_iter().rev() {
            parts.push_front(part);
        }
    }
    Ok(End::Folder(at))
}

/// The steps of a path.
fn parts(path: &Path) -> VecDeque<OsString> {
    let steps = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    steps.map(|part| part.as_os_str().to_owned()).collect()
}
