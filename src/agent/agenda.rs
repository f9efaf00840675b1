//! What the agent does next: one job at a time, the one that is due first; what failed again after a pause.
//!
//! A slot is done when each of its schedule's destinations has its backup. One that failed is tried again alone, the
//! others do not get a second one; one that another host works on is looked at again.
//!
//! Leaves to the caller the clock, the work, and keeping what is remembered.
//! Invariant: a slot is taken when its work was done, so that one whose work was cut off is done again.
//! Invariant: no destination that has the backup of a slot is named for that slot again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::retry::{Rest, Retry};
use super::schedule_memory::{Memory, Success, few};
use crate::config::{Config, DestinationName, ScheduleName};
use crate::schedule::{Due, Lateness, Occasion, Schedule, Slot, jitter};
use crate::slots::{Fate, Stored};

/// The schedules of this host, and what became of their slots.
#[derive(Debug)]
pub struct Agenda {
    entries: BTreeMap<ScheduleName, Entry>,
}

/// One schedule.
#[derive(Debug)]
pub struct Entry {
    /// When it is due.
    pub schedule: Schedule,
    /// Where its backups go.
    pub destinations: BTreeSet<DestinationName>,
    /// What is remembered of it.
    pub memory: Memory,
    /// What is tried again, or looked at again.
    pub retry: Option<Retry>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This slot's work.
    Run {
        /// Whose.
        name: ScheduleName,
        /// Which.
        slot: Slot,
        /// Where to; at least one.
        destinations: BTreeSet<DestinationName>,
        /// Why now.
        occasion: Occasion,
    },
    /// Nothing before then.
    Wait(Timestamp),
    /// Nothing at all.
    Idle,
}

impl Agenda {
    /// The schedules of `config` on `host`, with what `remembered` knows of each.
    pub fn new(
        config: &Config,
        host: &str,
        mut remembered: impl FnMut(&ScheduleName) -> Option<Memory>,
        now: Timestamp,
    ) -> Agenda {
        let entries = config.schedules.iter().map(|(name, configured)| {
            let schedule = on_host(config, configured, host, name);
            let memory = match remembered(name) {
                Some(memory) => memory.fitted(&schedule.when, now),
                None => Memory::new(&schedule.when, now),
            };
            let destinations = configured.destinations.clone();
            (name.clone(), Entry::new(schedule, destinations, memory))
        });
        Agenda {
            entries: entries.collect(),
        }
    }

    /// The schedules in the order of their names.
    pub fn entries(&self) -> &BTreeMap<ScheduleName, Entry> {
        &self.entries
    }

    /// Takes over what failed before the configuration was read anew.
    pub fn keep_retries_of(&mut self, before: &Agenda) {
        for (name, entry) in &mut self.entries {
            let earlier = before.entries.get(name);
            let same = earlier.filter(|earlier| earlier.schedule.when == entry.schedule.when);
            entry.retry = same.and_then(|earlier| earlier.retry.clone());
            entry.forget_what_is_not_tried_again();
        }
    }

    /// What to do at `now`; `watched_from` is that of [`crate::schedule::Watch`].
    pub fn next(&mut self, watched_from: Timestamp, now: Timestamp) -> Next {
        let mut first: Option<(Timestamp, Next)> = None;
        let mut wait: Option<Timestamp> = None;
        for (name, entry) in &mut self.entries {
            entry.memory.handled.take_note_of(now);
            match entry.due(watched_from, now) {
                Due::Run { slot, occasion } => {
                    let due_at = entry.schedule.due_at(slot);
                    if first.as_ref().is_none_or(|(earliest, _)| due_at < *earliest) {
                        let run = Next::Run {
                            name: name.clone(),
                            slot,
                            destinations: entry.ready(slot, now),
                            occasion,
                        };
                        first = Some((due_at, run));
                    }
                }
                Due::Wait { until, .. } => wait = Some(wait.map_or(until, |earliest| earliest.min(until))),
                Due::Nothing => {}
            }
        }
        match (first, wait) {
            (Some((_, run)), _) => run,
            (None, Some(until)) => Next::Wait(until),
            (None, None) => Next::Idle,
        }
    }

