//! The directory of a write-ahead log that a member left behind, read as it is. Nothing in it is changed.

use std::io::{self, Read};
use std::path::Path;

use super::Error;
use crate::datadir::snap;
use crate::datadir::wal_reader::{Log, Reader, SegmentName};
use crate::durable::{Dir, failed};

/// More entries than an etcd leaves in one directory.
const MOST_NAMES: usize = 100_000;
/// How large a segment may be: etcd begins a new one at 64 MB, after whatever entry reaches that.
const MOST_SEGMENT_BYTES: u64 = 1 << 30;
/// How large a `.snap` file may be: since the v3 API they hold the members alone.
const MOST_SNAP_BYTES: u64 = 1 << 30;

/// Which segments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segments {
    /// All of them.
    All,
    /// Those that the wanted entries are in.
    Wanted,
}

/// Reads the log in the directory `dir`, of which the entries after that index are wanted.
///
/// Fails when it cannot be read, and where there is none. What is damaged is told by the log.
pub fn read_log(dir: &Path, after: u64, which: Segments) -> Result<Log, Error> {
    let folder = Dir::open(dir)?;
    let mut names = Vec::new();
    for name in folder.names(MOST_NAMES)? {
        names.extend(name.to_str().and_then(SegmentName::parse));
    }
    names.sort_unstable();
    if names.is_empty() {
        return Err(Error::NoLog { path: dir.to_owned() });
    }
    let mut reader = Reader::after(after);
    let first = match which {
        Segments::All => 0,
        Segments::Wanted => reader.first_wanted(&names),
    };
    let wanted = names.get(first..).unwrap_or_default();
    for (place, name) in wanted.iter().enumerate() {
        let bytes = bytes_of(&folder, &name.to_string(), MOST_SEGMENT_BYTES)?;
        reader.segment(*name, &bytes, place + 1 == wanted.len());
    }
    Ok(reader.finish())
}

/// The `.snap` files in a directory that etcd would pass over, each with what is wrong with it.
pub fn broken_snapshots(dir: &Path) -> Result<Vec<String>, Error> {
    let folder = Dir::open(dir)?;
    let mut broken = Vec::new();
    for name in folder.names(MOST_NAMES)? {
        let Some(name) = name.to_str().filter(|name| snap::is_snapshot(name)) else {
            continue;
        };
        if let Err(error) = snap::read(&bytes_of(&folder, name, MOST_SNAP_BYTES)?) {
            broken.push(format!("{name} is damaged: {error}"));
        }
    }
    Ok(broken)
}

fn bytes_of(folder: &Dir, name: &str, most: u64) -> Result<Vec<u8>, Error> {
    let path = folder.path().join(name);
    let refused = |error: io::Error| Error::from(failed("read", &path)(error));
    let file = folder.file(name)?;
    let file = file.ok_or_else(|| refused(io::Error::other("it is no plain file")))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(refused)?;
    match bytes.len() as u64 > most {
        true => Err(refused(io::Error::other("it is larger than any that etcd makes"))),
        false => Ok(bytes),
    }
}
