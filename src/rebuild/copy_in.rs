//! Writes the bytes of a source into the database file to be, and tells whether they are a snapshot's own.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{Error, Listener, Progress, Wish, go_on};
use crate::durable::failed;
use crate::source::{Hashed, SnapshotHasher, Source, trailing_digest};

/// How much the kernel is told to write at a time. Less keeps the writer waiting for the disk, more the disk for the
/// writer: 1, 8 and 64 MiB took 1.8, 1.4 and 1.7 s for 1.4 GB, and none at all 1.9 s.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// How much is written with one call. Larger writes make the kernel take larger pieces of memory, which a virtual machine
/// often has to be given first: 1 MiB cost up to 2.8 s of system time for 1.4 GB, 128 KiB and 32 KiB 0.6 s.
const WRITE_BYTES: usize = 128 << 10;

/// Blocks that go round.
const BLOCKS: usize = 6;

/// What was written.
pub(super) struct Copied {
    /// The file, without a trailing digest.
    pub file: File,
    /// How many bytes came, a trailing digest included.
    pub bytes: u64,
    /// What they hash to, where that was asked for.
    pub hashed: Option<Hashed>,
}

/// Whether the plain bytes are hashed as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashing {
    /// All of them.
    Plain,
    /// None: of a quarter of the time that a rebuild takes, nothing more would be known.
    Needless,
}

impl Hashing {
    /// The plain bytes need not be hashed where the stored ones are: their digest is recorded, age has authenticated them,
    /// zstd has its own checksum of what they unpack to, and HashKV proves the keys that were written.
    pub(super) fn of(source: &Source, wish: &Wish) -> Hashing {
        let has_hash_kv = wish.expected.is_some_and(|expected| expected.hash_kv.is_some());
        match source.is_held_to_stored() && has_hash_kv {
            true => Hashing::Needless,
            false => Hashing::Plain,
        }
    }
}

/// Writes the database in `source` to the new `file` at `path`. What follows it, a digest or a tail that is not in use, is
/// hashed and not written.
///
/// Reading, writing and hashing go on at once, each on a thread: blocks go round from one to the next.
pub(super) fn copy_in(
    source: &mut Source,
    file: File,
    path: &Path,
    hashing: Hashing,
    listener: Listener<'_>,
) -> Result<Copied, Error> {
    let (to_write, blocks) = mpsc::sync_channel::<Vec<u8>>(BLOCKS);
    let (to_hash, written) = mpsc::sync_channel::<Vec<u8>>(BLOCKS);
    let (give_back, free) = mpsc::channel();
    for _ in 0..BLOCKS {
        give_back.send(Vec::new()).expect("the other end is below");
    }
    let database_bytes = source.database_bytes();
    let writing = std::thread::spawn(move || write(file, database_bytes, &blocks, &to_hash));
    let hashed = std::thread::spawn(move || hash(&written, &give_back, hashing));
    let read = read(source, &free, to_write, listener);
    let file = writing.join().expect("a panic aborts the process");
    let (bytes, hashed) = hashed.join().expect("a panic aborts the process");
    // A disk that refused is why reading could not go on.
    let file = file.map_err(failed("write", path))?;
    read?;
    let written = (bytes - trailing_digest(bytes)).min(database_bytes);
    file.set_len(written).map_err(failed("truncate", path))?;
    Ok(Copied { file, bytes, hashed })
}

fn read(
    source: &mut Source,
    free: &Receiver<Vec<u8>>,
    to_write: SyncSender<Vec<u8>>,
    listener: Listener<'_>,
) -> Result<(), Error> {
    let mut bytes = 0;
    // Blocks stop coming back when a thread has ended; the writing one tells why.
    while let Ok(mut block) = free.recv() {
        if !source.next_block(&mut block).map_err(Error::Source)? {
            break;
        }
        bytes += block.len() as u64;
        if to_write.send(block).is_err() {
            break;
        }
        go_on(listener, Progress::Reading { bytes })?;
    }
    Ok(())
}

fn write(
    mut file: File,
    database_bytes: u64,
    blocks: &Receiver<Vec<u8>>,
    to_hash: &SyncSender<Vec<u8>>,
) -> io::Result<File> {
    let (mut end, mut pushed) = (0, 0);
    for block in blocks {
        let wanted = usize::try_from(database_bytes - end).unwrap_or(usize::MAX);
        let wanted = &block[..wanted.min(block.len())];
        wanted.chunks(WRITE_BYTES).try_for_each(|chunk| file.write_all(chunk))?;
        end += wanted.len() as u64;
        if end - pushed >= WRITEBACK_BYTES {
            start_writeback(&file, pushed, end - pushed);
            pushed = end;
        }
        to_hash.send(block).expect("the hashing thread ends after this one");
    }
    Ok(file)
}

fn hash(written: &Receiver<Vec<u8>>, give_back: &Sender<Vec<u8>>, hashing: Hashing) -> (u64, Option<Hashed>) {
    let mut hasher = (hashing == Hashing::Plain).then(SnapshotHasher::default);
    let mut bytes = 0;
    for block in written {
        bytes += block.len() as u64;
        if let Some(hasher) = &mut hasher {
            hasher.update(&block);
        }
        // Nobody wants it back once the source has ended.
        give_back.send(block).ok();
    }
    (bytes, hasher.map(SnapshotHasher::finish))
}

/// Has the kernel begin to write what was just added, so that the sync at the end finds little left to do.
fn start_writeback(file: &File, offset: u64, bytes: u64) {
    // Of pages that are dirty still, this advice only starts the writing; it drops none. It may be refused: no matter.
    let (offset, bytes) = (offset.cast_signed(), bytes.cast_signed());
    posix_fadvise(file, offset, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok();
}
