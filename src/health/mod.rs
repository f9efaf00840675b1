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
mod schedules;
mod stores;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use agent::{AgentSigns, AgentState, Configuration};
pub use behind::{BehindState, Owed, OwedBackup};
pub use deltas::{ByteCount, Capturing, LaneState, LaneThere, NO_MEMBER};
pub use event::{Event, Level};
pub use members::MemberState;
pub use notice::{About, Notice};
pub use proof::{LastProof, last_proof, proof_within, unproven_since};
pub use recipients::OtherRecipients;
pub use schedules::{Copy, FailedThere, Failure, LastSlot, Late, Missing, NextRun, ScheduleState, Wait};
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
