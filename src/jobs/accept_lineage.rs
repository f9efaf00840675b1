//! Which history is meant, and the word of it, written to every store that lacks it.

use serde::Serialize;

use super::{Exit, Failure, host};
use crate::catalog::{Catalog, LatestError, Lineage, NumberedWord};
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::layout::{Acceptance, HostName, Manifest, ObjectName};
use crate::model::LineageId;
use crate::restore::{LedgerPaths, taken_back, word_for};
use crate::store::{self, Store};
use crate::text::count;

/// How many hosts may give their word at the same moment.
const MOST_OTHERS: u32 = 10;

/// The operator's word, and who has it.
#[derive(Debug)]
pub struct Accepted {
    /// The history that is meant.
    pub lineage: Lineage,
    /// The word, as this host is to remember it.
    pub word: NumberedWord,
    /// The destinations that have the word now, and had not before.
    pub destinations: Vec<String>,
    /// Those that do not have it.
    pub failed: Vec<Missed>,
}

impl Accepted {
    /// Whether any destination had another word, or none.
    pub fn has_changed(&self) -> bool {
        !self.destinations.is_empty()
    }
}

/// A destination that does not have the word.
#[derive(Debug, Serialize)]
pub struct Missed {
    /// The destination.
    pub destination: String,
    /// Why it does not have it.
    pub error: String,
}

/// Tells every destination that the history is meant of which `asked_for` is a unique part, or the new one.
pub fn accept(places: &Destinations, asked_for: Option<String>, note: Option<String>) -> Result<Accepted, Failure> {
    if let (None, Some((name, error))) = (&asked_for, places.unreadable.first()) {
        return Err(Failure::new(Exit::Failed, format!("destination {name}: {error}"))
            .next("the right history may be in it: make it readable, or name the lineage"));
    }
    let catalog = &places.catalog;
    let lineage = meant(catalog, asked_for)?;
    let (object, word) = catalog
        .accept(&lineage.id, host::now(), &host::host_name(), note)
        .map_err(|error| Failure::new(Exit::NotFound, &error).next("`lifeboat list` shows the lineages"))?;
    let mut destinations = Vec::new();
    let unreadable = places.unreadable.iter();
    let mut failed: Vec<Missed> = unreadable
        .map(|(destination, error)| Missed {
            destination: destination.clone(),
            error: error.clone(),
        })
        .collect();
    for (name, store) in &places.stores {
        match tell(store, name, &object, &word) {
            Ok(Told::Now) => destinations.push(name.clone()),
            Ok(Told::HadIt) => {}
            Err(error) => failed.push(Missed {
                destination: name.clone(),
                error: with_causes(&error),
            }),
        }
    }
    let number = match object {
        ObjectName::Acceptance(number) => number,
        _ => 0,
    };
    Ok(Accepted {
        lineage,
        word: (number, word),
        destinations,
        failed,
    })
}

/// What became of one destination.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// It has the word now.
    Now,
    /// It had it already.
    HadIt,
}

/// Writes the word to a store that does not hold it. Each is judged by itself: one that was away when the word was given,
/// or came later, gets it the next time. Where another host gives its word at the same moment, ours is the next.
pub fn tell(store: &Store, name: &str, object: &ObjectName, word: &Acceptance) -> Result<Told, store::Error> {
    let (mut object, mut word) = (object.clone(), word.clone());
    let mut others = 0;
    loop {
        if store.catalog(name)?.holds_word(&word) {
            return Ok(Told::HadIt);
        }
        let put = store.put_document(&object, &word.to_bytes());
        let Err(taken @ store::Error::AlreadyExists { .. }) = put else {
            return put.map(|_| Told::Now);
        };
        others += 1;
        let host = HostName::nearest(&word.host);
        let next = store
            .catalog(name)?
            .accept(&word.accepted, word.accepted_at, &host, word.note.clone());
        let Some((next, mut again)) = next.ok().filter(|_| others < MOST_OTHERS) else {
            return Err(taken);
        };
        again.known.append(&mut word.known);
        again.known.sort();
        again.known.dedup();
        (object, word) = (next, again);
    }
}

