//! What is written goes to the disk while more is made, so that the sync at the end finds little left to do; and what is added
//! to a database is written while more of it is made.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::bbolt::PageSink;
use crate::durable::{begin_to_write, take_room};

/// How much the kernel is told to write at a time. Less keeps the writer waiting for the disk, more the disk for the
/// writer: 1, 8 and 64 MiB took 1.8, 1.4 and 1.7 s for 1.4 GB, and none at all 1.9 s.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// How much room a file takes ahead, at most. It is as much as was written before: a file that grows by little takes none.
const AHEAD_BYTES: u64 = 64 << 20;

/// What is shorter is written at once, where nothing waits before it.
const LEAST_BYTES: usize = 1 << 20;

/// What is longer is written before anything else is made.
const MOST_BYTES: usize = 4 << 20;

/// How many pieces may wait to be written.
const PIECES: usize = 3;

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
        // It may be refused: no matter.
        begin_to_write(file, self.told, more).ok();
        self.told = end;
    }
}

/// Room that a file takes before it is written to.
#[derive(Debug)]
struct Ahead {
    begun: u64,
    taken: u64,
    is_refused: bool,
}

impl Ahead {
    /// The `file` is about to be written up to `end`.
    ///
    /// Where there is no room, or the file system takes none ahead, nothing more is asked for: whoever writes then is told.
    fn reach(&mut self, file: &File, end: u64) {
        let more = end.saturating_sub(self.begun).min(AHEAD_BYTES);
        if end <= self.taken || more < WRITEBACK_BYTES || self.is_refused {
            return;
        }
        let to = end.saturating_add(more);
        self.is_refused = take_room(file, self.taken, to - self.taken).is_err();
        self.taken = to;
    }
}

/// The file, and how far it has come.
#[derive(Debug)]
struct Grown {
    file: File,
    ahead: Ahead,
    writeback: Writeback,
}

impl Grown {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        self.ahead.reach(&self.file, end);
        self.file.write_at(offset, bytes)?;
        self.writeback.reached(&self.file, end);
        Ok(())
    }
}

/// A database file to which pages are added. They are written by a thread of their own, and go to the disk meanwhile. Whoever is
/// done with it settles it, and sets the length of the file: that gives back the room that was taken ahead.
#[derive(Debug)]
pub(super) struct Growing(State);

#[derive(Debug)]
enum State {
    Here(Grown),
    There(Writing),
    /// A write failed, and that was told.
    Failed,
}

/// The thread that writes. Pieces go round.
#[derive(Debug)]
struct Writing {
    pieces: SyncSender<(u64, Vec<u8>)>,
    written: Receiver<Vec<u8>>,
    thread: JoinHandle<io::Result<Grown>>,
}

impl Growing {
    /// Begins behind the `length` that it has.
    pub(super) fn behind(file: File, length: u64) -> Growing {
        Growing(State::Here(Grown {
            file,
            ahead: Ahead {
                begun: length,
                taken: length,
                is_refused: false,
            },
            writeback: Writeback::from(length),
        }))
    }

    /// Waits until all that came is written.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.here().map(drop)
    }

    /// The file, to which nothing else is written any more.
    fn here(&mut self) -> io::Result<&mut Grown> {
        let state = std::mem::replace(&mut self.0, State::Failed);
        self.0 = match state {
            State::There(writing) => State::Here(writing.finish()?),
            state => state,
        };
        match &mut self.0 {
            State::Here(grown) => Ok(grown),
            State::There(_) | State::Failed => Err(io::Error::other("an earlier write failed")),
        }
    }
}

