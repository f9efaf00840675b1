//! Retention of one destination, as its policy has it.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Retained, host};
use crate::config::{Config, Kind};
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::model::ChainId;
use crate::prune::{self, ByAge, Plan, Target};
use crate::schedule::Pauses;
use crate::store::FileStore;

/// What came of the retention of one destination.
#[derive(Debug, Default)]
pub struct Applied {
    /// The backups that it removed.
    pub gone: Vec<ChainId>,
    /// What was not done, and why.
    pub undone: Vec<String>,
    /// How many it kept and removed; none if the destination keeps everything.
    pub retained: Option<Retained>,
}

/// What retention says of a destination; none if it keeps everything.
pub fn plan(
    config: &Config,
    destinations: &Destinations,
    name: &str,
    store: &FileStore,
    by_age: ByAge,
) -> Option<Plan> {
    let policy = config.destinations.get(name)?.retention.as_ref()?;
    let target = Target {
        destination: name,
        store,
        policy,
    };
    let (now, zone) = (host::now(), TimeZone::system());
    let pauses = pauses(config, name, now);
    Some(prune::plan(target, &destinations.catalog, now, &zone, by_age, pauses))
}

/// The pauses that the schedules leave from one backup in a destination to the next; none without a schedule.
fn pauses(config: &Config, destination: &str, now: Timestamp) -> Option<Pauses> {
    let schedules = config.schedules.values();
    let schedules = schedules.filter(|schedule| {
        let mut names = schedule.destinations.iter();
        schedule.kind == Kind::Full && names.any(|name| name.as_str() == destination)
    });
    let pauses = schedules.filter_map(|schedule| {
        let pauses = schedule.when.pauses(now)?;
        // Each host may be so much behind its slot.
        let jitter = SignedDuration::try_from(schedule.jitter).unwrap_or(SignedDuration::MAX);
        Some(Pauses {
            longest: pauses.longest.saturating_add(jitter),
            ..pauses
        })
    });
    // Each schedule alone leaves no longer ones.
    pauses.min_by_key(|pauses| pauses.longest)
}

/// Applies the retention of one destination, if it has any. `removed` hears of each backup that goes.
pub fn apply(config: &Config, destinations: &Destinations, name: &str, removed: impl Fn()) -> Applied {
    let has_policy = config
        .destinations
        .get(name)
        .is_some_and(|found| found.retention.is_some());
    let Some(store) = destinations.stores.get(name) else {
        let why = destinations.why_unreadable(name).unwrap_or("it could not be read");
        let undone = has_policy.then(|| format!("nothing is removed: {why}"));
        return Applied {
            gone: Vec::new(),
            undone: undone.into_iter().collect(),
            retained: None,
        };
    };
    let Some(plan) = plan(config, destinations, name, store, ByAge::IfClocksAgree) else {
        return Applied::default();
    };
    let done = prune::carry_out(&plan, store, removed);
    Applied {
        retained: Some(Retained {
            kept: plan.keep.len() as u64,
            removed: done.gone.len() as u64,
        }),
        undone: told(&done.stuck)
            .into_iter()
            .chain(plan.held.map(|held| held.to_string()))
            .collect(),
        gone: done.gone,
    }
}

/// What could not be removed, in words.
pub fn told(stuck: &[prune::Error]) -> Vec<String> {
    stuck.iter().map(|error| with_causes(error)).collect()
}
