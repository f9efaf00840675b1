//! What the backups of destinations say of the chain to follow.

use std::cmp::Reverse;

use crate::capture::{Known, Sight, WrittenBeside};
use crate::catalog::{Backup, Catalog, LatestError, Lineage};
use crate::error_chain::with_causes;
use crate::layout::Outline;
use crate::model::{ClusterId, LineageId, Revision};

/// The full backup that is followed, by what destinations hold.
pub(super) fn sight(catalog: &Catalog, known: impl FnOnce(&Backup) -> Known) -> Sight {
    match catalog.latest() {
        Ok(backup) => Sight::Full(Box::new(backup.manifest().clone()), known(backup)),
        Err(error @ (LatestError::Empty | LatestError::NothingGood { .. })) => Sight::None(error.to_string()),
        Err(LatestError::Unaccepted { accepted, candidates }) => {
            let histories = histories(catalog, &candidates);
            let error = LatestError::Unaccepted { accepted, candidates };
            Sight::Unaccepted(with_causes(&error), histories)
        }
        Err(error) => Sight::Undecided(with_causes(&error)),
    }
}

/// Which histories these are, in their order, but for those that go on in one before them; and of which clusters.
fn histories(catalog: &Catalog, candidates: &[Lineage]) -> Vec<(LineageId, ClusterId)> {
    let goes_on = |(index, of): &(usize, &Lineage)| {
        let mut before = candidates.iter().take(*index);
        before.any(|before| catalog.goes_on_unseen(before, of))
    };
    let own = candidates.iter().enumerate().filter(|candidate| !goes_on(candidate));
    let of_cluster = own.filter_map(|(_, lineage)| {
        let mut manifests = catalog.backups().iter().map(|backup| backup.manifest());
        let first = manifests.find(|manifest| manifest.chain == lineage.first)?;
        Some((lineage.id.clone(), first.cluster))
    });
    of_cluster.collect()
}

/// How far the chain of a backup has come.
fn known(backup: &Backup) -> Known {
    let mut known = Known::default();
    for copy in &backup.copies {
        known.take(copy.links.iter().map(|link| &link.name));
    }
    known
}

/// The good full backups of the same history beside `full`, by what is `proven` of them: the one whose chain was written to, goes
/// on and has come furthest; and how far any has come.
pub(super) fn written_last_beside(
    catalog: &Catalog,
    full: &Outline,
    mut proven: impl FnMut(&Backup) -> Result<Known, String>,
) -> Result<WrittenBeside, String> {
    let is_other = |backup: &&Backup| {
        let outline = backup.manifest();
        backup.is_good() && outline.lineage == full.lineage && outline.chain != full.chain
    };
    let others = catalog.backups().iter().filter(is_other);
    let mut others: Vec<_> = others
        .map(|backup| (known(backup).reached(backup.revision()), backup))
        .collect();
    // Names tell how far it is at the most.
    others.sort_by_key(|(reached, backup)| Reverse((*reached, backup.newness())));
    type Found<'a> = Option<(Revision, &'a Backup, Known)>;
    let (mut goes_on, mut furthest): (Found<'_>, Found<'_>) = (None, None);
    let is_beyond = |found: &Found<'_>, reached| found.as_ref().is_none_or(|(furthest, ..)| reached > *furthest);
    for (at_most, backup) in others {
        if !is_beyond(&goes_on, at_most) {
            break;
        }
        let known = proven(backup)?;
        let reached = known.reached(backup.revision());
        if known.epoch().is_none() {
            continue;
        }
        if is_beyond(&furthest, reached) {
            furthest = Some((reached, backup, known.clone()));
        }
        if known.ends_before(backup.revision()).is_none() && is_beyond(&goes_on, reached) {
            goes_on = Some((reached, backup, known));
        }
    }
    let whole = |found: Found<'_>| found.map(|(_, backup, known)| (backup.manifest().clone(), known));
    Ok(WrittenBeside {
        goes_on: whole(goes_on),
        furthest: whole(furthest),
    })
}
