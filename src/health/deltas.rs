//! How the capture of changes is: what the agent says of it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{About, Event, Notice};
use crate::model::{ByteSize, ChainId, Revision};

/// For how long nothing may be captured before that is wrong.
const BORNE: SignedDuration = SignedDuration::from_mins(1);
/// For how long a destination may take nothing.
const BORNE_THERE: SignedDuration = SignedDuration::from_mins(5);

/// What a lane of capture does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capturing {
    /// It has no chain to go on with, or no etcd to ask: `trouble` says why.
    #[default]
    Waiting,
    /// It writes.
    Writing,
    /// Another host writes; it takes over where that one stops.
    StandingBy,
}

/// How one lane is: that of the destinations of this host alone, or that of those which several hosts write to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneState {
    /// `own` or `shared`.
    pub lane: String,
    /// What it does.
    pub capturing: Capturing,
    /// The chain.
    pub chain: Option<ChainId>,
    /// The revision of the full backup that the chain begins with.
    pub base: Option<Revision>,
    /// Under which epoch it writes.
    pub epoch: Option<u32>,
    /// The last revision that is safe on this host's disk, or in a destination.
    pub captured_to: Option<Revision>,
    /// The last revision of etcd that was heard of.
    pub etcd_revision: Option<Revision>,
    /// When everything that etcd had was captured last: what is lost with the cluster is what came since.
    pub whole_at: Option<Timestamp>,
    /// When a delta was finished last.
    pub flushed_at: Option<Timestamp>,
    /// How much waits for its destinations.
    pub spool: ByteCount,
    /// How much may.
    pub spool_most: ByteCount,
    /// Where it goes.
    pub destinations: Vec<LaneThere>,
    /// What keeps it from going on, if something does.
    pub trouble: Option<String>,
    /// Since when.
    pub trouble_since: Option<Timestamp>,
    /// The last hole that it had to leave, and why.
    pub last_gap: Option<String>,
}

/// A number of bytes, as a number.
pub type ByteCount = u64;

/// One destination of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneThere {
    /// Its name.
    pub destination: String,
    /// The last revision that it was given.
    pub stored_to: Option<Revision>,
    /// When.
    pub stored_at: Option<Timestamp>,
    /// Why it could not be given more, if so.
    pub trouble: Option<String>,
    /// Since when.
    #[serde(default)]
    pub trouble_since: Option<Timestamp>,
}

impl LaneState {
    /// By how many revisions it is behind, as far as it has heard.
    pub fn revisions_behind(&self) -> Option<i64> {
        let (etcd, captured) = (self.etcd_revision?, self.captured_to?);
        Some(etcd.get().saturating_sub(captured.get()).max(0))
    }

    /// What is wrong with it at `now`: what lasts for longer than passes by itself.
    pub fn notices(&self, now: Timestamp) -> Vec<Notice> {
        let lasts =
            |since: Option<Timestamp>, at_least| since.is_some_and(|since| now.duration_since(since) >= at_least);
        let mut notices = Vec::new();
        if let Some(why) = self.trouble.as_ref().filter(|_| lasts(self.trouble_since, BORNE)) {
            let message = format!("changes are not captured ({} destinations): {why}", self.lane);
            notices.push(Notice::new(Event::DeltasBehind, message));
        }
        for there in &self.destinations {
            if let Some(why) = there
                .trouble
                .as_ref()
                .filter(|_| lasts(there.trouble_since, BORNE_THERE))
            {
                let name = &there.destination;
                let message = format!("deltas do not reach destination {name}: {why}");
                notices.push(Notice::about(Event::DeltasBehind, About::destination(name), message));
            }
        }
        notices
    }

    /// How much waits for its destinations.
    pub fn waiting(&self) -> ByteSize {
        ByteSize(self.spool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_wrong_and_what_passes_is_not() {
        let begun: Timestamp = "2026-11-20T10:15:30Z".parse().unwrap();
        let after = |seconds| begun + SignedDuration::from_secs(seconds);
        let lane = LaneState {
            lane: "own".to_owned(),
            trouble: Some("no member answers".to_owned()),
            trouble_since: Some(begun),
            destinations: vec![LaneThere {
                destination: "far".to_owned(),
                trouble: Some("nobody there".to_owned()),
                trouble_since: Some(begun),
                ..LaneThere::default()
            }],
            ..LaneState::default()
        };
        for (seconds, wrong) in [(0, 0), (59, 0), (60, 1), (299, 1), (300, 2)] {
            assert_eq!(lane.notices(after(seconds)).len(), wrong, "{seconds}");
        }
        assert!(LaneState::default().notices(after(1000)).is_empty());
    }
}
