//! One host, moment by moment.

use super::*;
use crate::schedule::{CatchUp, When};

fn at(text: &str) -> Timestamp {
    format!("2026-11-20T{text}Z").parse().unwrap()
}

fn start() -> Timestamp {
    at("00:00:00")
}

fn names(text: &str) -> BTreeSet<DestinationName> {
    text.split(' ').map(|name| name.parse().unwrap()).collect()
}

/// Schedules with their periods and destinations.
fn agenda(schedules: &[(&str, &str, &str)]) -> Agenda {
    let entries = schedules.iter().map(|(name, every, destinations)| {
        let when = When::Every(every.parse().unwrap());
        let memory = Memory::new(&when, start());
        let schedule = Schedule {
            when,
            jitter: std::time::Duration::ZERO,
            catch_up: CatchUp::Once,
            late_after: std::time::Duration::from_secs(600),
        };
        (name.parse().unwrap(), Entry::new(schedule, names(destinations), memory))
    });
    Agenda {
        entries: entries.collect(),
    }
}

fn name(text: &str) -> ScheduleName {
    text.parse().unwrap()
}

fn slot(text: &str) -> Slot {
    Slot::new(at(text))
}

fn run(schedule: &str, of: &str, destinations: &str) -> Next {
    Next::Run {
        name: name(schedule),
        slot: slot(of),
        destinations: names(destinations),
        occasion: Occasion::OnTime,
    }
}

fn stored() -> Fate {
    Fate::Stored(Stored {
        host: "h1".to_owned(),
        id: Some("20261120T101530Z-9f3c4a1b".parse().unwrap()),
    })
}

fn failed() -> Fate {
    Fate::Failed("no space".to_owned())
}

fn later(until: &str) -> Fate {
    Fate::Later {
        why: "host h2 takes it".to_owned(),
        until: at(until),
    }
}

/// What became of a slot of schedule `a` at `now`.
fn tried(agenda: &mut Agenda, of: &str, fates: &[(&str, Fate)], now: Timestamp) {
    tried_of(agenda, "a", of, fates, now);
}

fn tried_of(agenda: &mut Agenda, schedule: &str, of: &str, fates: &[(&str, Fate)], now: Timestamp) {
    let fates = fates.iter().map(|(name, fate)| (name.parse().unwrap(), fate.clone()));
    agenda.tried(&name(schedule), slot(of), fates.collect(), Vec::new(), now);
}

#[test]
fn of_two_that_are_due_the_earlier_goes_first_and_then_the_other() {
    let mut agenda = agenda(&[("a", "1h", "local"), ("b", "20m", "local")]);
    let now = at("01:05:00");
    assert_eq!(agenda.next(start(), at("00:10:00")), Next::Wait(at("00:20:00")));
    assert_eq!(agenda.next(start(), now), run("a", "01:00:00", "local"));
    tried_of(&mut agenda, "a", "01:00:00", &[("local", stored())], now);
    assert_eq!(agenda.next(start(), now), run("b", "01:00:00", "local"));
    tried_of(&mut agenda, "b", "01:00:00", &[("local", stored())], now);
    assert_eq!(agenda.next(start(), now), Next::Wait(at("01:20:00")));
}

#[test]
fn a_slot_that_failed_rests_longer_each_time_and_gives_way_to_the_next_slot() {
    let mut agenda = agenda(&[("a", "1h", "local")]);
    let mut now = at("01:00:00");
    let mut pauses = Vec::new();
    while now < at("02:00:00") {
        assert_eq!(agenda.next(start(), now), run("a", "01:00:00", "local"));
        tried(&mut agenda, "01:00:00", &[("local", failed())], now);
        let Next::Wait(until) = agenda.next(start(), now) else {
            panic!("it rests")
        };
        pauses.push(until.duration_since(now).as_secs());
        now = until;
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600, 600]);
    assert_eq!(agenda.next(start(), now), run("a", "02:00:00", "local"));
    tried(&mut agenda, "02:00:00", &[("local", failed())], now);
    let rests = &agenda.entries()[&name("a")].retry.as_ref().unwrap().rests;
    assert_eq!(rests["local"].failures, 1);
}

