//! Hours, days, weeks, months and years as the calendar of a time zone has them: that of the host, which `jobs` hands over.
//!
//! Invariant: an hour that a change of the clocks repeats is two hours, one that it skips is none.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// An ISO week.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        })
    }
}

/// One hour, day, week, month or year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// The hour of the day, at an offset from UTC.
    Hour(Date, i8, Offset),
    /// The day.
    Day(Date),
    /// The ISO week's year, and its number.
    Week(i16, i8),
    /// The year, and the month in it.
    Month(i16, i8),
    /// The year.
    Year(i16),
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Period::Hour(date, hour, offset) => {
                let seconds = offset.seconds();
                let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
                write!(f, "{date} {hour:02}:00{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
            Period::Day(date) => date.fmt(f),
            Period::Week(year, week) => write!(f, "{year:04}-W{week:02}"),
            Period::Month(year, month) => write!(f, "{year:04}-{month:02}"),
            Period::Year(year) => write!(f, "{year:04}"),
        }
    }
}

/// An instant as the clocks on the wall of a time zone show it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WallTime {
    civil: DateTime,
    offset: Offset,
}

impl WallTime {
    pub(super) fn of(instant: Timestamp, zone: &TimeZone) -> WallTime {
        let offset = zone.to_offset(instant);
        WallTime {
            civil: offset.to_datetime(instant),
            offset,
        }
    }

    pub(super) fn period(self, unit: Unit) -> Period {
        let date = self.civil.date();
        match unit {
            Unit::Hour => Period::Hour(date, self.civil.hour(), self.offset),
            Unit::Day => Period::Day(date),
            Unit::Week => {
                let week = date.iso_week_date();
                Period::Week(week.year(), week.week())
            }
            Unit::Month => Period::Month(date.year(), date.month()),
            Unit::Year => Period::Year(date.year()),
        }
    }
}
