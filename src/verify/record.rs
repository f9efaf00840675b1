//! Writing the result of a check beside the backup.
//!
//! Invariant: a result that was written is the newest by its name, whatever clocks say; older ones are removed after it.
//! Invariant: no result stays of a backup that was removed before it was written.

use jiff::{SignedDuration, Timestamp};

use super::Found;
use crate::layout::{Check, FORMAT, HostName, Manifest, ObjectName, Proof};
use crate::store::{self, Store};

/// How many names are tried when others take them at the same time.
const MOST_TRIES: i64 = 8;

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is written.
    Yes,
    /// There is nothing to write: the copy was not read, or the backup is gone.
    Nothing,
}

/// A result that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the result of the check cannot be written")]
pub struct RecordError(#[source] store::Error);

/// Writes what was `found` of the copy in `store`; `behind` is what is wrong with what follows it in its chain: the backup
/// itself is none the worse for that.
pub fn record(
    store: &Store,
    manifest: &Manifest,
    found: &Found,
    behind: &[String],
    host: &HostName,
    now: Timestamp,
) -> Result<Recorded, RecordError> {
    let (ok, proof, faults) = match found {
        Found::Good(proof) => (true, *proof, behind),
        Found::Wrong(faults) => (false, Proof::None, faults.as_slice()),
        Found::Gone | Found::Unread(_) => return Ok(Recorded::Nothing),
    };
    let check = Check {
        format: FORMAT,
        chain: manifest.chain.clone(),
        revision: manifest.to_revision,
        checked_at: now,
        host: host.to_string(),
        ok,
        proof,
        faults: faults.to_vec(),
    };
    put(store, manifest, &check, host).map_err(RecordError)
}

fn put(store: &Store, manifest: &Manifest, check: &Check, host: &HostName) -> Result<Recorded, store::Error> {
    let path = manifest.chain_path();
    let mut tries = 0;
    let (name, older) = loop {
        let older = store.checks_of(&path)?;
        // What is there and is not listed is a stranger's: the next second is another name.
        let after = after(&older, check.checked_at);
        let after = after.saturating_add(SignedDuration::from_secs(tries)).unwrap_or(after);
        let name = ObjectName::Check(path.clone(), after, host.clone());
        tries += 1;
        match store.put_document(&name, &check.to_bytes()) {
            Ok(()) => break (name, older),
            Err(store::Error::AlreadyExists { .. }) if tries < MOST_TRIES => {}
            Err(error) => return Err(error),
        }
    };
    // Who removes a chain removes its manifest first.
    if let Err(store::Error::NotFound { .. }) = store.open_object(&manifest.name()) {
        store.remove(&name).or_else(gone_is_fine)?;
        return Ok(Recorded::Nothing);
    }
    for superseded in older {
        store.remove(&superseded).or_else(gone_is_fine)?;
    }
    Ok(Recorded::Yes)
}

/// The time for the name: now, but after those that are there, which a clock that was ahead may have made.
fn after(older: &[ObjectName], now: Timestamp) -> Timestamp {
    let last = older.iter().rev().find_map(|name| name.check().map(|(_, time)| time));
    let next = last.and_then(|last| last.checked_add(SignedDuration::from_secs(1)).ok());
    next.map_or(now, |next| next.max(now))
}

fn gone_is_fine(error: store::Error) -> Result<(), store::Error> {
    match error {
        store::Error::NotFound { .. } => Ok(()),
        other => Err(other),
    }
}
