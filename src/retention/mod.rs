//! Which backups of a destination are kept and which are removed, each with its reasons.
//!
//! One function from chains, policy and time to a plan. Removing is left to others; `removal_order` tells them in which
//! order. Only whole chains are judged. What is damaged, unfinished or foreign is in no inventory and so in no plan.
//!
//! A lineage is judged by its own backups. "Newer" means a higher revision, as for `latest`; between equal revisions the
//! later start, unless that start is still to come. Clocks decide only into which hour or day a backup falls:
//!
//! - a start in the future counts as now;
//! - the last N days are the N days met first on the way back from the newest revision, so that backups with a wrong
//!   date take their own place and nobody else's;
//! - `keep_within` counts back from the newest good backup of the lineage, not from now: a prune on a host whose clock is
//!   ahead, or of a history that goes on no more, removes nothing on that account. Only a backup that was itself made with a
//!   clock that is still ahead shortens the window, by as much as the clock is ahead; counts and the floor do not care.
//!
//! Invariant: of every lineage the newest good backup is kept.
//!
//! Invariant: while a lineage is about that the operator has not judged, only the one opened last loses backups, and
//! not even that one if it is the accepted one.
//!
//! Invariant: a backup known to be bad takes no place from a good one. It is removed only if a good one is newer, as
//! `latest` has it, and the rules would remove it though it were good: a check that was wrong about a whole store costs nothing.
//! `max_bytes` takes the bad before the good, but not one that reaches further than all others of its lineage, nor one that
//! `pitr_window` needs. One that was checked counts as bad until it is known what the check said; only for `max_bytes`, which
//! would take it first, it does not.
//!
//! Invariant: the last change that is stored stays. Plans are made by listings from before a backup, and changes are captured
//! while it is taken: so a chain stays that was written when the newest one began, until something follows that one.
//!
//! Invariant: a pin removes nothing else. The policy selects as if there were no pins, and `max_bytes` leaves pinned
//! chains out of the sum.
//!
//! Invariant: a plan leaves nothing to do: with what it removes gone, at the same time, the next plan removes nothing.

mod clock_jump;
mod judge;
mod keep_rules;
mod period;
mod policy;
mod reason;
mod removal;
mod rewrapped;
#[cfg(test)]
mod tests;
mod untrusted_time;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

pub use period::{Period, Unit};
pub use policy::Policy;
pub use reason::{KeepReason, RemoveReason};
pub use removal::removal_order;
pub use rewrapped::Led;
pub use untrusted_time::{Clocks, Held, careful_plan};

use crate::catalog::{Backup, Catalog, Following, LastCheck, LatestError, Newness, Pinned, Standing};
use crate::layout::{ChainPath, Pin, Proof};
use crate::model::{ByteSize, ChainId, LineageId, Revision};

/// Of how many chains that were begun before the window for points it is worth while to know how far they lead.
const PROVEN_BEFORE_WINDOW: usize = 3;

/// One chain in one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where it lies.
    pub path: ChainPath,
    /// Its history.
    pub lineage: LineageId,
    /// The revision of its full backup.
    pub tip: Revision,
    /// The last revision that can be restored of it: what follows the full backup counts as far as nothing is missing.
    pub reach: Revision,
    /// How much of that is proven; all of it where nobody has looked. Names can be anybody's: what counts in favour of a chain goes by
    /// them, what displaces others by this.
    pub proven: Option<Revision>,
    /// When the last of what follows the full backup was stored, by the store's clock; none where nothing follows.
    pub captured_at: Option<Timestamp>,
    /// How often it was made anew for other recipients.
    pub generation: u32,
    /// How much its objects take, what follows the full backup included.
    pub bytes: u64,
    /// What is known of its worth.
    pub standing: Standing,
    /// Whether it counts as bad only because it is not known what its last check said.
    pub is_unsure: bool,
    /// Whether retention passes it over.
    pub pin: PinState,
}

impl Chain {
    /// Its id.
    pub fn id(&self) -> &ChainId {
        &self.path.chain
    }

