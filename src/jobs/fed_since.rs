//! Since when each destination is fed: a destination that is configured anew owes nothing from before.
//!
//! A name that this host has not seen yet is fed from now on; or, where backups lie in it, from the first of them on: then it was fed
//! by another host, or by this one before it lost its memory. Where it remembers nothing at all it cannot tell a new destination from
//! one that was emptied: that one is fed from the first backup of any other on. A store that is known is the same one under
//! whatever name, and a name that has another store owes as before: its disk was replaced, or its URL is wrong. What is out of the
//! configuration for a while owes what it misses meanwhile.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::behind::Memory;
use super::host;
use crate::catalog::Backup;
use crate::config::Config;
use crate::destinations::Destinations;
use crate::state::Fed;
use crate::store::StoreId;

/// What a destination shows, where all of it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    store_id: StoreId,
    /// When the first backup in it was taken.
    first: Option<Timestamp>,
}

/// Since when each destination of the configuration is fed. Where that is remembered and cannot be read, none is there: all is owed.
pub fn fed_since(
    config: &Config,
    places: &Destinations,
    now: Timestamp,
    memory: Memory,
) -> BTreeMap<String, Timestamp> {
    let names: Vec<String> = config.destinations.keys().map(ToString::to_string).collect();
    let shown: BTreeMap<&str, Shown> = names
        .iter()
        .filter_map(|name| Some((name.as_str(), shown(places, name)?)))
        .collect();
    let cluster = &config.cluster.name;
    // A clock that was behind for a moment would have everything owed for good.
    let kept = host::state_to_read(cluster).map(|state| state.highest_time());
    let back = kept.ok().and_then(Result::ok).flatten();
    let now = back
        .and_then(|highest| highest.set_back(now))
        .map_or(now, |back| back.highest);
    let known = |before: &[Fed]| known(&names, &shown, before, now);
    let fed = match memory {
        Memory::IsKept => host::state(cluster).map(|state| state.update_fed_since(known)),
        Memory::IsRead => host::state_to_read(cluster).map(|state| state.fed_since().map(|before| known(&before))),
    };
    // Without a state folder nothing is remembered; one that cannot be read is told by whoever looks at what it holds.
    let fed = fed.unwrap_or_else(|_| Ok(known(&[]))).unwrap_or_default();
    let configured = fed.into_iter().take(names.len());
    configured.map(|fed| (fed.name, fed.since)).collect()
}

fn shown(places: &Destinations, name: &str) -> Option<Shown> {
    let store = places.stores.get(name)?;
    let is_whole = places.why_unreadable(name).is_none();
    let store_id = store.id().filter(|_| is_whole)?.clone();
    let here = |backup: &&Backup| backup.destinations().any(|has| has == name);
    let backups = places.catalog.backups().iter().filter(here);
    let first = backups.map(|backup| {
        let manifest = backup.manifest();
        let slot = manifest.slot.as_deref().map(crate::layout::SlotPath::instant);
        slot.unwrap_or(manifest.first_byte_at)
    });
    let first = first.min();
    Some(Shown { store_id, first })
}

/// What is remembered from now on: those of the configuration, in its order, then the others that are known.
fn known(names: &[String], shown: &BTreeMap<&str, Shown>, before: &[Fed], now: Timestamp) -> Vec<Fed> {
    let first_of_all = shown.values().filter_map(|shown| shown.first).min();
    let begun = first_of_all
        .filter(|_| before.is_empty())
        .map_or(now, |first| first.min(now));
    let mut known: Vec<Fed> = names
        .iter()
        .map(|name| of_destination(name, shown.get(name.as_str()), before, begun, now))
        .collect();
    let is_in = |known: &[Fed], other: &Fed| {
        known
            .iter()
            .any(|fed| fed.store_id == other.store_id && (fed.store_id.is_some() || fed.name == other.name))
    };
    for other in before {
        // One that was never read, and has another store now, is that one.
        let is_named = other.store_id.is_none() && names.contains(&other.name);
        if !is_named && !is_in(&known, other) {
            known.push(other.clone());
        }
    }
    known
}

