//! What the agent does next: one job at a time, the one that is due first; one that failed again after a pause.
//!
//! Leaves to the caller the clock, the work, and keeping what is remembered.
//! Invariant: a slot is taken when its work was done, so that one whose work was cut off is done again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::memory::{Memory, Success};
use crate::config::{Config, ScheduleName};
use crate::schedule::{Due, Lateness, Occasion, Schedule, Slot, jitter};

/// How long a slot whose work failed rests: twice as long each time.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(2);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// How long a job waits that found another run active.
const BUSY_PAUSE: SignedDuration = SignedDuration::from_secs(2);

/// The schedules of this host, and what became of their slots.
#[derive(Debug)]
pub struct Desk {
    entries: BTreeMap<ScheduleName, Entry>,
}

/// One schedule.
#[derive(Debug)]
pub struct Entry {
    /// When it is due.
    pub schedule: Schedule,
    /// What is remembered of it.
    pub memory: Memory,
    /// The slot that is tried again, if one failed.
    pub retry: Option<Retry>,
}

/// A slot whose work failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Which.
    pub slot: Slot,
    /// How often.
    pub failures: u32,
    /// Why, the last time.
    pub error: String,
    /// When it is tried again.
    pub not_before: Timestamp,
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
        /// Why now.
        occasion: Occasion,
    },
    /// Nothing before then.
    Wait(Timestamp),
    /// Nothing at all.
    Idle,
}

impl Desk {
    /// The schedules of `config` on `host`, with what `remembered` knows of each.
    pub fn new(
        config: &Config,
        host: &str,
        mut remembered: impl FnMut(&ScheduleName) -> Option<Memory>,
        now: Timestamp,
    ) -> Desk {
        let entries = config.schedules.iter().map(|(name, configured)| {
            let schedule = on_host(configured, host, name);
            let memory = match remembered(name) {
                Some(memory) => memory.fitted(&schedule.when, now),
                None => Memory::new(&schedule.when, now),
            };
            let entry = Entry {
                schedule,
                memory,
                retry: None,
            };
            (name.clone(), entry)
        });
        Desk {
            entries: entries.collect(),
        }
    }

    /// The schedules in the order of their names.
    pub fn entries(&self) -> &BTreeMap<ScheduleName, Entry> {
        &self.entries
    }

    /// Takes over what failed before the configuration was read anew.
    pub fn keep_retries_of(&mut self, before: &Desk) {
        for (name, entry) in &mut self.entries {
            let earlier = before.entries.get(name);
            let same = earlier.filter(|earlier| earlier.schedule.when == entry.schedule.when);
            entry.retry = same.and_then(|earlier| earlier.retry.clone());
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
                        let name = name.clone();
                        first = Some((due_at, Next::Run { name, slot, occasion }));
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

    /// The work of a slot was done. Gives what is to be remembered, unless the schedule is gone meanwhile.
    pub fn succeeded(&mut self, name: &ScheduleName, success: Success) -> Option<&Memory> {
        let entry = self.entries.get_mut(name)?;
        entry.retry = None;
        entry.memory.handled.take(success.slot, &entry.schedule.when);
        entry.memory.last_success = Some(success);
        Some(&entry.memory)
    }

    /// The work of a slot was not done.
    pub fn failed(&mut self, name: &ScheduleName, slot: Slot, error: String, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let before = entry.retry.as_ref().filter(|retry| retry.slot == slot);
        let failures = before.map_or(0, |retry| retry.failures).saturating_add(1);
        entry.retry = Some(Retry {
            slot,
            failures,
            error,
            not_before: now.saturating_add(pause(failures)).unwrap_or(now),
        });
    }

    /// Another run was active: the slot waits for it and has not failed.
    pub fn busy(&mut self, name: &ScheduleName, slot: Slot, holder: String, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let before = entry.retry.as_ref().filter(|retry| retry.slot == slot);
        entry.retry = Some(Retry {
            slot,
            failures: before.map_or(0, |retry| retry.failures),
            error: holder,
            not_before: now.saturating_add(BUSY_PAUSE).unwrap_or(now),
        });
    }
}

impl Entry {
    /// What is due, with the pause of a slot that failed.
    pub fn due(&self, watched_from: Timestamp, now: Timestamp) -> Due {
        let due = self.schedule.due(&self.memory.handled, watched_from, now);
        let (Due::Run { slot, .. }, Some(retry)) = (due, &self.retry) else {
            return due;
        };
        // Longer than the longest pause it is only after the clock was set back.
        let left = retry.not_before.duration_since(now);
        if retry.slot != slot || !left.is_positive() || left > LONGEST_PAUSE {
            return due;
        }
        Due::Wait {
            slot,
            until: retry.not_before,
        }
    }

    /// Whether it has failed to do its work by `now`.
    pub fn lateness(&self, now: Timestamp) -> Lateness {
        let last = self.memory.last_success.as_ref().map(|success| success.slot);
        self.schedule.lateness(self.memory.handled.first_seen(), last, now)
    }
}

/// A configured schedule as it is on `host`.
fn on_host(configured: &crate::config::Schedule, host: &str, name: &ScheduleName) -> Schedule {
    Schedule {
        when: configured.when.clone(),
        jitter: jitter(configured.jitter, host, name.as_str()),
        catch_up: configured.catch_up,
        late_after: configured.late_after,
    }
}

fn pause(failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings);
    pause.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{CatchUp, When};

    fn at(text: &str) -> Timestamp {
        format!("2026-11-20T{text}Z").parse().unwrap()
    }

    fn desk(schedules: &[(&str, &str)]) -> Desk {
        let entries = schedules.iter().map(|(name, every)| {
            let when = When::Every(every.parse().unwrap());
            let entry = Entry {
                memory: Memory::new(&when, at("00:00:00")),
                schedule: Schedule {
                    when,
                    jitter: std::time::Duration::ZERO,
                    catch_up: CatchUp::Once,
                    late_after: std::time::Duration::from_secs(600),
                },
                retry: None,
            };
            (name.parse().unwrap(), entry)
        });
        Desk {
            entries: entries.collect(),
        }
    }

    fn name(text: &str) -> ScheduleName {
        text.parse().unwrap()
    }

    fn slot(text: &str) -> Slot {
        Slot::new(at(text))
    }

    fn run(schedule: &str, of: &str) -> Next {
        Next::Run {
            name: name(schedule),
            slot: slot(of),
            occasion: Occasion::OnTime,
        }
    }

    fn success(of: &str) -> Success {
        Success {
            slot: slot(of),
            at: at(of),
            id: "20261120T101530Z-9f3c4a1b".parse().unwrap(),
            missing: Vec::new(),
        }
    }

    #[test]
    fn of_two_that_are_due_the_earlier_goes_first_and_then_the_other() {
        let mut desk = desk(&[("a", "1h"), ("b", "20m")]);
        let start = at("00:00:00");
        assert_eq!(desk.next(start, at("00:10:00")), Next::Wait(at("00:20:00")));
        assert_eq!(desk.next(start, at("01:05:00")), run("a", "01:00:00"));
        desk.succeeded(&name("a"), success("01:00:00"));
        assert_eq!(desk.next(start, at("01:05:00")), run("b", "01:00:00"));
        desk.succeeded(&name("b"), success("01:00:00"));
        assert_eq!(desk.next(start, at("01:05:00")), Next::Wait(at("01:20:00")));
    }

    #[test]
    fn a_slot_that_failed_rests_longer_each_time_and_gives_way_to_the_next_slot() {
        let mut desk = desk(&[("a", "1h")]);
        let start = at("00:00:00");
        let mut now = at("01:00:00");
        let mut pauses = Vec::new();
        while now < at("02:00:00") {
            assert_eq!(desk.next(start, now), run("a", "01:00:00"));
            desk.failed(&name("a"), slot("01:00:00"), "etcd is down".to_owned(), now);
            let Next::Wait(until) = desk.next(start, now) else {
                panic!("it rests")
            };
            pauses.push(until.duration_since(now).as_secs());
            now = until;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600, 600]);
        assert_eq!(desk.next(start, now), run("a", "02:00:00"));
        desk.failed(&name("a"), slot("02:00:00"), "etcd is down".to_owned(), now);
        assert_eq!(desk.entries()[&name("a")].retry.as_ref().map(|r| r.failures), Some(1));
    }

