//! How the capture of changes is: what the agent says of it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{About, Event, Notice};
use crate::model::{ByteSize, ChainId, Revision};
use crate::text::Length;

/// So many times `every` changes may wait before that is doubtful.
const LATE_AFTER_FLUSHES: u64 = 5;
/// So long they always may, in milliseconds: no server is elected and no agent started anew within less.
const LATE_AFTER_AT_LEAST_MS: u64 = 30_000;
/// For how long nothing may be captured before that is wrong.
const CRITICAL: SignedDuration = SignedDuration::from_mins(10);
/// What part of the spool may be in use before that is doubtful, in percent.
const FULL_ENOUGH_PERCENT: u64 = 80;
/// For how long a destination may take nothing.
const BORNE_THERE: SignedDuration = SignedDuration::from_mins(5);

/// How a chain is counted whose end a restore on this host explains, whatever its document says.
pub const RESTORED: &str = "restored";

/// How it is said that no member can be asked, also where some answer that are not meant; the reasons stand behind it.
pub const NO_MEMBER: &str = "no member can be asked";

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
    /// The host that writes, where that is another one and is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// The last revision that is safe on this host's disk, or in a destination.
    pub captured_to: Option<Revision>,
    /// The last revision of etcd that was heard of.
    pub etcd_revision: Option<Revision>,
    /// When everything that etcd had was captured last: what is lost with the cluster is what came since.
    pub whole_at: Option<Timestamp>,
    /// When etcd was heard last, where it had nothing then that was not captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// Since when etcd has something that is not captured; none where it has nothing, as far as it was heard of.
    #[serde(default)]
    pub behind_since: Option<Timestamp>,
    /// How long a change may wait to be captured, in milliseconds.
    #[serde(default)]
    pub every_ms: u64,
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
    /// Whether it is that no member of etcd answers, whichever is meant to be asked.
    #[serde(default)]
    pub nobody_answers: bool,
    /// Why what it captures may be wrong, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// The last hole that it had to leave, and why.
    pub last_gap: Option<String>,
    /// How often a chain was ended since capture began, by the reason.
    #[serde(default)]
    pub gaps: BTreeMap<String, u64>,
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
    /// How many objects it was given since capture began.
    #[serde(default)]
    pub puts: u64,
    /// How large they were.
    #[serde(default)]
    pub put_bytes: u64,
}

impl LaneState {
    /// By how many revisions it is behind, as far as it has heard.
    pub fn revisions_behind(&self) -> Option<i64> {
        let (etcd, captured) = (self.etcd_revision?, self.captured_to?);
        Some(etcd.get().saturating_sub(captured.get()).max(0))
    }

    /// For how long a change that etcd has was not captured at `now`: what is lost with the cluster. Where another host writes, as
    /// far as is seen of it. Nothing where it never was heard of any.
    pub fn lag(&self, now: Timestamp) -> Option<SignedDuration> {
        // Where etcd is not heard, whatever it has may have come since it was.
        let heard = self.whole_at.max(self.heard_at);
        let unheard = self.trouble_since.map(|since| heard.unwrap_or(since));
        let since = [self.behind_since, unheard].into_iter().flatten().min();
        let lag = since.map(|since| now.duration_since(since));
        lag.or(self.whole_at.map(|_| SignedDuration::ZERO))
            .map(|lag| lag.max(SignedDuration::ZERO))
    }

    /// From which lag on that is doubtful.
    pub fn late_after(&self) -> SignedDuration {
        let late = self
            .every_ms
            .saturating_mul(LATE_AFTER_FLUSHES)
            .max(LATE_AFTER_AT_LEAST_MS);
        SignedDuration::from_millis(i64::try_from(late).unwrap_or(i64::MAX))
    }

    /// Whether it does not go on because no member of etcd answers: nothing is captured, and nothing can be written either.
    pub fn hears_nobody(&self) -> bool {
        self.nobody_answers && self.trouble.is_some()
    }

    /// Who writes where this host stands by, in words.
    pub fn who_writes(&self) -> String {
        let named = self.writer.as_ref().map(|host| format!("host {host}"));
        named.unwrap_or_else(|| "another host".to_owned())
    }

