//! Whether the clock has jumped: a span between two backups that is real and that the schedule does not explain.
//!
//! A clock that is ahead for half a minute makes a backup of next month, and by its age everything else is to go. That
//! span is longer than the schedule has pauses, some missed slots included. It may also be true, after a host was off; then
//! a day of backups shows it. A clock that was set back gives a span that is negative.
//!
//! Retention makes long spans, too: of an hourly schedule with `keep_daily = 7`, a day lies between most of what is left. Such
//! a span is none, if the policy would keep nothing in it.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Chain, Inventory, PinState, Policy, plan};
use crate::catalog::Standing;
use crate::layout::{ChainPath, Proof};
use crate::model::ChainId;
use crate::schedule::Pauses;

/// How many spans before tell what is usual, where no schedule does.
const REMEMBERED: usize = 30;
/// By how much clocks may differ.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(10);
/// So long after a jump the times after it count.
const PROVEN_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// So many slots may be missed without a jump.
const MISSED: i32 = 2;
/// At so many moments of each distance it is asked whether a backup would have been kept.
const ASKED: i32 = 100;

/// What a history is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    pub policy: &'a Policy,
    pub zone: &'a TimeZone,
    pub now: Timestamp,
    /// The pauses that the schedules leave, if there is one.
    pub pauses: Option<Pauses>,
    /// The last moment that is known to have come: that of the newest backup of any history.
    pub proven: Timestamp,
}

impl Judge<'_> {
    /// The last two backups of a history between which is a span that is not explained, if it ended less than a day before
    /// what is proven. `chains` are in the order of their revisions.
    pub(super) fn unexplained<'c>(self, chains: &[&'c Chain]) -> Option<[&'c Chain; 2]> {
        let pairs = chains.iter().zip(chains.iter().skip(1));
        let spans: Vec<SignedDuration> = pairs.map(|(before, after)| span([before, after])).collect();
        for (place, span) in spans.iter().enumerate().rev() {
            let (before, after) = (*chains.get(place)?, *chains.get(place + 1)?);
            let is_recent = self.proven.duration_since(start(after)) < PROVEN_AFTER;
            let pauses = self.explained(spans.get(place.saturating_sub(REMEMBERED)..place).unwrap_or_default());
            let is_long = *span > pauses.longest && self.keeps_something_between(chains, [before, after], pauses);
            if *span < -TOLERANCE || is_long {
                return is_recent.then_some([before, after]);
            }
            if !is_recent {
                return None;
            }
        }
        None
    }

    /// The spans that are explained, after these.
    fn explained(self, before: &[SignedDuration]) -> Pauses {
        match (self.pauses, in_the_middle(before)) {
            (Some(Pauses { shortest, longest }), _) => {
                let missed = shortest.saturating_mul(MISSED);
                let longest = longest.saturating_add(missed).saturating_add(TOLERANCE);
                Pauses { shortest, longest }
            }
            (None, Some(usual)) => Pauses {
                shortest: usual,
                longest: usual.saturating_mul(MISSED + 1).max(TOLERANCE),
            },
            // Where nothing tells what is usual, a day is long.
            (None, None) => Pauses {
                shortest: SignedDuration::from_hours(1),
                longest: PROVEN_AFTER,
            },
        }
    }

    /// Whether the policy would keep one of the backups that would have been taken between two, had the time gone by: then
    /// there were none. The first of them may be as late after the one before as a pause is long.
    fn keeps_something_between(self, chains: &[&Chain], [before, after]: [&Chain; 2], pauses: Pauses) -> bool {
        let day = SignedDuration::from_hours(24);
        let far = [pauses.shortest, day, day.saturating_mul(30)];
        let moments = far.into_iter().flat_map(|far| {
            let moments = (1..=ASKED).map(move |times| start(after).saturating_sub(far.saturating_mul(times)));
            moments
                .map_while(Result::ok)
                .take_while(|moment| moment.duration_since(start(before)) >= pauses.longest)
        });
        let supposed = moments.enumerate().map(|(number, moment)| Chain {
            path: ChainPath {
                chain: ChainId::new(moment, u32::try_from(number).unwrap_or(u32::MAX)),
                ..before.path.clone()
            },
            standing: Standing::Good(Proof::Stored),
            is_unsure: false,
            pin: PinState::Free,
            bytes: 0,
            ..before.clone()
        });
        let real = chains.iter().map(|chain| (*chain).clone());
        let inventory = Inventory {
            chains: supposed.chain(real).collect(),
            unjudged: None,
        };
        let policy = Policy {
            max_bytes: None,
            min_backups: 0,
            ..self.policy.clone()
        };
        let plan = plan(&inventory, &policy, self.now, self.zone);
        let mut kept = plan.keep.iter();
        kept.any(|verdict| !chains.iter().any(|chain| chain.path == verdict.chain.path))
    }
}

