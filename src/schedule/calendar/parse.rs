//! From text to a pattern and a zone.
//!
//! `[WEEKDAYS] [[YEAR-]MONTH-DAY] [HOUR:MINUTE[:SECOND]] [ZONE]`, a shorthand and a zone, or `@SECONDS`.
//! Each unit is `*` or a list of `START[..STOP][/STEP]`; `~` in place of the last `-` counts days from the end of the month.
//!
//! Leaves the normal form to `canonical_form`. Invariant: accepts what systemd accepts, and refuses what it refuses.

use std::fmt;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use super::canonical_form::normalise;
use super::next_elapse::LAST_YEAR;
use super::pattern::{DaysFrom, Pattern, SECOND, Span, Unit, Values, Weekdays};
use super::range::check_range;
use super::{Zone, wall_clock};

/// A part of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Expression,
    /// `Mon..Fri`.
    Weekdays,
    /// `2026-11-*`.
    Date,
    /// The first part of a date of three.
    Year,
    /// The part of a date before the last.
    Month,
    /// The last part of a date.
    Day,
    /// `02:30:00`.
    Time,
    /// The first part of a time.
    Hour,
    /// The second part of a time.
    Minute,
    /// The third part of a time.
    Second,
    /// `@1774000000`.
    UnixTime,
    /// `Europe/Berlin`.
    Zone,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Expression => "calendar expression",
            Part::Weekdays => "days of the week",
            Part::Date => "date",
            Part::Year => "year",
            Part::Month => "month",
            Part::Day => "day of the month",
            Part::Time => "time",
            Part::Hour => "hour",
            Part::Minute => "minute",
            Part::Second => "second",
            Part::UnixTime => "Unix time",
            Part::Zone => "time zone",
        })
    }
}

impl Part {
    fn example(self) -> &'static str {
        match self {
            Part::Expression => "Mon..Fri *-*-* 02:30:00 Europe/Berlin",
            Part::Weekdays => "Mon..Fri,Sun 02:30",
            Part::Date => "*-*-01 02:30",
            Part::Year => "2026..2028-01-01",
            Part::Month => "*-01,07-01",
            Part::Day => "*-*-1..7 02:30",
            Part::Time => "02:30:00",
            Part::Hour => "0/6:00",
            Part::Minute => "*:00/15",
            Part::Second => "*:*:30.5",
            Part::UnixTime => "@1774000000",
            Part::Zone => "02:30 Europe/Berlin",
        }
    }
}

/// A text that is no calendar expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// A part is not written as it must be.
    #[error("{part} `{found}`: expected {expected}, as in `{}`", .part.example())]
    Malformed {
        /// Which.
        part: Part,
        /// What stands there, cut to 80 characters.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A number, or what a range or a step makes of it, is not one that the part can have.
    #[error("{part} `{found}`: expected {} to {}, start before stop, and a step that fits in between, as in `{}`",
        .allowed.start(), .allowed.end(), .part.example())]
    OutOfRange {
        /// Which.
        part: Part,
        /// What stands there, cut to 80 characters.
        found: String,
        /// The numbers it can have.
        allowed: RangeInclusive<i32>,
    },
    /// The expression ends in the name of a zone that this host does not know.
    #[error("time zone `{name}`: expected `UTC` or a name from this host's time zone database, as in `{}`",
        Part::Zone.example())]
    UnknownZone {
        /// The name, cut to 80 characters.
        name: String,
    },
}

impl CalendarError {
    fn malformed(part: Part, found: &str, expected: &'static str) -> Self {
        CalendarError::Malformed {
            part,
            found: cut(found),
            expected,
        }
    }
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Reads a whole expression.
pub(super) fn expression(
    text: &str,
    local: &TimeZone,
    zones: &TimeZoneDatabase,
) -> Result<(Pattern, Zone), CalendarError> {
    let (text, zone) = split_zone(text, local, zones);
    if text.is_empty() {
        return Err(CalendarError::malformed(
            Part::Expression,
            text,
            "days, a date, a time or a shorthand",
        ));
    }
    if let Some(pattern) = shorthand(text) {
        return Ok((pattern, zone));
    }
    let mut pattern = Pattern::midnights();
    let mut rest = text;
    if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let (word, after) = split_word(rest);
        pattern.weekdays = weekdays(word)?;
        rest = after;
    }
    if let Some(seconds) = rest.strip_prefix('@') {
        set_unix_time(&mut pattern, seconds)?;
        return Ok((pattern, Zone::Utc));
    }
    let (word, after) = split_word(rest);
    if word.contains(['-', '~']) && !word.contains(':') {
        set_date(&mut pattern, word)?;
        rest = after;
    }
    if !rest.is_empty() {
        set_time(&mut pattern, rest).map_err(|error| unknown_zone(rest).unwrap_or(error))?;
    }
    normalise(&mut pattern);
    for unit in Unit::ALL {
        check_range(&pattern, unit, text)?;
    }
    Ok((pattern, zone))
}