impl Writing {
    /// Begins to write on behind `grown`; gives it back where there is no thread to be had.
    fn begin(grown: Grown) -> Result<Writing, Grown> {
        let (pieces, to_write) = sync_channel::<(u64, Vec<u8>)>(PIECES);
        let (give_back, written) = sync_channel(PIECES);
        let (hand_over, taken) = sync_channel::<Grown>(1);
        let write = move || {
            let mut grown = taken.recv().map_err(io::Error::other)?;
            for (offset, mut piece) in to_write {
                grown.write(offset, &piece)?;
                piece.clear();
                // Where enough of them are on their way, it is freed.
                give_back.try_send(piece).ok();
            }
            Ok(grown)
        };
        let Ok(thread) = Builder::new().spawn(write) else {
            return Err(grown);
        };
        hand_over.send(grown).expect("the thread waits for it");
        Ok(Writing {
            pieces,
            written,
            thread,
        })
    }

    fn finish(self) -> io::Result<Grown> {
        drop(self.pieces);
        self.thread.join().expect("a panic aborts the process")
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        // The thread has the file open, and with it the lock that its maker may hold on it.
        self.settle().ok();
    }
}

impl PageSink for Growing {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.here()?.write(offset, bytes)
    }

    fn take_at(&mut self, offset: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        // The pieces that wait are bounded by their number: one with a very large value does not wait, nor stay.
        if bytes.len() > MOST_BYTES {
            self.write_at(offset, bytes)?;
            *bytes = Vec::new();
            return Ok(());
        }
        if let State::Here(_) = &self.0
            && bytes.len() >= LEAST_BYTES
            && let State::Here(grown) = std::mem::replace(&mut self.0, State::Failed)
        {
            self.0 = Writing::begin(grown).map_or_else(State::Here, State::There);
        }
        if let State::There(writing) = &self.0 {
            let free = writing.written.try_recv().unwrap_or_default();
            let piece = std::mem::replace(bytes, free);
            if writing.pieces.send((offset, piece)).is_ok() {
                return Ok(());
            }
            // It has ended before its time, and tells why.
            let why = self.settle().err();
            return Err(why.unwrap_or_else(|| io::Error::other("the writing ended too early")));
        }
        self.write_at(offset, bytes)?;
        bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    use std::path::Path;
    use std::process::Command;

    use super::*;

    const PIECE: usize = 1 << 20;

    fn piece(number: u64) -> Vec<u8> {
        vec![number as u8 + 1; PIECE]
    }

    /// Adds up to so many pieces to a new file in `folder`; returns how many were taken, and why no more were.
    fn grown(folder: &Path, pieces: u64) -> (File, u64, Option<io::Error>) {
        let file = tempfile::tempfile_in(folder).unwrap();
        let mut growing = Growing::behind(file.try_clone().unwrap(), 0);
        for number in 0..pieces {
            if let Err(error) = growing.take_at(number * PIECE as u64, &mut piece(number)) {
                return (file, number, Some(error));
            }
        }
        let settled = growing.settle();
        (file, pieces, settled.err())
    }

    fn holds(file: &File, pieces: u64) {
        let mut found = vec![0; PIECE];
        for number in 0..pieces {
            file.read_exact_at(&mut found, number * PIECE as u64).unwrap();
            assert_eq!(found, piece(number), "piece {number}");
        }
    }

    /// A file system of its own in a new folder, where that may be mounted.
    struct Mounted(tempfile::TempDir);

    impl Mounted {
        fn of(kind: &str, options: &str) -> Option<Mounted> {
            let folder = tempfile::tempdir().unwrap();
            let mut mount = Command::new("mount");
            mount.args(["-t", kind, "-o", options, kind]).arg(folder.path());
            mount.stderr(std::process::Stdio::null());
            if nix::unistd::geteuid().is_root() && mount.status().is_ok_and(|status| status.success()) {
                return Some(Mounted(folder));
            }
            eprintln!("skipped: mounting a {kind} needs root");
            None
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            Command::new("umount").arg(self.0.path()).status().unwrap();
        }
    }

    #[test]
    fn a_file_that_has_grown_holds_what_was_written_and_no_more_room_than_that() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pieces, error) = grown(folder.path(), 40);
        assert!(error.is_none(), "{error:?}");
        let len = pieces * PIECE as u64;
        assert_eq!(file.metadata().unwrap().len(), len, "room is no part of the file");
        file.set_len(len).unwrap();
        file.sync_all().unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 < len + PIECE as u64);
        holds(&file, pieces);
    }

    #[test]
    fn a_file_that_grows_by_little_takes_no_room_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pieces, _) = grown(folder.path(), 4);
        file.sync_all().unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 <= (pieces + 1) * PIECE as u64);
    }

    #[test]
    fn a_disk_is_full_only_once_it_is_and_that_is_told() {
        let Some(disk) = Mounted::of("tmpfs", "size=24m") else {
            return;
        };
        let (file, pieces, error) = grown(disk.0.path(), 100);
        assert_eq!(error.unwrap().kind(), io::ErrorKind::StorageFull);
        // Those that still wait were taken, and are not there.
        assert!(
            (22..=24 + PIECES as u64 + 1).contains(&pieces),
            "{pieces} of 24 MiB could be used"
        );
        holds(&file, 22);
    }

    #[test]
    fn what_fails_at_the_very_end_is_told_and_told_again() {
        let Some(disk) = Mounted::of("tmpfs", "size=4m") else {
            return;
        };
        let file = tempfile::tempfile_in(disk.0.path()).unwrap();
        let mut growing = Growing::behind(file.try_clone().unwrap(), 0);
        for number in [0, 4] {
            growing.take_at(number * PIECE as u64, &mut vec![7; 4 * PIECE]).unwrap();
        }
        assert_eq!(growing.settle().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(growing.settle().is_err() && growing.write_at(0, b"it").is_err());
        assert!(growing.take_at(0, &mut piece(1)).is_err());
    }

    #[test]
    fn a_very_large_piece_does_not_wait_and_its_memory_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile_in(folder.path()).unwrap();
        let mut growing = Growing::behind(file.try_clone().unwrap(), 0);
        growing.take_at(0, &mut piece(1)).unwrap();
        let mut large = vec![7; MOST_BYTES + 1];
        growing.take_at(PIECE as u64, &mut large).unwrap();
        assert_eq!(large.capacity(), 0);
        assert_eq!(file.metadata().unwrap().len(), (PIECE + MOST_BYTES + 1) as u64);
    }

    #[test]
    fn what_is_written_in_place_comes_after_all_that_was_added() {
        let folder = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile_in(folder.path()).unwrap();
        let mut growing = Growing::behind(file.try_clone().unwrap(), 0);
        let mut bytes = Vec::new();
        for number in 0..20 {
            bytes.extend_from_slice(&piece(number));
            growing.take_at(number * PIECE as u64, &mut bytes).unwrap();
            assert!(bytes.is_empty());
        }
        growing.write_at(3 * PIECE as u64, &piece(99)).unwrap();
        growing.take_at(5 * PIECE as u64, &mut piece(98)).unwrap();
        growing.take_at(20 * PIECE as u64, &mut vec![21; 10]).unwrap();
        growing.settle().unwrap();
        let mut found = vec![0; PIECE];
        for (at, number) in [(2, 2), (3, 99), (4, 4), (5, 98), (19, 19)] {
            file.read_exact_at(&mut found, at * PIECE as u64).unwrap();
            assert_eq!(found, piece(number));
        }
        assert_eq!(file.metadata().unwrap().len(), 20 * PIECE as u64 + 10);
    }

    #[test]
    fn where_no_room_can_be_taken_ahead_a_file_grows_all_the_same() {
        let Some(memory) = Mounted::of("ramfs", "mode=700") else {
            return;
        };
        let path = memory.0.path().join("probe");
        assert!(take_room(&File::create_new(&path).unwrap(), 0, 4096).is_err());
        fs::remove_file(path).unwrap();
        let (file, pieces, error) = grown(memory.0.path(), 20);
        assert!(error.is_none(), "{error:?}");
        holds(&file, pieces);
    }
}
