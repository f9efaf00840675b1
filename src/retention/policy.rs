//! The rules of retention as a destination has them.

use std::time::Duration;

use super::period::Unit;
use crate::model::ByteSize;

/// What a destination is to keep. A count of 0 is a rule that was not given; without any `keep_…` rule everything is
/// kept, within `max_bytes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many of each lineage.
    pub keep_last: u32,
    /// All that were begun at most so long before the newest good backup of their lineage.
    pub keep_within: Option<Duration>,
    /// The newest of each of the last so many hours that have one.
    pub keep_hourly: u32,
    /// The same for days of the calendar.
    pub keep_daily: u32,
    /// The same for ISO weeks, which begin on Monday.
    pub keep_weekly: u32,
    /// The same for months.
    pub keep_monthly: u32,
    /// The same for years.
    pub keep_yearly: u32,
    /// For how long before the newest good backup of their lineage every point stays: all that were begun since then, and the
    /// last one before. `max_bytes` does not undo it.
    pub pitr_window: Option<Duration>,
    /// How much all kept chains together may take, but for pinned ones; the oldest go first.
    pub max_bytes: Option<ByteSize>,
    /// How many good ones of each lineage stay, whatever the other rules say.
    pub min_backups: u32,
}

impl Policy {
    /// The rules that go by the calendar, each with how many it keeps. Named one by one, so that a new one is not forgotten.
    pub(super) fn calendar(&self) -> [(Unit, u32); 5] {
        let Policy {
            keep_last: _,
            keep_within: _,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            pitr_window: _,
            max_bytes: _,
            min_backups: _,
        } = *self;
        [
            (Unit::Hour, keep_hourly),
            (Unit::Day, keep_daily),
            (Unit::Week, keep_weekly),
            (Unit::Month, keep_monthly),
            (Unit::Year, keep_yearly),
        ]
    }
}
