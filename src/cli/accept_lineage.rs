//! `lifeboat accept-lineage`: the operator's word on which history is meant.

use serde::Serialize;

use super::host;
use super::source::acceptances;
use super::stores::read_configured;
use super::{Context, Exit, Failure};
use crate::catalog::{Catalog, LatestError, Lineage};
use crate::error_chain::with_causes;
use crate::jobs::accept::{Told, tell};
use crate::model::LineageId;
use crate::terminal::Format;

/// Say that a new history is meant: an etcd that started afresh, or was restored by other means
///
/// An etcd that lost its data comes back empty under the same ids. Its backups open a new lineage, and `latest` refuses
/// to choose until this command has said which lineage goes on. What `lifeboat restore` has opened is accepted by its first
/// backup, without this. Nothing is removed: `lifeboat prune --lineage` does that. It can be said again at any time: a
/// destination that has the word already is left as it is.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat accept-lineage                              # the new one\n  \
    lifeboat accept-lineage cdf818194e3a8c32-9f3c4a1b    # as `lifeboat list` prints it"
)]
pub struct Args {
    /// The lineage that is meant, or a unique part of its id; without it the new one, if only one has keys
    #[arg(value_name = "LINEAGE")]
    lineage: Option<String>,
    /// Words to keep with it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    accepted: LineageId,
    changed: bool,
    destinations: Vec<String>,
    failed: Vec<Missed>,
}

/// A destination that does not have the word.
#[derive(Serialize)]
struct Missed {
    destination: String,
    error: String,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    host::settle()?;
    let places = read_configured(context, &config, None)?;
    if let (None, Some((name, error))) = (&args.lineage, places.unreadable.first()) {
        return Err(Failure::new(Exit::Failed, format!("destination {name}: {error}"))
            .next("the right history may be in it: make it readable, or name the lineage"));
    }
    let catalog = &places.catalog;
    let lineage = meant(catalog, args.lineage)?;
    let (object, word) = catalog
        .accept(&lineage.id, host::now(), &host::host_name(), args.note)
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
    let exit = match (
        failed.is_empty(),
        failed.len() == places.stores.len() + places.unreadable.len(),
    ) {
        (true, _) => Exit::Done,
        (false, false) => Exit::Partly,
        (false, true) => Exit::Failed,
    };
    for missed in &failed {
        context.output.problem(format!(
            "destination {} did not record it: {}; run this again once the destination works",
            missed.destination, missed.error
        ));
    }
    let changed = !destinations.is_empty();
    match (context.output.format, exit) {
        (Format::Json, _) => context.output.json(&Document {
            schema: 1,
            accepted: lineage.id,
            changed,
            destinations,
            failed,
        }),
        (Format::Text, Exit::Failed) => {}
        (Format::Text, _) if changed => context.output.line(format!("accepted lineage {lineage}")),
        (Format::Text, _) => context
            .output
            .line(format!("lineage {lineage} is the accepted one already")),
    }
    Ok(exit)
}

pub(super) fn meant(catalog: &Catalog, asked_for: Option<String>) -> Result<Lineage, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::manifest;
    use crate::layout::{Acceptance, HostName, ObjectName};
    use crate::store::FileStore;
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
        let say =
            |store: &FileStore, (object, word): (ObjectName, Acceptance)| tell(store, "it", &object, &word).unwrap();
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
