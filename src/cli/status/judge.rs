//! What is wrong, one sentence each.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::members::MemberRow;
use crate::agent::{Report, ScheduleReport};
use crate::catalog::LatestError;
use crate::cli::list::{faults, rfc3339};
use crate::cli::output::clean;
use crate::cli::source::no_latest;
use crate::config::{Config, DestinationName, Kind, Schedule};
use crate::destinations::Destinations;
use crate::health::unproven_since;
use crate::schedule::{Slot, Span};

/// How long backups may go without the proof that is required, where no schedule says how often they get one.
const UNPROVEN_FOR: Duration = Duration::from_secs(26 * 3600);

/// Whether an agent that `runs` says how it is: it cannot where its state is full or read-only.
pub(super) fn wrong_with_what_it_says(
    runs: bool,
    said: Option<&Report>,
    folder: &Path,
    now: Timestamp,
) -> Option<String> {
    let silent = match said {
        None => runs.then(|| "has written no `status.json`".to_owned()),
        Some(said) => said
            .silent_for(now)
            .map(|silent| format!("has not written `status.json` for {}", Span(silent))),
    };
    silent.map(|silent| {
        format!(
            "the agent runs, but {silent} in `{}`, so that how it is is not known: is there room? `journalctl -u lifeboat` \
            says more",
            folder.display()
        )
    })
}

/// What is wrong with the configuration, as this command and as the agent reads it: once, if both say it.
pub(super) fn wrong_with_configuration(broken: Option<&str>, refused_by_agent: Option<&str>) -> Option<String> {
    let (who, error) = match (broken, refused_by_agent) {
        (Some(error), None) => ("this goes by the last one that was right", error),
        (Some(error), Some(_)) => ("the agent goes on with the one before", error),
        (None, Some(error)) => ("the agent has refused it and goes on with the one before", error),
        (None, None) => return None,
    };
    // Behind the first line stands every problem, each with its line drawn: one will do here.
    let mut lines = error.lines();
    let first = lines.next().unwrap_or_default();
    let telling = lines.next().unwrap_or(first);
    Some(format!(
        "the configuration is wrong, {who}: {telling}; `lifeboat check` says all of it"
    ))
}

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
pub(super) fn wrong_with_backups(config: &Config, places: &Destinations, now: Timestamp) -> Vec<String> {
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
        let id = backup.id();
        let not_good = |fault| format!("{id} is not good in {fault}; to give it up: `lifeboat prune --damaged {id}`");
        wrong.extend(faults(backup).into_iter().map(not_good));
    }
    match catalog.latest() {
        Ok(latest) => wrong.extend(
            latest
                .manifest()
                .doubt
                .as_ref()
                .map(|doubt| format!("the data in {} is in doubt: {}", latest.id(), clean(doubt))),
        ),
        Err(LatestError::Empty) => wrong.push("there is no backup: take one with `lifeboat backup`".to_owned()),
        Err(error) => wrong.push(format!("`latest` is refused: {}", no_latest(&error))),
    }
    wrong.extend(catalog.astray(now).map(|astray| astray.to_string()));
    if config.destinations.is_empty() {
        wrong.push("no destination is configured".to_owned());
    }
    wrong
}

/// Destinations whose backups go without the proof that `[backup] require` asks for.
pub(in crate::cli) fn unproven(config: &Config, places: &Destinations, now: Timestamp) -> Vec<String> {
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

/// What is wrong with the members. One that does not answer is not, as long as most do and backups need not come from it.
pub(super) fn wrong_with_members(members: &[MemberRow], wanted: Option<&str>) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    for member in members.iter().filter(|member| !is_spared(member, members, wanted)) {
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

/// The members that do not answer, and that nothing of ours depends on.
pub(super) fn silent_members(members: &[MemberRow], wanted: Option<&str>) -> Vec<String> {
    let spared = members.iter().filter(|member| is_spared(member, members, wanted));
    let notes = spared.map(|member| {
        let errors = member.errors.join(", ");
        format!(
            "member {}: {errors}; the others serve, and backups are taken from them",
            member.name
        )
    });
    notes.collect()
}

/// Whether a member does not answer and can be done without.
fn is_spared(member: &MemberRow, members: &[MemberRow], wanted: Option<&str>) -> bool {
    let answers = members.iter().filter(|member| member.id.is_some()).count();
    member.id.is_none() && wanted != Some(member.name.as_str()) && answers > members.len() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, role: &'static str) -> MemberRow {
        let id = (role != "no answer").then(|| name.to_owned());
        MemberRow {
            name: name.to_owned(),
            url: String::new(),
            cluster_id: id.as_ref().map(|_| "ab".to_owned()),
            version: None,
            role,
            database_bytes: None,
            errors: match id {
                Some(_) => Vec::new(),
                None => vec!["no answer within 2 s".to_owned()],
            },
            of_others: Vec::new(),
            id,
        }
    }

    #[test]
    fn a_configuration_that_is_wrong_is_told_once_and_in_one_line() {
        let drawn = "the configuration is invalid: 1 problem\na.toml:20:12: not valid TOML\n   |\n20 | nonsense =";
        for (broken, refused) in [(Some(drawn), None), (None, Some(drawn)), (Some(drawn), Some(drawn))] {
            let told = wrong_with_configuration(broken, refused).unwrap();
            assert!(told.contains(": a.toml:20:12: not valid TOML; "), "{told}");
            assert!(!told.contains('\n') && !told.contains("nonsense"), "{told}");
        }
        let unread = wrong_with_configuration(Some("read configuration a.toml: denied"), None).unwrap();
        assert!(unread.contains("read configuration a.toml: denied"), "{unread}");
        assert_eq!(wrong_with_configuration(None, None), None);
    }

    #[test]
    fn a_member_without_an_answer_is_wrong_only_where_something_depends_on_it() {
        let silent = "member m3: no answer within 2 s";
        let one_of_three = [
            member("m1", "leader"),
            member("m2", "follower"),
            member("m3", "no answer"),
        ];
        assert_eq!(wrong_with_members(&one_of_three, None), [""; 0]);
        assert!(silent_members(&one_of_three, None)[0].starts_with(silent));
        assert_eq!(wrong_with_members(&one_of_three, Some("m2")), [""; 0]);

        assert_eq!(wrong_with_members(&one_of_three, Some("m3")), [silent]);
        assert_eq!(silent_members(&one_of_three, Some("m3")), [""; 0]);
        let two_of_three = [
            member("m1", "no leader"),
            member("m2", "no answer"),
            member("m3", "no answer"),
        ];
        assert_eq!(wrong_with_members(&two_of_three, None).len(), 3);
        let one_of_two = [member("m1", "leader"), member("m3", "no answer")];
        assert_eq!(wrong_with_members(&one_of_two, None), [silent]);
        let mut alarmed = one_of_three;
        alarmed[0].errors.push("alarm NOSPACE".to_owned());
        assert_eq!(wrong_with_members(&alarmed, None), ["member m1: alarm NOSPACE"]);
    }
}
