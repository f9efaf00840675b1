//! Retention of one destination, as its policy has it; and what an operator gives up.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::named_backup::not_found;
use super::stores::blame;
use super::{Exit, Failure, Listener, Retained, accept_lineage, clock_set_back, host, last_seen};
use crate::catalog::{FindError, LatestError, Lineage};
use crate::config::{Config, Kind};
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::layout::ObjectName;
use crate::model::{ByteSize, ChainId};
use crate::prune::{self, ByAge, Judged, Plan, Target};
use crate::schedule::Pauses;
use crate::store::Store;

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
pub fn plan(config: &Config, destinations: &Destinations, name: &str, store: &Store, by_age: ByAge) -> Option<Plan> {
    let policy = config.destinations.get(name)?.retention.as_ref()?;
    let target = Target {
        destination: name,
        store,
        policy,
    };
    let (now, zone) = (host::now(), TimeZone::system());
    let pauses = pauses(config, name, now);
    let set_back = clock_set_back::set_back(config, now);
    Some(prune::plan(
        target,
        &destinations.catalog,
        now,
        &zone,
        by_age,
        pauses,
        set_back,
    ))
}

/// The pauses that the schedules leave from one backup in a destination to the next; none without a schedule.
pub fn pauses(config: &Config, destination: &str, now: Timestamp) -> Option<Pauses> {
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
pub fn apply(config: &Config, destinations: &Destinations, name: &str, beat: impl Fn()) -> Applied {
    let has_policy = config
        .destinations
        .get(name)
        .is_some_and(|found| found.retention.is_some());
    // Of one that was read in part nobody knows what else there is.
    let store = destinations.stores.get(name);
    let Some(store) = store.filter(|_| destinations.why_unreadable(name).is_none()) else {
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
    let forgotten = last_seen::removing(&destinations.cluster, name, &ids(&plan));
    let done = prune::carry_out(&plan, store, beat);
    Applied {
        retained: Some(Retained {
            kept: plan.keep.len() as u64,
            removed: done.gone.len() as u64,
        }),
        undone: told(plan.stuck.iter().chain(&done.stuck))
            .into_iter()
            .chain(plan.held.map(|held| held.to_string()))
            .chain(forgotten.err())
            .collect(),
        gone: done.gone,
    }
}

/// The backups that are to go.
fn ids(plan: &Plan) -> Vec<ChainId> {
    plan.remove.iter().map(|judged| judged.id.clone()).collect()
}

/// What could not be removed, in words.
fn told<'a>(stuck: impl Iterator<Item = &'a prune::Error>) -> Vec<String> {
    stuck.map(|error| with_causes(error)).collect()
}

/// What was kept and removed by hand, as programs see it.
#[derive(Debug, Serialize)]
pub struct Pruned {
    /// What stays.
    pub keep: Vec<Row>,
    /// What is removed.
    pub remove: Vec<Row>,
    /// Whether it is only said, and not done.
    pub dry_run: bool,
    /// What was not done, and why.
    pub errors: Vec<String>,
    /// What was asked for and is not done, because it would shorten a window of points that is to be kept.
    pub refused: Vec<String>,
}

/// A backup in a destination, and why it stays or goes.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The backup.
    pub id: ChainId,
    /// The destination.
    pub destination: String,
    /// The reasons.
    pub reasons: Vec<String>,
}

