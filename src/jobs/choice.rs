//! Which backup is meant: an id, the beginning of one, or `latest`.

use super::accept::acceptances;
use super::stores::blame;
use super::{Exit, Failure, Listener};
use crate::catalog::{Backup, Catalog, FindError, LatestError, RolledBack};
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::signing::Distrust;

/// Why there is no `latest`, and what to do.
pub fn no_latest(error: &LatestError) -> Failure {
    let exit = match error {
        LatestError::Empty => Exit::NotFound,
        LatestError::OnlyDamaged { .. } | LatestError::NothingGood { .. } => Exit::Damaged,
        LatestError::Unaccepted { .. }
        | LatestError::AcceptedIsGone { .. }
        | LatestError::EarlierUnreadable { .. }
        | LatestError::WordUnreadable { .. } => Exit::Refused,
    };
    let failure = Failure::new(exit, with_causes(error));
    if exit != Exit::Refused {
        return failure.next(match error {
            LatestError::Empty => "take one with `lifeboat backup`, or name the store that holds one with `--from DIR`",
            _ => "`lifeboat list` says what is wrong; a copy elsewhere can be named with `--from DIR`",
        });
    }
    failure.next(format!(
        "name the backup you mean by its ID (`lifeboat list`), or say which history is meant:{}",
        acceptances(error.candidates())
    ))
}

/// A failure of finding the backup that an id names.
pub fn not_found(error: &FindError) -> Failure {
    let failure = |exit| Failure::new(exit, with_causes(error));
    match error {
        FindError::Ambiguous { .. } => failure(Exit::Usage).next("give more of its beginning"),
        FindError::Damaged { .. } => failure(Exit::Damaged).next("choose another backup: `lifeboat list`"),
        FindError::Stranger { stranger, .. } => failure(Exit::Damaged).next(match stranger.why {
            Distrust::Unsigned => {
                "if it is of a time before backups were signed, and you know it for yours, say so with `--allow-unsigned`"
                    .to_owned()
            }
            Distrust::Stranger(signer) => format!("if its signer may sign here, add {signer} to `signing.trusted`"),
            Distrust::Broken(_) => "choose another backup: `lifeboat list`".to_owned(),
        }),
        FindError::NotFound { .. } | FindError::NoSuchPoint { .. } | FindError::NoSuchLineage { .. } => {
            failure(Exit::NotFound).next("`lifeboat list` shows what there is")
        }
    }
}

/// The backup that `source` names, `latest` or an id.
pub fn chosen<'a>(listener: &dyn Listener, places: &'a Destinations, source: &str) -> Result<&'a Backup, Failure> {
    if source != "latest" {
        let found = places.catalog.find(source);
        return found.map_err(|error| blame(places, not_found(&error)));
    }
    let latest = places
        .catalog
        .latest()
        .map_err(|error| blame(places, no_latest(&error)))?;
    let newer = |back: &&RolledBack| Catalog::is_before(latest, &back.seen);
    if let Some(back) = places.rolled_back.iter().find(newer) {
        return Err(
            Failure::new(Exit::Damaged, format!("`latest` is not to be had: {back}")).next(format!(
                "look for {} in another store (`--from`); to take what there is, name it by its ID: {}",
                back.seen.chain,
                latest.id()
            )),
        );
    }
    for back in &places.rolled_back {
        listener.alarm(&back.to_string());
    }
    // One of them may have been newer.
    for damaged in places.catalog.damaged() {
        listener.alarm(&format!("{damaged}: {}", damaged.fault));
    }
    let newer = |backup: &&Backup| {
        backup.manifest().lineage == latest.manifest().lineage && backup.revision() > latest.revision()
    };
    for passed_over in places.catalog.backups().iter().filter(newer) {
        let faults = passed_over.faults().join("; ");
        let id = passed_over.id();
        listener.alarm(&format!(
            "skipped the newer {id} (revision {}), which is bad: {faults}",
            passed_over.revision()
        ));
    }
    Ok(latest)
}
