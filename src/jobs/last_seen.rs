//! What this host remembers of the destinations, held against what they show: who signed, what was newest. For the verdict,
//! and for whoever takes the newest.

use std::collections::{BTreeMap, BTreeSet};

use super::stores::read_within;
use super::{Exit, Failure, Listener, failed, host};
use crate::catalog::{Catalog, RolledBack, Stranger, Tip};
use crate::config::Config;
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::health::{About, Event, Notice};
use crate::model::{ChainId, ClusterName};
use crate::signing::{Authority, Distrust, SignerKey};
use crate::state::{SeenThere, SeenTips, State};
use crate::store::{Limits, Store};
use crate::text::count;

/// Takes in what this host remembers of histories, which of the destinations show less than it has seen, and why that is not known.
pub fn hold_against(places: &mut Destinations, state: &State) {
    match state.last_word().and_then(|word| Ok((word, state.tips()?))) {
        Ok((word, seen)) => {
            let tips = seen.values().flat_map(|seen| seen.tips.iter().cloned());
            places.catalog.remember(word, tips.collect());
            places.rolled_back = rolled_back(places, &seen);
        }
        Err(error) => places.unremembered = Some(with_causes(&error)),
    }
    // By it, what this host has written counts.
    if let Err(error) = state.own_signer() {
        places.unremembered = Some(with_causes(&error));
    }
}

/// The destinations that show less than this host has seen in them. Of one that could not be read to its end, nothing is
/// known.
fn rolled_back(places: &Destinations, seen: &SeenTips) -> Vec<RolledBack> {
    let mut found = Vec::new();
    for (name, store) in whole(places) {
        let seen = seen.get(name).filter(|seen| Some(&seen.store_id) == store.id());
        for tip in seen.iter().flat_map(|seen| &seen.tips) {
            found.extend(places.catalog.rolled_back(name, tip));
        }
    }
    found
}

/// Says what is wrong, tells once of signers that are new, and takes note of what the destinations show now.
pub fn note(listener: &dyn Listener, state: &State, places: &Destinations) {
    for notice in notices(places) {
        listener.warn(&notice.message);
    }
    if let Some(new) = new_signers(state, places) {
        listener.warn(&new);
    }
    let signers = state
        .remember_signers(&places.catalog.signers())
        .map_err(not_remembered);
    for why in [remember(state, places), signers].into_iter().filter_map(Result::err) {
        listener.warn(&why);
    }
}

/// Takes note of what the destinations show now; where that is less than was seen, that stays what was seen.
fn keep(state: &State, places: &Destinations) -> Result<(), crate::state::Error> {
    state.update_tips(|seen| {
        for (name, store) in whole(places) {
            let Some(store_id) = store.id().cloned() else {
                continue;
            };
            let known = seen.get(name).filter(|seen| seen.store_id == store_id);
            let tips = tips_now(&places.catalog, name, known.map_or(&[][..], |known| &known.tips));
            seen.insert(name.clone(), SeenThere { store_id, tips });
        }
    })?;
    places.catalog.word().map_or(Ok(()), |word| state.remember_word(&word))
}

/// The same for whoever has just changed it, with the failure in words.
pub fn remember(state: &State, places: &Destinations) -> Result<(), String> {
    keep(state, places).map_err(not_remembered)
}

fn not_remembered(error: crate::state::Error) -> String {
    format!("what the destinations show is not remembered: {}", with_causes(&error))
}

/// Forgets what this host is about to remove from a destination itself. What stays all the same is seen again.
pub fn removing(cluster: &ClusterName, destination: &str, gone: &[ChainId]) -> Result<(), String> {
    if gone.is_empty() {
        return Ok(());
    }
    let state = host::state(cluster).map_err(|failure| failure.message().to_owned())?;
    forget(&state, destination, gone).map_err(|error| {
        let why = with_causes(&error);
        format!(
            "that it is removed here is not remembered, `status` may call destination {destination} rolled back: {why}"
        )
    })
}

