//! Retention by somebody who does not trust the time: nothing goes for its age while clocks disagree, while the dates of
//! the last backups are none that the schedule explains, or while its own date is still to come.
//!
//! A clock that is ahead for half a minute, or a battery that is empty at boot, would make everything old. What goes for
//! another reason (`max_bytes`) goes all the same, and nothing in the place of what is held: rather `max_bytes` is exceeded.
//! Each history is judged by its own dates.
//!
//! A host that was off for days is believed after a day of backups. The first of them stays then for as long as nothing else
//! shows that the time went by: thinned, they would look like a jump again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::clock_jump::{Judge, TOLERANCE, span, start};
use super::{Chain, Inventory, KeepReason, Plan, Policy, RemoveReason, Verdict, plan};
use crate::layout::ChainPath;
use crate::model::{ByteSize, ChainId, LineageId, Revision};
use crate::schedule::{Pauses, SetBack};
use crate::text::Length;

/// What the clocks show while backups are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clocks {
    /// This host's.
    pub host: Timestamp,
    /// The store's, or why it cannot be read.
    pub store: Result<Timestamp, String>,
    /// Whether this host's has shown more before, as this host remembers, or why that is not known.
    pub set_back: Result<Option<SetBack>, String>,
}

/// What is not removed, because the time is in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How many would go by their age.
    pub backups: usize,
    /// Why the time is not believed.
    pub why: String,
    /// Whether that is because it could not be found out: a clock, or what this host remembers of one, could not be read.
    pub is_unknown: bool,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Held { backups, why, .. } = self;
        let (s, are) = if *backups == 1 { ("", "is") } else { ("s", "are") };
        write!(
            f,
            "{backups} backup{s} {are} not removed for their age: {why}; look at the clocks, and if they are right, run \
             `lifeboat prune --yes`"
        )
    }
}

/// The plan of [`plan`], without what would go for its age while the time is in doubt. `pauses` are those that
/// the schedules leave from one backup in this destination to the next, if there is one.
///
/// Invariant: it removes nothing that the plan of [`plan`] would keep.
pub fn careful_plan<'a>(
    inventory: &'a Inventory,
    policy: &Policy,
    clocks: &Clocks,
    pauses: Option<Pauses>,
    zone: &TimeZone,
) -> (Plan<'a>, Option<Held>) {
    let mut judged = plan(inventory, policy, clocks.host, zone);
    if !policy.goes_by_age() {
        return (judged, None);
    }
    // What goes though nothing goes for its age, goes for another reason.
    let ageless = Policy {
        keep_within: Some(Duration::MAX),
        max_bytes: None,
        ..policy.clone()
    };
    let ageless = plan(inventory, &ageless, clocks.host, zone);
    let of_any_age: BTreeSet<&ChainPath> = ageless.remove.iter().map(|verdict| &verdict.chain.path).collect();
    let is_aged = |verdict: &Verdict<'_, RemoveReason<'_>>| {
        let is_over = matches!(verdict.reasons.as_slice(), [RemoveReason::OverMaxBytes(_)]);
        !is_over && !of_any_age.contains(&verdict.chain.path)
    };
    if !judged.remove.iter().any(is_aged) {
        return (judged, None);
    }
    let proven = proven(inventory, clocks.host);
    let judge = |newest: Timestamp| Judge {
        policy,
        zone,
        now: clocks.host,
        pauses,
        proven: proven.max(newest),
    };
    let doubts = Doubts::of(inventory, clocks, judge);
    let mut held: Vec<(Verdict<'a, KeepReason<'a>>, String)> = Vec::new();
    judged.remove.retain(|verdict| {
        let doubt = is_aged(verdict).then(|| doubts.about(verdict.chain)).flatten();
        let Some((reason, why)) = doubt else { return true };
        let reasons = vec![reason];
        held.push((
            Verdict {
                chain: verdict.chain,
                reasons,
            },
            why,
        ));
        false
    });
    keep_witnesses(&mut judged, judge, is_aged);
    let told = held.first().map(|(_, why)| Held {
        backups: held.len(),
        why: why.clone(),
        is_unknown: clocks.are_unknown(),
    });
    judged.keep.extend(held.into_iter().map(|(verdict, _)| verdict));
    judged
        .keep
        .sort_by_key(|verdict| (verdict.chain.id(), verdict.chain.path.cluster));
    judged.excess = excess(&judged, policy);
    (judged, told)
}

/// By how much what is kept takes more than `max_bytes`, with what is held.
fn excess(plan: &Plan<'_>, policy: &Policy) -> ByteSize {
    let Some(max) = policy.max_bytes else {
        return ByteSize(0);
    };
    let kept = plan.keep.iter().filter(|verdict| !verdict.chain.is_pinned());
    let sum = kept.fold(0_u64, |sum, verdict| sum.saturating_add(verdict.chain.bytes));
    ByteSize(sum.saturating_sub(max.0))
}

/// Why the time is not believed: at all, or of one history.
struct Doubts<'a> {
    now: Timestamp,
    of_all: Option<String>,
    of_one: BTreeMap<&'a LineageId, String>,
}

/// The last moment that is known to have come: a history that goes on no more is proven by what came after it. What is
/// dated in the future proves nothing.
fn proven(inventory: &Inventory, now: Timestamp) -> Timestamp {
    let all = inventory.chains.iter().map(start);
    all.filter(|start| *start <= now).max().unwrap_or(now)
}

