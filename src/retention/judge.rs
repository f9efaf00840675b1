//! From what the rules say to one verdict for each chain.

use std::cmp::Reverse;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::period::WallTime;
use super::rules::{Dated, Rules, Weighed, count};
use super::{Chain, Inventory, KeepReason, Policy, RemoveReason, Unjudged};
use crate::model::ByteSize;

/// A chain while it is judged: it is kept if there is a reason to.
pub(super) struct Case<'a> {
    pub(super) chain: &'a Chain,
    pub(super) keep: Vec<KeepReason<'a>>,
    pub(super) remove: Vec<RemoveReason<'a>>,
    start: Timestamp,
    hold: Hold,
}

/// Whether `max_bytes` may undo what the rules keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Loose,
    Firm,
}

/// Every chain as everything but `max_bytes` judges it.
pub(super) fn cases<'a>(inventory: &'a Inventory, policy: &Policy, now: Timestamp, zone: &TimeZone) -> Vec<Case<'a>> {
    let mut dated: Vec<Dated<'a>> = inventory
        .chains
        .iter()
        .map(|chain| {
            let start = chain.id().started_at().min(now);
            let wall = WallTime::of(start, zone);
            Dated { chain, start, wall }
        })
        .collect();
    // Where nothing is written to etcd, revisions are equal; there a start that is still to come must not keep those
    // with a right clock behind it for as long as it is to come.
    dated.sort_by_cached_key(|d| {
        let ahead = d.chain.id().started_at() > now;
        (&d.chain.lineage, Reverse(d.chain.tip), ahead, Reverse(&d.chain.path))
    });
    let lineages = || dated.chunk_by(|a, b| a.chain.lineage == b.chain.lineage);
    let newest = lineages().filter_map(newest_good).map(|d| d.start).max();
    let rules = Rules::new(policy, newest.unwrap_or(now));
    let mut cases: Vec<Case<'a>> = Vec::with_capacity(dated.len());
    for ranked in lineages() {
        cases.extend(match held(ranked, inventory.unjudged.as_ref()) {
            Some(held) => held,
            None => judged(ranked, &rules, policy.min_backups),
        });
    }
    // Last, so that a pin changes nothing for others.
    for case in cases.iter_mut().filter(|case| case.chain.is_pinned()) {
        case.keep.insert(0, pinned(case.chain));
    }
    cases
}

/// Takes back what the rules keep, the bad first, then the oldest, until the rest takes at most `max`; by how much it is
/// more all the same.
pub(super) fn trim(cases: &mut [Case<'_>], max: ByteSize) -> ByteSize {
    let counts = |case: &Case<'_>| !case.keep.is_empty() && !case.chain.is_pinned();
    let max_bytes = u128::from(max.0);
    let mut sum: u128 = cases
        .iter()
        .filter(|case| counts(case))
        .map(|case| u128::from(case.chain.bytes))
        .sum();
    let mut loose: Vec<&mut Case<'_>> = cases
        .iter_mut()
        .filter(|case| case.hold == Hold::Loose && counts(case))
        .collect();
    loose.sort_by_key(|case| (case.chain.is_good(), case.start, &case.chain.path));
    for case in loose {
        if sum <= max_bytes {
            break;
        }
        sum = sum.saturating_sub(u128::from(case.chain.bytes));
        case.keep.clear();
        case.remove = vec![RemoveReason::OverMaxBytes(max)];
    }
    ByteSize(u64::try_from(sum.saturating_sub(max_bytes)).unwrap_or(u64::MAX))
}

/// The good one that `latest` would name.
fn newest_good<'a, 'd>(ranked: &'d [Dated<'a>]) -> Option<&'d Dated<'a>> {
    let good = ranked.iter().filter(|d| d.chain.is_good());
    good.max_by_key(|d| (d.chain.tip, d.chain.id(), d.chain.path.cluster))
}

/// The chains of a lineage that is not judged now.
fn held<'a>(ranked: &[Dated<'a>], unjudged: Option<&'a Unjudged>) -> Option<Vec<Case<'a>>> {
    let lineage = &ranked.first()?.chain.lineage;
    unjudged.filter(|unjudged| unjudged.holds(lineage))?;
    let case = |dated: &Dated<'a>| Case {
        chain: dated.chain,
        keep: vec![KeepReason::Unjudged(&dated.chain.lineage)],
        remove: Vec::new(),
        start: dated.start,
        hold: Hold::Firm,
    };
    Some(ranked.iter().map(case).collect())
}

