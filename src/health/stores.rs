//! What lies in the destinations, and what is wrong with it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::proof::required_of;
use super::{About, BehindState, Event, LaneState, Notice, Owed, last_proof, unproven_since};
use crate::catalog::{Backup, BackupCopy, Catalog, Following, LatestError, RolledBack, Standing};
use crate::error_chain::with_causes;
use crate::layout::Proof;
use crate::model::{ChainId, LineageId, Revision};
use crate::text::Length;

/// What was read of the destinations of a cluster.
#[derive(Debug, Clone)]
pub struct Stores<'a> {
    /// The backups in all that could be read.
    pub catalog: &'a Catalog,
    /// Each destination of the configuration.
    pub destinations: Vec<Destination>,
    /// Those that show less than this host has seen in them.
    pub rolled_back: &'a [RolledBack],
    /// How far each backup must be proven.
    pub required: Proof,
    /// When it was read, by the host's clock.
    pub read_at: Timestamp,
}

/// One destination, as it was found.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Why it, or a part of it, could not be read.
    pub unreadable: Vec<String>,
    /// Why it could not be written to, if that was tried.
    pub unwritable: Option<String>,
    /// How long backups in it may go without the proof that is required.
    pub proof_within: Duration,
    /// What can still be written, and how large the store is, where it says so.
    pub free_and_total_bytes: Option<(u64, u64)>,
    /// When what proves to it who asks runs out, where that says so itself.
    pub credentials_expire_at: Option<Timestamp>,
    /// Why that could not be read again: the last that could be is used.
    pub credentials_trouble: Option<String>,
    /// What it lacks that others have, a schedule each, where that is known.
    pub behind: Option<Vec<Owed>>,
}

/// The facts about all destinations, without the backups themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoresState {
    /// When they were read.
    pub read_at: Timestamp,
    /// Each destination that is configured.
    pub destinations: Vec<DestinationState>,
    /// What can be restored, one for each history.
    pub windows: Vec<Window>,
    /// What `latest` names.
    pub latest: Option<BackupState>,
    /// The newest backup that was verified.
    pub last_proof: Option<ProofState>,
    /// The certificates that the configuration names.
    #[serde(default)]
    pub certificates: Vec<CertificateState>,
}

/// A file with certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateState {
    /// The key of the configuration that names it.
    pub key: String,
    /// When the first of them expires.
    pub expires_at: Timestamp,
}

/// What lies in one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationState {
    /// Its name.
    pub name: String,
    /// Whether all of it could be read.
    pub is_readable: bool,
    /// How many backups are in it.
    pub backups: u64,
    /// How many of them are not good.
    pub bad: u64,
    /// The newest that is good.
    pub newest: Option<BackupState>,
    /// When the newest was taken that is proven as far as is required, and when that was checked.
    pub newest_proven: Option<Timestamp>,
    /// The bytes of all backups as they are stored.
    pub stored_bytes: u64,
    /// What can still be written to it.
    pub free_bytes: Option<u64>,
    /// How large the store is.
    pub total_bytes: Option<u64>,
    /// When what proves to it who asks runs out, where that says so itself.
    #[serde(default)]
    pub credentials_expire_at: Option<Timestamp>,
    /// How far it is behind; none where it could not be read.
    #[serde(default)]
    pub behind: Option<BehindState>,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupState {
    /// Its id.
    pub id: ChainId,
    /// Its revision.
    pub revision: Revision,
    /// When its first byte came.
    pub taken_at: Timestamp,
    /// The size of the snapshot.
    pub bytes: u64,
    /// The size of the object.
    pub stored_bytes: u64,
    /// How far it is proven.
    pub proof: Proof,
}

/// What can be restored of one history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The history.
    pub lineage: LineageId,
    /// Whether it is the one that `latest` is of.
    pub accepted: bool,
    /// How many points there are.
    pub points: u64,
    /// The lowest revision.
    pub from_revision: Revision,
    /// The highest revision.
    pub to_revision: Revision,
    /// When the lowest was taken.
    pub from_time: Timestamp,
    /// When the highest was taken.
    pub to_time: Timestamp,
    /// From which revision on every point up to the highest can be restored, where changes lead to it.
    #[serde(default)]
    pub every_point_from: Option<Revision>,
    /// When that revision was taken.
    #[serde(default)]
    pub every_point_from_time: Option<Timestamp>,
}

