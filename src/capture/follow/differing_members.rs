//! Members that report different HashKV: said once, and a full backup is taken, which finds out who is wrong.

use super::{Desk, blocking, locked};
use crate::capture::Need;
use crate::capture::watched::Watched;
use crate::health::Level;

impl Desk {
    /// Members that differ prove nothing of what is captured; a full backup finds out who is wrong, where that can be told. One is taken
    /// for a finding, however often the same two differ after that: it would come to the same. That they do is shown meanwhile.
    pub(super) fn see_difference(&self, watched: &mut Watched, between: &str, how: &str) {
        let url = watched.member.url().to_owned();
        let is_news = locked(&self.beside).differs(between, how);
        self.board.change(|state| {
            state.doubt.get_or_insert_with(|| how.to_owned());
        });
        if is_news {
            let message = format!(
                "{how}; changes are captured from {url}: no hash is kept beside them, and a full backup is taken"
            );
            self.around.say(Level::Error, &message);
        }
        if locked(&self.beside).lacks_full_for_difference() && watched.full.is_empty() {
            self.take_full_beside(watched, how.to_owned());
        }
    }

    /// Two members report the same hash.
    pub(super) fn see_agreement(&self) {
        if let Some(between) = locked(&self.beside).agree() {
            let message = format!("members report the same HashKV again, after {between} differed");
            self.around.say(Level::Info, &message);
        }
    }

    /// Takes a full backup for members that differ, while the chain goes on.
    pub(super) fn take_full_beside(&self, watched: &mut Watched, why: String) {
        let (around, memory) = (self.around.clone(), self.beside.clone());
        watched.full.spawn(async move {
            let taken = blocking(move || {
                around.take_full(&why, Need::Another).inspect_err(|error| {
                    around.say(
                        Level::Warning,
                        &format!("no full backup was taken ({error}), though {why}"),
                    );
                })?;
                locked(&memory).has_full_for_difference();
                around.look()
            });
            taken.await.ok()
        });
    }
}
