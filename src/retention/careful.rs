//! Retention by somebody who does not trust the time: nothing goes for its age while clocks disagree, while the dates of
//! the last backups are none that the schedule explains, or while its own date is still to come.
//!
//! A clock that is ahead for half a minute, or a battery that is empty at boot, would make everything old. What goes for
//! another reason (`max_bytes`) goes all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::jump::{TOLERANCE, unexplained};
use super::{Chain, Inventory, KeepReason, Plan, Policy, Verdict, plan};
use crate::layout::ChainPath;
use crate::model::LineageId;
use crate::schedule::Span;

/// What the clocks show while backups are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clocks {
    /// This host's.
    pub host: Timestamp,
    /// The store's, or why it cannot be read.
    pub store: Result<Timestamp, String>,
}

/// What is not removed, because the time is in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How many would go by their age.
    pub backups: usize,
    /// Why the time is not believed.
    pub why: String,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Held { backups, why } = self;
        let (s, are) = if *backups == 1 { ("", "is") } else { ("s", "are") };
        write!(
            f,
            "{backups} backup{s} {are} not removed for their age: {why}; look at the clocks, and if they are right, run \
             `lifeboat prune --yes`"
        )
    }
}

/// The plan of [`plan`], without what would go for its age while the time is in doubt.
pub fn careful_plan<'a>(
    inventory: &'a Inventory,
    policy: &Policy,
    clocks: &Clocks,
    zone: &TimeZone,
) -> (Plan<'a>, Option<Held>) {
    let now = clocks.host;
    let judged = plan(inventory, policy, now, zone);
    let ageless = Policy {
        keep_within: Some(Duration::MAX),
        ..policy.clone()
    };
    if !policy.goes_by_age() {
        return (judged, None);
    }
    let without = plan(inventory, &ageless, now, zone);
    let of_any_age: BTreeSet<&ChainPath> = without.remove.iter().map(|verdict| &verdict.chain.path).collect();
    let aged = |chain: &Chain| !of_any_age.contains(&chain.path);
    let backups = judged.remove.iter().filter(|verdict| aged(verdict.chain)).count();
    if backups == 0 {
        return (judged, None);
    }
    if let Some(why) = apart(inventory, clocks).or_else(|| jumped(inventory)) {
        return (without, Some(Held { backups, why }));
    }
    hold_what_is_to_come(judged, aged, now)
}

impl Policy {
    /// Whether a rule of it goes by dates.
    fn goes_by_age(&self) -> bool {
        let calendar = [
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        self.keep_within.is_some() || calendar.iter().any(|count| *count > 0)
    }
}

/// Takes out what would go for its age though its date is still to come: how old that is, nobody knows.
fn hold_what_is_to_come<'a>(
    mut judged: Plan<'a>,
    aged: impl Fn(&Chain) -> bool,
    now: Timestamp,
) -> (Plan<'a>, Option<Held>) {
    let ahead = |chain: &Chain| chain.id().started_at().duration_since(now);
    let (to_come, remove): (Vec<_>, Vec<_>) = judged
        .remove
        .into_iter()
        .partition(|verdict| aged(verdict.chain) && ahead(verdict.chain) > TOLERANCE);
    judged.remove = remove;
    let farthest = to_come.iter().map(|verdict| ahead(verdict.chain)).max();
    let held = farthest.map(|by| Held {
        backups: to_come.len(),
        why: format!("dated up to {} in the future", Span(by.unsigned_abs())),
    });
    judged.keep.extend(to_come.into_iter().map(|verdict| Verdict {
        chain: verdict.chain,
        reasons: vec![KeepReason::DatedInTheFuture],
    }));
    judged
        .keep
        .sort_by_key(|verdict| (verdict.chain.id(), verdict.chain.path.cluster));
    (judged, held)
}

/// Whether the clocks of host, store and newest backup disagree.
fn apart(inventory: &Inventory, clocks: &Clocks) -> Option<String> {
    match &clocks.store {
        Ok(store) => {
            let by = clocks.host.duration_since(*store);
            if by.abs() > TOLERANCE {
                let by = Span(by.unsigned_abs());
                return Some(format!("the clocks of this host and of the store differ by {by}"));
            }
        }
        Err(error) => return Some(format!("the store's clock cannot be read ({error})")),
    }
    let newest = starts(inventory)
        .into_values()
        .filter_map(|starts| starts.last().copied());
    let ahead = newest.map(|newest| newest.duration_since(clocks.host)).max()?;
    let by = Span(ahead.unsigned_abs());
    (ahead > TOLERANCE).then(|| format!("the newest backup is dated {by} in the future"))
}

/// Whether a span between the last backups is none that the schedule explains.
fn jumped(inventory: &Inventory) -> Option<String> {
    let spans = starts(inventory)
        .into_values()
        .filter_map(|starts| unexplained(&starts));
    let by = spans.max_by_key(|span| span.abs())?;
    let far = Span(by.unsigned_abs());
    Some(match by.is_negative() {
        true => format!("one of the last backups is dated {far} before the one before it: the clock was set back"),
        false => {
            format!("two of the last backups are {far} apart, far more than the others: the clock may have jumped")
        }
    })
}