#[test]
fn a_destination_that_failed_is_tried_again_alone_until_the_next_slot_comes() {
    let mut agenda = agenda(&[("a", "1h", "local nas")]);
    let now = at("01:00:00");
    assert_eq!(agenda.next(start(), now), run("a", "01:00:00", "local nas"));
    tried(&mut agenda, "01:00:00", &[("local", stored()), ("nas", failed())], now);
    assert_eq!(agenda.next(start(), now), Next::Wait(at("01:00:02")));
    assert_eq!(agenda.next(start(), at("01:00:02")), run("a", "01:00:00", "nas"));
    tried(&mut agenda, "01:00:00", &[("nas", failed())], at("01:00:02"));
    assert_eq!(agenda.next(start(), at("02:00:00")), run("a", "02:00:00", "local nas"));
    tried(
        &mut agenda,
        "02:00:00",
        &[("local", stored()), ("nas", stored())],
        at("02:00:00"),
    );
    assert_eq!(agenda.next(start(), at("02:00:00")), Next::Wait(at("03:00:00")));
    let back = at("01:30:00");
    assert_eq!(
        agenda.next(back, back),
        Next::Wait(at("03:00:00")),
        "the clock went back to before the second slot, and local has both"
    );
}

#[test]
fn after_a_restart_only_what_lacks_the_backup_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = agenda(&[("a", "1h", "local nas")]);
    let now = at("01:00:00");
    let fates = [("local", stored()), ("nas", failed())].map(|(name, fate)| (name.parse().unwrap(), fate));
    let memory = before.tried(&name("a"), slot("01:00:00"), fates.into(), Vec::new(), now);
    memory.unwrap().write(folder.path(), "a").unwrap();
    let mut after = agenda(&[("a", "1h", "local nas")]);
    let read = Memory::read(folder.path(), "a").unwrap().unwrap();
    let restart = |agenda: &mut Agenda, destinations: &str| {
        let entry = agenda.entries.get_mut(&name("a")).unwrap();
        *entry = Entry::new(entry.schedule.clone(), names(destinations), read.clone());
        agenda.next(start(), at("01:00:01"))
    };
    assert_eq!(restart(&mut after, "local nas"), run("a", "01:00:00", "nas"));
    assert_eq!(
        restart(&mut after, "local"),
        Next::Wait(at("02:00:00")),
        "nas was given up"
    );
}

#[test]
fn what_another_host_works_on_is_looked_at_again_and_holds_up_nothing_else() {
    let mut agenda = agenda(&[("a", "1h", "nas usb")]);
    let now = at("01:00:00");
    tried(
        &mut agenda,
        "01:00:00",
        &[("nas", later("01:00:05")), ("usb", failed())],
        now,
    );
    assert_eq!(agenda.next(start(), at("01:00:02")), run("a", "01:00:00", "usb"));
    tried(&mut agenda, "01:00:00", &[("usb", stored())], at("01:00:03"));
    assert_eq!(agenda.next(start(), at("01:00:04")), Next::Wait(at("01:00:05")));
    assert_eq!(agenda.next(start(), at("01:00:05")), run("a", "01:00:00", "nas"));
    let rests = &agenda.entries()[&name("a")].retry.as_ref().unwrap().rests;
    assert_eq!(rests["nas"].failures, 0, "it has not failed");
    tried(&mut agenda, "01:00:00", &[("nas", stored())], at("01:00:06"));
    assert_eq!(agenda.next(start(), at("01:00:06")), Next::Wait(at("02:00:00")));
}

#[test]
fn only_a_slot_that_was_not_tried_yet_is_new() {
    let mut agenda = agenda(&[("a", "1h", "nas usb")]);
    let is_new = |agenda: &Agenda, now| agenda.is_new_one_due(|_, _| true, start(), at(now));
    assert!(!is_new(&agenda, "00:59:59"));
    assert!(is_new(&agenda, "01:00:00"));
    assert!(!agenda.is_new_one_due(|_, _| false, start(), at("01:00:00")));
    tried(
        &mut agenda,
        "01:00:00",
        &[("nas", later("01:00:10")), ("usb", failed())],
        at("01:00:00"),
    );
    for again in ["01:00:02", "01:00:10", "01:40:00"] {
        assert!(matches!(agenda.next(start(), at(again)), Next::Run { .. }));
        assert!(!is_new(&agenda, again), "{again}: it is only tried or looked at again");
    }
    assert!(is_new(&agenda, "02:00:00"), "the next slot");
}

/// The agenda after its configuration was read anew: schedule `a` with this period and these destinations.
fn read_anew(before: &Agenda, every: &str, destinations: &str, now: &str) -> Agenda {
    let entry = &before.entries[&name("a")];
    let when = When::Every(every.parse().unwrap());
    let memory = entry.memory.clone().fitted(&when, at(now));
    let schedule = Schedule {
        when,
        ..entry.schedule.clone()
    };
    let entry = Entry::new(schedule, names(destinations), memory);
    let mut after = Agenda {
        entries: BTreeMap::from([(name("a"), entry)]),
    };
    after.keep_retries_of(before);
    after
}

