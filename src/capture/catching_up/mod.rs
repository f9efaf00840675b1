//! What is far behind catches up from a snapshot of etcd.
//!
//! A watch that is far behind costs etcd the square of how far: for each thousand revisions that it sends, it reads all that are
//! lacked once more, and holds them in memory. A snapshot has every revision since etcd's last compaction, and costs it one
//! read of a file. So the stream of one is drawn, proven as it passes as that of a backup is
//! (`docs/decisions/proof-in-flight.md`), and the revisions in it are handed out as a watch would tell them.
//!
//! Leaves to whoever asks which member that is and whether it goes on with the history that was captured; what comes behind the
//! snapshot; and what to do where this fails.
//!
//! Invariant: nothing is handed out before the stream has ended, etcd's digest of it is right and its structure is proven whole; and
//! what is handed out has no hole, neither between revisions nor in one.
//! Invariant: dropping it ends it at once, stream, file and all.

mod candidates;
mod revisions;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::candidates::{Candidates, Unkept};
use self::revisions::hand_out;
use super::same_history::Stand;
use super::told;
use crate::backup::{Observed, Slowness};
use crate::etcd::{Access, Ahead, Chunk, KeyChange, Member, WholeRevision};
use crate::model::{ByteSize, ClusterId, Revision};
use crate::pipeline::Observer as _;

/// How long a member may be silent.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// How long a stream may take, by the pace at which the member sends: a watch is no slower then.
const FINISH_WITHIN: Duration = Duration::from_secs(3600);
/// Messages of the stream that may wait: of 32 KiB each.
const WAITING_CHUNKS: usize = 32;
/// How much is handed out at once.
const BATCH_BYTES: u64 = 1 << 20;
/// Batches that may wait to be taken.
const WAITING_BATCHES: usize = 2;
/// Where there is room for fewer revisions, a watch sends them as fast.
const FEWEST: u64 = 1000;
/// How much of the room of the spool the file may take: the rest is for what is made of it.
const SHARE_OF_SPOOL: (u64, u64) = (3, 4);
/// How long it is waited for room in the spool while nothing leaves it.
const PATIENT: Duration = Duration::from_secs(300);

/// From when on what is lacked is taken from a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFrom {
    /// More revisions than that are lacked.
    pub revisions: i64,
    /// And their square is more than so many times the bytes of the database.
    pub square_per_byte: u64,
}

impl SnapshotFrom {
    /// Where a watch costs etcd more than a snapshot. For a watch it reads a two-thousandth of the square of what is lacked, 575 000
    /// revisions a second; for a snapshot the database, 220 MB a second (with changes of 1 KiB; `docs/decisions/catching-up.md`).
    pub const MEASURED: SnapshotFrom = SnapshotFrom {
        revisions: 10_000,
        square_per_byte: 5,
    };

    /// Whether a snapshot of a database of so many bytes is to be drawn for what is `behind`.
    pub fn is_due(&self, behind: i64, database_bytes: u64) -> bool {
        let square = u128::from(behind.max(0).unsigned_abs()).pow(2);
        behind > self.revisions && square > u128::from(self.square_per_byte) * u128::from(database_bytes)
    }
}

/// What is lacked, and where it is drawn from.
#[derive(Clone)]
pub(super) struct Lack {
    /// The member.
    pub url: String,
    /// How to get in.
    pub access: Access,
    /// The cluster that it has to be of.
    pub cluster: ClusterId,
    /// The first revision that is lacked.
    pub next: Revision,
    /// How far the member had come.
    pub seen: Stand,
    /// How far the history had come at the full backup.
    pub full: Stand,
    /// Where the file is to be: that of the spool.
    pub folder: PathBuf,
    /// How much may be in the spool.
    pub spool_most: ByteSize,
    /// What one revision may weigh.
    pub most_of_one: ByteSize,
}

/// What came.
#[derive(Debug)]
pub(super) enum Caught {
    /// These revisions.
    Revisions(Vec<WholeRevision>),
    /// All that the snapshot has of what there was room for.
    All,
}

/// A stream that is drawn. Dropping it ends it.
pub(super) struct CatchingUp {
    heard: mpsc::Receiver<Result<Caught, String>>,
    /// How long the file is.
    held: Arc<AtomicU64>,
    /// Since when there is no room for more, and how much waited then.
    stuck: Option<(Instant, ByteSize)>,
    begun: Instant,
    _task: JoinSet<()>,
}

