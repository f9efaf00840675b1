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
    Reading(Receiver<io::Result<Vec<u8>>>, Option<Asked<()>>),
    Ended,
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
                let begun = ask(&self.whom, self.limit, move |_| read(reader, &sender));
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

fn read(mut reader: Box<dyn Read + Send>, blocks: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
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
