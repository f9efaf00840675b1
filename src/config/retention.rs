//! What a destination keeps: `[destinations.NAME.retention]`.

use std::time::Duration;

use super::reader::Reader;
use super::section::Section;
use crate::retention::Policy;

const WITHINS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(36_600 * 86_400);
const MOST_KEPT: i32 = 1_000_000;

impl Reader<'_> {
    /// What `[destinations.NAME.retention]` says; None if there is no such table.
    pub(super) fn retention(&mut self, destination: &Section<'_>) -> Option<Policy> {
        let section = destination.section("retention");
        destination.entry("retention")?;
        let mut count = |name| {
            let count = self.integer(&section, name, 0, MOST_KEPT).unwrap_or(0);
            u32::try_from(count).expect("it is between 0 and a million")
        };
        let mut policy = Policy {
            keep_last: count("keep_last"),
            keep_within: None,
            keep_hourly: count("keep_hourly"),
            keep_daily: count("keep_daily"),
            keep_weekly: count("keep_weekly"),
            keep_monthly: count("keep_monthly"),
            keep_yearly: count("keep_yearly"),
            pitr_window: None,
            max_bytes: None,
            min_backups: count("min_backups"),
        };
        policy.keep_within = self.within(&section, "keep_within", WITHINS);
        policy.pitr_window = self.within(&section, "pitr_window", WITHINS);
        let max = section.text("max_bytes");
        policy.max_bytes = max.and_then(|given| self.parsed(&given));
        Some(policy)
    }
}