/// The text before the first space, and what follows the spaces.
fn split_word(text: &str) -> (&str, &str) {
    match text.split_once(' ') {
        Some((word, rest)) => (word, rest.trim_start_matches(' ')),
        None => (text, ""),
    }
}

/// Takes the zone off the end, if there is one.
fn split_zone<'a>(text: &'a str, local: &TimeZone, zones: &TimeZoneDatabase) -> (&'a str, Zone) {
    let here = || Zone::Local(local.clone());
    let Some((rest, name)) = text.rsplit_once(' ') else {
        return (text, here());
    };
    if name.eq_ignore_ascii_case("UTC") {
        return (rest, Zone::Utc);
    }
    for (season, abbreviation) in wall_clock::abbreviations(local) {
        if let Some(abbreviation) = abbreviation.filter(|known| known.eq_ignore_ascii_case(name)) {
            let zone = Zone::LocalSeason {
                zone: local.clone(),
                abbreviation,
                season,
            };
            return (rest, zone);
        }
    }
    // The database does not care for case, systemd does: to it, a zone is a file.
    match zones.get(name) {
        Ok(zone) if zone.iana_name() == Some(name) => {
            let name = name.to_owned();
            (rest, Zone::Named { name, zone })
        }
        Ok(_) | Err(_) => (text, here()),
    }
}

/// If a time that cannot be read ends in a word, that was meant for a zone.
fn unknown_zone(time: &str) -> Option<CalendarError> {
    let (_, last) = time.rsplit_once(' ')?;
    let is_word = last.starts_with(|c: char| c.is_ascii_alphabetic());
    is_word.then(|| CalendarError::UnknownZone { name: cut(last) })
}

/// The patterns that have a name, each by the first of its names.
pub const SHORTHANDS: [&str; 8] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "yearly",
];

fn shorthand(text: &str) -> Option<Pattern> {
    let mut pattern = Pattern::midnights();
    match text.to_ascii_lowercase().as_str() {
        "minutely" => {
            pattern.hour = Values::Any;
            pattern.minute = Values::Any;
        }
        "hourly" => pattern.hour = Values::Any,
        "daily" => {}
        "weekly" => pattern.weekdays.insert(0),
        "monthly" => pattern.day = Values::only(1),
        "quarterly" => {
            pattern.month = Values::each(&[1, 4, 7, 10]);
            pattern.day = Values::only(1);
        }
        "semiannually" | "semi-annually" | "biannually" | "bi-annually" => {
            pattern.month = Values::each(&[1, 7]);
            pattern.day = Values::only(1);
        }
        // The third is a slip of the pen that systemd has promised to keep.
        "yearly" | "annually" | "anually" => {
            pattern.month = Values::only(1);
            pattern.day = Values::only(1);
        }
        _ => return None,
    }
    Some(pattern)
}

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// `Mon,Wed..Fri`; a comma at the end is no fault.
fn weekdays(text: &str) -> Result<Weekdays, CalendarError> {
    let expected = "names of days (`Mon` or `Monday`), `,` between them or `..` from an earlier to a later one";
    let malformed = || CalendarError::malformed(Part::Weekdays, text, expected);
    let mut days = Weekdays::any();
    for item in text.strip_suffix(',').unwrap_or(text).split(',') {
        let ends = item.split_once("..").or_else(|| item.split_once('-'));
        let (first, last) = ends.unwrap_or((item, item));
        let (first, last) = (weekday(first), weekday(last));
        let (Some(first), Some(last)) = (first, last) else {
            return Err(malformed());
        };
        if first > last {
            return Err(malformed());
        }
        (first..=last).for_each(|day| days.insert(day));
    }
    Ok(days)
}

/// 0 is Monday.
fn weekday(name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    WEEKDAYS
        .iter()
        .position(|day| *day == name || day.get(..3) == Some(name.as_str()))
}

fn set_unix_time(pattern: &mut Pattern, text: &str) -> Result<(), CalendarError> {
    let malformed = || {
        CalendarError::malformed(
            Part::UnixTime,
            text,
            "`@` and full seconds since 1970, before the year 2200",
        )
    };
    // As the C library reads a number: spaces and a sign may come first.
    let number = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let seconds = number.parse::<i64>().ok().filter(|&seconds| seconds >= 0);
    let instant = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let utc = Offset::UTC.to_datetime(instant.ok_or_else(malformed)?);
    if i32::from(utc.year()) > LAST_YEAR {
        return Err(malformed());
    }
    pattern.year = Values::only(utc.year().into());
    pattern.month = Values::only(utc.month().into());
    pattern.day = Values::only(utc.day().into());
    pattern.hour = Values::only(utc.hour().into());
    pattern.minute = Values::only(utc.minute().into());
    pattern.second = Values::only(i32::from(utc.second()) * SECOND);
    Ok(())
}

