//! What changes come from, and what is asked for beside it: what leases were granted, the hash of a member, what no watch shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use super::assembly::Assembly;
use super::catching_up::{CatchingUp, Caught};
use super::follow::blocking;
use super::hashes::{Report, report};
use super::leases::Leases;
use super::unwatched::{self, Told as ToldBeside};
use super::{Settings, Sight, Surroundings};
use crate::etcd::{Access, Heard, Member, WatchEnd, Watching};
use crate::model::{ClusterId, MemberId, Revision};

/// How long a cut waits for what leases were granted.
const WAIT_FOR_LEASES: Duration = Duration::from_secs(1);
/// How many leases are asked for at once.
const LEASES_AT_ONCE: usize = 64;
/// How long it is until leases are asked for again, where one could not be.
const LEASES_AGAIN: Duration = Duration::from_secs(1);

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

    /// For how long it has not looked: about a second at the most, where it was not held up.
    pub fn age(&self) -> Duration {
        self.0.elapsed()
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

/// A lease, and what it was granted where that could be asked for: none where it is gone.
pub(super) type Told = (i64, Option<Option<u64>>);

/// What changes come from.
pub(super) enum Changes {
    /// A watch.
    Watch(Box<Watching>),
    /// A snapshot of etcd, as far as that goes.
    Snapshot(CatchingUp),
}

/// What came of it.
pub(super) enum Came {
    /// Changes, or word that there are none.
    Heard(Heard),
    /// Nothing more comes of the watch.
    Ended(WatchEnd),
    /// Nothing more comes of the snapshot: all was handed out, or it came to nothing for this reason.
    Drawn(Result<(), String>),
}

impl Changes {
    /// What comes next; waits for it as long as it takes. Dropped and asked again, it loses nothing.
    pub async fn next(&mut self) -> Came {
        match self {
            Changes::Watch(watching) => watching.next().await.map_or_else(Came::Ended, Came::Heard),
            Changes::Snapshot(catching_up) => match catching_up.next().await {
                Ok(Caught::Revisions(whole)) => Came::Heard(Heard { whole, is_all: false }),
                Ok(Caught::All) => Came::Drawn(Ok(())),
                Err(why) => Came::Drawn(Err(why)),
            },
        }
    }

    pub fn is_snapshot(&self) -> bool {
        matches!(self, Changes::Snapshot(_))
    }
}

/// A member that is watched, and what goes with it.
pub(super) struct Watched {
    pub member: Member,
    /// Which member that is.
    id: MemberId,
    /// Its version.
    pub version: String,
    pub changes: Changes,
    pub access: Access,
    /// What a version that may leave deletions out sends once more: the first and the last revision.
    pub replayed: Option<(Revision, Revision)>,
    pub asked: JoinSet<Told>,
    /// When leases are asked for again, where one could not be.
    pub ask_again_at: Option<Instant>,
    pub hashing: JoinSet<Option<Report>>,
    /// What no watch shows.
    pub told: JoinSet<ToldBeside>,
    /// What there is once a full backup was taken beside, or it was looked again.
    pub full: JoinSet<Option<Sight>>,
}

impl Watched {
    pub fn new(
        (member, id, version): (Member, MemberId, String),
        access: Access,
        (changes, replayed): (Changes, Option<(Revision, Revision)>),
    ) -> Watched {
        Watched {
            member,
            id,
            version,
            changes,
            access,
            replayed,
            asked: JoinSet::new(),
            ask_again_at: None,
            hashing: JoinSet::new(),
            told: JoinSet::new(),
            full: JoinSet::new(),
        }
    }

    /// Asks for leases that wait, so many at once that changes are not held up.
    pub fn ask_for_leases(&mut self, leases: &mut Leases) {
        if self.ask_again_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.ask_again_at = None;
        while self.asked.len() < LEASES_AT_ONCE
            && let Some(lease) = leases.next()
        {
            let mut member = self.member.again();
            self.asked
                .spawn(async move { (lease, granted_ttl(&mut member, lease).await) });
        }
    }

    /// Keeps what was told of a lease beside the changes, and asks for the next.
    pub fn keep_lease(&mut self, assembly: &mut Assembly, leases: &mut Leases, told: Result<Told, JoinError>) {
        match told {
            Ok((lease, Some(granted))) => {
                // A lease is always within what can be.
                assembly.keep_lease(lease, granted).ok();
                leases.kept(lease);
            }
            Ok((lease, None)) => {
                leases.not_told(lease);
                self.ask_again_at = Some(Instant::now() + LEASES_AGAIN);
            }
            Err(_) => {}
        }
        self.ask_for_leases(leases);
    }

    /// Waits a while until all leases are told that changes name.
    pub async fn wait_for_leases(&mut self, assembly: &mut Assembly, leases: &mut Leases) {
        let all = async {
            self.ask_for_leases(leases);
            while let Some(told) = self.asked.join_next().await {
                self.keep_lease(assembly, leases, told);
            }
        };
        tokio::time::timeout(WAIT_FOR_LEASES, all).await.ok();
    }

    pub fn ask_beside(&mut self, settings: &Arc<Settings>) {
        let (member, settings, access) = (self.member.again(), settings.clone(), self.access.clone());
        self.told
            .spawn(async move { unwatched::ask(member, &settings, &access).await });
    }

    /// Has it looked what the destinations hold now.
    pub fn look_again(&mut self, around: &Arc<dyn Surroundings>) {
        let around = around.clone();
        self.full
            .spawn(async move { blocking(move || around.look()).await.ok() });
    }

    pub fn ask_for_hash(&mut self, settings: &Arc<Settings>, cluster: ClusterId) {
        let (settings, access, id) = (settings.clone(), self.access.clone(), self.id);
        self.hashing
            .spawn(async move { report(&settings.members, &access, cluster, id).await });
    }
}

/// What a lease was granted; none where that cannot be asked for, with a new login either.
async fn granted_ttl(member: &mut Member, lease: i64) -> Option<Option<u64>> {
    if let Ok(granted) = member.granted_ttl(lease).await {
        return Some(granted);
    }
    member.log_in_again().await.ok()?;
    member.granted_ttl(lease).await.ok()
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
