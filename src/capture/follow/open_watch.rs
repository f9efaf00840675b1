//! The watch of a chain, opened: of which member, and whether that goes on with the history that was captured so far.

use std::time::Duration;

use jiff::SignedDuration;

use super::super::hashes::{Compared, LARGEST_OF_LEADER, compared};
use super::super::same_history::Stand;
use super::super::told;
use super::super::watched::Watched;
use super::{Desk, End, FIRST_HASH_AFTER, Following, blocking};
use crate::etcd::choose_member::choose;
use crate::etcd::{self, Access, Ahead, Member, Status, loses_deletions, survey};
use crate::health::Level;
use crate::layout::delta::GapReason;
use crate::model::{HashKv, Revision};

/// How long a member may take for the hash of the full backup before nothing is made of it.
const HASH_WITHIN: Duration = Duration::from_secs(60);
/// A full backup that is younger was made of the history that runs.
const JUST_MADE: SignedDuration = SignedDuration::from_mins(10);

impl Desk {
    /// Connects to a member and begins to watch.
    pub(super) async fn open(&self, following: &mut Following) -> Result<Watched, End> {
        let around = self.around.clone();
        let access = blocking(move || around.access()).await.map_err(|why| {
            self.board.change(|state| state.nobody_answers = false);
            End::Lost(why)
        })?;
        let (url, version) = self.choose(&access).await?;
        let mut member = Member::connect_to_watch(&url, &access).await.map_err(lost)?;
        let status = member.status().await.map_err(lost)?;
        let cluster = following.full.cluster;
        if status.cluster != cluster {
            let detail = format!("{url} is of cluster {}, the chain of {cluster}", status.cluster);
            return Err(End::Gap(GapReason::ClusterChanged, detail));
        }
        let current = self.goes_on(following, &mut member, &status).await?;
        self.board.change(|state| state.etcd_revision = Some(current));
        let from = (&mut member, &*version, &access);
        let changes = self.changes(following, from, current).await?;
        if loses_deletions(&version) && !following.was_watched {
            let message = format!(
                "etcd {version} at {url} may leave out deletions where it compacts what was not captured yet: \
                 where that can have been, a full backup is taken; upgrade to 3.4.36, 3.5.18 or later"
            );
            self.around.say_once(Level::Warning, &message);
        }
        following.was_watched = true;
        let now = self.around.now().instant;
        following.marked_at.get_or_insert(now);
        following.beside_at.get_or_insert(now);
        if let Some(every) = self.settings.hash_kv_every {
            following.hash_at.get_or_insert(now + every.min(FIRST_HASH_AFTER));
        }
        following.leases.ask_again();
        Ok(Watched::new((member, status.member, version), access, changes))
    }

    /// The revision that a member has come to, where it goes on with the chain's history.
    async fn goes_on(&self, following: &mut Following, member: &mut Member, first: &Status) -> Result<Revision, End> {
        let went_back = |detail: String| End::Gap(GapReason::WentBack, format!("etcd's data was replaced: {detail}"));
        let next = following.assembly.next();
        let current = member.current_revision().await.map_err(lost)?;
        if current.next() < next {
            let last = next.get() - 1;
            let detail = format!("it is at revision {current}, and revision {last} was captured");
            return Err(went_back(detail));
        }
        // Asked for behind the read, this member has come as far as its cluster had then.
        let then = member.status().await.map_err(lost)?;
        let now = Stand::of_member(current, &then);
        let before = [Some(Stand::of(&following.full)), following.seen];
        if let Some(detail) = before.into_iter().flatten().find_map(|before| before.fell(&now)) {
            return Err(went_back(detail));
        }
        if !following.was_watched
            && let Some(detail) = self.differs(following, member, &then).await
        {
            return Err(went_back(detail));
        }
        following.seen = Some(Stand::of_member(current, first));
        Ok(current)
    }

    /// Whether a member has other data at the revision of the full backup than that has; in words. Only where the agent can have
    /// missed that it was replaced, and where it can be compared: not once etcd has compacted since.
    async fn differs(&self, following: &Following, member: &mut Member, status: &Status) -> Option<String> {
        let full = &following.full;
        let reported = full.hash_kv.filter(|_| full.keys != Some(0))?;
        let age = self.around.now().time.duration_since(full.first_byte_at);
        let is_new = following.tip == full.to_revision && age < JUST_MADE;
        let is_borne = !status.learner && (!status.leads() || status.db_bytes <= LARGEST_OF_LEADER);
        if is_new || !is_borne || self.settings.hash_kv_every.is_none() {
            return None;
        }
        let hash = tokio::time::timeout(HASH_WITHIN, hash_as_then(member, &reported)).await;
        let hash = hash.ok().flatten()?;
        (compared(&reported, &hash) == Compared::Differ).then(|| {
            format!(
                "HashKV of revision {} is {}, and was {} when backup {} was taken",
                hash.revision, hash.hash, reported.hash, full.chain
            )
        })
    }

    /// The endpoint and version of the member to watch.
    async fn choose(&self, access: &Access) -> Result<(String, String), End> {
        let surveyed = survey(&self.settings.members, access, Ahead::Little).await;
        let candidates: Vec<_> = surveyed.into_iter().map(|member| member.candidate).collect();
        let nobody_answers = candidates.iter().all(|candidate| candidate.answer.is_err());
        self.board.change(|state| state.nobody_answers = nobody_answers);
        let choice = choose(&candidates, &self.settings.wanted, &[]).map_err(|error| match nobody_answers {
            true => End::Away(told(&error)),
            false => End::Lost(told(&error)),
        })?;
        let chosen = candidates
            .get(choice.index)
            .and_then(|candidate| Some((candidate.url.clone(), candidate.answer.as_ref().ok()?.version.clone())));
        chosen.ok_or_else(|| End::Lost("the member that was chosen does not answer".to_owned()))
    }
}

/// HashKV of the revision that `reported` is of, unless etcd has compacted since: that would be another one.
async fn hash_as_then(member: &mut Member, reported: &HashKv) -> Option<HashKv> {
    let compacted = Revision::new(reported.compact_revision.max(1)).ok()?;
    match member.is_compacted(compacted).await {
        Ok(false) => member.hash_kv(reported.revision).await.ok(),
        Ok(true) | Err(_) => None,
    }
}

pub(super) fn lost(error: etcd::Error) -> End {
    End::of_member(&error)
}
