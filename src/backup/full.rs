//! A full backup, from the choice of a member to the manifest.
//!
//! Invariant: a manifest is written only for bytes whose digest etcd gave, that were read back from the disk, and whose
//! content told its own revision.
//! Invariant: whatever happens before, nothing is left that a listing takes for a backup.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::observed::{ContentError, Facts, Observed};
use super::{Progress, observed};
use crate::catalog::{
    self, Catalog, ChainPath, Cluster, CompactRevision, Kind, Manifest, NewBackup, ObjectName, Opening, Origin, Quorum,
    Stream, Writer,
};
use crate::etcd::choose::{self, NoChoice, Role, Wanted, choose};
use crate::etcd::{self, Access, Endpoints, Listed, Member, SnapshotStream, Status, survey};
use crate::model::{ByteSize, ChainId, ClusterName, Digest, HashKv, LineageId, Revision};
use crate::pipeline::{BranchError, EncodeError, Encoded, Encoder, Encoding};
use crate::state::Run;
use crate::store::{self, FileStore, Upload};

/// An only member is asked for HashKV up to this size: its clients wait meanwhile.
const HASH_KV_ALONE_BYTES: u64 = 1 << 30;

/// Room that is left on a destination beside the backup itself.
const SPARE_BYTES: u64 = 64 << 20;

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
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Its members.
    pub members: Vec<Endpoints>,
    /// Which of them to ask.
    pub wanted: Wanted,
    /// How to get in.
    pub access: Access,
    /// Whether to ask for HashKV.
    pub hash_kv: HashKvPolicy,
    /// The longest silence of the member.
    pub idle_timeout: Duration,
    /// Compression and encryption.
    pub encoding: Encoding,
    /// Why the backup is taken.
    pub origin: Origin,
    /// The operator's words.
    pub note: Option<String>,
    /// Excluded from retention from its first moment.
    pub pin: bool,
    /// Who takes it.
    pub writer: Writer,
}

/// A place to write to, opened or not.
pub struct Destination {
    /// Its name in the configuration.
    pub name: String,
    /// The store, or why it cannot be used.
    pub store: Result<FileStore, store::Error>,
}

/// What became of one destination.
#[derive(Debug)]
pub struct Written {
    /// Its name.
    pub destination: String,
    /// The error that kept the backup out of it.
    pub result: Result<(), DestinationError>,
}

/// Why a destination does not have the backup.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It failed or fell behind while the stream ran.
    #[error(transparent)]
    Stream(#[from] BranchError),
    /// It has too little room.
    #[error("needs about {needed} and has {free} free")]
    TooLittleSpace {
        /// An estimate of the stored size.
        needed: ByteSize,
        /// What there is.
        free: ByteSize,
    },
    /// What was read back is not what was written.
    #[error("`{object}` read back differs from what was written: {found} instead of {written}")]
    ReadBack {
        /// The object, which has been removed again.
        object: ObjectName,
        /// Its digest.
        found: Digest,
        /// What it should be.
        written: Digest,
    },
}

