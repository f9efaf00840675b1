//! Wall clock readings of a zone, and the instants they stand for.
//!
//! systemd leaves this to the C library, whose answer for a reading that comes twice depends on the reading it was asked for
//! before. The results here are those of glibc's `mktime`, that memory included, because systemd's elapses on the days
//! on which a clock is changed follow from it.

use jiff::tz::{Dst, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::pattern::Unit;

/// Which of a zone's two times is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Season {
    Standard,
    Summer,
}

/// A wall clock reading, possibly one that no clock shows (month 13, 02:30 in a skipped hour).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    year: i32,
    month: i32,
    day: i32,
    hour: i32,
    minute: i32,
    second: i32,
    /// Which of the two readings of a repeated hour is meant; None: not said.
    pub(super) season: Option<Season>,
}

impl Reading {
    pub(super) fn get(&self, unit: Unit) -> i32 {
        match unit {
            Unit::Year => self.year,
            Unit::Month => self.month,
            Unit::Day => self.day,
            Unit::Hour => self.hour,
            Unit::Minute => self.minute,
            Unit::Second => self.second,
        }
    }

    pub(super) fn set(&mut self, unit: Unit, value: i32) {
        match unit {
            Unit::Year => self.year = value,
            Unit::Month => self.month = value,
            Unit::Day => self.day = value,
            Unit::Hour => self.hour = value,
            Unit::Minute => self.minute = value,
            Unit::Second => self.second = value,
        }
    }

    /// Sets `unit` and all smaller ones to their least value.
    pub(super) fn reset_from(&mut self, unit: Unit) {
        let mut next = Some(unit);
        while let Some(unit) = next {
            self.set(unit, unit.least());
            next = unit.smaller();
        }
    }

    /// Seconds from 1970 to this reading on a clock that is never changed.
    fn seconds(&self) -> i64 {
        let months = i64::from(self.year) * 12 + i64::from(self.month) - 1;
        let days = days_before(months.div_euclid(12), months.rem_euclid(12)) + i64::from(self.day) - 1;
        days * 86_400 + i64::from(self.hour) * 3_600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }
}

/// Days from 1970-01-01 to the first of a month (0 is January).
fn days_before(year: i64, month: i64) -> i64 {
    // Years are counted from March, so that the leap day is the last of its year.
    let (year, month) = if month < 2 {
        (year - 1, month + 10)
    } else {
        (year, month - 2)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_of_months = (month * 153 + 2) / 5;
    const FROM_MARCH_OF_YEAR_0: i64 = 719_468;
    year * 365 + leap_days + days_of_months - FROM_MARCH_OF_YEAR_0
}

/// A zone's wall clock, with a memory of the offset that the last answer was found with.
pub(super) struct WallClock<'a> {
    zone: &'a TimeZone,
    offset: i64,
}

impl<'a> WallClock<'a> {
    /// A clock that was last read at `instant` (in seconds). None if no clock shows that instant.
    pub(super) fn last_read_at(zone: &'a TimeZone, instant: i64) -> Option<(Self, Reading)> {
        let (reading, offset) = read(zone, instant)?;
        Some((WallClock { zone, offset }, reading))
    }

    /// The instant of a reading, and the reading that the clock really shows then. None if it is out of the range of years.
    pub(super) fn instant_of(&mut self, wanted: &Reading) -> Option<(i64, Reading)> {
        let target = wanted.seconds();
        let (instant, shown) = self.search(target, wanted.season)?;
        self.offset = target.checked_sub(instant)?;
        Some((instant, shown))
    }

    /// An instant t with t + offset(t) = target, or the way out if a skipped hour holds the target.
    fn search(&self, target: i64, season: Option<Season>) -> Option<(i64, Reading)> {
        let mut guess = target.checked_sub(self.offset)?;
        let (mut before, mut two_before) = (guess, guess);
        let mut season_before = Season::Standard;
        for _ in 0..MOST_GUESSES {
            let (shown, offset) = read(self.zone, guess)?;
            let better = target.checked_sub(offset)?;
            if better == guess {
                return self.in_season(target, season, guess, shown);
            }
            // Two guesses that lead to each other: the target is skipped. The later season's reading is taken, unless
            // the other one was asked for.
            let is_settled = match season {
                None => season_before <= shown.season.unwrap_or(Season::Standard),
                Some(season) => Some(season) != shown.season,
            };
            if guess == two_before && guess != before && is_settled {
                return Some((guess, shown));
            }
            (two_before, before, guess) = (before, guess, better);
            season_before = shown.season.unwrap_or(Season::Standard);
        }
        None
    }