impl Window {
    /// Its end by now: what was stored of changes since the destinations were read moves it, where they follow the `newest`
    /// backup. Of a chain of another history nothing follows for this one.
    pub fn end_by_now(&self, newest: Option<&ChainId>, lanes: &[LaneState]) -> (Revision, Timestamp) {
        let lanes = lanes
            .iter()
            .filter(|lane| lane.chain.is_some() && lane.chain.as_ref() == newest);
        let stored = lanes.flat_map(|lane| &lane.destinations);
        let stored = stored.filter_map(|there| there.stored_to.zip(there.stored_at)).max();
        let (revision, time) = (self.to_revision, self.to_time);
        stored.map_or((revision, time), |(to, at)| (to.max(revision), at.max(time)))
    }
}

/// A backup that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofState {
    /// The backup.
    pub id: ChainId,
    /// How far it is proven.
    pub proof: Proof,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// When it was checked.
    pub checked_at: Timestamp,
}

impl BackupState {
    fn of(backup: &Backup) -> BackupState {
        let manifest = backup.manifest();
        BackupState {
            id: backup.id().clone(),
            revision: backup.revision(),
            taken_at: manifest.first_byte_at,
            bytes: manifest.plain.bytes,
            stored_bytes: manifest.stored.bytes,
            proof: backup.proof(),
        }
    }
}

