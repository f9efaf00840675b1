//! Which history a new backup belongs to.
//!
//! An etcd that lost its data and started afresh under the same flags has the cluster id and member ids it had before,
//! at revision 1: only a revision that fell tells the two histories apart.
//!
//! Invariant: a backup joins a lineage only if nothing in it is lower than there, or if its member was cut off from its
//! cluster and may lag for that reason.

use super::remembered::Height;
use super::{Catalog, Lineage, Outline};
use crate::model::{ChainId, ClusterId, LineageId, Revision};

/// Whether the member was in touch with its cluster when the backup began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// A linearizable read was answered.
    Answered,
    /// None was: what the member holds may be old.
    Silent,
}

/// What is known of a backup before its lineage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewBackup {
    /// The cluster id, from the member.
    pub cluster: ClusterId,
    /// The revision, from the content.
    pub revision: Revision,
    /// The index of the last applied entry, where the content says it.
    pub consistent_index: Option<u64>,
    /// The term of that entry, where the content says it.
    pub raft_term: Option<u64>,
    /// Whether the member can have lagged.
    pub quorum: Quorum,
}

/// Where a new backup comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Descent {
    /// It continues a history.
    Continues(LineageId),
    /// It opens one.
    Opens(LineageId, Opening),
}

impl Descent {
    /// The lineage either way.
    pub fn lineage(&self) -> &LineageId {
        match self {
            Descent::Continues(lineage) | Descent::Opens(lineage, _) => lineage,
        }
    }
}

/// Why a new lineage is opened. All but the first are news for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Opening {
    /// There was no backup before.
    #[error("it is the first backup")]
    First,
    /// All backups are of clusters with other ids.
    #[error("the backups so far are of clusters with other ids")]
    OtherCluster,
    /// No backup of this cluster id has a readable manifest.
    #[error("no earlier backup of this cluster id can be read")]
    Unreadable,
    /// Something that never falls has fallen: etcd's data was lost or replaced.
    #[error("its {what} is {to}, that of lineage {from_lineage} was {from} already")]
    Fell {
        /// What has fallen.
        what: &'static str,
        /// The lineage that was compared with.
        from_lineage: LineageId,
        /// The highest there.
        from: u64,
        /// What it is now.
        to: u64,
    },
    /// Its revisions are too many for its log: they are others', and etcd's data was replaced.
    #[error(
        "it is {revisions} revisions beyond {of} of lineage {from_lineage}, and its log went on by {entries} entries, where each revision needs one"
    )]
    Outran {
        /// The lineage that was compared with.
        from_lineage: LineageId,
        /// The backup of it.
        of: ChainId,
        /// By how many revisions it is beyond that.
        revisions: u64,
        /// How many entries its log has more.
        entries: u64,
    },
}

/// By so many entries an index may be ahead of the revision beside it: what writes both does so one after the other.
const SLACK: u64 = 16;

impl Catalog {
    /// The lineage of the backup that `chain` begins.
    pub fn descent(&self, chain: &ChainId, new: &NewBackup) -> Descent {
        match self.predecessor(new) {
            Ok(lineage) => Descent::Continues(lineage),
            Err(why) => Descent::Opens(LineageId::opened_by(new.cluster, chain), why),
        }
    }

    /// Whether `later` is the same history as `earlier`, opened by a host that could not see the other's backup: they were
    /// taken at the same time, or one destination was away. Nothing in its first backup is lower than there before it.
    pub fn goes_on_unseen(&self, earlier: &Lineage, later: &Lineage) -> bool {
        let manifests = || self.backups().iter().map(|backup| backup.manifest());
        let Some(first) = manifests().find(|manifest| manifest.chain == later.first) else {
            return false;
        };
        let before =
            manifests().filter(|m| m.lineage == earlier.id && m.chain.started_at() <= first.chain.started_at());
        let is_below = |m: &Outline| {
            let known = |of: Option<u64>, then: Option<u64>| of.zip(then).is_none_or(|(of, then)| of <= then);
            m.cluster == first.cluster
                && m.to_revision <= first.to_revision
                && known(m.consistent_index, first.consistent_index)
                && known(m.raft_term, first.raft_term)
        };
        let mut before = before.peekable();
        before.peek().is_some() && before.all(is_below)
    }

