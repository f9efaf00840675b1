//! Writes the bytes of a source into the database file to be, and tells whether they are a snapshot's own.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;

use super::writeback::Writeback;
use super::{Error, Listener, Progress, Wish, go_on};
use crate::durable::failed;
use crate::source::{Hashed, SnapshotHasher, Source, trailing_digest};

/// How much is written with one call. Larger writes make the kernel take larger pieces of memory, which a virtual machine
/// often has to be given first: 1 MiB cost up to 2.8 s of system time for 1.4 GB, 128 KiB and 32 KiB 0.6 s.
const WRITE_BYTES: usize = 128 << 10;

/// Blocks that go round.
const BLOCKS: usize = 6;

/// How many of them may wait to be hashed. What comes while so many do is hashed later, as it is in the file: hashing takes
/// longer than writing, and what comes next need not wait for it.
const BLOCKS_TO_HASH: usize = 3;

/// How much is read back at a time.
const READ_BACK_BYTES: usize = 128 << 10;

/// What was written.
pub(super) struct Copied {
    /// The file, without a trailing digest.
    pub file: File,
    /// How many bytes came, a trailing digest included.
    pub bytes: u64,
    /// What they hash to, where that was asked for.
    pub hashed: Option<Hashing>,
}

/// The plain bytes are hashed, or being hashed.
pub(super) enum Hashing {
    /// By a thread that reads the file at this path.
    Going(JoinHandle<io::Result<Hashed>>, PathBuf),
    /// To this.
    Done(Hashed),
}

impl Hashing {
    /// Waits for it.
    pub fn finish(self) -> Result<Hashed, Error> {
        match self {
            Hashing::Done(hashed) => Ok(hashed),
            Hashing::Going(thread, path) => {
                let hashed = thread.join().expect("a panic aborts the process");
                Ok(hashed.map_err(failed("read back", &path))?)
            }
        }
    }
}

/// Whether the plain bytes are hashed as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashes {
    /// All of them.
    Plain,
    /// None: of a quarter of the time that a rebuild takes, nothing more would be known.
    Needless,
}

impl Hashes {
    /// The plain bytes need not be hashed where the stored ones are: their digest is recorded, age has authenticated them,
    /// zstd has its own checksum of what they unpack to, and HashKV proves the keys that were written.
    pub(super) fn of(source: &Source, wish: &Wish) -> Hashes {
        let has_hash_kv = wish.expected.is_some_and(|expected| expected.hash_kv.is_some());
        match source.is_held_to_stored() && has_hash_kv {
            true => Hashes::Needless,
            false => Hashes::Plain,
        }
    }
}

/// What is to be hashed next.
enum Next {
    /// These bytes.
    Block(Vec<u8>),
    /// So many that are in the file.
    Written(u64),
}

/// Writes the database in `source` to the new `file` at `path`. What follows it, a digest or a tail that is not in use, is
/// hashed and not written.
///
/// Reading, writing and hashing go on at once, each on a thread: blocks go round from one to the next. All is written when
/// this returns, and hashing goes on.
pub(super) fn copy_in(
    source: &mut Source,
    file: File,
    path: &Path,
    hashes: Hashes,
    listener: Listener<'_>,
) -> Result<Copied, Error> {
    let (to_write, blocks) = mpsc::sync_channel::<Vec<u8>>(BLOCKS);
    let (give_back, free) = mpsc::channel();
    for _ in 0..BLOCKS {
        give_back.send(Vec::new()).expect("the other end is below");
    }
    let database_bytes = source.database_bytes();
    let read_back = file.try_clone().map_err(failed("keep open", path))?;
    let (hasher, hashed) = match hashes {
        Hashes::Needless => (None, None),
        Hashes::Plain => {
            let (to_hash, next) = mpsc::channel();
            let (hashed_block, waiting) = mpsc::sync_channel(BLOCKS_TO_HASH);
            let give_back = give_back.clone();
            let thread = std::thread::spawn(move || hash(&read_back, &next, &waiting, &give_back));
            (
                Some((to_hash, hashed_block)),
                Some(Hashing::Going(thread, path.to_owned())),
            )
        }
    };
    let writing = std::thread::spawn(move || write(file, database_bytes, &blocks, hasher.as_ref(), &give_back));
    let read = read(source, &free, to_write, listener);
    let written = writing.join().expect("a panic aborts the process");
    // A disk that refused is why reading could not go on.
    let (file, bytes) = written.map_err(failed("write", path))?;
    read?;
    let written = bytes - trailing_digest(bytes);
    let hashed = match hashed {
        // It is cut short, and what may be a digest at its end is still to be read back.
        Some(hashing) if written < database_bytes => Some(Hashing::Done(hashing.finish()?)),
        hashed => hashed,
    };
    let written = written.min(database_bytes);
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

/// Where what was written goes to be hashed, and a place there that is taken as long as a block waits.
type ToHash = (Sender<Next>, SyncSender<()>);

fn write(
    mut file: File,
    database_bytes: u64,
    blocks: &Receiver<Vec<u8>>,
    to_hash: Option<&ToHash>,
    give_back: &Sender<Vec<u8>>,
) -> io::Result<(File, u64)> {
    let (mut bytes, mut end) = (0, 0);
    let mut writeback = Writeback::default();
    for block in blocks {
        bytes += block.len() as u64;
        let wanted = usize::try_from(database_bytes - end).unwrap_or(usize::MAX);
        let wanted = &block[..wanted.min(block.len())];
        wanted.chunks(WRITE_BYTES).try_for_each(|chunk| file.write_all(chunk))?;
        end += wanted.len() as u64;
        writeback.reached(&file, end);
        let is_in_file = wanted.len() == block.len();
        let written = Next::Written(block.len() as u64);
        // The hashing thread ends after this one, or when it cannot read; and nobody wants a block back once the source
        // has ended.
        match to_hash {
            None => give_back.send(block).ok(),
            Some((next, waiting)) if !is_in_file => {
                waiting.send(()).ok().and_then(|()| next.send(Next::Block(block)).ok())
            }
            Some((next, waiting)) => match waiting.try_send(()) {
                Ok(()) => next.send(Next::Block(block)).ok(),
                Err(_) => next.send(written).ok().and_then(|()| give_back.send(block).ok()),
            },
        };
    }
    Ok((file, bytes))
}

fn hash(file: &File, next: &Receiver<Next>, waiting: &Receiver<()>, give_back: &Sender<Vec<u8>>) -> io::Result<Hashed> {
    let mut hasher = SnapshotHasher::default();
    let mut bytes = 0;
    let mut room = vec![0; READ_BACK_BYTES];
    for next in next {
        match next {
            Next::Block(block) => {
                hasher.update(&block);
                bytes += block.len() as u64;
                // Nobody wants it back once the source has ended.
                give_back.send(block).ok();
                waiting.recv().ok();
            }
            Next::Written(count) => {
                let end = bytes + count;
                while bytes < end {
                    let len = usize::try_from(end - bytes).map_or(READ_BACK_BYTES, |rest| rest.min(READ_BACK_BYTES));
                    let part = &mut room[..len];
                    file.read_exact_at(part, bytes)?;
                    hasher.update(part);
                    bytes += len as u64;
                }
            }
        }
    }
    Ok(hasher.finish())
}