/// A destination as it is remembered; one that is new was `begun` then.
fn of_destination(name: &str, shown: Option<&Shown>, before: &[Fed], begun: Timestamp, now: Timestamp) -> Fed {
    let named = |fed: &&Fed| fed.name == name;
    let (store_id, since) = match shown {
        None => {
            let last = before.iter().find(named);
            (last.and_then(|fed| fed.store_id.clone()), last.map(|fed| fed.since))
        }
        Some(shown) => {
            let same = before.iter().find(|fed| fed.store_id.as_ref() == Some(&shown.store_id));
            let since = same.map(|fed| fed.since).or_else(|| {
                let since = before.iter().find(named).map_or(begun, |fed| fed.since);
                Some(shown.first.map_or(since, |first| first.min(since)))
            });
            (Some(shown.store_id.clone()), since)
        }
    };
    Fed {
        name: name.to_owned(),
        store_id,
        // By a clock that was ahead it would owe nothing for long.
        since: since.map_or(begun, |since| since.min(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * 3600).unwrap()
    }

    fn id(number: u32) -> StoreId {
        format!("{number:032x}").parse().unwrap()
    }

    /// A store and the hour of the first backup in it.
    type There = (u32, Option<i64>);

    /// What is remembered at that hour, where the destinations show these.
    fn next(before: &[Fed], hour: i64, each: &[(&str, Option<There>)]) -> Vec<Fed> {
        let names: Vec<String> = each.iter().map(|(name, _)| (*name).to_owned()).collect();
        let shown = each.iter().filter_map(|(name, shown)| {
            let (store, first) = (*shown)?;
            let shown = Shown {
                store_id: id(store),
                first: first.map(at),
            };
            Some((*name, shown))
        });
        known(&names, &shown.collect(), before, at(hour))
    }

    fn since(fed: &[Fed]) -> Vec<(&str, i64)> {
        let hours = |fed: &Fed| (fed.since.as_second() - at(0).as_second()) / 3600;
        fed.iter().map(|fed| (fed.name.as_str(), hours(fed))).collect()
    }

    #[test]
    fn a_destination_is_fed_from_when_it_is_first_seen_or_from_its_first_backup_on() {
        let near = ("near", Some((1, Some(2))));
        let one = next(&[], 10, &[near]);
        assert_eq!(since(&one), [("near", 2)]);
        let both = next(&one, 11, &[near, ("far", Some((2, None)))]);
        assert_eq!(since(&both), [("near", 2), ("far", 11)]);
        // It is emptied, or older backups come to it by hand: since when it is fed stays.
        let later = next(&both, 15, &[("near", Some((1, None))), ("far", Some((2, Some(3))))]);
        assert_eq!(later, both);
        // Its disk is replaced, and then it has its first store again.
        let other = next(&both, 20, &[near, ("far", Some((3, None)))]);
        assert_eq!(since(&other), [("near", 2), ("far", 11), ("far", 11)]);
        let back = next(&other, 21, &[near, ("far", Some((2, None)))]);
        assert_eq!(since(&back), [("near", 2), ("far", 11), ("far", 11)]);
    }

    #[test]
    fn where_nothing_is_remembered_an_empty_destination_owes_what_the_others_have() {
        let each = [("near", Some((1, Some(2)))), ("far", Some((2, None))), ("away", None)];
        assert_eq!(since(&next(&[], 10, &each)), [("near", 2), ("far", 2), ("away", 2)]);
        // Of a host that begins, all are new.
        let each = [("near", Some((1, None))), ("far", Some((2, None)))];
        assert_eq!(since(&next(&[], 10, &each)), [("near", 10), ("far", 10)]);
    }

    #[test]
    fn one_that_is_renamed_or_away_or_out_of_the_configuration_is_fed_since_it_was_first() {
        let both = next(&[], 10, &[("near", Some((1, None))), ("far", Some((2, None)))]);
        let renamed = next(&both, 11, &[("near", Some((1, None))), ("nas", Some((2, None)))]);
        assert_eq!(since(&renamed), [("near", 10), ("nas", 10)]);
        let away = next(&both, 12, &[("near", None), ("far", Some((2, None)))]);
        assert_eq!(away, both);
        let out = next(&both, 13, &[("near", Some((1, None)))]);
        assert_eq!(out, both);
        let again = next(&out, 14, &[("near", Some((1, None))), ("far", Some((2, None)))]);
        assert_eq!(again, both);
    }

    #[test]
    fn one_that_could_not_be_read_at_first_is_fed_since_it_was_configured() {
        let unread = next(&[], 10, &[("far", None)]);
        assert_eq!((since(&unread), &unread[0].store_id), (vec![("far", 10)], &None));
        assert_eq!(next(&unread, 11, &[("far", None)]), unread);
        let empty = next(&unread, 12, &[("far", Some((2, None)))]);
        assert_eq!((since(&empty), &empty[0].store_id), (vec![("far", 10)], &Some(id(2))));
        // Its backups tell that it was fed before that, and this host forgot.
        assert_eq!(since(&next(&unread, 12, &[("far", Some((2, Some(4))))])), [("far", 4)]);
    }

    #[test]
    fn a_clock_that_was_ahead_is_forgotten() {
        let ahead = next(&[], 900, &[("far", Some((2, None)))]);
        let right = next(&ahead, 10, &[("far", Some((2, None)))]);
        assert_eq!(since(&right), [("far", 10)]);
        assert_eq!(next(&right, 11, &[("far", Some((2, None)))]), right);
    }
}
