//! Small files of a data directory, and the first segment of its log.

use std::fs::File;
use std::io::Write;

use nix::fcntl::{FallocateFlags, fallocate};

use super::Error;
use crate::datadir::wal;
use crate::durable::{Dir, failed};

/// Writes all that is in a small file.
pub(super) fn write(mut file: &File, dir: &Dir, bytes: &[u8]) -> Result<(), Error> {
    Ok(file.write_all(bytes).map_err(failed("write to", dir.path()))?)
}

/// Writes the log's records and reserves the rest of the segment, as etcd does, so that its first writes cannot fail.
pub(super) fn write_log(file: &File, dir: &Dir, records: &[u8]) -> Result<(), Error> {
    let reserved = fallocate(file, FallocateFlags::empty(), 0, wal::SEGMENT_BYTES.cast_signed());
    match reserved {
        // A file system that cannot reserve: a short segment is read just as well.
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => write(file, dir, records),
        Err(errno) => Err(failed("reserve space for the log in", dir.path())(errno.into()).into()),
    }
}
