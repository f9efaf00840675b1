//! Starting, stopping and reloading, and waiting for what comes of it.
//!
//! systemd turns each request into a job and tells of its end by the signal `JobRemoved`, which is asked for before the
//! request, so that the end of a quick one is not missed. A signal can still be lost while the manager executes itself
//! anew, so the unit is looked at now and then too.
//!
//! Invariant: "done" is not believed. A unit that is skipped because of a condition has its job done as well: who asks
//! for a start or a stop gets the unit's state from afterwards.

use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use zbus::OwnedObjectPath;
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::{MatchRule, MessageStream};

use super::{CALL_TIMEOUT, Error, MANAGER_INTERFACE, MANAGER_PATH, Service, Systemd, UNIT_INTERFACE, failed};
use crate::model::UnitName;

/// Reading all units anew; hosts with thousands of them take a while.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a lost signal goes unnoticed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often a unit's state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Ends of other units' jobs that may come in while ours is asked for.
const QUEUE: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// What came of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// It was carried out, or there was nothing to do.
    Done,
    /// Another request took its place.
    Canceled,
    /// It took longer than the unit allows.
    Timeout,
    /// The unit failed.
    Failed,
    /// A unit that it needs failed.
    Dependency,
    /// It does not apply to the unit's state.
    Skipped,
    /// What else systemd may say.
    Other(String),
}

impl JobResult {
    fn of(text: &str) -> JobResult {
        match text {
            "done" => JobResult::Done,
            "canceled" => JobResult::Canceled,
            "timeout" => JobResult::Timeout,
            "failed" => JobResult::Failed,
            "dependency" => JobResult::Dependency,
            "skipped" => JobResult::Skipped,
            other => JobResult::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for JobResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JobResult::Done => "done",
            JobResult::Canceled => "canceled",
            JobResult::Timeout => "timeout",
            JobResult::Failed => "failed",
            JobResult::Dependency => "dependency",
            JobResult::Skipped => "skipped",
            JobResult::Other(text) => text,
        })
    }
}

/// Whether a unit is started at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enabled {
    /// As its `[Install]` says.
    Yes,
    /// Not by itself.
    No,
}

impl Systemd {
    /// Stops a service and waits until it is: afterwards neither it nor a job for it runs. Its state is handed back.
    ///
    /// Fails with [`Error::Unfinished`] when it takes longer than `within`; systemd goes on stopping it.
    pub async fn stop(&self, name: &UnitName, within: Duration) -> Result<Service, Error> {
        let doing = || format!("stop {name}");
        let until = Instant::now() + within;
        let mut ends = self.job_ends(&doing).await?;
        let job = self.request(&doing, "StopUnit", name).await?;
        match self.job_end(&doing, name, &job, &mut ends, (within, until)).await? {
            // Whether it was carried out is seen in the unit. Another stop may have taken its place.
            None | Some(JobResult::Done | JobResult::Canceled | JobResult::Skipped) => {}
            Some(result @ (JobResult::Timeout | JobResult::Failed | JobResult::Dependency | JobResult::Other(_))) => {
                return Err(Error::Job { doing: doing(), result });
            }
        }
        let service = self.service(name).await?;
        match service.unit.active_state.is_down() && service.main_pid.is_none() {
            true => Ok(service),
            false => Err(Error::Job {
                doing: doing(),
                result: JobResult::Canceled,
            }),
        }
    }

    /// Asks for the start of a service without waiting for it.
    pub async fn start(&self, name: &UnitName) -> Result<(), Error> {
        let doing = || format!("start {name}");
        self.request(&doing, "StartUnit", name).await.map(drop)
    }

    /// Starts a service, waits for the end of that, and hands back its state. It may have failed, or have been skipped
    /// because of a condition.
    pub async fn start_and_wait(&self, name: &UnitName, within: Duration) -> Result<Service, Error> {
        let doing = || format!("start {name}");
        let until = Instant::now() + within;
        let mut ends = self.job_ends(&doing).await?;
        let job = self.request(&doing, "StartUnit", name).await?;
        self.job_end(&doing, name, &job, &mut ends, (within, until)).await?;
        self.service(name).await
    }

