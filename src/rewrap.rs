//! The use case of a change of recipients: a backup is opened and made anew for others, as a chain of its own.
//!
//! The old object is read once, from one store, decrypted, compared with its manifest, compressed and encrypted again and
//! written to another name, all at once and a few blocks at a time; then that is read back, and the manifest comes last. What
//! the old one said of the snapshot stays true of the new one and is carried over: time, revision, history, slot, HashKV.
//! The old one is touched by nothing here.
//!
//! Invariant: plain bytes are in memory only, and what comes out holds the same as the old one, to the byte.
//! Invariant: killed anywhere, it leaves an object without a manifest, which the next sweep of this host removes.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use jiff::Timestamp;
use tokio::runtime::Handle;

use crate::backup::Observed;
use crate::copy::hand_pin_on;
use crate::error_chain::with_causes;
use crate::layout::{ChainPath, FORMAT, HostName, Manifest, ObjectName, Origin, Pin, Rewrapped, Stream, Writer};
use crate::model::{ByteSize, ChainId};
use crate::pipeline::{EncodeError, Encoder, Encoding, Head, Identities, LAG_BUDGET, Unlock};
use crate::source::{self, Source};
use crate::store::{self, ReadBack, Store};

/// How long the pipeline waits for the store, which has deadlines of its own.
pub const STALL_LIMIT: Duration = Duration::from_secs(90);

/// Blocks that may wait between the pipeline and the store.
const QUEUE_BLOCKS: usize = 4;

/// What to make anew, and how.
pub struct Job<'a> {
    /// The manifest of the old one.
    pub old: &'a Manifest,
    /// The chains of the snapshot: where one of them is pinned, the new one is.
    pub family: &'a [ChainPath],
    /// A store with a good copy of it.
    pub from: &'a Store,
    /// The store that gets the new one.
    pub to: &'a Store,
    /// The chain of the new one.
    pub chain: ChainId,
    /// For whom, and how compressed.
    pub encoding: &'a Encoding,
    /// What opens the old one.
    pub identities: &'a Identities,
    /// Who does it.
    pub writer: Writer,
    /// Where the pipeline waits.
    pub runtime: &'a Handle,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// Raised when it is to stop.
    pub stop: &'a AtomicBool,
}

/// Why there is no new one. Nothing of it is left, or it is swept later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The old one does not open.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The old one holds something else than its manifest says.
    #[error("`{at}` does not match its manifest ({why}): `lifeboat verify {id}` tells which copy is good")]
    Damaged {
        /// The object.
        at: String,
        /// The backup.
        id: ChainId,
        /// How.
        why: String,
    },
    /// It cannot be encrypted to those recipients.
    #[error(transparent)]
    Encode(EncodeError),
    /// There is too little room.
    #[error("needs {needed} and has {free} free: free some, or keep fewer backups")]
    TooLittleSpace {
        /// The size of the old object.
        needed: ByteSize,
        /// What there is.
        free: ByteSize,
    },
    /// Somebody asked to stop.
    #[error("stopped; the same command goes on")]
    Stopped,
}

/// Makes it, and gives its manifest and the bytes of that. `each` hears every so often how many bytes more were read.
pub fn make(job: &Job<'_>, each: &(dyn Fn(u64) + Sync)) -> Result<(Manifest, Vec<u8>), Error> {
    refuse_without_space(job)?;
    // Both may ask plugins, and those somebody: before the store waits for bytes.
    let head = job.encoding.head().map_err(Error::Encode)?;
    let source = open(job)?;
    let mut new = manifest(job);
    let object = new.object_name();
    let (sender, receiver) = crossbeam_channel::bounded(QUEUE_BLOCKS);
    let reader = PipeReader::new(receiver);
    let (encoded, written) = std::thread::scope(|scope| {
        let encoding = scope.spawn(|| encode(job, source, head, PipeWriter(sender), each));
        let written = job
            .to
            .write_stream(&object, reader, |_| match job.stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
        (encoding.join().expect("a panic aborts the process"), written)
    });
    // Where both failed, it was the reading of the old one that failed first, or else the store tells.
    new.stored = match (encoded, written) {
        (Err(Some(error)), _) => return Err(error),
        (_, Err(error)) => return Err(error.into()),
        (Err(None), Ok(_)) | (Ok(_), Ok(None)) => return Err(Error::Stopped),
        (Ok(encoded), Ok(Some(written))) => {
            let is_same = written.bytes == encoded.bytes && written.sha256 == encoded.sha256;
            is_same.then_some(encoded).ok_or_else(|| altered(job, &object))?
        }
    };
    let expected = ReadBack {
        bytes: new.stored.bytes,
        sha256: new.stored.sha256,
    };
    let read = job
        .to
        .read_back_while(&object, |_| match job.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })?;
    if read.ok_or(Error::Stopped)? != expected {
        job.to.remove(&object).ok();
        return Err(altered(job, &object));
    }
    new.finished_at = (job.now)();
    let document = job.to.authority().sign(&new.name(), &new.to_bytes());
    job.to.lock(&object)?;
    hand_pin_on(job.to, job.family, &new.chain_path(), &words(job))?;
    job.to.put_new(&new.name(), &document)?;
    Ok((new, document))
}

fn words(job: &Job<'_>) -> Pin {
    Pin::new((job.now)(), &HostName::nearest(&job.writer.host), None)
}

fn altered(job: &Job<'_>, object: &ObjectName) -> Error {
    let at = job.to.address_of(object);
    store::Error::Altered { at }.into()
}