    #[test]
    fn another_run_is_waited_for_and_is_no_failure() {
        let mut desk = desk(&[("a", "1h")]);
        let start = at("00:00:00");
        desk.busy(
            &name("a"),
            slot("01:00:00"),
            "`lifeboat backup`".to_owned(),
            at("01:00:00"),
        );
        assert_eq!(desk.next(start, at("01:00:01")), Next::Wait(at("01:00:02")));
        assert_eq!(desk.next(start, at("01:00:02")), run("a", "01:00:00"));
        assert_eq!(desk.entries()[&name("a")].retry.as_ref().map(|r| r.failures), Some(0));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stretch_a_pause() {
        let mut desk = desk(&[("a", "1h")]);
        desk.failed(&name("a"), slot("01:00:00"), "no".to_owned(), at("09:00:00"));
        assert_eq!(desk.next(at("00:00:00"), at("01:30:00")), run("a", "01:00:00"));
    }

    #[test]
    fn slots_that_are_named_otherwise_begin_anew_and_the_last_success_stays() {
        let mut memory = Memory::new(&When::Every("1h".parse().unwrap()), at("00:00:00"));
        memory.last_success = Some(success("01:00:00"));
        let hourly = When::Every("1h".parse().unwrap());
        assert_eq!(memory.clone().fitted(&hourly, at("05:00:00")), memory);
        let daily = memory
            .clone()
            .fitted(&When::Every("24h".parse().unwrap()), at("05:00:00"));
        assert_eq!(daily.handled.first_seen(), at("05:00:00"));
        assert_eq!(daily.last_success, memory.last_success);
    }

    #[test]
    fn a_memory_reads_back_and_a_broken_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Memory::read(folder.path(), "a").unwrap(), None);
        let mut memory = Memory::new(&When::Every("1h".parse().unwrap()), at("00:00:00"));
        memory.last_success = Some(success("01:00:00"));
        memory.write(folder.path(), "a").unwrap();
        assert_eq!(Memory::read(folder.path(), "a").unwrap(), Some(memory));
        std::fs::write(folder.path().join("schedules/a.json"), "{").unwrap();
        assert!(Memory::read(folder.path(), "a").is_err());
    }

    #[test]
    fn what_has_no_success_in_time_is_late() {
        let mut desk = desk(&[("a", "1h")]);
        let late = |desk: &Desk, now: &str| !matches!(desk.entries()[&name("a")].lateness(at(now)), Lateness::InTime);
        assert!(!late(&desk, "01:09:00"));
        assert!(late(&desk, "01:11:00"));
        desk.succeeded(&name("a"), success("01:00:00"));
        assert!(!late(&desk, "01:11:00"));
    }
}
