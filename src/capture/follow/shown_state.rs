//! What is shown, and said, of how far a chain has come.

use super::super::etcd_away::Whole;
use super::super::watched::Watched;
use super::{Desk, Following};
use crate::health::{Capturing, Level};
use crate::model::Revision;

impl Desk {
    /// It is heard again from where it was heard last.
    pub(super) fn say_back(&self, following: &mut Following, watched: &Watched) {
        let Some(away) = following.away.take() else { return };
        let Ok(last) = Revision::new(following.assembly.next().get() - 1) else {
            return;
        };
        let whole = match watched.replayed {
            None => Whole::Yes,
            Some(_) => Whole::NotKnown,
        };
        let now = self.around.now().instant;
        if let Some(what) = away.ends(last, whole, now, &mut following.breaks_said_at) {
            self.around.say(Level::Info, &what);
        }
    }

    pub(super) fn say_where(&self, following: &Following, is_all: bool) {
        let last = Revision::new(following.assembly.next().get() - 1).ok();
        let now = self.around.now().time;
        self.board.well();
        self.board.change(|state| {
            state.capturing = Capturing::Writing;
            state.etcd_revision = state.etcd_revision.max(last);
            match is_all && following.assembly.waits_since().is_none() {
                true => (state.whole_at, state.behind_since) = (Some(now), None),
                false => drop(state.behind_since.get_or_insert(now)),
            }
        });
    }
}
