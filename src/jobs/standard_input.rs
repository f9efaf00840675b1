//! What comes over standard input, kept in a file without a name, so that it can be read twice.
//!
//! The folder is on etcd's own disk. How much may come is told by the first bytes; where they are encrypted and do not, a
//! part of the disk is left free whatever comes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::{Exit, Failure, failed};
use crate::durable::{self, Dir, Room, room_at};
use crate::model::ByteSize;
use crate::source;

const BLOCK_BYTES: usize = 1 << 20;

/// The part of a file system that stays free.
const LEFT_FREE: u64 = 20;

#[derive(Debug)]
enum Error {
    Read(io::Error),
    Write(io::Error),
    /// It goes on beyond what the database in it has.
    Overlong(u64),
    /// The disk would be full.
    NoRoom(Room),
}

/// Keeps all of standard input in `folder`.
pub(super) fn spool(folder: &Path) -> Result<File, Failure> {
    durable::create_dirs(folder, 0o700).map_err(failed)?;
    let name = format!("spool-{:08x}", getrandom::u32().map_err(failed)?);
    let dir = Dir::open(folder).map_err(failed)?;
    let mut file = dir.create(&name).map_err(failed)?;
    dir.remove_file(&name).map_err(failed)?;
    let kept = keep(&mut io::stdin().lock(), &mut file, &|| room_at(folder));
    kept.map_err(|error| failure(&error, folder))?;
    Ok(file)
}

fn keep(from: &mut impl Read, to: &mut impl Write, room: &dyn Fn() -> Option<Room>) -> Result<(), Error> {
    let (mut limit, mut kept) = (None, 0_u64);
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    loop {
        block.clear();
        let read = from.take(BLOCK_BYTES as u64).read_to_end(&mut block);
        if read.map_err(Error::Read)? == 0 {
            return Ok(());
        }
        if kept == 0 && !source::is_encrypted(&block) {
            // What is no database is refused by its first block, and no more of it is wanted.
            let Ok(database) = source::database_bytes(&block) else {
                return to.write_all(&block).map_err(Error::Write);
            };
            limit = Some(source::longest(database));
        }
        kept = kept.saturating_add(block.len() as u64);
        if let Some(limit) = limit.filter(|limit| kept > *limit) {
            return Err(Error::Overlong(limit));
        }
        let left = |room: &Room| room.available.saturating_sub(block.len() as u64);
        if let Some(room) = room().filter(|room| left(room) < room.total / LEFT_FREE) {
            return Err(Error::NoRoom(room));
        }
        to.write_all(&block).map_err(Error::Write)?;
    }
}

fn failure(error: &Error, folder: &Path) -> Failure {
    let folder = folder.display();
    match error {
        Error::Read(error) => Failure::new(Exit::Failed, format!("cannot read standard input: {error}")),
        Error::Write(error) => {
            let message = format!("cannot keep standard input in {folder}: {error}");
            Failure::new(Exit::Failed, message).next("give a file instead")
        }
        Error::Overlong(limit) => Failure::new(
            Exit::Damaged,
            format!("standard input is longer than the {limit} bytes that its database can have"),
        )
        .next("choose another backup: `lifeboat list`"),
        Error::NoRoom(room) => {
            let available = ByteSize(room.available);
            let message = format!("cannot keep standard input in {folder}: it would fill the disk ({available} free)");
            Failure::new(Exit::Failed, message).next("give a file instead")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::bbolt::empty_database as database;

    fn kept(mut from: impl Read, room: &dyn Fn() -> Option<Room>) -> (Result<(), Error>, usize) {
        let mut to = Vec::new();
        let kept = keep(&mut from, &mut to, room);
        (kept, to.len())
    }

    #[test]
    fn a_snapshot_is_kept_whole_and_what_goes_on_behind_it_is_not() {
        let snapshot = [database(), vec![7; 32]].concat();
        let (done, bytes) = kept(Cursor::new(snapshot.clone()), &|| None);
        assert!(done.is_ok() && bytes == snapshot.len());
        let (done, bytes) = kept(Cursor::new(snapshot).chain(io::repeat(0)), &|| None);
        assert!(matches!(done, Err(Error::Overlong(_))), "{done:?}");
        assert!(bytes < 100 << 20);
    }

    #[test]
    fn of_what_is_no_database_a_block_is_enough() {
        let (done, bytes) = kept(io::repeat(7), &|| None);
        assert!(done.is_ok() && bytes == BLOCK_BYTES);
    }

    #[test]
    fn what_does_not_say_how_long_it_is_leaves_a_part_of_the_disk_free() {
        let total = 400 << 20;
        let written = std::cell::Cell::new(0);
        let room = || {
            let available = total - written.get();
            written.set(written.get() + (1 << 20));
            Some(Room { available, total })
        };
        let endless = Cursor::new(b"age-encryption.org/v1\n").chain(io::repeat(0));
        let (done, bytes) = kept(endless, &room);
        assert!(matches!(done, Err(Error::NoRoom(_))), "{done:?}");
        assert_eq!(bytes as u64, total - total / LEFT_FREE);
    }
}