    /// The last revision that is known to be restored of it.
    fn proven(&self) -> Revision {
        self.proven.map_or(self.reach, |proven| proven.min(self.reach))
    }

    fn of(backup: &Backup, destination: &str, pins: &BTreeMap<ChainPath, Pin>) -> Option<Chain> {
        let copy = backup.copies.iter().find(|copy| copy.destination == destination)?;
        let manifest = backup.manifest();
        let path = manifest.chain_path();
        Some(Chain {
            lineage: manifest.lineage.clone(),
            tip: manifest.to_revision,
            reach: Following::in_destination(backup, destination).window().to,
            proven: None,
            captured_at: copy.links.iter().map(|link| link.written_at).max(),
            is_unsure: copy.last_check == LastCheck::Unknown,
            generation: backup.generation(),
            bytes: {
                let links = copy.links.iter().map(|link| link.bytes);
                links.fold(manifest.stored.bytes, u64::saturating_add)
            },
            standing: match (copy.last_check, &copy.standing) {
                (LastCheck::Known, Standing::Good(_)) if !copy.is_good() => Standing::Bad(vec![
                    "it was not read back, and its destination asks for that".to_owned(),
                ]),
                (LastCheck::Known, standing) => standing.clone(),
                (LastCheck::Unknown, _) => Standing::Bad(vec!["what its last check said cannot be read".to_owned()]),
            },
            pin: match copy.pinned {
                Pinned::Yes => PinState::Pinned(pins.get(&path).cloned()),
                Pinned::No => PinState::Free,
            },
            path,
        })
    }

    /// How new it is among those of its lineage.
    fn newness(&self) -> Newness<'_> {
        Newness::of(self.id(), self.tip, self.generation)
    }

    fn is_good(&self) -> bool {
        self.standing.proof() >= Proof::Acknowledged
    }

    fn is_pinned(&self) -> bool {
        self.pin != PinState::Free
    }
}

/// Whether a chain is excluded from retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinState {
    /// It is not.
    Free,
    /// It is; by whom and why, if that could be read.
    Pinned(Option<Pin>),
}

/// What retention has to judge in one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The chains, in any order.
    pub chains: Vec<Chain>,
    /// Set if there is a lineage that the operator has neither accepted nor rejected.
    pub unjudged: Option<Unjudged>,
}

impl Inventory {
    /// The chains of `catalog` that have a copy in `destination`. The catalog may be that of several destinations: then
    /// the operator's word, and lineages that are not judged, are taken from all of them. `pins` holds what pin documents
    /// say, as far as they were read: a pin counts without its document.
    pub fn of(catalog: &Catalog, destination: &str, pins: &BTreeMap<ChainPath, Pin>) -> Inventory {
        let chains = catalog.backups().iter();
        Inventory {
            chains: chains
                .filter_map(|backup| Chain::of(backup, destination, pins))
                .collect(),
            unjudged: Unjudged::in_catalog(catalog),
        }
    }

