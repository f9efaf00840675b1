//! Following one chain: from a watch to files in the spool, until something ends it.

mod differing_members;
mod end;
mod hear_unwatched;
mod newer_full;
mod open_watch;
mod shown_state;
mod watch_or_snapshot;
mod write_to_spool;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tokio::sync::{Notify, mpsc, watch};

use super::assembly::{Assembly, BESIDE_CHANGES};
use super::etcd_away::Away;
use super::hashes::Report;
use super::leases::Leases;
use super::reach::patience;
use super::same_history::Stand;
use super::spool::Spool;
use super::status::Board;
use super::unwatched::Memory;
use super::watched::{Came, Pulse, Watched};
use super::writer::DeltaWriter;
use super::{Settings, Sight, Surroundings, told};
use crate::etcd::{WatchEnd, WholeRevision};
use crate::layout::delta::{GapReason, PLAIN_MAX};
use crate::layout::{Epoch, Outline};
use crate::model::{ByteSize, Revision};
pub(super) use end::End;

/// How often it is asked for what no watch shows.
const ASK_BESIDE_EVERY: Duration = Duration::from_secs(30);
/// What the changes of one revision may weigh: as much as a delta holds of them, and what is put beside them.
const LARGEST_REVISION: ByteSize = ByteSize(PLAIN_MAX - 2 * BESIDE_CHANGES);
/// How often it is looked whether there is room in the spool again.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);
/// How long after a chain is begun with the first hash is asked for, at most.
const FIRST_HASH_AFTER: Duration = Duration::from_secs(10);

/// A chain that is gone on with.
pub(super) struct Following {
    pub full: Outline,
    pub scribe: DeltaWriter,
    /// The last revision that is in the spool or in a destination.
    pub tip: Revision,
    /// Whether anything was written under its epoch.
    pub has_written: bool,
    assembly: Assembly,
    leases: Leases,
    /// The revision of a newer full backup. It is gone over to once what lies before it is captured: it would be in no chain.
    pub newer_at: Option<Revision>,
    /// Whether no snapshot could be drawn: what it is behind by it catches up with by a watch.
    has_no_snapshot: bool,
    /// Where a revision was left out once already.
    missed_at: Option<Revision>,
    /// Whether a watch was opened for it before.
    was_watched: bool,
    /// Where etcd is not heard.
    pub away: Option<Away>,
    /// When it was last said that a connection broke off.
    breaks_said_at: Option<Instant>,
    /// How far etcd had come when it was opened last.
    seen: Option<Stand>,
    marked_at: Option<Instant>,
    /// When it is asked next for what no watch shows.
    beside_at: Option<Instant>,
    /// When a member is asked for its hash next.
    hash_at: Option<Instant>,
    pulse: Pulse,
}

impl Following {
    /// The chain of a full backup that has come so far.
    pub fn new(settings: &Settings, full: Outline, tip: Revision, epoch: Epoch) -> Following {
        let scribe = DeltaWriter {
            cluster: settings.cluster_of(&full),
            lineage: full.lineage.clone(),
            chain: full.chain.clone(),
            epoch,
            recipients: settings.encoding.recipients.iter().map(ToString::to_string).collect(),
            writer: settings.writer.clone(),
            previous: (tip == full.to_revision).then_some(full.document),
            deltas: 0,
            marks: 0,
        };
        Following {
            assembly: Assembly::new(tip.next()),
            full,
            scribe,
            tip,
            has_written: false,
            leases: Leases::default(),
            newer_at: None,
            has_no_snapshot: false,
            missed_at: None,
            was_watched: false,
            away: None,
            breaks_said_at: None,
            seen: None,
            marked_at: None,
            beside_at: None,
            hash_at: None,
            pulse: Pulse::begun(Instant::now()),
        }
    }

    /// Whether more than the word that this host writes was written under its epoch.
    pub fn has_content(&self) -> bool {
        self.scribe.deltas > 0 || self.scribe.marks > 0
    }