impl Stores<'_> {
    /// What there is.
    pub fn state(&self) -> StoresState {
        let last_proof = last_proof(self.catalog);
        StoresState {
            read_at: self.read_at,
            destinations: self.destinations.iter().map(|found| self.destination(found)).collect(),
            windows: self.windows(),
            latest: self.catalog.latest().ok().map(BackupState::of),
            last_proof: last_proof.map(|last| ProofState {
                id: last.backup.id().clone(),
                proof: last.proof,
                taken_at: last.backup.manifest().first_byte_at,
                checked_at: last.checked_at,
            }),
            certificates: Vec::new(),
        }
    }

    fn destination(&self, found: &Destination) -> DestinationState {
        let here = || {
            let backups = self.catalog.backups().iter();
            backups.filter_map(|backup| {
                let copy = backup.copies.iter().find(|copy| copy.destination == found.name)?;
                Some((backup, copy))
            })
        };
        let taken = |backup: &Backup| backup.manifest().first_byte_at;
        let newest = |is_proven: &dyn Fn(&BackupCopy) -> bool| {
            let proven = here().filter(|(_, copy)| is_proven(copy));
            proven.max_by_key(|(backup, _)| (taken(backup), backup.id()))
        };
        let newest_good = newest(&BackupCopy::is_good).map(|(backup, copy)| BackupState {
            proof: copy.standing.proof(),
            ..BackupState::of(backup)
        });
        let is_proven = |copy: &BackupCopy| copy.standing.proof() >= required_of(copy, self.required);
        DestinationState {
            name: found.name.clone(),
            is_readable: found.unreadable.is_empty(),
            backups: here().count() as u64,
            bad: here().filter(|(_, copy)| !copy.is_good()).count() as u64,
            newest: newest_good,
            newest_proven: newest(&is_proven).map(|(backup, _)| taken(backup)),
            stored_bytes: here().map(|(backup, _)| backup.manifest().stored.bytes).sum(),
            free_bytes: found.free_and_total_bytes.map(|(free, _)| free),
            total_bytes: found.free_and_total_bytes.map(|(_, total)| total),
            credentials_expire_at: found.credentials_expire_at,
            behind: found.behind.as_deref().map(BehindState::of),
        }
    }

    fn windows(&self) -> Vec<Window> {
        let accepted = self.catalog.accepted_lineage().ok();
        let rows = self.catalog.lineages().into_iter().filter_map(|lineage| {
            let is_good = |backup: &&Backup| backup.manifest().lineage == lineage.id && backup.is_good();
            let good = || self.catalog.backups().iter().filter(is_good);
            let from = good().min_by_key(|backup| backup.revision())?;
            // The newest at the head, as far as names tell.
            let mut ends: Vec<End<'_>> = good().map(End::of).collect();
            ends.sort_by_key(|end| std::cmp::Reverse((end.backup.revision(), end.to)));
            let to = ends.iter().max_by_key(|end| (end.to, end.time))?;
            // Back through the chains that go on in one another.
            let every = ends.iter().fold(to.backup, |first, end| {
                let goes_on = end.to >= first.revision() && end.backup.revision() < first.revision();
                if goes_on { end.backup } else { first }
            });
            let every = Some(every).filter(|every| every.revision() < to.to);
            Some(Window {
                accepted: accepted.as_ref().is_some_and(|accepted| accepted.id == lineage.id),
                points: good().count() as u64,
                from_revision: from.revision(),
                to_revision: to.to,
                from_time: from.manifest().first_byte_at,
                to_time: to.time,
                every_point_from: every.map(Backup::revision),
                every_point_from_time: every.map(|every| every.manifest().first_byte_at),
                lineage: lineage.id,
            })
        });
        rows.collect()
    }

    /// What is wrong with the destinations and what is in them.
    pub fn problems(&self) -> Vec<Notice> {
        let mut problems = Vec::new();
        if self.destinations.is_empty() {
            problems.push(Notice::new(
                Event::DestinationDisabled,
                "no destination is configured".to_owned(),
            ));
        }
        problems.extend(self.destinations.iter().flat_map(unusable));
        let now = self.read_at;
        problems.extend(
            self.destinations
                .iter()
                .filter_map(|found| doubtful_credentials(found, now)),
        );
        problems.extend(self.destinations.iter().flat_map(|destination| {
            let owed = destination.behind.iter().flatten();
            owed.filter_map(|owed| owed.problem(&destination.name, self.read_at))
        }));
        problems.extend(self.not_good());
        problems.extend(self.history());
        let unproven = self.destinations.iter();
        problems.extend(unproven.filter_map(|destination| self.unproven(destination)));
        problems
    }

    /// Each backup that is not good, and each manifest that cannot be read.
    fn not_good(&self) -> Vec<Notice> {
        let damaged = self
            .catalog
            .damaged()
            .iter()
            .map(|damaged| Notice::new(Event::BackupUnproven, format!("{damaged}: {}", damaged.fault)));
        let notice = |backup: &Backup, message: String| Notice {
            event: Event::BackupUnproven,
            about: About {
                backup: Some(backup.id().to_string()),
                ..About::default()
            },
            message,
        };
        let bad = self.catalog.backups().iter().filter_map(|backup| {
            let (faults, id) = (faults(backup), backup.id());
            let told = format!(
                "backup {id} has a bad copy in {}; to give it up: `lifeboat prune --damaged {id}`",
                faults.join("; ")
            );
            (!faults.is_empty()).then(|| notice(backup, told))
        });
        let behind = self.catalog.backups().iter().filter_map(|backup| {
            let (faults, id) = (backup.faults_behind(), backup.id());
            let told = format!(
                "deltas of backup {id} are bad in {}; `lifeboat verify {id}` says what can be done",
                faults.join("; ")
            );
            (!faults.is_empty()).then(|| notice(backup, told))
        });
        damaged.chain(bad).chain(behind).collect()
    }

    /// What is wrong with the histories.
    fn history(&self) -> Option<Notice> {
        let refused = match self.catalog.latest() {
            Ok(latest) => latest.manifest().doubt.as_ref().map(|doubt| Notice {
                event: Event::BackupUnproven,
                about: About {
                    backup: Some(latest.id().to_string()),
                    ..About::default()
                },
                message: format!("the data in {} is in doubt: {doubt}", latest.id()),
            }),
            // Not known while a destination that may have one cannot be read: that is told instead.
            Err(LatestError::Empty) if self.destinations.iter().any(|found| !found.unreadable.is_empty()) => None,
            // There were some: that is told instead, and is no matter of taking another.
            Err(LatestError::Empty) if !self.rolled_back.is_empty() => None,
            Err(LatestError::Empty) => Some(Notice::new(
                Event::NoBackup,
                "there is no backup: take one with `lifeboat backup`".to_owned(),
            )),
            Err(error) => {
                let event = match &error {
                    LatestError::Unaccepted { .. }
                    | LatestError::AcceptedIsGone { .. }
                    | LatestError::EarlierUnreadable { .. } => Event::NewLineage,
                    LatestError::Empty
                    | LatestError::OnlyDamaged { .. }
                    | LatestError::OnlyStrangers { .. }
                    | LatestError::WordUnreadable { .. }
                    | LatestError::NothingGood { .. } => Event::BackupUnproven,
                };
                let message = format!("`latest` is refused: {}{}", with_causes(&error), what_to_do(&error));
                Some(Notice::new(event, message))
            }
        };
        let astray = || self.catalog.astray(self.read_at);
        refused.or_else(|| Some(Notice::new(Event::NewLineage, astray()?.to_string())))
    }

    fn unproven(&self, destination: &Destination) -> Option<Notice> {
        let Destination { name, proof_within, .. } = destination;
        let since = unproven_since(self.catalog, name, self.required)?;
        let taken = since.manifest().first_byte_at;
        let for_long = self.read_at.duration_since(taken).unsigned_abs();
        (taken <= self.read_at && for_long > *proof_within).then(|| Notice {
            event: Event::BackupUnproven,
            about: About::destination(name),
            message: format!(
                "destination {name}: no backup since {taken:.0} is proven to be {}, as `backup.require` wants within {}: run \
                 `lifeboat verify --identity FILE`",
                self.required,
                Length(*proof_within)
            ),
        })
    }
}