/// A backup that was taken.
#[derive(Debug)]
pub struct Outcome {
    /// Its manifest.
    pub manifest: Manifest,
    /// Whether it opened a new lineage although there was another.
    pub new_lineage: Option<NewLineage>,
    /// Every destination, in the order given. At least one succeeded.
    pub destinations: Vec<Written>,
    /// How long it took.
    pub took: Duration,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// A history that does not continue the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLineage {
    /// The lineage before.
    pub before: LineageId,
    /// Why this backup does not belong to it.
    pub reason: String,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No member to ask.
    #[error(transparent)]
    NoMember(#[from] NoChoice),
    /// The member failed.
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    /// The bytes are not a sound snapshot.
    #[error("the snapshot from {url} is not sound: {error}")]
    Content {
        /// The member's endpoint.
        url: String,
        /// What is wrong.
        error: ContentError,
    },
    /// Compression or encryption failed.
    #[error(transparent)]
    Encode(EncodeError),
    /// No destination has it.
    #[error("no destination has the backup: {}", reasons(.0))]
    NoDestination(Vec<Written>),
    /// Somebody asked to stop.
    #[error("interrupted; nothing was kept")]
    Interrupted,
}

fn reasons(written: &[Written]) -> String {
    let reasons = written.iter().filter_map(|written| {
        let error = written.result.as_ref().err()?;
        Some(format!("{}: {error}", written.destination))
    });
    reasons.collect::<Vec<_>>().join("; ")
}

/// The member that is asked, and what it said of itself and its cluster.
struct Asked {
    connection: Member,
    status: Status,
    role: Role,
    quorum: Quorum,
    name: String,
    voters: usize,
}

/// The times of one backup.
struct Times {
    started: Timestamp,
    first_byte: Timestamp,
}

/// Takes one full backup. `interrupted` ends it before its manifest is written.
pub async fn full(
    job: &Job,
    destinations: Vec<Destination>,
    run: &mut Run,
    progress: Arc<Progress>,
    interrupted: impl Future<Output = ()>,
) -> Result<Outcome, Error> {
    let begun = Instant::now();
    let mut interrupted = pin!(interrupted);
    let mut warnings = Vec::new();
    let (mut open, mut failed) = sort_out(destinations);
    let mut asked = tokio::select! {
        asked = ask(job) => asked?,
        () = &mut interrupted => return Err(Error::Interrupted),
    };
    let started = Timestamp::now();
    let chain = ChainId::new(started, random());
    let path = ChainPath {
        cluster: asked.status.cluster,
        chain: chain.clone(),
    };
    warnings.extend(asked.warning());
    let before = catalogs(&mut open, &mut failed).await;
    warnings.extend(before.damaged().iter().map(|damaged| format!("{damaged}: {}", damaged.fault)));

    let mut stream = asked.connection.snapshot(job.idle_timeout).await?;
    let first = stream.next().await?;
    let first_byte = Timestamp::now();
    let total = stream.promised().unwrap_or(0);
    progress.promise(total);
    refuse_without_space(&mut open, &mut failed, total, &before);
    let uploads = begin(&mut open, &mut failed, &path, run).await?;
    let mut encoder = Encoder::start(&job.encoding, total, Observed::new(total), uploads).map_err(Error::Encode)?;
    let streamed = tokio::select! {
        streamed = receive(&mut stream, first, &mut encoder, &progress) => streamed,
        () = &mut interrupted => Err(Error::Interrupted),
    };
    drop(stream);
    if let Err(error) = streamed {
        encoder.abort().await;
        return Err(error);
    }
    let encoded = encoder.finish().await;
    let encoded = encoded.map_err(|error| no_sink(error, &open, &mut failed))?;
    let Encoded {
        observer,
        stored_bytes,
        stored_sha256,
        branches,
    } = encoded;
    let facts = observer.finish().map_err(|error| Error::Content {
        url: asked.connection.url().to_owned(),
        error,
    })?;
    let stored = Stream {
        bytes: stored_bytes,
        sha256: stored_sha256,
    };
    let times = Times { started, first_byte };
    let (committed, proof) = tokio::join!(
        commit(open, branches, &path, stored.clone(), &mut failed),
        asked.prove(job.hash_kv, &facts),
    );
    if futures_ready(&mut interrupted).await {
        withdraw(committed, &path).await;
        return Err(Error::Interrupted);
    }
    let opening = lineage(&before, &asked, &facts, &chain);
    let manifest = manifest(job, &asked, &path, facts, stored, proof, times, opening.lineage().clone());
    let destinations = publish(committed, &manifest, job.pin, failed).await?;
    Ok(Outcome {
        new_lineage: new_lineage(&opening),
        manifest,
        destinations,
        took: begun.elapsed(),
        warnings,
    })
}
