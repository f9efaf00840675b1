//! What is wrong, one sentence each.

use std::time::Duration;

use jiff::Timestamp;

use super::members::MemberRow;
use crate::agent::ScheduleReport;
use crate::catalog::LatestError;
use crate::cli::host::Places;
use crate::cli::list::{faults, rfc3339};
use crate::config::{Config, DestinationName, Kind, Schedule};
use crate::model::with_causes;
use crate::schedule::{Slot, Span};
use crate::verify::unproven_since;

/// How long backups may go without the proof that is required, where no schedule says how often they get one.
const UNPROVEN_FOR: Duration = Duration::from_secs(26 * 3600);

/// What is wrong with a schedule.
pub(super) fn wrong_with(schedule: &ScheduleReport, now: Timestamp) -> Vec<String> {
    let name = &schedule.name;
    let mut wrong = Vec::new();
    if let Some(late) = &schedule.late {
        wrong.push(format!("schedule {name} is {late}"));
    }
    if let Some(failure) = &schedule.failure {
        let left = failure.again_at.duration_since(now).as_secs().max(0);
        wrong.push(format!(
            "schedule {name} failed {} times, again in {left} s: {}",
            failure.attempts, failure.error
        ));
    }
    wrong.extend(
        schedule
            .missing
            .iter()
            .map(|missing| format!("schedule {name}: {missing}")),
    );
    wrong
}

/// What is wrong with the destinations and what is in them.
pub(super) fn wrong_with_backups(config: &Config, places: &Places) -> Vec<String> {
    let catalog = &places.catalog;
    let mut wrong: Vec<String> = Vec::new();
    wrong.extend(
        places
            .unreadable
            .iter()
            .map(|(name, error)| format!("destination {name}: {error}")),
    );
    wrong.extend(
        catalog
            .damaged()
            .iter()
            .map(|damaged| format!("{damaged}: {}", damaged.fault)),
    );
    for backup in catalog.backups() {
        wrong.extend(
            faults(backup)
                .into_iter()
                .map(|fault| format!("{} is not good in {fault}", backup.id())),
        );
    }
    match catalog.latest() {
        Ok(_) => {}
        Err(LatestError::Empty) => wrong.push("there is no backup".to_owned()),
        Err(error) => wrong.push(format!("`latest` is refused: {}", with_causes(&error))),
    }
    if config.destinations.is_empty() {
        wrong.push("no destination is configured".to_owned());
    }
    wrong
}

/// Destinations whose backups go without the proof that `[backup] require` asks for.
pub(in crate::cli) fn unproven(config: &Config, places: &Places, now: Timestamp) -> Vec<String> {
    let required = config.backup.require;
    let waiting = config.destinations.keys().filter_map(|name| {
        let since = unproven_since(&places.catalog, name.as_str(), required)?;
        let taken = since.manifest().first_byte_at;
        let grace = grace(config, name, now);
        let for_long = now.duration_since(taken).unsigned_abs();
        (taken <= now && for_long > grace).then(|| {
            format!(
                "destination {name}: no backup since {} is proven to be {required}, as `backup.require` wants within {}: \
                run `lifeboat verify --identity FILE`",
                rfc3339(taken),
                Span(grace)
            )
        })
    });
    waiting.collect()
}

/// How long backups may go without proof: from a slot of what verifies them to the next, and until that one is late.
fn grace(config: &Config, destination: &DestinationName, now: Timestamp) -> Duration {
    let verifies = |schedule: &&Schedule| match schedule.kind {
        Kind::Verify => schedule.destinations.contains(destination),
        Kind::Full | Kind::Prune => false,
    };
    let schedules = config.schedules.values().filter(verifies);
    let graces = schedules.map(|schedule| longest_gap(schedule, now) + schedule.jitter + schedule.late_after);
    graces.min().unwrap_or(UNPROVEN_FOR)
}

/// Between the next slots of a schedule: over a weekend it may be longer than in between.
fn longest_gap(schedule: &Schedule, now: Timestamp) -> Duration {
    const LOOKED_AT: usize = 8;
    let next = |after: &Slot| schedule.when.slot_after(after.instant());
    let slots: Vec<Slot> = std::iter::successors(schedule.when.slot_after(now), next)
        .take(LOOKED_AT)
        .collect();
    let gaps = slots.windows(2).filter_map(|pair| match pair {
        [one, other] => Some(other.instant().duration_since(one.instant()).unsigned_abs()),
        _ => None,
    });
    gaps.max().unwrap_or(UNPROVEN_FOR)
}

/// What is wrong with the members.
pub(super) fn wrong_with_members(members: &[MemberRow]) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    for member in members {
        wrong.extend(
            member
                .errors
                .iter()
                .map(|error| format!("member {}: {error}", member.name)),
        );
    }
    let mut clusters: Vec<&str> = members
        .iter()
        .filter_map(|member| member.cluster_id.as_deref())
        .collect();
    clusters.sort_unstable();
    clusters.dedup();
    if clusters.len() > 1 {
        wrong.push(format!(
            "the members are of different clusters: {}",
            clusters.join(", ")
        ));
    }
    let leaderless = |member: &&MemberRow| member.role == "no leader";
    wrong.extend(
        members
            .iter()
            .filter(leaderless)
            .map(|member| format!("member {} knows no leader", member.name)),
    );
    wrong
}
