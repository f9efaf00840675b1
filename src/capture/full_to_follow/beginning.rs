//! With which chain, and from where in it: what is proven of the one of the newest backup, and of the one before it.

use super::super::follow::{Following, blocking};
use super::super::reach::Known;
use super::super::{Need, Others, Proven, WrittenBeside};
use super::Running;
use crate::health::Level;
use crate::layout::{Epoch, ObjectName, Outline};
use crate::model::Revision;

impl Running {
    /// Goes on with the chain of a backup, or with the one before where that has not come up to it.
    pub(super) async fn begin_with(&mut self, full: Outline) {
        let known = match self.proven(&full).await {
            Ok(proven) => proven.known,
            Err(why) => {
                self.trouble(&why);
                return self.rest().await;
            }
        };
        let has_ended = self.ended.contains(&full.chain) || known.ends_before(full.to_revision).is_some();
        if has_ended {
            let ended = || format!("the deltas of {}, the newest backup, have ended", full.chain);
            let why = self.owed.clone().unwrap_or_else(ended);
            return self.take_full(&why, Need::Another).await;
        }
        // What was written since an agent came so far, and before this backup, is in no chain yet.
        let beside = match known.epoch() {
            Some(_) => WrittenBeside::default(),
            None => self.written_beside(&full).await,
        };
        // Where a chain has come up to it, also one that has ended since, nothing is missing.
        let reached = beside
            .furthest
            .as_ref()
            .map(|(before, known)| known.reached(before.to_revision));
        let is_missing = reached.is_some_and(|reached| reached < full.to_revision);
        // The cluster of a chain that was set aside is back: what came to that one is not captured once more.
        let back = beside.furthest.filter(|(before, _)| self.may_be_taken_up(before));
        let behind = back.or(beside.goes_on).filter(|_| is_missing);
        match (behind, self.desk.settings.others) {
            (Some((before, _)), Others::None) => self.go_on_with(before, Some(full.to_revision)).await,
            (None, Others::None) => self.go_on_with(full, None).await,
            (Some((before, known)), Others::Hosts) => self.stand_by(before, known, Some(full.to_revision)).await,
            (None, Others::Hosts) => self.stand_by(full, known, None).await,
        }
    }

    pub(super) async fn go_on_with(&mut self, full: Outline, newer_at: Option<Revision>) {
        match self.following(full).await {
            Ok((mut following, _)) => {
                following.newer_at = newer_at;
                self.current = Some(following);
            }
            Err(why) => {
                self.trouble(&why);
                self.rest().await;
            }
        }
    }

    /// The chains beside that of `full`, of which one can be gone on with.
    async fn written_beside(&self, full: &Outline) -> WrittenBeside {
        let (around, full) = (self.desk.around.clone(), full.clone());
        // Where it cannot be found out, a full backup is taken if need be.
        let found = blocking(move || around.written_last_beside(&full)).await;
        let WrittenBeside { goes_on, furthest } = found.unwrap_or_default();
        let can = |(before, _): &(Outline, Known)| {
            !self.ended.contains(&before.chain) && !self.desk.refused.contains(&before.chain)
        };
        WrittenBeside {
            goes_on: goes_on.filter(can),
            furthest,
        }
    }

    /// Whether a chain ended only because another cluster answered: where its own one is back, it is gone on with.
    fn may_be_taken_up(&self, before: &Outline) -> bool {
        self.set_aside.contains(&before.chain) && !self.desk.refused.contains(&before.chain)
    }

    /// The same, if it reaches beyond `full`.
    pub(super) async fn reaching_beyond(&self, full: &Outline) -> Option<(Outline, Known)> {
        let found = self.written_beside(full).await.goes_on;
        found.filter(|(before, known)| known.reached(before.to_revision) > full.to_revision)
    }

    /// What is proven of the chain of a backup. What only has the names of more is told, once.
    pub(super) async fn proven(&mut self, full: &Outline) -> Result<Proven, String> {
        let (around, of) = (self.desk.around.clone(), full.clone());
        let proven = blocking(move || around.prove(&of)).await?;
        let proven = proven.ok_or_else(|| format!("backup {} is in no destination any more", full.chain))?;
        let fresh = proven.passed_over.iter();
        let fresh: Vec<_> = fresh.filter(|(name, _)| self.told.insert((*name).clone())).collect();
        if let Some((name, why)) = fresh.first() {
            let others = match fresh.len() {
                1 => String::new(),
                several => format!(" (and {} more)", several - 1),
            };
            let reached = proven.known.reached(full.to_revision);
            let message = format!(
                "`{name}` counts for nothing{others}: {why}; the deltas of {} are proven up to revision {reached}, and what is not \
                 proven is captured anew as far as etcd has it. Look who can write to the destination, and remove what is strange there",
                full.chain
            );
            self.desk.around.say(Level::Error, &message);
        }
        Ok(proven)
    }

    /// The chain of a full backup, from where it is proven to have come to on; and the epoch under which it is written by now, by whomever.
    pub(super) async fn following(&mut self, full: Outline) -> Result<(Following, Option<Epoch>), String> {
        let Proven {
            mut known, mut taken, ..
        } = self.proven(&full).await?;
        let written_under = known.epoch();
        let path = full.chain_path();
        let names = self.desk.spool.names();
        let own = names.iter().filter(|name| name.chain() == Some(&path));
        taken.extend(own.clone().filter_map(ObjectName::epoch));
        known.take(own);
        let tip = known.reached(full.to_revision);
        let epoch = known.next_epoch(&taken);
        let epoch = epoch.ok_or_else(|| {
            format!(
                "the last epoch of chain {} is taken: take a full backup, which begins another chain",
                full.chain
            )
        })?;
        let following = Following::new(&self.desk.settings, full, tip, epoch);
        Ok((following, written_under))
    }

    /// Whether a destination has a backup still: without it nothing of its chain can be restored. Where that cannot be told, it has.
    pub(super) async fn has_backup(&self, full: &Outline) -> bool {
        let (around, of) = (self.desk.around.clone(), full.clone());
        !matches!(blocking(move || around.prove(&of)).await, Ok(None))
    }
}