    /// Whether nothing behind its full backup was captured yet, by whomever.
    pub fn is_at_its_beginning(&self) -> bool {
        self.tip == self.full.to_revision && !self.has_content()
    }

    /// What came and is not in the spool is asked for once more.
    fn start_over(&mut self) {
        self.assembly = self.assembly.anew(self.tip.next());
        self.leases.start_over();
    }
}

/// What reaches it from outside.
pub(super) struct Signals {
    pub stop: watch::Receiver<bool>,
    pub sights: mpsc::Receiver<Result<Sight, String>>,
}

/// What it works with.
pub(super) struct Desk {
    pub settings: Arc<Settings>,
    pub spool: Arc<Spool>,
    pub around: Arc<dyn Surroundings>,
    pub board: Arc<Board>,
    /// What is known of what no watch shows.
    pub beside: Arc<Mutex<Memory>>,
    /// Told where what was kept is lost.
    pub lost: Arc<Notify>,
    /// Full backups that cannot be followed any more.
    pub refused: HashSet<crate::model::ChainId>,
}

/// Resolves once it is to stop.
pub(super) async fn stopped(mut stop: watch::Receiver<bool>) {
    // Where nobody can say it any more, it is to.
    drop(stop.wait_for(|stop| *stop).await);
}

impl Desk {
    /// Follows a chain until something ends it. What came is in the spool then, as far as it was whole.
    pub async fn follow(&self, following: &mut Following, signals: &mut Signals) -> End {
        let stop = signals.stop.clone();
        let opened = tokio::select! {
            opened = self.open(following) => opened,
            () = stopped(stop) => return End::Stopped,
        };
        let mut watched = match opened {
            Ok(watched) => watched,
            Err(end) => return end,
        };
        let end = self.take_in(following, &mut watched, signals).await;
        let ended_at = self.around.now().time;
        let heard_at = ended_at.checked_sub(SignedDuration::try_from(following.pulse.age()).unwrap_or_default());
        // What came whole before it ended counts.
        match self.cut(following, &mut watched).await {
            Ok(()) => {
                // As long as a watch is open, whatever is written comes at once.
                if following.assembly.all_at().is_some() {
                    self.board.change(|state| state.heard_at = heard_at.ok());
                }
                end
            }
            Err(failed) if matches!(end, End::Lost(_) | End::Away(_)) => failed,
            // It is asked for again.
            Err(_) => end,
        }
    }

