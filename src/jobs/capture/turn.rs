//! Whose turn a full backup is that capture wants, in destinations that several hosts write to: two first ones would be two histories, and
//! two others more work than one.
//!
//! Hosts go one after the other, and whoever takes one claims it in each of those destinations, as a slot of a schedule is claimed. A
//! first one also waits for whatever else is claimed there: a backup of a schedule is the first as well.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};

use crate::capture::Need;
use crate::layout::lease::LEASE;
use crate::layout::{Listed, ObjectName, SlotPath};
use crate::slots::{Claimant, HeldClaim, Leaves, Standing, own_claim};
use crate::store::{self, Store};

/// The schedule by whose name such a backup is claimed; no backup is of it.
const CLAIMED_AS: &str = "full-for-deltas";

/// What came of a claim.
pub(super) enum Turn {
    /// It is this host's.
    Held(HeldClaim),
    /// It is that of another host, or of another run of this one.
    Others(String),
}

/// Claims a full backup in a destination.
pub(super) fn claim(store: &Store, need: Need, claimant: &Claimant, now: Timestamp) -> Result<Turn, store::Error> {
    let slot = slot(need, store.now()?);
    let standing = |slot: &SlotPath| own_claim::look(store, slot, Leaves::Backup, |_| false, now);
    if need == Need::First {
        for other in claimed_lately(store)? {
            if let Standing::Held { host, .. } = standing(&other)? {
                return Ok(Turn::Others(host));
            }
        }
    }
    let number = match standing(&slot)? {
        Standing::Free(number) => number,
        Standing::Held { host, .. } | Standing::Done { host, .. } => return Ok(Turn::Others(host)),
    };
    let held = HeldClaim::begin(store, &slot, number, claimant)?;
    Ok(held.map_or_else(|| Turn::Others("that was faster".to_owned()), Turn::Held))
}

/// The first one has one slot for good; others one a day, so that their claims are swept.
fn slot(need: Need, now: Timestamp) -> SlotPath {
    let at = match need {
        Need::First => Timestamp::UNIX_EPOCH,
        Need::Another => {
            let midnight = now.to_zoned(TimeZone::UTC).start_of_day();
            midnight.map_or(now, |midnight| midnight.timestamp())
        }
    };
    SlotPath::new(CLAIMED_AS.parse().expect("it is a name of a schedule"), at)
}

/// The slots of which somebody may hold a claim.
fn claimed_lately(store: &Store) -> Result<BTreeSet<SlotPath>, store::Error> {
    let (listed, now) = (store.list()?, store.now()?);
    let claims = listed.into_iter().filter_map(|object| match object.name {
        Listed::Ours(ObjectName::Claim(slot, _)) if now.duration_since(object.modified) <= LEASE => Some(slot),
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
        drop(first);
        let hourly = SlotPath::new("hourly".parse().unwrap(), store.now().unwrap());
        let scheduled = HeldClaim::begin(&store, &hourly, 1, &claimant("h1")).unwrap().unwrap();
        assert!(is_h1(claim("h2", Need::First)));
        let Turn::Held(another) = claim("h1", Need::Another) else {
            panic!("a schedule is another thing")
        };
        assert!(is_h1(claim("h2", Need::Another)));
        another.end(State::Done);
        scheduled.end(State::Done);
        assert!(matches!(claim("h2", Need::Another), Turn::Held(_)));
    }
}
