//! From what has come to files in the spool: deltas, marks, and the words that begin an epoch and end a chain.

use std::time::Duration;

use super::super::assembly::{Batch, MARK_EVERY, Now};
use super::super::reach::next_by;
use super::super::watched::Watched;
use super::super::writer::{Issue, Unwritten};
use super::super::{Finished, spool, told};
use super::{Desk, End, Following};
use crate::health::Level;
use crate::layout::delta::{GapReason, RecordFault};
use crate::model::Revision;
use crate::pipeline::Encoding;

/// How long a cut waits to hear that nothing came since.
const ASK_WITHIN: Duration = Duration::from_secs(1);

impl Desk {
    /// Puts what has come into the spool, as one delta.
    pub(super) async fn cut(&self, following: &mut Following, watched: &mut Watched) -> Result<(), End> {
        if following.assembly.waits_since().is_none() {
            return Ok(());
        }
        watched
            .wait_for_leases(&mut following.assembly, &mut following.leases)
            .await;
        self.trust(following, watched).await?;
        if let Err(error) = self.hear_once_more(following, watched).await {
            following.start_over();
            return Err(End::Lost(told(&error)));
        }
        let now = self.around.now();
        let cut = following.assembly.cut(now);
        let batch = match cut {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(()),
            Err(error) => {
                following.start_over();
                return Err(End::Lost(told(&error)));
            }
        };
        let to = batch.to;
        if let Err(end) = self.keep_delta(following, batch).await {
            following.start_over();
            return Err(end);
        }
        following.leases.cut();
        (following.tip, following.missed_at) = (to, None);
        if following.newer_at.take_if(|newer| *newer <= to).is_some() {
            watched.look_again(&self.around);
        }
        following.marked_at = Some(now.instant);
        let all_at = following.assembly.all_at();
        self.board.change(|state| {
            state.captured_to = Some(to);
            state.flushed_at = Some(now.time);
            // Of what is caught up with it is not known how old it is.
            if let Some(heard) = all_at {
                (state.whole_at, state.behind_since) = (Some(heard.time), None);
            }
        });
        self.board.spool(self.spool.bytes());
        Ok(())
    }

