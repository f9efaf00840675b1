//! One stream into several sinks, of which each may fail or fall behind alone.
//!
//! A sink that others have to wait for is dropped after so much waiting in all as it is given (`backup::destinations` says
//! which is given how much), and any sink that takes no bytes at all for the stall limit: while we wait, etcd holds a read
//! transaction open and its database grows.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError};
use sha2::{Digest as _, Sha256};

use crate::model::Digest;

/// How long all others together wait for a sink to which what it misses can be copied afterwards: not so long that anybody
/// would notice, and long enough for one that only paused.
pub const LAG_BUDGET: Duration = Duration::from_millis(100);

/// The same of one to which nobody could copy it.
pub const LONG_LAG_BUDGET: Duration = Duration::from_secs(30);

/// How often it is looked whether others could go on while one is waited for.
const LOOKED_EVERY: Duration = Duration::from_millis(10);

/// How long an unfinished stream waits for its sinks to end; one may hang in a write.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of a block on its way to the sinks, and blocks that a sink may be behind.
const FAN_BLOCK_BYTES: usize = 256 << 10;
const FAN_QUEUE_BLOCKS: usize = 16;

/// Why a sink did not get everything.
#[derive(Debug, thiserror::Error)]
pub enum BranchError {
    /// The sink refused bytes.
    #[error("writing after {written} bytes: {source}")]
    Write {
        /// Bytes that it had taken.
        written: u64,
        /// What it said.
        source: io::Error,
    },
    /// The sink was too slow and was left behind.
    #[error("too slow: left behind at {written} bytes, after {:.1} s of waiting for it", .waited.as_secs_f64())]
    TooSlow {
        /// How long it was waited for.
        waited: Duration,
        /// Bytes that were sent to it.
        written: u64,
    },
}

/// Every sink failed. Travels inside an [`io::Error`] through the stages before this one.
#[derive(Debug, thiserror::Error)]
#[error("no sink is left")]
pub(super) struct AllFailed(pub Vec<BranchError>);

enum Message {
    Block(Arc<[u8]>),
    End,
}

/// A sink on a thread of its own.
struct Branch<W> {
    queue: Option<Sender<Message>>,
    /// What the thread of the sink comes to.
    outcome: Receiver<Result<Option<W>, BranchError>>,
    sent: u64,
    waited: Duration,
    /// How long it may be waited for.
    budget: Duration,
    dropped: Option<BranchError>,
}

/// The writing end.
#[must_use]
pub(super) struct FanOut<W> {
    branches: Vec<Branch<W>>,
    block: Vec<u8>,
    stored: Sha256,
    stored_bytes: u64,
    stall_limit: Duration,
}

/// What came out.
pub(super) struct FannedOut<W> {
    pub bytes: u64,
    pub sha256: Digest,
    /// In the order of the sinks given.
    pub branches: Vec<Ending<W>>,
}

/// A sink that has been sent everything, and may be busy with it still. Dropped, it is dropped when it is done.
#[must_use]
pub struct Ending<W> {
    branch: Branch<W>,
    patience: Duration,
}

impl<W> Ending<W> {
    /// One that is done.
    #[cfg(test)]
    pub(crate) fn done(sink: W) -> Ending<W> {
        let (done, ending) = Ending::later();
        done(sink);
        ending
    }

    /// One that has failed.
    #[cfg(test)]
    pub(crate) fn broken(error: BranchError) -> Ending<W> {
        let (_, mut ending) = Ending::later();
        ending.branch.dropped = Some(error);
        ending
    }

    /// One that is done when the test says so.
    #[cfg(test)]
    pub(crate) fn later() -> (impl FnOnce(W), Ending<W>) {
        let (done, outcome) = crossbeam_channel::bounded(1);
        let branch = Branch {
            queue: None,
            outcome,
            sent: 0,
            waited: Duration::ZERO,
            budget: LAG_BUDGET,
            dropped: None,
        };
        let patience = Duration::from_secs(600);
        (move |sink| drop(done.send(Ok(Some(sink)))), Ending { branch, patience })
    }

