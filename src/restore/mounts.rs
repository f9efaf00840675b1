//! File systems that are mounted in what a restore exchanges: they would be moved along with it.
//!
//! A mount stands on its directory, wherever that is moved to. With the old data it would leave, and come back over the
//! new data at the next boot, with what is old on it.
//!
//! Source of the format: proc_pid_mountinfo(5). Words between blanks, of which the fifth is where it is mounted; a blank,
//! tab, line feed or backslash in it is written as `\\` and three octal digits.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::exchange_dir::MEMBER;
use super::plan::Site;
use crate::durable::{self, failed};
use crate::rebuild;

const TABLE: &str = "/proc/self/mountinfo";
/// A host with ten thousand containers has a table of some MiB.
const MOST_BYTES: u64 = 64 << 20;

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
    let table = durable::read_linked(Path::new(TABLE), MOST_BYTES).map_err(refused)?;
    let mut points = mount_points(&table).map_err(refused)?;
    points.retain(|point| point.starts_with(path));
    Ok(points)
}

/// The places where something is mounted, in the order of the table.
fn mount_points(table: &[u8]) -> Result<Vec<PathBuf>, io::Error> {
    let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let points = lines.map(|line| {
        let point = line.split(|byte| *byte == b' ').nth(4).and_then(plain);
        let point = point.filter(|point| point.starts_with(b"/"));
        point
            .map(|point| PathBuf::from(OsString::from_vec(point)))
            .ok_or_else(|| {
                let line: String = String::from_utf8_lossy(line).chars().take(120).collect();
                io::Error::new(io::ErrorKind::InvalidData, format!("`{line}` is no line of it"))
            })
    });
    points.collect()
}

/// A word without its escapes; `None` if one of them is broken off or no byte.
fn plain(word: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            plain.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(3)?;
        let digits = str::from_utf8(digits).ok()?;
        plain.push(u8::from_str_radix(digits, 8).ok()?);
        rest = after;
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    /// As the kernel writes it.
    fn line(point: &[u8]) -> Vec<u8> {
        let mut line = b"36 35 98:0 /mnt1 ".to_vec();
        for byte in point {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' => line.extend(format!("\\{byte:03o}").into_bytes()),
                byte => line.push(*byte),
            }
        }
        line.extend(b" rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n");
        line
    }

    proptest! {
        #[test]
        fn every_place_reads_as_it_is(names in proptest::collection::vec("[^/\0]{1,9}", 0..5)) {
            let paths: Vec<Vec<u8>> = names.iter().map(|name| format!("/srv/{name}").into_bytes()).collect();
            let table: Vec<u8> = paths.iter().flat_map(|path| line(path)).collect();
            let found = mount_points(&table).unwrap();
            let found: Vec<Vec<u8>> = found.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
            prop_assert_eq!(found, paths);
        }

        #[test]
        fn whatever_is_in_the_table_it_is_read_or_refused(table in proptest::collection::vec(any::<u8>(), 0..300)) {
            mount_points(&table).map(drop).unwrap_or_default();
        }
    }

    #[test]
    fn lines_that_are_none_are_refused_and_not_passed_over() {
        for wrong in [
            "36 35 98:0 /mnt1",
            "36 35 98:0 /mnt1 /a\\04 x",
            "36 35 98:0 /mnt1 /a\\999 x",
            "36 35 98:0 /mnt1 a x",
        ] {
            assert!(mount_points(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_mounted_here_is_found_and_beside_it_nothing() {
        assert!(mounted_below(Path::new("/")).unwrap().contains(&PathBuf::from("/proc")));
        assert_eq!(mounted_below(Path::new("/proc")).unwrap()[0], Path::new("/proc"));
        assert_eq!(mounted_below(Path::new("/pro")).unwrap(), Vec::<PathBuf>::new());
    }
}
