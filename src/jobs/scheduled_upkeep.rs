//! The work of slots that take no backup: some backups are verified, or retention is applied.
//!
//! Each destination stands for itself: what cannot be read in one keeps nothing back in another. In a store that several
//! hosts write to, one of them does the work of a slot; of a verification first those that can open the backups.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;

use super::give_way_to_restore::refuse_during_restore;
use super::shared_slot_turn;
use super::slot::Stop;
use super::stores::read_within;
use super::verify::{Round, round};
use super::{Ended, Order, host, prune};
use crate::config::DestinationName;
use crate::layout::claim::State as ClaimState;
use crate::slots::{APART, Fate, HeldClaim, Stored, later};
use crate::store::Limits;

/// After this time a run begins with no further backup, so that it keeps no other schedule waiting for long.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

/// How long a verification leaves a backup that goes first.
const AFTER_BACKUP: SignedDuration = SignedDuration::from_secs(2);

/// Of so many errors of a round the journal is told.
const MOST_TOLD: usize = 50;

/// Verifies the share of each destination that is due.
pub(super) fn verify(order: &Order) -> Result<Ended, Stop> {
    refuse_during_restore(Duration::ZERO)?;
    let mut ended = Ended::default();
    let stop = AtomicBool::new(false);
    let sign = || {
        order.pulse.beat();
        stop.store(*order.stop.borrow() || *order.gives_way.borrow(), Ordering::Relaxed);
    };
    let until = host::now().saturating_add(LONGEST).unwrap_or_else(|_| host::now());
    for name in &order.destinations {
        if *order.gives_way.borrow() {
            ended.fates.insert(name.clone(), gives_way());
            continue;
        }
        let turn = leaves_it_to_others(order, name).map_or_else(|| shared_slot_turn::claim(order, name), Err);
        let Ok(claim) = turn.map_err(|fate| ended.fates.insert(name.clone(), fate)) else {
            continue;
        };
        let done = round(&order.config, name.as_str(), &stop, until, sign);
        let fate = match done {
            _ if *order.stop.borrow() => return Err(Stop::Asked),
            Ok(Round {
                checked,
                wrong,
                short,
                errors,
            }) => {
                let (bad, findings) = (wrong.len(), &mut ended.findings);
                findings
                    .done
                    .push(format!("destination {name}: {checked} verified, {bad} of them bad"));
                findings.done.extend(short);
                findings.wrong.extend(wrong);
                findings.undone.extend(told(errors));
                match stop.load(Ordering::Relaxed) {
                    // Its claim is given up; what was read is kept beside the backups.
                    true => gives_way(),
                    false => done_here(claim),
                }
            }
            Err(failure) => Fate::Failed(failure.message().to_owned()),
        };
        ended.fates.insert(name.clone(), fate);
    }
    Ok(ended)
}

/// A backup is due: the rest is done after it.
pub(super) fn gives_way() -> Fate {
    Fate::Later {
        why: "a backup is due, and goes first".to_owned(),
        until: later(host::now(), AFTER_BACKUP),
    }
}

/// Applies retention to each destination.
pub(super) fn retention(order: &Order) -> Result<Ended, Stop> {
    refuse_during_restore(Duration::ZERO)?;
    let config = &*order.config;
    let state = host::state(&config.cluster.name)?;
    let _lock = host::jobs_lock(&state, host::AGENT, Duration::ZERO)?;
    // All of them, so that no history is overlooked.
    let destinations = read_within(config, None, Limits::default())?;
    let mut ended = Ended::default();
    for name in &order.destinations {
        if *order.stop.borrow() {
            return Err(Stop::Asked);
        }
        let turn = shared_slot_turn::claim(order, name);
        let Ok(claim) = turn.map_err(|fate| ended.fates.insert(name.clone(), fate)) else {
            continue;
        };
        let unread = destinations
            .unreadable
            .iter()
            .find(|(unread, _)| *unread == name.as_str());
        let applied = match unread {
            Some((_, error)) => Err(error.clone()),
            None => {
                let applied = prune::apply(config, &destinations, name.as_str(), || order.pulse.beat());
                match applied.undone.is_empty() {
                    true => Ok(applied.retained),
                    false => Err(applied.undone.join("; ")),
                }
            }
        };
        let fate = match applied {
            Err(error) => Fate::Failed(format!("destination {name}: {error}")),
            Ok(retained) => {
                let removed = retained.as_ref().map_or(0, |retained| retained.removed);
                ended.retained.extend(retained.map(|retained| (name.clone(), retained)));
                let text = format!("destination {name}: {removed} removed by retention");
                ended.findings.done.push(text);
                done_here(claim)
            }
        };
        ended.fates.insert(name.clone(), fate);
    }
    Ok(ended)
}

/// Who cannot open the backups can prove less, and waits for those that can.
fn leaves_it_to_others(order: &Order, name: &DestinationName) -> Option<Fate> {
    if order.config.encryption.identity.is_some() || !order.config.is_shared(name.as_str()) {
        return None;
    }
    let hosts = i32::try_from(order.config.members.len()).unwrap_or(i32::MAX);
    let until = later(order.due_at, APART.saturating_mul(hosts));
    let why = "waiting: hosts that can open the backups have priority".to_owned();
    (host::now() < until).then_some(Fate::Later { why, until })
}

/// What the journal can bear of it: in a store that cannot be read each backup is an error.
fn told(mut errors: Vec<String>) -> Vec<String> {
    let more = errors.len().saturating_sub(MOST_TOLD);
    errors.truncate(MOST_TOLD);
    errors.extend((more > 0).then(|| format!("and {more} more: `lifeboat verify` says which")));
    errors
}

fn done_here(claim: Option<HeldClaim>) -> Fate {
    if let Some(claim) = claim {
        claim.end(ClaimState::Done);
    }
    Fate::Stored(Stored {
        host: host::host_name().to_string(),
        id: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_errors_the_first_are_told_and_how_many_there_are_beside_them() {
        let errors = |many: usize| -> Vec<String> { (0..many).map(|number| number.to_string()).collect() };
        assert_eq!(told(errors(MOST_TOLD)), errors(MOST_TOLD));
        let many = told(errors(20_000));
        assert_eq!(many.len(), MOST_TOLD + 1);
        assert_eq!(many[MOST_TOLD], "and 19950 more: `lifeboat verify` says which");
    }
}
