//! Plain bytes in; a zstd stream inside an age file out, to several sinks at once.
//!
//! ```text
//! push ─▶ [observer] ─▶ [zstd ─▶ age ─▶ SHA-256] ─▶ [sink 1]
//!            thread          thread + zstd's own      [sink 2] …   a thread each
//! ```

use std::io::{self, Write};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zstd::zstd_safe::CParameter;

use super::fan_out::{AllFailed, Ending, FanOut, FannedOut};
use super::{BLOCK_BYTES, BranchError, Recipient};
use crate::model::Digest;

/// Blocks that may wait before each stage.
const QUEUE_BLOCKS: usize = 3;

/// What zstd hands to one of its threads at a time. Its default of 8 MiB and more would cost most of our memory.
const ZSTD_JOB_BYTES: u32 = 1 << 20;

/// How to compress and for whom to encrypt.
#[derive(Debug, Clone)]
pub struct Encoding {
    /// zstd's level, 1 to 19.
    pub level: i32,
    /// zstd's own threads.
    pub threads: u32,
    /// Each of them can open the result alone. At least one.
    pub recipients: Vec<Recipient>,
    /// How long a sink may take nothing before it is left behind.
    pub stall_limit: Duration,
}

/// Sees the plain bytes on their way.
pub trait Observer: Send + 'static {
    /// The next bytes, in order.
    fn observe(&mut self, bytes: &[u8]);
}

/// Why no encoded stream came out.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A recipient that age refuses.
    #[error("age cannot encrypt to these recipients: {0}")]
    Recipients(#[source] age::EncryptError),
    /// zstd refused its settings or failed.
    #[error("zstd: {0}")]
    Zstd(#[source] io::Error),
    /// Every sink failed or fell behind; each says why.
    #[error("no destination is left to write to")]
    NoSinkLeft(Vec<BranchError>),
}

/// A finished stream.
pub struct Encoded<O, W> {
    /// What saw the plain bytes.
    pub observer: O,
    /// Length of what each sink got.
    pub stored_bytes: u64,
    /// Digest of what each sink got.
    pub stored_sha256: Digest,
    /// The sinks in the order they were given. Some may be busy still.
    pub branches: Vec<Ending<W>>,
}

/// How an encoded stream begins: its key, wrapped for every recipient, and what becomes of the bytes that follow.
pub struct Head {
    age: age::Encryptor,
    level: i32,
    threads: u32,
    stall_limit: Duration,
}

impl Encoding {
    /// Makes a key for one stream and wraps it for every recipient. Plugins are asked, which may take minutes: so it is to be
    /// done before anybody waits for the stream.
    pub fn head(&self) -> Result<Head, EncodeError> {
        let recipients = self.recipients.iter().map(Recipient::as_age);
        Ok(Head {
            age: age::Encryptor::with_recipients(recipients).map_err(EncodeError::Recipients)?,
            level: self.level,
            threads: self.threads,
            stall_limit: self.stall_limit,
        })
    }

    /// What is at hand as a whole, compressed and encrypted.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, EncodeError> {
        let recipients = self.recipients.iter().map(Recipient::as_age);
        let age = age::Encryptor::with_recipients(recipients).map_err(EncodeError::Recipients)?;
        let age = age.wrap_output(Vec::new()).map_err(EncodeError::Zstd)?;
        let mut zstd = zstd::Encoder::new(age, self.level).map_err(EncodeError::Zstd)?;
        zstd.set_parameter(CParameter::ChecksumFlag(true))
            .map_err(EncodeError::Zstd)?;
        zstd.set_pledged_src_size(Some(plain.len() as u64))
            .map_err(EncodeError::Zstd)?;
        zstd.write_all(plain).map_err(EncodeError::Zstd)?;
        let age = zstd.finish().map_err(EncodeError::Zstd)?;
        age.finish().map_err(EncodeError::Zstd)
    }

    /// What [`Encoding::head`] gives, made on a thread of its own, which nobody waits for any longer than he wants to.
    pub async fn head_apart(&self) -> Result<Head, EncodeError> {
        let encoding = self.clone();
        let (sender, made) = oneshot::channel();
        // Where nobody waits any more, nobody wants it.
        std::thread::spawn(move || drop(sender.send(encoding.head())));
        made.await.expect("a panic aborts the process")
    }
}

enum Message {
    Block(Vec<u8>),
    End,
}

/// The writing end of the pipeline. Dropping it unfinished drops the sinks unfinished.
#[must_use]
pub struct Encoder<O, W> {
    queue: mpsc::Sender<Message>,
    block: Vec<u8>,
    observing: JoinHandle<O>,
    encoding: JoinHandle<Result<Option<FannedOut<W>>, EncodeError>>,
}