    /// Whether `lineage`, which nobody has judged, is the history that a restore has opened by making `cluster`, which
    /// began with `revision`. An etcd of that cluster that lost its data since is not: it has fallen below, or there is a
    /// history of the cluster before it.
    pub fn is_opened_by_restore(&self, lineage: &LineageId, cluster: ClusterId, revision: Revision) -> bool {
        let (lineages, unjudged) = (self.lineages(), self.unjudged());
        let can_be_judged = self.last_word.as_ref().is_none_or(|word| word.acceptance.is_ok());
        let Some(new) = unjudged.iter().find(|known| known.id == *lineage) else {
            return false;
        };
        let is_of_cluster = |id: &LineageId| {
            let mut manifests = self.backups().iter().map(|backup| backup.manifest());
            manifests.any(|manifest| manifest.lineage == *id && manifest.cluster == cluster)
        };
        let is_same = |other: &Lineage| self.goes_on_unseen(other, new) || self.goes_on_unseen(new, other);
        let mut others = lineages
            .iter()
            .filter(|other| other.id != new.id && is_of_cluster(&other.id));
        can_be_judged && is_of_cluster(&new.id) && new.first_revision >= revision && others.all(is_same)
    }

    /// The cluster of the accepted history, where that is another one than `lineage`, which is judged and goes on with the backup
    /// that `chain` begins, of another cluster. None where the operator has yet to judge.
    pub fn accepted_in_place_of(&self, lineage: &LineageId, chain: &ChainId) -> Option<ClusterId> {
        let accepted = self.accepted_lineage().ok()?;
        let goes_on = self
            .lineages()
            .iter()
            .any(|known| known.id == *lineage && known.first != *chain);
        let mut manifests = self.backups().iter().map(|backup| backup.manifest());
        let cluster_of = |id: &LineageId| manifests.clone().find(|m| m.lineage == *id).map(|m| m.cluster);
        let cluster = cluster_of(&accepted.id)?;
        let is_other = manifests.all(|m| m.lineage != *lineage || m.cluster != cluster);
        (goes_on && is_other && accepted.id != *lineage).then_some(cluster)
    }

    fn predecessor(&self, new: &NewBackup) -> Result<LineageId, Opening> {
        // One that goes on where no destination can be read that has it.
        if let Some(away) = self.away(new.cluster) {
            let seen: Vec<Height> = self.remembered_of(&away).map(Height::from).collect();
            if new.quorum == Quorum::Silent || is_below(new, &away, &seen, None).is_none() {
                return Ok(away);
            }
        }
        let of_cluster = |m: &&Outline| m.cluster == new.cluster;
        let manifests = || self.backups().iter().map(|b| b.manifest()).filter(of_cluster);
        // Lineages are in the order in which they were opened.
        let mut lineages = self.lineages();
        lineages.retain(|l| manifests().any(|m| m.lineage == l.id));
        // The one that goes on is tried first; then the others, for an etcd that was judged and runs on all the same.
        let meant = self.meant(&lineages).cloned();
        let others = lineages.iter().rev().filter(|l| Some(*l) != meant.as_ref());
        let tried: Vec<&Lineage> = meant.iter().chain(others).collect();
        let Some(first) = tried.first() else {
            return Err(
                match (self.lost().find(|(_, c, _)| c.cluster == new.cluster), self.backups()) {
                    (Some(_), _) => Opening::Unreadable,
                    (None, [_, ..]) => Opening::OtherCluster,
                    (None, []) if self.lost().next().is_some() => Opening::OtherCluster,
                    (None, []) => Opening::First,
                },
            );
        };
        if new.quorum == Quorum::Silent {
            return Ok(first.id.clone());
        }
        let mut fell = tried.iter().map(|lineage| (lineage, self.fallen(lineage, new)));
        let (_, why) = fell.next().unwrap_or_else(|| unreachable!("the first was found above"));
        match why {
            None => Ok(first.id.clone()),
            Some(why) => fell
                .find(|(_, fell)| fell.is_none())
                .map_or(Err(why), |(lineage, _)| Ok(lineage.id.clone())),
        }
    }

    /// What is lower in `new` than it was in `lineage`.
    fn fallen(&self, lineage: &Lineage, new: &NewBackup) -> Option<Opening> {
        let manifests = self.backups().iter().map(|b| b.manifest());
        let members = manifests.filter(|m| m.lineage == lineage.id && m.faults.is_empty());
        // Of a manifest that cannot be read the name still tells the revision; one begun since the lineage was opened
        // is taken to be of it.
        let lost = self
            .lost()
            .filter(|(_, c, _)| c.cluster == new.cluster && c.chain > lineage.first);
        let highest = lost
            .map(|(_, _, revision)| revision)
            .fold(lineage.highest, Revision::max);
        // What another destination has shown of it counts as well.
        let seen = self.remembered_of(&lineage.id).map(Height::from);
        let all: Vec<Height> = members.map(Height::from).chain(seen).collect();
        is_below(new, &lineage.id, &all, Some(highest))
    }

