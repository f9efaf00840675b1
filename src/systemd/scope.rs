//! Taking a process out of the session that it was started in.

use std::time::Duration;

use tokio::time::Instant;
use zbus::{OwnedObjectPath, Variant};

use super::{CALL_TIMEOUT, Error, JobResult, Systemd, UnitName, failed};

impl Systemd {
    /// Makes this process a unit of its own, a scope, which lives as long as it does. What it has open, its terminal
    /// included, stays as it is; but whoever ends the session that started it does not end it any more.
    ///
    /// To stop the scope sends SIGTERM, and SIGKILL only after `patience`. When this process is gone, however it ended,
    /// the unit `next` is started.
    pub async fn leave_session(
        &self,
        scope: &UnitName,
        description: &str,
        patience: Duration,
        next: &UnitName,
    ) -> Result<(), Error> {
        let doing = || format!("make this process the unit {scope}");
        let (within, until) = (CALL_TIMEOUT, Instant::now() + CALL_TIMEOUT);
        let mut ends = self.job_ends(&doing).await?;
        let microseconds = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        let properties = [
            ("Description", Variant::from(description)),
            ("PIDs", Variant::from(vec![std::process::id()])),
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("TimeoutStopUSec", Variant::from(microseconds)),
            // How its processes ended, a scope does not know.
            ("OnSuccess", Variant::from(vec![next.as_str()])),
            ("OnFailure", Variant::from(vec![next.as_str()])),
        ];
        let helpers: [(&str, Vec<(&str, Variant<'_>)>); 0] = [];
        let body = (scope.as_str(), "fail", properties.as_slice(), helpers.as_slice());
        let answer = self.manager(&doing, CALL_TIMEOUT, "StartTransientUnit", &body).await?;
        let job: OwnedObjectPath = answer.body().deserialize().map_err(|error| failed(&doing, error))?;
        match self.job_end(&doing, scope, &job, &mut ends, (within, until)).await? {
            None | Some(JobResult::Done) => Ok(()),
            Some(result) => Err(Error::Job { doing: doing(), result }),
        }
    }
}
