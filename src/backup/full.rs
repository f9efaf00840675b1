//! A full backup, from the choice of a member to the manifest.
//!
//! Invariant: a manifest is written only for bytes whose digest etcd gave, that were read back from the disk, and whose
//! content told its own revision.
//! Invariant: whatever happens before, nothing is left that a listing takes for a backup.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::Progress;
use super::destinations::{PATIENCE, Sinks, Written};
pub use super::failure::Error;
use super::failure::{GivenUp, none_left};
use super::manifest;
use super::member::{Chosen, choose_one};
use super::pace::{Pace, Pacer, Slowness, TooSlow};
use super::placing::{self, Beside, Running, begin_again, finished, placed_unless, published};
use super::proof::Verdict;
use super::sink::Sink;
use super::snapshot_observer::Observed;
use super::uncommitted::{AtWork, Traces};
use crate::catalog::{Backup, Catalog, Descent, Opening, Pinned};
use crate::destinations::Destination;
use crate::etcd::choose_member::Wanted;
use crate::etcd::{self, Access, Endpoints, SnapshotStream};
use crate::layout::{ChainPath, HostName, Manifest, Origin, Outline, Stream, Writer};
use crate::model::{ByteSize, ChainId, ClusterName};
use crate::pipeline::{Encoded, Encoder, Encoding, Head};

/// Whether to ask a member for HashKV, which stalls its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKvPolicy {
    /// A follower, and an only member up to 1 GiB.
    Auto,
    /// Whoever it is.
    Always,
    /// Nobody.
    Never,
}