    /// The sink, once it has taken everything; it is waited for as long as one may take no bytes.
    pub fn join(self) -> Result<W, BranchError> {
        self.branch.join(self.patience)
    }
}

impl<W: Write + Send + 'static> FanOut<W> {
    /// Into sinks, with how long all others together wait for each.
    pub fn new(sinks: Vec<(W, Duration)>, stall_limit: Duration) -> Self {
        let branches = sinks.into_iter().map(|(sink, budget)| start_branch(sink, budget));
        FanOut {
            branches: branches.collect(),
            block: Vec::with_capacity(FAN_BLOCK_BYTES),
            stored: Sha256::new(),
            stored_bytes: 0,
            stall_limit,
        }
    }

    /// Sends what is left. The sinks are waited for one by one: who is done need not wait for who is not.
    pub fn finish(mut self) -> io::Result<FannedOut<W>> {
        self.send_block()?;
        self.send_all(|| Message::End);
        let patience = self.stall_limit;
        let branches = std::mem::take(&mut self.branches).into_iter();
        let branches = branches.map(|branch| Ending { branch, patience });
        Ok(FannedOut {
            bytes: self.stored_bytes,
            sha256: Digest(self.stored.finalize_reset().into()),
            branches: branches.collect(),
        })
    }

    fn send_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.stored.update(&self.block);
        self.stored_bytes += self.block.len() as u64;
        let block: Arc<[u8]> = self.block.as_slice().into();
        self.block.clear();
        self.send_all(|| Message::Block(block.clone()));
        if self.live() > 0 {
            return Ok(());
        }
        let stall_limit = self.stall_limit;
        let errors = std::mem::take(&mut self.branches).into_iter();
        let errors = errors.filter_map(|branch| branch.join(stall_limit).err());
        Err(io::Error::other(AllFailed(errors.collect())))
    }

    fn send_all(&mut self, message: impl Fn() -> Message) {
        for index in 0..self.branches.len() {
            let (before, rest) = self.branches.split_at_mut(index);
            let Some((branch, after)) = rest.split_first_mut() else {
                return;
            };
            // Who has to be waited for is to blame only while another could go on.
            let others_wait = || before.iter().chain(after.iter()).any(Branch::is_idle);
            branch.send(message(), self.stall_limit, others_wait);
        }
    }

    fn live(&self) -> usize {
        self.branches.iter().filter(|branch| branch.queue.is_some()).count()
    }
}

/// Unfinished, it waits until the sinks are dropped: what they do then, such as removing a file, has to be done before
/// the program ends.
impl<W> Drop for FanOut<W> {
    fn drop(&mut self) {
        let patience = Instant::now() + DROP_PATIENCE;
        let outcomes: Vec<_> = std::mem::take(&mut self.branches)
            .into_iter()
            .map(|branch| branch.outcome)
            .collect();
        for outcome in outcomes {
            outcome.recv_deadline(patience).ok();
        }
    }
}

