//! What no watch shows has been asked for: alarms are told, and a full backup is taken where only that holds what has changed.

use super::{Desk, End, Following, blocking, locked};
use crate::capture::unwatched::{OthersAreWell, Told};
use crate::capture::watched::Watched;
use crate::capture::{Need, told};
use crate::etcd::choose_member::Wanted;
use crate::health::Level;

impl Desk {
    /// Takes in what no watch shows. Where only a full backup holds what has changed, one is taken, and the chain goes on
    /// meanwhile. Ends where another member is to be watched.
    pub(super) fn hear(&self, following: &Following, watched: &mut Watched, heard: Told) -> Option<End> {
        let now = self.around.now();
        let say = |level, what: &str| self.around.say(level, what);
        let mut memory = locked(&self.beside);
        if let Some(alarms) = heard.alarms {
            let (raised, gone) = memory.hear(alarms);
            raised
                .iter()
                .for_each(|alarm| say(Level::Warning, &format!("etcd has raised {alarm}")));
            gone.iter()
                .for_each(|alarm| say(Level::Info, &format!("{alarm} is gone")));
        }
        let url = watched.member.url();
        let doubt = heard.corrupt.map(|_| {
            format!("the member at {url} is under alarm CORRUPT: its data differs from the others', and what is captured of it may be wrong")
        });
        let shown = doubt.clone().or_else(|| memory.difference());
        self.board.change(|state| state.doubt = shown);
        if let Err(error) = memory.take(heard.beside, following.full.cluster, now.time) {
            say(Level::Warning, &told(&error));
        }
        // What cannot be seen to now is owed all the same.
        if let Some(debt) = memory.owes(following.full.first_byte_at)
            && memory.may_try(now.instant)
            && watched.full.is_empty()
        {
            say(Level::Info, &format!("a full backup is taken: {}", debt.why));
            let (around, memory) = (self.around.clone(), self.beside.clone());
            watched.full.spawn(async move {
                let taken = blocking(move || {
                    let taken = around.take_full(&debt.why, Need::Another);
                    match &taken {
                        Ok(()) => locked(&memory).pay(&debt),
                        Err(error) => {
                            locked(&memory).has_failed(around.now().instant);
                            let what = format!("no full backup was taken ({error}), though {}", debt.why);
                            around.say(Level::Warning, &what);
                        }
                    }
                    taken.and_then(|()| around.look())
                });
                taken.await.ok()
            });
        }
        let may_change = matches!(self.settings.wanted, Wanted::Any { .. });
        (may_change && heard.corrupt == Some(OthersAreWell(true))).then(|| End::Lost(doubt.unwrap_or_default()))
    }
}
