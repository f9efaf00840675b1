//! The entries of a database that passes which may be what is lacked: kept until it is known which of them count.
//!
//! A snapshot comes in the order of its pages, and free pages hold old leaves, so what a leaf holds is neither in order nor known to
//! count when it passes. Of each leaf the entries of the wanted revisions are put behind one another into blocks, the blocks
//! into a file, and their place is what is kept of the leaf. The walk over the trees gives the leaves that count, in their order;
//! they are read back from their places then.
//!
//! Invariant: plaintext is in memory only. A block is compressed and encrypted for a key that is nowhere but in memory, and the file
//! has no name: what is left of it after a power cut nobody can read.
//! Invariant: memory is bounded by one leaf and [`OPEN_BYTES`], the file by what it may take.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Cursor;
use std::ops::{ControlFlow, RangeInclusive};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bbolt::{Entry, Leaves};
use crate::capture::told;
use crate::durable::{nameless, room_at};
use crate::keyspace::{LogKey, RevisionKey};
use crate::model::ByteSize;
use crate::pipeline::{Encoding, Identities, Unlock, decode_each, for_this_process};
use crate::store::FreeSpace;

/// How much is put into a block before it is written: a leaf that is read back has so much read with it.
const BLOCK_BYTES: usize = 256 << 10;
/// How many bytes of blocks are held that were read back: leaves that follow one another mostly lie near one another.
const OPEN_BYTES: usize = 16 << 20;
/// zstd's level: what is written is read once, and the member is waiting.
const LEVEL: i32 = 1;

/// Why not all is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unkept {
    /// There is no room for more. So many revisions had begun in what there was room for.
    NoRoom {
        /// How many.
        revisions: u64,
    },
    /// The file cannot be made or written.
    Failed(String),
}

/// Where the entries of a leaf are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Which block; of a leaf without any there is none.
    block: u32,
    /// Where in it.
    at: u32,
}

impl Place {
    const NONE: Place = Place { block: u32::MAX, at: 0 };
}

/// Where a block is in the file.
#[derive(Debug, Clone, Copy)]
struct Stored {
    at: u64,
    len: usize,
}

/// What may count, of a database that passes.
pub(super) struct Candidates {
    wanted: RangeInclusive<i64>,
    encoding: Encoding,
    identities: Identities,
    folder: PathBuf,
    file: File,
    most: u64,
    /// How long the file is.
    written: u64,
    /// The same, for whoever shares the room.
    held: Arc<AtomicU64>,
    blocks: Vec<Stored>,
    /// The block that is not in the file yet.
    open: Vec<u8>,
    revisions: u64,
    unkept: Option<Unkept>,
}

impl Candidates {
    /// Of these revisions, in a file without a name in `folder` that takes at most `most`; how much it takes is in `held` as long as
    /// it is there.
    pub fn new(
        wanted: RangeInclusive<i64>,
        folder: &Path,
        most: ByteSize,
        held: Arc<AtomicU64>,
    ) -> Result<Candidates, Unkept> {
        let (recipient, identities) = for_this_process();
        let file = nameless::in_folder(folder).map_err(|error| Unkept::Failed(told(&error)))?;
        Ok(Candidates {
            wanted,
            encoding: Encoding {
                level: LEVEL,
                threads: 0,
                recipients: vec![recipient],
                stall_limit: Duration::MAX,
            },
            identities,
            folder: folder.to_owned(),
            file,
            most: most.0,
            written: 0,
            held,
            blocks: Vec::new(),
            open: Vec::new(),
            revisions: 0,
            unkept: None,
        })
    }

    /// Why not all is kept that has passed, if so.
    pub fn unkept(&self) -> Option<&Unkept> {
        self.unkept.as_ref()
    }

