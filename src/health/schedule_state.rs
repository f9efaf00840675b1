//! How the schedules of a host stand, and what is wrong with them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{About, Event, Notice};
use crate::model::ChainId;
use crate::text::Length;

/// One schedule on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Its name.
    pub name: String,
    /// What is done: `full`, `verify` or `prune`.
    pub kind: String,
    /// What names its slots, as it is written in the configuration.
    pub when: String,
    /// By how much this host is behind each slot.
    pub jitter_seconds: u64,
    /// The next run; none if no slot comes any more.
    pub next: Option<NextRun>,
    /// The first slot whose work is not done though its time is over.
    pub late: Option<Late>,
    /// The slot of the last success where that lies in the future: this host's clock was ahead.
    pub ahead: Option<Timestamp>,
    /// Why the last attempt failed, if nothing has succeeded since.
    pub failure: Option<Failure>,
    /// What is waited for.
    pub waits: Vec<Wait>,
    /// Destinations that the last slot's backup is not in, or that were not pruned after it, and why.
    pub missing: Vec<Missing>,
    /// The last slot that is done, and by whom.
    pub last: Option<LastSlot>,
    /// Where its backups go.
    pub destinations: Vec<String>,
}

/// When a schedule runs next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextRun {
    /// The slot.
    pub slot: Timestamp,
    /// When this host takes it.
    pub at: Timestamp,
    /// Whether it has come while the host was off or asleep.
    pub is_catch_up: bool,
}

/// A slot whose work is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// The slot.
    pub slot: Timestamp,
    /// When its time was over.
    pub since: Timestamp,
}

/// A slot that is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed the last time.
    pub error: String,
    /// When it is tried again.
    pub again_at: Timestamp,
    /// The same for each destination where it fails.
    #[serde(default)]
    pub destinations: Vec<FailedThere>,
}

/// A slot that is tried again in one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedThere {
    /// The destination.
    pub destination: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed the last time.
    pub error: String,
    /// When it is tried again.
    pub again_at: Timestamp,
}

impl Failure {
    /// Why it fails everywhere, if that is the same.
    fn shared_error(&self, destinations: usize) -> Option<&str> {
        let mut errors = self.destinations.iter().map(|there| there.error.as_str());
        let first = errors.next().unwrap_or(&self.error);
        let is_everywhere = self.destinations.is_empty() || self.destinations.len() >= destinations;
        (is_everywhere && errors.all(|error| error == first)).then_some(first)
    }
}

/// A slot that another run, or another host, is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The slot.
    pub slot: Timestamp,
    /// The destination.
    pub destination: String,
    /// What is waited for.
    pub why: String,
}

/// Something that the last slot lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The destination, where it is of one.
    pub destination: Option<String>,
    /// What is missing.
    pub message: String,
}

/// A slot that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSlot {
    /// Which.
    pub slot: Timestamp,
    /// When this host saw that it is done.
    pub at: Timestamp,
    /// Its backups, by destination.
    pub copies: Vec<Copy>,
}

/// The backup of a slot in one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The destination.
    pub destination: String,
    /// The host that took it.
    pub host: String,
    /// The backup, if the schedule takes any.
    pub id: Option<ChainId>,
}

impl ScheduleState {
    /// What is wrong with it.
    pub(super) fn problems(&self, now: Timestamp) -> Vec<Notice> {
        let name = &self.name;
        let notice = |event, message: String| Notice::about(event, About::schedule(name), message);
        let late = self.late.map(|late| {
            let (since, slot) = (late.since, late.slot);
            let message = format!("schedule {name} is late since {since:.0}: slot {slot:.0} is not done");
            notice(Event::ScheduleLate, message)
        });
        let ahead = self.ahead.map(|slot| {
            let message = format!(
                "schedule {name}: its last success is dated in the future ({slot:.0}): this host's clock was ahead"
            );
            notice(Event::ScheduleLate, message)
        });
        let failed = |about: About, attempts: u32, error: &str, again_at: Timestamp| {
            let left = again_at.duration_since(now).as_secs().max(0);
            let times = match attempts {
                1 => "once".to_owned(),
                several => format!("{several} times"),
            };
            let again = Length(std::time::Duration::from_secs(left.unsigned_abs()));
            let message = format!("schedule {name} failed {times}, next try in {again}: {error}");
            Notice::about(Event::BackupFailed, about, message)
        };
        let failures = self.failure.iter().flat_map(|failure| {
            if let Some(error) = failure.shared_error(self.destinations.len()) {
                let about = About::schedule(name);
                return vec![failed(about, failure.attempts, error, failure.again_at)];
            }
            let each = failure.destinations.iter().map(|there| {
                let about = About {
                    destination: Some(there.destination.clone()),
                    ..About::schedule(name)
                };
                failed(about, there.attempts, &there.error, there.again_at)
            });
            each.collect()
        });
        let missing = self.missing.iter().map(|missing| {
            let about = About {
                destination: missing.destination.clone(),
                ..About::schedule(name)
            };
            let message = format!("schedule {name}: {}", missing.message);
            Notice::about(Event::BackupIncomplete, about, message)
        });
        late.into_iter().chain(ahead).chain(failures).chain(missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T10:15:30Z".parse().unwrap()
    }

    fn told(failing: &[(&str, &str)], missing: &[(Option<&str>, &str)]) -> Vec<(Option<String>, String)> {
        let there = |(destination, error): &(&str, &str)| FailedThere {
            destination: (*destination).to_owned(),
            attempts: 2,
            error: (*error).to_owned(),
            again_at: now(),
        };
        let failure = Failure {
            attempts: 2,
            error: "all of them".to_owned(),
            again_at: now(),
            destinations: failing.iter().map(there).collect(),
        };
        let missing = missing.iter().map(|(destination, message)| Missing {
            destination: destination.map(str::to_owned),
            message: (*message).to_owned(),
        });
        let state = ScheduleState {
            name: "hourly".to_owned(),
            kind: "full".to_owned(),
            when: "every 1 h".to_owned(),
            jitter_seconds: 0,
            next: None,
            late: None,
            ahead: None,
            failure: (!failing.is_empty()).then_some(failure),
            waits: Vec::new(),
            missing: missing.collect(),
            last: None,
            destinations: vec!["nas".to_owned(), "usb".to_owned()],
        };
        let problems = state.problems(now()).into_iter();
        problems
            .map(|notice| (notice.about.destination, notice.message))
            .collect()
    }

    #[test]
    fn what_one_destination_suffers_from_is_told_of_it_and_what_all_do_once() {
        let message = |error: &str| format!("schedule hourly failed 2 times, next try in 0 s: {error}");
        let down = [("nas", "etcd is down"), ("usb", "etcd is down")];
        assert_eq!(told(&down, &[]), [(None, message("etcd is down"))]);
        let [nas, usb] = ["nas", "usb"].map(|name| Some(name.to_owned()));
        let full = || (nas.clone(), message("nas is full"));
        assert_eq!(told(&[("nas", "nas is full")], &[]), [full()]);
        let away = (usb, message("usb is away"));
        let both = [("nas", "nas is full"), ("usb", "usb is away")];
        assert_eq!(told(&both, &[]), [full(), away]);
        let lacks = [(Some("nas"), "nas lacks it"), (None, "b1 stays")];
        assert_eq!(
            told(&[], &lacks),
            [
                (nas, "schedule hourly: nas lacks it".to_owned()),
                (None, "schedule hourly: b1 stays".to_owned())
            ]
        );
    }
}
