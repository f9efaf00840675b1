//! What can be told without systemd; `tests/it/calendar.rs` asks systemd itself.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;

use super::{CalendarError, OnCalendar, Part};

const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";
/// Changes by half an hour.
const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
/// Changes at midnight.
const CAIRO: &str = "EET-2EEST,M4.5.5/0,M10.5.4/24";

fn zone(rule: &str) -> TimeZone {
    TimeZone::posix(rule).unwrap()
}

fn parse(text: &str, rule: &str) -> Result<OnCalendar, CalendarError> {
    OnCalendar::parse(text, &zone(rule), &TimeZoneDatabase::none())
}

/// The next elapses as the zone's clock shows them.
fn elapses(text: &str, rule: &str, after: &str, count: usize) -> Vec<String> {
    let calendar = parse(text, rule).unwrap();
    let first = calendar.next_after(after.parse().unwrap());
    let all = std::iter::successors(first, |&last| calendar.next_after(last)).take(count);
    all.map(|at| at.to_zoned(zone(rule)).strftime("%a %F %T %Z").to_string())
        .collect()
}

#[test]
fn more_than_one_elapse_in_a_second_is_noticed() {
    for text in [
        "*:*:0/0.5",
        "*:*:0,0.5",
        "*:*:1.9,1.1",
        "*:*:0/0.999999",
        "*:*:0.5/1,3",
        "*:*:0..1/0.3",
    ] {
        assert!(parse(text, BERLIN).unwrap().divides_seconds(), "{text}");
    }
    for text in [
        "*:*:*",
        "*:*:0/1",
        "*:*:0.5",
        "*:*:0/1.5",
        "*:*:0.5/1",
        "*:*:3,3",
        "*:*:0..5/2.5",
        "*:*:0/59.999999",
        "hourly",
    ] {
        assert!(!parse(text, BERLIN).unwrap().divides_seconds(), "{text}");
    }
}

#[test]
fn expressions_have_the_normal_form_that_systemd_prints() {
    let normal_forms = [
        ("minutely", "*-*-* *:*:00"),
        ("Hourly", "*-*-* *:00:00"),
        ("daily", "*-*-* 00:00:00"),
        ("weekly", "Mon *-*-* 00:00:00"),
        ("monthly", "*-*-01 00:00:00"),
        ("quarterly", "*-01,04,07,10-01 00:00:00"),
        ("semiannually", "*-01,07-01 00:00:00"),
        ("yearly", "*-01-01 00:00:00"),
        ("hourly UTC", "*-*-* *:00:00 UTC"),
        ("Mon..Fri 2:30", "Mon..Fri *-*-* 02:30:00"),
        ("Sun,Sat,Wed-thursday", "Wed,Thu,Sat,Sun *-*-* 00:00:00"),
        ("Mon..Sun", "*-*-* 00:00:00"),
        ("Mon, 5:3", "Mon *-*-* 05:03:00"),
        ("2-29", "*-02-29 00:00:00"),
        ("26-1-1", "2026-01-01 00:00:00"),
        ("70-1-1", "1970-01-01 00:00:00"),
        ("*-*~3/2 1/2:0:0.5", "*-*~03/2 01/2:00:00.500000"),
        ("*~1", "*-*~01 00:00:00"),
        ("*~*", "*-*-* 00:00:00"),
        ("3,3,1:0", "*-*-* 01,03:00:00"),
        ("5..9/3:00", "*-*-* 05..08/3:00:00"),
        ("5..6/3:00", "*-*-* 05:00:00"),
        ("*:*:*", "*-*-* *:*:*"),
        ("*:*:0..5/1", "*-*-* *:*:00..05"),
        ("*:*:1.1234567", "*-*-* *:*:01.123457"),
        ("*:*:1.5..3.25/0.5", "*-*-* *:*:01.500000..03/0.500000"),
        ("Mon @1774000000", "Mon 2026-03-20 09:46:40 UTC"),
        ("12:00 cest", "*-*-* 12:00:00 CEST"),
    ];
    for (text, normal_form) in normal_forms {
        assert_eq!(parse(text, BERLIN).unwrap().to_string(), normal_form, "{text}");
        assert_eq!(
            parse(normal_form, BERLIN).unwrap(),
            parse(text, BERLIN).unwrap(),
            "{text}"
        );
    }
}

