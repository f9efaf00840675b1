//! Which backup is meant: by `latest`, and by an id.
//!
//! Invariant: `latest` never goes from one history to another by itself. A cluster that lost its data and started afresh
//! opens a new lineage; until the operator accepts one of them, `latest` names both and chooses none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::{Acceptance, Backup, Catalog, ChainPath, Damaged, FORMAT, HostName, ObjectName, Stranger};
use crate::model::{ChainId, LineageId, Revision};

/// By how much the clocks of the hosts that take backups may differ.
const CLOCKS_DIFFER_BY: SignedDuration = SignedDuration::from_mins(10);

/// One history, as far as backups of it are readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Its id.
    pub id: LineageId,
    /// How many backups it has, bad ones included.
    pub backups: usize,
    /// The first of them that is still there.
    pub first: ChainId,
    /// The revision of the first.
    pub first_revision: Revision,
    /// The one with the highest revision.
    pub newest: ChainId,
    /// The highest revision.
    pub highest: Revision,
    /// How many keys that one has, if that is known.
    pub keys: Option<u64>,
}

impl Lineage {
    /// Whether it is known to have no keys.
    pub fn is_empty(&self) -> bool {
        self.keys == Some(0)
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.backups == 1 { "" } else { "s" };
        write!(
            f,
            "{} ({} backup{plural}, the newest {} at revision {})",
            self.id, self.backups, self.newest, self.highest
        )
    }
}

/// Why there is no `latest`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LatestError {
    /// There are no backups.
    #[error("there is no backup")]
    Empty,
    /// There are backups, but no manifest can be read.
    #[error("none of the {count} manifests can be read, `{}` for one", .first.object)]
    OnlyDamaged {
        /// How many.
        count: usize,
        /// The first of them.
        #[source]
        first: Box<Damaged>,
    },
    /// There are backups, but no signer who is trusted has signed one.
    #[error("none of the {count} backups is signed by a trusted signer, `{}` for one", .first.object)]
    OnlyStrangers {
        /// How many.
        count: usize,
        /// The first of them.
        #[source]
        first: Box<Stranger>,
    },
    /// There is a history that the operator has not accepted or rejected.
    #[error(
        "etcd's data was replaced or restored since the last backup: confirm which history to continue (`accept-lineage`)"
    )]
    Unaccepted {
        /// The one that was accepted before the new one came, if any.
        accepted: Option<LineageId>,
        /// That one and those that came since, the one opened first at the head.
        candidates: Vec<Lineage>,
    },
    /// A manifest that cannot be read is of another, earlier history than those that can.
    #[error("lineage {lineage} is not known to be the right one, `{}` was of an earlier history: see `accept-lineage`", .earlier.object)]
    EarlierUnreadable {
        /// The only lineage that can be read.
        lineage: Lineage,
        /// What cannot.
        #[source]
        earlier: Box<Damaged>,
    },
    /// The operator's last word cannot be read.
    #[error("which history is meant cannot be read from `{}` in destination `{}`: say it again with `accept-lineage`", .word.object, .word.destination)]
    WordUnreadable {
        /// It.
        #[source]
        word: Box<Damaged>,
    },
    /// The accepted history has no backup any more.
    #[error("the accepted lineage {accepted} has no backup, others have")]
    AcceptedIsGone {
        /// What was accepted.
        accepted: LineageId,
        /// What there is.
        candidates: Vec<Lineage>,
    },
    /// All backups of the accepted history are known to be bad.
    #[error("no backup of lineage {lineage} is good")]
    NothingGood {
        /// The history.
        lineage: Lineage,
    },
}

impl LatestError {
    /// The histories that may be meant, the one opened last at the head, those without keys at the end.
    pub fn candidates(&self) -> impl Iterator<Item = &Lineage> {
        let candidates: &[Lineage] = match self {
            LatestError::Unaccepted { candidates, .. } | LatestError::AcceptedIsGone { candidates, .. } => candidates,
            LatestError::EarlierUnreadable { lineage, .. } => std::slice::from_ref(lineage),
            LatestError::Empty
            | LatestError::OnlyDamaged { .. }
            | LatestError::OnlyStrangers { .. }
            | LatestError::WordUnreadable { .. }
            | LatestError::NothingGood { .. } => &[],
        };
        let mut candidates: Vec<&Lineage> = candidates.iter().rev().collect();
        candidates.sort_by_key(|lineage| lineage.is_empty());
        candidates.into_iter()
    }
}