    /// Whether a slot is due that is such a one and was not tried yet. What is tried or looked at again has the time to
    /// wait for what runs.
    pub fn is_new_one_due(
        &self,
        is_one: impl Fn(&ScheduleName, Slot) -> bool,
        watched_from: Timestamp,
        now: Timestamp,
    ) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|(name, entry)| entry.new_slot(watched_from, now).is_some_and(|slot| is_one(name, slot)))
    }

    /// Takes note of what became of a slot where it was tried, and of what was not done after it. Gives what is to be
    /// remembered, if that is something new and the schedule is still there.
    pub fn tried(
        &mut self,
        name: &ScheduleName,
        slot: Slot,
        fates: BTreeMap<DestinationName, Fate>,
        undone: Vec<String>,
        now: Timestamp,
    ) -> Option<&Memory> {
        let entry = self.entries.get_mut(name)?;
        let before = entry.retry.take().filter(|retry| retry.slot == slot);
        let mut rests = before.map_or(BTreeMap::new(), |retry| retry.rests);
        let mut stored = BTreeMap::new();
        for (destination, fate) in fates {
            let failures = rests.remove(&destination).map_or(0, |rest| rest.failures);
            let rest = match fate {
                Fate::Stored(copy) => {
                    stored.insert(destination.to_string(), copy);
                    continue;
                }
                Fate::Later { why, until } => Rest { failures, why, until },
                Fate::Failed(why) => Rest::after(failures.saturating_add(1), why, now),
            };
            rests.insert(destination, rest);
        }
        entry.retry = Some(Retry { slot, rests });
        let is_news = !stored.is_empty();
        if is_news {
            entry.succeed(slot, stored, few(undone), now);
        }
        // The configuration may have changed while it was tried.
        entry.forget_what_is_not_tried_again();
        is_news.then_some(&entry.memory)
    }
}

impl Entry {
    fn new(schedule: Schedule, destinations: BTreeSet<DestinationName>, memory: Memory) -> Entry {
        let mut entry = Entry {
            schedule,
            destinations,
            memory,
            retry: None,
        };
        // A destination that did not have it may have been taken out of the configuration.
        if let Some(last) = entry.memory.last_success.as_ref().map(|success| success.slot) {
            entry.take_if_done(last);
        }
        entry
    }

    /// What is due, with the pauses of what is tried again.
    pub fn due(&self, watched_from: Timestamp, now: Timestamp) -> Due {
        let due = self.schedule.due(&self.memory.handled, watched_from, now);
        let Due::Run { slot, .. } = due else { return due };
        let rests = self.open(slot).filter_map(|name| self.rest(slot, name, now));
        match rests.map(|rest| rest.until).min() {
            Some(until) if self.ready(slot, now).is_empty() => Due::Wait { slot, until },
            Some(_) | None => due,
        }
    }

    /// The slot that is due and was not tried yet in any destination.
    fn new_slot(&self, watched_from: Timestamp, now: Timestamp) -> Option<Slot> {
        let Due::Run { slot, .. } = self.due(watched_from, now) else {
            return None;
        };
        let is_retried = self.retry.as_ref().is_some_and(|retry| retry.slot == slot);
        let is_done_elsewhere = self.memory.last_success.as_ref().is_some_and(|done| done.slot == slot);
        (!is_retried && !is_done_elsewhere).then_some(slot)
    }

    /// Whether it has failed to do its work by `now`.
    pub fn lateness(&self, now: Timestamp) -> Lateness {
        let last = self.memory.last_success.as_ref().map(|success| success.slot);
        self.schedule.lateness(self.memory.handled.first_seen(), last, now)
    }

    /// Whether trying these means looking at what was waited for, and no new attempt.
    pub(super) fn only_waits(&self, slot: Slot, destinations: &BTreeSet<DestinationName>) -> bool {
        destinations.iter().all(|name| self.waits_for(slot, name).is_some())
    }

    /// What a destination waited for, if it did not fail.
    pub(super) fn waits_for(&self, slot: Slot, name: &DestinationName) -> Option<&String> {
        let retry = self.retry.as_ref().filter(|retry| retry.slot == slot)?;
        let rest = retry.rests.get(name).filter(|rest| rest.failures == 0)?;
        Some(&rest.why)
    }