#[test]
fn a_refusal_names_the_part_and_gives_an_example() {
    let message = |text| parse(text, BERLIN).unwrap_err().to_string();
    assert_eq!(
        message("Mo 12:00"),
        "days of the week `Mo`: expected names of days (`Mon` or `Monday`), `,` between them or `..` from an earlier to a \
         later one, as in `Mon..Fri,Sun 02:30`"
    );
    assert_eq!(
        message("*:*/5"),
        "minute `*/5`: expected `*`, or numbers with `,` between them, `..` for a range and `/` for a step, as in `*:00/15`"
    );
    assert_eq!(
        message("25:00"),
        "hour `25:00`: expected 0 to 23, start before stop, and a step that fits in between, as in `0/6:00`"
    );
    assert_eq!(
        message("12:00 Europe/Berln"),
        "time zone `Europe/Berln`: expected `UTC` or a name from this host's time zone database, as in `02:30 Europe/Berlin`"
    );
    let part = |text| match parse(text, BERLIN).unwrap_err() {
        CalendarError::Malformed { part, .. } | CalendarError::OutOfRange { part, .. } => part,
        CalendarError::UnknownZone { .. } => Part::Zone,
    };
    let parts = [
        ("", Part::Expression),
        (" UTC", Part::Expression),
        ("sun..mon", Part::Weekdays),
        ("Mon..", Part::Weekdays),
        ("1-2-3-4", Part::Date),
        ("1~2-3", Part::Date),
        ("2300-1-1", Part::Year),
        ("13-1", Part::Month),
        ("*-*-32", Part::Day),
        ("*-*~29", Part::Day),
        ("*-*~19,28", Part::Day),
        ("5", Part::Time),
        ("5:0 ", Part::Time),
        ("1:2:3:4", Part::Time),
        ("10..5:00", Part::Hour),
        ("5/20:00", Part::Hour),
        ("0/0:00", Part::Hour),
        ("*:60", Part::Minute),
        ("*:*:60", Part::Second),
        ("*:*:59.9999999", Part::Second),
        ("*:*:5..5", Part::Second),
        ("@1.5", Part::UnixTime),
        ("@-1", Part::UnixTime),
        ("@99999999999999999999", Part::UnixTime),
    ];
    for (text, expected) in parts {
        assert_eq!(part(text), expected, "`{text}`");
    }
}

#[test]
fn ordinary_expressions_elapse_when_one_would_expect() {
    let next = |text, count| elapses(text, BERLIN, "2026-11-20T10:15:30Z", count);
    assert_eq!(
        next("hourly", 2),
        ["Fri 2026-11-20 12:00:00 CET", "Fri 2026-11-20 13:00:00 CET"]
    );
    assert_eq!(
        next("Mon..Fri 02:30", 2),
        ["Mon 2026-11-23 02:30:00 CET", "Tue 2026-11-24 02:30:00 CET"]
    );
    assert_eq!(
        next("*-*~1 23:00", 2),
        ["Mon 2026-11-30 23:00:00 CET", "Thu 2026-12-31 23:00:00 CET"]
    );
    assert_eq!(
        next("Fri *-*-13", 2),
        ["Fri 2027-08-13 00:00:00 CEST", "Fri 2028-10-13 00:00:00 CEST"]
    );
    assert_eq!(
        next("Mon 2-29", 2),
        ["Mon 2044-02-29 00:00:00 CET", "Mon 2072-02-29 00:00:00 CET"]
    );
    assert_eq!(next("@1774000000", 1), [""; 0]);
    assert_eq!(next("2-30", 1), [""; 0]);
}

#[test]
fn a_skipped_reading_is_skipped_and_a_repeated_one_comes_once() {
    let spring = |text, count| elapses(text, BERLIN, "2026-03-28T12:00:00Z", count);
    assert_eq!(
        spring("02:30", 2),
        ["Mon 2026-03-30 02:30:00 CEST", "Tue 2026-03-31 02:30:00 CEST"]
    );
    assert_eq!(
        elapses("hourly", BERLIN, "2026-03-29T00:00:00Z", 2),
        ["Sun 2026-03-29 03:00:00 CEST", "Sun 2026-03-29 04:00:00 CEST"]
    );
    assert_eq!(
        elapses("*:0/30", BERLIN, "2026-10-25T00:00:00Z", 3),
        [
            "Sun 2026-10-25 02:30:00 CEST",
            "Sun 2026-10-25 03:00:00 CET",
            "Sun 2026-10-25 03:30:00 CET"
        ]
    );
    assert_eq!(
        elapses("1..2:30", NEW_YORK, "2026-03-08T06:00:00Z", 2),
        ["Sun 2026-03-08 01:30:00 EST", "Mon 2026-03-09 01:30:00 EDT"]
    );
    assert_eq!(
        elapses("daily", CAIRO, "2026-04-22T12:00:00Z", 2),
        ["Thu 2026-04-23 00:00:00 EET", "Sat 2026-04-25 00:00:00 EEST"]
    );
}

#[test]
fn changes_of_the_clock_are_told_in_words() {
    let told = |text, rule| {
        let (from, until) = (
            "2026-01-01T00:00:00Z".parse().unwrap(),
            "2027-01-01T00:00:00Z".parse().unwrap(),
        );
        let changes = parse(text, rule).unwrap().clock_changes(from, until);
        changes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        told("02:30", BERLIN),
        [
            "2026-03-29: 02:30:00 does not exist (the clock goes forward): no run for it",
            "2026-10-25: 02:30:00 comes twice (the clock goes back): runs the first time only",
        ]
    );
    assert_eq!(
        told("*:0/15", NEW_YORK),
        [
            "2026-03-08: 02:00:00 to 02:45:00 does not exist (the clock goes forward): no run for it",
            "2026-11-01: 01:00:00 to 01:45:00 comes twice (the clock goes back): runs the first time only",
        ]
    );
    assert_eq!(told("03:30", BERLIN), [""; 0]);
    assert_eq!(told("02:30 UTC", BERLIN), [""; 0]);
    assert_eq!(told("Mon..Fri 02:30", NEW_YORK), [""; 0]);
}