/// Takes what a destination shows now for what it is meant to be, on this host; what that was, in words.
pub fn accept(config: &Config, destination: &str) -> Result<String, Failure> {
    let state = host::state(&config.cluster.name)?;
    let places = read_within(config, Some(destination), Limits::default())?;
    if let Some(why) = places.why_unreadable(destination) {
        let message = format!("destination {destination} is not known to its end: {why}");
        return Err(Failure::new(Exit::Failed, message));
    }
    let gone: Vec<ChainId> = places.rolled_back.iter().map(|back| back.seen.chain.clone()).collect();
    forget(&state, destination, &gone).map_err(failed)?;
    host::tell_agent(&state, "check");
    Ok(match places.rolled_back.as_slice() {
        [] => format!("destination {destination} shows no less than this host has seen there"),
        all => {
            let all = all.iter().map(ToString::to_string).collect::<Vec<_>>();
            format!("accepted on this host: {}", all.join("; "))
        }
    })
}

fn forget(state: &State, destination: &str, gone: &[ChainId]) -> Result<(), crate::state::Error> {
    state.update_tips(|seen| {
        if let Some(seen) = seen.get_mut(destination) {
            seen.tips.retain(|tip| !gone.contains(&tip.chain));
        }
    })
}

fn tips_now(catalog: &Catalog, destination: &str, before: &[Tip]) -> Vec<Tip> {
    let mut tips = catalog.tips(destination);
    for known in before.iter().filter(|known| !catalog.has_given_up(&known.lineage)) {
        match tips.get(&known.lineage) {
            Some(shown) if shown.newness() > known.newness() || shown.manifest == known.manifest => {}
            Some(_) | None => drop(tips.insert(known.lineage.clone(), known.clone())),
        }
    }
    tips.into_values().collect()
}

/// Those that were read to their end.
fn whole(places: &Destinations) -> impl Iterator<Item = (&String, &Store)> {
    let stores = places.stores.iter();
    stores.filter(|(name, _)| places.why_unreadable(name).is_none())
}

/// What is wrong with who signed, and with what is shown.
pub fn notices(places: &Destinations) -> Vec<Notice> {
    let mut notices: Vec<Notice> = strangers(places.catalog.strangers());
    notices.extend(places.rolled_back.iter().map(|back| {
        let about = About {
            backup: Some(back.seen.chain.to_string()),
            ..About::destination(&back.destination)
        };
        let message = format!(
            "{back}: whoever may write there took it away or put an older state back; bring it again with `lifeboat copy`, or, \
             where that is how it is meant to be, `lifeboat check --accept-rollback {}`",
            back.destination
        );
        Notice::about(Event::DestinationRolledBack, about, message)
    }));
    notices.extend(places.unremembered.as_ref().map(|why| {
        Notice::new(
            Event::StateUnwritable,
            format!("whether a destination was rolled back is not known, as this host's memory cannot be read: {why}"),
        )
    }));
    let authority = places.stores.values().next().map(Store::authority);
    notices.extend(authority.and_then(Authority::unnamed_own).map(|own| {
        Notice::new(
            Event::SignerUntrusted,
            format!(
                "this host signs as {} ({own}), which is not in `signing.trusted`: other hosts pass over what it writes; add \
                 its key there",
                own.fingerprint()
            ),
        )
    }));
    notices
}

/// Who has signed that this host has not seen before, where nobody is named.
pub fn new_signers(state: &State, places: &Destinations) -> Option<String> {
    let authority = places.stores.values().next()?.authority();
    if authority.names_somebody() {
        return None;
    }
    let seen = state.seen_signers().ok()?.unwrap_or_default();
    let own = authority.own();
    let signers = places.catalog.signers().into_iter();
    let new: Vec<SignerKey> = signers.filter(|key| !seen.contains(key) && Some(*key) != own).collect();
    let named = |key: &SignerKey| format!("{} ({key})", key.fingerprint());
    let listed: Vec<String> = new.iter().take(5).map(named).collect();
    (!new.is_empty()).then(|| {
        format!(
            "{} this host has not seen before signed backups here: {}; name those that may in `signing.trusted`, and no other \
             counts any more",
            count(new.len() as u64, "signer"),
            listed.join(", ")
        )
    })
}

