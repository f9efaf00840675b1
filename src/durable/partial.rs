//! A file that is being written under a name of its own, until it is whole: written, synced, then linked or renamed to
//! where it belongs.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;

use super::{Error, failed, parent, random, rename_new, sync_dir};

const SUFFIX: &str = ".partial";
const RANDOM_DIGITS: usize = 16;

/// A file that is being written under a name of its own. Dropped before `commit_*`, it is gone.
#[must_use]
#[derive(Debug)]
pub struct Partial {
    file: File,
    temp: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// Opens a new file beside `target`, with exactly the permissions of `mode`.
    #[expect(clippy::disallowed_methods, reason = "a new name: nothing else can have it")]
    pub fn create(target: &Path, mode: u32) -> Result<Partial, Error> {
        let temp = temp_beside(target)?;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temp);
        let file = opened.map_err(failed("create", target))?;
        let partial = Partial {
            file,
            temp,
            target: target.to_owned(),
        };
        // The mode given to open(2) is cut by the umask.
        let permissions = fs::Permissions::from_mode(mode);
        partial
            .file
            .set_permissions(permissions)
            .map_err(failed("set the mode of", &partial.temp))?;
        Ok(partial)
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The name it will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the file its name for good; `Exists` if another was faster. Returns it still open. After an error of the
    /// folder's sync the name may be there, but is not known to survive a power cut.
    #[expect(clippy::disallowed_methods, reason = "the one place that links")]
    pub fn commit_new(self) -> Result<File, Error> {
        self.commit_new_by(|from, to| fs::hard_link(from, to))
    }

    fn commit_new_by(self, link: impl FnOnce(&Path, &Path) -> io::Result<()>) -> Result<File, Error> {
        self.sync()?;
        let linked = match link(&self.temp, &self.target) {
            // FAT and its kin have no second names; a rename then is the one step.
            Err(source) if has_no_links(&source) => rename_new(AT_FDCWD, &self.temp, AT_FDCWD, &self.target),
            linked => linked,
        };
        if let Err(source) = linked {
            // A network file system may repeat a request whose answer was lost, and then call our own link a rival.
            if source.kind() != io::ErrorKind::AlreadyExists {
                return Err(failed("link", &self.target)(source));
            }
            if !self.is_target()? {
                let path = self.target.clone();
                return Err(Error::Exists { path });
            }
        }
        match fs::remove_file(&self.temp) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(failed("unlink", &self.temp)(source));
            }
            Ok(()) | Err(_) => {}
        }
        sync_dir(parent(&self.target))?;
        self.file.try_clone().map_err(failed("keep open", &self.target))
    }

    /// Gives the file its name, in place of whatever had it.
    #[expect(clippy::disallowed_methods, reason = "the one place that renames over a file")]
    pub fn commit_replace(self) -> Result<(), Error> {
        self.sync()?;
        fs::rename(&self.temp, &self.target).map_err(failed("rename to", &self.target))?;
        sync_dir(parent(&self.target))
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(failed("sync", &self.temp))
    }

    fn is_target(&self) -> Result<bool, Error> {
        let own = self.file.metadata().map_err(failed("look at", &self.temp))?;
        let target = fs::symlink_metadata(&self.target).map_err(failed("look at", &self.target))?;
        Ok(own.dev() == target.dev() && own.ino() == target.ino())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a commit the name is gone already; otherwise a sweep finds it.
        fs::remove_file(&self.temp).ok();
    }
}

/// Writes a file that must not be there yet. `Exists` if it is.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let partial = Partial::create(path, mode)?;
    partial
        .file()
        .write_all(bytes)
        .map_err(failed("write", &partial.temp))?;
    partial.commit_new().map(drop)
}

/// Writes a file in place of the one that may be there: readers see the old or the new, never a part.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let partial = Partial::create(path, mode)?;
    partial
        .file()
        .write_all(bytes)
        .map_err(failed("write", &partial.temp))?;
    partial.commit_replace()
}

/// The same, for a file that belongs to a user and a group: it is theirs before it has its name.
pub fn replace_owned(path: &Path, bytes: &[u8], mode: u32, owner: (u32, u32)) -> Result<(), Error> {
    let partial = Partial::create(path, mode)?;
    let mut file = partial.file();
    file.write_all(bytes).map_err(failed("write", &partial.temp))?;
    let found = file.metadata().map_err(failed("look at", &partial.temp))?;
    if (found.uid(), found.gid()) != owner {
        fchown(file, Some(owner.0), Some(owner.1)).map_err(failed("give away", path))?;
        // Giving a file away may take bits of its mode.
        let set = file.set_permissions(fs::Permissions::from_mode(mode));
        set.map_err(failed("set the mode of", path))?;
    }
    partial.commit_replace()
}