fn rests(agenda: &Agenda) -> Vec<String> {
    let retry = agenda.entries[&name("a")].retry.iter();
    retry
        .flat_map(|retry| retry.rests.keys().map(ToString::to_string))
        .collect()
}

#[test]
fn what_failed_is_forgotten_with_its_destination() {
    let mut before = agenda(&[("a", "1h", "local nas usb")]);
    let fates = [("local", stored()), ("nas", failed()), ("usb", failed())];
    tried(&mut before, "01:00:00", &fates, at("01:00:00"));
    assert_eq!(rests(&before), ["nas", "usb"]);
    let mut fewer = read_anew(&before, "1h", "local usb", "01:00:01");
    assert_eq!(rests(&fewer), ["usb"]);
    assert_eq!(rests(&read_anew(&before, "1h", "local", "01:00:01")), [""; 0]);
    // And if it is tried at that moment.
    tried(&mut fewer, "01:00:00", &[("nas", failed())], at("01:00:02"));
    assert_eq!(rests(&fewer), ["usb"]);
    tried(&mut fewer, "01:00:00", &[("usb", stored())], at("01:00:03"));
    assert_eq!(fewer.next(start(), at("01:00:04")), Next::Wait(at("02:00:00")));
}

#[test]
fn what_failed_is_forgotten_with_its_slot() {
    let mut before = agenda(&[("a", "1h", "local")]);
    tried(&mut before, "01:00:00", &[("local", failed())], at("01:00:00"));
    assert_eq!(rests(&read_anew(&before, "1h", "local", "01:00:01")), ["local"]);
    for every in ["24h", "30m"] {
        let mut after = read_anew(&before, every, "local", "01:00:01");
        assert_eq!(rests(&after), [""; 0], "{every}");
        // And if it is tried at that moment.
        tried(&mut after, "01:00:00", &[("local", failed())], at("01:00:02"));
        assert_eq!(rests(&after), [""; 0], "{every}");
    }
}

#[test]
fn what_was_not_done_has_a_bound_and_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut agenda = agenda(&[("a", "1h", "local")]);
    let undone = (0..2600).map(|number| format!("{number}: {}", "ü".repeat(5_000)));
    let fates = BTreeMap::from([("local".parse().unwrap(), stored())]);
    let memory = agenda.tried(&name("a"), slot("01:00:00"), fates, undone.collect(), at("01:00:00"));
    memory.unwrap().write(folder.path(), "a").unwrap();
    let read = Memory::read(folder.path(), "a").unwrap().unwrap();
    assert_eq!(read, agenda.entries()[&name("a")].memory);
    let undone = read.last_success.unwrap().undone;
    assert_eq!(undone.len(), 6);
    assert!(undone[0].starts_with("0: ") && undone[4].starts_with("4: "));
    assert!(undone.iter().all(|text| text.len() <= 1024));
    assert_eq!(undone[5], "and 2595 more: see the journal");
}

#[test]
fn a_clock_that_was_set_back_does_not_stretch_a_pause() {
    let mut agenda = agenda(&[("a", "1h", "local")]);
    tried(&mut agenda, "01:00:00", &[("local", failed())], at("09:00:00"));
    assert_eq!(agenda.next(start(), at("01:30:00")), run("a", "01:00:00", "local"));
}

#[test]
fn slots_that_are_named_otherwise_begin_anew_and_the_last_success_stays() {
    let mut agenda = agenda(&[("a", "1h", "local")]);
    tried(&mut agenda, "01:00:00", &[("local", stored())], at("01:00:00"));
    let memory = agenda.entries()[&name("a")].memory.clone();
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
    let mut agenda = agenda(&[("a", "1h", "local")]);
    tried(&mut agenda, "01:00:00", &[("local", stored())], at("01:00:00"));
    let memory = agenda.entries()[&name("a")].memory.clone();
    memory.write(folder.path(), "a").unwrap();
    assert_eq!(Memory::read(folder.path(), "a").unwrap(), Some(memory));
    std::fs::write(folder.path().join("schedules/a.json"), "{").unwrap();
    assert!(Memory::read(folder.path(), "a").is_err());
}

#[test]
fn what_has_no_success_in_time_is_late() {
    let mut agenda = agenda(&[("a", "1h", "local")]);
    let late = |agenda: &Agenda, now: &str| !matches!(agenda.entries()[&name("a")].lateness(at(now)), Lateness::InTime);
    assert!(!late(&agenda, "01:09:00"));
    assert!(late(&agenda, "01:11:00"));
    tried(&mut agenda, "01:00:00", &[("local", stored())], at("01:00:00"));
    assert!(!late(&agenda, "01:11:00"));
}