#[test]
fn where_systemd_gives_up_the_slots_go_on() {
    let calendar = parse("0/2:*", CAIRO).unwrap();
    let after: Timestamp = "2026-04-23T20:59:00Z".parse().unwrap();
    assert_eq!(calendar.next_after(after), None);
    let next = calendar.slot_after(after).unwrap().to_zoned(zone(CAIRO));
    assert_eq!(next.strftime("%F %T %Z").to_string(), "2026-04-24 02:00:00 EEST");
}

/// Mostly sound expressions of few parts.
fn expression() -> impl Strategy<Value = String> {
    let weekday = prop::sample::select(vec!["", "Mon ", "Sat,Sun ", "Mon..Fri ", "Sun "]);
    let date = prop::sample::select(vec![
        "",
        "*-*-1..7 ",
        "*-*~1 ",
        "*-10-25 ",
        "*-2-29 ",
        "*-3,10,11-* ",
        "*-*~7/1 ",
    ]);
    let hour = prop::sample::select(vec!["*", "0", "1", "2", "3", "0/2", "1..3", "23", "2,12"]);
    let minute = prop::sample::select(vec!["0", "30", "*", "0/7", "59", "1/15"]);
    let zone = prop::sample::select(vec!["", "", "", " UTC", " CET", " CEST"]);
    (weekday, date, hour, minute, zone).prop_map(|(w, d, h, m, z)| format!("{w}{d}{h}:{m}{z}"))
}

fn rule() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![BERLIN, NEW_YORK, LORD_HOWE, CAIRO, "UTC0"])
}

/// In 2026, half of them within two days of a change of the clock.
fn instant(rule: &'static str) -> impl Strategy<Value = Timestamp> {
    let january: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut changes: Vec<i64> = zone(rule)
        .following(january)
        .take(2)
        .map(|c| c.timestamp().as_second())
        .collect();
    changes.push(january.as_second());
    let near = (prop::sample::select(changes), -172_800..172_800_i64).prop_map(|(change, by)| change + by);
    let any_time = january.as_second()..january.as_second() + 365 * 86_400;
    prop_oneof![near, any_time].prop_map(|second| Timestamp::from_second(second).unwrap())
}

fn rule_and_instants() -> impl Strategy<Value = (&'static str, Timestamp, Timestamp)> {
    rule().prop_flat_map(|rule| (Just(rule), instant(rule), instant(rule)))
}

proptest! {
    #[test]
    fn slots_do_not_depend_on_when_they_are_asked_for((rule, one, other) in rule_and_instants(), text in expression()) {
        // What ends in an abbreviation, systemd itself can only be asked about in that half of the year.
        let Ok(calendar) = parse(text.trim_end_matches(" CET").trim_end_matches(" CEST"), rule) else { return Ok(()) };
        let (earlier, later) = (one.min(other), one.max(other));
        let (first, second) = (calendar.slot_after(earlier), calendar.slot_after(later));
        prop_assert!(first.is_none_or(|slot| slot > earlier));
        // Counting on from the first leads to the second, unless that is too far away to count to.
        let mut slot = first;
        for _ in 0..20_000 {
            match slot {
                Some(at) if at <= later => slot = calendar.slot_after(at),
                Some(_) | None => {
                    prop_assert_eq!(slot, second);
                    return Ok(());
                }
            }
        }
    }

    #[test]
    fn systemds_own_iteration_goes_through_the_slots((rule, after, _) in rule_and_instants(), text in expression()) {
        let Ok(calendar) = parse(&text, rule) else { return Ok(()) };
        let mut at = after;
        for _ in 0..5 {
            let slot = calendar.slot_after(at);
            if super::wall_clock::Repeated::around(&zone(rule), at).is_none() && let Some(next) = calendar.next_after(at) {
                prop_assert_eq!(slot, Some(next));
            }
            let Some(slot) = slot else { break };
            at = slot;
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-~*,./:@ 0-9a-zA-Zäß]{0,40}", rule in rule()) {
        if let Ok(calendar) = parse(&text, rule) {
            let again = parse(&calendar.to_string(), rule).unwrap();
            prop_assert_eq!(again.to_string(), calendar.to_string());
            let after: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
            prop_assert!(calendar.slot_after(after).is_none_or(|slot| slot > after));
        }
    }

    #[test]
    fn any_instant_can_be_asked_for(second in i64::MIN..i64::MAX, text in expression()) {
        let calendar = parse(&text, BERLIN).unwrap();
        let range = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
        let after = Timestamp::from_second(second.clamp(*range.start(), *range.end())).unwrap();
        prop_assert!(calendar.slot_after(after).is_none_or(|slot| slot > after));
    }
}
