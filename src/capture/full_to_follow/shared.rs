//! Destinations that several hosts write to: one of them writes a chain at a time, under an epoch that it has taken.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::super::follow::{Following, blocking, stopped};
use super::super::last_epoch;
use super::super::reach::{Known, Standby, Turn, patience};
use super::super::{Now, Sight, Surroundings, told};
use super::{Running, rest};
use crate::error_chain::with_causes;
use crate::etcd::{Ahead, survey};
use crate::health::{Capturing, Level};
use crate::layout::delta::EpochWord;
use crate::layout::{ChainPath, Epoch, Listed, MAX_BYTES, ObjectName, Outline};
use crate::model::Revision;
use crate::store;
use crate::text::clean;

impl Running {
    /// Goes over to a newer chain, unless another host was there first: it stands by there then.
    pub(super) async fn go_over_first(&mut self, following: Following, next: Following, is_taken: bool) {
        let chain = next.full.chain.clone();
        let claimed = match is_taken {
            true => Ok(None),
            false => self.claim(next).await,
        };
        match claimed {
            Ok(Some(next)) => self.go_over(following, next),
            Ok(None) => {
                let message = format!("another host writes the deltas of {chain}, the newest backup");
                self.desk.around.say(Level::Info, &message);
            }
            Err(why) => {
                // What comes meanwhile is kept, in the chain that there is.
                self.trouble(&why);
                self.current = Some(following);
                self.rest().await;
            }
        }
    }

    /// Lets those go first who are to take the first backup before this host.
    pub(super) async fn wait_for_its_turn(&mut self) {
        let around = self.desk.around.clone();
        let pause = blocking(move || Ok(around.turn_after())).await;
        rest(pause.unwrap_or_default(), &self.signals.stop).await;
        self.is_its_turn = true;
    }

    /// Takes the next epoch of a chain that others may write to, once nobody writes any more. `newer_at` is the revision of a newer
    /// full backup up to which it is to come first.
    pub(super) async fn stand_by(&mut self, full: Outline, known: Known, newer_at: Option<Revision>) {
        let (every, silent_for) = (self.desk.settings.cutting.every, self.desk.settings.mark_every);
        let look_every = every
            .clamp(Duration::from_secs(1), Duration::from_secs(30))
            .min(patience(every) / 2);
        let mut standby = Standby::new(known.clone(), self.desk.around.now().instant);
        let path = full.chain_path();
        let mut writer = (known.epoch(), self.writer_under(&path, known.epoch()).await);
        // It writes no more.
        let own = known.epoch();
        let own = own.filter(|epoch| self.is_former_self(&path, *epoch, writer.1.as_deref()));
        let (mut known, mut seen_under, mut awaited) = (known, None, Awaited::default());
        loop {
            let reached = known.reached(full.to_revision);
            let current = match known.epoch() {
                Some(_) => self.etcd_revision().await,
                None => None,
            };
            let is_behind = known.epoch().is_none() || current.is_some_and(|current| current > reached);
            let Now { time, instant: now, .. } = self.desk.around.now();
            let is_own = own.is_some() && own == known.epoch();
            if is_own || standby.look(known.clone(), is_behind, every, silent_for, now) == Turn::TakeOver {
                let claimed = match self.following(full.clone()).await {
                    // Another was faster, unless that is how it was the last time already: not all destinations need show the same.
                    Ok((_, written_under)) if written_under > known.epoch() && seen_under != Some(written_under) => {
                        seen_under = Some(written_under);
                        Ok(None)
                    }
                    Ok((mut next, _)) => {
                        next.newer_at = newer_at;
                        self.claim(next).await
                    }
                    Err(why) => Err(why),
                };
                match claimed {
                    Ok(Some(next)) => {
                        let message = format!("this host writes the deltas of {} from now on", full.chain);
                        self.desk.around.say(Level::Info, &message);
                        self.current = Some(next);
                        return;
                    }
                    Ok(None) => {}
                    Err(why) => {
                        self.trouble(&why);
                        return self.rest().await;
                    }
                }
            }
            self.desk.board.well();
            self.desk.board.change(|state| {
                state.capturing = Capturing::StandingBy;
                state.writer.clone_from(&writer.1);
                // One machine of this name says nothing to people of another.
                state.writer.take_if(|writer| *writer == self.desk.settings.writer.host);
                state.doubt = None;
                state.whole_at = awaited.look(reached, current, time).or(state.whole_at);
                state.behind_since = awaited.since();
                state.etcd_revision = current.or(state.etcd_revision);
                (state.chain, state.base) = (Some(full.chain.clone()), Some(full.to_revision));
                (state.captured_to, state.epoch) = (Some(reached), known.epoch().map(|epoch| epoch.0));
            });
            tokio::select! {
                () = stopped(self.signals.stop.clone()) => return,
                () = tokio::time::sleep(look_every) => {}
                sight = self.signals.sights.recv() => if let Some(Ok(Sight::Full(newer, _))) = sight
                    && newer.chain != full.chain
                    && !self.desk.refused.contains(&newer.chain)
                {
                    return;
                },
            }
            let (around, of) = (self.desk.around.clone(), full.clone());
            match blocking(move || around.look_at(&of)).await {
                Ok(seen) => known = seen,
                Err(why) => {
                    self.trouble(&why);
                    return self.rest().await;
                }
            }
            if writer.1.is_none() || writer.0 != known.epoch() {
                writer = (known.epoch(), self.writer_under(&path, known.epoch()).await);
            }
            if known.ends_before(full.to_revision).is_some() {
                return;
            }
        }
    }

