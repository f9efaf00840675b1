//! In which order hosts try to take a slot of a shared store, by what etcd itself says.
//!
//! Pure: from what the members answered to a place in the order. All hosts that see the same cluster come to the same
//! order without asking each other; where they do not, the claims in the store decide.

use crate::etcd::choose_member::{Candidate, is_well, newest_index};
use crate::model::MemberId;

/// How many hosts go before the one on which member `own` runs: none before that of the healthy follower with the lowest
/// id; the leader's after the followers', as a backup costs the leader most; then those whose member is unwell, those
/// whose member does not answer, and those without one.
pub fn hosts_before(candidates: &[Candidate], own: Option<&str>) -> usize {
    let newest = newest_index(candidates);
    let place = |index: usize, candidate: &Candidate| (fitness(candidate, newest), index);
    let mut indexed = candidates.iter().enumerate();
    let Some((index, candidate)) = indexed.find(|(_, candidate)| own == Some(&candidate.name)) else {
        return candidates.len();
    };
    let own = place(index, candidate);
    let places = candidates.iter().enumerate();
    places
        .filter(|(index, candidate)| place(*index, candidate) < own)
        .count()
}

/// How fit the host of a member is for a backup; the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    Follower(MemberId),
    Leader,
    Unwell(MemberId),
    Silent,
}

fn fitness(candidate: &Candidate, newest: u64) -> Fitness {
    match &candidate.answer {
        Err(_) => Fitness::Silent,
        Ok(status) if !is_well(status, newest) || status.learner => Fitness::Unwell(status.member),
        Ok(status) if status.leads() => Fitness::Leader,
        Ok(status) => Fitness::Follower(status.member),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::choose_member::tests::{corrupt, member, silent, with};

    fn order(candidates: &[Candidate]) -> Vec<usize> {
        let names = candidates.iter().map(|candidate| candidate.name.as_str());
        names.map(|name| hosts_before(candidates, Some(name))).collect()
    }

    #[test]
    fn followers_go_by_their_ids_and_the_leader_after_them() {
        let three = [member("m1", 7, 9), member("m2", 9, 9), member("m3", 3, 9)];
        assert_eq!(order(&three), [1, 2, 0]);
        assert_eq!(hosts_before(&three, None), 3);
        assert_eq!(hosts_before(&three, Some("other")), 3);
        assert_eq!(order(&[member("m1", 1, 1)]), [0]);
    }

    #[test]
    fn the_unwell_go_after_the_leader_and_the_silent_last() {
        let lagging = with(member("m1", 1, 9), |status| status.applied_index = 10);
        let corrupt = with(member("m2", 2, 9), |status| status.alarms.push(corrupt(2)));
        let learner = with(member("m3", 3, 9), |status| status.learner = true);
        let cut_off = member("m4", 4, 0);
        let all = [
            silent("m0"),
            lagging,
            corrupt,
            learner,
            cut_off,
            silent("m5"),
            member("m9", 9, 9),
        ];
        assert_eq!(order(&all), [5, 1, 2, 3, 4, 6, 0]);
    }
}