/// The time from one to the next; negative where the clock was set back.
pub(super) fn span([before, after]: [&Chain; 2]) -> SignedDuration {
    start(after).duration_since(start(before))
}

pub(super) fn start(chain: &Chain) -> Timestamp {
    chain.id().started_at()
}

fn in_the_middle(spans: &[SignedDuration]) -> Option<SignedDuration> {
    let mut spans = spans.to_vec();
    spans.sort();
    spans.get(spans.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusterId, LineageId, Revision};

    const HOUR: i64 = 3600;

    /// What a history that was begun at these seconds has that is not explained, without a schedule, where each hour is kept.
    fn unexplained(seconds: impl IntoIterator<Item = i64>) -> Option<SignedDuration> {
        let chains = seconds.into_iter().enumerate().map(|(number, second)| {
            let number = u32::try_from(number).unwrap();
            let id = ChainId::new(Timestamp::from_second(1_800_000_000 + second).unwrap(), number);
            Chain {
                lineage: LineageId::opened_by(ClusterId(1), &id),
                path: ChainPath {
                    cluster: ClusterId(1),
                    chain: id,
                },
                tip: Revision::new(i64::from(number) + 1).unwrap(),
                reach: Revision::new(i64::from(number) + 1).unwrap(),
                captured_at: None,
                proven: None,
                generation: 0,
                bytes: 1,
                standing: Standing::Good(Proof::Stored),
                is_unsure: false,
                pin: PinState::Free,
            }
        });
        let chains: Vec<Chain> = chains.collect();
        let chains: Vec<&Chain> = chains.iter().collect();
        let newest = chains.last().map_or(Timestamp::MAX, |chain| start(chain));
        let policy = Policy {
            keep_hourly: 100_000,
            ..Policy::default()
        };
        let judge = Judge {
            policy: &policy,
            zone: &TimeZone::UTC,
            now: newest,
            pauses: None,
            proven: newest,
        };
        judge.unexplained(&chains).map(span)
    }

    #[test]
    fn a_regular_schedule_explains_itself_and_a_missed_slot_too() {
        assert_eq!(unexplained([]), None);
        assert_eq!(unexplained([0]), None);
        assert_eq!(unexplained([0, 24 * HOUR]), None, "nothing tells what is usual");
        assert_eq!(unexplained([0, 25 * HOUR]), Some(SignedDuration::from_hours(25)));
        assert_eq!(unexplained((0..50).map(|n| n * HOUR)), None);
        assert_eq!(unexplained([0, 1, 2, 5, 6].map(|n| n * HOUR)), None);
        assert_eq!(unexplained([0, 10, 20, 30, 600]), None, "clocks may differ");
    }

    #[test]
    fn a_jump_is_one_until_a_day_of_backups_has_come_after_it() {
        let month = 30 * 24 * HOUR;
        let before = [0, 1, 2, 3].map(|n| n * HOUR);
        for ran in 0..24 {
            let after = (0..=ran).map(|n| month + n * HOUR);
            let found = unexplained(before.into_iter().chain(after));
            assert_eq!(found, Some(SignedDuration::from_secs(month - 3 * HOUR)), "{ran} h");
        }
        let after = (0..=24).map(|n| month + n * HOUR);
        assert_eq!(unexplained(before.into_iter().chain(after)), None);
    }

    #[test]
    fn a_clock_that_was_set_back_is_told_until_a_day_of_backups_has_come_after_it() {
        assert_eq!(unexplained([100, 110, 120, 0, 10, 20]), None, "clocks may differ");
        let back = |ran: i64| [10, 11, 12].into_iter().chain(0..=ran).map(|n| n * HOUR);
        assert_eq!(unexplained(back(23)), Some(SignedDuration::from_hours(-12)));
        assert_eq!(unexplained(back(24)), None);
    }
}
