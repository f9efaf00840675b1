//! Whoever is to be told how things are, together: the journal, the hook, the heartbeat, systemd's watchdog.
//!
//! Leaves to the loop what happens and when it is looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Work;
use super::heartbeat::{Health, Heartbeat};
use super::hook::Hook;
use super::journal::Log;
use super::notices::{Notices, wrong};
use super::outlook::Outlook;
use super::status::Report;
use super::watchdog::{HANGS_AFTER, Verdict, Watchdog};
use crate::config::Config;
use crate::health::Event;
use crate::health::{About, Notice};

/// What was told, and to whom.
pub struct Telling {
    log: Log,
    notices: Notices,
    outlook: Outlook,
    hook: Hook,
    heartbeat: Heartbeat,
    watchdog: Watchdog,
}

impl Telling {
    /// Nothing was told yet. Needs a runtime to run in.
    pub fn new(log: Log) -> Telling {
        Telling {
            log,
            notices: Notices::default(),
            outlook: Outlook::default(),
            hook: Hook::new(log),
            heartbeat: Heartbeat::new(log),
            watchdog: Watchdog::default(),
        }
    }

    /// Takes in what was seen in the destinations.
    pub fn take_in(&mut self) {
        self.outlook.take_in(Instant::now());
    }

    /// Looks at the destinations if it is time; only while no job runs.
    pub fn look_out(&mut self, work: &Arc<dyn Work>, config: &Arc<Config>) {
        self.outlook.turn(work, config, Instant::now());
    }

    /// Has the destinations looked at soon: something has changed.
    pub fn hurry(&mut self) {
        self.outlook.hurry();
    }

    /// What there is to doubt in the destinations.
    pub fn doubts(&self) -> Vec<Notice> {
        self.outlook.doubts(Instant::now())
    }

    /// Tells of what is wrong since the last time, and what is not any more.
    pub fn tell(&mut self, config: &Config, report: &Report) {
        for notice in self.notices.look(wrong(report), self.outlook.seen(), Instant::now()) {
            if !is_logged_where_it_happens(notice.event) {
                let parts = notice.about.parts();
                let fields: Vec<(&str, &dyn std::fmt::Display)> = parts
                    .iter()
                    .map(|(word, part)| (*word, part as &dyn std::fmt::Display))
                    .collect();
                self.log.event(notice.event, &notice.message, &fields);
            }
            if notice.event != Event::ScheduleInTime {
                self.call_hook(config, &notice);
            }
        }
    }

    /// Sends the heartbeat if it is due and all is well; how long to sleep at most then, if that matters.
    pub fn beat(&mut self, config: &Config) -> Option<Duration> {
        let is_well = self.outlook.is_known()
            && self.notices.all_is_well()
            && !self.watchdog.hangs()
            && !config.schedules.is_empty();
        let health = if is_well { Health::Well } else { Health::Unwell };
        self.heartbeat.turn(&config.notify, health, Instant::now())
    }

    /// Whether systemd's watchdog may be fed. `job` is the schedule of the one that runs and its signs of life.
    pub fn gets_on(&mut self, config: &Config, job: Option<(&str, u64)>, now: Instant) -> bool {
        match self.watchdog.look(job.map(|(_, signs)| signs), now) {
            Verdict::Feed => true,
            Verdict::StillHangs => false,
            Verdict::Hangs => {
                let schedule = job.map_or("", |(schedule, _)| schedule);
                let message = "the job does nothing any more; the watchdog is not fed until it does";
                self.log.event(
                    Event::JobHangs,
                    message,
                    &[("schedule", &schedule), ("seconds", &HANGS_AFTER.as_secs())],
                );
                let notice = Notice {
                    event: Event::JobHangs,
                    about: About::schedule(schedule),
                    message: message.to_owned(),
                };
                self.call_hook(config, &notice);
                false
            }
        }
    }

    fn call_hook(&self, config: &Config, notice: &Notice) {
        if let Some(program) = &config.notify.on_failure {
            self.hook.tell(program, notice, config.cluster.name.as_str());
        }
    }
}

/// Whether the journal has it from where it happened, at each attempt.
fn is_logged_where_it_happens(event: Event) -> bool {
    matches!(
        event,
        Event::BackupFailed | Event::BackupIncomplete | Event::ConfigurationRefused
    )
}