impl<W: Write + Send + 'static> Write for FanOut<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = FAN_BLOCK_BYTES - self.block.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.block.extend_from_slice(taken);
        if self.block.len() == FAN_BLOCK_BYTES {
            self.send_block()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> Branch<W> {
    /// The sink, if it took everything.
    fn join(self, patience: Duration) -> Result<W, BranchError> {
        // The thread of a sink that was left behind may hang in a write; it ends, and takes its sink with it, when that
        // returns.
        if let Some(error) = self.dropped {
            return Err(error);
        }
        match self.outcome.recv_timeout(patience) {
            Ok(Ok(Some(sink))) => Ok(sink),
            Ok(Ok(None)) => unreachable!("the end was sent to every branch that was not dropped"),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(BranchError::TooSlow {
                waited: self.waited + patience,
                written: self.sent,
            }),
        }
    }

    /// Whether it has taken all that was sent, and waits for more.
    fn is_idle(&self) -> bool {
        self.queue.as_ref().is_some_and(Sender::is_empty)
    }

    fn send(&mut self, message: Message, stall_limit: Duration, others_wait: impl Fn() -> bool) {
        let Some(queue) = &self.queue else { return };
        let bytes = match &message {
            Message::Block(block) => block.len() as u64,
            Message::End => 0,
        };
        let begun = Instant::now();
        let refused = match queue.try_send(message) {
            Ok(()) => None,
            Err(TrySendError::Full(mut message)) => loop {
                // Looked at every so often: who has just got a block is not idle, however fast it is.
                let (is_counted, since) = (others_wait(), Instant::now());
                let mut patience = stall_limit.saturating_sub(begun.elapsed());
                if is_counted {
                    patience = patience.min(self.budget.saturating_sub(self.waited));
                }
                let sent = queue.send_timeout(message, patience.min(LOOKED_EVERY));
                if is_counted {
                    self.waited += since.elapsed();
                }
                match sent {
                    Err(SendTimeoutError::Timeout(unsent)) if patience > LOOKED_EVERY => message = unsent,
                    sent => break sent.err(),
                }
            },
            Err(TrySendError::Disconnected(message)) => Some(SendTimeoutError::Disconnected(message)),
        };
        match refused {
            None => self.sent += bytes,
            // The sink died; it says why when it is joined.
            Some(SendTimeoutError::Disconnected(_)) => self.queue = None,
            Some(SendTimeoutError::Timeout(_)) => {
                self.queue = None;
                self.dropped = Some(BranchError::TooSlow {
                    waited: self.waited,
                    written: self.sent,
                });
            }
        }
    }
}

fn start_branch<W: Write + Send + 'static>(sink: W, budget: Duration) -> Branch<W> {
    let (queue, blocks) = crossbeam_channel::bounded(FAN_QUEUE_BLOCKS);
    let (done, outcome) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || {
        let drained = drain(&blocks, sink);
        // After a failure the queue is closed before the reason is told, so that nobody waits to send into it.
        drop(blocks);
        done.send(drained).ok();
    });
    Branch {
        queue: Some(queue),
        outcome,
        sent: 0,
        waited: Duration::ZERO,
        budget,
        dropped: None,
    }
}