/// All but what only the end tells.
fn manifest(job: &Job<'_>) -> Manifest {
    let old = job.old;
    let rewrapped = Rewrapped {
        original: match &old.rewrapped {
            Some(made) => made.original.clone(),
            None => old.chain.clone(),
        },
        generation: old
            .rewrapped
            .as_ref()
            .map_or(0, |made| made.generation)
            .saturating_add(1),
    };
    let mut new = Manifest {
        format: FORMAT,
        chain: job.chain.clone(),
        recipients: job.encoding.recipients.iter().map(ToString::to_string).collect(),
        origin: Origin::Rewrap,
        rewrapped: Some(rewrapped),
        writer: job.writer.clone(),
        previous: None,
        ..old.clone()
    };
    new.object = new.object_name().to_string();
    new
}

fn refuse_without_space(job: &Job<'_>) -> Result<(), Error> {
    // The compression may be another one: what is lacking then the store says.
    let needed = job.old.stored.bytes;
    match job.to.free_space()? {
        Some(space) if space.available < needed.saturating_add(space.spare()) => Err(Error::TooLittleSpace {
            needed: ByteSize(needed),
            free: ByteSize(space.available),
        }),
        Some(_) | None => Ok(()),
    }
}

fn open(job: &Job<'_>) -> Result<Source, Error> {
    let object = job.old.object_name();
    let (reader, bytes) = job.from.open_object(&object)?;
    let name = format!("`{}`", job.from.address_of(&object));
    let unlock = Unlock::stored(job.identities);
    let source = Source::open(name, reader, Some(bytes), Some(unlock))?;
    Ok(source.with_length(job.old.plain.bytes))
}

/// Reads the old one into the pipeline; the end of the stream is let through only if it held what its manifest says. No
/// error is given where the store is the one that ended it.
fn encode(
    job: &Job<'_>,
    mut source: Source,
    head: Head,
    out: PipeWriter,
    each: &(dyn Fn(u64) + Sync),
) -> Result<Stream, Option<Error>> {
    let old = job.old;
    let observed = Observed::new(old.plain.bytes);
    let _inside = job.runtime.enter();
    let mut encoder = Encoder::start(head, old.plain.bytes, observed, vec![(out, LAG_BUDGET)]);
    let mut block = Vec::new();
    let failed = loop {
        match source.next_block(&mut block) {
            Ok(true) => {}
            Ok(false) => break None,
            Err(error) => break Some(Some(error.into())),
        }
        each(block.len() as u64);
        if job.stop.load(Ordering::Relaxed) {
            break Some(Some(Error::Stopped));
        }
        if job.runtime.block_on(encoder.push(&block)).is_err() {
            break None; // finishing tells why
        }
    };
    if let Some(failed) = failed {
        job.runtime.block_on(encoder.abort());
        return Err(failed);
    }
    let encoded = job.runtime.block_on(encoder.finish()).map_err(|error| match error {
        EncodeError::NoSinkLeft(_) => None,
        error => Some(Error::Encode(error)),
    })?;
    let damaged = |why: String| {
        let (at, id) = (job.from.address_of(&old.object_name()), old.chain.clone());
        Some(Error::Damaged { at, id, why })
    };
    let facts = encoded
        .observer
        .finish()
        .map_err(|error| damaged(with_causes(&error)))?;
    if facts.sha256 != old.plain.sha256 || facts.revision != old.to_revision {
        return Err(damaged(format!(
            "its snapshot has the SHA-256 {} and revision {}",
            facts.sha256, facts.revision
        )));
    }
    let (bytes, sha256) = (encoded.stored_bytes, encoded.stored_sha256);
    for branch in encoded.branches {
        branch.join().map_err(|_| None)?.end();
    }
    Ok(Stream { bytes, sha256 })
}

/// The end of the pipeline, which the store reads from.
struct PipeWriter(Sender<Part>);

enum Part {
    Bytes(Vec<u8>),
    End,
}

impl PipeWriter {
    /// Says that all was right.
    fn end(self) {
        // Where nobody reads any more, the store tells why.
        self.0.send(Part::End).ok();
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.send(Part::Bytes(bytes.to_vec()));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the store reads. It ends only where it was said to: what breaks off is an error.
struct PipeReader {
    parts: Receiver<Part>,
    rest: io::Cursor<Vec<u8>>,
    is_over: bool,
}

impl PipeReader {
    fn new(parts: Receiver<Part>) -> PipeReader {
        PipeReader {
            parts,
            rest: io::Cursor::default(),
            is_over: false,
        }
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.rest.read(buffer)?;
            if read > 0 || self.is_over || buffer.is_empty() {
                return Ok(read);
            }
            match self.parts.recv() {
                Ok(Part::Bytes(bytes)) => self.rest = io::Cursor::new(bytes),
                Ok(Part::End) => self.is_over = true,
                Err(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it broke off")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_breaks_off_is_no_end() {
        let (sender, receiver) = crossbeam_channel::bounded(QUEUE_BLOCKS);
        let mut writer = PipeWriter(sender);
        writer.write_all(b"abc").unwrap();
        drop(writer);
        let mut read = Vec::new();
        let broken = PipeReader::new(receiver).read_to_end(&mut read).unwrap_err();
        assert_eq!(
            (read.as_slice(), broken.kind()),
            (&b"abc"[..], io::ErrorKind::UnexpectedEof)
        );
        let (sender, receiver) = crossbeam_channel::bounded(QUEUE_BLOCKS);
        let mut writer = PipeWriter(sender);
        writer.write_all(b"abc").unwrap();
        writer.end();
        let mut read = Vec::new();
        assert_eq!(PipeReader::new(receiver).read_to_end(&mut read).unwrap(), 3);
    }
}