/// Keeps what of a history was to go for its age and shows that a pause was one, where what is left does not.
fn keep_witnesses<'j>(
    judged: &mut Plan<'_>,
    judge: impl Fn(Timestamp) -> Judge<'j>,
    is_aged: impl Fn(&Verdict<'_, RemoveReason<'_>>) -> bool,
) {
    let kept: Vec<&Chain> = judged.keep.iter().map(|verdict| verdict.chain).collect();
    for (lineage, mut chains) in histories(kept.into_iter()) {
        while let Some([before, after]) = chains
            .last()
            .and_then(|newest| judge(start(newest)).unexplained(&chains))
        {
            let is_between = |verdict: &Verdict<'_, RemoveReason<'_>>| {
                let chain = verdict.chain;
                chain.lineage == *lineage && in_order(before) < in_order(chain) && in_order(chain) < in_order(after)
            };
            let of_it = judged.remove.iter().enumerate();
            let of_it = of_it.filter(|(_, verdict)| is_between(verdict) && is_aged(verdict));
            let Some((place, _)) = of_it.min_by_key(|(_, verdict)| in_order(verdict.chain)) else {
                break;
            };
            let chain = judged.remove.remove(place).chain;
            let reasons = vec![KeepReason::ShowsThePause];
            judged.keep.push(Verdict { chain, reasons });
            chains.push(chain);
            chains.sort_by_key(|chain| in_order(chain));
        }
    }
}

/// Its place in its history.
fn in_order(chain: &Chain) -> (Revision, &ChainId) {
    (chain.tip, chain.id())
}

impl<'a> Doubts<'a> {
    fn of<'j>(inventory: &'a Inventory, clocks: &Clocks, judge: impl Fn(Timestamp) -> Judge<'j>) -> Doubts<'a> {
        let now = clocks.host;
        let histories = histories(inventory.chains.iter());
        let of_one = histories.into_iter().filter_map(|(lineage, chains)| {
            let newest = start(chains.last()?);
            let ahead = newest.duration_since(now);
            if ahead > TOLERANCE {
                let by = Length(ahead.unsigned_abs());
                return Some((lineage, format!("the newest backup is dated {by} in the future")));
            }
            judge(newest)
                .unexplained(&chains)
                .map(|pair| (lineage, in_words(span(pair))))
        });
        Doubts {
            now,
            of_all: apart(clocks),
            of_one: of_one.collect(),
        }
    }

    /// Why the age of a chain is not known.
    fn about(&self, chain: &Chain) -> Option<(KeepReason<'a>, String)> {
        if let Some(why) = self.of_all.as_ref().or_else(|| self.of_one.get(&chain.lineage)) {
            return Some((KeepReason::TimeInDoubt, why.clone()));
        }
        let ahead = start(chain).duration_since(self.now);
        let by = Length(ahead.unsigned_abs());
        (ahead > TOLERANCE).then(|| (KeepReason::DatedInTheFuture, format!("dated {by} in the future")))
    }
}

impl Clocks {
    /// Whether one that nothing else is known to be wrong with could not be read.
    fn are_unknown(&self) -> bool {
        match &self.set_back {
            Ok(None) => self.store.is_err(),
            Ok(Some(_)) => false,
            Err(_) => true,
        }
    }
}

impl Policy {
    /// Whether a rule of it goes by dates.
    fn goes_by_age(&self) -> bool {
        self.keep_within.is_some() || self.pitr_window.is_some() || self.calendar().iter().any(|(_, count)| *count > 0)
    }
}

/// Whether the clock of the host disagrees with what it has shown, or with that of the store.
fn apart(clocks: &Clocks) -> Option<String> {
    match &clocks.set_back {
        Ok(None) => {}
        Ok(Some(set_back)) => return Some(set_back.to_string()),
        Err(error) => {
            return Some(format!(
                "whether the clock of this host was set back is not known ({error})"
            ));
        }
    }
    match &clocks.store {
        Ok(store) => {
            let by = clocks.host.duration_since(*store);
            let far = Length(by.unsigned_abs());
            (by.abs() > TOLERANCE).then(|| format!("the clocks of this host and of the store differ by {far}"))
        }
        Err(error) => Some(format!("the store's clock cannot be read ({error})")),
    }
}

/// What a span says that nothing explains.
fn in_words(span: SignedDuration) -> String {
    let far = Length(span.unsigned_abs());
    match span.is_negative() {
        true => format!("one of the last backups is dated {far} before the one before it: the clock was set back"),
        false => format!(
            "two of the last backups are {far} apart, longer than the schedule explains: the clock may have jumped"
        ),
    }
}

/// The chains of each history, in the order of their revisions.
fn histories<'c>(chains: impl Iterator<Item = &'c Chain>) -> BTreeMap<&'c LineageId, Vec<&'c Chain>> {
    let mut chains: Vec<&Chain> = chains.collect();
    chains.sort_by_key(|chain| in_order(chain));
    let mut histories: BTreeMap<&LineageId, Vec<&Chain>> = BTreeMap::new();
    for chain in chains {
        histories.entry(&chain.lineage).or_default().push(chain);
    }
    histories
}