    async fn take_in(&self, following: &mut Following, watched: &mut Watched, signals: &mut Signals) -> End {
        let cutting = self.settings.cutting;
        loop {
            let due = following.assembly.due_at(&cutting);
            let mark_due = following.marked_at.map(|marked| marked + self.settings.mark_every);
            let mark_due = mark_due.filter(|_| due.is_none());
            // HashKV of a revision that is to come yet proves nothing.
            let hash_due = following.hash_at.filter(|_| !watched.changes.is_snapshot());
            let has_room = self.has_room(watched);
            tokio::select! {
                came = watched.changes.next(), if has_room => match came {
                    Came::Heard(heard) => {
                        if heard.is_all || !heard.whole.is_empty() {
                            self.say_back(following, watched);
                        }
                        for whole in &heard.whole {
                            if let Err(end) = self.take(following, watched, whole).await {
                                return end;
                            }
                        }
                        if let Err(error) = following.assembly.note(heard.is_all, self.around.now()) {
                            following.start_over();
                            return End::Lost(told(&error));
                        }
                        following.has_no_snapshot &= !heard.is_all;
                        self.say_where(following, heard.is_all);
                    }
                    Came::Ended(end) => return ended(following, end),
                    Came::Drawn(how) => if let Err(end) = self.go_on_behind(following, watched, how).await {
                        return end;
                    },
                },
                () = tokio::time::sleep(LOOK_FOR_ROOM), if !has_room => {}
                () = until(due) => if let Err(end) = self.cut(following, watched).await {
                    return end;
                },
                () = until(mark_due) => if let Err(end) = self.mark(following, watched).await {
                    return end;
                },
                Some(told) = watched.asked.join_next() => {
                    watched.keep_lease(&mut following.assembly, &mut following.leases, told);
                }
                () = until(watched.ask_again_at) => watched.ask_for_leases(&mut following.leases),
                () = until(following.beside_at) => {
                    following.beside_at = Some(self.around.now().instant + ASK_BESIDE_EVERY);
                    watched.ask_beside(&self.settings);
                },
                Some(told) = watched.told.join_next() => if let Ok(told) = told
                    && let Some(end) = self.hear(following, watched, told)
                {
                    return end;
                },
                // Another may write in its place by now, or the chain may be gone.
                () = following.pulse.held_up(patience(cutting.every)) => watched.look_again(&self.around),
                Some(taken) = watched.full.join_next() => if let Ok(Some(sight)) = taken
                    && let Some(end) = self.see(following, Ok(sight))
                {
                    return end;
                },
                () = until(hash_due) => {
                    let next = self.settings.hash_kv_every.map(|every| self.around.now().instant + every);
                    following.hash_at = next;
                    watched.ask_for_hash(&self.settings, following.full.cluster);
                },
                Some(found) = watched.hashing.join_next() => match found {
                    Ok(Some(Report::Of(hash))) => {
                        self.see_agreement();
                        if let Err(error) = following.assembly.keep_checkpoint(hash) {
                            return End::Lost(told(&error));
                        }
                    }
                    Ok(Some(Report::OfOne(hash))) => if let Err(error) = following.assembly.keep_checkpoint(hash) {
                        return End::Lost(told(&error));
                    },
                    Ok(Some(Report::Differs { between, how })) => self.see_difference(watched, &between, &how),
                    Ok(None) | Err(_) => {}
                },
                sight = signals.sights.recv() => match sight {
                    Some(sight) => if let Some(end) = self.see(following, sight) {
                        return end;
                    },
                    None => return End::Stopped,
                },
                () = self.lost.notified() => return End::Missing,
                () = stopped(signals.stop.clone()) => return End::Stopped,
            }
        }
    }

    /// Takes one revision; cuts where there is enough then, and before where it would not fit.
    async fn take(&self, following: &mut Following, watched: &mut Watched, whole: &WholeRevision) -> Result<(), End> {
        for put in whole.changes.iter().filter_map(|change| change.put.as_ref()) {
            following.leases.seen(put.lease);
        }
        watched.ask_for_leases(&mut following.leases);
        if !following.assembly.has_room_for(whole, PLAIN_MAX) {
            self.cut(following, watched).await?;
        }
        if let Err(error) = following.assembly.take(whole, self.around.now()) {
            following.start_over();
            return Err(End::Lost(told(&error)));
        }
        match self.settings.cutting.is_enough(following.assembly.bytes() as u64) {
            true => self.cut(following, watched).await,
            false => Ok(()),
        }
    }
}

fn ended(following: &mut Following, end: WatchEnd) -> End {
    let detail = told(&end);
    match end {
        WatchEnd::Compacted { .. } => End::Gap(GapReason::Compacted, detail),
        WatchEnd::OtherCluster { .. } => End::Gap(GapReason::ClusterChanged, detail),
        WatchEnd::TooLarge { .. } => End::Gap(GapReason::TooLarge, detail),
        WatchEnd::Missed { expected, .. } => {
            // Once more from where it was whole: what a member left out of a stream it still has.
            match following.missed_at.replace(expected) == Some(expected) {
                true => End::Gap(GapReason::Missed, detail),
                false => End::Lost(detail),
            }
        }
        WatchEnd::Broken(error) => End::of_member(&error),
    }
}

fn locked(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    // Nothing is changed by halves.
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// Does what blocks on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(error.to_string()))
}