/// Writes what comes; hands the sink back at the end, and drops it where the queue breaks off before.
fn drain<W: Write>(blocks: &Receiver<Message>, mut sink: W) -> Result<Option<W>, BranchError> {
    let mut written = 0;
    loop {
        match blocks.recv() {
            Ok(Message::Block(block)) => {
                sink.write_all(&block)
                    .map_err(|source| BranchError::Write { written, source })?;
                written += block.len() as u64;
            }
            Ok(Message::End) => return Ok(Some(sink)),
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Sink {
        Good(Vec<u8>),
        FailsAfter(usize),
        /// Takes nothing until the other end of the channel is dropped.
        Hangs(Receiver<()>),
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self {
                Sink::Good(taken) => taken.write(bytes),
                Sink::FailsAfter(left) if *left < bytes.len() => Err(io::ErrorKind::StorageFull.into()),
                Sink::FailsAfter(left) => {
                    *left -= bytes.len();
                    Ok(bytes.len())
                }
                Sink::Hangs(until) => {
                    until.recv().ok();
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn fan_out(sinks: Vec<Sink>, stall_limit: Duration) -> FanOut<Sink> {
        let sinks = sinks.into_iter().map(|sink| (sink, LONG_LAG_BUDGET));
        FanOut::new(sinks.collect(), stall_limit)
    }

    fn joined<const N: usize>(out: FannedOut<Sink>) -> [Result<Sink, BranchError>; N] {
        let joined: Vec<_> = out.branches.into_iter().map(Ending::join).collect();
        joined.try_into().ok().unwrap()
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i * 7 + i / 256) as u8).collect()
    }

    #[test]
    fn every_sink_gets_everything_and_failures_stay_alone() {
        let content = content(3_000_001);
        let sinks = vec![Sink::Good(vec![]), Sink::FailsAfter(1 << 20), Sink::Good(vec![])];
        let mut out = fan_out(sinks, Duration::from_secs(60));
        out.write_all(&content).unwrap();
        let out = out.finish().unwrap();
        assert_eq!(out.bytes, content.len() as u64);
        assert_eq!(out.sha256, Digest(Sha256::digest(&content).into()));
        let [first, second, third] = joined(out);
        for sink in [first, third] {
            assert!(matches!(sink, Ok(Sink::Good(taken)) if taken == content));
        }
        let error = second.err().unwrap();
        assert!(
            matches!(error, BranchError::Write { written, .. } if written == 1 << 20),
            "{error}"
        );
    }

    #[test]
    fn a_sink_that_takes_nothing_is_left_behind_at_the_limit_or_once_its_budget_is_spent() {
        for (budget, limit) in [(600_000, 50), (20, 600_000)] {
            let [budget, limit] = [budget, limit].map(Duration::from_millis);
            let (release, until) = crossbeam_channel::bounded(0);
            let sinks = vec![(Sink::Hangs(until), budget), (Sink::Good(vec![]), LONG_LAG_BUDGET)];
            let mut out = FanOut::new(sinks, limit);
            let content = content(FAN_BLOCK_BYTES * (FAN_QUEUE_BLOCKS + 3));
            out.write_all(&content).unwrap();
            let [slow, good] = joined(out.finish().unwrap());
            assert!(matches!(slow, Err(BranchError::TooSlow { .. })));
            assert!(matches!(good, Ok(Sink::Good(taken)) if taken == content));
            drop(release);
        }
    }

    #[test]
    fn a_slow_sink_is_waited_for_in_all_wherever_it_stands() {
        for place in [0, 1] {
            let (release, until) = crossbeam_channel::bounded(0);
            let mut sinks = vec![Sink::Good(vec![])];
            sinks.insert(place, Sink::Hangs(until));
            let limit = Duration::from_millis(200);
            let mut out = fan_out(sinks, limit);
            // One in its hands, and its queue full.
            out.write_all(&content(FAN_BLOCK_BYTES * (FAN_QUEUE_BLOCKS + 1)))
                .unwrap();
            while !out.branches[1 - place].is_idle() {
                std::thread::yield_now();
            }
            out.write_all(&content(2 * FAN_BLOCK_BYTES)).unwrap();
            let both: [_; 2] = joined(out.finish().unwrap());
            let Err(BranchError::TooSlow { waited, .. }) = &both[place] else {
                panic!("{place}: it is left behind")
            };
            assert!(*waited >= limit / 2, "{place}: {waited:?}");
            drop(release);
        }
    }

    #[test]
    fn who_is_done_does_not_wait_for_who_is_not() {
        let (release, until) = crossbeam_channel::bounded(0);
        let mut out = fan_out(vec![Sink::Hangs(until), Sink::Good(vec![])], Duration::from_secs(600));
        let content = content(FAN_BLOCK_BYTES * 2);
        out.write_all(&content).unwrap();
        let [slow, good] = <[_; 2]>::try_from(out.finish().unwrap().branches).ok().unwrap();
        assert!(matches!(good.join(), Ok(Sink::Good(taken)) if taken == content));
        drop(release);
        assert!(slow.join().is_ok());
    }

    #[test]
    fn without_any_sink_left_the_stream_ends() {
        let mut out = fan_out(vec![Sink::FailsAfter(0)], Duration::from_secs(60));
        let content = content(FAN_BLOCK_BYTES * (FAN_QUEUE_BLOCKS + 3));
        assert!(out.write_all(&content).is_err());
    }
}
