//! Retention while clocks step, and while they do not.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::{TimeZone, db};
use jiff::{SignedDuration, Timestamp};

use super::super::*;
use crate::catalog::Standing;
use crate::layout::{ChainPath, Proof};
use crate::model::{ByteSize, ChainId, ClusterId, LineageId, Revision};
use crate::schedule::calendar::OnCalendar;
use crate::schedule::{HighestTime, Pauses, When};

const EVERY: SignedDuration = SignedDuration::from_hours(6);
const RUNS: i64 = 36;
/// So many runs are a day, after which clocks that agree are believed.
const DAY: i64 = 4;

/// Which clocks are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// This host's, which dates the backup and judges.
    Host,
    /// This host's, but only while it judges.
    HostWhileJudging,
    /// The store's.
    Store,
    /// Both, as where the store is a directory of this host.
    Both,
}

/// Hosts that take a backup each six hours and judge all of them after each; by their revisions, what there is.
#[derive(Debug, Clone, Default)]
struct World {
    chains: BTreeMap<i64, Chain>,
    /// What this host remembers of its clock.
    highest: Option<HighestTime>,
}

impl World {
    fn run(&mut self, run: i64, policy: &Policy, dated_by: SignedDuration, clocks: &Clocks) {
        let first: ChainId = ChainId::new(truly(0), 1);
        let id = ChainId::new(truly(run) + dated_by, u32::try_from(run).expect("there are few") + 1);
        let chain = Chain {
            path: ChainPath {
                cluster: ClusterId(0xab),
                chain: id,
            },
            lineage: LineageId::opened_by(ClusterId(0xab), &first),
            tip: Revision::new(run + 1).expect("it is not negative"),
            reach: Revision::new(run + 1).expect("it is not negative"),
            captured_at: None,
            proven: None,
            generation: 0,
            bytes: 1,
            standing: Standing::Good(Proof::Stored),
            is_unsure: false,
            pin: PinState::Free,
        };
        self.chains.insert(run, chain);
        let inventory = Inventory {
            chains: self.chains.values().cloned().collect(),
            unjudged: None,
        };
        let highest = self.highest.take();
        let highest = highest.map_or_else(|| HighestTime::first(clocks.host), |highest| highest.after(clocks.host));
        let clocks = Clocks {
            set_back: Ok(highest.set_back(clocks.host)),
            ..clocks.clone()
        };
        self.highest = Some(highest);
        let (plan, _) = careful_plan(&inventory, policy, &clocks, Some(every(EVERY)), &TimeZone::UTC);
        for verdict in &plan.remove {
            self.chains.retain(|_, chain| chain.path != verdict.chain.path);
        }
    }
}

/// The pauses of a fixed distance.
pub(super) fn every(distance: SignedDuration) -> Pauses {
    Pauses {
        shortest: distance,
        longest: distance,
    }
}

fn truly(run: i64) -> Timestamp {
    let hours = run * EVERY.as_hours();
    "2026-11-20T02:01:00Z".parse::<Timestamp>().expect("it is one") + SignedDuration::from_hours(hours)
}

fn right(at: Timestamp) -> Clocks {
    Clocks {
        host: at,
        store: Ok(at),
        set_back: Ok(None),
    }
}

