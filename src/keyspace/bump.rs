//! How far revisions jump in a restored database: an entry behind the last one of the log, of a revision that no client has seen.

use super::Error;
use super::entries::Executed;
use super::restored_buckets::{Change, Entry};
use super::revision::RevisionKey;
use crate::model::Revision;

/// The key of the entry that makes revisions jump by `bump`.
pub(super) fn bumped(last: Option<RevisionKey>, bump: u64) -> Result<RevisionKey, Error> {
    let revision = last.map_or(0, |last| last.main().get());
    let main = revision
        .checked_add_unsigned(bump)
        .and_then(|main| Revision::new(main).ok());
    let main = main.ok_or(Error::BumpOverflow { revision, bump })?;
    Ok(RevisionKey::first_put(main))
}

/// What follows in the log: what was executed, then the entry that makes revisions jump.
pub(super) fn new_log(executed: Option<&Executed>, bump: Option<RevisionKey>) -> Change {
    let bump = bump.map(|key| (key.encode(), Vec::new()));
    let executed = executed.into_iter().flat_map(|executed| executed.log.iter().cloned());
    let new: Vec<Entry> = executed.chain(bump).collect();
    match new.is_empty() {
        true => Change::Kept,
        false => Change::Extended(new),
    }
}
