//! What is written down of a full backup, and what is said of the history that it belongs to.

use super::full::{Job, Times};
use super::member::{Asked, Asserted};
use super::proof::Verdict;
use super::snapshot_observer::Facts;
use crate::catalog::{Catalog, LatestError, Opening};
use crate::etcd;
use crate::layout::{self, ChainPath, Cluster, CompactRevision, Kind, Manifest, ObjectName, Proof, Stream};
use crate::model::LineageId;

/// The manifest of a backup that is whole, as it is stored.
#[expect(clippy::too_many_arguments, reason = "a manifest is all there is to say of a backup")]
pub(super) fn write(
    job: &Job,
    asked: &Asked,
    path: &ChainPath,
    facts: &Facts,
    stored: Stream,
    asserted: Asserted,
    times: &Times,
    lineage: LineageId,
) -> Manifest {
    let (hash_kv, hash_kv_reason) = match asserted.hash_kv {
        Ok(hash) => (Some(hash), None),
        Err(reason) => (None, Some(reason)),
    };
    let (proof, proof_reason, faults) = match asserted.verdict {
        Verdict::Proven { proof, short_of } => (proof, short_of, Vec::new()),
        Verdict::Wrong(faults) => (Proof::None, None, faults),
    };
    Manifest {
        format: layout::FORMAT,
        kind: Kind::Full,
        lineage,
        cluster: Cluster {
            name: job.cluster.clone(),
            id: path.cluster,
        },
        chain: path.chain.clone(),
        from_revision: facts.revision,
        to_revision: facts.revision,
        compact_revision: CompactRevision {
            scheduled: facts.meta.compaction.scheduled,
            finished: facts.meta.compaction.finished,
        },
        member: layout::Member {
            id: asked.status.member,
            name: asked.own_name.clone(),
        },
        etcd_version: asked.status.version.clone(),
        storage_version: facts.meta.storage_version.as_ref().map(ToString::to_string),
        raft_term: facts.meta.term,
        consistent_index: facts.meta.consistent_index,
        started_at: times.started,
        first_byte_at: times.first_byte,
        finished_at: (job.now)(),
        object: ObjectName::Full(path.clone()).to_string(),
        plain: Stream {
            bytes: facts.database_bytes + etcd::DIGEST_BYTES,
            sha256: facts.sha256,
        },
        stored,
        hash_kv,
        hash_kv_reason,
        proof: Some(proof),
        proof_reason,
        faults,
        keys: asserted.keys,
        recipients: job.encoding.recipients.iter().map(ToString::to_string).collect(),
        origin: job.origin,
        rewrapped: None,
        synthetic: None,
        schedule: job.schedule.clone(),
        slot: job.slot,
        note: job.note.clone(),
        writer: job.writer.clone(),
        previous: None,
    }
}

/// What to say when the backup is not of the history that `latest` is taken from.
pub(super) fn unaccepted(before: &Catalog, manifest: &Manifest, opening: Option<&Opening>) -> Option<String> {
    let lineage = &manifest.lineage;
    if let (Some(Opening::Fell { from_lineage, .. }), Some(0)) = (opening, manifest.keys) {
        let full = before.lineages().into_iter().find(|known| known.id == *from_lineage);
        if let Some(full) = full.filter(|full| !full.is_empty()) {
            let keys = full.keys.map_or("more".to_owned(), |keys| keys.to_string());
            return Some(format!(
                "etcd came back empty: 0 keys; before {keys}. Bring them back with `lifeboat restore {}`. If the empty one is \
                 meant, `lifeboat accept-lineage {lineage}`; until then `latest` refuses, and nothing of the others is lost",
                full.newest
            ));
        }
    }
    if let Some(opening) = opening {
        return Some(format!(
            "this is a new history, lineage {lineage}: {opening}. `latest` refuses until you confirm which history to \
             continue with `lifeboat accept-lineage LINEAGE`; nothing of the others is lost"
        ));
    }
    match before.accepted_lineage() {
        Ok(accepted) if accepted.id != *lineage => Some(format!(
            "this backup is of lineage {lineage}, but {} is the accepted one: is this the right etcd?",
            accepted.id
        )),
        Err(LatestError::Unaccepted { .. }) => Some(format!(
            "there is more than one history, and this backup is of lineage {lineage}: `latest` refuses until you confirm \
             one with `lifeboat accept-lineage LINEAGE`"
        )),
        Ok(_) | Err(_) => None,
    }
}