/// For each clock, step and point: while it lasts and for a day after, all that the true time keeps is there.
#[test]
fn whichever_clock_steps_when_and_how_far_nothing_goes_that_the_true_time_would_keep() {
    // Edges of windows and days lie between the slots and more than an hour away: of a date that is wrong by an hour, when
    // the clock is right again, nobody can tell.
    let within = Policy {
        keep_within: Some(Duration::from_secs(3600 * (5 * 24 + 3))),
        ..Policy::default()
    };
    let daily = Policy {
        keep_last: 2,
        keep_daily: 7,
        ..Policy::default()
    };
    // Room for what the true time keeps and a little more.
    let bounded = Policy {
        max_bytes: Some(ByteSize(12)),
        ..daily.clone()
    };
    let hours = SignedDuration::from_hours;
    let steps = [1, 30 * 24, 10 * 365 * 24]
        .into_iter()
        .flat_map(|step| [hours(step), hours(-step)]);
    let steps: Vec<SignedDuration> = steps.collect();
    let wrongs = [Wrong::Host, Wrong::HostWhileJudging, Wrong::Store, Wrong::Both];
    let mut removed = 0;
    for policy in [&within, &daily, &bounded] {
        // What there is after each run where no clock is wrong.
        let mut true_worlds = vec![World::default()];
        for run in 0..RUNS {
            let mut world = true_worlds.last().expect("there is one").clone();
            world.run(run, policy, SignedDuration::ZERO, &right(truly(run)));
            true_worlds.push(world);
        }
        removed += RUNS as usize - true_worlds.last().expect("there is one").chains.len();
        for from in 0..RUNS {
            for (step, wrong, lasts) in steps.iter().flat_map(|step| {
                let all = wrongs
                    .iter()
                    .flat_map(|wrong| [1, 3, i64::MAX].map(|lasts| (*wrong, lasts)));
                all.map(|(wrong, lasts)| (*step, wrong, lasts))
            }) {
                // Where all clocks stay wrong, they agree after a day.
                let until = match (wrong, lasts) {
                    (Wrong::Both, i64::MAX) => from + DAY,
                    (_, i64::MAX) => from + 3 * DAY,
                    (_, lasts) => from + lasts + DAY,
                };
                let mut world = true_worlds[usize::try_from(from).expect("it is small")].clone();
                for run in from..until.min(RUNS) {
                    let at = truly(run);
                    let mut clocks = right(at);
                    let mut dated_by = SignedDuration::ZERO;
                    if run - from < lasts {
                        match wrong {
                            Wrong::Host | Wrong::HostWhileJudging => clocks.host += step,
                            Wrong::Store => clocks.store = Ok(at + step),
                            Wrong::Both => clocks = right(at + step),
                        }
                        if matches!(wrong, Wrong::Host | Wrong::Both) {
                            dated_by = step;
                        }
                    }
                    world.run(run, policy, dated_by, &clocks);
                    let kept = &true_worlds[usize::try_from(run).expect("it is small") + 1].chains;
                    let lost: Vec<&i64> = kept.keys().filter(|run| !world.chains.contains_key(run)).collect();
                    assert!(
                        lost.is_empty(),
                        "{wrong:?} by {step:?} from run {from} for {lasts}: after run {run} lost {lost:?} ({policy:?})"
                    );
                }
            }
        }
    }
    assert!(removed > RUNS as usize, "the rules remove most of them");
}

#[test]
fn nothing_goes_for_its_age_while_this_host_has_seen_a_later_time() {
    let policy = Policy {
        keep_last: 1,
        ..Policy::default()
    };
    let aged = Policy {
        keep_within: Some(Duration::from_secs(3600)),
        ..policy.clone()
    };
    let mut world = World::default();
    let all = Policy {
        keep_last: 100,
        ..Policy::default()
    };
    (0..8).for_each(|run| world.run(run, &all, SignedDuration::ZERO, &right(truly(run))));
    let inventory = Inventory {
        chains: world.chains.into_values().collect(),
        unjudged: None,
    };
    let now = truly(7) + SignedDuration::from_mins(1);
    let planned = |policy: &Policy, set_back| {
        let clocks = Clocks { set_back, ..right(now) };
        let (plan, held) = careful_plan(&inventory, policy, &clocks, Some(every(EVERY)), &TimeZone::UTC);
        let is_unknown = held.as_ref().is_some_and(|held| held.is_unknown);
        assert_eq!(is_unknown, clocks.set_back.is_err() && held.is_some());
        (plan.remove.len(), held.map(|held| held.to_string()))
    };
    let seen = |minutes| {
        let highest = HighestTime::first(now + SignedDuration::from_mins(minutes));
        Ok(highest.set_back(now))
    };
    assert_eq!(planned(&aged, Ok(None)), (7, None));
    assert_eq!(planned(&aged, seen(10)), (7, None));
    let (removed, told) = planned(&aged, seen(11));
    assert_eq!(removed, 0);
    assert!(told.unwrap().contains("the clock of this host was set back: it shows "));
    let (removed, told) = planned(&aged, Err("it is rotten".to_owned()));
    assert_eq!(removed, 0);
    assert!(told.unwrap().contains("not known (it is rotten)"));
    // Of a store that does not answer it is not known either, unless this host alone is doubted.
    for (set_back, is_unknown) in [(Ok(None), true), (seen(11), false)] {
        let clocks = Clocks {
            set_back,
            store: Err("it hangs".to_owned()),
            ..right(now)
        };
        let (plan, held) = careful_plan(&inventory, &aged, &clocks, Some(every(EVERY)), &TimeZone::UTC);
        let held = held.unwrap();
        assert_eq!((plan.remove.len(), held.is_unknown), (0, is_unknown), "{held}");
    }
    // What goes by its number has nothing to do with the time.
    assert_eq!(planned(&policy, seen(10 * 365 * 24 * 60)), (7, None));
}