/// Backups go on in a history that the operator knew of and did not accept: etcd was not brought back to the accepted one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "etcd goes on in lineage {runs}, but {accepted} is the accepted one: bring that back with `lifeboat restore latest`, or, \
     if what runs is right, accept it with `lifeboat accept-lineage {}`", .runs.id
)]
pub struct Astray {
    /// The history that the newest backup is of.
    pub runs: Lineage,
    /// The accepted one.
    pub accepted: LineageId,
}

/// Why an id names no backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No backup is called so.
    #[error("there is no backup `{id}`")]
    NotFound {
        /// What was asked for.
        id: String,
    },
    /// Several are.
    #[error("`{id}` may be {}", several(.chains))]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// What it may be.
        chains: Vec<ChainPath>,
    },
    /// Its manifest cannot be used.
    #[error("the manifest of `{id}` cannot be used")]
    Damaged {
        /// What was asked for.
        id: String,
        /// Why.
        #[source]
        damaged: Box<Damaged>,
    },
    /// No signer who is named has signed it.
    #[error("`{id}` is not used")]
    Stranger {
        /// What was asked for.
        id: String,
        /// Why.
        #[source]
        stranger: Box<Stranger>,
    },
    /// The chain does not hold that revision.
    #[error("{chain} holds revision {has} only, not {revision}")]
    NoSuchPoint {
        /// The chain.
        chain: ChainId,
        /// What was asked for.
        revision: Revision,
        /// What there is.
        has: Revision,
    },
    /// No backup is of that lineage.
    #[error("there is no backup of lineage {lineage}")]
    NoSuchLineage {
        /// What was asked for.
        lineage: LineageId,
    },
}

/// The order in which backups were begun. Ids tell it by whole seconds only, and end at random.
fn begun(backup: &Backup) -> (Timestamp, Timestamp, &ChainId) {
    let started = backup.id().started_at();
    (started, backup.manifest().first_byte_at, backup.id())
}

fn is_called(chain: &ChainId, name: &str) -> bool {
    chain.as_str().starts_with(name) || chain.suffix() == name
}

fn several(chains: &[ChainPath]) -> String {
    const SHOWN: usize = 5;
    let mut all: Vec<String> = chains.iter().take(SHOWN).map(|path| path.chain.to_string()).collect();
    if chains.len() > SHOWN {
        all.push(format!("one of {} more", chains.len().saturating_sub(SHOWN)));
    }
    all.join(" or ")
}