/// The chains of one lineage, the newest at the head, judged by its own backups alone.
fn judged<'a>(ranked: &[Dated<'a>], rules: &Rules<'_>, min_backups: u32) -> Vec<Case<'a>> {
    let newest = newest_good(ranked).map(|d| d.chain);
    let (good, bad): (Vec<Dated<'a>>, Vec<Dated<'a>>) = ranked.iter().partition(|d| d.chain.is_good());
    let mut cases: Vec<Case<'a>> = good
        .iter()
        .zip(rules.weigh(&good))
        .map(|(dated, said)| by_rules(dated, said))
        .collect();
    for case in &mut cases {
        if newest.is_some_and(|newest| std::ptr::eq(newest, case.chain)) {
            case.keep.insert(0, KeepReason::NewestGood(&case.chain.lineage));
            case.hold = Hold::Firm;
        }
    }
    keep_floor(&mut cases, min_backups);
    let oldest_kept = cases.iter().rposition(|case| !case.keep.is_empty());
    for (place, case) in cases.iter_mut().enumerate() {
        // The name of one with a start that is to come would belie these words.
        let is_ahead = case.chain.id().started_at() > case.start;
        if oldest_kept.is_some_and(|oldest| place > oldest) && !is_ahead {
            case.remove = vec![RemoveReason::OlderThanAll(&case.chain.lineage)];
        }
    }
    if !bad.is_empty() {
        let if_all_were_good = rules.weigh(ranked);
        let furthest = ranked.first().map(|d| d.chain);
        for (dated, said) in ranked.iter().zip(if_all_were_good) {
            if !dated.chain.is_good() {
                cases.push(of_bad(dated, said, newest, furthest));
            }
        }
    }
    cases
}

fn by_rules<'a>(dated: &Dated<'a>, said: Weighed<'a>) -> Case<'a> {
    let remove = if said.keep.is_empty() { said.against } else { Vec::new() };
    Case {
        chain: dated.chain,
        keep: said.keep,
        remove,
        start: dated.start,
        hold: Hold::Loose,
    }
}

/// Adds the newest that the rules do not keep until there are `min_backups`, and holds on to the newest so many.
fn keep_floor(cases: &mut [Case<'_>], min_backups: u32) {
    let min = count(min_backups);
    let kept = cases.iter().filter(|case| !case.keep.is_empty()).count();
    let others = cases.iter_mut().filter(|case| case.keep.is_empty());
    for case in others.take(min.saturating_sub(kept)) {
        case.keep.push(KeepReason::Floor(min_backups));
        case.remove.clear();
    }
    for case in cases.iter_mut().filter(|case| !case.keep.is_empty()).take(min) {
        case.hold = Hold::Firm;
    }
}

/// A bad chain, given what the rules would say if it and all others were good.
fn of_bad<'a>(dated: &Dated<'a>, said: Weighed<'a>, newest_good: Option<&Chain>, furthest: Option<&Chain>) -> Case<'a> {
    let chain = dated.chain;
    let standing = &chain.standing;
    let mut case = Case {
        chain,
        keep: Vec::new(),
        remove: Vec::new(),
        start: dated.start,
        hold: Hold::Loose,
    };
    if newest_good.is_none_or(|good| chain.tip > good.tip) {
        case.keep.push(KeepReason::BadButFurthest(standing));
        if furthest.is_some_and(|furthest| std::ptr::eq(furthest, chain)) {
            // Something of it may yet be saved, and what comes after may be no better.
            case.hold = Hold::Firm;
        }
    } else if !said.keep.is_empty() {
        case.keep.push(KeepReason::BadButRecent(standing));
    } else {
        case.remove.push(RemoveReason::Bad(standing));
    }
    case
}

fn pinned(chain: &Chain) -> KeepReason<'_> {
    match &chain.pin {
        super::PinState::Pinned(pin) => KeepReason::Pinned(pin.as_ref()),
        super::PinState::Free => KeepReason::Pinned(None),
    }
}
