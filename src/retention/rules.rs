//! The `keep_…` rules, one after the other, over the chains of one lineage.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::period::WallTime;
use super::{Chain, KeepReason, Period, Policy, RemoveReason, Unit};
use crate::model::ChainId;

/// A chain and when it was begun, as far as that can be believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dated<'a> {
    pub(super) chain: &'a Chain,
    /// Not after now.
    pub(super) start: Timestamp,
    pub(super) wall: WallTime,
}

/// What the rules say of a chain: each is for it or against it.
#[derive(Debug, Clone, Default)]
pub(super) struct Weighed<'a> {
    pub(super) keep: Vec<KeepReason<'a>>,
    pub(super) against: Vec<RemoveReason<'a>>,
}

/// The rules of a policy, and the instant that `keep_within` counts back from.
pub(super) struct Rules<'p> {
    policy: &'p Policy,
    from: Timestamp,
}

impl<'p> Rules<'p> {
    pub(super) fn new(policy: &'p Policy, from: Timestamp) -> Self {
        Rules { policy, from }
    }

    /// Applies every rule to the chains of one lineage, of which the newest is at the head.
    pub(super) fn weigh<'a>(&self, ranked: &[Dated<'a>]) -> Vec<Weighed<'a>> {
        let mut weighed = vec![Weighed::default(); ranked.len()];
        self.weigh_last(ranked, &mut weighed);
        if let Some(within) = self.policy.keep_within {
            self.weigh_within(within, ranked, &mut weighed);
        }
        let periods = [
            (Unit::Hour, self.policy.keep_hourly),
            (Unit::Day, self.policy.keep_daily),
            (Unit::Week, self.policy.keep_weekly),
            (Unit::Month, self.policy.keep_monthly),
            (Unit::Year, self.policy.keep_yearly),
        ];
        for (unit, of) in periods {
            if of > 0 {
                weigh_periods(unit, of, ranked, &mut weighed);
            }
        }
        for said in &mut weighed {
            if said.keep.is_empty() && said.against.is_empty() {
                said.keep.push(KeepReason::NoRule);
            }
        }
        weighed
    }

    fn weigh_last<'a>(&self, ranked: &[Dated<'a>], weighed: &mut [Weighed<'a>]) {
        let of = self.policy.keep_last;
        if of == 0 {
            return;
        }
        for (number, (dated, said)) in (1..).zip(ranked.iter().zip(weighed)) {
            let lineage = &dated.chain.lineage;
            if number <= count(of) {
                said.keep.push(KeepReason::Last { number, of, lineage });
            } else {
                said.against.push(RemoveReason::PastLast { number, of, lineage });
            }
        }
    }

    fn weigh_within<'a>(&self, within: Duration, ranked: &[Dated<'a>], weighed: &mut [Weighed<'a>]) {
        let from = self.from;
        // One that is longer than all of time keeps everything.
        let longest = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
        for (dated, said) in ranked.iter().zip(weighed) {
            if from.duration_since(dated.start) <= longest {
                said.keep.push(KeepReason::Within { within, from });
            } else {
                said.against.push(RemoveReason::PastWithin { within, from });
            }
        }
    }
}

fn weigh_periods<'a>(unit: Unit, of: u32, ranked: &[Dated<'a>], weighed: &mut [Weighed<'a>]) {
    // Numbered as they are met on the way back, not as the calendar has them: see the module on wrong dates.
    let mut met: HashMap<Period, (usize, &'a ChainId)> = HashMap::new();
    for (dated, said) in ranked.iter().zip(weighed) {
        let period = dated.wall.period(unit);
        let next = met.len().saturating_add(1);
        let (number, newest) = *met.entry(period).or_insert((next, dated.chain.id()));
        if number > count(of) {
            said.against.push(RemoveReason::PastPeriods { unit, period, of });
        } else if newest == dated.chain.id() {
            said.keep.push(KeepReason::NewestOf {
                unit,
                period,
                number,
                of,
            });
        } else {
            said.against.push(RemoveReason::NotNewestOf { period, newest });
        }
    }
}

pub(super) fn count(of: u32) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX)
}
