//! The loop: what is due is begun, what ended is kept and told, and the configuration is read when it changes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot, watch};

use super::agenda::{Agenda, Next};
use super::capture::{self, Capture};
use super::config_watch::Files;
use super::debounce::Settling;
use super::metrics::Metrics;
use super::notifier::Notifier;
use super::outside_events::{Outside, folders};
use super::reload::{Reason, agenda};
use super::wants_restart::NextAgent;
use super::watchdog::longest_sleep;
use super::write_failures::{CLOCK, Unkept};
use super::{Error, Log, Report, RunLog, Setup, Work, job_log};
use crate::backup::Pulse;
use crate::config::{Config, DestinationName, Kind, ScheduleName};
use crate::health::{Event, Level};
use crate::jobs::capture::Said;
use crate::jobs::{Ended, Order, Retained, Trouble};
use crate::schedule::{Occasion, Slot, Watch};
use crate::slots::Fate;
use crate::state::State;

/// How often the configuration is read though none of its files has changed: certificates that it names, or the host's
/// time zone, may have.
pub(super) const READ_EVERY: Duration = Duration::from_secs(600);
/// The same while it is refused, for what may have come meanwhile.
pub(super) const READ_EVERY_WHILE_REFUSED: Duration = Duration::from_secs(60);
/// How long a job may take to stop; what it leaves then is swept by the next one.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether a backup is due while a verification runs, or what a destination lacks is copied.
const LOOK_FOR_BACKUPS_EVERY: Duration = Duration::from_secs(1);
/// How long a slot waits that found another run active.
const BUSY_PAUSE: SignedDuration = SignedDuration::from_secs(2);

