//! Kept backups are made anew for the present recipients, and the old ones go when the new ones are proven.
//!
//! Of each snapshot: it is made anew in one destination, copied as it is to the others that have it, read back and opened in
//! each; then the results, the pins, and only then the old one is removed there. Each step shows in the listing, so that
//! whatever a kill has left is taken up where it was by the next run, whichever host's that is.
//!
//! Invariant: an old copy is removed only where a new one was read back and equals one that was opened in this run.

pub mod by_hand;
mod one;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tokio::runtime::Handle;

use super::named_backup::not_found;
use super::stores::blame;
use super::{Exit, Failure, Listener};
use crate::catalog::Backup;
use crate::config::Config;
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::layout::ChainPath;
use crate::model::{ChainId, Revision};
use crate::pipeline::{Encoding, Identities, Unopened};
use crate::rewrap::STALL_LIMIT;
use crate::state::State;
use one::{End, One};

/// What is the same for all backups of a run.
pub struct Run<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// What the destinations hold.
    pub destinations: &'a Destinations,
    /// What opens the old ones and the new ones.
    pub identities: &'a Identities,
    /// What this host remembers.
    pub state: &'a State,
    /// Where the pipeline waits.
    pub runtime: &'a Handle,
    /// Raised when it is to stop.
    pub stop: &'a Arc<AtomicBool>,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
}

/// What came of it, as programs see it.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// Of each snapshot of which something was to be done.
    pub rewrapped: Vec<Row>,
    /// How many were for the present recipients already.
    pub up_to_date: u64,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
    /// What else could not be done.
    pub errors: Vec<String>,
    /// How many were left when it was asked to stop.
    #[serde(skip)]
    pub stopped_before: usize,
}

/// One snapshot.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The backup that was there before.
    pub old: ChainId,
    /// The one that takes its place; none where there is none yet.
    pub new: Option<ChainId>,
    /// The revision of both.
    pub revision: Revision,
    /// The destinations that have the new one, proven.
    pub destinations: Vec<String>,
    /// The destinations from which the old one is gone.
    pub removed: Vec<String>,
    /// What waits, and needs nobody: old ones that are locked.
    pub remarks: Vec<String>,
    /// What was not done, and why.
    pub errors: Vec<String>,
}

/// The backups of one snapshot: the one that leads, and the others.
#[derive(Debug, Clone)]
pub struct Snapshot<'a> {
    leader: &'a Backup,
    others: Vec<&'a Backup>,
}

/// Refuses keys that do not open what is made for the present recipients: nothing would prove the new ones.
pub fn refuse_unproven(config: &Config, identities: Option<Identities>) -> Result<Identities, Failure> {
    let Some(identities) = identities else {
        return Err(
            Failure::new(Exit::WrongKey, "no identity is given: the backups have to be opened").next(
                "`lifeboat rewrap --identity FILE`; give several where old and new backups are for different ones",
            ),
        );
    };
    const UNPROVEN: &str = "nothing would prove the new backups before the old ones go";
    match identities.open_what_is_made_for(&config.encryption.recipients) {
        Ok(()) => Ok(identities),
        Err(Unopened::OfOthers) => Err(Failure::new(
            Exit::Refused,
            format!("none of the given identities opens what is made for [encryption] recipients: {UNPROVEN}"),
        )
        .next("give the identity of one of the recipients too: `--identity OLD --identity NEW`")),
        Err(Unopened::Untried(why)) => Err(Failure::new(
            Exit::Refused,
            format!(
                "whether a given identity opens what is made for [encryption] recipients is not known: {why}; {UNPROVEN}"
            ),
        )
        .next("mend that, or give the identity of another of the recipients")),
    }
}

