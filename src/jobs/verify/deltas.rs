//! What follows the copies of a backup: read, and said what is wrong with it and what to do.

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::catalog::{Backup, Following, Piece};
use crate::error_chain::with_causes;
use crate::layout::{Manifest, ObjectName};
use crate::model::{ChainId, Digest, Revision};
use crate::pipeline::Identities;
use crate::source::delta::Belongs;
use crate::text::count;
use crate::verify::{Behind, Chain, Copy, Going, Opened, behind};

/// What follows one copy of a backup, as programs see it.
#[derive(Debug, Serialize)]
pub struct CheckedDeltas {
    /// Whether all that was read is good, and nothing is missing.
    pub ok: bool,
    /// The last revision that is there by the names.
    pub to_revision: Revision,
    /// The last one that nothing found here is in the way of.
    pub good_to_revision: Revision,
    /// How many objects were read.
    pub objects: u64,
    /// How large they are.
    pub stored_bytes: u64,
    /// Whether they were opened.
    pub opened: bool,
    /// Why their records were not looked at, where they were not opened.
    pub not_opened: Option<String>,
    /// How many were not reached, because there was no time.
    pub left: u64,
    /// What is wrong.
    pub faults: Vec<DeltaFault>,
    /// What to do.
    pub next: Option<String>,
}

/// Something that is wrong with what follows a backup.
#[derive(Debug, Serialize)]
pub struct DeltaFault {
    /// The object; null where revisions are missing.
    pub object: Option<String>,
    /// What is wrong.
    pub fault: String,
    /// The last revision before it that is reached without it; null where others hold the same.
    pub good_to_revision: Option<Revision>,
}

impl DeltaFault {
    /// In words.
    pub fn words(&self) -> String {
        match self.good_to_revision {
            Some(good) => format!("{}; revision {good} is the last good one before it", self.fault),
            None => format!("{}; nothing depends on it, other objects hold the same", self.fault),
        }
    }
}

impl CheckedDeltas {
    /// What is wrong, in words.
    pub fn words(&self) -> Vec<String> {
        self.faults.iter().map(DeltaFault::words).collect()
    }

    /// That it is good as far as it was read, in words.
    pub fn good(&self) -> String {
        let objects = count(self.objects, "object");
        let left = match self.left {
            0 => String::new(),
            left => format!("; {} not reached in time", count(left, "object")),
        };
        let good = self.good_to_revision;
        match &self.not_opened {
            None => format!("{objects} intact (decrypted), every point to revision {good}{left}"),
            Some(why) => format!(
                "{objects} intact, every point to revision {good} by names and heads (records were not opened: {why}){left}"
            ),
        }
    }
}

/// How what follows a backup is read.
pub(super) struct Reading<'a> {
    pub backup: &'a Backup,
    pub manifest: &'a Manifest,
    /// The bytes of the manifest, as they are stored.
    pub document: &'a [u8],
    pub identities: Option<&'a Identities>,
    /// After that no object is begun; then it is begun with another one each time.
    pub until: Option<Timestamp>,
    pub now: fn() -> Timestamp,
}

impl Reading<'_> {
    /// Reads what follows each copy; none of one that nothing follows, or that is gone.
    pub fn read(
        &self,
        copies: &[Copy<'_>],
        mut each: impl FnMut(u64) -> std::ops::ControlFlow<()>,
    ) -> Vec<Option<Behind>> {
        let (mut opened, mut found) = (Opened::default(), Vec::new());
        let may_begin = || self.until.is_none_or(|until| (self.now)() < until);
        for copy in copies {
            let there = self
                .backup
                .copies
                .iter()
                .find(|there| there.destination == copy.destination);
            let links = there.map_or(&[][..], |there| there.links.as_slice());
            if links.is_empty()
                || found
                    .last()
                    .is_some_and(|before: &Option<Behind>| before.as_ref().is_some_and(|b| b.is_cut))
            {
                found.push(None);
                continue;
            }
            let chain = Chain {
                store: copy.store,
                belongs: Belongs {
                    chain: self.manifest.chain_path(),
                    lineage: self.manifest.lineage.clone(),
                },
                base: self.manifest.to_revision,
                manifest: Digest(Sha256::digest(self.document).into()),
                links,
                identities: self.identities,
                begin_with: self.until.map_or(0, |_| self.anywhere(copy)),
            };
            let going = Going {
                each: &mut each,
                may_begin: &may_begin,
            };
            found.push(behind(&chain, &mut opened, going));
        }
        found
    }

    /// A number that is another one each time.
    fn anywhere(&self, copy: &Copy<'_>) -> usize {
        let seed = format!("{} {} {}", self.manifest.chain, copy.destination, (self.now)());
        let digest = Sha256::digest(seed);
        digest
            .iter()
            .take(4)
            .fold(0, |number, byte| (number << 8) | usize::from(*byte))
    }
}