    /// That it lags, on one of two levels.
    fn lags(&self, now: Timestamp) -> Option<Notice> {
        let lag = self.lag(now)?;
        let event = match (lag >= self.late_after().max(CRITICAL), lag >= self.late_after()) {
            (true, _) => Event::DeltasBehind,
            (false, true) => Event::DeltasLate,
            (false, false) => return None,
        };
        let lane = &self.lane;
        // In the same words as long as it lasts.
        let least = match event {
            Event::DeltasBehind => self.late_after().max(CRITICAL),
            _ => self.late_after(),
        };
        let why = match (&self.trouble, self.capturing) {
            (Some(why), _) => format!(": {why}"),
            (None, Capturing::StandingBy) => {
                format!(": {} is to write them, and nothing comes of it", self.who_writes())
            }
            (None, Capturing::Waiting | Capturing::Writing) => String::new(),
        };
        let message = format!(
            "changes are not captured for more than {} ({lane} destinations){why}",
            Length(least.unsigned_abs())
        );
        Some(Notice::new(event, message))
    }

    /// That there is hardly room for what waits.
    fn fills(&self) -> Option<Notice> {
        let enough = self.spool_most.saturating_mul(FULL_ENOUGH_PERCENT) / 100;
        (self.spool_most > 0 && self.spool >= enough).then(|| {
            let most = ByteSize(self.spool_most);
            let message = format!(
                "more than {FULL_ENOUGH_PERCENT} % of the spool of deltas ({most}, {} destinations) wait: once it is full, a \
                 destination that is away has no deltas before the next full backup",
                self.lane
            );
            Notice::new(Event::DeltasLate, message)
        })
    }

