//! Whether all is well, and if not, what is wrong: one verdict for `status`, the agent's alerts, the metrics and the
//! heartbeat. They print it; none of them judges.
//!
//! Pure: from what was read of the destinations (`stores`), of the schedules, of the members, of the agent, and from `now`.
//! Invariant: what is wrong for one of those that print it is wrong for all of them, as far as they know the facts.

mod agent;
mod behind;
mod deltas;
mod event;
mod members;
mod notice;
mod proof;
mod recipients;
mod schedule_state;
mod stores;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use agent::{AgentSigns, AgentState, Configuration, first_problem};
pub use behind::{BehindState, Owed, OwedBackup};
pub use deltas::{ByteCount, Capturing, LaneState, LaneThere, NO_MEMBER, RESTORED};
pub use event::{Event, Level};
pub use members::MemberState;
pub use notice::{About, Notice};
pub use proof::{LastProof, last_proof, proof_within, unproven_since};
pub use recipients::OtherRecipients;
pub use schedule_state::{Copy, FailedThere, Failure, LastSlot, Late, Missing, NextRun, ScheduleState, Wait};
pub use stores::{
    BackupState, CertificateState, Destination, DestinationState, ProofState, Stores, StoresState, Window,
};

/// Everything that a verdict is made from. What is not known to whoever asks is left out.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// The agent, as others see it.
    pub agent: Option<AgentState>,
    /// The configuration.
    pub configuration: Configuration<'a>,
    /// The schedules of this host.
    pub schedules: &'a [ScheduleState],
    /// What the last look at the destinations found.
    pub stores: Option<&'a Look>,
    /// The members, as they answered.
    pub members: &'a [MemberState],
    /// The member that backups are taken from and from no other.
    pub wanted_member: Option<&'a str>,
    /// What was found out elsewhere: restores that are open, files that could not be written.
    pub others: Vec<Notice>,
}

/// A look at the destinations: what there is, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// What there is.
    pub state: StoresState,
    /// What is wrong with it.
    pub problems: Vec<Notice>,
}

/// Whether all is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong; nothing if all is well.
    pub problems: Vec<Notice>,
    /// What somebody should know though nothing is wrong.
    pub notes: Vec<String>,
}

/// From how many bytes on a reason is not said again.
const MANY_WORDS: usize = 40;

impl Look {
    /// Judges what was read of the destinations.
    pub fn at(stores: &Stores<'_>) -> Look {
        Look {
            state: stores.state(),
            problems: stores.problems(),
        }
    }
}

impl Verdict {
    /// Judges all that is known at `now`.
    pub fn of(facts: &Facts<'_>, now: Timestamp) -> Verdict {
        let mut problems: Vec<Notice> = Vec::new();
        problems.extend(facts.agent.as_ref().and_then(AgentState::problem));
        problems.extend(facts.configuration.problem());
        problems.extend(facts.schedules.iter().flat_map(|schedule| schedule.problems(now)));
        problems.extend(facts.stores.iter().flat_map(|look| look.problems.iter().cloned()));
        problems.extend(members::problems(facts.members, facts.wanted_member));
        for other in &facts.others {
            // Another may have found the same.
            if !problems.iter().any(|problem| problem.message == other.message) {
                problems.push(other.clone());
            }
        }
        if members::all_are_silent(facts.members) {
            problems.iter_mut().for_each(leave_to_the_members);
        }
        leave_to_the_destinations(&mut problems);
        Verdict {
            problems,
            notes: members::notes(facts.members, facts.wanted_member),
        }
    }
}

/// Where nobody answers, each member has a notice that says why: what follows from it need not say it again.
fn leave_to_the_members(problem: &mut Notice) {
    if let Some(at) = problem.message.find(NO_MEMBER) {
        problem.message.truncate(at);
        problem.message.push_str("no member answers");
    }
}

/// What keeps a destination from being used is said once, with how to mend it: what follows from it only names the destination.
fn leave_to_the_destinations(problems: &mut [Notice]) {
    let reasons: Vec<(String, String)> = problems.iter().filter_map(reason_of_disabled).collect();
    for problem in problems
        .iter_mut()
        .filter(|problem| reason_of_disabled(problem).is_none())
    {
        for (name, why) in &reasons {
            let words = &mut problem.message;
            *words = words.replace(
                &format!("destination {name}: {why}"),
                &format!("destination {name}, which cannot be used"),
            );
            *words = words.replace(&format!("{name}: {why}"), &format!("destination {name} cannot be used"));
            *words = words.replace(why, &format!("destination {name} cannot be used"));
        }
    }
}

/// The name of a destination that cannot be read, and why in so many words that once is enough.
fn reason_of_disabled(problem: &Notice) -> Option<(String, String)> {
    let name = problem.about.destination.as_ref();
    let name = name.filter(|_| problem.event == Event::DestinationDisabled)?;
    let why = problem.message.strip_prefix(&format!("destination {name}: "))?;
    (why.len() >= MANY_WORDS).then(|| (name.clone(), why.to_owned()))
}

/// The same in few words: of the backups that are not good, the newest, and how many more there are.
pub fn in_few_words(problems: Vec<Notice>) -> Vec<Notice> {
    let of_one_backup = |notice: &Notice| notice.event == Event::BackupUnproven && notice.about.destination.is_none();
    let (bad, mut few): (Vec<_>, Vec<_>) = problems.into_iter().partition(of_one_backup);
    let more = bad.len().saturating_sub(1);
    few.extend(bad.into_iter().next_back().map(|mut newest| {
        if more > 0 {
            newest.message = format!("{} (and {more} more: see `lifeboat status`)", newest.message);
        }
        newest
    }));
    few
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_destination_cannot_be_used_is_said_once() {
        let why = "store 3a56 is not in `/mnt/b/prod`: mount it; if it is gone for good, remove `/var/lib/x.json`";
        let of = |event, words: &str| Notice::new(event, words.replace("WHY", why));
        let disabled = Notice::about(
            Event::DestinationDisabled,
            About::destination("nfs"),
            format!("destination nfs: {why}"),
        );
        let facts = Facts {
            others: vec![
                of(
                    Event::BackupFailed,
                    "schedule hourly failed 2 times, next try in 2 s: WHY",
                ),
                of(
                    Event::DeltasLate,
                    "changes are not captured: no destination can be read: nfs: WHY",
                ),
                of(Event::DeltasBehind, "deltas do not reach destination nfs: WHY"),
                disabled,
                of(Event::DeltasBehind, "deltas do not reach destination far: no space"),
            ],
            ..Facts::default()
        };
        let problems = Verdict::of(&facts, Timestamp::UNIX_EPOCH).problems;
        let words: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(
            words,
            [
                "schedule hourly failed 2 times, next try in 2 s: destination nfs cannot be used",
                "changes are not captured: no destination can be read: destination nfs cannot be used",
                "deltas do not reach destination nfs, which cannot be used",
                &format!("destination nfs: {why}"),
                "deltas do not reach destination far: no space",
            ]
        );
    }
}
