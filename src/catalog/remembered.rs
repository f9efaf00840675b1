//! What a host remembers of histories, beside what destinations show now: the operator's last word, and the newest backup of each
//! history. A destination that is away, or lost, may have been the only one that has either.
//!
//! Invariant: what is remembered gives way to a word that was given later, and says nothing of histories that it does not know.

use std::collections::BTreeMap;

use super::{Acceptance, Catalog, LastWord, Tip};
use crate::layout::Outline;
use crate::model::{ChainId, ClusterId, LineageId, Revision};

/// A word, and its number.
pub type NumberedWord = (u32, Acceptance);

/// What never falls in a history, by one backup of it.
#[derive(Debug, Clone)]
pub(super) struct Height {
    /// The backup.
    pub chain: ChainId,
    /// Its revision.
    pub revision: Revision,
    /// The index of the last entry that it holds.
    pub index: Option<u64>,
    /// The term of that.
    pub term: Option<u64>,
}

impl From<&Outline> for Height {
    fn from(manifest: &Outline) -> Height {
        Height {
            chain: manifest.chain.clone(),
            revision: manifest.to_revision,
            index: manifest.consistent_index,
            term: manifest.raft_term,
        }
    }
}

impl From<&Tip> for Height {
    fn from(tip: &Tip) -> Height {
        Height {
            chain: tip.chain.clone(),
            revision: tip.revision,
            index: tip.index,
            term: tip.term,
        }
    }
}

impl Catalog {
    /// Takes in what this host remembers: the operator's last word, and the newest backups of each history.
    pub fn remember(&mut self, word: Option<NumberedWord>, tips: Vec<Tip>) {
        self.remembered = tips;
        let Some((number, word)) = word else { return };
        let is_later = self.last_word.as_ref().is_none_or(|shown| {
            // One that was given later has a higher number, where this host was heard of, or a later time, where its clock was right.
            shown
                .acceptance
                .as_ref()
                .is_ok_and(|said| shown.number <= number && said.accepted_at < word.accepted_at)
        });
        let knows = |lineage: &LineageId| *lineage == word.accepted || word.known.contains(lineage);
        let is_of_these = || self.backups().iter().any(|backup| knows(&backup.manifest().lineage));
        if is_later && is_of_these() {
            self.last_word = Some(LastWord {
                number,
                acceptance: Ok(word),
                signer: None,
            });
        }
    }

    /// The operator's last word, and its number, to be remembered; none where there is none, or it cannot be read.
    pub fn word(&self) -> Option<NumberedWord> {
        let word = self.last_word.as_ref()?;
        Some((word.number, word.acceptance.as_ref().ok()?.clone()))
    }

    /// What is remembered of a history.
    pub(super) fn remembered_of(&self, lineage: &LineageId) -> impl Iterator<Item = &Tip> {
        self.remembered.iter().filter(move |tip| tip.lineage == *lineage)
    }

