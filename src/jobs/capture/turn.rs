//! Whose turn a full backup is that capture wants, in destinations that several hosts write to: two first ones would be two histories, and
//! two others more work than one.
//!
//! Hosts go one after the other, and whoever takes one claims it in each of those destinations, as a slot of a schedule is claimed. A
//! first one also waits for whatever else is claimed there: a backup of a schedule is the first as well. Each of them may open a history, so
//! that is claimed in any case.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};

use crate::capture::Need;
use crate::jobs::first_backup;
use crate::layout::claim::CLAIM_HOLDS;
use crate::layout::{Listed, ObjectName, SlotPath};
use crate::slots::{Claimant, HeldClaim, Leaves, Standing, claiming};
use crate::store::{self, Store};

/// The schedule by whose name a backup that is no first one is claimed; no backup is of it.
const CLAIMED_AS: &str = "for-deltas";

/// What came of a claim.
pub(super) enum Turn {
    /// It is this host's.
    Held(Vec<HeldClaim>),
    /// It is that of another host, or of another run of this one.
    Others(String),
}

/// Claims a full backup in a destination.
pub(super) fn claim(store: &Store, need: Need, claimant: &Claimant, now: Timestamp) -> Result<Turn, store::Error> {
    let standing = |slot: &SlotPath| claiming::look(store, slot, Leaves::Backup, |_| false, now);
    let mut held = Vec::new();
    match need {
        Need::First => {
            for other in claimed_lately(store)? {
                if let Standing::Held { host, .. } = standing(&other)? {
                    return Ok(Turn::Others(host));
                }
            }
        }
        Need::Another => {
            let slot = slot_of_today(store.now()?);
            let number = match standing(&slot)? {
                Standing::Free(number) => number,
                Standing::Held { host, .. } | Standing::Done { host, .. } => return Ok(Turn::Others(host)),
            };
            match HeldClaim::begin(store, &slot, number, claimant)? {
                Some(claim) => held.push(claim),
                None => return Ok(Turn::Others("that was faster".to_owned())),
            }
        }
    }
    Ok(match first_backup::claim(store, claimant, |_| false, now)? {
        first_backup::Turn::Held(claim) => {
            held.push(claim);
            Turn::Held(held)
        }
        first_backup::Turn::Others(host) => Turn::Others(host),
    })
}

/// One a day, so that their claims are swept.
fn slot_of_today(now: Timestamp) -> SlotPath {
    let midnight = now.to_zoned(TimeZone::UTC).start_of_day();
    let at = midnight.map_or(now, |midnight| midnight.timestamp());
    SlotPath::new(CLAIMED_AS.parse().expect("it is a name of a schedule"), at)
}

/// The slots of which somebody may hold a claim.
fn claimed_lately(store: &Store) -> Result<BTreeSet<SlotPath>, store::Error> {
    let (listed, now) = (store.list()?, store.now()?);
    let claims = listed.into_iter().filter_map(|object| match object.name {
        Listed::Ours(ObjectName::Claim(slot, _)) if now.duration_since(object.modified) <= CLAIM_HOLDS => Some(slot),
        _ => None,
    });
    Ok(claims.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::HostName;
    use crate::layout::claim::State;
    use crate::store::tests::store;

    fn claimant(host: &str) -> Claimant {
        Claimant {
            host: HostName::nearest(host),
            run: "1a2b".to_owned(),
            chain: "20261120T100001Z-9f3c4a1b".parse().unwrap(),
        }
    }

    #[test]
    fn one_host_takes_a_first_backup_and_none_while_one_of_a_schedule_is_taken() {
        let (_root, store) = store();
        let claim = |host, need| claim(&store, need, &claimant(host), store.now().unwrap()).unwrap();
        let is_h1 = |turn: Turn| matches!(turn, Turn::Others(host) if host == "h1");
        let Turn::Held(first) = claim("h1", Need::First) else {
            panic!("nobody else wants it")
        };
        assert!(is_h1(claim("h2", Need::First)));
        assert!(is_h1(claim("h2", Need::Another)), "that may open a history as well");
        let of_schedule = |host| first_backup::claim(&store, &claimant(host), |_| false, store.now().unwrap()).unwrap();
        assert!(matches!(of_schedule("h2"), first_backup::Turn::Others(host) if host == "h1"));
        drop(first);
        let first_backup::Turn::Held(scheduled) = of_schedule("h1") else {
            panic!("it was given up")
        };
        assert!(is_h1(claim("h2", Need::First)));
        drop(scheduled);
        let hourly = SlotPath::new("hourly".parse().unwrap(), store.now().unwrap());
        let scheduled = HeldClaim::begin(&store, &hourly, 1, &claimant("h1")).unwrap().unwrap();
        assert!(is_h1(claim("h2", Need::First)));
        let Turn::Held(another) = claim("h1", Need::Another) else {
            panic!("a schedule is another thing")
        };
        assert!(is_h1(claim("h2", Need::Another)));
        another.into_iter().for_each(|claim| claim.end(State::Done));
        scheduled.end(State::Done);
        assert!(matches!(claim("h2", Need::Another), Turn::Held(_)));
    }
}