/// When the backups of each history were begun, in the order of their revisions.
fn starts(inventory: &Inventory) -> BTreeMap<&LineageId, Vec<Timestamp>> {
    let mut chains: Vec<&Chain> = inventory.chains.iter().collect();
    chains.sort_by_key(|chain| (chain.tip, chain.id()));
    let mut starts: BTreeMap<&LineageId, Vec<Timestamp>> = BTreeMap::new();
    for chain in chains {
        starts.entry(&chain.lineage).or_default().push(chain.id().started_at());
    }
    starts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;

    use super::super::PinState;
    use super::*;
    use crate::catalog::Standing;
    use crate::layout::Proof;
    use crate::model::{ChainId, ClusterId, Revision};

    const EVERY: SignedDuration = SignedDuration::from_hours(6);
    const RUNS: i64 = 48;
    /// So many runs are a day, after which clocks that agree are believed.
    const DAY: i64 = 4;

    /// Which clocks are wrong.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Wrong {
        /// This host's, which dates the backup and judges.
        Host,
        /// This host's, but only while it judges.
        HostWhileJudging,
        /// The store's.
        Store,
        /// Both, as where the store is a directory of this host.
        Both,
    }

    /// Hosts that take a backup each six hours and judge all of them after each; by their revisions, what there is.
    #[derive(Debug, Clone, Default)]
    struct World {
        chains: BTreeMap<i64, Chain>,
    }

    impl World {
        fn run(&mut self, run: i64, policy: &Policy, dated_by: SignedDuration, clocks: &Clocks) {
            let first: ChainId = ChainId::new(truly(0), 1);
            let id = ChainId::new(truly(run) + dated_by, u32::try_from(run).expect("there are few") + 1);
            let chain = Chain {
                path: ChainPath {
                    cluster: ClusterId(0xab),
                    chain: id,
                },
                lineage: LineageId::opened_by(ClusterId(0xab), &first),
                tip: Revision::new(run + 1).expect("it is not negative"),
                bytes: 1,
                standing: Standing::Good(Proof::Stored),
                pin: PinState::Free,
            };
            self.chains.insert(run, chain);
            let inventory = Inventory {
                chains: self.chains.values().cloned().collect(),
                unjudged: None,
            };
            let (plan, _) = careful_plan(&inventory, policy, clocks, &TimeZone::UTC);
            for verdict in &plan.remove {
                self.chains.retain(|_, chain| chain.path != verdict.chain.path);
            }
        }
    }

    fn truly(run: i64) -> Timestamp {
        let hours = run * EVERY.as_hours();
        "2026-11-20T02:01:00Z".parse::<Timestamp>().expect("it is one") + SignedDuration::from_hours(hours)
    }

    fn right(at: Timestamp) -> Clocks {
        Clocks {
            host: at,
            store: Ok(at),
        }
    }

    /// For each clock, step and point: while it lasts and for a day after, all that the true time keeps is there.
    #[test]
    fn whichever_clock_steps_when_and_how_far_nothing_goes_that_the_true_time_would_keep() {
        // Edges of windows and days lie between the slots and more than an hour away: of a date that is wrong by an hour, when
        // the clock is right again, nobody can tell.
        let within = Policy {
            keep_within: Some(Duration::from_secs(3600 * (5 * 24 + 3))),
            ..Policy::default()
        };
        let daily = Policy {
            keep_last: 2,
            keep_daily: 7,
            ..Policy::default()
        };
        let hours = SignedDuration::from_hours;
        let steps = [1, 30 * 24, 10 * 365 * 24]
            .into_iter()
            .flat_map(|step| [hours(step), hours(-step)]);
        let steps: Vec<SignedDuration> = steps.collect();
        let wrongs = [Wrong::Host, Wrong::HostWhileJudging, Wrong::Store, Wrong::Both];
        let mut removed = 0;
        for policy in [&within, &daily] {
            // What there is after each run where no clock is wrong.
            let mut true_worlds = vec![World::default()];
            for run in 0..RUNS {
                let mut world = true_worlds.last().expect("there is one").clone();
                world.run(run, policy, SignedDuration::ZERO, &right(truly(run)));
                true_worlds.push(world);
            }
            removed += RUNS as usize - true_worlds.last().expect("there is one").chains.len();
            for from in 0..RUNS {
                for (step, wrong, lasts) in steps.iter().flat_map(|step| {
                    let all = wrongs
                        .iter()
                        .flat_map(|wrong| [1, 3, i64::MAX].map(|lasts| (*wrong, lasts)));
                    all.map(|(wrong, lasts)| (*step, wrong, lasts))
                }) {
                    // Where all clocks stay wrong, they agree after a day.
                    let until = match (wrong, lasts) {
                        (Wrong::Both, i64::MAX) => from + DAY,
                        (_, i64::MAX) => from + 3 * DAY,
                        (_, lasts) => from + lasts + DAY,
                    };
                    let mut world = true_worlds[usize::try_from(from).expect("it is small")].clone();
                    for run in from..until.min(RUNS) {
                        let at = truly(run);
                        let mut clocks = right(at);
                        let mut dated_by = SignedDuration::ZERO;
                        if run - from < lasts {
                            match wrong {
                                Wrong::Host | Wrong::HostWhileJudging => clocks.host += step,
                                Wrong::Store => clocks.store = Ok(at + step),
                                Wrong::Both => clocks = right(at + step),
                            }
                            if matches!(wrong, Wrong::Host | Wrong::Both) {
                                dated_by = step;
                            }
                        }
                        world.run(run, policy, dated_by, &clocks);
                        let kept = &true_worlds[usize::try_from(run).expect("it is small") + 1].chains;
                        let lost: Vec<&i64> = kept.keys().filter(|run| !world.chains.contains_key(run)).collect();
                        assert!(
                            lost.is_empty(),
                            "{wrong:?} by {step:?} from run {from} for {lasts}: after run {run} lost {lost:?} ({policy:?})"
                        );
                    }
                }
            }
        }
        assert!(removed > RUNS as usize, "the rules remove most of them");
    }
}
