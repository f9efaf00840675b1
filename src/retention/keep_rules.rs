//! The `keep_…` rules, one after the other, over the chains of one lineage.

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::TimeZone;
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
    pub(super) clock: Clock,
    wall: WallTime,
}

/// Whether a chain's own start can be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Clock {
    Plausible,
    /// It is still to come.
    Ahead,
}

impl<'a> Dated<'a> {
    pub(super) fn new(chain: &'a Chain, now: Timestamp, zone: &TimeZone) -> Dated<'a> {
        let said = chain.id().started_at();
        let start = said.min(now);
        Dated {
            chain,
            start,
            clock: if said > now { Clock::Ahead } else { Clock::Plausible },
            wall: WallTime::of(start, zone),
        }
    }
}

/// What a rule says of a chain: keep it, or nothing in its favour, and why.
pub(super) type Said<'a> = Result<KeepReason<'a>, RemoveReason<'a>>;

/// The rules of a policy, and the instant that `keep_within` counts back from.
pub(super) struct Rules<'p> {
    policy: &'p Policy,
    from: Timestamp,
}

impl<'p> Rules<'p> {
    pub(super) fn new(policy: &'p Policy, from: Timestamp) -> Self {
        Rules { policy, from }
    }

    /// Tells `hear` what each rule says of each chain of one lineage, by its place in `ranked`, which has the newest at
    /// the head.
    pub(super) fn weigh<'a>(&self, ranked: &[Dated<'a>], mut hear: impl FnMut(usize, Said<'a>)) {
        let (keep_last, keep_within) = (self.policy.keep_last, self.policy.keep_within);
        if keep_last > 0 {
            weigh_last(keep_last, ranked, &mut hear);
        }
        if let Some(within) = keep_within {
            weigh_within(within, self.from, ranked, &mut hear);
        }
        let pitr_window = self.policy.pitr_window;
        if let Some(within) = pitr_window {
            weigh_points(within, self.from, ranked, &mut hear);
        }
        let calendar = self.policy.calendar();
        for (unit, of) in calendar.into_iter().filter(|(_, of)| *of > 0) {
            weigh_periods(unit, of, ranked, &mut hear);
        }
        let is_any = keep_last > 0 || keep_within.is_some() || pitr_window.is_some();
        if !is_any && calendar.iter().all(|(_, of)| *of == 0) {
            (0..ranked.len()).for_each(|place| hear(place, Ok(KeepReason::NoRule)));
        }
    }
}

fn weigh_last<'a>(of: u32, ranked: &[Dated<'a>], hear: &mut impl FnMut(usize, Said<'a>)) {
    for (place, dated) in ranked.iter().enumerate() {
        let lineage = &dated.chain.lineage;
        let number = place.saturating_add(1);
        hear(
            place,
            if number <= count(of) {
                Ok(KeepReason::Last { number, of, lineage })
            } else {
                Err(RemoveReason::PastLast { number, of, lineage })
            },
        );
    }
}

fn weigh_within<'a>(within: Duration, from: Timestamp, ranked: &[Dated<'a>], hear: &mut impl FnMut(usize, Said<'a>)) {
    // One that is longer than all of time keeps everything.
    let longest = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
    for (place, dated) in ranked.iter().enumerate() {
        hear(
            place,
            if from.duration_since(dated.start) <= longest {
                Ok(KeepReason::Within { within, from })
            } else {
                Err(RemoveReason::PastWithin { within, from })
            },
        );
    }
}

/// Keeps all since the beginning of the window, and the last one before it: from that one on its first points are reached.
/// Where that one's own changes do not lead to the first one inside, also those before it whose do lead further: one that was made of
/// another and its changes may have none of its own. A name alone leads nowhere for another one.
fn weigh_points<'a>(within: Duration, from: Timestamp, ranked: &[Dated<'a>], hear: &mut impl FnMut(usize, Said<'a>)) {
    let longest = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
    let is_inside = |dated: &&Dated<'a>| from.duration_since(dated.start) <= longest;
    // By revisions: of two that were begun with different clocks the later one need not have the later date.
    let last_inside = ranked.iter().rposition(|dated| is_inside(&dated));
    let needed = last_inside.map_or(1, |place| place.saturating_add(2));
    let first_inside = last_inside
        .and_then(|place| ranked.get(place))
        .map(|dated| dated.chain.tip);
    let mut reached = None;
    for (place, dated) in ranked.iter().enumerate() {
        let is_before = last_inside.is_none_or(|last| place > last);
        let leads_further = reached.is_none_or(|reached| {
            dated.chain.reach > reached && first_inside.is_none_or(|first| reached.next() < first)
        });
        if is_before && leads_further {
            reached = reached.max(Some(dated.chain.proven()));
        }
        hear(
            place,
            if place < needed || (is_before && leads_further) {
                Ok(KeepReason::Points { within, from })
            } else {
                Err(RemoveReason::PastPoints { within, from })
            },
        );
    }
}

fn weigh_periods<'a>(unit: Unit, of: u32, ranked: &[Dated<'a>], hear: &mut impl FnMut(usize, Said<'a>)) {
    // Numbered as they are met on the way back, not as the calendar has them: see the module on wrong dates.
    let mut met: HashMap<Period, (usize, &'a ChainId)> = HashMap::new();
    for (place, dated) in ranked.iter().enumerate() {
        let period = dated.wall.period(unit);
        let next = met.len().saturating_add(1);
        let (number, newest) = *met.entry(period).or_insert((next, dated.chain.id()));
        hear(
            place,
            if number > count(of) {
                Err(RemoveReason::PastPeriods { unit, period, of })
            } else if newest == dated.chain.id() {
                Ok(KeepReason::NewestOf {
                    unit,
                    period,
                    number,
                    of,
                })
            } else {
                Err(RemoveReason::NotNewestOf { period, newest })
            },
        );
    }
}

pub(super) fn count(of: u32) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX)
}