    /// If a season was asked for that is not in force at `found`: the same reading by the offset of the nearest time of
    /// year at which it is.
    fn in_season(&self, target: i64, season: Option<Season>, found: i64, shown: Reading) -> Option<(i64, Reading)> {
        if season.is_none() || season == shown.season {
            return Some((found, shown));
        }
        for distance in (1..=FURTHEST_SEASON).map(|n| n * SEASON_STRIDE) {
            for other in [found - distance, found + distance] {
                let (there, offset) = read(self.zone, other)?;
                if there.season == season {
                    let instant = target.checked_sub(offset)?;
                    let (shown, _) = read(self.zone, instant)?;
                    return Some((instant, shown));
                }
            }
        }
        Some((found, shown))
    }
}

/// glibc gives up after so many.
const MOST_GUESSES: usize = 6;
/// How far apart, in seconds, glibc looks for the other season: no season was ever shorter.
const SEASON_STRIDE: i64 = 601_200;
/// How many strides it looks to both sides.
const FURTHEST_SEASON: i64 = 447;

/// What the clock shows at an instant, and its offset from UTC in seconds.
fn read(zone: &TimeZone, instant: i64) -> Option<(Reading, i64)> {
    let instant = Timestamp::from_second(instant).ok()?;
    let info = zone.to_offset_info(instant);
    let shown = info.offset().to_datetime(instant);
    let reading = Reading {
        year: shown.year().into(),
        month: shown.month().into(),
        day: shown.day().into(),
        hour: shown.hour().into(),
        minute: shown.minute().into(),
        second: shown.second().into(),
        season: Some(season(info.dst())),
    };
    Some((reading, info.offset().seconds().into()))
}

fn season(dst: Dst) -> Season {
    if dst.is_dst() { Season::Summer } else { Season::Standard }
}

/// Days since a Monday, modulo 7.
pub(super) fn weekday(reading: &Reading) -> usize {
    // 1970-01-01 was a Thursday.
    let days = reading.seconds().div_euclid(86_400) + 3;
    usize::try_from(days.rem_euclid(7)).unwrap_or(0)
}

/// A span of readings that come twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeated {
    /// The first instant of the first pass.
    pub(super) begin: Timestamp,
    /// The first instant of the second pass.
    pub(super) change: Timestamp,
}

impl Repeated {
    /// The one, if any, that the clock is in right after `instant`.
    pub(super) fn around(zone: &TimeZone, instant: Timestamp) -> Option<Self> {
        let asked = instant.checked_add(MICROSECOND).ok()?;
        // Both iterators exclude the instant itself.
        let last = zone.preceding(asked.checked_add(MICROSECOND).ok()?).next();
        let next = zone.following(asked).next();
        [last, next].into_iter().flatten().find_map(|transition| {
            let change = transition.timestamp();
            let before = zone.to_offset(change.checked_sub(MICROSECOND).ok()?);
            let back = i64::from(before.seconds()) - i64::from(transition.offset().seconds());
            let back = SignedDuration::from_secs(back);
            let (begin, end) = (change.checked_sub(back).ok()?, change.checked_add(back).ok()?);
            (begin <= asked && asked < end).then_some(Repeated { begin, change })
        })
    }
}

/// The distance of neighbouring instants: systemd counts in microseconds.
pub(super) const MICROSECOND: SignedDuration = SignedDuration::from_micros(1);

/// What a zone's two times are called: (standard, summer), as far as it has them by the rule that holds in the far future.
pub(super) fn abbreviations(zone: &TimeZone) -> [(Season, Option<String>); 2] {
    let mut names = [(Season::Standard, None), (Season::Summer, None)];
    for instant in FAR_WINTER_AND_SUMMER {
        let Ok(instant) = Timestamp::from_second(instant) else {
            continue;
        };
        let info = zone.to_offset_info(instant);
        for (named, name) in &mut names {
            if *named == season(info.dst()) {
                *name = Some(info.abbreviation().to_owned());
            }
        }
    }
    names
}

/// 2150-01-15 and 2150-07-15.
const FAR_WINTER_AND_SUMMER: [i64; 2] = [5_681_404_800, 5_697_043_200];