impl CatchingUp {
    /// Begins.
    pub fn begin(lack: Lack) -> CatchingUp {
        let (sender, heard) = mpsc::channel(WAITING_BATCHES);
        let held = Arc::new(AtomicU64::new(0));
        let mut task = JoinSet::new();
        let length = held.clone();
        task.spawn(async move {
            if let Err(why) = draw(lack, &length, &sender).await {
                // Where nobody hears it, nobody wants it.
                sender.send(Err(why)).await.ok();
            }
        });
        CatchingUp {
            heard,
            held,
            stuck: None,
            begun: Instant::now(),
            _task: task,
        }
    }

    /// What comes next; says why nothing more does. Dropped and asked again, it loses nothing.
    pub async fn next(&mut self) -> Result<Caught, String> {
        let heard = self.heard.recv().await;
        heard.unwrap_or_else(|| Err("it broke off".to_owned()))
    }

    /// How long it has been going on.
    pub fn took(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether the spool, in which so much waits, has room for `more` beside the file. What is read from a disk comes faster than it
    /// leaves for a destination, and no chain is to end for that; but where nothing leaves, it is gone on with after a while as with
    /// what a watch tells.
    pub fn may_go_on(&mut self, waits: ByteSize, most: ByteSize, more: ByteSize, now: Instant) -> bool {
        let held = self.held.load(Ordering::Relaxed);
        let together = held.saturating_add(waits.0).saturating_add(more.0);
        if waits.0 == 0 || together <= most.0 {
            self.stuck = None;
            return true;
        }
        match self.stuck {
            Some((since, least)) if waits >= least => now.duration_since(since) >= PATIENT,
            _ => {
                self.stuck = Some((now, waits));
                false
            }
        }
    }
}

/// Why a stream came to nothing.
enum Failed {
    /// There was room for so many revisions only.
    Narrow(u64),
    Other(String),
}

impl From<Unkept> for Failed {
    fn from(unkept: Unkept) -> Failed {
        match unkept {
            Unkept::NoRoom { revisions } => Failed::Narrow(revisions),
            Unkept::Failed(why) => Failed::Other(why),
        }
    }
}

/// Draws a stream, and another one for fewer revisions where there is not room for all.
async fn draw(lack: Lack, held: &Arc<AtomicU64>, sender: &mpsc::Sender<Result<Caught, String>>) -> Result<(), String> {
    let (next, seen) = (lack.next.get(), lack.seen.revision.get());
    let mut span = u64::try_from(seen.saturating_sub(next).saturating_add(1)).unwrap_or(FEWEST);
    let mut last = None;
    loop {
        match draw_up_to(&lack, last, held, sender).await {
            Ok(()) => return Ok(()),
            Err(Failed::Other(why)) => return Err(why),
            Err(Failed::Narrow(revisions)) => {
                // Of what was kept, old leaves may have had some twice; and a later stream may have more of them.
                span = (revisions / 10 * 9).min(span / 4 * 3);
                if span < FEWEST {
                    return Err("there is no room beside the spool for what it would bring".to_owned());
                }
                let span = i64::try_from(span).unwrap_or(i64::MAX);
                last = Some(next.saturating_add(span - 1));
            }
        }
    }
}

/// What goes to the thread that reads the stream.
enum Piece {
    Chunk(Chunk),
    /// All has come, and of the member that it was asked of.
    All,
}

async fn draw_up_to(
    lack: &Lack,
    last: Option<i64>,
    held: &Arc<AtomicU64>,
    sender: &mpsc::Sender<Result<Caught, String>>,
) -> Result<(), Failed> {
    let mut member = Member::connect(&lack.url, &lack.access, Ahead::Little)
        .await
        .map_err(other)?;
    is_the_same(&mut member, lack).await?;
    let mut stream = member.snapshot(SILENT_FOR).await.map_err(other)?;
    let mut next = stream.next().await.map_err(other)?;
    let total = stream.promised().unwrap_or(0);
    let mut slowness = Slowness::new(total, FINISH_WITHIN, 2 * SILENT_FOR);
    let (pieces, to_read) = mpsc::channel(WAITING_CHUNKS);
    let reading = {
        let (lack, held, sender) = (lack.clone(), held.clone(), sender.clone());
        tokio::task::spawn_blocking(move || read(&lack, (total, last), &held, to_read, &sender))
    };
    while let Some(chunk) = next {
        // Where nobody reads any more, it is told why below.
        if pieces.send(Piece::Chunk(chunk)).await.is_err() {
            break;
        }
        let since = Instant::now();
        next = stream.next().await.map_err(other)?;
        let bytes = next.as_ref().map_or(0, |chunk| chunk.bytes().len() as u64);
        if let Some(slow) = slowness.after(bytes, since.elapsed()) {
            let rate = ByteSize(slow.rate);
            return Err(Failed::Other(format!("{} sends {rate} of it a second", stream.url())));
        }
    }
    drop(stream);
    is_the_same(&mut member, lack).await?;
    pieces.send(Piece::All).await.ok();
    drop(pieces);
    reading.await.map_err(|error| Failed::Other(told(&error)))?
}

/// Whether the member is the one that was chosen, and its log goes on from where it was.
async fn is_the_same(member: &mut Member, lack: &Lack) -> Result<(), Failed> {
    let status = member.status().await.map_err(other)?;
    let now = Stand::of_member(lack.seen.revision, &status);
    if status.cluster != lack.cluster {
        let (url, found) = (&lack.url, status.cluster);
        return Err(Failed::Other(format!("{url} is of cluster {found} now")));
    }
    lack.seen.fell(&now).map_or(Ok(()), |why| Err(Failed::Other(why)))
}

/// Takes the stream in, proves it, and hands out what is lacked up to `last`, where that is not all. Where nobody takes it any more,
/// it ends without a word.
fn read(
    lack: &Lack,
    (total, last): (u64, Option<i64>),
    held: &Arc<AtomicU64>,
    mut pieces: mpsc::Receiver<Piece>,
    sender: &mpsc::Sender<Result<Caught, String>>,
) -> Result<(), Failed> {
    let (share, of) = SHARE_OF_SPOOL;
    let most = ByteSize(lack.spool_most.0 / of * share);
    let wanted = lack.next.get()..=last.unwrap_or(i64::MAX);
    let candidates = Candidates::new(wanted, &lack.folder, most, held.clone())?;
    let mut observed = Observed::with(total, candidates);
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Chunk(chunk)) => observed.observe(chunk.bytes()),
            Some(Piece::All) => break,
            // Whoever drew it says why.
            None => return Ok(()),
        }
        if let Some(unkept) = observed.owner().unkept() {
            return Err(unkept.clone().into());
        }
    }
    let seen = observed.seen().map_err(other)?;
    if let Some(fault) = seen.scan.faults().first() {
        return Err(Failed::Other(format!("its database is damaged: {fault}")));
    }
    if !seen.scan.is_whole() {
        return Err(Failed::Other(
            "its database has more pages than are followed".to_owned(),
        ));
    }
    let compacted = seen.meta.compaction.compact_revision();
    if compacted >= lack.next.get() {
        return Err(Failed::Other(format!("etcd has compacted up to revision {compacted}")));
    }
    let found = Stand {
        revision: seen.revision,
        index: seen.meta.consistent_index,
        term: seen.meta.term,
    };
    if let Some(why) = lack.full.fell(&found) {
        return Err(Failed::Other(why));
    }
    if seen.revision < lack.seen.revision {
        let (found, before) = (seen.revision, lack.seen.revision);
        return Err(Failed::Other(format!(
            "it ends at revision {found}, and etcd was at {before}"
        )));
    }
    let last = last.and_then(|last| Revision::new(last).ok()).unwrap_or(seen.revision);
    let ends = (lack.next, last.min(seen.revision));
    let mut batch = Batch::default();
    let handed_out = hand_out(
        seen.scan.owner(),
        seen.scan.leaves(),
        ends,
        lack.most_of_one,
        &mut |whole| batch.add(whole, sender),
    );
    let is_taken = batch.send(sender).is_continue();
    if handed_out.map_err(Failed::Other)?.is_continue() && is_taken {
        sender.blocking_send(Ok(Caught::All)).ok();
    }
    Ok(())
}

/// Revisions that are handed out together.
#[derive(Default)]
struct Batch {
    whole: Vec<WholeRevision>,
    bytes: u64,
}

impl Batch {
    fn add(&mut self, whole: WholeRevision, sender: &mpsc::Sender<Result<Caught, String>>) -> ControlFlow<()> {
        let weights = whole.changes.iter().map(KeyChange::weight);
        self.bytes = weights.fold(self.bytes, u64::saturating_add);
        self.whole.push(whole);
        match self.bytes >= BATCH_BYTES {
            true => self.send(sender),
            false => ControlFlow::Continue(()),
        }
    }

    fn send(&mut self, sender: &mpsc::Sender<Result<Caught, String>>) -> ControlFlow<()> {
        let Batch { whole, .. } = std::mem::take(self);
        if whole.is_empty() || sender.blocking_send(Ok(Caught::Revisions(whole))).is_ok() {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(())
    }
}

fn other(error: impl std::error::Error + 'static) -> Failed {
    Failed::Other(told(&error))
}