/// `[YEAR-]MONTH-DAY`, with `~` before a day that is counted from the end.
fn set_date(pattern: &mut Pattern, text: &str) -> Result<(), CalendarError> {
    let malformed = |expected| CalendarError::malformed(Part::Date, text, expected);
    let (before, day) = text
        .rsplit_once(['-', '~'])
        .ok_or_else(|| malformed("year, month and day, or month and day"))?;
    if before.contains('~') {
        return Err(malformed("`~` only before the day"));
    }
    pattern.days_from = if text.contains('~') {
        DaysFrom::End
    } else {
        DaysFrom::Start
    };
    let (year, month) = match before.split_once('-') {
        Some((year, month)) => (Some(year), month),
        None => (None, before),
    };
    if month.contains('-') {
        return Err(malformed("year, month and day, or month and day"));
    }
    if let Some(year) = year {
        pattern.year = values(Part::Year, year)?;
    }
    pattern.month = values(Part::Month, month)?;
    pattern.day = values(Part::Day, day)?;
    Ok(())
}

/// `HOUR:MINUTE[:SECOND]`.
fn set_time(pattern: &mut Pattern, text: &str) -> Result<(), CalendarError> {
    let malformed = || {
        CalendarError::malformed(
            Part::Time,
            text,
            "hour and minute, or hour, minute and second, and nothing else",
        )
    };
    let mut parts = text.split(':');
    let (Some(hour), Some(minute), second, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(malformed());
    };
    if text.contains([' ', '-', '~']) {
        return Err(malformed());
    }
    pattern.hour = values(Part::Hour, hour)?;
    pattern.minute = values(Part::Minute, minute)?;
    if let Some(second) = second {
        pattern.second = values(Part::Second, second)?;
    }
    Ok(())
}
/// systemd reads no longer lists.
const MOST_SPANS: usize = 241;

/// `*`, or a list of `START[..STOP][/STEP]`.
fn values(part: Part, text: &str) -> Result<Values, CalendarError> {
    let is_second = part == Part::Second;
    if text == "*" {
        return Ok(if is_second { Values::every_second() } else { Values::Any });
    }
    let expected = "`*`, or numbers with `,` between them, `..` for a range and `/` for a step";
    let malformed = || CalendarError::malformed(part, text, expected);
    let mut spans = Vec::new();
    for item in text.split(',') {
        if spans.len() == MOST_SPANS {
            return Err(CalendarError::malformed(part, text, "a shorter list"));
        }
        let (start, rest) = number(item, is_second).ok_or_else(malformed)?;
        let mut span = Span::only(start);
        let mut rest = rest;
        if let Some(after) = rest.strip_prefix("..") {
            let (stop, after) = number(after, is_second).ok_or_else(malformed)?;
            span.stop = Some(stop);
            span.step = if is_second { SECOND } else { 1 };
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('/') {
            let (step, after) = number(after, is_second).ok_or_else(malformed)?;
            if step == 0 {
                return Err(CalendarError::malformed(part, text, "a step that is not 0"));
            }
            span.step = step;
            rest = after;
        } else if is_second && span.stop.is_some_and(|stop| stop - SECOND < start) {
            return Err(CalendarError::malformed(
                part,
                text,
                "a range of a second or more, or a step",
            ));
        }
        if !rest.is_empty() {
            return Err(malformed());
        }
        spans.push(span);
    }
    Ok(Values::Listed(spans))
}

/// A number at the start of the text, and what follows it. Seconds may have a fraction, and come in microseconds.
fn number(text: &str, is_second: bool) -> Option<(i32, &str)> {
    let (digits, mut rest) = split_digits(text);
    let mut value: i32 = digits.parse().ok()?;
    if is_second {
        value = value.checked_mul(SECOND)?;
        // One `.` is a decimal point, two are a range.
        if let Some(after) = rest.strip_prefix('.').filter(|after| !after.starts_with('.')) {
            let (fraction, after) = split_digits(after);
            value = value.checked_add(micros(fraction)?)?;
            rest = after;
        }
    }
    Some((value, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The digits behind a decimal point, rounded to microseconds.
fn micros(digits: &str) -> Option<i32> {
    if digits.is_empty() {
        return None;
    }
    let digit = |n: usize| digits.as_bytes().get(n).map_or(0, |b| i32::from(b - b'0'));
    let kept = (0..6).fold(0, |value, n| value * 10 + digit(n));
    Some(if digit(6) >= 5 { kept + 1 } else { kept })
}
