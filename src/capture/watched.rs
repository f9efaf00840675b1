//! An open watch, and what is asked for beside it: what leases were granted, and the hash of a member.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use super::assembly::Assembly;
use super::follow::blocking;
use super::{Settings, Sight, Surroundings};
use crate::etcd::{Access, Ahead, Member, Watching, auth_revision, survey};
use crate::model::{HashKv, Revision};

/// How long a cut waits for what leases were granted.
const WAIT_FOR_LEASES: Duration = Duration::from_secs(1);
/// How many leases are asked for at once.
const LEASES_AT_ONCE: usize = 64;
/// An only member is asked for its hash up to this size.
const LARGEST_HASHED_ALONE: u64 = 1 << 30;

/// How often a process looks whether it was held up.
const PULSE: Duration = Duration::from_secs(1);

/// Whether the process was held up: stopped, or on a machine that stood still. What it knows of others is old then.
#[derive(Debug)]
pub(super) struct Pulse(Instant);

impl Pulse {
    /// Nothing has held it up yet.
    pub fn begun(now: Instant) -> Pulse {
        Pulse(now)
    }

    /// Resolves when it was held up for longer than that. Dropped and asked again, it forgets nothing.
    pub async fn held_up(&mut self, longer_than: Duration) {
        loop {
            tokio::time::sleep_until((self.0 + PULSE).into()).await;
            let now = Instant::now();
            let held = now.duration_since(self.0);
            self.0 = now;
            if held > longer_than {
                return;
            }
        }
    }
}

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
    /// What there is once a full backup was taken beside, or it was looked again.
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

    /// Has it looked what the destinations hold now.
    pub fn look_again(&mut self, around: &Arc<dyn Surroundings>) {
        let around = around.clone();
        self.full
            .spawn(async move { blocking(move || around.look()).await.ok() });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_was_held_up_learns_of_it_and_one_that_was_not_does_not() {
        let patience = Duration::from_secs(2);
        let long_ago = Instant::now() - Duration::from_secs(5);
        Pulse::begun(long_ago).held_up(patience).await;
        let mut pulse = Pulse::begun(Instant::now());
        for _ in 0..15 {
            let asked = tokio::time::timeout(Duration::from_millis(100), pulse.held_up(patience));
            assert!(asked.await.is_err());
        }
    }
}
