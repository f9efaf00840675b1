//! What is wrong, and when somebody is to be told: once when it begins, once when all is well again.
//!
//! A pure function of the verdict, so that what is told and what `status` says cannot differ. Who is told,
//! and how, is left to `journal`, `hook` and `heartbeat`.
//!
//! Invariant: what stays wrong is told once, however often it is tried again.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::health::{About, Event, Notice};

/// What is known to be wrong, of which somebody is told.
#[derive(Debug, Default)]
pub struct Alerts {
    known: BTreeMap<(Event, About), String>,
    /// Whether the end of it is still to be told.
    was_wrong: bool,
    /// Since when nothing of it is left.
    gone_since: Option<Instant>,
}

/// Whether what is wrong can be all that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Everything was looked at since something changed.
    All,
    /// What was there at this moment.
    From(Instant),
    /// Not everything: nobody is told yet that all is well again.
    Nothing,
}

impl Alerts {
    /// What is to be told now that this is wrong, and nothing else.
    pub fn look(&mut self, wrong: Vec<Notice>, seen: Seen, now: Instant) -> Vec<Notice> {
        let before = std::mem::take(&mut self.known);
        let mut told = Vec::new();
        for notice in wrong {
            let key = (notice.event, notice.about.clone());
            let is_new = !before.contains_key(&key) && !self.known.contains_key(&key);
            self.known.insert(key, notice.message.clone());
            if is_new {
                told.push(notice);
            }
        }
        for (event, about) in before.into_keys() {
            if event == Event::ScheduleLate && !self.known.contains_key(&(event, about.clone())) {
                let message = "the schedule is in time again";
                told.push(Notice::about(Event::ScheduleInTime, about, message));
            }
        }
        self.was_wrong |= !self.known.is_empty();
        self.gone_since = self.known.is_empty().then(|| self.gone_since.unwrap_or(now));
        let is_seen = match seen {
            Seen::All => true,
            Seen::From(from) => self.gone_since.is_some_and(|since| from >= since),
            Seen::Nothing => false,
        };
        if self.was_wrong && self.known.is_empty() && is_seen {
            self.was_wrong = false;
            told.push(Notice::new(Event::Recovered, "all is well again"));
        }
        told
    }

    /// Whether nothing is wrong.
    pub fn all_is_well(&self) -> bool {
        self.known.is_empty() && !self.was_wrong
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn notice(event: Event, schedule: &str, message: &str) -> Notice {
        Notice {
            event,
            about: About::schedule(schedule),
            message: message.to_owned(),
        }
    }

    fn events(told: &[Notice]) -> Vec<&'static str> {
        told.iter().map(|notice| notice.event.name()).collect()
    }

    #[test]
    fn what_stays_wrong_is_told_once_and_its_end_when_all_is_well() {
        let mut alerts = Alerts::default();
        assert_eq!(alerts.look(Vec::new(), Seen::All, Instant::now()), []);
        let failed = |message: &str| notice(Event::BackupFailed, "hourly", message);
        assert_eq!(
            alerts.look(vec![failed("etcd is down")], Seen::All, Instant::now()),
            [failed("etcd is down")]
        );
        assert_eq!(
            alerts.look(vec![failed("etcd is down, tried twice")], Seen::All, Instant::now()),
            []
        );
        let late = notice(Event::ScheduleLate, "hourly", "late");
        let both = vec![failed("still"), late.clone()];
        assert_eq!(alerts.look(both, Seen::All, Instant::now()), [late]);
        assert!(!alerts.all_is_well());
        let other = notice(Event::BackupFailed, "daily", "etcd is down");
        assert_eq!(
            events(&alerts.look(vec![other], Seen::All, Instant::now())),
            ["backup-failed", "schedule-in-time"]
        );
        assert_eq!(
            events(&alerts.look(Vec::new(), Seen::All, Instant::now())),
            ["recovered"]
        );
        assert!(alerts.all_is_well());
        assert_eq!(alerts.look(Vec::new(), Seen::All, Instant::now()), []);
        assert_eq!(
            events(&alerts.look(vec![failed("again")], Seen::All, Instant::now())),
            ["backup-failed"]
        );
    }

    #[test]
    fn the_end_is_not_told_before_everything_was_looked_at() {
        let mut alerts = Alerts::default();
        let failed = notice(Event::BackupFailed, "hourly", "etcd is down");
        alerts.look(vec![failed], Seen::All, Instant::now());
        assert_eq!(alerts.look(Vec::new(), Seen::Nothing, Instant::now()), []);
        assert!(!alerts.all_is_well());
        let wiped = notice(Event::NewLineage, "hourly", "there is more than one history");
        assert_eq!(alerts.look(vec![wiped.clone()], Seen::All, Instant::now()), [wiped]);
        assert_eq!(alerts.look(Vec::new(), Seen::Nothing, Instant::now()), []);
        assert_eq!(
            events(&alerts.look(Vec::new(), Seen::All, Instant::now())),
            ["recovered"]
        );
        assert_eq!(alerts.look(Vec::new(), Seen::All, Instant::now()), []);
    }

    #[test]
    fn a_look_that_began_when_the_trouble_was_over_tells_its_end_though_more_has_changed_since() {
        let (mut alerts, start) = (Alerts::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let failed = || vec![notice(Event::BackupFailed, "hourly", "etcd is down")];
        alerts.look(failed(), Seen::All, at(0));
        assert_eq!(alerts.look(Vec::new(), Seen::From(at(1)), at(2)), []);
        assert_eq!(
            alerts.look(failed(), Seen::From(at(1)), at(3)).len(),
            1,
            "it came again"
        );
        assert_eq!(alerts.look(Vec::new(), Seen::From(at(2)), at(4)), []);
        assert_eq!(
            events(&alerts.look(Vec::new(), Seen::From(at(4)), at(9))),
            ["recovered"]
        );
    }

    #[test]
    fn two_causes_of_the_same_are_told_as_one() {
        let mut alerts = Alerts::default();
        let failed = |message: &str| notice(Event::BackupFailed, "hourly", message);
        assert_eq!(
            alerts
                .look(vec![failed("a"), failed("b")], Seen::All, Instant::now())
                .len(),
            1
        );
        assert_eq!(
            alerts
                .look(vec![failed("a"), failed("b")], Seen::All, Instant::now())
                .len(),
            0
        );
    }
}
