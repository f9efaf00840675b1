//! Following the configuration: read when asked, when a file changes, and now and then; one that is wrong changes nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use sd_notify::NotifyState;

use super::agenda::Agenda;
use super::config_watch::Files;
use super::daemon::{Agent, READ_EVERY, READ_EVERY_WHILE_REFUSED, tell};
use super::journal::Log;
use super::schedule_memory::Memory;
use super::write_failures::Unkept;
use crate::config::{self, Config, ScheduleName};
use crate::health::{Event, Level, first_problem};
use crate::model::ClusterName;
use crate::state;

/// Why the configuration is read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Somebody sent SIGHUP.
    Asked,
    /// A file changed.
    Changed,
    /// It is time to look.
    Due,
}

impl Agent {
    /// Reads the configuration anew; one that is wrong changes nothing.
    pub(super) fn reload(&mut self, files: &mut Files, reason: Reason) {
        // systemd takes both in one message, and waits for the end before it goes on.
        if reason != Reason::Due
            && let Ok(monotonic) = NotifyState::monotonic_usec_now()
        {
            tell(&[NotifyState::Reloading, monotonic]);
        }
        self.read_at = Instant::now();
        files.look_for_drop_ins();
        files.take_note(self.recipients_file());
        let now = (self.now)();
        let read = self.read_anew();
        if read.is_err() && reason == Reason::Changed && !self.settling.believes(Instant::now()) {
            // Somebody may still write it.
            tell(&[NotifyState::Ready]);
            return;
        }
        self.settling.done();
        match read {
            Ok(config) => {
                let was_broken = self.configuration_error.take().is_some();
                if config != *self.config {
                    let mut agenda = agenda(&config, &self.host, &self.state, Some(&self.agenda), self.log, now);
                    agenda.keep_retries_of(&self.agenda);
                    self.agenda = agenda;
                    self.unkept = Unkept::default();
                    self.keep_memories();
                    self.config = Arc::new(config);
                    // It begins anew with this one.
                    if let Some(capture) = &self.capture {
                        capture.stop();
                    }
                    self.configured_at = now;
                    let entries = self.agenda.entries();
                    self.log_of_runs
                        .keep_only(|name| entries.keys().any(|known| known.as_str() == name));
                    self.notifier.hurry();
                    let schedules = self.agenda.entries().len();
                    self.log.event(
                        Event::ConfigurationTaken,
                        "configuration taken over",
                        &[("schedules", &schedules)],
                    );
                } else if was_broken {
                    self.log.line(Level::Info, "the configuration is valid again", &[]);
                } else if reason == Reason::Asked {
                    self.log.line(
                        Level::Info,
                        "the configuration was read again: it is what is in force already",
                        &[],
                    );
                }
            }
            Err(error) => {
                if self.configuration_error.as_ref() != Some(&error) {
                    self.log.event(
                        Event::ConfigurationRefused,
                        "the configuration is invalid; the previous one stays in force",
                        &[("error", &first_problem(&error)), ("next", &"lifeboat check")],
                    );
                }
                self.configuration_error = Some(error);
            }
        }
        if reason != Reason::Due {
            tell(&[NotifyState::Ready]);
        }
    }

    /// Whether it is time to read the configuration though nothing says that it has changed.
    pub(super) fn is_due_to_read(&self) -> bool {
        let every = match self.configuration_error {
            Some(_) => READ_EVERY_WHILE_REFUSED,
            None => READ_EVERY,
        };
        self.read_at.elapsed() >= every
    }

    pub(super) fn recipients_file(&self) -> Option<&Path> {
        self.config.encryption.recipients_file.as_deref()
    }

    pub(super) fn read_anew(&self) -> Result<Config, String> {
        let loaded = config::load(&self.path).map_err(|error| error.to_string())?;
        let record = loaded.to_record();
        let config = loaded.config;
        let faults = (self.faults)(&config);
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        if config.cluster.name != self.config.cluster.name {
            return Err(of_another_cluster(&self.config.cluster.name, &config.cluster.name));
        }
        if let Some(record) = record
            && let Err(error) = state::remember_configuration(&self.base, &self.path, &record)
        {
            self.log.line(
                Level::Warning,
                "the configuration is not remembered",
                &[("error", &error)],
            );
        }
        Ok(config)
    }
}

/// Why an agent that began with one name of the cluster takes over no configuration with another.
pub fn of_another_cluster(before: &ClusterName, now: &ClusterName) -> String {
    format!("`cluster.name` was {before} when the agent began and is {now} now: restart it to follow")
}

/// The schedules of a configuration with what is remembered of them: by the agenda before, or else on the disk.
pub(super) fn agenda(
    config: &Config,
    host: &str,
    state: &Path,
    before: Option<&Agenda>,
    log: Log,
    now: Timestamp,
) -> Agenda {
    let on_disk = |name: &ScheduleName| match Memory::read(state, name.as_str()) {
        Ok(memory) => memory,
        Err(error) => {
            log.line(
                Level::Error,
                "what was done before cannot be read; starting afresh",
                &[("error", &error)],
            );
            None
        }
    };
    let remembered = |name: &ScheduleName| {
        let entry = before.and_then(|agenda| agenda.entries().get(name));
        entry.map(|entry| entry.memory.clone()).or_else(|| on_disk(name))
    };
    Agenda::new(config, host, remembered, now)
}
