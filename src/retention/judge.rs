//! From what the rules say to one verdict for each chain.

use std::cmp::Reverse;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::keep_rules::{Clock, Dated, Rules, count};
use super::{Chain, Inventory, KeepReason, PinState, Policy, RemoveReason, Unjudged};
use crate::model::ByteSize;

/// A chain is captured if something of it was stored less than so long ago. Nothing being written, a mark is once an hour at the
/// least; clocks of hosts and stores may differ.
const STILL_CAPTURED: SignedDuration = SignedDuration::from_hours(2);

/// A chain while it is judged: it is kept if there is a reason to.
pub(super) struct Case<'a> {
    pub(super) chain: &'a Chain,
    pub(super) keep: Vec<KeepReason<'a>>,
    pub(super) remove: Vec<RemoveReason<'a>>,
    start: Timestamp,
    hold: Hold,
}

impl<'a> Case<'a> {
    fn open(dated: &Dated<'a>) -> Case<'a> {
        Case {
            chain: dated.chain,
            keep: Vec::new(),
            remove: Vec::new(),
            start: dated.start,
            hold: Hold::Loose,
        }
    }
}

/// Whether `max_bytes` may undo what the rules keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    Loose,
    Firm,
}

/// Every chain as everything but `max_bytes` judges it.
pub(super) fn cases<'a>(inventory: &'a Inventory, policy: &Policy, now: Timestamp, zone: &TimeZone) -> Vec<Case<'a>> {
    let chains = inventory.chains.iter();
    let mut dated: Vec<Dated<'a>> = chains.map(|chain| Dated::new(chain, now, zone)).collect();
    // Where nothing is written to etcd, revisions are equal; there a start that is still to come must not keep those
    // with a right clock behind it for as long as it is to come.
    dated.sort_by_key(|d| (&d.chain.lineage, Reverse(d.chain.tip), d.clock, Reverse(&d.chain.path)));
    let lineages = || dated.chunk_by(|a, b| a.chain.lineage == b.chain.lineage);
    let mut cases: Vec<Case<'a>> = Vec::with_capacity(dated.len());
    for ranked in lineages() {
        let rules = Rules::new(policy, newest_good(ranked).map_or(now, |newest| newest.start));
        cases.extend(match held(ranked, inventory.unjudged.as_ref()) {
            Some(held) => held,
            None => judged(ranked, &rules, policy.min_backups),
        });
    }
    // Last, so that a pin changes nothing for others.
    for case in &mut cases {
        if let PinState::Pinned(pin) = &case.chain.pin {
            case.keep.insert(0, KeepReason::Pinned(pin.as_ref()));
        }
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
    loose.sort_by_key(|case| {
        (
            case.chain.is_good() || case.chain.is_unsure,
            case.start,
            &case.chain.path,
        )
    });
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
    good.max_by_key(|d| (d.chain.newness(), d.chain.path.cluster))
}

/// The chains of a lineage that is not judged now.
fn held<'a>(ranked: &[Dated<'a>], unjudged: Option<&'a Unjudged>) -> Option<Vec<Case<'a>>> {
    let lineage = &ranked.first()?.chain.lineage;
    unjudged.filter(|unjudged| unjudged.holds(lineage))?;
    let case = |dated: &Dated<'a>| Case {
        keep: vec![KeepReason::Unjudged(&dated.chain.lineage)],
        hold: Hold::Firm,
        ..Case::open(dated)
    };
    Some(ranked.iter().map(case).collect())
}

/// The chains of one lineage, the newest at the head, judged by its own backups alone.
fn judged<'a>(ranked: &[Dated<'a>], rules: &Rules<'_>, min_backups: u32) -> Vec<Case<'a>> {
    let newest = newest_good(ranked).map(|d| d.chain);
    let (good, bad): (Vec<Dated<'a>>, Vec<Dated<'a>>) = ranked.iter().partition(|d| d.chain.is_good());
    let mut cases: Vec<Case<'a>> = good.iter().map(Case::open).collect();
    for case in &mut cases {
        if newest.is_some_and(|newest| std::ptr::eq(newest, case.chain)) {
            case.keep.push(KeepReason::NewestGood(&case.chain.lineage));
            case.hold = Hold::Firm;
        }
    }
    if let Some(newest) = newest_good(ranked) {
        keep_the_last_change(&mut cases, newest);
    }
    rules.weigh(&good, |place, said| {
        if let (Some(case), Ok(reason)) = (cases.get_mut(place), said) {
            if let KeepReason::Points { .. } = reason {
                case.hold = Hold::Firm;
            }
            case.keep.push(reason);
        }
    });
    keep_floor(&mut cases, min_backups);
    tell_why_not(&mut cases, &good, rules);
    if !bad.is_empty() {
        cases.extend(judged_bad(ranked, rules, newest));
    }
    cases
}

