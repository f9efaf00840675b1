//! A full backup that etcd was not asked for: a snapshot that was made of an earlier full backup and the deltas behind it,
//! brought to its destinations as every other one.
//!
//! Invariant: a manifest is written only for bytes that read back equal, and whose content is what was made: the same
//! digest, the same revision, and a structure that nothing was found wrong with.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::Progress;
use super::destinations::{PATIENCE, Sinks};
use super::failure::Error;
use super::full::Outcome;
use super::placing::{self, Beside, Running, begin_again, finished, placed_unless, published};
use super::sink::Sink;
use super::snapshot_observer::{Facts, Observed, Structure};
use super::uncommitted::{AtWork, Traces};
use crate::catalog::{Catalog, Pinned};
use crate::destinations::Destination;
use crate::error_chain::with_causes;
use crate::etcd::DIGEST_BYTES;
use crate::layout::{
    self, ChainPath, CompactRevision, HostName, Manifest, ObjectName, Origin, Proof, Stream, Synthetic, Writer,
};
use crate::model::{ChainId, Digest, HashKv, Revision};
use crate::pipeline::{Encoded, Encoder, Encoding};

/// How much is read at once.
const BLOCK: u64 = 1 << 20;

/// The snapshot that was made, and what is known of it.
#[derive(Debug)]
pub struct Made {
    /// All of it, its digest included. Nobody else has it.
    pub file: Arc<File>,
    /// Its length and digest.
    pub plain: Stream,
    /// The revision.
    pub revision: Revision,
    /// When that was the last one.
    pub time: Timestamp,
    /// Keys that live.
    pub keys: u64,
    /// What a member has reported of just this revision, if it was compared and is equal.
    pub reported: Option<HashKv>,
    /// What it was made of.
    pub of: Synthetic,
}