    /// The history of a cluster that may go on though none of its backups can be read now: the accepted one, or one that was seen
    /// after all that can be.
    pub(super) fn away(&self, cluster: ClusterId) -> Option<LineageId> {
        let of_cluster = format!("{cluster}-");
        let here = || self.backups().iter().map(|backup| backup.manifest());
        let last = here().filter(|manifest| manifest.cluster == cluster);
        let last = last.map(|manifest| manifest.chain.started_at()).max();
        let mut newest = BTreeMap::new();
        for tip in &self.remembered {
            let is_away = here().all(|manifest| manifest.lineage != tip.lineage);
            if is_away && tip.lineage.to_string().starts_with(&of_cluster) && !self.has_given_up(&tip.lineage) {
                let seen = newest.entry(&tip.lineage).or_insert(tip.chain.started_at());
                *seen = tip.chain.started_at().max(*seen);
            }
        }
        let word = self.last_word.as_ref().and_then(|word| word.acceptance.as_ref().ok());
        let is_accepted = |lineage: &LineageId| word.is_some_and(|word| word.accepted == *lineage);
        let may_go_on = newest
            .into_iter()
            .filter(|(lineage, seen)| is_accepted(lineage) || Some(*seen) > last);
        let found = may_go_on.max_by_key(|(lineage, seen)| (is_accepted(lineage), *seen));
        found.map(|(lineage, _)| lineage.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, manifest};
    use super::super::{Descent, HostName, LatestError, Manifest, NewBackup, ObjectName, Opening, Quorum};
    use super::*;

    fn old() -> Manifest {
        manifest(0xab, "20261120T101530Z-00000001", 100)
    }

    /// What has taken its place under the same cluster id, and whose revisions and log went beyond it since.
    fn replaced() -> Manifest {
        let mut new = manifest(0xab, "20261121T101530Z-00000002", 500);
        (new.consistent_index, new.raft_term) = (Some(5000), Some(7));
        new
    }

    /// What a host remembers that has seen both, and the word.
    fn seen() -> (Option<NumberedWord>, Vec<Tip>) {
        let (old, new) = (old(), replaced());
        let all = Fixture::default().backup(&old).backup(&new);
        let all = all.accepted(3, &new.lineage, &[&old.lineage, &new.lineage], "2026-11-21T11:00:00Z");
        let all = all.catalog("near");
        (all.word(), all.tips("near").into_values().collect())
    }

    /// What it shows to whoever remembers that.
    fn remembering(fixture: Fixture) -> Catalog {
        let mut catalog = fixture.catalog("far");
        let (word, tips) = seen();
        catalog.remember(word, tips);
        catalog
    }

    fn new(revision: i64, index: u64, term: u64) -> NewBackup {
        NewBackup {
            cluster: ClusterId(0xab),
            revision: Revision::new(revision).unwrap(),
            consistent_index: Some(index),
            raft_term: Some(term),
            quorum: Quorum::Answered,
        }
    }

    fn descent(catalog: &Catalog, new: &NewBackup) -> Descent {
        catalog.descent(&"20261125T000000Z-0000000f".parse().unwrap(), new)
    }

    #[test]
    fn a_history_that_was_given_up_is_not_the_accepted_one_where_it_alone_can_be_read() {
        let forgetful = Fixture::default().backup(&old()).catalog("far");
        assert_eq!(forgetful.accepted_lineage().unwrap().id, old().lineage);
        let far = remembering(Fixture::default().backup(&old()));
        match far.latest() {
            Err(LatestError::AcceptedIsGone { accepted, .. }) => assert_eq!(accepted, replaced().lineage),
            other => panic!("{other:?}"),
        }
        assert!(far.has_given_up(&old().lineage));
        // The operator takes it back.
        let at = "2026-11-22T11:00:00Z".parse().unwrap();
        let (object, word) = far.accept(&old().lineage, at, &HostName::nearest("a"), None).unwrap();
        assert_eq!(object, ObjectName::Acceptance(4));
        let again = Fixture::default().backup(&old()).document(&object, word.to_bytes());
        assert_eq!(remembering(again).latest().unwrap().manifest().lineage, old().lineage);
    }

    #[test]
    fn a_word_gives_way_to_a_later_one_and_says_nothing_of_other_histories() {
        let (old, new) = (old(), replaced());
        let takes_back = |number, time| {
            let shown = Fixture::default().backup(&old);
            let shown = shown.accepted(number, &old.lineage, &[&old.lineage, &new.lineage], time);
            remembering(shown).accepted_lineage().is_ok()
        };
        assert!(!takes_back(1, "2026-11-20T11:00:00Z"), "it was given before");
        assert!(takes_back(1, "2026-11-22T11:00:00Z"), "by a host that saw fewer");
        assert!(takes_back(4, "2026-11-20T11:00:00Z"), "the clock was ahead before");
        let other = manifest(0xcd, "20261122T101530Z-00000003", 7);
        let fresh = remembering(Fixture::default().backup(&other));
        assert_eq!(fresh.accepted_lineage().unwrap().id, other.lineage);
    }

    #[test]
    fn what_goes_on_in_a_history_that_is_away_is_of_that_and_not_of_the_one_that_it_replaced() {
        let shown = || Fixture::default().backup(&old());
        let goes_on = new(600, 5200, 7);
        let by_numbers = descent(&shown().catalog("far"), &goes_on);
        assert_eq!(by_numbers, Descent::Continues(old().lineage));
        let far = remembering(shown());
        assert_eq!(descent(&far, &goes_on), Descent::Continues(replaced().lineage));
        // A store that is new.
        let empty = remembering(Fixture::default());
        assert_eq!(descent(&empty, &goes_on), Descent::Continues(replaced().lineage));
        // By its log it is not that one.
        for other in [new(600, 4000, 7), new(600, 5200, 6), new(5000, 5100, 7)] {
            assert_ne!(
                descent(&far, &other),
                Descent::Continues(replaced().lineage),
                "{other:?}"
            );
        }
        let wiped = descent(&far, &new(3, 10, 2));
        assert!(matches!(wiped, Descent::Opens(_, Opening::Fell { .. })));
    }

    #[test]
    fn an_older_history_that_is_away_does_not_go_on() {
        let (_, mut tips) = seen();
        tips.retain(|tip| tip.lineage == old().lineage);
        let mut near = Fixture::default().backup(&replaced()).catalog("near");
        near.remember(None, tips);
        assert_eq!(
            descent(&near, &new(600, 5200, 7)),
            Descent::Continues(replaced().lineage)
        );
    }

    #[test]
    fn what_is_lower_than_was_seen_elsewhere_is_of_another_history() {
        let mut newest = manifest(0xab, "20261122T101530Z-00000003", 900);
        newest.lineage = replaced().lineage;
        (newest.consistent_index, newest.raft_term) = (Some(9000), Some(7));
        let tips = Fixture::default().backup(&newest).catalog("near").tips("near");
        let mut far = Fixture::default().backup(&replaced()).catalog("far");
        let lower = new(700, 8000, 7);
        assert_eq!(descent(&far, &lower), Descent::Continues(replaced().lineage));
        assert_eq!(tips.len(), 1);
        far.remember(None, tips.into_values().collect());
        let decided = descent(&far, &lower);
        assert!(
            matches!(decided, Descent::Opens(_, Opening::Fell { from: 900, .. })),
            "{decided:?}"
        );
    }
}