/// The snapshots that are meant, the one begun first at the head: of these backups, or all.
pub fn wanted<'a>(destinations: &'a Destinations, ids: &[String]) -> Result<Vec<Snapshot<'a>>, Failure> {
    let catalog = &destinations.catalog;
    let mut families: BTreeMap<ChainPath, Snapshot<'a>> = BTreeMap::new();
    let mut led: BTreeSet<ChainPath> = BTreeSet::new();
    for family in catalog.families() {
        let [leader, others @ ..] = family.as_slice() else {
            continue;
        };
        led.extend(others.iter().map(|other| other.manifest().chain_path()));
        let others = others.to_vec();
        families.insert(leader.manifest().chain_path(), Snapshot { leader, others });
    }
    let free = catalog.backups().iter().filter_map(|backup| {
        let path = backup.manifest().chain_path();
        match families.remove(&path) {
            Some(family) => Some(family),
            None if led.contains(&path) => None,
            None => Some(Snapshot {
                leader: backup,
                others: Vec::new(),
            }),
        }
    });
    let mut snapshots: Vec<Snapshot<'a>> = free.collect();
    if !ids.is_empty() {
        let found = ids.iter().map(|id| {
            let found = catalog.find(id);
            found.map_err(|error| blame(destinations, not_found(&error)))
        });
        let found = found.collect::<Result<Vec<&Backup>, Failure>>()?;
        let is_meant = |backup: &Backup| found.iter().any(|found| std::ptr::eq(*found, backup));
        snapshots.retain(|snapshot| snapshot.all().any(is_meant));
    }
    Ok(snapshots)
}

impl<'a> Snapshot<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Backup> {
        std::iter::once(self.leader).chain(self.others.iter().copied())
    }

    /// How many bytes are read for it, about.
    pub fn work(&self) -> u64 {
        let outline = self.leader.manifest();
        2 * outline.plain.bytes
    }

    /// The destinations that have any of it.
    fn places(&self) -> BTreeSet<&'a str> {
        self.all().flat_map(Backup::destinations).collect()
    }
}

/// Does it for one after the other; `each` hears of bytes that were read.
pub fn carry_out(
    run: &Run<'_>,
    listener: &dyn Listener,
    snapshots: &[Snapshot<'_>],
    each: &(dyn Fn(u64) + Sync),
    results: &mut Results,
) -> Result<(), Failure> {
    results.dry_run = run.dry_run;
    let present: BTreeSet<String> = run
        .config
        .encryption
        .recipients
        .iter()
        .map(ToString::to_string)
        .collect();
    let encoding = Encoding {
        level: run.config.compression.level,
        threads: run.config.compression.threads,
        recipients: run.config.encryption.recipients.clone(),
        stall_limit: STALL_LIMIT,
    };
    for (index, snapshot) in snapshots.iter().enumerate() {
        if run.stop.load(Ordering::Relaxed) {
            results.stopped_before = snapshots.len() - index;
            return Ok(());
        }
        let one = One {
            run,
            listener,
            snapshot,
            encoding: &encoding,
            each,
        };
        let leader = snapshot.leader;
        let (manifest, document) = match run.destinations.manifest(leader) {
            Ok(read) => read,
            Err(error) => {
                results.errors.push(format!("{}: {}", leader.id(), with_causes(&error)));
                continue;
            }
        };
        let is_present = manifest.recipients.iter().cloned().collect::<BTreeSet<_>>() == present;
        if is_present && snapshot.others.is_empty() {
            results.up_to_date += 1;
            continue;
        }
        let old = snapshot
            .others
            .first()
            .copied()
            .filter(|_| is_present)
            .unwrap_or(leader);
        let mut row = Row {
            old: old.id().clone(),
            new: is_present.then(|| leader.id().clone()),
            revision: leader.revision(),
            destinations: Vec::new(),
            removed: Vec::new(),
            remarks: Vec::new(),
            errors: Vec::new(),
        };
        if run.dry_run {
            row.destinations = snapshot.places().into_iter().map(str::to_owned).collect();
        } else {
            match one.replace(manifest, document, is_present, &mut row) {
                Ok(()) => {}
                Err(End::Stopped) => {
                    results.stopped_before = snapshots.len() - index;
                    if row.new.is_some() {
                        results.rewrapped.push(row);
                    }
                    return Ok(());
                }
                Err(End::Failed(why)) => row.errors.push(why),
                Err(End::Fatal(failure)) => return Err(failure),
            }
        }
        results.rewrapped.push(row);
    }
    Ok(())
}