    /// Reads leaves back.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            of: self,
            opened: VecDeque::new(),
            bytes: 0,
        }
    }

    fn write(&mut self) -> Result<(), Unkept> {
        let failed = |error: &(dyn std::error::Error + 'static)| Unkept::Failed(told(error));
        let sealed = self.encoding.seal(&self.open).map_err(|error| failed(&error))?;
        let (at, len) = (self.written, sealed.len());
        let end = at.saturating_add(len as u64);
        let room = room_at(&self.folder).map(|room| {
            let space = FreeSpace {
                available: room.available,
                total: room.total,
            };
            room.available.saturating_sub(space.spare())
        });
        if end > self.most || room.is_some_and(|room| room < len as u64) {
            let revisions = self.revisions;
            return Err(Unkept::NoRoom { revisions });
        }
        self.file.write_all_at(&sealed, at).map_err(|error| failed(&error))?;
        self.written = end;
        self.held.store(end, Ordering::Relaxed);
        self.blocks.push(Stored { at, len });
        self.open.clear();
        Ok(())
    }

    fn read(&self, block: u32) -> Result<Vec<u8>, String> {
        let Some(Stored { at, len }) = self.blocks.get(block as usize).copied() else {
            return Ok(self.open.clone());
        };
        let mut sealed = vec![0; len];
        self.file.read_exact_at(&mut sealed, at).map_err(|error| told(&error))?;
        let mut plain = Vec::with_capacity(BLOCK_BYTES * 2);
        let read = decode_each(Cursor::new(sealed), Unlock::stored(&self.identities), &mut |piece| {
            plain.extend_from_slice(piece);
            ControlFlow::Continue(())
        });
        match read {
            Ok(ControlFlow::Continue(()) | ControlFlow::Break(())) => Ok(plain),
            Err(error) => Err(told(&error)),
        }
    }
}

impl Drop for Candidates {
    fn drop(&mut self) {
        self.held.store(0, Ordering::Relaxed);
    }
}

impl Leaves for Candidates {
    type Key = LogKey;
    type Leaf = Place;

    fn key(&self, key: &[u8]) -> Option<LogKey> {
        LogKey::of(key)
    }

    fn leaf<'a>(&mut self, entries: impl Iterator<Item = Entry<'a>>) -> Option<Place> {
        if self.unkept.is_some() {
            return Some(Place::NONE);
        }
        let begins = self.open.len();
        let place = Place {
            block: u32::try_from(self.blocks.len()).ok()?,
            at: u32::try_from(begins).ok()?,
        };
        let mut count: u32 = 0;
        self.open.extend_from_slice(&[0; size_of::<u32>()]);
        for (key, value) in entries {
            let at = RevisionKey::decode(key).ok()?;
            if self.wanted.contains(&at.main().get()) {
                count += 1;
                self.revisions += u64::from(at.sub() == 0);
                put(&mut self.open, key);
                put(&mut self.open, value);
            }
        }
        if count == 0 {
            self.open.truncate(begins);
            return Some(Place::NONE);
        }
        let head = self.open.get_mut(begins..).and_then(|leaf| leaf.first_chunk_mut());
        *head? = count.to_le_bytes();
        if self.open.len() >= BLOCK_BYTES
            && let Err(unkept) = self.write()
        {
            self.unkept = Some(unkept);
        }
        Some(place)
    }
}

/// Reads leaves back.
pub(super) struct Reader<'a> {
    of: &'a Candidates,
    /// Blocks that were read, the one that was wanted last in front.
    opened: VecDeque<(u32, Vec<u8>)>,
    bytes: usize,
}

impl Reader<'_> {
    /// Shows the wanted entries of a leaf, key and value, in their order. Ends with the first error.
    pub fn each(
        &mut self,
        place: Place,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        if place == Place::NONE {
            return Ok(());
        }
        let block = self.block(place.block)?;
        let torn = || "what was kept of a leaf is not what was written".to_owned();
        let mut leaf = block.get(place.at as usize..).ok_or_else(torn)?;
        let (count, rest) = leaf.split_first_chunk().ok_or_else(torn)?;
        leaf = rest;
        for _ in 0..u32::from_le_bytes(*count) {
            let (key, rest) = take(leaf).ok_or_else(torn)?;
            let (value, rest) = take(rest).ok_or_else(torn)?;
            leaf = rest;
            each(key, value)?;
        }
        Ok(())
    }

    fn block(&mut self, block: u32) -> Result<&[u8], String> {
        let known = self.opened.iter().position(|(number, _)| *number == block);
        let found = match known.and_then(|at| self.opened.remove(at)) {
            Some(found) => found,
            None => {
                let plain = self.of.read(block)?;
                self.bytes += plain.len();
                (block, plain)
            }
        };
        while self.bytes > OPEN_BYTES
            && let Some((_, oldest)) = self.opened.pop_back()
        {
            self.bytes -= oldest.len();
        }
        self.opened.push_front(found);
        Ok(self.opened.front().map_or(&[], |(_, plain)| plain))
    }
}

/// Its length, and it.
fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    // bbolt has 32 bits for the length of either.
    to.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    to.extend_from_slice(bytes);
}

fn take(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = from.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}
