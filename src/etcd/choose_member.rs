//! Which member a backup is taken from.
//!
//! Pure: from what the members answered to one choice. A healthy follower is preferred, because a snapshot holds a read
//! transaction open and HashKV stalls the writes of the member that is asked.

use super::{Error, Status};
use crate::health::NO_MEMBER;
use crate::model::ClusterId;

/// Followers that are further behind than this many log entries are not asked.
const MAX_LAG: u64 = 10_000;

/// A configured member and what it answered.
#[derive(Debug)]
pub struct Candidate {
    /// Its name in the configuration.
    pub name: String,
    /// The endpoint that answered, or the last one that was tried.
    pub url: String,
    /// Its state, or why there is none.
    pub answer: Result<Status, Error>,
}

/// Which members are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A healthy follower where there is one, the leader otherwise.
    Any {
        /// The member on this host, which is asked before others that are as fit.
        near: Option<String>,
    },
    /// This one and no other.
    Named(String),
}

/// What the chosen member is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A follower with a leader.
    Follower,
    /// The leader, or the only member.
    Leader,
    /// A member without a leader: it has no quorum, and what it holds may lag.
    CutOff,
}

/// The choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Index into the candidates.
    pub index: usize,
    /// What the member is.
    pub role: Role,
}

/// Why no member can be asked.
#[derive(Debug, thiserror::Error)]
pub enum NoChoice {
    /// None of those wanted answered, but for those that were given up.
    #[error("{}: {}", NO_MEMBER, .reasons.join("; "))]
    NoneAnswered {
        /// One line a member that was not given up.
        reasons: Vec<String>,
    },
    /// The name is not configured.
    #[error("no member `{name}` is configured; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The configured members belong to different clusters.
    #[error("the configured members belong to different clusters: {}", .clusters.join(", "))]
    SeveralClusters {
        /// `name is of cluster id`, one a member.
        clusters: Vec<String>,
    },
}

/// Picks the member to ask, but none of those called `given_up`: they count for what the cluster is, no more.
pub fn choose(candidates: &[Candidate], wanted: &Wanted, given_up: &[&str]) -> Result<Choice, NoChoice> {
    let is_near = |candidate: &Candidate| match wanted {
        Wanted::Any { near } => near.as_ref() == Some(&candidate.name),
        Wanted::Named(_) => false,
    };
    let is_learner = |candidate: &Candidate| candidate.answer.as_ref().is_ok_and(|status| status.learner);
    let only_learners = candidates.iter().all(is_learner);
    let wanted_here = |candidate: &Candidate| match wanted {
        // A learner may lag behind, and proves nothing of its data: it is asked by its name, or where no other is configured.
        Wanted::Any { .. } => only_learners || !is_learner(candidate),
        Wanted::Named(name) => *name == candidate.name,
    };
    if let Wanted::Named(name) = wanted
        && !candidates.iter().any(|candidate| candidate.name == *name)
    {
        let known: Vec<_> = candidates.iter().map(|candidate| candidate.name.as_str()).collect();
        let (name, known) = (name.clone(), known.join(", "));
        return Err(NoChoice::Unknown { name, known });
    }
    let answered: Vec<(usize, &Status)> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| wanted_here(candidate))
        .filter_map(|(index, candidate)| Some((index, candidate.answer.as_ref().ok()?)))
        .collect();
    one_cluster(candidates, &answered)?;
    let newest = answered.iter().map(|(_, status)| status.applied_index).max();
    let is_given_up = |candidate: &Candidate| given_up.contains(&candidate.name.as_str());
    let may_be_asked = |index: usize| candidates.get(index).is_some_and(|candidate| !is_given_up(candidate));
    let eligible = answered.iter().filter(|(index, _)| may_be_asked(*index));
    let best = eligible.max_by_key(|(index, status)| {
        let healthy = is_well(status, newest.unwrap_or(0));
        let follows = !status.leads() && !status.learner;
        // Of equals the one on this host, then the first in the configuration.
        (
            healthy,
            !status.is_corrupt(),
            follows,
            !status.learner,
            candidates.get(*index).is_some_and(is_near),
            status.raft_term,
            std::cmp::Reverse(*index),
        )
    });
    let Some(&(index, status)) = best else {
        let is_meant = |candidate: &&Candidate| wanted_here(candidate) || matches!(wanted, Wanted::Any { .. });
        let reasons = candidates
            .iter()
            .filter(|candidate| is_meant(candidate) && !is_given_up(candidate))
            .map(|candidate| match &candidate.answer {
                Ok(_) => format!(
                    "{0}: it is a learner, which is asked with `--member {0}` only",
                    candidate.name
                ),
                Err(error) => format!("{}: {error}", candidate.name),
            });
        return Err(NoChoice::NoneAnswered {
            reasons: reasons.collect(),
        });
    };
    let role = match status.leader {
        None => Role::CutOff,
        Some(leader) if leader != status.member => Role::Follower,
        Some(_) => Role::Leader,
    };
    Ok(Choice { index, role })
}