/// Follows the schedules until it is told to stop, by SIGTERM or SIGINT.
pub async fn run(setup: Setup) -> Result<(), Error> {
    let listen = |kind| signal(kind).map_err(Error::Signals);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut files = Files::watch(&setup.path).map_err(|source| Error::Watch {
        path: setup.path.clone(),
        source,
    })?;
    let mut agent = Agent::new(setup);
    agent.say_status();
    tell(&[NotifyState::Ready]);
    agent.log.event(
        Event::Ready,
        "ready",
        &[
            ("schedules", &agent.agenda.entries().len()),
            ("cluster", &agent.config.cluster.name),
        ],
    );
    loop {
        let sleep = agent.turn();
        if let Some(why) = agent.is_outdated() {
            agent.log.line(Level::Info, &why, &[]);
            return agent.stop(STOP_WITHIN).await;
        }
        if !agent.settling.is_pending() && agent.is_due_to_read() {
            agent.reload(&mut files, Reason::Due);
        }
        let beat = agent.notifier.beat(&agent.config);
        let sleep = beat.map_or(sleep, |beat| sleep.min(beat));
        if agent.gets_on(Instant::now()) {
            tell(&[NotifyState::Watchdog]);
        }
        if !agent.settling.is_pending() && files.have_changed(agent.recipients_file()) {
            agent.settling.changed(Instant::now());
        }
        let read_at = agent.settling.read_at();
        tokio::select! {
            () = asked(&mut terminate, &mut interrupt) => return agent.stop(STOP_WITHIN).await,
            _ = hangup.recv() => agent.reload(&mut files, Reason::Asked),
            () = files.changed() => agent.settling.changed(Instant::now()),
            () = until(read_at) => agent.reload(&mut files, Reason::Changed),
            done = ended(&mut agent.job) => agent.end(done),
            () = capture::ended(&mut agent.capture) => agent.capture = None,
            () = agent.woken.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

async fn asked(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// Done when the job is.
async fn ended(job: &mut Option<Job>) -> Result<Ended, Trouble> {
    match job {
        Some(job) => {
            let gone = |_| Err(Trouble::Failed("its thread ended unexpectedly".to_owned()));
            (&mut job.done).await.unwrap_or_else(gone)
        }
        None => std::future::pending().await,
    }
}

/// Tells systemd, if it wants to know.
pub(super) fn tell(what: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    sd_notify::notify(what).ok();
}

pub(super) struct Agent {
    pub(super) path: PathBuf,
    pub(super) config: Arc<Config>,
    pub(super) faults: fn(&Config) -> Vec<String>,
    pub(super) configured_at: Timestamp,
    pub(super) configuration_error: Option<String>,
    pub(super) read_at: Instant,
    /// What has happened to its files since.
    pub(super) settling: Settling,
    pub(super) base: PathBuf,
    pub(super) state: PathBuf,
    pub(super) memory: State,
    pub(super) host: String,
    pub(super) now: fn() -> Timestamp,
    pub(super) begun: Instant,
    pub(super) started_at: Timestamp,
    pub(super) log: Log,
    pub(super) watch: Watch,
    pub(super) agenda: Agenda,
    pub(super) work: Arc<dyn Work>,
    pub(super) job: Option<Job>,
    /// What goes on beside.
    pub(super) capture: Option<Capture>,
    /// What it has said that is said once.
    pub(super) said_of_capture: Arc<Said>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) said: Option<Report>,
    pub(super) notifier: Notifier,
    pub(super) unkept: Unkept,
    pub(super) metrics: Metrics,
    pub(super) log_of_runs: RunLog,
    /// Where systemd starts the next one.
    next: Option<NextAgent>,
    outside: Outside,
    /// Told by whoever has something that is not to wait for the next turn.
    pub(super) woken: Arc<Notify>,
}

pub(super) struct Job {
    pub(super) schedule: ScheduleName,
    pub(super) kind: Kind,
    pub(super) slot: Slot,
    pub(super) destinations: BTreeSet<DestinationName>,
    pub(super) since: Timestamp,
    pub(super) pulse: Pulse,
    /// Raised when a backup is due that it keeps waiting.
    pub(super) gives_way: watch::Sender<bool>,
    pub(super) done: oneshot::Receiver<Result<Ended, Trouble>>,
}

impl Agent {
    fn new(setup: Setup) -> Agent {
        let now = (setup.now)();
        let log = Log::new(setup.now);
        let agenda = agenda(&setup.config, &setup.host, &setup.state, None, log, now);
        // Of the agent before this one.
        let before = Report::read(&setup.state).ok().flatten();
        let log_of_runs = before.map_or_else(RunLog::default, |report| report.log);
        let (memory, woken) = (State::of_folder(&setup.state), Arc::new(Notify::new()));
        let mut agent = Agent {
            path: setup.path,
            config: Arc::new(setup.config),
            faults: setup.faults,
            configured_at: now,
            configuration_error: None,
            read_at: Instant::now(),
            settling: Settling::default(),
            base: setup.base,
            outside: Outside::watch(&memory, woken.clone()),
            memory,
            state: setup.state,
            host: setup.host,
            now: setup.now,
            begun: Instant::now(),
            started_at: now,
            log,
            watch: Watch::begin(now, Duration::ZERO),
            agenda,
            work: setup.work,
            job: None,
            capture: None,
            said_of_capture: Arc::default(),
            stop: watch::channel(false).0,
            said: None,
            notifier: Notifier::new(log, woken.clone()),
            unkept: Unkept::default(),
            metrics: Metrics::new(),
            log_of_runs,
            next: std::env::var_os("NOTIFY_SOCKET").map(|_| NextAgent::of_running()),
            woken,
        };
        agent.keep_memories();
        agent
    }

    /// Why another agent is to take the place of this one, while no job runs.
    fn is_outdated(&self) -> Option<String> {
        let (None, Some(next)) = (&self.job, &self.next) else {
            return None;
        };
        next.is_wanted()
    }

    /// Looks at the clocks, begins what is due, says how things are; how long to sleep then.
    fn turn(&mut self) -> Duration {
        let now = (self.now)();
        if let Some(told) = self.watch.look(now, self.begun.elapsed()).told() {
            self.log.line(Level::Warning, &told, &[]);
        }
        self.unkept.note(CLOCK, self.memory.note_time(now));
        self.notifier.take_in();
        let mut sleep = longest_sleep().min(self.look_outside());
        // What still goes on then ends first.
        let is_outdated = self.next.as_ref().is_some_and(|next| next.is_wanted().is_some());
        if self.job.is_none() && !is_outdated {
            match self.agenda.next(self.watch.from(), now) {
                Next::Run {
                    name,
                    slot,
                    destinations,
                    occasion,
                } => self.begin(name, slot, destinations, occasion, now),
                Next::Wait(instant) => {
                    let left = Duration::try_from(instant.duration_since(now)).unwrap_or_default();
                    // A little later than that, so that it is due then.
                    sleep = sleep.min(left + Duration::from_millis(1));
                }
                Next::Idle => {}
            }
        }
        if let Some(job) = self.job.as_ref().filter(|job| job.kind != Kind::Prune) {
            // It reads or copies for minutes, and nothing is lost when it goes on later: backups go first.
            let is_backup =
                |name: &ScheduleName| self.config.schedules.get(name).is_some_and(|of| of.kind == Kind::Full);
            let is_anothers = |name: &ScheduleName, slot| is_backup(name) && (name, slot) != (&job.schedule, job.slot);
            if self.agenda.is_new_one_due(is_anothers, self.watch.from(), now) {
                job.gives_way.send_replace(true);
            }
            sleep = sleep.min(LOOK_FOR_BACKUPS_EVERY);
        }
        self.begin_capture();
        if self.capture.is_some() {
            sleep = sleep.min(capture::SAY_EVERY);
        }
        if self.job.is_none() {
            sleep = sleep.min(self.notifier.look_out(&self.work, &self.config));
        }
        if !self.unkept.is_empty() {
            self.keep_memories();
        }
        self.say_status();
        sleep
    }

    /// Looks what has happened outside; for how long to sleep at most until the next look.
    fn look_outside(&mut self) -> Duration {
        let lanes = self.capture.as_ref().map_or(Vec::new(), Capture::states);
        let seen = self.outside.look(&self.config, &lanes, Instant::now());
        if let (Some(next), Some(mounts)) = (&mut self.next, &seen.mounts) {
            next.look(mounts, folders(&self.config));
        }
        if seen.has_happened {
            self.notifier.happened();
            if let Some(capture) = &self.capture {
                capture.look();
            }
        }
        seen.again_within
    }

    /// Whether the job, if there is one, does something. That it does not any more is told at once: systemd may end the
    /// agent before its next turn.
    fn gets_on(&mut self, now: Instant) -> bool {
        let hung = self.notifier.hanging().is_some();
        let job = self.job.as_ref();
        let job = job.map(|job| (job.schedule.as_str(), job.pulse.count()));
        let gets_on = self.notifier.gets_on(job, now);
        if gets_on == hung {
            self.say_status();
        }
        gets_on
    }

    fn begin(
        &mut self,
        schedule: ScheduleName,
        slot: Slot,
        destinations: BTreeSet<DestinationName>,
        occasion: Occasion,
        now: Timestamp,
    ) {
        let entry = self.agenda.entries().get(&schedule);
        let due_at = entry.map_or(slot.instant(), |entry| entry.schedule.due_at(slot));
        let why = match occasion {
            Occasion::OnTime => "its slot has come",
            Occasion::CatchUp => "a slot is caught up",
        };
        // A schedule whose configuration has just gone has no entry any more, and nothing due.
        let kind = self
            .config
            .schedules
            .get(&schedule)
            .map_or(Kind::Full, |found| found.kind);
        if entry.is_some_and(|entry| !entry.only_waits(slot, &destinations)) {
            self.log.line(
                Level::Info,
                match kind {
                    Kind::Full => "backup begins",
                    Kind::Verify => "verification begins",
                    Kind::Prune => "retention begins",
                },
                &[("schedule", &schedule), ("slot", &slot), ("why", &why)],
            );
        }
        let (sender, done) = oneshot::channel();
        let (gives_way, waits) = watch::channel(false);
        let pulse = Pulse::default();
        let order = Order {
            config: self.config.clone(),
            schedule: schedule.clone(),
            kind,
            slot,
            due_at,
            destinations: destinations.clone(),
            stop: self.stop.subscribe(),
            gives_way: waits,
            pulse: pulse.clone(),
        };
        let work = self.work.clone();
        std::thread::spawn(move || sender.send(work.carry_out(&order)).ok());
        self.job = Some(Job {
            schedule,
            kind,
            slot,
            destinations,
            since: now,
            pulse,
            gives_way,
            done,
        });
    }

    fn end(&mut self, done: Result<Ended, Trouble>) {
        let now = (self.now)();
        let Some(job) = self.job.take() else {
            return;
        };
        if let Some(capture) = self.capture.as_ref().filter(|_| job.kind == Kind::Full) {
            capture.look();
        }
        let of_all = |fate: Fate| Ended {
            fates: job
                .destinations
                .iter()
                .map(|name| (name.clone(), fate.clone()))
                .collect(),
            ..Ended::default()
        };
        let ended = match done {
            Ok(ended) => {
                job_log::tell(self.log, &self.agenda, &job, &ended);
                ended
            }
            Err(Trouble::Busy(why)) => {
                let until = now.saturating_add(BUSY_PAUSE).unwrap_or(now);
                let ended = of_all(Fate::Later { why, until });
                job_log::tell(self.log, &self.agenda, &job, &ended);
                ended
            }
            Err(Trouble::Stopped) => return,
            Err(Trouble::Failed(error)) => {
                job_log::tell_of_failure(self.log, &job, &error);
                of_all(Fate::Failed(error))
            }
        };
        self.log_of_runs
            .note_fates(&job.schedule, &self.host, &ended.fates, now);
        if let Some(taken) = &ended.taken {
            let last = taken.last.clone();
            self.log_of_runs.backups.insert(job.schedule.to_string(), last);
        }
        for (destination, retained) in &ended.retained {
            let Retained { kept, removed } = *retained;
            self.log_of_runs.note_retention(destination.as_str(), kept, removed);
        }
        match ended.look {
            Some(look) => self.notifier.saw(look),
            None if !ended.findings.done.is_empty() => self.notifier.hurry(),
            None => {}
        }
        let mut undone = ended.taken.map_or(Vec::new(), |taken| taken.undone);
        undone.extend(ended.findings.undone);
        let name = &job.schedule;
        if let Some(memory) = self.agenda.tried(name, job.slot, ended.fates, undone, now) {
            let written = memory.write(&self.state, name.as_str());
            self.unkept.note(name.as_str(), written);
        }
    }

    /// Keeps what was done, so that a schedule which never succeeds is late all the same after the next start.
    pub(super) fn keep_memories(&mut self) {
        for (name, entry) in self.agenda.entries() {
            let written = entry.memory.write(&self.state, name.as_str());
            self.unkept.note(name.as_str(), written);
        }
    }

    /// Stops the job, which may take so long, then itself.
    async fn stop(mut self, within: Duration) -> Result<(), Error> {
        tell(&[NotifyState::Stopping]);
        self.log.line(Level::Info, "stopping", &[]);
        self.stop.send_replace(true);
        if let Some(capture) = &self.capture {
            capture.stop();
        }
        if self.job.is_some() {
            let ended = tokio::time::timeout(within, ended(&mut self.job)).await;
            let done = ended.map_err(|_| Error::DidNotStop)?;
            // A backup that was just done counts.
            self.end(done);
        }
        if self.capture.is_some() {
            // What is on the disk then is stored by the next one.
            tokio::time::timeout(within, capture::ended(&mut self.capture))
                .await
                .ok();
        }
        self.say_status();
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