    /// What is wrong with it at `now`: what lasts for longer than passes by itself.
    pub fn notices(&self, now: Timestamp) -> Vec<Notice> {
        let lasts =
            |since: Option<Timestamp>, at_least| since.is_some_and(|since| now.duration_since(since) >= at_least);
        let mut notices: Vec<Notice> = self.lags(now).into_iter().chain(self.fills()).collect();
        let doubt = self.doubt.clone();
        notices.extend(doubt.map(|doubt| Notice::new(Event::DeltasBehind, doubt)));
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
    use crate::health::Window;

    fn at(seconds: i64) -> Timestamp {
        let begun: Timestamp = "2026-11-20T10:15:30Z".parse().unwrap();
        begun + SignedDuration::from_secs(seconds)
    }

    fn lane() -> LaneState {
        LaneState {
            lane: "own".to_owned(),
            capturing: Capturing::Writing,
            every_ms: 10_000,
            whole_at: Some(at(0)),
            ..LaneState::default()
        }
    }

    fn events(lane: &LaneState, seconds: i64) -> Vec<Event> {
        lane.notices(at(seconds))
            .into_iter()
            .map(|notice| notice.event)
            .collect()
    }

    #[test]
    fn what_lasts_is_wrong_on_two_levels_and_what_passes_is_not() {
        let unheard = LaneState {
            trouble: Some("no member answers".to_owned()),
            trouble_since: Some(at(8)),
            ..lane()
        };
        let waits = LaneState {
            behind_since: Some(at(0)),
            ..lane()
        };
        for (seconds, expected) in [
            (0, vec![]),
            (49, vec![]),
            (50, vec![Event::DeltasLate]),
            (599, vec![Event::DeltasLate]),
            (600, vec![Event::DeltasBehind]),
        ] {
            assert_eq!(events(&unheard, seconds), expected, "{seconds}");
            assert_eq!(events(&waits, seconds), expected, "{seconds}");
        }
        let told = unheard.notices(at(60)).remove(0).message;
        assert!(told.contains("no member answers"), "{told}");
        assert_eq!(told, unheard.notices(at(300)).remove(0).message, "it is told once");
        // At rest nothing is lost, however long that lasts, nor where another host writes all that there is.
        assert!(events(&lane(), 100_000).is_empty());
        let stands_by = |lane| LaneState {
            capturing: Capturing::StandingBy,
            ..lane
        };
        assert!(events(&stands_by(lane()), 100_000).is_empty());
        // Where it does not, that is as late as where this host does not.
        let late = stands_by(waits.clone());
        assert_eq!(
            (events(&late, 49), events(&late, 50)),
            (vec![], vec![Event::DeltasLate])
        );
        let told = late.notices(at(60)).remove(0).message;
        assert!(told.contains("another host is to write them"), "{told}");
        assert!(LaneState::default().notices(at(1000)).is_empty());
        // Who flushes once an hour is not late within it, and who flushes each second not in a blink.
        let of = |every_ms| LaneState {
            every_ms,
            ..waits.clone()
        };
        assert_eq!(events(&of(3_600_000), 17_999), []);
        assert_eq!(events(&of(3_600_000), 18_000), [Event::DeltasBehind]);
        assert_eq!(
            (events(&of(1000), 29), events(&of(1000), 30)),
            (vec![], vec![Event::DeltasLate])
        );
    }

    #[test]
    fn an_etcd_that_goes_while_nothing_is_written_is_late_from_when_it_was_heard_last() {
        // The last mark was almost a minute ago, and all was there.
        let gone = LaneState {
            heard_at: Some(at(55)),
            trouble: Some("no member answers".to_owned()),
            trouble_since: Some(at(56)),
            ..lane()
        };
        assert_eq!(gone.lag(at(60)), Some(SignedDuration::from_secs(5)));
        assert_eq!(
            (events(&gone, 104), events(&gone, 105)),
            (vec![], vec![Event::DeltasLate])
        );
        let back = LaneState {
            trouble: None,
            trouble_since: None,
            ..gone.clone()
        };
        assert_eq!(back.lag(at(1000)), Some(SignedDuration::ZERO));
        // Something that came before and was not captured waits since then.
        let waits = LaneState {
            behind_since: Some(at(50)),
            ..gone
        };
        assert_eq!(waits.lag(at(60)), Some(SignedDuration::from_secs(10)));
    }

    #[test]
    fn what_is_stored_of_changes_moves_the_end_of_the_window_of_their_history() {
        let revision = |number| Revision::new(number).unwrap();
        let id = |text: &str| -> ChainId { text.parse().unwrap() };
        let window = Window {
            lineage: "00000000000000ab-00000001".parse().unwrap(),
            accepted: true,
            points: 1,
            from_revision: revision(3),
            to_revision: revision(7),
            from_time: at(0),
            to_time: at(10),
            every_point_from: None,
            every_point_from_time: None,
        };
        let (newest, other) = (id("20261120T101530Z-00000001"), id("20261120T101530Z-00000002"));
        let stored = |to, seconds| LaneThere {
            stored_to: Some(revision(to)),
            stored_at: Some(at(seconds)),
            ..LaneThere::default()
        };
        let lane = LaneState {
            chain: Some(newest.clone()),
            destinations: vec![stored(9, 20), stored(8, 15), LaneThere::default()],
            ..lane()
        };
        let lanes = [lane];
        assert_eq!(window.end_by_now(Some(&newest), &lanes), (revision(9), at(20)));
        for of in [Some(&other), None] {
            assert_eq!(window.end_by_now(of, &lanes), (revision(7), at(10)));
        }
        assert_eq!(window.end_by_now(Some(&newest), &[]), (revision(7), at(10)));
    }

    #[test]
    fn a_destination_that_takes_nothing_and_a_spool_that_fills_are_told() {
        let away = LaneState {
            destinations: vec![LaneThere {
                destination: "far".to_owned(),
                trouble: Some("nobody there".to_owned()),
                trouble_since: Some(at(0)),
                ..LaneThere::default()
            }],
            ..lane()
        };
        assert_eq!(
            (events(&away, 299), events(&away, 300)),
            (vec![], vec![Event::DeltasBehind])
        );
        let fills = |spool| LaneState {
            spool,
            spool_most: 1000,
            ..lane()
        };
        assert_eq!(
            (events(&fills(799), 0), events(&fills(800), 0)),
            (vec![], vec![Event::DeltasLate])
        );
    }
}