impl Catalog {
    /// The histories of which there are backups, the one opened first at the head.
    pub fn lineages(&self) -> Vec<Lineage> {
        struct Seen<'a> {
            backups: usize,
            first: &'a Backup,
            newest: &'a Backup,
        }
        // What is known to be wrong tells nothing of the history where anything else does.
        let standing = |backup: &Backup| (backup.manifest().faults.is_empty(), backup.revision());
        let mut seen: Vec<Seen> = Vec::new();
        let mut places: BTreeMap<&LineageId, usize> = BTreeMap::new();
        for backup in self.backups() {
            let next = seen.len();
            let place = *places.entry(&backup.manifest().lineage).or_insert(next);
            match seen.get_mut(place) {
                Some(lineage) => {
                    lineage.backups = lineage.backups.saturating_add(1);
                    if begun(backup) < begun(lineage.first) {
                        lineage.first = backup;
                    }
                    if standing(backup) >= standing(lineage.newest) {
                        lineage.newest = backup;
                    }
                }
                None => seen.push(Seen {
                    backups: 1,
                    first: backup,
                    newest: backup,
                }),
            }
        }
        seen.sort_by_key(|lineage| begun(lineage.first));
        let lineages = seen.into_iter().map(|lineage| Lineage {
            id: lineage.first.manifest().lineage.clone(),
            backups: lineage.backups,
            first: lineage.first.id().clone(),
            first_revision: lineage.first.revision(),
            newest: lineage.newest.id().clone(),
            highest: lineage.newest.revision(),
            keys: lineage.newest.manifest().keys,
        });
        lineages.collect()
    }

    /// The history that `latest` is taken from: the one that the operator accepted, or the only one there ever was.
    pub fn accepted_lineage(&self) -> Result<Lineage, LatestError> {
        let mut lineages = self.lineages();
        if lineages.is_empty() {
            return Err(self.nothing_readable());
        }
        let Some(word) = &self.last_word else {
            return match (lineages.pop(), lineages.is_empty()) {
                (Some(only), true) => self.only_ever(only),
                (last, _) => {
                    lineages.extend(last);
                    Err(LatestError::Unaccepted {
                        accepted: None,
                        candidates: lineages,
                    })
                }
            };
        };
        let word = word
            .acceptance
            .as_ref()
            .map_err(|damaged| LatestError::WordUnreadable {
                word: Box::new(damaged.clone()),
            })?;
        if lineages.iter().any(|l| !word.known.contains(&l.id)) {
            // What was judged before is out of the question.
            lineages.retain(|l| l.id == word.accepted || !word.known.contains(&l.id));
            return Err(LatestError::Unaccepted {
                accepted: Some(word.accepted.clone()),
                candidates: lineages,
            });
        }
        match lineages.iter().find(|l| l.id == word.accepted) {
            Some(lineage) => Ok(lineage.clone()),
            None => Err(LatestError::AcceptedIsGone {
                accepted: word.accepted.clone(),
                candidates: lineages,
            }),
        }
    }

    /// The histories that the operator has not judged: those that came after his last word, or, without one, after the first.
    pub fn unjudged(&self) -> Vec<Lineage> {
        let mut lineages = self.lineages();
        match self.last_word.as_ref().map(|word| &word.acceptance) {
            Some(Ok(word)) => lineages.retain(|lineage| !word.known.contains(&lineage.id)),
            Some(Err(_)) => {}
            None => drop(lineages.drain(..lineages.len().min(1))),
        }
        lineages
    }

    /// Whether backups have gone on by `now` in another history than the accepted one since that was accepted.
    pub fn astray(&self, now: Timestamp) -> Option<Astray> {
        let word = self.last_word.as_ref()?.acceptance.as_ref().ok()?;
        // What a clock dates that was ahead tells nothing.
        let past = self
            .backups()
            .iter()
            .filter(|backup| backup.manifest().first_byte_at <= now);
        let newest = past.max_by_key(|backup| backup.manifest().first_byte_at)?.manifest();
        let is_since = newest.first_byte_at.duration_since(word.accepted_at) > CLOCKS_DIFFER_BY;
        let is_since = is_since && newest.lineage != word.accepted;
        let is_judged = || word.known.contains(&newest.lineage);
        let runs =
            (is_since && is_judged()).then(|| self.lineages().into_iter().find(|l| l.id == newest.lineage))??;
        Some(Astray {
            runs,
            accepted: word.accepted.clone(),
        })
    }

    /// The newest good backup of the accepted lineage: the one with the highest revision, whatever the clocks said.
    pub fn latest(&self) -> Result<&Backup, LatestError> {
        let lineage = self.accepted_lineage()?;
        self.backups()
            .iter()
            .filter(|b| b.manifest().lineage == lineage.id && b.is_good())
            .max_by_key(|b| b.newness())
            .ok_or(LatestError::NothingGood { lineage })
    }

    /// The backup that `id` names: `CHAIN`, the beginning of one or its last eight digits, or each with `:REVISION`.
    pub fn find(&self, id: &str) -> Result<&Backup, FindError> {
        let not_found = || FindError::NotFound {
            id: id.chars().take(120).collect(),
        };
        let (prefix, revision) = match id.split_once(':') {
            Some((prefix, revision)) => (prefix, Some(revision.parse::<Revision>().map_err(|_| not_found())?)),
            None => (id, None),
        };
        if prefix.is_empty() {
            return Err(not_found());
        }
        let mut found: Vec<&Backup> = self.backups().iter().filter(|b| is_called(b.id(), prefix)).collect();
        let lost: Vec<(&Damaged, &ChainPath)> = self
            .lost()
            .filter(|(_, chain, _)| is_called(&chain.chain, prefix))
            .map(|(damaged, chain, _)| (damaged, chain))
            .collect();
        let mut chains: Vec<ChainPath> = found.iter().map(|b| b.manifest().chain_path()).collect();
        chains.extend(lost.iter().map(|(_, chain)| (*chain).clone()));
        chains.sort();
        chains.dedup();
        if chains.len() > 1 {
            let id = id.to_owned();
            return Err(FindError::Ambiguous { id, chains });
        }
        match (found.pop(), lost.first(), revision) {
            (Some(backup), _, Some(revision)) if revision != backup.revision() => Err(FindError::NoSuchPoint {
                chain: backup.id().clone(),
                revision,
                has: backup.revision(),
            }),
            (Some(backup), _, _) => Ok(backup),
            (None, Some((damaged, _)), _) => Err(FindError::Damaged {
                id: id.to_owned(),
                damaged: Box::new((*damaged).clone()),
            }),
            (None, None, _) => {
                let is_meant = |stranger: &&Stranger| {
                    let chain = stranger.object.chain().filter(|_| stranger.object.is_manifest());
                    chain.is_some_and(|path| is_called(&path.chain, prefix))
                };
                Err(match self.strangers().iter().find(is_meant) {
                    Some(stranger) => FindError::Stranger {
                        id: id.to_owned(),
                        stranger: Box::new(stranger.clone()),
                    },
                    None => not_found(),
                })
            }
        }
    }

    /// The chains that `id` may name and of which no destination has the full backup, only what follows it.
    pub fn headless_called(&self, id: &str) -> Vec<ChainPath> {
        let prefix = id.split_once(':').map_or(id, |(prefix, _)| prefix);
        let has_full = |chain: &ChainPath| {
            self.backups()
                .iter()
                .any(|backup| backup.manifest().chain_path() == *chain)
        };
        let called = self.headless().iter().map(|headless| &headless.chain);
        let called = called.filter(|chain| !prefix.is_empty() && is_called(&chain.chain, prefix) && !has_full(chain));
        let mut chains: Vec<ChainPath> = called.cloned().collect();
        chains.sort();
        chains.dedup();
        chains
    }

    /// The document that says that `lineage` is meant, and its name: the same in every destination.
    pub fn accept(
        &self,
        lineage: &LineageId,
        now: Timestamp,
        host: &HostName,
        note: Option<String>,
    ) -> Result<(ObjectName, Acceptance), FindError> {
        let mut known: Vec<LineageId> = self.lineages().into_iter().map(|l| l.id).collect();
        if !known.contains(lineage) {
            let lineage = lineage.clone();
            return Err(FindError::NoSuchLineage { lineage });
        }
        if let Some(Ok(word)) = self.last_word.as_ref().map(|word| &word.acceptance) {
            // Histories that are gone were judged all the same, and may still be in a destination that is away.
            known.extend(word.known.iter().cloned());
        }
        known.sort();
        known.dedup();
        let acceptance = Acceptance {
            format: FORMAT,
            accepted: lineage.clone(),
            known,
            accepted_at: now,
            host: host.to_string(),
            note,
        };
        let mut number = self.last_word.as_ref().map_or(0, |word| word.number).saturating_add(1);
        let of_strangers = self.strangers().iter().filter_map(|stranger| match stranger.object {
            ObjectName::Acceptance(taken) => Some(taken),
            _ => None,
        });
        let of_strangers: BTreeSet<u32> = of_strangers.collect();
        while of_strangers.contains(&number) && number < u32::MAX {
            number = number.saturating_add(1);
        }
        Ok((ObjectName::Acceptance(number), acceptance))
    }

    /// Whether the last word in here is this one: the same lineage, and no judgement less.
    pub fn holds_word(&self, word: &Acceptance) -> bool {
        let own = self.last_word.as_ref().and_then(|own| own.acceptance.as_ref().ok());
        own.is_some_and(|own| {
            own.accepted == word.accepted && word.known.iter().all(|lineage| own.known.contains(lineage))
        })
    }

    fn nothing_readable(&self) -> LatestError {
        let count = self.lost().count();
        match self.lost().next() {
            Some((first, _, _)) => LatestError::OnlyDamaged {
                count,
                first: Box::new(first.clone()),
            },
            None => {
                let mut strangers = self.strangers().iter().filter(|stranger| stranger.object.is_manifest());
                match (strangers.next().cloned().map(Box::new), strangers.count()) {
                    (Some(first), others) => LatestError::OnlyStrangers {
                        count: others.saturating_add(1),
                        first,
                    },
                    (None, _) => LatestError::Empty,
                }
            }
        }
    }

    /// Takes `only` for the history there ever was, unless the names of unreadable manifests tell of another.
    fn only_ever(&self, only: Lineage) -> Result<Lineage, LatestError> {
        let of_cluster = |chain: &ChainPath| only.id.to_string().starts_with(&format!("{}-", chain.cluster));
        let earlier = self.lost().find(|(_, chain, revision)| {
            !of_cluster(chain) || (chain.chain < only.first && *revision > only.first_revision)
        });
        match earlier.map(|(damaged, _, _)| Box::new(damaged.clone())) {
            Some(earlier) => Err(LatestError::EarlierUnreadable { lineage: only, earlier }),
            None => Ok(only),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Manifest;
    use super::super::tests::Fixture;
    use super::*;
    use crate::layout::Proof;
    use crate::layout::manifest::tests::manifest;
    use crate::model::ClusterId;

    /// Three backups of one history, then one of an etcd that came back empty.
    fn history() -> (Vec<Manifest>, Manifest) {
        let mut old: Vec<Manifest> = [("20261120T101530Z-00000001", 10), ("20261120T111530Z-00000002", 25)]
            .map(|(chain, revision)| manifest(0xab, chain, revision))
            .into();
        // Taken later from a member that lagged behind.
        old.push(manifest(0xab, "20261120T121530Z-00000003", 20));
        let lineage = old[0].lineage.clone();
        old.iter_mut().for_each(|m| m.lineage = lineage.clone());
        (old, manifest(0xab, "20261121T101530Z-00000004", 1))
    }

    fn with_history() -> Fixture {
        history().0.iter().fold(Fixture::default(), Fixture::backup)
    }

    #[test]
    fn latest_is_the_highest_revision_not_the_last_name() {
        let catalog = with_history().catalog("local");
        assert_eq!(catalog.latest().unwrap().id().as_str(), "20261120T111530Z-00000002");
    }

    #[test]
    fn histories_that_were_opened_within_a_second_are_in_the_order_of_their_first_bytes() {
        let [mut wiped, mut full] =
            ["20261120T101530Z-00000001", "20261120T101530Z-00000002"].map(|chain| manifest(0xab, chain, 10));
        full.first_byte_at = "2026-11-20T10:15:30.2Z".parse().unwrap();
        wiped.first_byte_at = "2026-11-20T10:15:30.7Z".parse().unwrap();
        let catalog = Fixture::default().backup(&wiped).backup(&full).catalog("local");
        let ids: Vec<_> = catalog.lineages().into_iter().map(|lineage| lineage.id).collect();
        assert_eq!(ids, [full.lineage, wiped.lineage]);
    }

    #[test]
    fn latest_passes_over_what_is_known_to_be_bad() {
        let (old, _) = history();
        let catalog = with_history()
            .check(&old[1], "2026-11-22T00:00:00Z", false, Proof::None)
            .catalog("local");
        assert_eq!(catalog.latest().unwrap().id(), &old[2].chain);

        let only = Fixture::default()
            .backup(&old[0])
            .check(&old[0], "2026-11-22T00:00:00Z", false, Proof::None)
            .catalog("local");
        assert!(matches!(only.latest(), Err(LatestError::NothingGood { .. })));
    }

    #[test]
    fn an_empty_store_has_no_latest() {
        assert_eq!(Catalog::default().latest(), Err(LatestError::Empty));
    }

    #[test]
    fn damaged_manifests_alone_are_not_an_empty_store() {
        let (old, _) = history();
        let catalog = Fixture::default().rotten(&old[0]).rotten(&old[1]).catalog("local");
        assert!(matches!(
            catalog.latest(),
            Err(LatestError::OnlyDamaged { count: 2, .. })
        ));
    }

    #[test]
    fn a_wiped_etcd_never_becomes_latest_by_itself() {
        let (old, wiped) = history();
        let catalog = with_history().backup(&wiped).catalog("local");
        let error = catalog.latest().unwrap_err();
        let LatestError::Unaccepted { accepted, candidates } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*accepted, None);
        let ids: Vec<_> = candidates.iter().map(|l| (&l.id, l.backups)).collect();
        assert_eq!(ids, [(&old[0].lineage, 3), (&wiped.lineage, 1)]);
        let newest_first: Vec<_> = error.candidates().map(|lineage| &lineage.id).collect();
        assert_eq!(newest_first, [&wiped.lineage, &old[0].lineage]);
        assert_eq!(catalog.find(wiped.chain.as_str()).unwrap().id(), &wiped.chain);
    }

    #[test]
    fn the_last_word_decides_until_another_history_appears() {
        let (old, wiped) = history();
        let (a, b) = (&old[0].lineage, &wiped.lineage);
        let accepted_new = || {
            with_history()
                .backup(&wiped)
                .accepted(1, a, &[a, b], "2026-11-21T11:00:00Z")
                .accepted(2, b, &[a, b], "2026-11-21T12:00:00Z")
        };
        assert_eq!(accepted_new().catalog("local").latest().unwrap().id(), &wiped.chain);

        let third = manifest(0xcd, "20261122T101530Z-00000005", 99);
        let catalog = accepted_new().backup(&third).catalog("local");
        let Err(LatestError::Unaccepted { accepted, candidates }) = catalog.latest() else {
            panic!("{:?}", catalog.latest());
        };
        let named: Vec<_> = candidates.iter().map(|lineage| &lineage.id).collect();
        assert_eq!(
            (accepted.as_ref(), named),
            (Some(b), vec![b, &third.lineage]),
            "what was judged is out of the question"
        );
        let unjudged: Vec<_> = catalog.unjudged().into_iter().map(|lineage| lineage.id).collect();
        assert_eq!(unjudged, [third.lineage]);
    }

    #[test]
    fn of_the_histories_that_may_be_meant_the_empty_ones_come_last() {
        let (_, mut wiped) = history();
        wiped.keys = Some(0);
        let error = with_history().backup(&wiped).catalog("local").latest().unwrap_err();
        let newest: Vec<_> = error.candidates().map(|lineage| lineage.keys).collect();
        assert_eq!(newest, [Some(12), Some(0)]);
    }

    #[test]
    fn backups_that_go_on_in_a_history_that_was_not_accepted_are_astray() {
        let (full, wiped) = history();
        let (a, b) = (&full[0].lineage, &wiped.lineage);
        let word = |accepted| with_history().accepted(1, accepted, &[a, b], "2026-11-25T12:00:00Z");
        let now = "2026-11-27T12:00:00Z".parse().unwrap();
        let taken = |at: &str, lineage: &LineageId| {
            let mut since = manifest(0xab, "20261126T101530Z-00000009", 12);
            since.first_byte_at = at.parse().unwrap();
            since.lineage = lineage.clone();
            since
        };
        let of_wiped = taken("2026-11-26T10:15:31Z", b);
        let astray = |fixture: Fixture| fixture.catalog("local").astray(now);
        assert_eq!(astray(with_history().backup(&of_wiped)), None, "nothing was said");
        assert_eq!(astray(word(a)), None, "none was taken since");
        assert_eq!(astray(word(b).backup(&of_wiped)), None);
        let found = astray(word(a).backup(&of_wiped)).unwrap();
        assert_eq!((&found.runs.id, &found.accepted), (b, a));
        assert_eq!(
            astray(word(a).backup(&taken("2026-11-26T10:15:31Z", a))),
            None,
            "it was brought back"
        );
        for skewed in ["2026-11-25T12:09:00Z", "2026-11-28T12:00:00Z"] {
            assert_eq!(
                astray(word(a).backup(&taken(skewed, b))),
                None,
                "by a clock that differs: {skewed}"
            );
        }
    }

    #[test]
    fn a_word_that_cannot_be_read_is_not_passed_over() {
        let (old, _) = history();
        let a = &old[0].lineage;
        let fixture = with_history()
            .accepted(1, a, &[a], "2026-11-21T11:00:00Z")
            .document(&ObjectName::Acceptance(2), b"rotten".to_vec());
        let catalog = fixture.catalog("local");
        assert!(matches!(catalog.latest(), Err(LatestError::WordUnreadable { .. })));
        assert_eq!(catalog.damaged().len(), 1);

        let good = with_history()
            .accepted(1, a, &[a], "2026-11-21T11:00:00Z")
            .catalog("far");
        let merged = Catalog::merge([good, catalog]);
        assert!(matches!(merged.latest(), Err(LatestError::WordUnreadable { .. })));
        let (name, _) = merged
            .accept(a, Timestamp::UNIX_EPOCH, &HostName::nearest("a"), None)
            .unwrap();
        assert_eq!(name, ObjectName::Acceptance(3), "above every number that is in use");
    }

    #[test]
    fn of_two_destinations_the_word_given_later_counts() {
        let (old, wiped) = history();
        let (a, b) = (&old[0].lineage, &wiped.lineage);
        let both = || with_history().backup(&wiped);
        let early = || both().accepted(7, a, &[a, b], "2026-11-21T11:00:00Z").catalog("early");
        let late = || both().accepted(1, b, &[a, b], "2026-11-21T12:00:00Z").catalog("late");
        let silent = || both().catalog("silent");
        for order in [[early(), late(), silent()], [silent(), late(), early()]] {
            assert_eq!(Catalog::merge(order).latest().unwrap().id(), &wiped.chain);
        }
    }

    #[test]
    fn accepting_makes_latest_answer_again() {
        let (old, wiped) = history();
        let catalog = with_history().backup(&wiped).catalog("local");
        let host = HostName::nearest("a");
        for (meant, latest) in [(&old[0].lineage, &old[1].chain), (&wiped.lineage, &wiped.chain)] {
            let (name, word) = catalog.accept(meant, Timestamp::UNIX_EPOCH, &host, None).unwrap();
            let accepted = with_history()
                .backup(&wiped)
                .document(&name, word.to_bytes())
                .catalog("local");
            assert_eq!(accepted.latest().unwrap().id(), latest);
        }
        let nobody = LineageId::opened_by(ClusterId(1), &wiped.chain);
        let error = catalog.accept(&nobody, Timestamp::UNIX_EPOCH, &host, None).unwrap_err();
        assert_eq!(error, FindError::NoSuchLineage { lineage: nobody });
    }

    #[test]
    fn an_accepted_lineage_without_backups_is_not_replaced_by_another() {
        let (old, wiped) = history();
        let (a, b) = (&old[0].lineage, &wiped.lineage);
        let catalog = Fixture::default()
            .backup(&wiped)
            .accepted(1, a, &[a, b], "2026-11-21T11:00:00Z")
            .catalog("local");
        assert!(matches!(catalog.latest(), Err(LatestError::AcceptedIsGone { .. })));
    }

    #[test]
    fn a_full_history_with_rotten_manifests_is_not_displaced_by_an_empty_one() {
        let (old, wiped) = history();
        let displaced = Fixture::default().rotten(&old[1]).backup(&wiped).catalog("local");
        assert!(matches!(displaced.latest(), Err(LatestError::EarlierUnreadable { .. })));
        let elsewhere = manifest(0xcd, "20261122T101530Z-00000005", 99);
        let displaced = Fixture::default().rotten(&elsewhere).backup(&wiped).catalog("local");
        assert!(matches!(displaced.latest(), Err(LatestError::EarlierUnreadable { .. })));
    }

    #[test]
    fn one_rotten_manifest_does_not_hide_the_rest_of_its_history() {
        let (old, _) = history();
        let oldest_rotten = Fixture::default().rotten(&old[0]).backup(&old[1]).catalog("local");
        assert_eq!(oldest_rotten.latest().unwrap().id(), &old[1].chain);
        let newest_rotten = Fixture::default().backup(&old[0]).rotten(&old[1]).catalog("local");
        assert_eq!(newest_rotten.latest().unwrap().id(), &old[0].chain);
        assert_eq!(newest_rotten.damaged().len(), 1);
        let good_elsewhere = Catalog::merge([newest_rotten, Fixture::default().backup(&old[1]).catalog("far")]);
        assert_eq!(good_elsewhere.latest().unwrap().id(), &old[1].chain);
    }

    #[test]
    fn ids_are_found_by_unique_beginnings() {
        let (old, _) = history();
        let catalog = with_history()
            .rotten(&manifest(0xab, "20261123T101530Z-00000009", 5))
            .catalog("local");
        for id in [
            "20261120T111530Z-00000002",
            "20261120T11",
            "20261120T11:25",
            "20261120T111530Z-00000002:25",
        ] {
            assert_eq!(catalog.find(id).unwrap().id(), &old[1].chain, "{id}");
        }
        for id in [
            "",
            ":25",
            "latest",
            "20261120T11:",
            "20261120T11:x",
            "20261120T11:-1",
            "x",
        ] {
            assert!(matches!(catalog.find(id), Err(FindError::NotFound { .. })), "{id}");
        }
        match catalog.find("20261120") {
            Err(FindError::Ambiguous { chains, .. }) => assert_eq!(chains.len(), 3),
            other => panic!("{other:?}"),
        }
        match catalog.find("2026112") {
            Err(FindError::Ambiguous { chains, .. }) => assert_eq!(chains.len(), 4),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            catalog.find("20261120T11:24"),
            Err(FindError::NoSuchPoint { .. })
        ));
        assert!(matches!(catalog.find("20261123"), Err(FindError::Damaged { .. })));
    }
}
