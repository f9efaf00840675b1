//! Calendar expressions against systemd's own answers: `systemd-analyze calendar`, which needs no running systemd.
//!
//! Random expressions, weighted towards odd corners, and random base times, many of them near a change of the clock, in
//! several zones. Compared are: which expressions are refused, the normalised form, and the next elapses.
//! `PROPTEST_CASES` widens it (the default, 256, makes 4 096 cases); `SYSTEMD_ANALYZE` names another binary.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::process::Command;

use jiff::Timestamp;
use jiff::tz::{self, TimeZone};
use lifeboat::schedule::calendar::OnCalendar;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::support::tools::skip;

/// Zones with rules that differ: whole and half hours, both hemispheres, midnight, summer time that counts backwards, none.
const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "UTC",
    "America/Havana",
    "Europe/Dublin",
    "America/Santiago",
    "Asia/Kolkata",
    "Africa/Cairo",
    "Pacific/Apia",
];

/// Expressions passed to one run of the program.
const BATCH: usize = 128;

/// What systemd says of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Refused,
    /// No next elapse was found, but it is not certain that there is none. The program then prints nothing else.
    GivenUp,
    /// The normalised form, and the next elapses in full seconds.
    Taken(String, Vec<i64>),
}

struct Oracle {
    program: String,
    version: u32,
}

impl Oracle {
    /// None, after saying so, if this host has no `systemd-analyze` or knows no zones.
    fn find() -> Option<Self> {
        let program = std::env::var("SYSTEMD_ANALYZE").unwrap_or_else(|_| "systemd-analyze".to_owned());
        let output = match Command::new(&program).arg("--version").output() {
            Ok(output) => output,
            Err(why) => {
                skip(&program, &why.to_string());
                return None;
            }
        };
        if let Err(why) = tz::db().get("Europe/Berlin") {
            skip("time zone database", &why.to_string());
            return None;
        }
        // `systemd 257 (257.13-1)`
        let text = String::from_utf8(output.stdout).unwrap();
        let version = text.split_whitespace().nth(1).and_then(|version| version.parse().ok());
        let version = version.unwrap_or_else(|| panic!("{program} has a version: {text}"));
        Some(Oracle { program, version })
    }

    fn ask(&self, zone: &str, base: Timestamp, iterations: usize, expressions: &[String]) -> Vec<Answer> {
        let micros = base.as_microsecond();
        let output = Command::new(&self.program)
            .env("TZ", zone)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("SYSTEMD_LOG_LEVEL")
            .arg("calendar")
            .arg(format!("--iterations={iterations}"))
            .arg(format!("--base-time=@{}.{:06}", micros / 1_000_000, micros % 1_000_000))
            .arg("--")
            .args(expressions)
            .output()
            .unwrap();
        let (stdout, stderr) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        let failure = |line| {
            let refused = str::strip_prefix(line, "Failed to parse calendar specification '");
            let given_up = str::strip_prefix(line, "Failed to determine next elapse for '");
            refused
                .map(|rest| (Answer::Refused, rest))
                .or(given_up.map(|rest| (Answer::GivenUp, rest)))
        };
        let mut failures: VecDeque<(Answer, &str)> = stderr.lines().filter_map(failure).collect();
        let mut blocks = stdout.split("\n\n").filter(|block| !block.trim().is_empty());
        let answers = expressions.iter().map(|expression| {
            let is_ours = |line: &str| {
                line.strip_prefix(expression.as_str())
                    .is_some_and(|rest| rest.starts_with("':"))
            };
            if let Some((failure, _)) = failures.pop_front_if(|(_, line)| is_ours(line)) {
                return failure;
            }
            let block = blocks.next();
            answer(block.unwrap_or_else(|| panic!("no answer for `{expression}` in {zone}: {stdout}\n{stderr}")))
        });
        let answers = answers.collect();
        assert_eq!(
            (failures.pop_front(), blocks.next()),
            (None, None),
            "each answer has its expression"
        );
        answers
    }
}

