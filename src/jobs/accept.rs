//! The word which history is meant, written to every store that lacks it.

use super::host;
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::layout::{Acceptance, HostName, Manifest, ObjectName};
use crate::restore::{LedgerPaths, word_for};
use crate::store::{self, FileStore};

/// How many hosts may give their word at the same moment.
const MOST_OTHERS: u32 = 10;

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
pub fn tell(store: &FileStore, name: &str, object: &ObjectName, word: &Acceptance) -> Result<Told, store::Error> {
    let (mut object, mut word) = (object.clone(), word.clone());
    let mut others = 0;
    loop {
        if store.catalog(name)?.holds_word(&word) {
            return Ok(Told::HadIt);
        }
        let put = store.put_new(&object, &word.to_bytes());
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
    let note = Some(format!("opened by {}", left.by));
    let accepted = catalog.accept(lineage, host::now(), &host::host_name(), note);
    let (object, word) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => return Some(Err(with_causes(&error))),
    };
    for (name, store) in &destinations.stores {
        if let Err(error) = tell(store, name, &object, &word) {
            return Some(Err(format!("destination {name}: {}", with_causes(&error))));
        }
    }
    Some(Ok(format!(
        "lineage {lineage} is the history that {} has opened: it is accepted",
        left.by
    )))
}
