//! What changes are taken from: a watch, or, where the chain is far behind, a snapshot of etcd and then a watch.

use crate::capture::catching_up::{CatchingUp, Lack};
use crate::capture::same_history::Stand;
use crate::capture::watched::{Changes, Watched};
use crate::etcd::{Access, Member, loses_deletions};
use crate::health::Level;
use crate::model::{ByteSize, Revision};
use crate::text::count;

use super::open_watch::lost;
use super::{Desk, End, Following, LARGEST_REVISION, ended};

/// How much a look for room leaves for what is finished before the next: a delta, and what is handed out at once.
const BESIDE_DELTA: ByteSize = ByteSize(2 << 20);

impl Desk {
    /// Begins to take changes from a member that has come to `current`, and says what of them it sends once more, where its version
    /// may leave deletions out of that.
    pub(super) async fn changes(
        &self,
        following: &mut Following,
        (member, version, access): (&mut Member, &str, &Access),
        current: Revision,
    ) -> Result<(Changes, Option<(Revision, Revision)>), End> {
        let next = following.assembly.next();
        let behind = current.next().get().saturating_sub(next.get());
        if behind > self.settings.snapshot_from.revisions && !following.has_no_snapshot {
            let database_bytes = member.status().await.map_err(lost)?.db_bytes;
            // Where that is gone, a watch says at once what is.
            let before = Revision::new(next.get() - 1).unwrap_or(next);
            if self.settings.snapshot_from.is_due(behind, database_bytes)
                && matches!(member.is_compacted(before).await, Ok(false))
            {
                let message = format!(
                    "catches up from a snapshot of etcd at {}: {} behind",
                    member.url(),
                    count(behind.unsigned_abs(), "revision")
                );
                self.around.say(Level::Info, &message);
                let lack = self.lack(following, (member.url(), access), current);
                self.say_where(following, false);
                return Ok((Changes::Snapshot(CatchingUp::begin(lack)), None));
            }
        }
        let watching = member.watch(next, following.full.cluster, LARGEST_REVISION);
        let watching = watching.await.map_err(|end| ended(following, end))?;
        // What is sent once more by a version that may leave deletions out is trusted only while nothing of it was compacted.
        let replayed = (loses_deletions(version) && current >= next).then_some((next, current));
        Ok((Changes::Watch(Box::new(watching)), replayed))
    }

    fn lack(&self, following: &Following, (url, access): (&str, &Access), current: Revision) -> Lack {
        let full = Stand::of(&following.full);
        Lack {
            url: url.to_owned(),
            access: access.clone(),
            cluster: following.full.cluster,
            next: following.assembly.next(),
            seen: Stand {
                revision: current,
                ..following.seen.unwrap_or(full)
            },
            full,
            folder: self.settings.spool.clone(),
            spool_most: self.settings.spool_most,
            most_of_one: LARGEST_REVISION,
        }
    }

    /// Whether what comes of a snapshot has room in the spool.
    pub(super) fn has_room(&self, watched: &mut Watched) -> bool {
        let Changes::Snapshot(catching_up) = &mut watched.changes else {
            return true;
        };
        let more = ByteSize(self.settings.cutting.max_bytes.0.saturating_add(BESIDE_DELTA.0));
        let now = self.around.now().instant;
        catching_up.may_go_on(self.spool.bytes(), self.settings.spool_most, more, now)
    }

    /// Goes on behind what a snapshot had: with a watch, or with another one where etcd has come far meanwhile. With a watch, too,
    /// where none could be drawn.
    pub(super) async fn go_on_behind(
        &self,
        following: &mut Following,
        watched: &mut Watched,
        how: Result<(), String>,
    ) -> Result<(), End> {
        // A member that is gone has neither.
        let current = watched.member.current_revision().await.map_err(lost)?;
        let reached = Revision::new(following.assembly.next().get() - 1).unwrap_or(following.tip);
        match (&how, &watched.changes) {
            (Ok(()), Changes::Snapshot(drawn)) => {
                let seconds = drawn.took().as_secs_f64();
                let message = format!("came to revision {reached} from a snapshot of etcd, in {seconds:.1} s");
                self.around.say(Level::Info, &message);
            }
            (Ok(()), Changes::Watch(_)) => {}
            (Err(why), _) => {
                let message = format!(
                    "no snapshot of etcd to catch up from behind revision {reached}: {why}; a watch does it, which takes longer and \
                     costs etcd memory"
                );
                self.around.say(Level::Warning, &message);
            }
        }
        self.board
            .change(|state| state.etcd_revision = state.etcd_revision.max(Some(current)));
        let before = std::mem::replace(&mut following.has_no_snapshot, how.is_err());
        let from = (&mut watched.member, &*watched.version, &watched.access);
        match self.changes(following, from, current).await {
            Ok((changes, replayed)) => {
                (watched.changes, watched.replayed) = (changes, replayed);
                Ok(())
            }
            Err(end) => {
                // The member may be gone: the next one may have one.
                following.has_no_snapshot = before;
                Err(end)
            }
        }
    }
}
