//! Whether the places of data and log suit: apart from each other, and with room.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::Error;
use super::half_made_dirs::{PARTIAL, is_held};
use super::staging::Place;
use crate::datadir::{self, wal};
use crate::durable::{Dir, failed};
use crate::model::ByteSize;

/// What comes on top of the source: new pages, which are few, and directories.
const MARGIN_BYTES: u64 = 16 << 20;

/// What is where the data is to be laid out; fails unless that is nothing.
pub(super) fn look(target: &Path) -> Result<Place, Error> {
    let entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Absent),
        Err(error) => return Err(failed("read", target)(error).into()),
    };
    for entry in entries {
        let entry = entry.map_err(failed("read", target))?;
        // A file system's own, on a mount point; and what a run that died left behind.
        let name = entry.file_name();
        if name == "lost+found" || name.to_string_lossy().starts_with(PARTIAL) {
            continue;
        }
        let path = target.to_owned();
        return Err(match is_held(target) {
            Ok(true) => Error::Running { path },
            Ok(false) | Err(_) => Error::NotEmpty { path },
        });
    }
    Ok(Place::Empty)
}

/// The directory of the log, if it is one of its own: inside the data directory etcd's own place for it is none.
///
/// Fails when one of the two is in the other otherwise: each gets its name by itself.
pub(super) fn separate_log(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    let Some(wal_dir) = wal_dir else { return Ok(None) };
    let (data, log) = (resolved(data_dir)?, resolved(wal_dir)?);
    let is_nested = log.starts_with(&data) || data.starts_with(&log);
    apart((data_dir, &data), (wal_dir, &log), is_nested)
}

/// The directory of the log, if a `member` that takes the place of another one would not bring it along.
///
/// Fails when it is elsewhere in `member`, or around the data: what is in each of them is exchanged as a whole.
pub(super) fn log_beside_member(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    let Some(wal_dir) = wal_dir else { return Ok(None) };
    let data = resolved(data_dir)?;
    let member = data.join(super::MEMBER);
    let log = resolved_up_to(wal_dir, Some(&member))?;
    let is_nested = log.starts_with(&member) || data.starts_with(&log);
    apart((data_dir, &data), (wal_dir, &log), is_nested)
}

/// The log's directory as it was named, unless it is etcd's own place in the data. Each comes with where it leads.
fn apart(
    (data_dir, data): (&Path, &Path),
    (wal_dir, log): (&Path, &Path),
    is_nested: bool,
) -> Result<Option<PathBuf>, Error> {
    if log == data.join(datadir::WAL_DIR) {
        return Ok(None);
    }
    if is_nested {
        return Err(Error::Nested {
            data_dir: data_dir.to_owned(),
            wal_dir: wal_dir.to_owned(),
        });
    }
    Ok(Some(wal_dir.to_owned()))
}

/// The path without links and `..`, as far as it exists; what does not exist yet has no links.
pub(super) fn resolved(path: &Path) -> Result<PathBuf, Error> {
    resolved_up_to(path, None)
}

/// The same; links at `end` and below stay, because they go wherever that goes.
fn resolved_up_to(path: &Path, end: Option<&Path>) -> Result<PathBuf, Error> {
    let path = std::path::absolute(path).map_err(failed("resolve", path))?;
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                real.pop();
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => real.push(part),
        }
        if !end.is_some_and(|end| real.starts_with(end)) {
            real = fs::canonicalize(&real).unwrap_or(real);
        }
    }
    Ok(real)
}

/// Refuses when a file system has no room for what is to come: a database of `bytes` and the log.
pub(super) fn refuse_without_space(bytes: u64, data: &Dir, log: Option<&Dir>) -> Result<(), Error> {
    let data_bytes = bytes.saturating_add(MARGIN_BYTES);
    match log {
        Some(log) if log.metadata()?.dev() != data.metadata()?.dev() => {
            refuse_below(log, wal::SEGMENT_BYTES)?;
            refuse_below(data, data_bytes)
        }
        Some(_) | None => refuse_below(data, data_bytes.saturating_add(wal::SEGMENT_BYTES)),
    }
}

/// What a source of `bytes` and a log take in one file system.
pub(super) fn needed_bytes(bytes: u64) -> u64 {
    bytes.saturating_add(MARGIN_BYTES).saturating_add(wal::SEGMENT_BYTES)
}

