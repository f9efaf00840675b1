//! An open watch, and what is asked for beside it: what leases were granted, and the hash of a member.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::assembly::Assembly;
use super::{Settings, Sight};
use crate::etcd::{Access, Ahead, Member, Watching, auth_revision, survey};
use crate::model::{HashKv, Revision};

/// How long a cut waits for what leases were granted.
const WAIT_FOR_LEASES: Duration = Duration::from_secs(1);
/// How many leases are asked for at once.
const LEASES_AT_ONCE: usize = 64;
/// An only member is asked for its hash up to this size.
const LARGEST_HASHED_ALONE: u64 = 1 << 30;

/// An open watch and what goes with it.
pub(super) struct Watched {
    pub member: Member,
    pub watching: Watching,
    access: Access,
    /// What a version that may leave deletions out sends once more: the first and the last revision.
    pub replayed: Option<(Revision, Revision)>,
    pub asked: JoinSet<(i64, Option<Option<u64>>)>,
    pub hashing: JoinSet<Option<HashKv>>,
    /// How often users and roles were changed.
    pub auth: JoinSet<Option<u64>>,
    /// What there is once a full backup was taken beside.
    pub full: JoinSet<Option<Sight>>,
}

impl Watched {
    pub fn new(member: Member, watching: Watching, access: Access, replayed: Option<(Revision, Revision)>) -> Watched {
        Watched {
            member,
            watching,
            access,
            replayed,
            asked: JoinSet::new(),
            hashing: JoinSet::new(),
            auth: JoinSet::new(),
            full: JoinSet::new(),
        }
    }

    pub fn ask_for_lease(&mut self, lease: i64) {
        // More at once would hold up the changes; what is not known has the operator's default at a restore.
        if self.asked.len() >= LEASES_AT_ONCE {
            return;
        }
        let mut member = self.member.again();
        self.asked
            .spawn(async move { (lease, member.granted_ttl(lease).await.ok()) });
    }

    pub async fn wait_for_leases(&mut self, assembly: &mut Assembly) {
        let all = async {
            while let Some(found) = self.asked.join_next().await {
                keep_lease(assembly, found);
            }
        };
        tokio::time::timeout(WAIT_FOR_LEASES, all).await.ok();
    }

    pub fn ask_for_auth(&mut self) {
        let (url, access) = (self.member.url().to_owned(), self.access.clone());
        // Where it cannot be told, nothing is said to have changed.
        self.auth
            .spawn(async move { auth_revision(&url, &access).await.ok().flatten() });
    }

    pub fn ask_for_hash(&mut self, settings: &Arc<Settings>) {
        let (settings, access) = (settings.clone(), self.access.clone());
        self.hashing.spawn(async move { hash_of_one(&settings, &access).await });
    }
}

/// What a follower reports, or an only member that is not too large.
async fn hash_of_one(settings: &Settings, access: &Access) -> Option<HashKv> {
    let surveyed = survey(&settings.members, access, Ahead::Little).await;
    let is_alone = surveyed.len() == 1;
    for member in surveyed {
        let Ok(status) = &member.candidate.answer else { continue };
        let may = match is_alone {
            true => status.db_bytes <= LARGEST_HASHED_ALONE,
            false => !status.leads() && !status.learner && status.leader.is_some() && !status.is_corrupt(),
        };
        if may && let Some(mut connection) = member.connection {
            return connection.hash_kv_now().await.ok();
        }
    }
    None
}

pub(super) fn keep_lease(assembly: &mut Assembly, found: Result<(i64, Option<Option<u64>>), JoinError>) {
    let Ok((lease, Some(granted))) = found else {
        return;
    };
    // A lease is always within what can be.
    assembly.keep_lease(lease, granted).ok();
}
