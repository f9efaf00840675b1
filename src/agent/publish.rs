//! How the agent is, judged and told: to systemd, to `status` and to the metrics.

use std::time::Instant;

use jiff::Timestamp;
use sd_notify::NotifyState;

use super::capture::Capture;
use super::daemon::{Agent, tell};
use super::status_file::{Report, Running, schedule_state};
use super::write_failures::STATUS;
use crate::durable;
use crate::health::{Configuration, Event, Facts, Notice, ScheduleState, Verdict, in_few_words};
use crate::jobs::clock_set_back;
use crate::restore::LedgerPaths;

impl Agent {
    /// Writes `status.json` and tells systemd, where something changed.
    pub(super) fn say_status(&mut self) {
        let now = (self.now)();
        let (report, verdict) = self.judge(now);
        self.notifier.tell(&self.config, &verdict);
        if self.said.as_ref().is_some_and(|said| report.says_no_more_than(said)) {
            return;
        }
        tell(&[NotifyState::Status(&report.one_line())]);
        self.metrics.publish(&self.config.metrics, &report, self.now);
        let written = durable::create_dirs(&self.state, 0o755).and_then(|()| report.write(&self.state));
        // Not said until it stands there: each turn tries again.
        self.said = written.is_ok().then_some(report);
        self.unkept.note(STATUS, written);
        if self.said.is_none() {
            // What stands there is not true any more. On a full disk it can be removed all the same.
            Report::remove(&self.state);
            let (_, verdict) = self.judge(now);
            self.notifier.tell(&self.config, &verdict);
        }
    }

    /// Judges how things are, and reports it.
    pub(super) fn judge(&self, now: Timestamp) -> (Report, Verdict) {
        let schedules: Vec<ScheduleState> = self
            .agenda
            .entries()
            .iter()
            .filter_map(|(name, entry)| {
                let kind = self.config.schedules.get(name)?.kind;
                Some(schedule_state(name, kind, entry, self.watch.from(), now))
            })
            .collect();
        let configuration = Configuration {
            broken: None,
            refused: self.configuration_error.as_deref(),
        };
        let look = self.notifier.look();
        let lanes = self.capture.as_ref().map_or(Vec::new(), Capture::states);
        let others: Vec<Notice> = self
            .notifier
            .problems()
            .into_iter()
            .chain(self.unkept.notice())
            .chain(clock_set_back::notice(&self.memory, now))
            .chain(self.metrics.problems(Instant::now()))
            .chain(open_restore())
            .chain(lanes.iter().flat_map(|lane| lane.notices(now)))
            .collect();
        let facts = Facts {
            configuration,
            schedules: &schedules,
            stores: look,
            others: others.clone(),
            ..Facts::default()
        };
        let verdict = Verdict::of(&facts, now);
        let doubts = look.iter().flat_map(|look| look.problems.iter().cloned());
        let doubts: Vec<Notice> = doubts.chain(others).collect();
        let all = doubts.len();
        let doubts = in_few_words(doubts);
        let stores = look.map(|look| look.state.clone());
        let report = Report {
            schema: 2,
            pid: std::process::id(),
            host: self.host.clone(),
            configuration: std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            written_at: now,
            configured_at: self.configured_at,
            configuration_error: self.configuration_error.clone(),
            running: self.job.as_ref().map(|job| Running {
                schedule: job.schedule.to_string(),
                slot: job.slot.instant(),
                since: job.since,
            }),
            schedules,
            more_unproven: (all - doubts.len()) as u64,
            doubts,
            stores,
            deltas: lanes,
            log: self.log_of_runs.clone(),
        };
        (report, verdict)
    }
}

/// A restore that has changed what etcd uses, and has not ended. How far it is, only root may read.
fn open_restore() -> Option<Notice> {
    let id = LedgerPaths::default().noticed()?;
    let message =
        format!("restore {id} is open on this host, and no backup is taken before it ends: see `lifeboat status`");
    Some(Notice::new(Event::RestoreOpen, message))
}