/// Whether a second database of `bytes`, and the log, have room beside the first.
pub(super) fn has_room(dir: &Dir, bytes: u64) -> Result<bool, Error> {
    Ok(free_in(dir)? >= needed_bytes(bytes))
}

fn free_in(dir: &Dir) -> Result<u64, Error> {
    let found = nix::sys::statvfs::statvfs(dir.path());
    let found = found.map_err(|errno| failed("measure", dir.path())(errno.into()))?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

fn refuse_below(dir: &Dir, needed: u64) -> Result<(), Error> {
    let free = free_in(dir)?;
    if free >= needed {
        return Ok(());
    }
    // The content of a directory in the making, which is in its home.
    let home = dir.path().ancestors().nth(2);
    Err(Error::TooLittleSpace {
        path: home.unwrap_or(dir.path()).to_owned(),
        free: ByteSize(free),
        needed: ByteSize(needed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_log_are_apart_whatever_their_paths_look_like() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir(at("real")).unwrap();
        std::os::unix::fs::symlink(at("real"), at("link")).unwrap();
        let separate = |data: &str, log: &str| separate_log(&at(data), Some(&at(log)));
        for (data, log) in [
            ("d", "w"),
            ("d", "dd"),
            ("x/d", "x/w"),
            ("d", "d/../w"),
            ("real/d", "link/w"),
        ] {
            assert_eq!(separate(data, log).unwrap(), Some(at(log)), "{data} {log}");
        }
        for (data, log) in [
            ("d", "d/member/wal"),
            ("real/d", "link/d/member/wal"),
            ("d", "d/./member/x/../wal"),
        ] {
            assert_eq!(separate(data, log).unwrap(), None, "{data} {log}");
        }
        for (data, log) in [
            ("d", "d"),
            ("d", "d/"),
            ("d", "d/wal"),
            ("w/d", "w"),
            ("d", "d/member"),
            ("real/d", "link/d"),
            ("link", "real/wal"),
            ("d", "x/../d/wal"),
        ] {
            assert!(matches!(separate(data, log), Err(Error::Nested { .. })), "{data} {log}");
        }
        assert_eq!(separate_log(&at("d"), None).unwrap(), None);
    }

    #[test]
    fn a_log_is_told_from_what_goes_with_the_member_whatever_its_path_looks_like() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir_all(at("real/d/member/wal")).unwrap();
        fs::create_dir_all(at("logs")).unwrap();
        fs::create_dir_all(at("linked/member")).unwrap();
        for (target, link) in [
            ("real/d", "data"),
            ("real/d/member/wal", "wal"),
            ("real/d/member", "member"),
            ("logs", "linked/member/wal"),
        ] {
            std::os::unix::fs::symlink(at(target), at(link)).unwrap();
        }
        let beside = |data: &str, log: &str| log_beside_member(&at(data), Some(&at(log)));
        for (data, log) in [
            ("real/d", "real/d/member/wal"),
            ("data", "real/d/member/wal"),
            ("real/d", "data/member/wal/"),
            ("real/d", "wal"),
            ("data", "member/x/../wal"),
            // etcd comes to the log through the member that goes.
            ("linked", "linked/member/wal"),
            ("absent", "absent/member/wal"),
        ] {
            assert_eq!(beside(data, log).unwrap(), None, "{data} {log}");
        }
        // What is beside `member` in the data directory stays there.
        for (data, log) in [("real/d", "logs"), ("data", "real/d/wal"), ("linked", "logs")] {
            assert_eq!(beside(data, log).unwrap(), Some(at(log)), "{data} {log}");
        }
        for (data, log) in [
            ("real/d", "real/d/member"),
            ("data", "real/d/member/log"),
            ("real/d", "member/log"),
            ("real/d", "wal/deeper"),
            ("real/d", "data"),
            ("real/d", "real"),
        ] {
            assert!(matches!(beside(data, log), Err(Error::Nested { .. })), "{data} {log}");
        }
        assert_eq!(log_beside_member(&at("data"), None).unwrap(), None);
    }

    #[test]
    fn a_hostile_length_does_not_wrap_around_to_enough_room() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        for bytes in [u64::MAX, u64::MAX - wal::SEGMENT_BYTES] {
            let refused = refuse_without_space(bytes, &dir, None);
            assert!(matches!(refused, Err(Error::TooLittleSpace { .. })));
        }
        refuse_without_space(1, &dir, Some(&dir)).unwrap();
    }
}