    /// The chains by whose changes others may be displaced, so that it is worth while to prove these: the newest of each lineage, and
    /// of those that were begun before the window of `policy` the newest. To prove older ones takes many requests, and the window
    /// seldom needs them: they displace nobody.
    pub fn take_displacing(&mut self, policy: &Policy, now: Timestamp) -> Vec<ChainPath> {
        let window = policy
            .pitr_window
            .map(|within| SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX));
        let mut newest: BTreeMap<&LineageId, Newness<'_>> = BTreeMap::new();
        for chain in self.chains.iter().filter(|chain| chain.is_good()) {
            let newest = newest.entry(&chain.lineage).or_insert_with(|| chain.newness());
            *newest = chain.newness().max(*newest);
        }
        let (mut displacing, mut before) = (Vec::new(), BTreeMap::<&LineageId, Vec<(Newness<'_>, usize)>>::new());
        for (place, chain) in self.chains.iter().enumerate() {
            let is_before = window.is_some_and(|window| now.duration_since(chain.id().started_at()) > window);
            let is_newest = newest
                .get(&chain.lineage)
                .is_none_or(|newest| *newest <= chain.newness());
            if chain.reach <= chain.tip {
                continue;
            } else if is_newest {
                displacing.push(chain.path.clone());
            } else if is_before {
                before.entry(&chain.lineage).or_default().push((chain.newness(), place));
            }
        }
        let mut unproven = Vec::new();
        for (place, chain) in before.into_values().flat_map(|mut before| {
            before.sort_by_key(|(newness, _)| std::cmp::Reverse(*newness));
            before.into_iter().map(|(_, place)| place).enumerate()
        }) {
            match self.chains.get(chain) {
                Some(found) if place < PROVEN_BEFORE_WINDOW => displacing.push(found.path.clone()),
                Some(_) | None => unproven.push(chain),
            }
        }
        for place in unproven {
            if let Some(chain) = self.chains.get_mut(place) {
                chain.proven = Some(chain.tip);
            }
        }
        displacing
    }

    /// Takes note of how far a chain is proven.
    pub fn is_proven(&mut self, path: &ChainPath, proven: Revision) {
        if let Some(chain) = self.chains.iter_mut().find(|chain| chain.path == *path) {
            chain.proven = Some(proven.max(chain.tip));
        }
    }
}

/// Lineages of which the operator has not said yet which one is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    /// The one that was accepted before another appeared, if any.
    pub accepted: Option<LineageId>,
    /// The one that was opened last.
    pub opened_last: LineageId,
}

impl Unjudged {
    fn in_catalog(catalog: &Catalog) -> Option<Unjudged> {
        let (accepted, mut lineages) = match catalog.accepted_lineage() {
            Err(LatestError::Unaccepted { accepted, candidates }) => (accepted, candidates),
            Err(LatestError::WordUnreadable { .. }) => (None, catalog.lineages()),
            // There is one lineage, or all have been judged; documents that cannot be read are not touched anyway.
            Ok(_)
            | Err(
                LatestError::Empty
                | LatestError::OnlyDamaged { .. }
                | LatestError::OnlyStrangers { .. }
                | LatestError::EarlierUnreadable { .. }
                | LatestError::AcceptedIsGone { .. }
                | LatestError::NothingGood { .. },
            ) => return None,
        };
        let opened_last = lineages.pop()?.id;
        Some(Unjudged { accepted, opened_last })
    }

    fn holds(&self, lineage: &LineageId) -> bool {
        *lineage != self.opened_last || self.accepted.as_ref() == Some(lineage)
    }
}

/// A chain and why it is kept or removed; there is at least one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict<'a, R> {
    /// The chain.
    pub chain: &'a Chain,
    /// Why.
    pub reasons: Vec<R>,
}

/// What is kept and what is removed: every chain of the inventory is in one of the two, the one begun first at the head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan<'a> {
    /// What is kept.
    pub keep: Vec<Verdict<'a, KeepReason<'a>>>,
    /// What is removed.
    pub remove: Vec<Verdict<'a, RemoveReason<'a>>>,
    /// By how much `max_bytes` is exceeded all the same, because what is left must not go; 0 if it is not.
    pub excess: ByteSize,
}

/// Judges every chain at `now`, with hours, days and weeks as they are in `zone`.
pub fn plan<'a>(inventory: &'a Inventory, policy: &Policy, now: Timestamp, zone: &TimeZone) -> Plan<'a> {
    let mut cases = judge::cases(inventory, policy, now, zone);
    let excess = policy.max_bytes.map_or(ByteSize(0), |max| judge::trim(&mut cases, max));
    cases.sort_by_key(|case| (case.chain.id(), case.chain.path.cluster));
    let mut plan = Plan {
        excess,
        ..Plan::default()
    };
    for case in cases {
        let chain = case.chain;
        if case.keep.is_empty() {
            let reasons = case.remove;
            plan.remove.push(Verdict { chain, reasons });
        } else {
            let reasons = case.keep;
            plan.keep.push(Verdict { chain, reasons });
        }
    }
    plan
}
