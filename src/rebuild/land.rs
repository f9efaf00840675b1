//! Writes the bytes of a source into the database file to be, and tells whether they are a snapshot's own.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::Error;
use super::staging::{create_new, io_error};
use crate::source::{Hashed, SnapshotHasher, Source};

/// Blocks in flight between reading, hashing and reading again.
const BLOCKS: usize = 4;

/// What was written.
pub(super) struct Landed {
    /// The file, without a trailing digest.
    pub file: File,
    /// What its bytes hash to.
    pub hashed: Hashed,
}

/// Writes all of `source` to a new file at `path`; `progress` hears how many bytes have come.
pub(super) fn land(
    source: &mut Source,
    path: &Path,
    progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Landed, Error> {
    let mut file = create_new(path)?;
    let (to_hash, hashed) = (mpsc::sync_channel::<Vec<u8>>(BLOCKS), mpsc::channel::<Vec<u8>>());
    let ((send, receive), (give_back, recycled)) = (to_hash, hashed);
    let hashing = std::thread::spawn(move || {
        let mut hasher = SnapshotHasher::default();
        for block in receive {
            hasher.update(&block);
            // Where nobody wants the block back any more, the stream has ended.
            give_back.send(block).ok();
        }
        hasher
    });
    let mut bytes: u64 = 0;
    let mut fresh = BLOCKS;
    loop {
        let mut block = match recycled.try_recv() {
            Ok(block) => block,
            Err(_) if fresh > 0 => {
                fresh -= 1;
                Vec::new()
            }
            Err(_) => recycled.recv().expect("the hashing thread lives while its queue does"),
        };
        if !source.next_block(&mut block).map_err(Error::Source)? {
            break;
        }
        file.write_all(&block).map_err(|error| io_error("write", path, error))?;
        start_writeback(&file, bytes, block.len());
        bytes += block.len() as u64;
        if progress(bytes).is_break() {
            return Err(Error::Interrupted);
        }
        send.send(block).expect("the hashing thread lives while its queue does");
    }
    drop(send);
    let hasher = hashing.join().expect("a panic aborts the process");
    let hashed = hasher.finish();
    file.set_len(hashed.database_bytes)
        .map_err(|error| io_error("truncate", path, error))?;
    Ok(Landed { file, hashed })
}

/// Has the kernel begin to write what was just added, so that the sync at the end finds little left to do.
fn start_writeback(file: &File, offset: u64, bytes: usize) {
    // Of pages that are dirty still, this advice only starts the writing; it drops none. It may be refused: no matter.
    let (offset, bytes) = (offset.cast_signed(), bytes as i64);
    posix_fadvise(file, offset, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok();
}
