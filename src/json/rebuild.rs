//! `rebuild`.

use std::path::Path;

use serde::Serialize;

use super::Used;
use crate::jobs::rebuild::{Flags, Made};
use crate::keyspace::Lease;
use crate::model::{ClusterId, HashKv, MemberId, Revision};
use crate::rebuild::{Applied, ContentProof, Salvaged};

/// The data directory that was laid out.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    backup: Option<Used>,
    data_dir: &'a Path,
    wal_dir: Option<&'a Path>,
    member_id: MemberId,
    cluster_id: ClusterId,
    cluster_token: &'a str,
    revision: Revision,
    hash_kv: HashKv,
    proof: &'static str,
    live_keys: u64,
    database_bytes: u64,
    leases: Vec<LeaseDocument>,
    auth_enabled: bool,
    salvaged: Option<SalvagedDocument>,
    applied: Option<AppliedDocument>,
    flags: &'a Flags,
    warnings: &'a [String],
}

#[derive(Debug, Serialize)]
struct SalvagedDocument {
    entries: u64,
    uncommitted_entries: u64,
    from_revision: Option<Revision>,
    to_revision: Option<Revision>,
    torn: bool,
}

#[derive(Debug, Serialize)]
struct AppliedDocument {
    from_revision: Revision,
    to_revision: Revision,
    revisions: u64,
    changes: u64,
    deltas: u64,
    checkpoints: u64,
    matched_revision: Option<Revision>,
    not_compared: u64,
}

#[derive(Debug, Serialize)]
struct LeaseDocument {
    id: String,
    ttl_seconds: i64,
}

impl<'a> Document<'a> {
    /// The document of what was made.
    pub fn of(made: &'a Made<'_>) -> Document<'a> {
        let (plan, rebuilt) = (made.plan, made.rebuilt);
        Document {
            schema: 1,
            backup: made.manifest.map(Used::of),
            data_dir: &plan.data_dir,
            wal_dir: plan.wal_dir.as_deref(),
            member_id: plan.member.id,
            cluster_id: plan.membership.cluster_id(),
            cluster_token: made.token,
            revision: rebuilt.revision,
            hash_kv: rebuilt.hash_kv,
            proof: match rebuilt.proof {
                ContentProof::Content => "content",
                ContentProof::HashKv => "hash_kv",
            },
            live_keys: rebuilt.live_keys,
            database_bytes: rebuilt.database_bytes,
            leases: rebuilt.leases.iter().map(LeaseDocument::of).collect(),
            auth_enabled: rebuilt.auth.enabled,
            salvaged: rebuilt.salvaged.map(SalvagedDocument::of),
            applied: rebuilt.applied.map(AppliedDocument::of),
            flags: &made.flags,
            warnings: &made.warnings,
        }
    }
}

impl SalvagedDocument {
    fn of(salvaged: Salvaged) -> SalvagedDocument {
        SalvagedDocument {
            entries: salvaged.entries,
            uncommitted_entries: salvaged.uncommitted,
            from_revision: salvaged.first,
            to_revision: salvaged.first.map(|_| salvaged.last),
            torn: salvaged.torn.is_some(),
        }
    }
}

impl AppliedDocument {
    fn of(applied: Applied) -> AppliedDocument {
        AppliedDocument {
            from_revision: applied.from,
            to_revision: applied.to,
            revisions: applied.revisions,
            changes: applied.changes,
            deltas: applied.deltas,
            checkpoints: applied.checkpoints.found,
            matched_revision: applied.checkpoints.matched,
            not_compared: applied.checkpoints.not_compared,
        }
    }
}

impl LeaseDocument {
    fn of(lease: &Lease) -> LeaseDocument {
        LeaseDocument {
            id: lease.id.to_string(),
            ttl_seconds: lease.ttl_seconds,
        }
    }
}
