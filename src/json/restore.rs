//! `restore`, and with `--dry-run` what it is going to do.

use std::collections::BTreeMap;

use serde::Serialize;

use super::shown;
use crate::etcd_settings::Change;
use crate::jobs::restore::{seconds_down, was_down};
use crate::model::{ClusterId, HashKv, MemberId, Revision};
use crate::restore::{Ledger, Outcome, Plan, flags, kept_path};

/// What a restore is going to do.
#[derive(Debug, Serialize)]
pub struct PlanDocument<'a> {
    schema: u32,
    dry_run: bool,
    data_dir: String,
    wal_dir: Option<String>,
    member_id: Option<MemberId>,
    cluster_id: Option<ClusterId>,
    cluster_token: Option<&'a str>,
    revision: Revision,
    hash_kv: Option<HashKv>,
    keys: Option<u64>,
    bytes: u64,
    bump: u64,
    quota_bytes: Option<u64>,
    down_seconds_expected: u64,
    flags: BTreeMap<&'static str, String>,
    warnings: &'a [String],
    settings_to_change: &'a [Change],
    plan: &'a Plan,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    id: String,
    outcome: &'static str,
    reason: Option<&'a str>,
    waiting: Option<Waiting>,
    data_dir: String,
    wal_dir: Option<String>,
    member_id: Option<MemberId>,
    cluster_id: Option<ClusterId>,
    cluster_token: Option<&'a str>,
    revision: Option<Revision>,
    hash_kv: Option<HashKv>,
    live_keys: Option<u64>,
    kept: Option<String>,
    down_seconds: Option<f64>,
    flags: BTreeMap<&'static str, String>,
    warnings: &'a [String],
    settings_to_change: &'a [Change],
}

#[derive(Debug, Serialize)]
struct Waiting {
    there: usize,
    of: usize,
}

impl<'a> PlanDocument<'a> {
    /// The document of a plan, whose backup has so many keys.
    pub fn of(plan: &'a Plan, keys: Option<u64>, warnings: &'a [String], to_change: &'a [Change]) -> PlanDocument<'a> {
        let (host, backup) = (&plan.host, &plan.cluster.backup);
        PlanDocument {
            schema: 1,
            dry_run: true,
            data_dir: shown(&host.site.data_dir),
            wal_dir: host.site.wal_dir.as_deref().map(shown),
            member_id: host.identity.as_ref().map(|is| is.member_id),
            cluster_id: plan.cluster_id(),
            cluster_token: host.identity.as_ref().map(|is| &*is.token),
            revision: backup.revision,
            // What was reported is of the full backup.
            hash_kv: backup.hash_kv.filter(|_| backup.full.is_none()),
            keys,
            bytes: backup.bytes,
            bump: plan.cluster.bump.by,
            quota_bytes: host.site.quota_bytes,
            down_seconds_expected: seconds_down(plan),
            flags: flags(plan),
            warnings,
            settings_to_change: to_change,
            plan,
        }
    }
}

impl<'a> Document<'a> {
    /// The document of a restore that is done, or waits for others.
    pub fn of(
        ledger: &'a Ledger,
        outcome: &Outcome,
        warnings: &'a [String],
        settings_to_change: &'a [Change],
    ) -> Document<'a> {
        let plan = &ledger.plan;
        let built = ledger.built.as_ref();
        Document {
            schema: 1,
            id: plan.host.id.to_string(),
            outcome: match outcome {
                Outcome::Restored => "restored",
                Outcome::Waiting { .. } => "waiting",
                Outcome::Undone { .. } => "undone",
            },
            reason: ledger.reason.as_deref(),
            waiting: match outcome {
                Outcome::Waiting { there } => Some(Waiting {
                    there: *there,
                    of: plan.peers().count(),
                }),
                Outcome::Restored | Outcome::Undone { .. } => None,
            },
            data_dir: shown(&plan.host.site.data_dir),
            wal_dir: plan.host.site.wal_dir.as_deref().map(shown),
            member_id: plan.host.identity.as_ref().map(|is| is.member_id),
            cluster_id: plan.cluster_id(),
            cluster_token: plan.host.identity.as_ref().map(|is| &*is.token),
            revision: built.map(|built| built.revision),
            hash_kv: built.map(|built| built.hash_kv),
            live_keys: built.map(|built| built.live_keys),
            kept: ledger
                .had_data()
                .then(|| shown(&kept_path(&plan.host.site.data_dir, &plan.host.id))),
            down_seconds: was_down(ledger),
            flags: flags(plan),
            warnings,
            settings_to_change,
        }
    }
}
