//! What is wrong, and when somebody is to be told: once when it begins, once when all is well again.
//!
//! A pure function of the verdict, so that what is told and what `status` says cannot differ. Who is told,
//! and how, is left to `journal`, `on_failure` and `heartbeat`.
//!
//! Invariant: what stays wrong is told once, however often it is tried again and however its words change meanwhile; of
//! several of a kind each is told. What is only doubtful (a warning) is told when it begins, and is nothing that all could be
//! well again after; while something is, the end of what was wrong is told as that, and not as all.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::health::{About, Event, Level, Notice};

/// What is known to be wrong, of which somebody is told.
#[derive(Debug, Default)]
pub struct Alerts {
    /// In which words, each that is of the same kind.
    known: BTreeMap<(Event, About), Vec<String>>,
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
        for notice in &wrong {
            let messages = self.known.entry((notice.event, notice.about.clone())).or_default();
            if !messages.contains(&notice.message) {
                messages.push(notice.message.clone());
            }
        }
        let mut told: Vec<Notice> = Vec::new();
        for notice in wrong {
            let key = (notice.event, notice.about.clone());
            let old = before.get(&key).map_or(&[][..], Vec::as_slice);
            let now = self.known.get(&key).map_or(0, Vec::len);
            let told_of_it = told.iter().filter(|told| told.event == key.0 && told.about == key.1);
            // As many as there are more: one in other words than before may be an old one.
            let is_one_more = told_of_it.count() + old.len() < now;
            if is_one_more && !old.contains(&notice.message) && !told.contains(&notice) {
                told.push(notice);
            }
        }
        for (event, about) in before.into_keys() {
            if event == Event::ScheduleLate && !self.known.contains_key(&(event, about.clone())) {
                let message = "the schedule is in time again";
                told.push(Notice::about(Event::ScheduleInTime, about, message));
            }
        }
        let is_grave = self.is_grave();
        self.was_wrong |= is_grave;
        self.gone_since = (!is_grave).then(|| self.gone_since.unwrap_or(now));
        let is_seen = match seen {
            Seen::All => true,
            Seen::From(from) => self.gone_since.is_some_and(|since| from >= since),
            Seen::Nothing => false,
        };
        if self.was_wrong && !is_grave && is_seen {
            self.was_wrong = false;
            told.push(Notice::new(Event::Recovered, self.end()));
        }
        told
    }

    /// What is said at the end of what was wrong, with what is doubtful still.
    fn end(&self) -> String {
        let doubts: Vec<&String> = self.known.values().flatten().collect();
        match doubts.as_slice() {
            [] => "all is well again".to_owned(),
            [only] => format!("what was wrong is mended, but {only}"),
            [first, more @ ..] => format!(
                "what was wrong is mended, but {first} (and {} more: see `lifeboat status`)",
                more.len()
            ),
        }
    }

    /// Whether nothing grave is wrong.
    pub fn all_is_well(&self) -> bool {
        !self.is_grave() && !self.was_wrong
    }

    fn is_grave(&self) -> bool {
        self.known.keys().any(|(event, _)| event.level() == Level::Error)
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
    fn each_of_several_of_a_kind_is_told_once() {
        let mut alerts = Alerts::default();
        let mut look = |messages: &[&str]| -> Vec<String> {
            let wrong = messages
                .iter()
                .map(|message| Notice::new(Event::SecretUnreadable, *message));
            let told = alerts.look(wrong.collect(), Seen::All, Instant::now());
            told.into_iter().map(|told| told.message).collect()
        };
        assert_eq!(look(&["a", "b", "a"]), ["a", "b"]);
        assert_eq!(look(&["a", "b"]), [""; 0]);
        assert_eq!(look(&["a", "c", "b"]), ["c"], "one more");
        assert_eq!(look(&["a", "c, tried twice", "b"]), [""; 0], "the same in other words");
        assert_eq!(look(&["a"]), [""; 0]);
        assert_eq!(look(&["a", "b"]), ["b"], "it came again");
    }

    #[test]
    fn a_warning_is_told_once_and_is_nothing_to_recover_from() {
        let mut alerts = Alerts::default();
        let mut look = |wrong: &[Event]| {
            let wrong = wrong.iter().map(|event| Notice::new(*event, "why"));
            let told = events(&alerts.look(wrong.collect(), Seen::All, Instant::now()));
            (told, alerts.all_is_well())
        };
        let empty = Event::NoBackup;
        assert_eq!(look(&[empty]), (vec!["no-backup"], true));
        assert_eq!(look(&[empty]), (vec![], true));
        let both = [empty, Event::DestinationDisabled];
        assert_eq!(look(&both), (vec!["destination-disabled"], false));
        assert_eq!(look(&[empty]), (vec!["recovered"], true));
        assert_eq!(look(&[]), (vec![], true));
        assert_eq!(look(&[empty]), (vec!["no-backup"], true));
    }

    #[test]
    fn all_is_not_well_again_while_something_is_doubtful() {
        let mut alerts = Alerts::default();
        let notice = |event| Notice::new(event, format!("{} holds", Event::name(event)));
        let mut look = |wrong: &[Event]| {
            let told = alerts.look(wrong.iter().copied().map(notice).collect(), Seen::All, Instant::now());
            told.into_iter().next_back().map(|told| told.message)
        };
        look(&[Event::ClockSetBack, Event::ScheduleLate]);
        let end = look(&[Event::ClockSetBack]);
        assert_eq!(
            end.as_deref(),
            Some("what was wrong is mended, but clock-set-back holds")
        );
        look(&[Event::ClockSetBack, Event::NoBackup, Event::ScheduleLate]);
        let end = look(&[Event::ClockSetBack, Event::NoBackup]).unwrap();
        assert!(end.ends_with(" holds (and 1 more: see `lifeboat status`)"), "{end}");
        look(&[Event::ScheduleLate]);
        assert_eq!(look(&[]).as_deref(), Some("all is well again"));
    }
}