/// Accepts the history of a backup where a restore on this host has opened it, in every store: that was the operator's
/// word. Says what was done; nothing where no restore has.
pub fn by_restore(destinations: &Destinations, manifest: &Manifest) -> Option<Result<String, String>> {
    let left = word_for(&LedgerPaths::default(), manifest.cluster.id)?;
    let (catalog, lineage) = (&destinations.catalog, &manifest.lineage);
    if !catalog.is_opened_by_restore(lineage, left.cluster, left.revision) {
        return None;
    }
    let done = tell_all(destinations, lineage, format!("opened by {}", left.by));
    Some(done.map(|()| {
        format!(
            "lineage {lineage} is the history that {} has opened: it is accepted",
            left.by
        )
    }))
}

/// Accepts the history of a backup where it goes on in the place of the accepted one, because the restore on this host that had
/// opened that was taken back: that was the operator's word, too. Says what was done; nothing where it is not so.
pub fn by_rollback(destinations: &Destinations, manifest: &Manifest) -> Option<Result<String, String>> {
    let (catalog, lineage) = (&destinations.catalog, &manifest.lineage);
    let accepted = catalog.accepted_in_place_of(lineage, &manifest.chain)?;
    let left = taken_back(&LedgerPaths::default(), accepted)?;
    let done = tell_all(destinations, lineage, format!("{} was taken back", left.by));
    Some(done.map(|()| {
        format!(
            "lineage {lineage} goes on, as {} was taken back: it is accepted again",
            left.by
        )
    }))
}

/// Has every store know that a history is meant.
fn tell_all(destinations: &Destinations, lineage: &LineageId, note: String) -> Result<(), String> {
    let catalog = &destinations.catalog;
    let accepted = catalog.accept(lineage, host::now(), &host::host_name(), Some(note));
    let (object, word) = accepted.map_err(|error| with_causes(&error))?;
    for (name, store) in &destinations.stores {
        tell(store, name, &object, &word).map_err(|error| format!("destination {name}: {}", with_causes(&error)))?;
    }
    Ok(())
}

/// The history that is meant: the one of which `asked_for` is a unique part, or the new one.
pub fn meant(catalog: &Catalog, asked_for: Option<String>) -> Result<Lineage, Failure> {
    let lineages = catalog.lineages();
    if lineages.is_empty() {
        return Err(Failure::new(Exit::NotFound, "there is no backup").next("take one with `lifeboat backup`"));
    }
    let Some(part) = asked_for else {
        return the_new_one(catalog, &lineages);
    };
    let mut found = lineages.iter().filter(|lineage| lineage.id.to_string().contains(&part));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err(
            Failure::new(Exit::Usage, format!("`{part}` is part of several lineages"))
                .next(choice(&newest_first(&lineages))),
        ),
        (None, _) => Err(
            Failure::new(Exit::NotFound, format!("there is no backup of lineage `{part}`"))
                .next(choice(&newest_first(&lineages))),
        ),
    }
}

/// The only lineage that has not been judged, or the only one of them with keys; one without keys is accepted by its name
/// only. Hosts that took the first backups of a cluster at the same time have opened one each of the same history.
fn the_new_one(catalog: &Catalog, lineages: &[Lineage]) -> Result<Lineage, Failure> {
    let (new, candidates) = match catalog.accepted_lineage() {
        Ok(accepted) => return Ok(accepted),
        Err(error @ LatestError::Unaccepted { .. }) => (catalog.unjudged(), error.candidates().cloned().collect()),
        Err(_) => (Vec::new(), newest_first(lineages)),
    };
    let full: Vec<&Lineage> = new.iter().filter(|lineage| !lineage.is_empty()).collect();
    match (full.as_slice(), new.as_slice()) {
        ([first, rest @ ..], _) if rest.iter().all(|later| catalog.goes_on_unseen(first, later)) => {
            Ok((*first).clone())
        }
        ([], [new]) => Err(Failure::new(
            Exit::Refused,
            format!("the new lineage {} is empty: it has no keys", new.id),
        )
        .next(choice(&candidates))),
        _ => Err(Failure::new(Exit::Refused, "it is not clear which lineage is meant").next(choice(&candidates))),
    }
}

fn choice(lineages: &[Lineage]) -> String {
    format!("say which:{}", acceptances(lineages.iter()))
}

/// The histories, the one opened last at the head, those without keys at the end.
fn newest_first(lineages: &[Lineage]) -> Vec<Lineage> {
    let mut ordered: Vec<Lineage> = lineages.iter().rev().cloned().collect();
    ordered.sort_by_key(Lineage::is_empty);
    ordered
}