/// What to store, and how.
pub struct SyntheticJob {
    /// The id of the backup to be.
    pub chain: ChainId,
    /// The manifest of the full backup that it was made of.
    pub base: Manifest,
    /// The snapshot.
    pub made: Made,
    /// Compression and encryption.
    pub encoding: Encoding,
    /// The operator's words.
    pub note: Option<String>,
    /// Whether it is excluded from retention from its first moment.
    pub pinned: Pinned,
    /// Who made it.
    pub writer: Writer,
    /// On which host.
    pub host: HostName,
    /// When that began.
    pub started: Timestamp,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// Stores it; `before` is what all destinations of the cluster hold. `interrupted` ends it before its manifest is written, and
/// what goes on after that in a slower destination.
pub async fn synthetic(
    job: &SyntheticJob,
    destinations: Vec<Destination>,
    before: &Catalog,
    progress: &Progress,
    interrupted: impl Future<Output = ()>,
) -> Result<Outcome, Error> {
    let begun = Instant::now();
    progress.begin_again();
    let traces = Traces::new();
    tokio::pin!(interrupted);
    let place =
        async |encoder: &mut Running, at_work| place(job, destinations, before, progress, encoder, at_work).await;
    let Some(placed) = placed_unless(interrupted.as_mut(), &traces, place).await else {
        return Err(placing::interrupted(traces).await);
    };
    let (sinks, manifest) = match placed {
        Ok(placed) => placed,
        Err(error @ Error::OtherThanMade { .. }) => {
            traces.take_back(PATIENCE).await;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let beside = Beside {
        pinned: job.pinned,
        note: job.note.as_ref(),
        host: &job.host,
    };
    let (document, destinations) = published(sinks, &manifest, beside, interrupted).await?;
    Ok(Outcome {
        member: job.base.member.name.clone(),
        manifest,
        document,
        opening: None,
        destinations,
        took: begun.elapsed(),
        unaccepted: None,
        warnings: Vec::new(),
    })
}

/// Everything but the manifest's writing. The encoder is the caller's, to be aborted if this is not run to its end.
async fn place(
    job: &SyntheticJob,
    destinations: Vec<Destination>,
    before: &Catalog,
    progress: &Progress,
    encoder: &mut Running,
    at_work: AtWork,
) -> Result<(Sinks, Manifest), Error> {
    let mut sinks = Sinks::sort_out(destinations, &progress.pulse, at_work)?;
    loop {
        match place_in(job, &mut sinks, before, progress, encoder).await {
            Ok(manifest) => return Ok((sinks, manifest)),
            // Those were only left behind, for others that could not take it: they get one of their own.
            Err(Error::NoDestination(_)) if sinks.can_go_again() => {
                begin_again(encoder, progress).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn place_in(
    job: &SyntheticJob,
    sinks: &mut Sinks,
    before: &Catalog,
    progress: &Progress,
    encoder: &mut Running,
) -> Result<Manifest, Error> {
    let path = ChainPath {
        cluster: job.base.cluster.id,
        chain: job.chain.clone(),
    };
    let total = job.made.plain.bytes;
    let head = placing::begin(&job.encoding, sinks, &path, progress, async {}).await?;
    progress.promise(total);
    sinks.refuse_without_space(total, before).await?;
    let running = encoder.insert(Encoder::start(head, total, Observed::new(total), sinks.take_uploads()));
    pass(&job.made, running, progress).await?;
    let Encoded {
        observer,
        stored_bytes,
        stored_sha256,
        branches,
    } = finished(encoder, sinks).await?;
    let facts = match seen(observer, &job.made) {
        Ok(facts) => facts,
        Err(error) => {
            // What was begun must be gone before anybody is told.
            let given_up = tokio::task::spawn_blocking(|| branches.into_iter().for_each(|end| drop(end.join())));
            given_up.await.expect("a panic aborts the process");
            return Err(error);
        }
    };
    let stored = Stream {
        bytes: stored_bytes,
        sha256: stored_sha256,
    };
    sinks.commit(branches, &path, &stored).await?;
    progress.pulse.beat();
    Ok(manifest(job, &path, &facts, stored))
}

/// Sends all of the file through the pipeline.
async fn pass(made: &Made, encoder: &mut Encoder<Observed, Sink>, progress: &Progress) -> Result<(), Error> {
    let mut at = 0;
    while at < made.plain.bytes {
        let (file, length) = (made.file.clone(), (made.plain.bytes - at).min(BLOCK));
        let read = tokio::task::spawn_blocking(move || {
            let mut block = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut block, at).map(|()| block)
        });
        let block = read.await.expect("a panic aborts the process");
        let block = block.map_err(|error| other(&format!("it cannot be read: {error}")))?;
        progress.receive(block.len());
        // Where the stages are gone, finishing them tells why.
        if encoder.push(&block).await.is_err() {
            return Ok(());
        }
        at += length;
    }
    Ok(())
}

/// What passed, where it is what was made.
fn seen(observer: Observed, made: &Made) -> Result<Facts, Error> {
    let facts = observer.finish().map_err(|error| other(&with_causes(&error)))?;
    if facts.sha256 != made.plain.sha256 || facts.revision != made.revision {
        return Err(other("its digest or its revision is another"));
    }
    match &facts.structure {
        Structure::Damaged(faults) => Err(other(&faults.join("; "))),
        // All of it was looked at when it was made, and these are the same bytes.
        Structure::Whole(_) | Structure::Unseen => Ok(facts),
    }
}

fn other(what: &str) -> Error {
    Error::OtherThanMade { what: what.to_owned() }
}

/// How far it is proven by what members have reported, and what to say where that is not all the way.
fn proven(made: &Made) -> (Proof, Option<String>) {
    if made.reported.is_some() {
        return (Proof::HashKv, None);
    }
    let at = made.revision;
    let so_far = match made.of.matched {
        Some(matched) => format!(
            "HashKV is equal up to the last report, at revision {}; what is behind that is held to its order alone",
            matched.revision
        ),
        None => "no report of a member is in the deltas: what they hold is held to its order alone".to_owned(),
    };
    let reason = format!("made of deltas, and no member has reported HashKV at revision {at}: {so_far}");
    (Proof::Content, Some(reason))
}

fn manifest(job: &SyntheticJob, path: &ChainPath, facts: &Facts, stored: Stream) -> Manifest {
    let (base, made) = (&job.base, &job.made);
    let (proof, reason) = proven(made);
    Manifest {
        format: layout::FORMAT,
        chain: path.chain.clone(),
        from_revision: made.revision,
        to_revision: made.revision,
        compact_revision: CompactRevision {
            scheduled: facts.meta.compaction.scheduled,
            finished: facts.meta.compaction.finished,
        },
        storage_version: facts.meta.storage_version.as_ref().map(ToString::to_string),
        raft_term: facts.meta.term,
        consistent_index: facts.meta.consistent_index,
        started_at: job.started,
        first_byte_at: made.time,
        finished_at: (job.now)(),
        object: ObjectName::Full(path.clone()).to_string(),
        plain: Stream {
            bytes: facts.database_bytes + DIGEST_BYTES,
            sha256: Digest(facts.sha256.0),
        },
        stored,
        hash_kv: made.reported,
        // Data that is in doubt is not less so for what was written behind it.
        hash_kv_reason: match (base.doubt(), made.reported) {
            (Some(_), None) => base.hash_kv_reason.clone(),
            (_, _) => reason.clone(),
        },
        proof: Some(proof),
        proof_reason: reason,
        faults: Vec::new(),
        keys: Some(made.keys),
        recipients: job.encoding.recipients.iter().map(ToString::to_string).collect(),
        origin: Origin::Synthetic,
        rewrapped: None,
        synthetic: Some(made.of.clone()),
        schedule: None,
        slot: None,
        note: job.note.clone(),
        writer: job.writer.clone(),
        previous: None,
        ..base.clone()
    }
}
