//! What keeps a lane from going on: said, shown, and waited for.

use std::time::Duration;

use super::super::Need;
use super::super::etcd_away::Away;
use super::super::follow::{Following, blocking};
use super::{FULL_PAUSES, PAUSES, Running, rest};
use crate::health::{Capturing, Level};

/// How often it is looked whether a restore has ended.
const LOOK_FOR_RESTORE_EVERY: Duration = Duration::from_millis(500);

impl Running {
    pub(super) async fn take_full(&mut self, why: &str, need: Need) {
        // What keeps it is told where none can be taken.
        self.waits(why);
        let (around, text) = (self.desk.around.clone(), why.to_owned());
        match blocking(move || around.take_full(&text, need)).await {
            Ok(()) => {
                self.owed = None;
                let message = format!("a full backup was taken: {why}");
                self.desk.around.say(Level::Info, &message);
                // Where it is needed again at once, one after the other helps nobody.
                rest(self.full_pause, &self.signals.stop).await;
                self.full_pause = (self.full_pause * 2).clamp(PAUSES.1, FULL_PAUSES.1);
            }
            Err(error) => {
                self.trouble(&format!("{why}; a full backup is not taken yet: {error}"));
                // The schedules may take one meanwhile.
                self.rest().await;
            }
        }
    }

    pub(super) fn trouble(&self, why: &str) {
        if self.waits(why) {
            self.desk
                .around
                .say(Level::Warning, &format!("capture does not go on: {why}"));
        }
    }

    /// Shows what keeps it from going on; whether that is news.
    pub(super) fn waits(&self, why: &str) -> bool {
        let now = self.desk.around.now().time;
        self.desk.board.change(|state| state.capturing = Capturing::Waiting);
        self.desk.board.trouble(why, now)
    }

    /// Etcd is not heard. That is said once it cannot be heard again at once.
    pub(super) fn is_away(&mut self, following: &mut Following, why: &str) {
        self.waits(why);
        let now = self.desk.around.now().instant;
        match &mut following.away {
            None => {
                following.away = Some(Away::begun(now));
                self.pause = PAUSES.0.min(self.pause);
            }
            Some(away) => {
                if let Some(what) = away.lasts(why, following.tip) {
                    self.desk.around.say(Level::Warning, &what);
                }
            }
        }
    }

    /// The restore that is open on this host.
    pub(super) async fn restoring(&self) -> Option<String> {
        let around = self.desk.around.clone();
        blocking(move || Ok(around.restoring())).await.ok().flatten()
    }

    /// Waits until the restore is over: etcd is not asked, and no full backup could be taken.
    pub(super) async fn wait_for_restore(&mut self, id: String) {
        let what = format!("restore {id} runs on this host, and capture waits for its end");
        if self.waits(&what) {
            self.desk.around.say(Level::Info, &what);
        }
        if let Some(following) = &mut self.current {
            following.away = Some(Away::for_restore(id.clone(), self.desk.around.now().instant));
        }
        self.restored = Some(id);
        while self.restoring().await.is_some() {
            if rest(LOOK_FOR_RESTORE_EVERY, &self.signals.stop).await {
                return;
            }
        }
        self.pause = PAUSES.0;
    }

    pub(super) async fn rest(&mut self) {
        rest(self.pause, &self.signals.stop).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
    }
}
