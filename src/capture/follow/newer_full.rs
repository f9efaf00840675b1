//! What is seen in the destinations while a chain is followed: a newer full backup, another writer, a history that takes its place.

use super::{Desk, End, Following};
use crate::capture::Sight;
use crate::layout::Outline;
use crate::layout::delta::GapReason;
use crate::model::{ClusterId, LineageId};

impl Desk {
    /// Whether what the destinations hold ends it.
    pub(super) fn see(&self, following: &mut Following, sight: Result<Sight, String>) -> Option<End> {
        match sight {
            Ok(Sight::Full(full, known)) => {
                let is_newer = (full.to_revision, &full.chain) > (following.full.to_revision, &following.full.chain);
                if is_newer && !self.refused.contains(&full.chain) {
                    if following.tip >= full.to_revision {
                        return Some(End::Newer(full, known));
                    }
                    following.newer_at = Some(full.to_revision);
                    return None;
                }
                let is_same = full.chain == following.full.chain;
                let epoch = known.epoch().filter(|epoch| is_same && *epoch > following.scribe.epoch);
                epoch.map(End::Outdone)
            }
            // Whoever opened it found that etcd does not go on with the one that is followed.
            Ok(Sight::Unaccepted(why, histories)) if is_replaced(&following.full, &histories) => {
                Some(End::Gap(GapReason::WentBack, why))
            }
            // The chain goes on; what cannot be looked at is told by the delivery.
            Ok(Sight::None(_) | Sight::Undecided(_) | Sight::Unaccepted(..)) | Err(_) => None,
        }
    }
}

/// Whether a history of the same cluster was opened behind the one of this backup.
fn is_replaced(full: &Outline, histories: &[(LineageId, ClusterId)]) -> bool {
    let own = histories.iter().position(|(lineage, _)| *lineage == full.lineage);
    let mut behind = histories.iter().skip(own.map_or(0, |own| own + 1));
    behind.any(|(_, cluster)| *cluster == full.cluster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::manifest::tests::manifest;

    #[test]
    fn a_history_that_was_opened_behind_in_the_same_cluster_takes_its_place() {
        let of = |cluster, chain| {
            let manifest = manifest(cluster, chain, 10);
            let bytes = manifest.to_bytes();
            Outline::of(manifest, &bytes)
        };
        let before = of(0xab, "20261120T091530Z-00000001");
        let full = of(0xab, "20261120T101530Z-00000002");
        let behind = of(0xab, "20261120T111530Z-00000003");
        let other = of(0xcd, "20261120T121530Z-00000004");
        let replaced = |all: &[&Outline]| {
            let all: Vec<_> = all.iter().map(|full| (full.lineage.clone(), full.cluster)).collect();
            is_replaced(&full, &all)
        };
        assert!(replaced(&[&before, &full, &behind]));
        assert!(replaced(&[&behind]));
        assert!(!replaced(&[&before, &full, &other]));
        assert!(!replaced(&[&full]));
    }
}