    /// Asks whether what came is everything still, where the last message is old: the stream may be dead since, and nothing
    /// but an answer tells. Without one it is marked as it was heard.
    async fn hear_once_more(&self, following: &mut Following, watched: &mut Watched) -> Result<(), RecordFault> {
        let now = self.around.now();
        let is_old = |heard: Now| now.instant.duration_since(heard.instant) >= MARK_EVERY;
        if !following.assembly.all_at().is_some_and(is_old) {
            return Ok(());
        }
        let asked = tokio::time::timeout(ASK_WITHIN, watched.member.current_revision()).await;
        match asked {
            Ok(Ok(current)) if current.next() == following.assembly.next() => following.assembly.note(true, now),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether what was sent once more is all that was written: not where etcd has compacted it meanwhile and may have left
    /// deletions out.
    pub(super) async fn trust(&self, following: &mut Following, watched: &mut Watched) -> Result<(), End> {
        let Some((first, last)) = watched.replayed else {
            return Ok(());
        };
        let before = Revision::new(first.get() - 1).unwrap_or(first);
        let is_compacted = watched.member.is_compacted(before).await;
        match is_compacted {
            Ok(false) => {
                if following.assembly.next() > last {
                    watched.replayed = None;
                }
                Ok(())
            }
            Ok(true) => {
                following.start_over();
                let detail = format!(
                    "etcd compacted revision {first} while it was caught up with, and this version may have left deletions out"
                );
                Err(End::Gap(GapReason::Compacted, detail))
            }
            Err(error) => {
                following.start_over();
                Err(End::of_member(&error))
            }
        }
    }

    pub(super) async fn keep_delta(&self, following: &mut Following, batch: Batch) -> Result<(), End> {
        self.begin_epoch(following)?;
        let encoding: Encoding = self.settings.encoding.clone();
        let sealed = tokio::task::spawn_blocking(move || {
            let body = encoding.seal(&batch.plain);
            (batch, body)
        });
        let (batch, body) = sealed.await.map_err(|error| End::Lost(told(&error)))?;
        let body = body.map_err(|error| End::Lost(told(&error)))?;
        let mut scribe = following.scribe.clone();
        let finished = scribe.delta(&batch, &body, self.issue(), &self.settings.authority);
        let finished = finished.map_err(|unwritten| match unwritten {
            Unwritten::TooLarge { .. } => End::Gap(GapReason::TooLarge, told(&unwritten)),
            Unwritten::Header(fault) => End::Lost(told(&fault)),
        })?;
        self.keep(finished).await?;
        following.scribe = scribe;
        Ok(())
    }

    /// Says that nothing was written, where that is so.
    pub(super) async fn mark(&self, following: &mut Following, watched: &mut Watched) -> Result<(), End> {
        let now = self.around.now();
        following.marked_at = Some(now.instant);
        let current = watched.member.current_revision().await;
        let current = current.map_err(|error| End::of_member(&error))?;
        if current != following.tip || following.assembly.waits_since().is_some() {
            // Something is on its way.
            self.board.change(|state| {
                state.etcd_revision = state.etcd_revision.max(Some(current));
                state.behind_since.get_or_insert(now.time);
            });
            return Ok(());
        }
        self.begin_epoch(following)?;
        let mark = following.assembly.mark_at_rest(following.tip, now);
        let finished = following.scribe.mark(mark, self.issue(), &self.settings.authority);
        self.keep(finished.map_err(|fault| End::Lost(told(&fault)))?).await?;
        self.board
            .change(|state| (state.whole_at, state.behind_since) = (Some(now.time), None));
        self.board.spool(self.spool.bytes());
        Ok(())
    }

    /// The word that this host writes, before the first thing that it writes.
    pub(super) fn begin_epoch(&self, following: &mut Following) -> Result<(), End> {
        if following.has_written {
            return Ok(());
        }
        let (from, now) = (following.tip.next(), self.around.now().time);
        let word = following.scribe.epoch_word(from, now, &self.settings.authority);
        self.spool.keep(&word).map_err(spool_end)?;
        following.has_written = true;
        Ok(())
    }

    /// The word that a chain ends, in the spool.
    pub fn end_chain(&self, following: &mut Following, reason: GapReason, detail: &str) -> Result<(), String> {
        if let Err(end) = self.begin_epoch(following) {
            return Err(format!("{end:?}"));
        }
        let why = (reason, detail.to_owned());
        let now = self.around.now().time;
        let gap = following
            .scribe
            .gap(following.tip.next(), why, now, &self.settings.authority);
        self.spool.keep(&gap).map_err(|error| told(&error))
    }

    pub(super) async fn keep(&self, finished: Finished) -> Result<(), End> {
        let (spool, around) = (self.spool.clone(), self.around.clone());
        let kept = tokio::task::spawn_blocking(move || match spool.keep(&finished) {
            Err(full @ spool::Error::Full { .. }) => {
                let laggards = spool.make_room();
                if laggards.is_empty() {
                    return Err(full);
                }
                let names: Vec<String> = laggards.into_iter().collect();
                let message = format!(
                    "{full}: {} will have no deltas before the next full backup there",
                    names.join(", ")
                );
                around.say(Level::Error, &message);
                spool.keep(&finished)
            }
            kept => kept,
        });
        kept.await.map_err(|error| End::Lost(told(&error)))?.map_err(spool_end)
    }

    pub(super) fn issue(&self) -> Issue {
        let at = self.around.now().time;
        Issue {
            at,
            next_by: next_by(at, self.settings.cutting.every, self.settings.mark_every),
        }
    }
}

fn spool_end(error: spool::Error) -> End {
    match error {
        spool::Error::Full { .. } => End::Gap(GapReason::SpoolFull, told(&error)),
        spool::Error::Files(_) | spool::Error::Unreadable { .. } | spool::Error::Lost { .. } => End::Lost(told(&error)),
    }
}
