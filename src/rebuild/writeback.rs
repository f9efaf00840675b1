//! What is written goes to the disk while more is made, so that the sync at the end finds little left to do.

use std::fs::File;
use std::io;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::bbolt::PageSink;

/// How much the kernel is told to write at a time. Less keeps the writer waiting for the disk, more the disk for the
/// writer: 1, 8 and 64 MiB took 1.8, 1.4 and 1.7 s for 1.4 GB, and none at all 1.9 s.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// How far the kernel was told to write a file that grows.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    told: u64,
}

impl Writeback {
    /// Goes on from a length that is on the disk, or on its way.
    pub(super) fn from(length: u64) -> Writeback {
        Writeback { told: length }
    }

    /// The `file` is written up to `end` by now; where that is far enough, the kernel begins to write it to the disk.
    pub(super) fn reached(&mut self, file: &File, end: u64) {
        let Some(more @ WRITEBACK_BYTES..) = end.checked_sub(self.told) else {
            return;
        };
        // Of pages that are dirty still, this advice only starts the writing; it drops none. It may be refused: no matter.
        let (offset, bytes) = (self.told.cast_signed(), more.cast_signed());
        posix_fadvise(file, offset, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok();
        self.told = end;
    }
}

/// A database file to which pages are added, which go to the disk meanwhile.
#[derive(Debug)]
pub(super) struct Growing {
    file: File,
    writeback: Writeback,
}

impl Growing {
    /// Begins behind the `length` that it has.
    pub(super) fn behind(file: File, length: u64) -> Growing {
        let writeback = Writeback::from(length);
        Growing { file, writeback }
    }
}

impl PageSink for Growing {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)?;
        self.writeback
            .reached(&self.file, offset.saturating_add(bytes.len() as u64));
        Ok(())
    }
}