/// One notice for each destination with documents that count for nothing.
fn strangers(all: &[Stranger]) -> Vec<Notice> {
    let mut by_destination: BTreeMap<&str, Vec<&Stranger>> = BTreeMap::new();
    for stranger in all {
        by_destination.entry(&stranger.destination).or_default().push(stranger);
    }
    let notice = |(destination, strangers): (&str, Vec<&Stranger>)| {
        let keys: BTreeSet<SignerKey> = strangers.iter().filter_map(|stranger| stranger.why.signer()).collect();
        let unsigned = strangers
            .iter()
            .filter(|stranger| stranger.why == Distrust::Unsigned)
            .count();
        let first = strangers.first()?;
        let mut whose: Vec<String> = keys.iter().take(5).map(|key| key.fingerprint().to_string()).collect();
        if unsigned > 0 {
            whose.push(format!("{unsigned} without a signature"));
        }
        let whose = match whose.is_empty() {
            true => String::new(),
            false => format!(" ({})", whose.join(", ")),
        };
        let (are, them, which) = match strangers.len() {
            1 => ("is", "it", "It"),
            _ => ("are", "them", "The first"),
        };
        let message = format!(
            "{} in destination {destination} {are} ignored: no trusted signer signed {them}{whose}. {which} is `{}`: {}. \
             All: `lifeboat list --all`",
            count(strangers.len() as u64, "document"),
            first.object,
            first.why
        );
        Some(Notice::about(
            Event::StrangersFound,
            About::destination(destination),
            message,
        ))
    };
    by_destination.into_iter().filter_map(notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::{Fixture, manifest};
    use crate::layout::Proof;

    #[test]
    fn a_tip_gives_way_to_what_is_newer_and_to_nothing_less() {
        let old = manifest(0xab, "20261121T101530Z-00000001", 10);
        let mut newest = manifest(0xab, "20261122T101530Z-00000002", 20);
        newest.lineage = old.lineage.clone();
        let mut next = manifest(0xab, "20261123T101530Z-00000003", 20);
        next.lineage = old.lineage.clone();
        let both = || Fixture::default().backup(&old).backup(&newest);
        let seen = tips_now(&both().catalog("far"), "far", &[]);
        let remembered = |shown: &Catalog, before: &[Tip]| -> Vec<ChainId> {
            let tips = tips_now(shown, "far", before).into_iter();
            tips.map(|tip| tip.chain).collect()
        };
        assert_eq!(remembered(&both().catalog("far"), &[]), [newest.chain.clone()]);
        // It is spoiled first, and taken away then.
        let spoiled = both()
            .check(&newest, "2026-11-25T00:00:00Z", false, Proof::None)
            .catalog("far");
        assert_eq!(spoiled.rolled_back("far", &seen[0]), None);
        let seen = tips_now(&spoiled, "far", &seen);
        let gone = Fixture::default().backup(&old).catalog("far");
        assert!(gone.rolled_back("far", &seen[0]).is_some());
        assert_eq!(remembered(&gone, &seen), [newest.chain.clone()]);
        // Nothing of its history at all.
        assert_eq!(remembered(&Catalog::default(), &seen), [newest.chain.clone()]);
        let more = Fixture::default().backup(&old).backup(&next).catalog("far");
        assert_eq!(remembered(&more, &seen), [next.chain]);
        // Given up for another history.
        let other = manifest(0xab, "20261124T101530Z-00000004", 5);
        let both = [&old.lineage, &other.lineage];
        let word = Fixture::default()
            .backup(&other)
            .accepted(1, &other.lineage, &both, "2026-11-24T11:00:00Z");
        assert_eq!(remembered(&word.catalog("far"), &seen), [other.chain]);
    }
}
