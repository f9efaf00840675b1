//! A host that is switched off, sleeps, and has its clock set, on a clock that the test moves.

use std::collections::HashSet;
use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::calendar::OnCalendar;
use super::{CatchUp, Due, Handled, Lateness, Occasion, Schedule, Seen, Slot, Watch, When};

const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";

fn calendar(text: &str, rule: &str) -> When {
    let zone = TimeZone::posix(rule).unwrap();
    let calendar = OnCalendar::parse(text, &zone, &TimeZoneDatabase::none()).unwrap();
    When::Calendar(Box::new(calendar))
}

fn schedule(when: When) -> Schedule {
    Schedule {
        when,
        jitter: Duration::ZERO,
        catch_up: CatchUp::Once,
        late_after: Duration::from_secs(1800),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn slot(text: &str) -> Slot {
    Slot::new(at(text))
}

/// What happens to a host.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// It is awake.
    Awake(Duration),
    /// It is switched off, and on again.
    Off(Duration),
    /// It sleeps.
    Asleep(Duration),
    /// Its clock is set forward or back.
    ClockSet(SignedDuration),
}

/// A host and its agent.
struct Host {
    schedule: Schedule,
    handled: Handled,
    wall: Timestamp,
    /// The clock that is never set and stands still in sleep.
    running: Duration,
    watch: Watch,
    /// When the agent last looked.
    seen: Timestamp,
    taken: Vec<Slot>,
}

const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Host {
    fn new(schedule: Schedule, now: Timestamp) -> Self {
        Host {
            schedule,
            handled: Handled::since(now),
            wall: now,
            running: Duration::ZERO,
            watch: Watch::begin(now, Duration::ZERO),
            seen: now,
            taken: Vec::new(),
        }
    }

    fn meet(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Awake(time) => {
                for _ in 0..time.as_secs() / LOOK_EVERY.as_secs() {
                    self.wall += LOOK_EVERY;
                    self.running += LOOK_EVERY;
                    self.look()?;
                }
                Ok(())
            }
            Event::Off(time) => {
                self.wall += time;
                self.running = Duration::ZERO;
                self.watch = Watch::begin(self.wall, self.running);
                self.act(false)
            }
            Event::Asleep(time) => {
                self.wall += time;
                self.look()
            }
            Event::ClockSet(by) => {
                self.wall += by;
                self.look()
            }
        }
    }

    fn look(&mut self) -> Result<(), TestCaseError> {
        let was_watching = self.watch.look(self.wall, self.running) == Seen::Time;
        self.act(was_watching)
    }

    /// Does what is due, and holds that against the slots that came since the last look.
    fn act(&mut self, was_watching: bool) -> Result<(), TestCaseError> {
        self.handled.take_note_of(self.wall);
        let before = self.handled.clone();
        let came = self.came_since_last_look();
        let first_new = self.taken.len();
        loop {
            match self.schedule.due(&self.handled, self.watch.from(), self.wall) {
                Due::Run { slot, .. } => {
                    prop_assert!(self.schedule.due_at(slot) <= self.wall, "{slot} is taken too early");
                    self.taken.push(slot);
                    self.handled.take(slot, &self.schedule.when);
                }
                Due::Wait { slot, until } => {
                    prop_assert!(until > self.wall && !self.handled.contains(slot));
                    break;
                }
                Due::Nothing => break,
            }
        }
        let new = self.taken.get(first_new..).unwrap_or_default();
        let open = came.iter().copied().filter(|&slot| !before.contains(slot));
        let latest = came.last().copied().filter(|&slot| !before.contains(slot));
        if self.wall < self.seen {
            // A slot that was left out when the clock went forward over it may be caught up now, and comes once more if the
            // clock is set to just its time.
            let late = new.iter().filter(|slot| self.schedule.due_at(**slot) < self.wall);
            prop_assert!(late.count() <= usize::from(self.schedule.catch_up == CatchUp::Once));
        } else if was_watching {
            prop_assert_eq!(new, open.collect::<Vec<_>>(), "while it watched");
        } else if self.schedule.catch_up == CatchUp::Once {
            prop_assert_eq!(new, latest.into_iter().collect::<Vec<_>>(), "when it was back");
        } else {
            prop_assert!(new.iter().all(|&slot| self.schedule.due_at(slot) >= self.wall));
        }
        self.seen = self.wall;
        Ok(())
    }

    /// The slots that became due since the last look, or, if the clock went back, none.
    fn came_since_last_look(&self) -> Vec<Slot> {
        let begin = self
            .seen
            .saturating_sub(self.schedule.jitter)
            .unwrap()
            .max(self.handled.first_seen());
        let first = self.schedule.when.slot_after(begin);
        let all = std::iter::successors(first, |slot| self.schedule.when.slot_after(slot.instant()));
        all.take_while(|&slot| self.schedule.due_at(slot) <= self.wall)
            .collect()
    }
}