fn answer(block: &str) -> Answer {
    let mut normalised = String::new();
    let (mut elapses, mut in_utc) = (Vec::new(), Vec::new());
    for line in block.lines() {
        let Some((label, value)) = line.trim_start().split_once(": ") else {
            continue;
        };
        match label {
            "Normalized form" => normalised = value.to_owned(),
            "(in UTC)" => in_utc.push(second(value).unwrap()),
            "Next elapse" => elapses.extend(second(value)),
            label if label.starts_with("Iter") => elapses.extend(second(value)),
            _ => {}
        }
    }
    Answer::Taken(normalised, if in_utc.is_empty() { elapses } else { in_utc })
}

/// `Sat 2026-03-28 01:30:00 UTC`; None for `never` and for other zones.
fn second(text: &str) -> Option<i64> {
    let text = text.strip_suffix(" UTC")?;
    let civil = jiff::civil::DateTime::strptime("%a %Y-%m-%d %H:%M:%S", text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Whether all that is between the two answers is a fault of old versions: going from one year to the next, they look at
/// January only from the day on that a step through December has arrived at.
fn differ_by_skipped_days_of_january(theirs: &Answer, ours: &Answer, calendar_zone: &TimeZone) -> bool {
    let (Answer::Taken(their_form, theirs), Answer::Taken(our_form, ours)) = (theirs, ours) else {
        return false;
    };
    let mut skipped = Vec::new();
    let mut rest = theirs.iter().peekable();
    for elapse in ours {
        if rest.next_if_eq(&elapse).is_none() {
            skipped.push(Timestamp::from_second(*elapse).unwrap());
        }
    }
    // What is left of theirs lies behind the end of ours, which has as many elapses and more of them early.
    let left_is_later = rest.all(|elapse| Some(elapse) > ours.last());
    let in_january = |instant: &Timestamp| calendar_zone.to_datetime(*instant).month() == 1;
    their_form == our_form && ours.len() >= theirs.len() && left_is_later && skipped.iter().all(in_january)
}

/// Drops an elapse that lies before the one it was to follow, and all behind it: asked in the second pass of a repeated
/// hour, systemd may name an instant of the first. Its timer would elapse at once, again and again; we name none.
fn without_way_back(answer: Answer, base: Timestamp) -> Answer {
    let Answer::Taken(form, mut elapses) = answer else {
        return answer;
    };
    let mut last = base.as_second();
    let onward = elapses
        .iter()
        .take_while(|&&elapse| elapse >= std::mem::replace(&mut last, elapse));
    elapses.truncate(onward.count());
    Answer::Taken(form, elapses)
}

fn our_answer(zone: &TimeZone, base: Timestamp, iterations: usize, expression: &str) -> Answer {
    let Ok(calendar) = OnCalendar::parse(expression, zone, tz::db()) else {
        return Answer::Refused;
    };
    let elapses = std::iter::successors(calendar.next_after(base), |&last| calendar.next_after(last));
    let seconds = elapses.take(iterations).map(Timestamp::as_second);
    Answer::Taken(calendar.to_string(), seconds.collect())
}

/// `*`, or a list of numbers, ranges and steps between `from` and `to`.
fn list(from: u32, to: u32) -> BoxedStrategy<String> {
    let number = from..=to;
    let small = 1..=(to - from).clamp(2, 13);
    let written =
        (number.clone(), any::<bool>()).prop_map(|(n, padded)| if padded { format!("{n:02}") } else { n.to_string() });
    let span = prop_oneof![
        6 => written.clone(),
        3 => (number.clone(), number.clone()).prop_map(|(a, b)| format!("{}..{}", a.min(b), a.max(b))),
        3 => (number.clone(), small.clone()).prop_map(|(a, step)| format!("{a}/{step}")),
        2 => (number.clone(), number.clone(), small.clone())
            .prop_map(|(a, b, step)| format!("{}..{}/{step}", a.min(b), a.max(b))),
        1 => (from..=from + (to - from) / 4, 1..=(to - from) / 4 + 1).prop_map(|(a, step)| format!("{a}/{step}")),
    ];
    prop_oneof![
        5 => Just("*".to_owned()),
        5 => span.clone(),
        1 => prop::collection::vec(span, 2..4).prop_map(|spans| spans.join(",")),
    ]
    .boxed()
}

fn weekdays() -> BoxedStrategy<String> {
    const DAYS: [&str; 7] = ["Mon", "tuesday", "Wed", "THU", "Friday", "Sat", "sun"];
    let one = (0..7_usize).prop_map(|day| DAYS[day].to_owned());
    let range = (0..7_usize, 0..7_usize, select(vec!["..", "-"]))
        .prop_map(|(a, b, dots)| format!("{}{dots}{}", DAYS[a.min(b)], DAYS[a.max(b)]));
    prop_oneof![
        3 => one.clone(),
        2 => range.clone(),
        2 => prop::collection::vec(prop_oneof![one, range], 2..4).prop_map(|days| days.join(",")),
    ]
    .boxed()
}

fn date() -> BoxedStrategy<String> {
    let year = prop_oneof![
        6 => Just("*".to_owned()),
        1 => (2020..2040_u32).prop_map(|year| year.to_string()),
        1 => (2016..2040_u32, 1..9_u32).prop_map(|(year, step)| format!("{year}/{step}")),
        1 => list(0, 99),
    ];
    let day_of_change = select(vec![
        "*-3-29", "*-10-25", "*-11-1", "*-3-8", "*-4-5", "*-10-4", "*-2-29", "2/2-30", "*-2~1",
    ]);
    let few = 1..=28_u32;
    prop_oneof![
        4 => Just("*-*-*".to_owned()),
        4 => (year.clone(), list(1, 12), list(1, 31)).prop_map(|(y, m, d)| format!("{y}-{m}-{d}")),
        3 => (year, list(1, 12), list(1, 28)).prop_map(|(y, m, d)| format!("{y}-{m}~{d}")),
        2 => (list(1, 12), list(1, 31)).prop_map(|(m, d)| format!("{m}-{d}")),
        2 => few.prop_map(|d| format!("*~{d}")),
        1 => (1..=28_u32, 1..=7_u32).prop_map(|(d, step)| format!("*-*~{d}/{step}")),
        2 => day_of_change.prop_map(str::to_owned),
    ]
    .boxed()
}

fn time() -> BoxedStrategy<String> {
    let near_change = select(vec!["0", "1", "2", "3", "23", "1,2", "1..3", "0/2", "2/1", "*"]).prop_map(str::to_owned);
    let hour = prop_oneof![near_change, list(0, 23)];
    let second = prop_oneof![
        4 => list(0, 59),
        1 => (0..60_u32, 0..10_000_000_u32).prop_map(|(s, fraction)| format!("{s}.{fraction:07}")),
        1 => (0..60_u32, 1..100_u32).prop_map(|(s, step)| format!("{s}.5/{}.{:02}", step / 8, step)),
        1 => (0..20_u32, 20..60_u32, 1..90_u32).prop_map(|(a, b, step)| format!("{a}.25..{b}/{}.{}", step / 10, step % 10)),
    ];
    prop_oneof![
        4 => (hour.clone(), list(0, 59)).prop_map(|(h, m)| format!("{h}:{m}")),
        2 => (hour, list(0, 59), second).prop_map(|(h, m, s)| format!("{h}:{m}:{s}")),
    ]
    .boxed()
}

fn expression() -> BoxedStrategy<String> {
    const SHORT: [&str; 9] = [
        "minutely",
        "hourly",
        "daily",
        "weekly",
        "Monthly",
        "quarterly",
        "semiannually",
        "yearly",
        "anually",
    ];
    let zone = prop_oneof![
        12 => Just(String::new()),
        1 => Just(" UTC".to_owned()),
        1 => select(vec![" Europe/Berlin", " America/New_York", " Australia/Lord_Howe", " Pacific/Apia", " Etc/UTC"]).prop_map(str::to_owned),
        // Abbreviations of zones that never had others: which ones systemd knows depends on what it was asked before.
        1 => select(vec![" CET", " CEST", " EST", " edt"]).prop_map(str::to_owned),
    ];
    let maybe =
        |part: BoxedStrategy<String>| prop_oneof![1 => Just(String::new()), 1 => part.prop_map(|part| part + " ")];
    let full = (maybe(weekdays()), maybe(date()), time()).prop_map(|(w, d, t)| format!("{w}{d}{t}"));
    let whole = prop_oneof![
        20 => full,
        3 => date(),
        2 => weekdays(),
        2 => (weekdays(), date()).prop_map(|(w, d)| format!("{w} {d}")),
        2 => select(SHORT.to_vec()).prop_map(str::to_owned),
        1 => (1_500_000_000..4_000_000_000_u64).prop_map(|at| format!("@{at}")),
    ];
    let sound = (whole, zone).prop_map(|(whole, zone)| whole + &zone);
    // One character taken away, doubled or exchanged: most of these are to be refused, for the same reasons.
    let spoilt = (
        sound.clone(),
        any::<prop::sample::Index>(),
        0..3_u8,
        select(vec![' ', ',', '.', '-', '~', ':', '/', '*', '0', 'x']),
    )
        .prop_map(|(text, at, how, other)| {
            let at = at.index(text.len());
            let (head, tail) = text.split_at(at);
            let mut spoilt = head.to_owned();
            match how {
                0 => spoilt.push_str(&tail[1..]),
                1 => write!(spoilt, "{other}{tail}").unwrap(),
                _ => write!(spoilt, "{other}{}", &tail[1..]).unwrap(),
            }
            spoilt
        });
    prop_oneof![9 => sound, 1 => spoilt].boxed()
}

/// An instant: half of them within a day of a change of the clock.
fn base(zone: &TimeZone) -> BoxedStrategy<Timestamp> {
    let any_time = 946_684_800_000_000..4_000_000_000_000_000_i64;
    let changes: Vec<i64> = zone
        .following(Timestamp::from_second(1_000_000_000).unwrap())
        .take(80)
        .map(|change| change.timestamp().as_microsecond())
        .collect();
    let anywhere = any_time.prop_map(|micros| Timestamp::from_microsecond(micros).unwrap());
    const HOUR: i64 = 3_600_000_000;
    let new_year = (2000..2090_i16, -24 * 40 * HOUR..24 * HOUR).prop_map(|(year, by)| {
        let new_year = jiff::civil::date(year, 1, 1)
            .to_zoned(TimeZone::UTC)
            .unwrap()
            .timestamp();
        Timestamp::from_microsecond(new_year.as_microsecond() + by).unwrap()
    });
    let somewhere = prop_oneof![2 => anywhere, 1 => new_year].boxed();
    if changes.is_empty() {
        return somewhere;
    }
    let near = (
        select(changes),
        prop_oneof![-30 * HOUR..6 * HOUR, -2 * HOUR..2 * HOUR, Just(-1), Just(0)],
    );
    let near = near.prop_map(|(change, by)| Timestamp::from_microsecond(change + by).unwrap());
    prop_oneof![2 => somewhere, 3 => near].boxed()
}

#[test]
fn calendar_expressions_mean_what_systemd_computes() {
    let Some(oracle) = Oracle::find() else { return };
    let config = Config::default();
    let batches = (config.cases / 8).max(1);
    let mut runner = TestRunner::new(config);
    let (mut cases, mut differences) = (0, String::new());
    for batch in 0..batches {
        let name = ZONES[batch as usize % ZONES.len()];
        let zone = tz::db().get(name).unwrap();
        let base = base(&zone).new_tree(&mut runner).unwrap().current();
        let iterations = 3 + batch as usize % 8;
        let expressions = prop::collection::vec(expression(), BATCH)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        // systemd-analyze itself cannot be asked about an empty text.
        let expressions: Vec<String> = expressions.into_iter().filter(|text| !text.is_empty()).collect();
        let theirs = oracle.ask(name, base, iterations, &expressions);
        for (expression, theirs) in expressions.iter().zip(theirs) {
            cases += 1;
            let theirs = without_way_back(theirs, base);
            let ours = our_answer(&zone, base, iterations, expression);
            let is_old_fault = oracle.version < 257 && {
                let calendar = OnCalendar::parse(expression, &zone, tz::db());
                calendar.is_ok_and(|calendar| differ_by_skipped_days_of_january(&theirs, &ours, calendar.zone()))
            };
            let both_gave_up =
                theirs == Answer::GivenUp && matches!(&ours, Answer::Taken(_, elapses) if elapses.len() < iterations);
            if ours != theirs && !both_gave_up && !is_old_fault {
                writeln!(
                    differences,
                    "`{expression}` in {name} after {base}:\n  systemd {theirs:?}\n  we      {ours:?}"
                )
                .unwrap();
            }
        }
    }
    println!("{cases} cases compared");
    assert!(differences.is_empty(), "{differences}");
}
