//! Whether a host may take a slot of a store that several hosts write to.
//!
//! Claims spare work, they protect nothing: a host whose clock, network or sleep made it miss that its claim is lost
//! stores a whole backup beside the other's.
//! Invariant: nothing here waits for a claim longer than [`CLAIM_HOLDS`](crate::layout::claim::CLAIM_HOLDS) after it was written,
//! whatever stands in it.
//! Invariant: "done" without its backup in the store is a free slot, whoever wrote it.
//! Invariant: nothing that was done well before a slot, by the store's clock, counts for it, but for a host by whose own
//! clock the slot had come then. One whose clock is ahead would else see to the slots of all hosts before they come, and
//! nobody would miss the backups. It may take them for itself: that its clock is wrong, and not the store's, which is
//! behind then for all hosts, nobody can tell, and a slot too many does less harm than one that is never taken.

use jiff::{SignedDuration, Timestamp};

use crate::layout::Clocks;
use crate::layout::claim::{Found, State};
use crate::model::ChainId;

/// How a slot stands in one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its backup is there.
    Done {
        /// Who took it.
        host: String,
        /// The backup.
        chain: ChainId,
    },
    /// Another run works on it.
    Held {
        /// Its host.
        host: String,
        /// For how long nobody else may.
        left: SignedDuration,
    },
    /// It can be claimed, by this number.
    Free(u32),
}

/// How a slot stands: `newest` is the claim with the highest number. `is_gone` tells of a chain that its run, of this very
/// host, is dead; `is_there`, that the store has what a claim says was done: a claim is a word, the backup is the thing.
pub fn standing(
    slot: Timestamp,
    newest: Option<&Found>,
    is_gone: impl Fn(&ChainId) -> bool,
    is_there: impl Fn(&ChainId) -> bool,
    clocks: Clocks,
) -> Standing {
    let now = clocks.store;
    let Some(newest) = newest else {
        return Standing::Free(1);
    };
    let host = match &newest.claim {
        Ok(claim)
            if claim.state == State::Done && clocks.counts_for(slot, newest.written_at) && is_there(&claim.chain) =>
        {
            return Standing::Done {
                host: claim.host.clone(),
                chain: claim.chain.clone(),
            };
        }
        Ok(claim) if is_gone(&claim.chain) => None,
        Ok(claim) => Some(claim.host.clone()),
        Err(_) => Some("unknown".to_owned()),
    };
    match host.filter(|_| newest.is_live(now)) {
        Some(host) => Standing::Held {
            host,
            left: newest.holds_until().duration_since(now),
        },
        // The last number there is: nobody comes near it, and it is not gone beyond.
        None => Standing::Free(newest.number.saturating_add(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::HostName;
    use crate::layout::claim::Claim;

    const CHAIN: &str = "20261120T100001Z-9f3c4a1b";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn claim(state: State) -> Claim {
        Claim::new(&HostName::nearest("h1"), "1a2b", &CHAIN.parse().unwrap(), state, at(0))
    }

    fn found(claim: Claim) -> Found {
        Found {
            number: 3,
            written_at: at(0),
            claim: Ok(claim),
        }
    }

    fn stands(newest: &Found, now: i64) -> Standing {
        standing(at(0), Some(newest), |_| false, |_| true, right(now))
    }

    /// The clocks of a host and of a store that both go right.
    fn right(now: i64) -> Clocks {
        Clocks {
            host: at(now),
            store: at(now),
        }
    }

    fn held(left: i64) -> Standing {
        Standing::Held {
            host: "h1".to_owned(),
            left: SignedDuration::from_secs(left),
        }
    }

    fn done(host: &str) -> Standing {
        Standing::Done {
            host: host.to_owned(),
            chain: CHAIN.parse().unwrap(),
        }
    }

    #[test]
    fn a_claim_holds_until_it_runs_out_and_then_the_next_number_is_free() {
        let newest = found(claim(State::Taking));
        assert_eq!(stands(&newest, 0), held(60));
        assert_eq!(stands(&newest, 59), held(1));
        assert_eq!(stands(&newest, 60), Standing::Free(4));
        assert_eq!(standing(at(0), None, |_| false, |_| true, right(0)), Standing::Free(1));
    }

    #[test]
    fn a_slot_that_was_given_up_is_free_at_once_and_one_that_is_done_is_never() {
        assert_eq!(stands(&found(claim(State::GivenUp)), 0), Standing::Free(4));
        assert_eq!(stands(&found(claim(State::Done)), 86_400), done("h1"));
    }

    #[test]
    fn what_is_said_to_be_done_and_is_not_there_is_a_free_slot() {
        let newest = found(claim(State::Done));
        let without = |is_there: bool| standing(at(0), Some(&newest), |_| false, |_| is_there, right(60));
        assert_eq!(without(true), done("h1"));
        assert_eq!(without(false), Standing::Free(4));
    }

    #[test]
    fn what_was_done_before_a_slot_counts_only_for_those_by_whose_clock_it_had_come() {
        let day = 86_400;
        let newest = found(claim(State::Done));
        let of_slot = |slot, now| standing(at(slot), Some(&newest), |_| false, |_| true, right(now));
        assert_eq!(
            of_slot(day, day),
            Standing::Free(4),
            "taken a day before by a clock that was ahead"
        );
        assert_eq!(of_slot(300, 0), done("h1"), "clocks are never quite equal");
        assert_eq!(of_slot(301, 301), Standing::Free(4));
    }

    #[test]
    fn a_slot_is_taken_and_once_only_where_the_clock_of_the_store_is_behind_that_of_all_hosts() {
        let day = 86_400;
        let behind = |now| Clocks {
            host: at(now + day),
            store: at(now),
        };
        let newest = found(claim(State::Done));
        let of_slot = |newest, now| standing(at(day), newest, |_| false, |_| true, behind(now));
        assert_eq!(of_slot(None, 0), Standing::Free(1));
        assert_eq!(of_slot(Some(&newest), 5), done("h1"));
        assert_eq!(
            of_slot(Some(&newest), day),
            done("h1"),
            "also when the store's clock comes to it"
        );
        let too_soon = standing(at(day + 301), Some(&newest), |_| false, |_| true, behind(301));
        assert_eq!(
            too_soon,
            Standing::Free(4),
            "whoever did that is ahead of this host too"
        );
        assert_eq!(behind(0).apart(), Some(SignedDuration::from_secs(day)));
        assert_eq!(right(0).apart(), None);
    }

    #[test]
    fn the_claim_of_a_run_that_this_host_knows_to_be_dead_holds_nobody() {
        let newest = found(claim(State::Taking));
        let is_gone = |chain: &ChainId| chain.as_str() == CHAIN;
        assert_eq!(
            standing(at(0), Some(&newest), is_gone, |_| true, right(1)),
            Standing::Free(4)
        );
    }

    #[test]
    fn a_claim_that_is_damaged_greedy_or_from_the_future_holds_no_longer_than_any() {
        let damaged = Found {
            claim: Claim::from_bytes(b"{"),
            ..found(claim(State::Taking))
        };
        assert!(matches!(stands(&damaged, 59), Standing::Held { .. }));
        assert_eq!(stands(&damaged, 60), Standing::Free(4));
        let mut greedy = claim(State::Taking);
        greedy.expires_at = at(1_000_000);
        let greedy = found(greedy);
        assert_eq!(stands(&greedy, 60), Standing::Free(4));
        let newest = found(claim(State::Taking));
        let set_back = standing(at(-86_400), Some(&newest), |_| false, |_| true, right(-86_400));
        assert_eq!(set_back, Standing::Free(4));
    }
}
