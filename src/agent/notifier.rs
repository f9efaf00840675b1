//! Whoever is to be told how things are, together: the journal, the hook, the heartbeat, systemd's watchdog.
//!
//! Leaves to the loop what happens and when it is looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Work;
use super::alerts::Alerts;
use super::heartbeat::{Heartbeat, Pulse};
use super::journal::Log;
use super::on_failure::Hook;
use super::store_probe::StoreProbe;
use super::watchdog::{HANGS_AFTER, Watchdog};
use crate::config::{Config, OnFailure};
use crate::health::{About, Event, Level, Look, Notice, Verdict, in_few_words};

/// What was told, and to whom.
pub struct Notifier {
    log: Log,
    alerts: Alerts,
    probe: StoreProbe,
    hook: Hook,
    heartbeat: Heartbeat,
    watchdog: Watchdog,
    /// The schedule whose job hangs.
    hanging: Option<String>,
    /// The program that knows of all that is wrong.
    told: Option<OnFailure>,
}

impl Notifier {
    /// Nothing was told yet. Needs a runtime to run in. `looked` is told when it was looked at the destinations.
    pub fn new(log: Log, looked: Arc<Notify>) -> Notifier {
        Notifier {
            log,
            alerts: Alerts::default(),
            probe: StoreProbe::new(looked),
            hook: Hook::new(log),
            heartbeat: Heartbeat::new(log),
            watchdog: Watchdog::default(),
            hanging: None,
            told: None,
        }
    }

    /// Takes in what was seen in the destinations.
    pub fn take_in(&mut self) {
        self.probe.take_in(Instant::now());
    }

    /// Looks at the destinations if it is time; only while no job runs. For how long to sleep at most until the next look.
    pub fn look_out(&mut self, work: &Arc<dyn Work>, config: &Arc<Config>) -> Duration {
        let now = Instant::now();
        self.probe.turn(work, config, now);
        match self.probe.is_looking() {
            // Its end is told.
            true => Duration::MAX,
            false => self.probe.due(now).saturating_duration_since(now),
        }
    }

    /// Takes in what a job has seen that has just ended.
    pub fn saw(&mut self, look: Look) {
        self.probe.saw(look, Instant::now());
    }

    /// Has the destinations looked at soon: something has changed.
    pub fn hurry(&mut self) {
        self.probe.hurry();
    }

    /// The same in a moment: something has happened outside.
    pub fn happened(&mut self) {
        self.probe.happened(Instant::now());
    }

    /// What the last look at the destinations found.
    pub fn look(&self) -> Option<&Look> {
        self.probe.look()
    }

    /// What is wrong beside that: a look that does not end, a heartbeat that does not get through, a job that hangs.
    pub fn problems(&self) -> Vec<Notice> {
        let silent = self.probe.silence(Instant::now());
        let hangs = self.hanging().map(|schedule| {
            let message = format!(
                "schedule {schedule}: its job has made no progress for {} min; the watchdog is not fed until it does",
                HANGS_AFTER.as_secs() / 60
            );
            Notice::about(Event::JobHangs, About::schedule(schedule), message)
        });
        silent
            .into_iter()
            .chain(self.heartbeat.problem())
            .chain(hangs)
            .collect()
    }

    /// Tells of what is wrong since the last time, and what is not any more: the journal of everything, the program of what
    /// is grave, and in one call of backups that are found not to be good at the same time.
    pub fn tell(&mut self, config: &Config, verdict: &Verdict) {
        let wrong = &verdict.problems;
        let news = self.alerts.look(wrong.clone(), self.probe.seen(), Instant::now());
        let mut calls: Vec<Notice> = Vec::new();
        // One that was added or changed has heard nothing of what is wrong already.
        if config.notify.on_failure != self.told {
            calls.extend(wrong.iter().filter(|notice| !news.contains(notice)).cloned());
            self.told.clone_from(&config.notify.on_failure);
        }
        calls.extend(news.iter().cloned());
        calls.retain(|notice| is_for_the_program(notice.event));
        for notice in in_few_words(calls) {
            self.call_hook(config, &notice);
        }
        for notice in news {
            if !is_logged_where_it_happens(notice.event) {
                let parts = notice.about.parts();
                let fields: Vec<(&str, &dyn std::fmt::Display)> = parts
                    .iter()
                    .map(|(word, part)| (*word, part as &dyn std::fmt::Display))
                    .collect();
                self.log.event(notice.event, &notice.message, &fields);
            }
        }
    }

    /// Sends the heartbeat if it is due and all is well; how long to sleep at most then, if that matters.
    pub fn beat(&mut self, config: &Config) -> Option<Duration> {
        let is_well = self.probe.is_known() && self.alerts.all_is_well() && !config.schedules.is_empty();
        let pulse = if is_well { Pulse::Beats } else { Pulse::Stays };
        self.heartbeat.turn(&config.notify, pulse, Instant::now())
    }

    /// Whether systemd's watchdog may be fed. `job` is the schedule of the one that runs and its signs of life.
    pub fn gets_on(&mut self, job: Option<(&str, u64)>, now: Instant) -> bool {
        let gets_on = self.watchdog.look(job.map(|(_, signs)| signs), now);
        self.hanging = job.filter(|_| !gets_on).map(|(schedule, _)| schedule.to_owned());
        gets_on
    }

    /// The schedule whose job does nothing any more.
    pub fn hanging(&self) -> Option<&str> {
        self.hanging.as_deref()
    }

    fn call_hook(&self, config: &Config, notice: &Notice) {
        if let Some(program) = &config.notify.on_failure {
            self.hook.tell(program, notice, config.cluster.name.as_str());
        }
    }
}

/// What the operator must mend, and that nothing of it is left: no warnings, and no part of the end.
fn is_for_the_program(event: Event) -> bool {
    event.level() == Level::Error || event == Event::Recovered
}

/// Whether the journal has it from where it happened, at each attempt.
fn is_logged_where_it_happens(event: Event) -> bool {
    matches!(
        event,
        Event::BackupFailed | Event::BackupIncomplete | Event::ConfigurationRefused | Event::HeartbeatFailed
    )
}
