//! Why a chain is kept or removed, in words that an operator understands.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::{Period, Unit};
use crate::catalog::Standing;
use crate::layout::Pin;
use crate::model::{ByteSize, ChainId, LineageId, Revision};

/// Why a chain is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepReason<'a> {
    /// It is pinned.
    Pinned(Option<&'a Pin>),
    /// The operator has yet to say which lineage is meant.
    Unjudged(&'a LineageId),
    /// It is the newest good one of its lineage.
    NewestGood(&'a LineageId),
    /// It is older, and its changes lead further than all that is newer.
    ReachesFurther(Revision),
    /// Its changes were still captured when the newest good one began, and none follow that one yet.
    MayReachFurther(&'a ChainId),
    /// The policy has no `keep_…` rule.
    NoRule,
    /// `keep_last`.
    Last {
        /// Its place, the newest at 1.
        number: usize,
        /// How many are kept.
        of: u32,
        /// Its lineage.
        lineage: &'a LineageId,
    },
    /// `keep_within`.
    Within {
        /// The rule.
        within: Duration,
        /// What it is counted back from.
        from: Timestamp,
    },
    /// `pitr_window`.
    Points {
        /// The rule.
        within: Duration,
        /// What it is counted back from.
        from: Timestamp,
    },
    /// `keep_hourly` to `keep_yearly`: it stands for a period.
    NewestOf {
        /// The rule.
        unit: Unit,
        /// The period.
        period: Period,
        /// The period's place, the newest at 1.
        number: usize,
        /// How many are kept.
        of: u32,
    },
    /// `min_backups`: the policy keeps too few.
    Floor(u32),
    /// It would go for its age, but its date is still to come.
    DatedInTheFuture,
    /// It would go for its age, but the time is in doubt.
    TimeInDoubt,
    /// It would go for its age, but it shows that a long pause was one, and no jump of the clock.
    ShowsThePause,
    /// It is bad, but no good one holds as much.
    BadButFurthest(&'a Standing),
    /// It is bad, but not yet beyond what the policy would keep of good ones.
    BadButRecent(&'a Standing),
}

impl fmt::Display for KeepReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepReason::Pinned(None) => f.write_str("pinned"),
            KeepReason::Pinned(Some(pin)) => {
                write!(f, "pinned by {}", OneLine(&pin.host))?;
                pin.note
                    .as_ref()
                    .map_or(Ok(()), |note| write!(f, ": {}", OneLine(note)))
            }
            KeepReason::Unjudged(lineage) => write!(
                f,
                "nothing of lineage {lineage} is removed before `accept-lineage` has said which lineage is meant"
            ),
            KeepReason::NewestGood(lineage) => write!(f, "newest good one of lineage {lineage}"),
            KeepReason::ReachesFurther(to) => {
                write!(f, "its changes lead to revision {to}, further than any newer one")
            }
            KeepReason::MayReachFurther(newest) => {
                write!(
                    f,
                    "its changes were still captured when {newest} was taken, which has none yet"
                )
            }
            KeepReason::NoRule => f.write_str("no keep_… rule is set"),
            KeepReason::Last { number, of, lineage } => {
                write!(f, "last {of} of lineage {lineage}: number {number}")
            }
            KeepReason::Within { within, from } => {
                write!(
                    f,
                    "not more than {} older than the newest good one of {from}",
                    LargestUnit(*within)
                )
            }
            KeepReason::Points { within, from } => {
                write!(
                    f,
                    "every point of {} before the newest good one of {from} stays",
                    LargestUnit(*within)
                )
            }
            KeepReason::NewestOf {
                unit,
                period,
                number,
                of,
            } => write!(f, "newest of {period}: {unit} {number} of {of}"),
            KeepReason::ShowsThePause => f.write_str(
                "it would go for its age, but it shows that the pause before it was one, and no jump of the clock",
            ),
            KeepReason::TimeInDoubt => f.write_str("it would go for its age, but the time is in doubt"),
            KeepReason::DatedInTheFuture => f.write_str("dated in the future: its age is not known"),
            KeepReason::Floor(min) => write!(f, "needed for min_backups: {min}"),
            KeepReason::BadButFurthest(standing) => {
                write!(
                    f,
                    "bad ({}), but no good one of its lineage is as new",
                    Faults(standing)
                )
            }
            KeepReason::BadButRecent(standing) => {
                write!(f, "bad ({}), but it would be kept if it were good", Faults(standing))
            }
        }
    }
}

/// Why a chain is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoveReason<'a> {
    /// All that is kept of its lineage is newer.
    OlderThanAll(&'a LineageId),
    /// It is beyond `keep_last`.
    PastLast {
        /// Its place, the newest at 1.
        number: usize,
        /// How many are kept.
        of: u32,
        /// Its lineage.
        lineage: &'a LineageId,
    },
    /// It is beyond `keep_within`.
    PastWithin {
        /// The rule.
        within: Duration,
        /// What it is counted back from.
        from: Timestamp,
    },
    /// It is beyond `pitr_window`, and not the last one before it.
    PastPoints {
        /// The rule.
        within: Duration,
        /// What it is counted back from.
        from: Timestamp,
    },
    /// Another one stands for its period.
    NotNewestOf {
        /// The period.
        period: Period,
        /// The other one.
        newest: &'a ChainId,
    },
    /// Its period is beyond `keep_hourly` to `keep_yearly`.
    PastPeriods {
        /// The rule.
        unit: Unit,
        /// The period.
        period: Period,
        /// How many are kept.
        of: u32,
    },
    /// It is bad, a good one is newer or as new, and the policy would remove it if it were good.
    Bad(&'a Standing),
    /// All that is kept takes too much.
    OverMaxBytes(ByteSize),
}

impl fmt::Display for RemoveReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoveReason::OlderThanAll(lineage) => {
                write!(f, "older than everything the policy keeps of lineage {lineage}")
            }
            RemoveReason::PastLast { number, of, lineage } => {
                write!(f, "not in the last {of} of lineage {lineage}: number {number}")
            }
            RemoveReason::PastWithin { within, from } => {
                write!(
                    f,
                    "more than {} older than the newest good one of {from}",
                    LargestUnit(*within)
                )
            }
            RemoveReason::PastPoints { within, from } => {
                write!(
                    f,
                    "not needed for any point of {} before the newest good one of {from}",
                    LargestUnit(*within)
                )
            }
            RemoveReason::NotNewestOf { period, newest } => write!(f, "{newest} of {period} is newer"),
            RemoveReason::PastPeriods { unit, period, of } => {
                let plural = if *of == 1 { "" } else { "s" };
                write!(f, "{period} is not in the last {of} {unit}{plural} with a backup")
            }
            RemoveReason::Bad(standing) => write!(
                f,
                "bad ({}), a good one is newer, and the policy would not keep it either way",
                Faults(standing)
            ),
            RemoveReason::OverMaxBytes(max) => write!(f, "over max_bytes: {max}"),
        }
    }
}

/// The first thing that is wrong, and how many more there are.
struct Faults<'a>(&'a Standing);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Standing::Good(_) => f.write_str("not proven"),
            Standing::Bad(faults) => {
                let first = faults.first().map_or("no reason is given", String::as_str);
                OneLine(first).fmt(f)?;
                match faults.len().saturating_sub(1) {
                    0 => Ok(()),
                    more => write!(f, ", and {more} more"),
                }
            }
        }
    }
}

/// Words from a store, where anyone may have written them: the first 200 characters, none of which moves a cursor.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .take(200)
            .map(|c| if c.is_control() { ' ' } else { c })
            .try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

/// A duration in the largest unit that it is a multiple of.
struct LargestUnit(Duration);

impl fmt::Display for LargestUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
        let seconds = self.0.as_secs();
        let whole = |(size, _): &&(u64, &str)| seconds >= *size && seconds.is_multiple_of(*size);
        match UNITS.iter().find(whole) {
            Some((size, unit)) if self.0.subsec_nanos() == 0 => write!(f, "{}{unit}", seconds / size),
            _ => write!(f, "{:?}", self.0),
        }
    }
}
