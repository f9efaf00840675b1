//! Which backup is meant: an id, the beginning of one, or `latest`.

use super::accept_lineage::acceptances;
use super::stores::blame;
use super::{Exit, Failure, Listener};
use crate::catalog::{Backup, FindError, LatestError, Stranger};
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::layout::ObjectName;
use crate::signing::Distrust;

/// Why there is no `latest`, and what to do.
pub fn no_latest(error: &LatestError) -> Failure {
    let exit = match error {
        LatestError::Empty => Exit::NotFound,
        LatestError::OnlyDamaged { .. } | LatestError::OnlyStrangers { .. } | LatestError::NothingGood { .. } => {
            Exit::Damaged
        }
        LatestError::Unaccepted { .. }
        | LatestError::AcceptedIsGone { .. }
        | LatestError::EarlierUnreadable { .. }
        | LatestError::WordUnreadable { .. } => Exit::Refused,
    };
    let failure = Failure::new(exit, with_causes(error));
    if exit != Exit::Refused {
        return failure.next(match error {
            LatestError::Empty => "take one with `lifeboat backup`, or name the store that holds one with `--from DIR`",
            LatestError::OnlyStrangers { .. } => {
                "`lifeboat list --all` says who signed them; `signing.trusted` names those who may, `--trusted KEY` with `--from`"
            }
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
    let found = places.catalog.latest();
    refuse_rolled_back(places, &found)?;
    // Before the operator is asked which history he means: what he answers counts.
    for back in &places.rolled_back {
        listener.alarm(&back.to_string());
    }
    let latest = found.map_err(|error| blame(places, no_latest(&error)))?;
    if let Some(why) = &places.unremembered {
        listener.alarm(&format!(
            "whether there was a newer one is not known, as this host's memory cannot be read: {why}"
        ));
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
    told_of_strangers(listener, places, latest);
    Ok(latest)
}

/// Says which manifests count for nothing that may have been newer, or of another cluster: whoever may write to a store can
/// spoil the newest.
fn told_of_strangers(listener: &dyn Listener, places: &Destinations, latest: &Backup) {
    const TOLD: usize = 5;
    let of_cluster = latest.manifest().cluster;
    let newest = (latest.revision(), latest.id());
    let may_be_newer = |stranger: &&Stranger| match &stranger.object {
        // It may have been moved there from a higher revision.
        ObjectName::FullManifest(path, _) if matches!(stranger.why, Distrust::Broken(_)) => {
            path.cluster != of_cluster || &path.chain > latest.id()
        }
        ObjectName::FullManifest(path, revision) => path.cluster != of_cluster || (*revision, &path.chain) > newest,
        _ => false,
    };
    let mut newer = places.catalog.strangers().iter().filter(may_be_newer);
    for stranger in newer.by_ref().take(TOLD) {
        listener.alarm(&format!(
            "skipped a manifest that may be newer: {stranger}: {}",
            stranger.why
        ));
    }
    let more = newer.count();
    if more > 0 {
        listener.alarm(&format!("{more} more like it: `lifeboat list --all` shows them"));
    }
}

/// Refuses to take what there is for the newest where this host has seen more: what is gone may have been, and where
/// nothing is left there is no other word for it.
fn refuse_rolled_back(places: &Destinations, found: &Result<&Backup, LatestError>) -> Result<(), Failure> {
    let mut all = places.rolled_back.iter();
    let (back, has) = match found {
        Ok(latest) => (
            all.find(|back| back.seen.is_more_than(latest)),
            format!("to take what there is, name it by its ID: {}", latest.id()),
        ),
        Err(
            LatestError::Empty
            | LatestError::OnlyDamaged { .. }
            | LatestError::OnlyStrangers { .. }
            | LatestError::NothingGood { .. },
        ) => (all.next(), "`lifeboat list --all` shows what there is".to_owned()),
        Err(LatestError::AcceptedIsGone { accepted, .. }) => (
            all.find(|back| back.seen.lineage == *accepted),
            "`lifeboat list --all` shows what there is".to_owned(),
        ),
        // Which history is meant is to be said first, and by an ID all can be had.
        Err(
            LatestError::Unaccepted { .. } | LatestError::EarlierUnreadable { .. } | LatestError::WordUnreadable { .. },
        ) => return Ok(()),
    };
    let Some(back) = back else { return Ok(()) };
    let message = format!("`latest` is not to be had: {back}");
    Err(Failure::new(Exit::Damaged, message).next(format!(
        "look for {} in another store (`--from`); {has}",
        back.seen.chain
    )))
}