impl<O: Observer, W: Write + Send + 'static> Encoder<O, W> {
    /// Starts the stages for a stream of exactly `plain_bytes`. With each sink goes how long all others together wait for it.
    pub fn start(head: Head, plain_bytes: u64, observer: O, sinks: Vec<(W, Duration)>) -> Self {
        let (queue, plain) = mpsc::channel(QUEUE_BLOCKS);
        let (observed, to_encode) = crossbeam_channel::bounded(QUEUE_BLOCKS);
        let fan_out = FanOut::new(sinks, head.stall_limit);
        Encoder {
            queue,
            block: Vec::with_capacity(BLOCK_BYTES),
            observing: std::thread::spawn(move || observe(plain, observer, &observed)),
            encoding: std::thread::spawn(move || compress_and_encrypt(&to_encode, head, plain_bytes, fan_out)),
        }
    }

    /// Takes the next bytes; waits while the stages are busy. `Err` when they are gone: then [`Encoder::finish`] says why.
    pub async fn push(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.block.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK_BYTES {
                let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
                self.queue.send(Message::Block(block)).await.map_err(|_| Gone)?;
            }
        }
        Ok(())
    }

    /// Ends the stages before the stream has ended, and waits until the sinks are gone.
    pub async fn abort(self) {
        let Encoder {
            queue,
            observing,
            encoding,
            ..
        } = self;
        drop(queue);
        let joined = tokio::task::spawn_blocking(move || {
            observing.join().expect("a panic aborts the process");
            // What it says of a stream that broke off is of no interest.
            drop(encoding.join().expect("a panic aborts the process"));
        });
        joined.await.expect("a panic aborts the process");
    }

    /// Ends the stream and hands back the sinks, not yet committed, each as soon as it is done.
    pub async fn finish(self) -> Result<Encoded<O, W>, EncodeError> {
        let Encoder {
            queue,
            block,
            observing,
            encoding,
        } = self;
        // Where a stage is gone the join below tells.
        queue.send(Message::Block(block)).await.ok();
        queue.send(Message::End).await.ok();
        drop(queue);
        let joined = tokio::task::spawn_blocking(move || {
            let observer = observing.join().expect("a panic aborts the process");
            let encoded = encoding.join().expect("a panic aborts the process");
            encoded.map(|encoded| (observer, encoded))
        });
        let (observer, fanned) = joined.await.expect("a panic aborts the process")?;
        let fanned = fanned.expect("the end was sent, so the stage cannot have seen the queue break off");
        Ok(Encoded {
            observer,
            stored_bytes: fanned.bytes,
            stored_sha256: fanned.sha256,
            branches: fanned.branches,
        })
    }
}

/// A stage ended before the stream did.
#[derive(Debug)]
pub struct Gone;

fn observe<O: Observer>(
    mut plain: mpsc::Receiver<Message>,
    mut observer: O,
    observed: &crossbeam_channel::Sender<Message>,
) -> O {
    while let Some(message) = plain.blocking_recv() {
        if let Message::Block(block) = &message {
            observer.observe(block);
        }
        if observed.send(message).is_err() {
            break;
        }
    }
    observer
}

/// `None` when the queue broke off before the end: then the sinks are dropped unfinished.
fn compress_and_encrypt<W: Write + Send + 'static>(
    plain: &crossbeam_channel::Receiver<Message>,
    head: Head,
    plain_bytes: u64,
    sinks: FanOut<W>,
) -> Result<Option<FannedOut<W>>, EncodeError> {
    let age = head.age.wrap_output(sinks).map_err(failed)?;
    let mut zstd = zstd::Encoder::new(age, head.level).map_err(EncodeError::Zstd)?;
    for parameter in [
        CParameter::ChecksumFlag(true),
        CParameter::NbWorkers(head.threads),
        CParameter::JobSize(ZSTD_JOB_BYTES),
    ] {
        zstd.set_parameter(parameter).map_err(EncodeError::Zstd)?;
    }
    zstd.set_pledged_src_size(Some(plain_bytes))
        .map_err(EncodeError::Zstd)?;
    loop {
        match plain.recv() {
            Ok(Message::Block(block)) => zstd.write_all(&block).map_err(failed)?,
            Ok(Message::End) => break,
            Err(_) => return Ok(None),
        }
    }
    let age = zstd.finish().map_err(failed)?;
    let sinks = age.finish().map_err(failed)?;
    sinks.finish().map(Some).map_err(failed)
}

/// What the sinks say comes through zstd and age as it is; anything else is zstd's own.
fn failed(error: io::Error) -> EncodeError {
    match error.downcast::<AllFailed>() {
        Ok(AllFailed(errors)) => EncodeError::NoSinkLeft(errors),
        Err(error) => EncodeError::Zstd(error),
    }
}