fn has_no_links(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS))
}

/// The name that the file called `name` would have got, if it is one that was being written.
pub fn target_of(name: &str) -> Option<&str> {
    let (target, random) = name.strip_prefix('.')?.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    let of_ours = random.len() == RANDOM_DIGITS && random.bytes().all(|b| b.is_ascii_hexdigit());
    (of_ours && !target.is_empty()).then_some(target)
}

fn temp_beside(target: &Path) -> Result<PathBuf, Error> {
    let name = target.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file");
        failed("create", target)(source)
    })?;
    let name = partial_name(name).map_err(failed("get random digits for", target))?;
    Ok(target.with_file_name(name))
}

/// Removes the names under which `target` was being written by runs that are gone; whoever calls knows that they are.
pub fn remove_partials(target: &Path) -> Result<(), Error> {
    let folder = parent(target);
    let name = target.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let begins = format!(".{name}.");
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        let is_partial = entry
            .file_name()
            .to_str()
            .is_some_and(|found| found.starts_with(&begins) && found.ends_with(SUFFIX));
        if is_partial {
            match fs::remove_file(entry.path()) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &entry.path())(source));
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// What the file `name` is called while it is being written.
pub fn partial_name(name: &str) -> io::Result<String> {
    let random = u64::from_le_bytes(random()?);
    Ok(format!(".{name}.{random:016x}{SUFFIX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_new_has_its_content_and_mode_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        create_new(&path, b"one", 0o666).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(
            fs::metadata(&path).unwrap().mode() & 0o7777,
            0o666,
            "whatever the umask is"
        );
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn a_name_that_is_taken_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        create_new(&path, b"one", 0o600).unwrap();
        assert!(matches!(create_new(&path, b"two", 0o600), Err(Error::Exists { path: p }) if p == path));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(dir.path()), ["a.json"]);
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn of_many_writers_exactly_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = &dir.path().join("a.json");
        let barrier = &std::sync::Barrier::new(8);
        let results: Vec<(u8, Result<(), Error>)> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8_u8)
                .map(|n| {
                    scope.spawn(move || {
                        barrier.wait();
                        (n, create_new(path, &[n; 64], 0o600))
                    })
                })
                .collect();
            writers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        let winners: Vec<u8> = results.iter().filter(|(_, r)| r.is_ok()).map(|(n, _)| *n).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(fs::read(path).unwrap(), [winners[0]; 64]);
        let losers = results.iter().filter(|(_, r)| matches!(r, Err(Error::Exists { .. })));
        assert_eq!(losers.count(), 7);
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a link whose answer was lost")]
    fn our_own_link_is_not_taken_for_a_rivals() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let partial = Partial::create(&path, 0o600).unwrap();
        fs::hard_link(&partial.temp, &path).unwrap();
        partial.commit_new().unwrap();
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn a_file_system_without_links_keeps_what_is_there_as_well() {
        let refusals = [Errno::EPERM, Errno::EOPNOTSUPP];
        for refusal in refusals {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.json");
            let commit = |content: &[u8]| {
                let partial = Partial::create(&path, 0o600).unwrap();
                partial.file().write_all(content).unwrap();
                partial.commit_new_by(|_, _| Err(refusal.into()))
            };
            commit(b"one").unwrap();
            assert!(matches!(commit(b"two"), Err(Error::Exists { .. })));
            assert_eq!(fs::read(&path).unwrap(), b"one");
            assert_eq!(names(dir.path()), ["a.json"]);
        }
    }

    #[test]
    fn what_is_dropped_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let partial = Partial::create(&dir.path().join("a.json"), 0o600).unwrap();
        let name = names(dir.path()).pop().unwrap();
        assert_eq!(target_of(&name), Some("a.json"));
        drop(partial);
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn only_names_of_ours_are_taken_for_partial() {
        assert_eq!(target_of(".a.0123456789abcdef.partial"), Some("a"));
        for name in [
            "a.json",
            "a.0123456789abcdef.partial",
            ".partial",
            "..0123456789abcdef.partial",
            ".a.0123456789abcde.partial",
            ".a.0123456789abcdeg.partial",
        ] {
            assert_eq!(target_of(name), None, "{name}");
        }
    }
}
