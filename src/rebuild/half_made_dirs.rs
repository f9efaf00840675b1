//! What runs that died left behind: directories in the making, and data that was published without its log.
//!
//! With a directory of its own for the log there are two names to give, and a kill can fall between them. etcd serves an
//! empty cluster on a log without data, so the data goes first. Before that, word is left beside it: whose database it
//! is, as the file system knows it, and where its log is to be. The next run takes back what the word fits.
//!
//! Invariant: only what nobody has written to since is taken back, and only while its log is not in its place.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::staging::CONTENT;
use crate::datadir::{self, wal};
use crate::durable::{Dir, Lock, failed, is_held_by_another};

/// What the name of a directory in the making has between that of its target and random digits.
pub(super) const PARTIAL: &str = ".partial-";
const RANDOM_DIGITS: usize = 8;

/// The file that holds the word.
const WORD: &str = "published";
/// A path and four numbers.
const WORD_BYTES: u64 = 8 << 10;

/// Where a target that is absent is made, and how the names of those directories begin.
pub(super) fn beside(target: &Path) -> Result<(PathBuf, String), Error> {
    let path = || target.to_owned();
    let parent = target.parent().ok_or_else(|| Error::NotEmpty { path: path() })?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    Ok((parent.to_owned(), format!("{name}{PARTIAL}")))
}

/// Where the content of a target that exists is made, and how the names of those directories begin.
pub(super) fn inside(target: &Path) -> (PathBuf, String) {
    (target.to_owned(), PARTIAL.to_owned())
}

/// A directory in the making whose maker is dead, locked by us.
#[derive(Debug)]
pub(super) struct Leaving {
    dir: Dir,
    _lock: Lock<Arc<File>>,
}

/// Those in `home`; `Busy` when the maker of one is alive.
pub(super) fn of(home: &Dir, prefix: &str) -> Result<Vec<Leaving>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home.path()).map_err(failed("read", home.path()))? {
        let name = entry.map_err(failed("read", home.path()))?.file_name();
        if !name.to_string_lossy().strip_prefix(prefix).is_some_and(is_random) {
            continue;
        }
        let Some(dir) = home.dir(&name)? else { continue };
        let Some(_lock) = dir.try_lock()? else {
            let path = dir.path().to_owned();
            return Err(Error::Busy { path });
        };
        found.push(Leaving { dir, _lock });
    }
    Ok(found)
}

impl Leaving {
    /// Removes it and all that is in it.
    pub fn remove(self) -> Result<(), Error> {
        // Links in its place or in it are removed, not followed.
        let removed = fs::remove_dir_all(self.dir.path());
        Ok(removed.map_err(failed("remove", self.dir.path()))?)
    }
}

/// Takes back into its making what a run published at `target` that died before the log followed.
pub(super) fn take_back(target: &Path) -> Result<(), Error> {
    let target = &std::path::absolute(target).map_err(failed("resolve", target))?;
    if !target.join("member").is_dir() {
        return Ok(());
    }
    let (home, prefix) = beside(target)?;
    let (home, name) = (Dir::open(&home)?, target.file_name().unwrap_or_default());
    for left in of(&home, &prefix)? {
        if fits(&left, target)? {
            home.rename(name, &left.dir, CONTENT)?;
            return Ok(home.sync()?);
        }
    }
    let (home, prefix) = inside(target);
    let home = Dir::open(&home)?;
    for left in of(&home, &prefix)? {
        if fits(&left, target)?
            && let Some(content) = left.dir.dir(CONTENT)?
        {
            home.rename("member", &content, "member")?;
            return Ok(home.sync()?);
        }
    }
    Ok(())
}

/// Whether what is at `target` is what the maker of `left` published, unused, and without its log.
fn fits(left: &Leaving, target: &Path) -> Result<bool, Error> {
    let Some(word) = Word::read(&left.dir)? else {
        return Ok(false);
    };
    let is_there = |path: PathBuf| fs::symlink_metadata(path).is_ok();
    let is_complete = is_there(word.log.join(wal::FILE_NAME)) || is_there(target.join(datadir::WAL_DIR));
    Ok(!is_complete && Stamp::of(target)? == Some(word.stamp) && !is_held(target)?)
}

/// Whether a running etcd holds the database in a data directory: it locks it for as long as it runs.
pub fn is_held(data_dir: &Path) -> Result<bool, Error> {
    let snap = data_dir.join(datadir::SNAP_DIR);
    if !snap.is_dir() {
        return Ok(false);
    }
    let Some(database) = Dir::open(&snap)?.file(datadir::DB)? else {
        return Ok(false);
    };
    Ok(is_held_by_another(&database))
}

/// A database file, as the file system knows it; etcd changes it as soon as it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(data_dir: &Path) -> Result<Option<Stamp>, Error> {
        let path = data_dir.join(datadir::SNAP_DIR).join(datadir::DB);
        match fs::symlink_metadata(&path) {
            Ok(found) => Ok(Some(Stamp {
                inode: found.ino(),
                bytes: found.len(),
                modified: (found.mtime(), found.mtime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look at", &path)(error).into()),
        }
    }
}

/// What the next run is told of data that is published before its log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    stamp: Stamp,
    log: PathBuf,
}

impl Word {
    /// Leaves it in `making`, durably: the data in `data_dir` is about to be published, and its log will be at `log`.
    pub fn leave(making: &Dir, data_dir: &Path, log: &Path) -> Result<(), Error> {
        let path = making.path().join(WORD);
        let missing = || failed("look at", data_dir)(io::ErrorKind::NotFound.into());
        let stamp = Stamp::of(data_dir)?.ok_or_else(missing)?;
        let log = log.to_owned();
        let mut file = making.create(WORD)?;
        let written = file.write_all(&Word { stamp, log }.to_bytes());
        written.and_then(|()| file.sync_all()).map_err(failed("write", &path))?;
        Ok(making.sync()?)
    }

    /// Removes it, where it was left.
    pub fn take_back(making: &Dir) -> Result<(), Error> {
        match making.file(WORD)? {
            Some(_) => Ok(making.remove_file(WORD)?),
            None => Ok(()),
        }
    }

    /// The word in `making`, where that is a directory that nobody else can have written to.
    fn read(making: &Dir) -> Result<Option<Word>, Error> {
        let file = match making.is_private()? {
            true => making.file(WORD)?,
            false => None,
        };
        let Some(file) = file else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(WORD_BYTES).read_to_end(&mut bytes);
        read.map_err(failed("read", &making.path().join(WORD)))?;
        Ok(Word::parse(&bytes))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let Stamp { inode, bytes, modified } = self.stamp;
        let mut word = format!("{inode} {bytes} {} {}\n", modified.0, modified.1).into_bytes();
        word.extend_from_slice(self.log.as_os_str().as_bytes());
        word
    }

    /// A word that was cut short is none.
    fn parse(word: &[u8]) -> Option<Word> {
        let end = word.iter().position(|byte| *byte == b'\n')?;
        let mut numbers = std::str::from_utf8(word.get(..end)?).ok()?.split(' ');
        let stamp = Stamp {
            inode: numbers.next()?.parse().ok()?,
            bytes: numbers.next()?.parse().ok()?,
            modified: (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?),
        };
        let log = OsStr::from_bytes(word.get(end + 1..)?);
        (!log.is_empty()).then(|| Word {
            stamp,
            log: PathBuf::from(log),
        })
    }
}

fn is_random(suffix: &str) -> bool {
    suffix.len() == RANDOM_DIGITS && suffix.bytes().all(|b| b.is_ascii_hexdigit())
}