/// The slots of a timetable from a Monday on, and its pauses.
fn timetable(text: &str) -> (impl Iterator<Item = Timestamp>, Option<Pauses>) {
    let when = When::Calendar(Box::new(OnCalendar::parse(text, &TimeZone::UTC, db()).unwrap()));
    let monday: Timestamp = "2026-11-02T00:00:00Z".parse().unwrap();
    let pauses = when.pauses(monday);
    let slots = std::iter::successors(Some(monday), move |after| {
        when.slot_after(*after).map(|slot| slot.instant())
    });
    (slots.skip(1), pauses)
}

/// A history with its backups and judgements at these times; what was held, with the run.
fn held(starts: impl Iterator<Item = Timestamp>, pauses: Option<Pauses>, policy: &Policy) -> Vec<(usize, Held)> {
    let mut inventory = Inventory::default();
    let mut told = Vec::new();
    for (run, start) in starts.enumerate() {
        let id = ChainId::new(start, u32::try_from(run).unwrap());
        let opened_by = inventory.chains.first().map_or(&id, |first| first.id()).clone();
        inventory.chains.push(Chain {
            path: ChainPath {
                cluster: ClusterId(0xab),
                chain: id,
            },
            lineage: LineageId::opened_by(ClusterId(0xab), &opened_by),
            tip: Revision::new(i64::try_from(run).unwrap() + 1).unwrap(),
            reach: Revision::new(i64::try_from(run).unwrap() + 1).unwrap(),
            captured_at: None,
            proven: None,
            generation: 0,
            bytes: 3,
            standing: Standing::Good(Proof::Stored),
            is_unsure: false,
            pin: PinState::Free,
        });
        let clocks = right(start + SignedDuration::from_mins(1));
        let (plan, held) = careful_plan(&inventory, policy, &clocks, pauses, &TimeZone::UTC);
        let gone: Vec<ChainPath> = plan.remove.iter().map(|verdict| verdict.chain.path.clone()).collect();
        told.extend(held.map(|held| (run, held)));
        inventory.chains.retain(|chain| !gone.contains(&chain.path));
    }
    told
}

fn policies() -> Vec<Policy> {
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let none = Policy::default();
    vec![
        // That of the sample.
        Policy {
            keep_last: 24,
            keep_daily: 7,
            ..none.clone()
        },
        Policy {
            keep_daily: 7,
            ..none.clone()
        },
        Policy {
            keep_last: 1,
            keep_weekly: 4,
            ..none.clone()
        },
        Policy {
            keep_within: days(3),
            ..none.clone()
        },
        Policy {
            keep_within: days(1),
            keep_yearly: 3,
            ..none.clone()
        },
        Policy {
            keep_hourly: 24,
            keep_daily: 1,
            keep_monthly: 12,
            ..none.clone()
        },
        Policy {
            keep_hourly: 24,
            keep_monthly: 12,
            max_bytes: Some(ByteSize(90)),
            ..none
        },
    ]
}