/// Where none of those wanted answered: whether one may yet, without anybody changing anything.
pub fn may_answer_yet(candidates: &[Candidate], wanted: &Wanted) -> bool {
    let is_wanted = |candidate: &&Candidate| match wanted {
        Wanted::Any { .. } => true,
        Wanted::Named(name) => *name == candidate.name,
    };
    let mut errors = candidates
        .iter()
        .filter(is_wanted)
        .filter_map(|candidate| candidate.answer.as_ref().err());
    errors.any(Error::may_pass)
}

/// The index of the last entry that any of them has applied.
pub(crate) fn newest_index(candidates: &[Candidate]) -> u64 {
    let answers = candidates.iter().filter_map(|candidate| candidate.answer.as_ref().ok());
    answers.map(|status| status.applied_index).max().unwrap_or(0)
}

/// Whether a member follows its cluster, where another has applied the entry `newest`.
pub(crate) fn is_well(status: &Status, newest: u64) -> bool {
    let lag = newest.saturating_sub(status.applied_index);
    status.leader.is_some() && lag <= MAX_LAG && !status.is_corrupt()
}

fn one_cluster(candidates: &[Candidate], answered: &[(usize, &Status)]) -> Result<(), NoChoice> {
    let mut ids: Vec<ClusterId> = answered.iter().map(|(_, status)| status.cluster).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < 2 {
        return Ok(());
    }
    let told = answered.iter().map(|(index, status)| {
        let name = candidates.get(*index).map_or("", |candidate| candidate.name.as_str());
        format!("{name} is of cluster {}", status.cluster)
    });
    Err(NoChoice::SeveralClusters {
        clusters: told.collect(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::keyspace::{Alarm, AlarmKind};
    use crate::model::MemberId;

    pub(crate) fn member(name: &str, id: u64, leader: u64) -> Candidate {
        Candidate {
            name: name.into(),
            url: format!("http://{name}:2379"),
            answer: Ok(Status {
                member: MemberId(id),
                cluster: ClusterId(9),
                leader: (leader != 0).then_some(MemberId(leader)),
                learner: false,
                version: "3.5.34".into(),
                storage_version: None,
                db_bytes: 1,
                raft_term: 3,
                applied_index: 100_000,
                alarms: vec![],
                errors: vec![],
            }),
        }
    }

    pub(crate) fn silent(name: &str) -> Candidate {
        let answer = Err(Error::Unreachable {
            url: format!("http://{name}:2379"),
            reason: "connection refused".into(),
        });
        Candidate {
            answer,
            ..member(name, 0, 0)
        }
    }

    pub(crate) fn with(mut candidate: Candidate, change: impl FnOnce(&mut Status)) -> Candidate {
        change(candidate.answer.as_mut().unwrap());
        candidate
    }

    /// The alarm that this member's data differs from the others', as every member tells it.
    pub(crate) fn corrupt(id: u64) -> Alarm {
        Alarm {
            member: MemberId(id),
            kind: AlarmKind::Corrupt,
        }
    }

    const ANY: Wanted = Wanted::Any { near: None };

    fn chosen(candidates: &[Candidate], wanted: Wanted) -> (String, Role) {
        let choice = choose(candidates, &wanted, &[]).unwrap();
        (candidates[choice.index].name.clone(), choice.role)
    }

    #[test]
    fn a_follower_is_asked_before_the_leader() {
        let three = [member("m1", 1, 1), member("m2", 2, 1), member("m3", 3, 1)];
        assert_eq!(chosen(&three, ANY), ("m2".into(), Role::Follower));
        assert_eq!(chosen(&three, Wanted::Named("m1".into())), ("m1".into(), Role::Leader));
        let two_down = [member("m1", 1, 1), silent("m2"), silent("m3")];
        assert_eq!(chosen(&two_down, ANY), ("m1".into(), Role::Leader));
        assert_eq!(chosen(&[member("m1", 1, 1)], ANY), ("m1".into(), Role::Leader));
    }

    #[test]
    fn of_followers_the_one_on_this_host_is_asked() {
        let near = |name: &str| Wanted::Any {
            near: Some(name.into()),
        };
        let three = [member("m1", 1, 1), member("m2", 2, 1), member("m3", 3, 1)];
        assert_eq!(chosen(&three, near("m3")), ("m3".into(), Role::Follower));
        assert_eq!(chosen(&three, near("m1")), ("m2".into(), Role::Follower), "it leads");
        let lags = with(member("m3", 3, 1), |status| status.applied_index = 10);
        let three = [member("m1", 1, 1), member("m2", 2, 1), lags];
        assert_eq!(chosen(&three, near("m3")), ("m2".into(), Role::Follower));
        let down = [member("m1", 1, 1), member("m2", 2, 1), silent("m3")];
        assert_eq!(chosen(&down, near("m3")), ("m2".into(), Role::Follower));
    }

    #[test]
    fn the_unwell_come_last() {
        let lagging = with(member("m2", 2, 1), |status| status.applied_index = 10);
        let corrupt = with(member("m3", 3, 1), |status| status.alarms.push(corrupt(3)));
        let learner = with(member("m4", 4, 1), |status| status.learner = true);
        let candidates = [lagging, corrupt, learner, member("m1", 1, 1)];
        assert_eq!(chosen(&candidates, ANY), ("m1".into(), Role::Leader));
        let cut_off = [member("m1", 1, 0), silent("m2")];
        assert_eq!(chosen(&cut_off, ANY), ("m1".into(), Role::CutOff));
    }

    #[test]
    fn a_member_is_waited_for_only_where_one_that_is_wanted_may_answer_yet() {
        let denied = |name: &str| Candidate {
            answer: Err(Error::Denied {
                url: format!("http://{name}:2379"),
                call: "Authenticate",
                reason: "authentication failed".into(),
            }),
            ..member(name, 0, 0)
        };
        let named = |name: &str| Wanted::Named(name.into());
        let both = [denied("m1"), silent("m2")];
        assert!(may_answer_yet(&both, &ANY) && may_answer_yet(&both, &named("m2")));
        assert!(!may_answer_yet(&both, &named("m1")));
        assert!(!may_answer_yet(&[denied("m1"), denied("m2")], &ANY));
    }

    #[test]
    fn an_alarm_counts_against_the_member_that_it_is_of() {
        let tells = |candidate| with(candidate, |status| status.alarms.push(corrupt(2)));
        let three = [member("m1", 1, 1), member("m2", 2, 1), member("m3", 3, 1)].map(tells);
        assert_eq!(chosen(&three, ANY), ("m3".into(), Role::Follower));
    }

    #[test]
    fn a_learner_is_asked_by_its_name_or_where_no_other_is_configured() {
        let learner = || with(member("m2", 2, 1), |status| status.learner = true);
        assert_eq!(chosen(&[learner()], ANY), ("m2".into(), Role::Follower));
        let cluster = [member("m1", 1, 1), learner()];
        assert_eq!(chosen(&cluster, ANY), ("m1".into(), Role::Leader));
        assert_eq!(
            chosen(&cluster, Wanted::Named("m2".into())),
            ("m2".into(), Role::Follower)
        );
        let error = choose(&[silent("m1"), learner()], &ANY, &[]).unwrap_err();
        let says = "m2: it is a learner, which is asked with `--member m2` only";
        assert!(error.to_string().ends_with(says), "{error}");
    }

    #[test]
    fn who_was_given_up_still_counts_for_what_the_cluster_is() {
        let learner = || with(member("m2", 2, 1), |status| status.learner = true);
        let error = choose(&[member("m1", 1, 1), learner()], &ANY, &["m1"]).unwrap_err();
        let says = "no member can be asked: m2: it is a learner, which is asked with `--member m2` only";
        assert_eq!(error.to_string(), says);
        // m3 lags too far behind a leader that was given up, though not behind m2.
        let at = |name, id, index| with(member(name, id, 1), |status| status.applied_index = index);
        let three = [at("m1", 1, 106_000), at("m2", 2, 100_000), at("m3", 3, 95_000)];
        let near = Wanted::Any {
            near: Some("m3".into()),
        };
        assert_eq!(choose(&three, &near, &["m1"]).unwrap().index, 1);
    }

    #[test]
    fn refusals_name_every_member() {
        let error = choose(&[silent("m1"), silent("m2")], &ANY, &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no member can be asked: m1: cannot reach http://m1:2379: connection refused; \
             m2: cannot reach http://m2:2379: connection refused"
        );
        let error = choose(&[member("m1", 1, 1)], &Wanted::Named("m9".into()), &[]).unwrap_err();
        assert_eq!(error.to_string(), "no member `m9` is configured; there are: m1");
        let other = with(member("m2", 2, 1), |status| status.cluster = ClusterId(10));
        let error = choose(&[member("m1", 1, 1), other], &ANY, &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the configured members belong to different clusters: m1 is of cluster 9, m2 is of cluster a"
        );
    }
}