/// Credentials that are not what is there now, or have run out: it goes well until it does not.
fn doubtful_credentials(destination: &Destination, now: Timestamp) -> Option<Notice> {
    let name = &destination.name;
    let message = match (&destination.credentials_trouble, destination.credentials_expire_at) {
        (Some(why), _) => format!("destination {name}: the last good credentials are used: {why}"),
        (None, Some(end)) if end <= now => format!("destination {name}: its credentials ran out at {end:.0}"),
        (None, _) => return None,
    };
    Some(Notice {
        event: Event::SecretUnreadable,
        about: About::destination(name),
        message,
    })
}

fn unusable(destination: &Destination) -> Vec<Notice> {
    let name = &destination.name;
    let notice = |message: String| Notice {
        event: Event::DestinationDisabled,
        about: About::destination(name),
        message,
    };
    let unreadable = destination.unreadable.iter();
    let mut problems: Vec<Notice> = unreadable
        .map(|error| notice(format!("destination {name}: {error}")))
        .collect();
    // What cannot be read cannot be written to either: once is enough.
    if let (Some(why), true) = (&destination.unwritable, problems.is_empty()) {
        problems.push(notice(format!(
            "the agent cannot write to destination {name} and keeps trying: {why} (`lifeboat check` says what \
             is missing)"
        )));
    }
    problems
}

/// What is known to be wrong with copies of a backup, by destination.
fn faults(backup: &Backup) -> Vec<String> {
    let faults = backup.copies.iter().flat_map(|copy| match &copy.standing {
        Standing::Good(_) => Vec::new(),
        Standing::Bad(faults) => faults
            .iter()
            .map(|fault| format!("{}: {fault}", copy.destination))
            .collect(),
    });
    faults.collect()
}

fn what_to_do(error: &LatestError) -> String {
    let candidates = error.candidates().map(|lineage| {
        let keys = lineage.keys.map_or(String::new(), |keys| format!(" with {keys} keys"));
        format!(
            "`lifeboat accept-lineage {}` (backups: {}, the newest {} at revision {}{keys})",
            lineage.id, lineage.backups, lineage.newest, lineage.highest
        )
    });
    let candidates: Vec<String> = candidates.collect();
    match candidates.is_empty() {
        true => "; `lifeboat list` says what is wrong".to_owned(),
        false => format!(": confirm it with {}", candidates.join(", or ")),
    }
}
/// Where a chain ends, as far as names tell.
struct End<'a> {
    backup: &'a Backup,
    to: Revision,
    time: Timestamp,
}

impl<'a> End<'a> {
    fn of(backup: &'a Backup) -> End<'a> {
        let following = Following::of(backup);
        let window = following.window();
        let taken = backup.manifest().first_byte_at;
        let last = following.plan(window.to).ok().and_then(|plan| plan.last().copied());
        let written = last.map_or(taken, |piece| piece.written_at);
        End {
            backup,
            to: window.to,
            time: window.marked_at.unwrap_or(written).max(taken),
        }
    }
}