    /// Whether it was this host that wrote under an epoch: it keeps that beside its spool. Or it keeps nothing there, as it was set up
    /// anew, and the `writer` has its name. A machine of the same name that lives is outdone by that and stands by from then on, as
    /// it keeps what it wrote; and this one keeps it, too.
    fn is_former_self(&self, path: &ChainPath, epoch: Epoch, writer: Option<&str>) -> bool {
        let folder = &self.desk.settings.spool;
        let is_new = || !self.has_claimed && last_epoch::is_new(folder) && self.desk.spool.names().is_empty();
        last_epoch::is_own(folder, path, epoch) || (writer == Some(&self.desk.settings.writer.host) && is_new())
    }

    /// The host that writes under an epoch, as its word says; none where that cannot be read now.
    pub(super) async fn writer_under(&self, path: &ChainPath, epoch: Option<Epoch>) -> Option<String> {
        let name = ObjectName::Epoch(path.clone(), epoch?);
        let (around, destinations) = (self.desk.around.clone(), self.desk.settings.destinations.clone());
        let found = blocking(move || Ok(writer_in(&*around, &destinations, &name))).await;
        found.ok().flatten()
    }

    /// The same in words.
    pub(super) async fn named_writer(&self, path: &ChainPath, epoch: Epoch) -> String {
        match self.writer_under(path, Some(epoch)).await {
            Some(host) if host == self.desk.settings.writer.host => format!("another machine with the name {host}"),
            Some(host) => format!("host {host}"),
            None => "another host".to_owned(),
        }
    }

    /// Writes the word that this host writes to the first destination that can be reached; nothing where another was faster.
    async fn claim(&mut self, mut next: Following) -> Result<Option<Following>, String> {
        let now = self.desk.around.now().time;
        let path = next.full.chain_path();
        let word = EpochWord::new(
            path.chain.clone(),
            next.scribe.epoch,
            next.tip.next(),
            now,
            next.scribe.writer.clone(),
        );
        let name = ObjectName::Epoch(path.clone(), next.scribe.epoch);
        let (around, destinations) = (self.desk.around.clone(), self.desk.settings.destinations.clone());
        let has_won = blocking(move || claim_in(&*around, &destinations, &path, &name, &word.to_bytes())).await?;
        if !has_won {
            return Ok(None);
        }
        // Whatever fails from here on: it is not claimed again as that of a host which was set up anew.
        self.has_claimed = true;
        let word = next
            .scribe
            .epoch_word(next.tip.next(), now, &self.desk.settings.authority);
        self.desk.spool.keep(&word).map_err(|error| told(&error))?;
        // Where it cannot be kept, the next run waits as another host would.
        last_epoch::keep(&self.desk.settings.spool, &next.full.chain_path(), next.scribe.epoch).ok();
        next.has_written = true;
        Ok(Some(next))
    }