fn event() -> impl Strategy<Value = Event> {
    let minutes = |most: u64| (1..=most).prop_map(|minutes| Duration::from_secs(minutes * 60));
    let day = SignedDuration::from_hours(24);
    prop_oneof![
        4 => minutes(1000).prop_map(Event::Awake),
        1 => minutes(1800).prop_map(Event::Off),
        1 => minutes(1800).prop_map(Event::Asleep),
        1 => (-86_400..=86_400_i64).prop_map(|seconds| Event::ClockSet(SignedDuration::from_secs(seconds))),
        1 => prop::sample::select(vec![day, -day]).prop_map(Event::ClockSet),
    ]
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    const TEXTS: [&str; 7] = [
        "hourly",
        "*:0/30",
        "02:30",
        "1..3:0/15",
        "daily",
        "Sun 0/2:59",
        "*:7 UTC",
    ];
    let of_calendar = (
        prop::sample::select(TEXTS.to_vec()),
        prop::sample::select(vec![BERLIN, NEW_YORK]),
    );
    let when = prop_oneof![
        4 => of_calendar.prop_map(|(text, rule)| calendar(text, rule)),
        1 => prop::sample::select(vec!["45m", "6h", "25h"]).prop_map(|text| When::Every(text.parse().unwrap())),
    ];
    let catch_up = prop::sample::select(vec![CatchUp::Once, CatchUp::Never]);
    let jitter = prop_oneof![Just(0), 1..3000_u64];
    (when, catch_up, jitter).prop_map(|(when, catch_up, jitter)| Schedule {
        catch_up,
        jitter: Duration::from_secs(jitter),
        ..schedule(when)
    })
}

/// Up to two days before a change of the clock in one of the two zones.
fn beginning() -> impl Strategy<Value = Timestamp> {
    const CHANGES: [&str; 4] = [
        "2026-03-08T07:00:00Z",
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-11-01T06:00:00Z",
    ];
    let change = prop::sample::select(CHANGES.to_vec());
    (change, 0..172_800_i64).prop_map(|(change, before)| at(change) - SignedDuration::from_secs(before))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 2))]

    #[test]
    fn no_slot_is_missed_while_awake_and_none_is_taken_twice(
        schedule in any_schedule(),
        begin in beginning(),
        events in prop::collection::vec(event(), 1..12),
    ) {
        let mut host = Host::new(schedule, begin);
        for event in events {
            host.meet(event)?;
            let distinct: HashSet<Slot> = host.taken.iter().copied().collect();
            prop_assert_eq!(distinct.len(), host.taken.len(), "a slot is taken twice: {:?}", host.taken);
        }
    }

    #[test]
    fn the_latest_slot_is_the_last_of_all(
        schedule in any_schedule(),
        floor in beginning(),
        hours in 0..200_i64,
    ) {
        let end = floor + SignedDuration::from_hours(hours);
        let first = schedule.when.slot_after(floor);
        let all = std::iter::successors(first, |slot| schedule.when.slot_after(slot.instant()));
        let last = all.take_while(|slot| slot.instant() <= end).last();
        prop_assert_eq!(schedule.when.latest_slot(floor, end), last);
    }
}

#[test]
fn a_host_that_comes_back_takes_the_latest_slot_once() {
    let hourly = schedule(calendar("hourly", BERLIN));
    let mut handled = Handled::since(at("2026-11-20T08:30:00Z"));
    handled.take(slot("2026-11-20T09:00:00Z"), &hourly.when);
    let now = at("2026-11-20T15:20:00Z");
    let latest = slot("2026-11-20T15:00:00Z");
    let occasion = Occasion::CatchUp;
    assert_eq!(hourly.due(&handled, now, now), Due::Run { slot: latest, occasion });
    handled.take(latest, &hourly.when);
    let next = slot("2026-11-20T16:00:00Z");
    let wait = Due::Wait {
        slot: next,
        until: next.instant(),
    };
    assert_eq!(hourly.due(&handled, now, now), wait);
    let without = Schedule {
        catch_up: CatchUp::Never,
        ..hourly
    };
    assert_eq!(without.due(&Handled::since(at("2026-11-20T08:30:00Z")), now, now), wait);
}

#[test]
fn slots_that_a_clock_ahead_took_are_left_out_and_those_before_them_are_not() {
    let hourly = schedule(calendar("hourly", BERLIN));
    let now = at("2026-11-20T10:30:00Z");
    let mut handled = Handled::since(at("2026-11-20T08:30:00Z"));
    for taken in ["2026-11-20T10:00:00Z", "2026-11-20T13:00:00Z", "2026-11-20T14:00:00Z"] {
        handled.take(slot(taken), &hourly.when);
    }
    let upcoming: Vec<String> = hourly
        .upcoming(&handled, now, 4)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        upcoming,
        [
            "2026-11-20T11:00:00Z",
            "2026-11-20T12:00:00Z",
            "2026-11-20T15:00:00Z",
            "2026-11-20T16:00:00Z"
        ]
    );
}

#[test]
fn a_schedule_is_late_when_the_time_of_its_first_undone_slot_is_over() {
    let hourly = Schedule {
        jitter: Duration::from_secs(252),
        ..schedule(calendar("hourly", BERLIN))
    };
    let since = at("2026-11-20T08:30:00Z");
    let lateness = |last: Option<&str>, now| hourly.lateness(since, last.map(slot), at(now));
    let late_for = |first: &str, over: &str| Lateness::Late {
        slot: slot(first),
        since: at(over),
    };
    assert_eq!(lateness(None, "2026-11-20T09:34:12Z"), Lateness::InTime);
    let first = late_for("2026-11-20T09:00:00Z", "2026-11-20T09:34:12Z");
    assert_eq!(lateness(None, "2026-11-20T09:34:13Z"), first);
    assert_eq!(lateness(None, "2026-11-21T09:34:13Z"), first);
    assert_eq!(
        lateness(Some("2026-11-20T09:00:00Z"), "2026-11-20T10:30:00Z"),
        Lateness::InTime
    );
    assert_eq!(
        lateness(Some("2026-11-20T09:00:00Z"), "2026-11-20T12:00:00Z"),
        late_for("2026-11-20T10:00:00Z", "2026-11-20T10:34:12Z")
    );
    let ahead = Lateness::Ahead {
        slot: slot("2026-11-21T09:00:00Z"),
    };
    assert_eq!(lateness(Some("2026-11-21T09:00:00Z"), "2026-11-20T12:00:00Z"), ahead);
}