/// Why records were not opened that could have been.
fn why_unopened(behind: &Behind, full: Option<&str>) -> Option<String> {
    let of_deltas = behind.unopened.as_ref().map(|error| with_causes(error));
    (!behind.is_opened).then(|| of_deltas.or(full.map(str::to_owned)).unwrap_or_default())
}

/// What was found behind each copy, as it is told; `unopened` is why the full backup was not opened.
pub(super) fn told(
    backup: &Backup,
    found: &[(&str, Option<&Behind>)],
    unopened: Option<&str>,
) -> Vec<Option<CheckedDeltas>> {
    let checked = found.iter().map(|(name, behind)| {
        let behind = (*behind)?;
        let faults = behind.faults.iter().map(|fault| DeltaFault {
            object: fault.object.as_ref().map(ObjectName::to_string),
            fault: fault.what.clone(),
            good_to_revision: fault.good_to,
        });
        Some(CheckedDeltas {
            ok: behind.faults.is_empty(),
            to_revision: behind.listed_to,
            good_to_revision: behind.good_to,
            objects: behind.objects,
            stored_bytes: behind.bytes,
            opened: behind.is_opened,
            not_opened: why_unopened(behind, unopened),
            left: behind.left,
            faults: faults.collect(),
            next: (!behind.faults.is_empty()).then(|| next_step(backup, found, name, behind)),
        })
    });
    checked.collect()
}

/// What to do about what is wrong behind the copy in the destination `here`.
fn next_step(backup: &Backup, found: &[(&str, Option<&Behind>)], here: &str, behind: &Behind) -> String {
    if behind.faults.iter().all(|fault| fault.good_to.is_none()) {
        return "a restore passes it over".to_owned();
    }
    let is_bad = |destination: &str, name: &ObjectName| {
        let of = found.iter().filter(|(found, _)| *found == destination);
        let faults = of.filter_map(|(_, behind)| *behind).flat_map(|behind| &behind.faults);
        faults
            .filter_map(|fault| fault.object.as_ref())
            .any(|object| object == name)
    };
    let is_good = |piece: &Piece| {
        piece
            .destinations
            .iter()
            .any(|destination| !is_bad(destination, &piece.name))
    };
    let all = Following::of(backup);
    let to = all.window().behind.unwrap_or(all.window().to).max(behind.listed_to);
    let id = backup.id();
    match all.plan_from(all.base(), to, is_good) {
        Err(hole) => format!(
            "points behind revision {} of this chain cannot be restored: `lifeboat backup` begins a new one",
            hole.reached
        ),
        Ok(_) => {
            let others = found
                .iter()
                .filter(|(name, other)| *name != here && other.is_some_and(|b| b.good_to >= to));
            let removed = match behind.faults.iter().any(|fault| fault.object.is_some()) {
                true => "remove what is damaged, and ",
                false => "",
            };
            match others.map(|(name, _)| *name).next() {
                Some(other) => format!(
                    "a restore takes it from {other}; to mend it here: {removed}`lifeboat copy --from {other} --to {here} {id}`"
                ),
                None => "a restore takes it from other destinations".to_owned(),
            }
        }
    }
}

/// How many faults of what follows a copy are named where they are written down or told, and what is said of more.
const MOST_NAMED: usize = 20;
const MORE: &str = "and more";

/// What the check of a copy says of what follows it. Where not all of it was read, what was known `before` still is.
pub(super) fn recorded(found: Option<&CheckedDeltas>, is_all: bool, before: &[String]) -> Vec<String> {
    let mut faults = found.map_or_else(Vec::new, CheckedDeltas::words);
    if !is_all {
        let known: Vec<String> = before.iter().filter(|fault| !faults.contains(fault)).cloned().collect();
        faults.extend(known);
    }
    named(faults)
}

fn named(mut faults: Vec<String>) -> Vec<String> {
    let all = faults.len();
    faults.retain(|fault| fault != MORE);
    let is_cut = faults.len() < all || faults.len() > MOST_NAMED;
    faults.truncate(MOST_NAMED);
    faults.extend(is_cut.then(|| MORE.to_owned()));
    faults
}

/// What is wrong behind copies of a backup, for whoever reads the journal.
pub(super) fn wrong(id: &ChainId, name: &str, deltas: &CheckedDeltas) -> Option<String> {
    (!deltas.ok).then(|| {
        let next = deltas.next.as_deref().unwrap_or_default();
        format!(
            "deltas of {id} are bad in {name}: {}: {next}",
            named(deltas.words()).join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stays_known_until_all_was_read_again_and_never_fills_a_check() {
        let before = ["a is damaged".to_owned()];
        assert_eq!(recorded(None, false, &before), before);
        assert!(recorded(None, true, &before).is_empty());
        let many: Vec<String> = (0..5000).map(|number| format!("{number} is damaged")).collect();
        let said = recorded(None, false, &many);
        assert_eq!(said.len(), MOST_NAMED + 1);
        assert_eq!(said.last().map(String::as_str), Some(MORE));
        // Read again, what is known does not double.
        assert_eq!(recorded(None, false, &said), said);
    }
}