    /// The accepted one of `lineages`, if the operator has judged all of them: once an earlier history was put back in
    /// place (a rollback), that is the one that goes on, not the one opened last.
    fn meant<'a>(&self, lineages: &'a [Lineage]) -> Option<&'a Lineage> {
        let word = self.last_word.as_ref()?.acceptance.as_ref().ok()?;
        let judged = lineages.iter().all(|l| word.known.contains(&l.id));
        lineages.iter().find(|l| judged && l.id == word.accepted)
    }
}

/// What is lower in `new` than it was in these backups of `lineage`, one of which had the revision `highest` at least; or that it has
/// come too far since one of them.
fn is_below(new: &NewBackup, lineage: &LineageId, before: &[Height], highest: Option<Revision>) -> Option<Opening> {
    let revisions = before.iter().map(|height| height.revision);
    let revision = revisions.chain(highest).max();
    let index = before.iter().filter_map(|height| height.index).max();
    let term = before.iter().filter_map(|height| height.term).max();
    let compared = [
        ("revision", revision.map(unsigned), Some(unsigned(new.revision))),
        ("consistent index", index, new.consistent_index),
        ("raft term", term, new.raft_term),
    ];
    let fell = compared.into_iter().find_map(|(what, from, to)| {
        let (from, to) = from.zip(to).filter(|(from, to)| to < from)?;
        Some(Opening::Fell {
            what,
            from_lineage: lineage.clone(),
            from,
            to,
        })
    });
    fell.or_else(|| before.iter().find_map(|before| outran(before, lineage, new)))
}

/// Whether `new` has come further in revisions than its log can have brought it since `before`, which is of the same history then.
/// One that was put back to an earlier state, and written to until its index was beyond that of before, is told by that.
fn outran(before: &Height, lineage: &LineageId, new: &NewBackup) -> Option<Opening> {
    let (from, to) = before.index.zip(new.consistent_index)?;
    let entries = to.checked_sub(from)?;
    let revisions = unsigned(new.revision).checked_sub(unsigned(before.revision))?;
    (revisions > entries.saturating_add(SLACK)).then(|| Opening::Outran {
        from_lineage: lineage.clone(),
        of: before.chain.clone(),
        revisions,
        entries,
    })
}