/// Holds on to what may hold the last change of all. That may be behind an older full backup: the newer one was made of that
/// and its changes, or was taken a moment ago, and no change is captured behind it yet. All that lead further stay, not only the
/// furthest: names alone say how far, and anybody can write a name.
fn keep_the_last_change<'a>(cases: &mut [Case<'a>], newest: &Dated<'a>) {
    // Where something follows the newest one it is written now, and all else is no more.
    let is_followed = newest.chain.captured_at.is_some() && newest.chain.proven != Some(newest.chain.tip);
    let last_captured = match is_followed {
        true => None,
        false => cases.iter().filter_map(|case| case.chain.captured_at).max(),
    };
    let last_captured = last_captured.filter(|at| newest.start.duration_since(*at) <= STILL_CAPTURED);
    for case in cases {
        let reason = if case.chain.reach > newest.chain.proven() {
            KeepReason::ReachesFurther(case.chain.reach)
        } else if last_captured.is_some() && case.chain.captured_at == last_captured {
            KeepReason::MayReachFurther(newest.chain.id())
        } else {
            continue;
        };
        case.keep.push(reason);
        case.hold = Hold::Firm;
    }
}

/// Adds the newest that the rules do not keep until there are `min_backups`, and holds on to the newest so many.
fn keep_floor(cases: &mut [Case<'_>], min_backups: u32) {
    let min = count(min_backups);
    let kept = cases.iter().filter(|case| !case.keep.is_empty()).count();
    let others = cases.iter_mut().filter(|case| case.keep.is_empty());
    for case in others.take(min.saturating_sub(kept)) {
        case.keep.push(KeepReason::Floor(min_backups));
    }
    for case in cases.iter_mut().filter(|case| !case.keep.is_empty()).take(min) {
        case.hold = Hold::Firm;
    }
}

/// Gives the good ones that are not kept their reasons.
fn tell_why_not<'a>(cases: &mut [Case<'a>], good: &[Dated<'a>], rules: &Rules<'_>) {
    let past_all = cases
        .iter()
        .rposition(|case| !case.keep.is_empty())
        .map_or(0, |oldest| oldest.saturating_add(1));
    for (case, dated) in cases.iter_mut().zip(good).skip(past_all) {
        // The id of one with a start that is to come would belie these words.
        if dated.clock == Clock::Plausible {
            case.remove.push(RemoveReason::OlderThanAll(&case.chain.lineage));
        }
    }
    rules.weigh(good, |place, said| {
        if let (Some(case), Err(reason)) = (cases.get_mut(place), said)
            && case.keep.is_empty()
            && !matches!(case.remove.as_slice(), [RemoveReason::OlderThanAll(_)])
        {
            case.remove.push(reason);
        }
    });
}

/// The bad ones among the chains of one lineage.
fn judged_bad<'a>(ranked: &[Dated<'a>], rules: &Rules<'_>, newest_good: Option<&Chain>) -> Vec<Case<'a>> {
    let mut kept_if_good = vec![None; ranked.len()];
    rules.weigh(ranked, |place, said| {
        if let (Some(kept), Ok(reason)) = (kept_if_good.get_mut(place), said) {
            let hold = match reason {
                KeepReason::Points { .. } => Hold::Firm,
                _ => Hold::Loose,
            };
            *kept = (*kept).max(Some(hold));
        }
    });
    let mut cases = Vec::new();
    for (place, (dated, kept_if_good)) in ranked.iter().zip(kept_if_good).enumerate() {
        let chain = dated.chain;
        if chain.is_good() {
            continue;
        }
        let mut case = Case::open(dated);
        if newest_good.is_none_or(|good| chain.newness() > good.newness()) {
            case.keep.push(KeepReason::BadButFurthest(&chain.standing));
            if place == 0 {
                // Something of it may yet be saved, and what comes after may be no better.
                case.hold = Hold::Firm;
            }
        } else if let Some(hold) = kept_if_good {
            case.keep.push(KeepReason::BadButRecent(&chain.standing));
            case.hold = hold;
        } else {
            case.remove.push(RemoveReason::Bad(&chain.standing));
        }
        cases.push(case);
    }
    cases
}
