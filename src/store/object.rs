//! The bytes of a stored object, read on a thread of their own: a store that stops answering is an error of reading.

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::disk::forget;
use super::patience::{Asked, Silence, ask};

/// How much is read at once. A store that needs longer than the limit for so much hangs.
const BLOCK_BYTES: u64 = 256 << 10;
/// Blocks that may wait to be taken.
const BLOCKS: usize = 4;

/// What becomes of the pages of the file in the kernel's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// They stay.
    Kept,
    /// They are dropped before and after: what is read comes from the disk, and a backup of gigabytes does not drive etcd's
    /// own pages out.
    Dropped,
}

/// An object that is read once, from front to back.
#[must_use]
pub struct Object {
    whom: String,
    limit: Duration,
    state: State,
    block: Vec<u8>,
    taken: usize,
}

enum State {
    Unread(File, Cache),
    Reading(Receiver<io::Result<Vec<u8>>>, Option<Asked<()>>),
    Ended,
}

impl Object {
    pub(super) fn new(file: File, cache: Cache, whom: String, limit: Duration) -> Object {
        Object {
            whom,
            limit,
            state: State::Unread(file, cache),
            block: Vec::new(),
            taken: 0,
        }
    }

    /// The next block; empty at the end.
    pub(super) fn next(&mut self) -> io::Result<Vec<u8>> {
        let (blocks, reading) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Ok(Vec::new()),
            State::Reading(blocks, reading) => (blocks, reading),
            State::Unread(file, cache) => {
                let (sender, blocks) = sync_channel(BLOCKS);
                let begun = ask(&self.whom, self.limit, move |_| read(file, cache, &sender));
                (blocks, Some(begun.map_err(silent)?))
            }
        };
        match blocks.recv_timeout(self.limit) {
            Ok(block) => {
                let block = block?;
                self.state = State::Reading(blocks, reading);
                Ok(block)
            }
            Err(RecvTimeoutError::Disconnected) => Ok(Vec::new()),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(reading) = reading {
                    reading.give_up();
                }
                Err(silent(Silence::Late(self.limit)))
            }
        }
    }
}

impl Read for Object {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.block.len() {
            self.block = self.next()?;
            self.taken = 0;
        }
        let mut left = self.block.get(self.taken..).unwrap_or_default();
        let read = left.read(buffer)?;
        self.taken += read;
        Ok(read)
    }
}

fn silent(silence: Silence) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, silence)
}

fn read(mut file: File, cache: Cache, blocks: &SyncSender<io::Result<Vec<u8>>>) {
    if cache == Cache::Dropped {
        forget(&file, 0, 0); // a length of 0 means to the end
    }
    let mut at = 0;
    loop {
        let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
        let read = (&mut file).take(BLOCK_BYTES).read_to_end(&mut block);
        let length = block.len() as u64;
        if cache == Cache::Dropped {
            forget(&file, at, length);
        }
        at += length;
        let ended = read.is_err() || length == 0;
        // Nobody may want more of it.
        if (length > 0 && blocks.send(Ok(block)).is_err()) || ended {
            if let Err(error) = read {
                blocks.send(Err(error)).ok();
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    #[test]
    fn an_object_comes_whole_however_it_is_read() {
        let content: Vec<u8> = (0..3 * BLOCK_BYTES as u32 / 2).map(|i| (i * 31) as u8).collect();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("object");
        std::fs::write(&path, &content).unwrap();
        for cache in [Cache::Kept, Cache::Dropped] {
            let open = || Object::new(File::open(&path).unwrap(), cache, "whole".to_owned(), LIMIT);
            let mut read = Vec::new();
            open().read_to_end(&mut read).unwrap();
            assert!(read == content);
            let mut first = [0; 7];
            open().read_exact(&mut first).unwrap();
            assert_eq!(first, content[..7]);
        }
    }

    #[test]
    fn what_stops_coming_is_an_error_and_is_not_asked_again_meanwhile() {
        // An open pipe that nothing comes through stands for a server that has gone.
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(&[7; 100]).unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let mut object = Object::new(file, Cache::Kept, "gone".to_owned(), LIMIT);
        let begun = Instant::now();
        let silence = object.read(&mut [0; 10]).unwrap_err();
        assert_eq!(silence.kind(), io::ErrorKind::TimedOut, "{silence}");
        assert!(begun.elapsed() < 20 * LIMIT);
        assert!(ask("gone", LIMIT, |_| ()).is_err());
        drop(writer);
        while ask("gone", LIMIT, |_| ()).is_err() {
            std::thread::yield_now();
        }
    }
}