    /// The revision that etcd has come to; none where no member tells.
    async fn etcd_revision(&self) -> Option<Revision> {
        let around = self.desk.around.clone();
        let access = blocking(move || around.access()).await.ok()?;
        for member in survey(&self.desk.settings.members, &access, Ahead::Little).await {
            if let Some(mut connection) = member.connection
                && let Ok(current) = connection.current_revision().await
            {
                return Some(current);
            }
        }
        None
    }
}

/// What etcd was heard to have and the chain of another host had not then: since when that is not captured, as far as is seen here.
#[derive(Debug, Default)]
struct Awaited(Option<(Revision, Timestamp)>);

impl Awaited {
    /// The chain has come so far, and etcd. Gives when everything that etcd had was captured last, where that is news.
    fn look(&mut self, reached: Revision, current: Option<Revision>, now: Timestamp) -> Option<Timestamp> {
        let came = self.0.take_if(|(awaited, _)| *awaited <= reached);
        match current {
            Some(current) if current <= reached => {
                self.0 = None;
                Some(now)
            }
            Some(current) => {
                self.0.get_or_insert((current, now));
                came.map(|(_, heard)| heard)
            }
            None => came.map(|(_, heard)| heard),
        }
    }

    fn since(&self) -> Option<Timestamp> {
        self.0.map(|(_, heard)| heard)
    }
}

/// Whether this host was the first to take the epoch, where it counts: in the first destination that can be reached and has
/// the chain.
fn claim_in(
    around: &dyn Surroundings,
    destinations: &BTreeSet<String>,
    path: &ChainPath,
    name: &ObjectName,
    word: &[u8],
) -> Result<bool, String> {
    let mut reasons = Vec::new();
    for destination in destinations {
        let store = match around.open(destination) {
            Ok(store) => store,
            Err(why) => {
                reasons.push(format!("{destination}: {why}"));
                continue;
            }
        };
        let listed = store.list_chain(path);
        let has_it = listed.as_ref().is_ok_and(|listed| {
            let mut listed = listed.iter();
            listed.any(|object| matches!(&object.name, Listed::Ours(name) if name.is_manifest()))
        });
        match (listed, has_it) {
            (Err(error), _) => reasons.push(format!("{destination}: {}", with_causes(&error))),
            (Ok(_), false) => reasons.push(format!("{destination}: it does not have backup {}", path.chain)),
            (Ok(_), true) => match store.put_document(name, word) {
                Ok(()) => return Ok(true),
                Err(store::Error::AlreadyExists { .. }) => return Ok(false),
                Err(error) => reasons.push(format!("{destination}: {}", with_causes(&error))),
            },
        }
    }
    Err(reasons.join("; "))
}

/// Who says in the first destination that has it, and where it counts, that he writes under the epoch of that name.
fn writer_in(around: &dyn Surroundings, destinations: &BTreeSet<String>, name: &ObjectName) -> Option<String> {
    destinations.iter().find_map(|destination| {
        let store = around.open(destination).ok()?;
        let word = store.read_small(name, MAX_BYTES as u64).ok()?;
        let counts = store.counts(name).ok()?;
        let word = EpochWord::from_bytes(&word).ok().filter(|_| counts)?;
        Some(clean(&word.writer.host))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_host_does_not_write_waits_since_etcd_was_first_heard_to_have_it() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let revision = |number| Revision::new(number).unwrap();
        let mut awaited = Awaited::default();
        let mut look = |reached, current: Option<i64>, second| {
            let whole_at = awaited.look(revision(reached), current.map(revision), at(second));
            (whole_at, awaited.since())
        };
        assert_eq!(look(10, Some(10), 0), (Some(at(0)), None));
        assert_eq!(look(10, Some(12), 10), (None, Some(at(10))));
        assert_eq!(look(10, Some(15), 20), (None, Some(at(10))));
        // It writes: what etcd had at the tenth second is there, and what it has now was heard of now.
        assert_eq!(look(14, Some(19), 30), (Some(at(10)), Some(at(30))));
        assert_eq!(look(14, Some(19), 90), (None, Some(at(30))), "it writes no more");
        assert_eq!(look(14, None, 100), (None, Some(at(30))), "etcd does not tell");
        assert_eq!(look(19, None, 110), (Some(at(30)), None));
        assert_eq!(look(19, Some(19), 120), (Some(at(120)), None));
    }
}