/// The words that say which history is meant, one line each.
pub fn acceptances<'a>(lineages: impl Iterator<Item = &'a Lineage>) -> String {
    let lines = lineages.map(|lineage| {
        format!(
            "\n    lifeboat accept-lineage {}   # {}, the newest {} at revision {}{}",
            lineage.id,
            count(lineage.backups as u64, "backup"),
            lineage.newest,
            lineage.highest,
            lineage
                .keys
                .map_or(String::new(), |keys| format!(" with {}", count(keys, "key")))
        )
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::manifest;
    use crate::store::tests::store_in;
    use jiff::Timestamp;

    #[test]
    fn the_word_goes_to_every_store_that_lacks_it_however_often_it_is_said() {
        let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (near, far) = (store_in(near.path()), store_in(far.path()));
        let backup = manifest(0xab, "20261120T101530Z-00000001", 10);
        near.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        let word = || {
            let merged = Catalog::merge([near.catalog("near").unwrap(), far.catalog("far").unwrap()]);
            let host = HostName::nearest("a");
            merged
                .accept(&backup.lineage, Timestamp::UNIX_EPOCH, &host, None)
                .unwrap()
        };
        let say = |store: &Store, (object, word): (ObjectName, Acceptance)| tell(store, "it", &object, &word).unwrap();
        // The far one is away the first time.
        assert_eq!(say(&near, word()), Told::Now);
        assert_eq!(say(&near, word()), Told::HadIt);
        assert_eq!(say(&far, word()), Told::Now);
        assert_eq!(say(&far, word()), Told::HadIt);

        let other = manifest(0xab, "20261121T101530Z-00000002", 1);
        far.put_new(&other.name(), &other.to_bytes()).unwrap();
        assert_eq!(say(&near, word()), Told::Now, "a history it has not judged");
    }

    #[test]
    fn a_word_that_another_host_gives_at_the_same_moment_stands_before_ours() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path());
        let host = HostName::nearest("a");
        let word_for = |chain: &str| {
            let backup = manifest(0xab, chain, 10);
            store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
            let catalog = Catalog::merge([store.catalog("it").unwrap()]);
            let word = catalog.accept(&backup.lineage, Timestamp::UNIX_EPOCH, &host, None);
            (backup.lineage, word.unwrap())
        };
        let (_, (theirs, their_word)) = word_for("20261120T101530Z-00000001");
        let (meant, (ours, our_word)) = word_for("20261120T101531Z-00000002");
        assert_eq!(theirs, ours, "both saw no word before them");
        assert_eq!(tell(&store, "it", &theirs, &their_word).unwrap(), Told::Now);
        assert_eq!(tell(&store, "it", &ours, &our_word).unwrap(), Told::Now);
        let accepted = store.catalog("it").unwrap().accepted_lineage().unwrap();
        assert_eq!(accepted.id, meant);
    }

    #[test]
    fn without_a_name_the_only_history_with_keys_that_came_after_the_last_word_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path());
        let opened = |chain: &str, keys| {
            let mut backup = manifest(0xab, chain, 10);
            backup.keys = Some(keys);
            store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
            backup.lineage
        };
        let meant = || {
            let catalog = Catalog::merge([store.catalog("it").unwrap()]);
            let meant = meant(&catalog, None).map(|lineage| lineage.id);
            meant.map_err(|failure| failure.exit)
        };
        opened("20261120T101530Z-00000001", 5);
        let second = opened("20261121T101530Z-00000002", 5);
        assert_eq!(meant(), Ok(second.clone()));
        let catalog = Catalog::merge([store.catalog("it").unwrap()]);
        let word = catalog.accept(&second, Timestamp::UNIX_EPOCH, &HostName::nearest("a"), None);
        let (object, word) = word.unwrap();
        assert_eq!(tell(&store, "it", &object, &word).unwrap(), Told::Now);

        opened("20261122T101530Z-00000003", 0);
        assert_eq!(meant(), Err(Exit::Refused), "it is empty");
        let restored = opened("20261122T111530Z-00000004", 5);
        assert_eq!(
            meant(),
            Ok(restored.clone()),
            "neither of the two that were judged, nor the empty one"
        );
        opened("20261122T111531Z-00000005", 5);
        assert_eq!(
            meant(),
            Ok(restored),
            "the same history, opened at the same time by another host"
        );
        let other = manifest(0xcd, "20261122T121530Z-00000006", 10);
        store.put_new(&other.name(), &other.to_bytes()).unwrap();
        assert_eq!(meant(), Err(Exit::Refused), "two may be meant");
    }
}
