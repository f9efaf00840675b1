//! What the kernel is told of a file that grows: none of it changes what is in the file, and any of it may be refused.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;

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

/// Takes room for `len` bytes from `offset` on, and leaves `file` as long as it is; what of it is not used is given back when
/// the length of the file is set.
///
/// Fails where there is no such room, though some of it may be taken then, and where the file system cannot.
pub fn take_room(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (offset.cast_signed(), len.cast_signed());
    Ok(fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, len)?)
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
        assert_eq!(file.metadata().unwrap().len(), 2);
    }
}