    /// How often a destination has failed in a row, and why the last time.
    pub(super) fn failed_for(&self, slot: Slot, name: &DestinationName) -> Option<(u32, &str)> {
        let retry = self.retry.as_ref().filter(|retry| retry.slot == slot)?;
        let rest = retry.rests.get(name).filter(|rest| rest.failures > 0)?;
        Some((rest.failures, &rest.why))
    }

    /// The destinations that do not have the backup of a slot.
    pub fn open(&self, slot: Slot) -> impl Iterator<Item = &DestinationName> {
        let done = self.memory.last_success.as_ref().filter(|success| success.slot == slot);
        let has = move |name: &DestinationName| done.is_some_and(|done| done.stored.contains_key(name.as_str()));
        self.destinations.iter().filter(move |name| !has(name))
    }

    /// The destinations that can be tried now.
    fn ready(&self, slot: Slot, now: Timestamp) -> BTreeSet<DestinationName> {
        let open = self.open(slot);
        open.filter(|name| self.rest(slot, name, now).is_none())
            .cloned()
            .collect()
    }

    /// The pause of a destination that is not over.
    fn rest(&self, slot: Slot, name: &DestinationName, now: Timestamp) -> Option<&Rest> {
        let retry = self.retry.as_ref().filter(|retry| retry.slot == slot)?;
        retry.rests.get(name).filter(|rest| rest.is_on(now))
    }

    /// Remembers that a slot is done in some destinations, and takes it once it is in all.
    fn succeed(&mut self, slot: Slot, stored: BTreeMap<String, Stored>, undone: Vec<String>, now: Timestamp) {
        let mut all = match self.memory.last_success.take() {
            Some(before) if before.slot == slot => before.stored,
            // Another slot's turn has come before that one was done everywhere. Should the clock go back, those that
            // have it must not get a second backup.
            Some(before) => {
                self.memory.handled.take(before.slot, &self.schedule.when);
                BTreeMap::new()
            }
            None => BTreeMap::new(),
        };
        all.extend(stored);
        self.memory.last_success = Some(Success {
            slot,
            at: now,
            stored: all,
            undone,
        });
        self.take_if_done(slot);
    }

    /// Forgets the retry of a slot that does not come any more, and of destinations that have it or are not the schedule's.
    fn forget_what_is_not_tried_again(&mut self) {
        let Some(mut retry) = self.retry.take().filter(|retry| self.can_come(retry.slot)) else {
            return;
        };
        let open: BTreeSet<&DestinationName> = self.open(retry.slot).collect();
        retry.rests.retain(|name, _| open.contains(name));
        self.retry = Some(retry).filter(|retry| !retry.rests.is_empty());
    }

    /// Whether a slot is one of this schedule's, and not taken.
    fn can_come(&self, slot: Slot) -> bool {
        let handled = &self.memory.handled;
        let just_before = slot.instant().checked_sub(SignedDuration::from_nanos(1));
        let named = just_before
            .ok()
            .and_then(|before| self.schedule.when.slot_after(before));
        named == Some(slot) && slot.instant() > handled.first_seen() && !handled.contains(slot)
    }

    fn take_if_done(&mut self, slot: Slot) {
        if self.open(slot).next().is_none() {
            self.memory.handled.take(slot, &self.schedule.when);
        }
    }
}

/// A configured schedule as it is on `host`.
fn on_host(config: &Config, configured: &crate::config::Schedule, host: &str, name: &ScheduleName) -> Schedule {
    // Where only one host takes each slot, all look at it at the same moment: who goes first is not for the jitter to say.
    let seat = match configured
        .destinations
        .iter()
        .all(|name| config.is_shared(name.as_str()))
    {
        true => config.cluster.name.as_str(),
        false => host,
    };
    Schedule {
        when: configured.when.clone(),
        jitter: jitter(configured.jitter, seat, name.as_str()),
        catch_up: configured.catch_up,
        late_after: configured.late_after,
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