fn unsigned(revision: Revision) -> u64 {
    revision.get().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::super::Manifest;
    use super::super::tests::Fixture;
    use super::*;
    use crate::layout::manifest::tests::manifest;

    #[test]
    fn two_openings_at_the_same_time_are_one_history_and_a_wiped_etcd_is_another() {
        let full = first();
        let same_time = manifest(0xab, "20261120T101531Z-00000002", 100);
        let wiped = manifest(0xab, "20261120T111530Z-00000003", 7);
        let other = manifest(0xcd, "20261120T121530Z-00000004", 200);
        let mut went_on = manifest(0xab, "20261120T131530Z-00000005", 300);
        went_on.lineage = full.lineage.clone();
        let all = [&full, &same_time, &wiped, &other, &went_on];
        let catalog = all
            .into_iter()
            .fold(Fixture::default(), Fixture::backup)
            .catalog("local");
        let lineages = catalog.lineages();
        let [full, same_time, wiped, other] = lineages.as_slice() else {
            panic!("{lineages:?}")
        };
        assert!(catalog.goes_on_unseen(full, same_time));
        assert!(!catalog.goes_on_unseen(full, wiped));
        assert!(!catalog.goes_on_unseen(full, other));
    }

    #[test]
    fn a_history_that_goes_on_beside_the_accepted_one_of_another_cluster_is_told_and_one_that_begins_is_not() {
        let full = first();
        let restored = manifest(0xcd, "20261121T101530Z-00000002", 1_000_000_042);
        let mut gone_on = manifest(0xab, "20261121T111530Z-00000003", 60);
        gone_on.lineage = full.lineage.clone();
        let known = [&full.lineage, &restored.lineage];
        let both = || Fixture::default().backup(&full).backup(&restored);
        let accepted = |fixture: Fixture| fixture.accepted(1, &restored.lineage, &known, "2026-11-21T11:00:00Z");
        let told = |fixture: Fixture, of: &Manifest| {
            let catalog = fixture.catalog("local");
            catalog.accepted_in_place_of(&of.lineage, &of.chain)
        };
        assert_eq!(told(accepted(both()).backup(&gone_on), &gone_on), Some(ClusterId(0xcd)));
        assert_eq!(told(accepted(both()), &full), None, "it begins with it");
        assert_eq!(told(accepted(both()), &restored), None, "it is the accepted one");
        assert_eq!(told(both().backup(&gone_on), &gone_on), None, "nobody has judged");
        let other = manifest(0xab, "20261121T121530Z-00000004", 3);
        assert_eq!(
            told(accepted(both()).backup(&gone_on).backup(&other), &gone_on),
            None,
            "there is one to judge"
        );
    }

    #[test]
    fn the_history_that_a_restore_opened_is_its_first_one_and_not_what_is_left_after_another_loss() {
        let full = first();
        let restored = manifest(0xcd, "20261121T101530Z-00000002", 1_000_000_042);
        let wiped = manifest(0xcd, "20261122T101530Z-00000003", 3);
        let grown = manifest(0xcd, "20261123T101530Z-00000004", 1_000_000_041);
        let is = |fixture: Fixture, of: &Manifest| {
            let revision = Revision::new(1_000_000_000).unwrap();
            fixture
                .catalog("local")
                .is_opened_by_restore(&of.lineage, of.cluster.id, revision)
        };
        let both = || Fixture::default().backup(&full).backup(&restored);
        assert!(is(both(), &restored));
        let known = [&full.lineage, &restored.lineage];
        let judged = both().accepted(1, &full.lineage, &known, "2026-11-21T11:00:00Z");
        assert!(!is(judged, &restored), "the operator has said otherwise");
        assert!(
            !is(Fixture::default().backup(&full).backup(&wiped), &wiped),
            "it has fallen below"
        );
        assert!(!is(both().backup(&grown), &grown), "there was one before it");
        let unread = both().document(&super::super::ObjectName::Acceptance(1), b"rotten".to_vec());
        assert!(!is(unread, &restored), "nobody knows what was said");
    }

    const NEW_CHAIN: &str = "20261125T000000Z-0000000f";

    fn new(cluster: u64, revision: i64) -> NewBackup {
        NewBackup {
            cluster: ClusterId(cluster),
            revision: Revision::new(revision).unwrap(),
            consistent_index: Some(2000.max(1000 + revision.unsigned_abs())),
            raft_term: Some(3),
            quorum: Quorum::Answered,
        }
    }

    fn decide(fixture: Fixture, new: &NewBackup) -> Descent {
        fixture.catalog("local").descent(&NEW_CHAIN.parse().unwrap(), new)
    }

    /// Revision 100 of cluster `ab`, at index 1042 in term 3.
    fn first() -> Manifest {
        manifest(0xab, "20261120T101530Z-00000001", 100)
    }

    fn opening(descent: Descent) -> Opening {
        match descent {
            Descent::Opens(lineage, why) => {
                assert_eq!(lineage.to_string().split_once('-').unwrap().1, "0000000f");
                why
            }
            Descent::Continues(lineage) => panic!("continues {lineage}"),
        }
    }

    #[test]
    fn a_history_goes_on_while_nothing_falls() {
        let continues = Descent::Continues(first().lineage);
        for revision in [100, 101, 5000] {
            assert_eq!(
                decide(Fixture::default().backup(&first()), &new(0xab, revision)),
                continues
            );
        }
        let mut unknown = new(0xab, 100);
        (unknown.consistent_index, unknown.raft_term) = (None, None);
        assert_eq!(decide(Fixture::default().backup(&first()), &unknown), continues);
    }

    #[test]
    fn revisions_that_the_log_has_no_entries_for_are_of_another_history() {
        let at = |index| NewBackup {
            consistent_index: Some(index),
            ..new(0xab, 700)
        };
        let decided = |index| decide(Fixture::default().backup(&first()), &at(index));
        // Put back to an earlier state, and written to until its index is beyond that of before.
        match opening(decided(1042 + 400)) {
            Opening::Outran { revisions, entries, .. } => assert_eq!((revisions, entries), (600, 400)),
            other => panic!("{other:?}"),
        }
        assert_eq!(decided(1042 + 600), Descent::Continues(first().lineage));
        assert_eq!(decided(1042 + 600 - 16), Descent::Continues(first().lineage));
    }

    #[test]
    fn whatever_falls_opens_a_new_history() {
        let fell = |new: NewBackup| match opening(decide(Fixture::default().backup(&first()), &new)) {
            Opening::Fell { what, from, to, .. } => (what, from, to),
            other => panic!("{other:?}"),
        };
        assert_eq!(fell(new(0xab, 1)), ("revision", 100, 1));
        let mut caught_up = new(0xab, 500);
        caught_up.consistent_index = Some(600);
        assert_eq!(fell(caught_up), ("consistent index", 1042, 600));
        caught_up.consistent_index = None;
        caught_up.raft_term = Some(2);
        assert_eq!(fell(caught_up), ("raft term", 3, 2));
    }

    #[test]
    fn a_member_that_is_cut_off_may_lag() {
        let mut lagging = new(0xab, 90);
        lagging.quorum = Quorum::Silent;
        lagging.consistent_index = Some(900);
        let descent = decide(Fixture::default().backup(&first()), &lagging);
        assert_eq!(descent, Descent::Continues(first().lineage));
    }

    #[test]
    fn the_first_and_another_cluster_open_histories() {
        assert_eq!(opening(decide(Fixture::default(), &new(0xab, 7))), Opening::First);
        let other = decide(Fixture::default().backup(&first()), &new(0xcd, 7000));
        assert_eq!(opening(other), Opening::OtherCluster);
        let mut silent = new(0xcd, 7000);
        silent.quorum = Quorum::Silent;
        assert_eq!(
            opening(decide(Fixture::default().backup(&first()), &silent)),
            Opening::OtherCluster
        );
    }

    #[test]
    fn the_history_opened_last_is_the_one_that_goes_on() {
        let wiped = manifest(0xab, "20261121T101530Z-00000002", 1);
        let both = || Fixture::default().backup(&first()).backup(&wiped);
        assert_eq!(decide(both(), &new(0xab, 2)), Descent::Continues(wiped.lineage.clone()));
        assert_eq!(decide(both(), &new(0xab, 100)), Descent::Continues(wiped.lineage));
    }

    #[test]
    fn an_earlier_history_that_was_accepted_again_goes_on() {
        let wiped = manifest(0xab, "20261121T101530Z-00000002", 1);
        let both = || Fixture::default().backup(&first()).backup(&wiped);
        let (a, b) = (&first().lineage, &wiped.lineage);
        let rolled_back = || both().accepted(1, a, &[a, b], "2026-11-22T00:00:00Z");
        assert_eq!(decide(rolled_back(), &new(0xab, 100)), Descent::Continues(a.clone()));

        // Accepted, but etcd still runs on the empty one: its backups stay where they were judged.
        assert_eq!(decide(rolled_back(), &new(0xab, 60)), Descent::Continues(b.clone()));
        // Wiped once more: neither history's next backup.
        assert!(matches!(
            opening(decide(rolled_back(), &new(0xab, 0))),
            Opening::Fell { .. }
        ));
        let mut third = manifest(0xab, "20261123T101530Z-00000003", 60);
        third.consistent_index = Some(50);
        let unjudged = rolled_back().backup(&third);
        assert_eq!(decide(unjudged, &new(0xab, 61)), Descent::Continues(third.lineage));
    }

    #[test]
    fn an_unreadable_manifest_still_tells_its_revision() {
        let later = manifest(0xab, "20261122T101530Z-00000003", 9000);
        let fixture = || Fixture::default().backup(&first()).rotten(&later);
        assert!(matches!(
            opening(decide(fixture(), &new(0xab, 500))),
            Opening::Fell { from: 9000, .. }
        ));
        assert_eq!(decide(fixture(), &new(0xab, 9001)), Descent::Continues(first().lineage));

        let only = Fixture::default().rotten(&later);
        assert_eq!(opening(decide(only, &new(0xab, 9001))), Opening::Unreadable);
    }

    #[test]
    fn an_unreadable_manifest_of_an_earlier_history_does_not_open_one_each_time() {
        let wiped = manifest(0xab, "20261121T101530Z-00000002", 1);
        let fixture = Fixture::default().rotten(&first()).backup(&wiped);
        assert_eq!(decide(fixture, &new(0xab, 2)), Descent::Continues(wiped.lineage));
    }
}
