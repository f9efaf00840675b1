//! What the kernel is told of a file that grows: none of it changes what is in the file, and any of it may be refused.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs};

/// Room is taken only where so many times as much is free.
const TIMES_AS_MUCH: u64 = 4;

/// Begins to bring `len` bytes of `file` from `offset` on to the disk, as far as they are not on their way; waits for none of
/// them, but perhaps for a queue that is full. It is no sync: only that makes them durable.
#[expect(
    unsafe_code,
    reason = "no library has this call; its like also look at what is written already"
)]
pub fn begin_to_write(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (offset.cast_signed(), len.cast_signed());
    // SAFETY: no memory is handed over, and the file is open as long as it is borrowed.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
    Ok(Errno::result(done).map(drop)?)
}

/// Takes room for `len` bytes from `offset` on, and leaves `file` as long as it is, which must be whole; what of it is not used is
/// given back when the length of the file is set.
///
/// Fails where the file system has not several times as much free, since others write there as well, such as a running etcd;
/// where room is memory (tmpfs), or stays taken (Btrfs); and where it cannot. Nothing is taken then.
pub fn take_room(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let on = fstatfs(file)?;
    if [TMPFS_MAGIC, BTRFS_SUPER_MAGIC].contains(&on.filesystem_type()) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let free = on.blocks_available().saturating_mul(on.block_size().cast_unsigned());
    if free / TIMES_AS_MUCH < len {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let taken = fallocate(
        file,
        FallocateFlags::FALLOC_FL_KEEP_SIZE,
        offset.cast_signed(),
        len.cast_signed(),
    );
    if taken.is_err() {
        // What it got until then stays taken otherwise.
        file.set_len(file.metadata()?.len())?;
    }
    Ok(taken?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn room_that_is_not_used_goes_when_the_length_is_set_though_it_stays_the_same() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 4096]).unwrap();
        if take_room(&file, 4096, 4 << 20).is_err() {
            return;
        }
        let taken = || {
            file.metadata()
                .map(|metadata| (metadata.len(), metadata.blocks() * 512))
                .unwrap()
        };
        assert!(taken().0 == 4096 && taken().1 >= 4 << 20, "{:?}", taken());
        file.set_len(4096).unwrap();
        assert!(taken().0 == 4096 && taken().1 < 1 << 20, "{:?}", taken());
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let (read, write) = nix::unistd::pipe().unwrap();
        drop(read);
        let pipe = File::from(write);
        assert!(begin_to_write(&pipe, 0, 4096).is_err() && take_room(&pipe, 0, 4096).is_err());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"it").unwrap();
        begin_to_write(&file, 0, 2).unwrap();
        assert!(take_room(&file, u64::MAX, 1).is_err());
        // More than a quarter of what is free is left to others.
        let on = fstatfs(&file).unwrap();
        let half = on.blocks_available() * on.block_size().cast_unsigned() / 2;
        assert!(take_room(&file, 4096, half).is_err());
        assert_eq!(file.metadata().unwrap().len(), 2);
        assert!(file.metadata().unwrap().blocks() < 16);
    }
}