    /// Looks at a service until `decide` has an answer, at most for `within`.
    pub async fn watch<T>(
        &self,
        name: &UnitName,
        within: Duration,
        mut decide: impl FnMut(&Service) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let until = Instant::now() + within;
        loop {
            if let Some(answer) = decide(&self.service(name).await?) {
                return Ok(Some(answer));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Forgets that a unit failed and how often it was started, so that it can be started at once.
    pub async fn reset_failed(&self, name: &UnitName) -> Result<(), Error> {
        let doing = || format!("reset the failed state of {name}");
        // By its path, which loads it: of one that is not loaded, and so has nothing to be reset, that is an error by name.
        let (_, path) = self.load(name).await?;
        self.call(&doing, &path, UNIT_INTERFACE, "ResetFailed", &())
            .await
            .map(drop)
    }

    /// Has the manager read all unit files anew.
    pub async fn reload(&self) -> Result<(), Error> {
        let doing = || "read the unit files anew".to_owned();
        self.manager(&doing, RELOAD_TIMEOUT, "Reload", &()).await.map(drop)
    }

    /// Has a unit started at boot, or not any more. A boot reads that from the disk: systemd need not read it before.
    pub async fn enable(&self, name: &UnitName, enabled: Enabled) -> Result<(), Error> {
        let names = [name.as_str()];
        match enabled {
            Enabled::Yes => {
                let doing = || format!("enable {name}");
                let (for_this_boot_only, over_others) = (false, true);
                let body = (names.as_slice(), for_this_boot_only, over_others);
                self.manager(&doing, RELOAD_TIMEOUT, "EnableUnitFiles", &body).await?;
            }
            Enabled::No => {
                let doing = || format!("disable {name}");
                let for_this_boot_only = false;
                let body = (names.as_slice(), for_this_boot_only);
                self.manager(&doing, RELOAD_TIMEOUT, "DisableUnitFiles", &body).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn manager<B>(
        &self,
        doing: &dyn Fn() -> String,
        within: Duration,
        method: &str,
        body: &B,
    ) -> Result<zbus::Message, Error>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.call_within(within, doing, (MANAGER_PATH, MANAGER_INTERFACE, method), body)
            .await
    }

    async fn request(
        &self,
        doing: &dyn Fn() -> String,
        method: &str,
        name: &UnitName,
    ) -> Result<OwnedObjectPath, Error> {
        let body = (name.as_str(), "replace");
        let answer = self.manager(doing, CALL_TIMEOUT, method, &body).await?;
        answer.body().deserialize().map_err(|error| failed(doing, error))
    }

    /// The ends of jobs from now on.
    pub(super) async fn job_ends(&self, doing: &dyn Fn() -> String) -> Result<MessageStream, Error> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .interface(MANAGER_INTERFACE)
            .member("JobRemoved")
            .build()
            .map_err(|error| failed(doing, error))?;
        let ends = MessageStream::for_match_rule(rule, &self.connection, Some(QUEUE)).await;
        let ends = ends.map_err(|error| failed(doing, error))?;
        match self.manager(doing, CALL_TIMEOUT, "Subscribe", &()).await {
            Ok(_) => Ok(ends),
            Err(Error::Failed {
                source: zbus::Error::MethodError(name, _, _),
                ..
            }) if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" => Ok(ends),
            Err(error) => Err(error),
        }
    }

    /// Waits for the end of a job; `None` if it is gone and nobody told how it ended.
    pub(super) async fn job_end(
        &self,
        doing: &dyn Fn() -> String,
        name: &UnitName,
        job: &OwnedObjectPath,
        ends: &mut MessageStream,
        (within, until): (Duration, Instant),
    ) -> Result<Option<JobResult>, Error> {
        loop {
            let look = (Instant::now() + LOOK_AGAIN).min(until);
            match timeout_at(look, next_end(ends, job)).await {
                Ok(Some(result)) => return Ok(Some(result)),
                // The connection is gone; the next call says so.
                Ok(None) => sleep(LOOK_EVERY).await,
                Err(_) => {}
            }
            let running = self.unit(name).await?.job;
            if running.is_none_or(|id| !job.as_str().ends_with(&format!("/{id}"))) {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Err(Error::Unfinished { doing: doing(), within });
            }
        }
    }
}

/// The result of `job` when the signal of its end comes; `None` when no more signals will come.
async fn next_end(ends: &mut MessageStream, job: &OwnedObjectPath) -> Option<JobResult> {
    loop {
        let Ok(message) = poll_fn(|context| Pin::new(&mut *ends).poll_next(context)).await? else {
            continue;
        };
        let body = message.body();
        let end: Result<(u32, OwnedObjectPath, String, String), _> = body.deserialize();
        if let Ok((_, path, _, result)) = end
            && path == *job
        {
            return Some(JobResult::of(&result));
        }
    }
}