/// What to back up, and how.
pub struct Job {
    /// The id of the backup to be.
    pub chain: ChainId,
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Its members.
    pub members: Vec<Endpoints>,
    /// Which of them to ask.
    pub wanted: Wanted,
    /// Those that are not asked: what they gave before is wrong.
    pub passed_over: Vec<String>,
    /// How to get in.
    pub access: Access,
    /// Whether to ask for HashKV.
    pub hash_kv: HashKvPolicy,
    /// The longest silence of the member.
    pub idle_timeout: Duration,
    /// How long the snapshot may take, by the pace at which the member sends.
    pub finish_within: Duration,
    /// How fast the member is read from.
    pub pace: Pace,
    /// Compression and encryption.
    pub encoding: Encoding,
    /// Why the backup is taken.
    pub origin: Origin,
    /// The schedule that asked for it.
    pub schedule: Option<String>,
    /// The slot of that schedule.
    pub slot: Option<Timestamp>,
    /// The operator's words.
    pub note: Option<String>,
    /// Whether it is excluded from retention from its first moment.
    pub pinned: Pinned,
    /// Who takes it.
    pub writer: Writer,
    /// On which host.
    pub host: HostName,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// A backup that was taken.
#[derive(Debug)]
pub struct Outcome {
    /// Its manifest.
    pub manifest: Manifest,
    /// The same as it was stored.
    pub document: Vec<u8>,
    /// Why it opened a new lineage, when there was another before.
    pub opening: Option<Opening>,
    /// Every destination, in the order given. At least one succeeded.
    pub destinations: Vec<Written>,
    /// The name that its member has in the configuration.
    pub member: String,
    /// How long it took.
    pub took: Duration,
    /// What is to be said of its lineage, when that is not the accepted one.
    pub unaccepted: Option<String>,
    /// What else the operator should know.
    pub warnings: Vec<String>,
}

/// The times of one backup.
pub(super) struct Times {
    pub(super) started: Timestamp,
    pub(super) first_byte: Timestamp,
}

/// A backup whose bytes are in their places and proven; only the manifest is missing.
struct Proven {
    sinks: Sinks,
    member: String,
    manifest: Manifest,
    opening: Option<Opening>,
    warnings: Vec<String>,
}

/// The same without the places.
struct Unplaced {
    member: String,
    manifest: Manifest,
    opening: Option<Opening>,
    warnings: Vec<String>,
}

impl Unplaced {
    fn with(self, sinks: Sinks) -> Proven {
        let Unplaced {
            member,
            manifest,
            opening,
            warnings,
        } = self;
        Proven {
            sinks,
            member,
            manifest,
            opening,
            warnings,
        }
    }
}

/// Takes one full backup; `before` is what all destinations of the cluster hold. `interrupted` ends it before its
/// manifest is written, and what goes on after that in a slower destination.
pub async fn full(
    job: &Job,
    destinations: Vec<Destination>,
    before: &Catalog,
    progress: &Progress,
    interrupted: impl Future<Output = ()>,
) -> Result<Outcome, Error> {
    let begun = Instant::now();
    progress.begin_again();
    let traces = Traces::new();
    tokio::pin!(interrupted);
    let prove =
        async |encoder: &mut Running, at_work| prove(job, destinations, before, progress, encoder, at_work).await;
    let Some(proven) = placed_unless(interrupted.as_mut(), &traces, prove).await else {
        return Err(placing::interrupted(traces).await);
    };
    let Proven {
        sinks,
        member,
        manifest,
        opening,
        warnings,
    } = proven?;
    if !manifest.faults.is_empty() && keeps_one_like_it(before, job, &manifest) {
        drop(sinks);
        let (faults, left) = (manifest.faults, traces.take_back(PATIENCE).await);
        return Err(Error::Wrong { member, faults, left });
    }
    let beside = Beside {
        pinned: job.pinned,
        note: job.note.as_ref(),
        host: &job.host,
    };
    let (document, destinations) = published(sinks, &manifest, beside, interrupted).await?;
    Ok(Outcome {
        unaccepted: manifest::unaccepted(before, &manifest, opening.as_ref()),
        member,
        manifest,
        document,
        opening,
        destinations,
        took: begun.elapsed(),
        warnings,
    })
}

/// Everything but the manifest's writing. The encoder is the caller's, to be aborted if this is not run to its end.
///
/// A member at fault is given up for the next one, unless it is the only one that is wanted.
async fn prove(
    job: &Job,
    destinations: Vec<Destination>,
    before: &Catalog,
    progress: &Progress,
    encoder: &mut Running,
    at_work: AtWork,
) -> Result<Proven, Error> {
    let started = (job.now)();
    let mut sinks = Sinks::sort_out(destinations, &progress.pulse, at_work)?;
    let mut given_up: Vec<GivenUp> = Vec::new();
    loop {
        let chosen = match choose_one(job, &given_up).await {
            Ok(chosen) => chosen,
            Err(no_choice) => return Err(none_left(given_up, no_choice)),
        };
        let name = chosen.name().to_owned();
        match prove_by(chosen, job, started, &mut sinks, before, progress, encoder).await {
            Ok(mut proven) => {
                proven
                    .warnings
                    .splice(0..0, given_up.iter().map(|member| member.told(&name)));
                return Ok(proven.with(sinks));
            }
            Err(error) if error.is_fault_of_member() && matches!(job.wanted, Wanted::Any { .. }) => {
                begin_again(encoder, progress).await;
                given_up.push(GivenUp { name, error });
            }
            // Those were only left behind, for others that could not take it: they get one of their own.
            Err(Error::NoDestination(_)) if sinks.can_go_again() => {
                begin_again(encoder, progress).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The same from one member.
async fn prove_by(
    chosen: Chosen,
    job: &Job,
    started: Timestamp,
    sinks: &mut Sinks,
    before: &Catalog,
    progress: &Progress,
    encoder: &mut Running,
) -> Result<Unplaced, Error> {
    let pulse = &progress.pulse;
    pulse.beat();
    let mut asked = chosen.ask().await?;
    pulse.beat();
    let mut warnings = asked.warnings();
    let path = ChainPath {
        cluster: asked.status.cluster,
        chain: job.chain.clone(),
    };
    // All before the stream is open: neither a plugin nor a store that hangs may hold etcd's read transaction.
    let foresee = async {
        asked.foresee(job.hash_kv, job.pace).await;
        pulse.beat();
    };
    let head = placing::begin(&job.encoding, sinks, &path, progress, foresee).await?;
    let mut stream = asked.connection.snapshot(job.idle_timeout).await?;
    let first = stream.next().await?;
    let times = Times {
        started,
        first_byte: (job.now)(),
    };
    let encoded = stream_through(head, job, sinks, stream, first, before, progress, encoder).await?;
    let facts = match encoded.observer.finish() {
        Ok(facts) => facts,
        Err(error) => {
            // What was begun must be gone before anybody is told.
            let given_up =
                tokio::task::spawn_blocking(|| encoded.branches.into_iter().for_each(|end| drop(end.join())));
            given_up.await.expect("a panic aborts the process");
            let url = asked.connection.url().to_owned();
            return Err(Error::Content { url, error });
        }
    };
    let stored = Stream {
        bytes: encoded.stored_bytes,
        sha256: encoded.stored_sha256,
    };
    let (url, version) = (asked.connection.url().to_owned(), asked.status.version.clone());
    let (committed, asserted, v2_keys) = tokio::join!(
        sinks.commit(encoded.branches, &path, &stored),
        asked.assert(job.hash_kv, &facts, pulse),
        etcd::holds_v2_keys(&url, &job.access.tls, &version)
    );
    pulse.beat();
    committed?;
    if let Err(reason) = &asserted.hash_kv {
        warnings.extend(job.hash_kv.misses(reason));
    }
    // Where this one is the one that is wrong, that is told as its fault.
    if let Verdict::Proven { .. } = asserted.verdict {
        warnings.extend(asserted.differs.clone());
    }
    warnings.extend(v2_keys.then(|| v2_keys_are_missing(&asked.name)));
    let descent = before.descent(&job.chain, &asked.new_backup(&facts));
    let opening = match &descent {
        Descent::Continues(_) | Descent::Opens(_, Opening::First) => None,
        Descent::Opens(_, opening) => Some(opening.clone()),
    };
    let lineage = descent.lineage().clone();
    Ok(Unplaced {
        member: asked.name.clone(),
        manifest: manifest::write(job, &asked, &path, &facts, stored, asserted, &times, lineage),
        opening,
        warnings,
    })
}

/// How long a backup whose data is wrong is enough: each attempt would leave another one.
const ONE_WRONG_WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// Whether a backup of this cluster whose data is wrong was kept a short while ago.
fn keeps_one_like_it(before: &Catalog, job: &Job, manifest: &Manifest) -> bool {
    let now = (job.now)();
    let mut outlines = before.backups().iter().map(Backup::manifest);
    outlines.any(|outline| outline.cluster == manifest.cluster.id && is_lately_wrong(outline, now))
}

/// Whether the data of a backup is wrong, and it was taken a short while ago.
pub fn is_lately_wrong(outline: &Outline, now: Timestamp) -> bool {
    !outline.faults.is_empty() && now.duration_since(outline.first_byte_at).abs() < ONE_WRONG_WITHIN
}

/// That a cluster holds what no snapshot has.
pub fn v2_keys_are_missing(member: &str) -> String {
    format!(
        "member {member} holds keys of the v2 API: no snapshot of etcd has them, and so no backup; migrate them to v3, or \
         copy the member's data directory"
    )
}

/// Sends the stream through the pipeline into every sink.
#[expect(
    clippy::too_many_arguments,
    reason = "where the stream comes from, what it passes and where it goes"
)]
async fn stream_through(
    head: Head,
    job: &Job,
    sinks: &mut Sinks,
    mut stream: SnapshotStream,
    first: Option<etcd::Chunk>,
    before: &Catalog,
    progress: &Progress,
    encoder: &mut Running,
) -> Result<Encoded<Observed, Sink>, Error> {
    let total = stream.promised().unwrap_or(0);
    progress.promise(total);
    sinks.refuse_without_space(total, before).await?;
    let running = encoder.insert(Encoder::start(head, total, Observed::new(total), sinks.take_uploads()));
    receive(&mut stream, first, running, progress, job).await?;
    drop(stream);
    finished(encoder, sinks).await
}

impl HashKvPolicy {
    /// A warning where HashKV was asked for and is missing.
    fn misses(self, reason: &str) -> Option<String> {
        match self {
            HashKvPolicy::Always => Some(format!("no HashKV: {reason}")),
            HashKvPolicy::Auto | HashKvPolicy::Never => None,
        }
    }
}

async fn receive(
    stream: &mut SnapshotStream,
    first: Option<etcd::Chunk>,
    encoder: &mut Encoder<Observed, Sink>,
    progress: &Progress,
    job: &Job,
) -> Result<(), Error> {
    let mut pacer = Pacer::new(job.pace);
    let mut slowness = Slowness::new(stream.promised().unwrap_or(0), job.finish_within, 2 * job.idle_timeout);
    let bytes_of = |chunk: &Option<etcd::Chunk>| chunk.as_ref().map_or(0, |chunk| chunk.bytes().len() as u64);
    let mut since = Instant::now();
    let mut next = first;
    slowness.after(bytes_of(&next), Duration::ZERO);
    while let Some(chunk) = next {
        progress.receive(chunk.bytes().len());
        // Where the stages are gone, finishing them tells why.
        if encoder.push(chunk.bytes()).await.is_err() {
            return Ok(());
        }
        if let Some(rest) = pacer.rest(chunk.bytes().len(), since.elapsed()) {
            let begun = Instant::now();
            tokio::time::sleep(rest).await;
            pacer.rested(rest, begun.elapsed());
        }
        since = Instant::now();
        next = stream.next().await?;
        if let Some(TooSlow { rate, received, left }) = slowness.after(bytes_of(&next), since.elapsed()) {
            return Err(Error::Slow {
                url: stream.url().to_owned(),
                rate: ByteSize(rate),
                received: ByteSize(received),
                total: ByteSize(stream.promised().unwrap_or(0)),
                left: in_seconds(left),
                within: in_seconds(job.finish_within),
            });
        }
    }
    Ok(())
}

fn in_seconds(duration: Duration) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}