impl Pruned {
    /// Nothing yet.
    pub fn new(dry_run: bool) -> Pruned {
        Pruned {
            keep: Vec::new(),
            remove: Vec::new(),
            dry_run,
            errors: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Applies the retention of a destination.
    pub fn apply(
        &mut self,
        listener: &dyn Listener,
        config: &Config,
        places: &Destinations,
        name: &str,
        by_age: ByAge,
    ) {
        let Some(store) = places.stores.get(name) else { return };
        // Of one that was read in part nobody knows what else there is.
        if places.why_unreadable(name).is_some() {
            return;
        }
        let Some(plan) = plan(config, places, name, store, by_age) else {
            let here = places.catalog.backups().iter();
            let here = here.filter(|backup| backup.destinations().any(|destination| destination == name));
            self.keep.extend(here.map(|backup| Row {
                id: backup.id().clone(),
                destination: name.to_owned(),
                reasons: vec!["the destination has no retention".to_owned()],
            }));
            return;
        };
        if let Some(held) = &plan.held {
            let told = format!("destination {name}: {held}");
            match held.is_unknown {
                true => self.errors.push(told),
                false => listener.warn(&told),
            }
        }
        if plan.is_excess_of_window {
            self.refused.push(format!(
                "destination {name}: `max_bytes` asks for less than `pitr_window` keeps, by {}: no point of the window is removed",
                plan.excess
            ));
        } else if plan.excess > ByteSize(0) {
            listener.warn(&format!(
                "destination {name}: backups that must stay exceed max_bytes by {}",
                plan.excess
            ));
        }
        self.carry_out(name, store, &plan);
    }

    /// Gives up the bad copies of the backups that are named.
    pub fn give_up(&mut self, places: &Destinations, named: &[String]) -> Result<(), Failure> {
        let found = named.iter().map(|id| {
            // As messages name it.
            if let Ok(object) = id.parse::<ObjectName>()
                && let Some(chain) = object.chain()
            {
                return Ok(chain.clone());
            }
            match places.catalog.find(id) {
                Ok(found) => Ok(found.manifest().chain_path()),
                Err(FindError::Damaged { damaged, .. }) if damaged.object.chain().is_some() => {
                    Ok(damaged.object.chain().expect("it was looked at").clone())
                }
                Err(error) => Err(blame(places, not_found(&error))),
            }
        });
        // All of them before the first is touched.
        let mut meant = found.collect::<Result<Vec<_>, Failure>>()?;
        meant.dedup();
        for path in &meant {
            for (name, store) in &places.stores {
                let plan = prune::plan_damaged(name, store, &places.catalog, path, host::now());
                self.carry_out(name, store, &plan);
            }
        }
        Ok(())
    }

    /// Gives up all backups of a history that goes on no more.
    pub fn give_up_lineage(&mut self, places: &Destinations, lineage: &Lineage) {
        for (name, store) in &places.stores {
            let plan = prune::plan_lineage(name, store, &places.catalog, &lineage.id, host::now());
            self.carry_out(name, store, &plan);
        }
    }

    /// Does what is planned for a destination, unless it is only to be shown, and takes it in.
    fn carry_out(&mut self, name: &str, store: &Store, plan: &Plan) {
        let row = |judged: &Judged| Row {
            id: judged.id.clone(),
            destination: name.to_owned(),
            reasons: judged.reasons.clone(),
        };
        self.keep.extend(plan.keep.iter().map(row));
        let stuck = |stuck: &[prune::Error]| {
            let told = told(stuck.iter()).into_iter();
            told.map(|why| format!("destination {name}: {why}")).collect::<Vec<_>>()
        };
        self.errors.extend(stuck(&plan.stuck));
        if self.dry_run {
            self.remove.extend(plan.remove.iter().map(row));
            return;
        }
        self.errors
            .extend(last_seen::removing(store.authority().cluster(), name, &ids(plan)).err());
        let done = prune::carry_out(plan, store, || {});
        let removed = plan.remove.iter().filter(|judged| done.gone.contains(&judged.id));
        self.remove.extend(removed.map(row));
        self.errors.extend(stuck(&done.stuck));
    }
}

/// The history that is named, if it goes on no more.
pub fn abandoned(places: &Destinations, named: &str) -> Result<Lineage, Failure> {
    let catalog = &places.catalog;
    let lineage = accept_lineage::meant(catalog, Some(named.to_owned()))?;
    let refused = |message: String| Failure::new(Exit::Refused, message);
    match catalog.accepted_lineage() {
        Ok(accepted) if accepted.id == lineage.id => {
            return Err(refused(format!(
                "lineage {lineage} is the accepted one: `latest` is taken from it"
            ))
            .next("first accept the one that continues: `lifeboat accept-lineage LINEAGE`"));
        }
        Err(LatestError::Unaccepted {
            accepted: Some(accepted),
            ..
        }) if accepted == lineage.id => {
            return Err(refused(format!(
                "lineage {lineage} was accepted last: first confirm which history continues"
            ))
            .next("run `lifeboat accept-lineage LINEAGE`"));
        }
        Ok(_) | Err(_) => {}
    }
    if let Some((name, error)) = places.unreadable.first() {
        return Err(Failure::new(Exit::Failed, format!("destination {name}: {error}"))
            .next("the history to continue may be in it: make it readable first"));
    }
    Ok(lineage)
}
