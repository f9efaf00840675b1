//! The bytes of a stored object, read on a thread of their own: a store that stops answering is an error of reading.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::deadline::{Asked, Silence, ask};

/// How much is read at once. A store that needs longer than the limit for so much hangs.
const BLOCK_BYTES: u64 = 256 << 10;
/// Blocks that may wait to be taken.
const BLOCKS: usize = 4;

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
    Unread(Box<dyn Read + Send>),
    Reading(Blocks, Option<Asked<()>>),
    Ended,
}

/// Blocks go round: what they were read into is given back.
struct Blocks {
    read: Receiver<io::Result<Vec<u8>>>,
    used: SyncSender<Vec<u8>>,
}

impl Object {
    pub(super) fn new(reader: Box<dyn Read + Send>, whom: String, limit: Duration) -> Object {
        Object {
            whom,
            limit,
            state: State::Unread(reader),
            block: Vec::new(),
            taken: 0,
        }
    }

    /// The next block; empty at the end.
    pub(super) fn next(&mut self) -> io::Result<Vec<u8>> {
        let (blocks, reading) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Ok(Vec::new()),
            State::Reading(blocks, reading) => (blocks, reading),
            State::Unread(reader) => {
                let (sender, blocks) = sync_channel(BLOCKS);
                let (used, spare) = sync_channel(BLOCKS);
                let begun = ask(&self.whom, self.limit, move |_| read(reader, &sender, &spare));
                let blocks = Blocks { read: blocks, used };
                (blocks, Some(begun.map_err(silent)?))
            }
        };
        // Whoever took the last one whole has left nothing to give back; where enough is on its way, it is freed.
        let used = std::mem::take(&mut self.block);
        self.taken = 0;
        if used.capacity() > 0 {
            blocks.used.try_send(used).ok();
        }
        match blocks.read.recv_timeout(self.limit) {
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

fn read(mut reader: Box<dyn Read + Send>, blocks: &SyncSender<io::Result<Vec<u8>>>, spare: &Receiver<Vec<u8>>) {
    loop {
        let mut block = spare.try_recv().unwrap_or_default();
        block.clear();
        block.reserve_exact(BLOCK_BYTES as usize);
        let read = (&mut reader).take(BLOCK_BYTES).read_to_end(&mut block);
        let ended = read.is_err() || block.is_empty();
        // Nobody may want more of it.
        if (!block.is_empty() && blocks.send(Ok(block)).is_err()) || ended {
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
        let open = || Object::new(Box::new(io::Cursor::new(content.clone())), "whole".to_owned(), LIMIT);
        let mut read = Vec::new();
        open().read_to_end(&mut read).unwrap();
        assert!(read == content);
        let mut first = [0; 7];
        open().read_exact(&mut first).unwrap();
        assert_eq!(first, content[..7]);
        let (mut object, mut taken) = (open(), Vec::new());
        while let block @ [_, ..] = &*object.next().unwrap() {
            taken.extend_from_slice(block);
        }
        assert!(taken == content);
    }

    #[test]
    fn blocks_go_round_instead_of_being_made_anew() {
        let content = vec![7; 64 * BLOCK_BYTES as usize];
        let mut object = Object::new(Box::new(io::Cursor::new(content)), "round".to_owned(), LIMIT);
        // A block is known by its capacity, which nobody else gives one.
        const MARK: usize = 3 * BLOCK_BYTES as usize;
        object.block = Vec::with_capacity(MARK);
        let (mut byte, mut came_back) = ([0], 0);
        while object.read(&mut byte).unwrap() > 0 {
            came_back += usize::from(object.block.capacity() >= MARK);
            object.taken = object.block.len();
        }
        assert!(came_back > 1, "it came back {came_back} times");
    }

    #[test]
    fn what_stops_coming_is_an_error_and_is_not_asked_again_meanwhile() {
        // An open pipe that nothing comes through stands for a server that has gone.
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(&[7; 100]).unwrap();
        let mut object = Object::new(Box::new(reader), "gone".to_owned(), LIMIT);
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
