//! How far the destinations are behind: what they lack, and since when, as this host remembers it.
//!
//! Judged is in `health`; what is owed at all says `copy`, and it is copied by `slot`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::fed_since::fed_since;
use super::{copy, host};
use crate::catalog::Backup;
use crate::config::{Config, Schedule};
use crate::destinations::Destinations;
use crate::health::{Owed, OwedBackup};
use crate::state::{BehindSince, State};

/// Whether what is seen is remembered: by the agent it is, which sees it begin and end. Others only look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// It is.
    IsKept,
    /// It is only read.
    IsRead,
}

/// What each destination lacks that could be read; one that could not be is not there.
pub fn behind(config: &Config, places: &Destinations, now: Timestamp, memory: Memory) -> BTreeMap<String, Vec<Owed>> {
    let own = host::host_name();
    let fed_since = fed_since(config, places, now, memory);
    let readable = config.destinations.keys().filter(|name| {
        let is_whole = places.why_unreadable(name.as_str()).is_none();
        is_whole && places.stores.contains_key(name.as_str())
    });
    let lacks = readable.map(|name| {
        let mut lacking = copy::lacking(config, places, name.as_str(), fed_since.get(name.as_str()).copied());
        lacking.retain(|backup| is_ours(config, places, backup, own.as_str()));
        (name.to_string(), by_schedule(config, name.as_str(), &lacking))
    });
    let mut lacks: BTreeMap<String, Vec<Owed>> = lacks.collect();
    let state = match memory {
        Memory::IsKept => host::state(&config.cluster.name),
        Memory::IsRead => host::state_to_read(&config.cluster.name),
    };
    let state = state.ok();
    let remembered = state.as_ref().and_then(|state| state.behind_since().ok()).flatten();
    let since = seen(config, &lacks, remembered.as_ref(), now);
    let is_known = match memory {
        Memory::IsRead => remembered.is_some(),
        Memory::IsKept => state.is_some_and(|state| keep(&state, remembered.as_ref(), &since)),
    };
    for (name, all) in &mut lacks {
        for owed in all.iter_mut() {
            let seen = since.get(name).and_then(|since| since.get(&owed.schedule));
            // Without a memory it counts from the first slot on.
            if let Some(seen) = seen.filter(|_| is_known) {
                owed.since = *seen;
            }
            owed.since = owed.since.min(now);
        }
    }
    lacks
}

/// Whether a backup is one that a destination of this host may get: its own, or one of a store that all share.
fn is_ours(config: &Config, places: &Destinations, backup: &Backup, own: &str) -> bool {
    backup.destinations().any(|name| config.is_shared(name))
        || places
            .manifest(backup)
            .is_ok_and(|(manifest, _)| manifest.writer.host == own)
}

fn by_schedule(config: &Config, destination: &str, lacking: &[&Backup]) -> Vec<Owed> {
    let owed = config.schedules.iter().filter_map(|(name, schedule)| {
        let of_schedule = lacking.iter().filter_map(|backup| {
            let slot = backup.manifest().slot.as_deref()?;
            let mut sources = backup
                .copies
                .iter()
                .filter(|copy| copy.destination != destination && copy::is_good(copy));
            let from = sources.next()?.destination.clone();
            (slot.schedule() == name).then(|| OwedBackup {
                id: backup.id().clone(),
                slot: slot.instant(),
                from,
            })
        });
        let mut backups: Vec<OwedBackup> = of_schedule.collect();
        backups.sort_by_key(|backup| backup.slot);
        Some(Owed {
            schedule: name.to_string(),
            late_after: schedule.late_after,
            since: due(schedule, backups.first()?.slot),
            backups,
        })
    });
    owed.collect()
}

fn due(schedule: &Schedule, slot: Timestamp) -> Timestamp {
    slot.saturating_add(schedule.jitter).unwrap_or(slot)
}

/// Since when each destination lacks something, by what was remembered and what is seen now. Of one that could not be read
/// nothing has changed.
fn seen(
    config: &Config,
    lacks: &BTreeMap<String, Vec<Owed>>,
    remembered: Option<&BehindSince>,
    now: Timestamp,
) -> BehindSince {
    let names = config.destinations.keys().map(ToString::to_string);
    let since = names.filter_map(|name| {
        let before = remembered.and_then(|remembered| remembered.get(&name));
        let Some(all) = lacks.get(&name) else {
            return Some((name, before?.clone()));
        };
        let schedules = all.iter().map(|owed| {
            let before = before.and_then(|before| before.get(&owed.schedule));
            (owed.schedule.clone(), before.copied().unwrap_or(now).min(now))
        });
        let schedules: BTreeMap<String, Timestamp> = schedules.collect();
        (!schedules.is_empty()).then_some((name, schedules))
    });
    since.collect()
}

/// Whether `since` is what is remembered from now on.
fn keep(state: &State, remembered: Option<&BehindSince>, since: &BehindSince) -> bool {
    remembered == Some(since) || state.remember_behind(since).is_ok()
}
