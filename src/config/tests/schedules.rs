//! `[schedules.NAME]` and retention: defaults, and what is wrong, to the letter.

use super::*;
use crate::schedule::calendar::SHORTHANDS;

#[test]
fn slots_that_are_too_close_are_doubted() {
    let doubted = warnings("schedules.b = { kind = 'full', every = '1s' }");
    assert!(doubted.contains("`schedules.b.every`: every 1 s"), "{doubted}");
    let doubted = warnings("schedules.b = { kind = 'full', every = '10m', jitter = '20m' }");
    assert!(
        doubted.contains("`schedules.b.jitter` of 20 m is longer than the 10 m from"),
        "{doubted}"
    );
    assert_eq!(
        warnings("schedules.b = { kind = 'full', every = '10m', jitter = '5m' }"),
        ""
    );
}

#[test]
fn a_name_that_is_nearly_one_is_told_which() {
    let told = problems("schedules.b = { kind = 'full', when = 'hourley' }");
    assert!(told.contains("did you mean `hourly`?"), "{told}");
    let told = problems("schedules.b = { kind = 'full', when = 'Mon..Tomorrow' }");
    assert!(!told.contains("did you mean"), "{told}");
    for name in SHORTHANDS {
        valid(&[LEAST, &format!("schedules.b = {{ kind = 'full', when = '{name}' }}")]);
    }
}

#[test]
fn a_period_in_the_place_of_a_calendar_is_told_where_it_belongs() {
    for when in ["every 1m", "1m"] {
        let told = problems(&format!("schedules.b = {{ kind = 'full', when = '{when}' }}"));
        assert!(told.contains("; a period is written as `every = \"1m\"`"), "{told}");
    }
    let told = problems("schedules.b = { kind = 'full', when = 'Mo 12:00' }");
    assert!(!told.contains("a period"), "{told}");
}

#[test]
fn a_schedule_has_its_defaults_and_of_when_and_every_the_later_file_counts() {
    let hourly = "[schedules.hourly]\nkind = 'full'\nwhen = 'hourly'";
    let config = valid(&[LEAST, hourly]);
    let schedule = config.schedules.values().next().unwrap();
    assert_eq!(schedule.when.to_string(), "hourly");
    assert_eq!(
        (schedule.jitter, schedule.late_after),
        (Duration::from_secs(60), Duration::from_secs(3600))
    );
    assert_eq!(schedule.catch_up, crate::schedule::CatchUp::Once);
    assert_eq!(
        schedule
            .destinations
            .iter()
            .map(DestinationName::as_str)
            .collect::<Vec<_>>(),
        ["local"]
    );
    let when = |texts: &[&str]| valid(texts).schedules.values().next().unwrap().when.to_string();
    let every = "schedules.hourly.every = '90m'";
    assert_eq!(when(&[LEAST, hourly, every]), "every 1 h 30 m");
    assert_eq!(when(&[&format!("{every}\n{LEAST}"), hourly]), "hourly");
}

#[test]
fn what_is_wrong_with_a_schedule_or_with_retention_is_said_where_it_stands() {
    let cases = [
        ("schedules.a.kind = 'full'", "`schedules.a.when` is missing"),
        ("schedules.a.when = 'daily'", "`schedules.a.kind` is missing"),
        (
            "schedules.a = { kind = 'drill', when = 'daily' }",
            "schedules of kind \"drill\" are known only to later versions",
        ),
        (
            "schedules.a = { kind = 'full', when = 'sometimes' }",
            "`schedules.a.when`: ",
        ),
        (
            "schedules.a = { kind = 'full', when = '*:*:0/0.5' }",
            "\"*:*:0/0.5\" names more than one moment of a second",
        ),
        (
            "schedules.a = { kind = 'full', every = '500ms' }",
            "`schedules.a.every`: ",
        ),
        (
            "schedules.a = { kind = 'full', when = 'daily', every = '1h' }",
            "`schedules.a.every`: `when` stands beside it",
        ),
        (
            "schedules.a = { kind = 'full', when = 'daily', destinations = ['locl'] }",
            "`locl` is not one of `[destinations]` that are switched on; did you mean `local`?",
        ),
        (
            "schedules.a = { kind = 'full', when = 'daily', destinations = [] }",
            "`schedules.a.destinations` is empty",
        ),
        (
            "destinations.local.enabled = false\nschedules.a = { kind = 'full', when = 'daily' }",
            "there is no destination that its backups could go to",
        ),
        ("schedules.A = { kind = 'full', when = 'daily' }", "a schedule's name"),
        (
            "destinations.local.retention.keep_last = -1",
            "-1 is not a whole number from 0",
        ),
        (
            "destinations.local.retention.keep_within = '0s'",
            "is not a duration with a unit",
        ),
        ("destinations.local.retention.max_bytes = '3'", "a size with a unit"),
        ("destinations.local.retention.keep_lst = 3", "did you mean"),
    ];
    for (text, said) in cases {
        let found = problems(text);
        assert!(found.contains(said), "{text}\n{found}");
    }
    valid(&[LEAST, "schedules.a.enabled = false"]);
}
