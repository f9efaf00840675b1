//! What becomes of a chain that cannot be gone on with: a newer backup is gone over to, another host writes it, etcd is away, or a
//! gap is declared and another full backup taken.

use super::super::etcd_away::TRY_EVERY;
use super::super::follow::{End, Following};
use super::super::reach::Known;
use super::super::{Need, Others, told};
use super::{PAUSES, Running, rest};
use crate::health::{Level, RESTORED};
use crate::layout::Outline;
use crate::layout::delta::GapReason;

/// A chain that is gone on with in the place of a newer one.
pub(super) enum Before {
    /// This agent has just left it.
    Left(Box<Following>),
    /// It was found in the destinations.
    Found(Box<Outline>, Known),
}

impl Running {
    /// What follows from how a chain ended.
    pub(super) async fn come_to(&mut self, mut following: Following, end: End) {
        match end {
            End::Stopped => {}
            End::Newer(full, known) => {
                let is_taken = known.epoch().is_some();
                match (self.following(*full).await, self.desk.settings.others) {
                    (Ok((next, _)), Others::None) => self.go_over(following, next),
                    (Ok((next, written_under)), Others::Hosts) => {
                        // It may have been since it was seen.
                        let is_taken = is_taken || written_under.is_some();
                        self.go_over_first(following, next, is_taken).await;
                    }
                    (Err(why), _) => {
                        // What comes meanwhile is kept, in the chain that there is.
                        self.trouble(&why);
                        self.current = Some(following);
                        self.rest().await;
                    }
                }
            }
            End::Outdone(epoch) => {
                let writer = self.named_writer(&following.full.chain_path(), epoch).await;
                let message = format!(
                    "{writer} writes the deltas of {} now, under epoch {epoch}",
                    following.full.chain
                );
                self.desk.around.say(Level::Warning, &message);
            }
            // How far it has come is found out anew.
            End::Missing => {}
            End::Lost(why) => {
                self.trouble(&why);
                self.current = Some(following);
                self.rest().await;
            }
            End::Away(why) => {
                // While a restore runs that is no wonder: it is waited for.
                if self.restoring().await.is_none() {
                    self.is_away(&mut following, &why);
                    rest(self.pause.min(TRY_EVERY), &self.signals.stop).await;
                    self.pause = (self.pause * 2).min(PAUSES.1);
                }
                self.current = Some(following);
            }
            End::Gap(GapReason::Compacted, why)
                if following.is_at_its_beginning() || (self.before.is_some() && !following.has_content()) =>
            {
                match self.chain_before(&following.full).await {
                    Some(before) => {
                        let chain = following.full.chain;
                        let message =
                            format!("backup {chain} cannot be followed, the one before is gone on with: {why}");
                        self.desk.around.say(Level::Warning, &message);
                        self.desk.refused.insert(chain);
                        self.go_back_to(before).await;
                    }
                    None => self.end(&mut following, GapReason::Compacted, &why).await,
                }
            }
            End::Gap(reason, why) => self.end(&mut following, reason, &why).await,
        }
    }

    /// The chain that is gone on with where `full` cannot be followed: the one that this agent has come from, or one that an agent
    /// before it, or another host, has brought further.
    pub(super) async fn chain_before(&mut self, full: &Outline) -> Option<Before> {
        if let Some(before) = self.before.take()
            && self.has_backup(&before.full).await
        {
            return Some(Before::Left(Box::new(before)));
        }
        let (before, known) = self.reaching_beyond(full).await?;
        Some(Before::Found(Box::new(before), known))
    }

    pub(super) async fn go_back_to(&mut self, before: Before) {
        match (before, self.desk.settings.others) {
            // Whoever has it meanwhile is heard of.
            (Before::Left(before), _) => self.current = Some(*before),
            (Before::Found(full, _), Others::None) => self.go_on_with(*full, None).await,
            // Another host may write it: this one has left it, or has never had it.
            (Before::Found(full, known), Others::Hosts) => self.stand_by(*full, known, None).await,
        }
    }

    pub(super) fn go_over(&mut self, following: Following, next: Following) {
        let message = format!("capture goes over to backup {}", next.full.chain);
        self.desk.around.say(Level::Info, &message);
        (self.current, self.before) = (Some(next), Some(following));
    }

    /// Ends a chain, and has a full backup taken for the next.
    pub(super) async fn end(&mut self, following: &mut Following, reason: GapReason, why: &str) {
        let (chain, from) = (following.full.chain.clone(), following.tip.next());
        let is_other_data = matches!(reason, GapReason::ClusterChanged | GapReason::WentBack);
        let restored = self.restored.take().filter(|_| is_other_data);
        let (level, counted_as, why) = match restored {
            // It was meant.
            Some(id) => (
                Level::Info,
                RESTORED,
                format!("restore {id} on this host has given etcd other data"),
            ),
            None => (Level::Error, reason.name(), why.to_owned()),
        };
        let message = format!("the deltas of {chain} end before revision {from}: {why}");
        self.desk.around.say(level, &message);
        self.desk.board.gap(counted_as, &message);
        if let Err(error) = self.desk.end_chain(following, reason, &why) {
            self.desk
                .around
                .say(Level::Error, &format!("that is not recorded in the chain: {error}"));
        }
        let kept = match reason {
            // One that only catches up with a newer backup is not taken up again: that one is followed, and is told the same.
            GapReason::ClusterChanged if following.newer_at.is_none() => self.set_aside.insert(chain.clone()),
            _ => self.set_aside.remove(&chain),
        };
        if let Err(error) = kept {
            let what = format!(
                "that {chain} is set aside is not remembered beyond this run: {}",
                told(&error)
            );
            self.desk.around.say(Level::Warning, &what);
        }
        self.ended.insert(chain);
        self.before = None;
        match following.newer_at {
            // That one is gone over to.
            Some(_) => drop(self.waits(&message)),
            None => {
                self.owed = Some(why.clone());
                self.take_full(&why, Need::Another).await;
            }
        }
    }

    /// The chain before is left for good. Where there is a hole between the two, it is said why.
    pub(super) fn leave_before(&mut self, following: &Following) {
        let Some(mut before) = self.before.take() else { return };
        if before.tip < following.full.to_revision && before.has_written {
            let why = format!("backup {} has taken its place", following.full.chain);
            // Nobody misses it where it cannot be said.
            self.desk.end_chain(&mut before, GapReason::Ended, &why).ok();
            self.desk.board.change(|state| {
                *state.gaps.entry(GapReason::Ended.name().to_owned()).or_default() += 1;
            });
        }
    }
}