#[test]
fn nothing_is_held_while_no_clock_is_wrong() {
    for text in [
        "hourly",
        "*-*-* 09..17:00",
        "Mon..Fri 02:30",
        "weekly",
        "*-*-* 00/6:01",
        "*-*-01 04:00",
    ] {
        let jitter = SignedDuration::from_secs(40);
        for policy in policies() {
            let (slots, pauses) = timetable(text);
            // Each day a little sooner or later.
            let starts = slots.zip([SignedDuration::ZERO, jitter].into_iter().cycle());
            let starts = starts.map(|(slot, late)| slot + late).take(24 * 16);
            let found = held(starts, pauses, &policy);
            assert_eq!(found.first(), None, "{text}, {policy:?}, {} in all", found.len());
        }
    }
}

#[test]
fn a_schedule_that_changes_and_slots_that_are_missed_hold_nothing() {
    for policy in policies() {
        let (hourly, _) = timetable("hourly");
        let (weekly, pauses) = timetable("weekly");
        let changed = hourly.take(24 * 10).chain(weekly.skip(2).take(20));
        let found = held(changed, pauses, &policy);
        assert_eq!(found.first(), None, "{policy:?}, {} in all", found.len());
        let (hourly, pauses) = timetable("hourly");
        let missed = hourly
            .enumerate()
            .filter(|(slot, _)| ![100, 101, 150, 240, 241].contains(slot));
        let found = held(missed.map(|(_, start)| start).take(400), pauses, &policy);
        assert_eq!(found.first(), None, "{policy:?}, {} in all", found.len());
    }
}

/// A host that was off for three days: it is held for a day, and where only the last of that day stays, for a day after
/// that one; then no longer.
#[test]
fn what_is_held_after_a_real_pause_goes_when_days_have_come_after_it() {
    for policy in policies() {
        let (hourly, pauses) = timetable("hourly");
        let off = hourly.enumerate().filter(|(slot, _)| !(100..172).contains(slot));
        let found = held(off.map(|(_, start)| start).take(300), pauses, &policy);
        assert!(
            found.iter().all(|(run, _)| (100..=125).contains(run)),
            "{policy:?}: {:?}",
            found.last()
        );
    }
}

/// A history that ended with a pause, and the one that goes on after a restore.
#[test]
fn a_history_that_ended_holds_no_other() {
    let policy = Policy {
        keep_last: 2,
        keep_daily: 2,
        ..Policy::default()
    };
    let (hourly, pauses) = timetable("hourly");
    let starts: Vec<Timestamp> = hourly
        .enumerate()
        .filter(|(slot, _)| !(50..90).contains(slot))
        .map(|(_, start)| start)
        .take(200)
        .collect();
    let (cluster, mut inventory) = (ClusterId(0xab), Inventory::default());
    let mut told = Vec::new();
    for (run, start) in starts.iter().enumerate() {
        let id = ChainId::new(*start, u32::try_from(run).unwrap());
        // The one backup after the pause is the last of its history.
        let opened_by = ChainId::new(starts[if run > 50 { 51 } else { 0 }], u32::from(run > 50));
        inventory.chains.push(Chain {
            path: ChainPath { cluster, chain: id },
            lineage: LineageId::opened_by(cluster, &opened_by),
            tip: Revision::new(i64::try_from(run).unwrap() + 1).unwrap(),
            reach: Revision::new(i64::try_from(run).unwrap() + 1).unwrap(),
            captured_at: None,
            proven: None,
            generation: 0,
            bytes: 3,
            standing: Standing::Good(Proof::Stored),
            is_unsure: false,
            pin: PinState::Free,
        });
        let (plan, held) = careful_plan(&inventory, &policy, &right(*start), pauses, &TimeZone::UTC);
        let gone: Vec<ChainPath> = plan.remove.iter().map(|verdict| verdict.chain.path.clone()).collect();
        let kept = plan.keep.iter().map(|verdict| verdict.chain);
        let of_new = kept.filter(|chain| chain.id().started_at() > starts[50]).count();
        assert!(of_new <= 4, "after run {run} {of_new} of the new history: {held:?}");
        told.extend(held.map(|_| run));
        inventory.chains.retain(|chain| !gone.contains(&chain.path));
    }
    assert!(told.iter().all(|run| *run <= 50 + 24), "{told:?}");
}
