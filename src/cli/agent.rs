//! `lifeboat agent`: the daemon, and what it does when a slot has come.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::watch;

use super::backup::{self, Scope};
use super::host::{self, Places, chain, failed};
use super::{Context, Exit, Failure};
use crate::agent::{self, Order, Setup, Taken, Trouble, Work};
use crate::backup::{Destination, Error, Outcome, Progress, full};
use crate::catalog::Origin;
use crate::config::Config;
use crate::model::ChainId;
use crate::prune::{self, Target};
use crate::state::{Holder, State};

/// Run the daemon: backups on their schedules, retention after each
///
/// It is made to be started by systemd (lifeboat.service). SIGHUP, or a change of a configuration file, makes it read
/// its configuration anew; a wrong one is refused and the one before goes on. SIGTERM ends it: a backup that is being
/// taken is given up and leaves nothing.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  lifeboat agent")]
pub struct Args {}

/// The file whose lock says that an agent runs.
const LOCK: &str = "agent.lock";

pub(super) fn run(context: Context, _: Args) -> Result<Exit, Failure> {
    let path = context.config.clone();
    let config = host::configuration(&context)?;
    let faults = faults(&config);
    if !faults.is_empty() {
        return Err(Failure::new(Exit::Configuration, faults.join("; ")).next("correct it and run `lifeboat check`"));
    }
    let state = host::state(&config.cluster.name)?;
    crate::durable::create_dirs(state.folder(), 0o755).map_err(failed)?;
    let _only = lock(&state)?;
    // The jobs have the threads of the context; the loop has its own, which no job can hold up.
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let own = own.map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
    let jobs = Arc::new(Jobs { context });
    let ended = own.block_on(agent::run(Setup {
        path,
        config,
        faults: self::faults,
        base: crate::state::base_folder().map_err(failed)?,
        state: state.folder().to_owned(),
        host: host::host_name().to_string(),
        now: host::now,
        work: jobs.clone(),
    }));
    if let Ok(jobs) = Arc::try_unwrap(jobs) {
        jobs.context.runtime.shutdown_background();
    }
    ended.map_err(failed)?;
    Ok(Exit::Done)
}

/// What no backup can be taken with, though it can be read.
fn faults(config: &Config) -> Vec<String> {
    let secrets = config.check_secrets().problems;
    let mut faults: Vec<String> = secrets.iter().map(ToString::to_string).collect();
    if config.has_sample_recipient() {
        faults.push("the recipient is the sample's: nobody could open the backups".to_owned());
    }
    faults
}

fn lock(state: &State) -> Result<File, Failure> {
    let path = lock_path(state);
    let refused = |error: std::io::Error| Failure::new(Exit::Failed, format!("lock `{}`: {error}", path.display()));
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(refused)?;
    // Whoever asks for the status opens it.
    file.set_permissions(Permissions::from_mode(0o644)).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(Exit::Locked, "another agent runs for this cluster")
            .next("see `systemctl status lifeboat` and `lifeboat status`")),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

/// Whether an agent runs for the cluster.
pub(super) fn is_running(state: &State) -> bool {
    let held = |path: &Path| match File::open(path).map(|file| file.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => true,
        Ok(Ok(()) | Err(TryLockError::Error(_))) | Err(_) => false,
    };
    held(&lock_path(state))
}

fn lock_path(state: &State) -> PathBuf {
    state.folder().join(LOCK)
}

struct Jobs {
    context: Context,
}

impl Work for Jobs {
    fn back_up(&self, order: &Order) -> Result<Taken, Trouble> {
        self.attempt(order).map_err(|failure| match failure {
            Stop::Asked => Trouble::Stopped,
            Stop::Failed(failure) if failure.exit == Exit::Locked => Trouble::Busy(failure.message().to_owned()),
            Stop::Failed(failure) => Trouble::Failed(failure.message().to_owned()),
        })
    }
}

/// Why an attempt came to nothing.
enum Stop {
    Asked,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl Jobs {
    fn attempt(&self, order: &Order) -> Result<Taken, Stop> {
        let (context, config) = (&self.context, &*order.config);
        let access = host::access(config)?;
        let state = host::state(&config.cluster.name)?;
        let lock = host::jobs_lock(&state, "agent", Duration::ZERO)?;
        let schedule = &config.schedules[&order.schedule];
        let names: Vec<String> = schedule.destinations.iter().map(ToString::to_string).collect();
        let destinations = host::destinations(config, &state, &names)?;
        let scope = if names.len() == config.destinations.len() {
            Scope::All
        } else {
            Scope::Some
        };
        backup::sweep(context, &state, &destinations, scope);
        let places = Places::configured(context, config, None)?;
        let now = host::now();
        let id = ChainId::new(now, getrandom::u32().map_err(failed)?);
        let mut job = backup::job(config, &backup::Args::to(names), id.clone(), access)?;
        job.origin = Origin::Schedule;
        job.schedule = Some(order.schedule.to_string());
        job.slot = Some(order.slot.instant());
        let begun = state.begin_chain(&id, &Holder::this("agent", now)).map_err(failed)?;
        let taken = self.take(&job, destinations, &places, order.stop.clone());
        backup::end(begun, &taken);
        let outcome = match taken {
            Err(Error::Interrupted) => return Err(Stop::Asked),
            taken => taken.map_err(|error| Stop::Failed(Failure::new(Exit::Failed, chain(&error))))?,
        };
        let mut taken = self.told(&outcome);
        if !*order.stop.borrow() {
            self.prune(config, &outcome, &mut taken);
        }
        drop(lock);
        Ok(taken)
    }

    fn take(
        &self,
        job: &crate::backup::Job,
        destinations: Vec<Destination>,
        places: &Places,
        stop: watch::Receiver<bool>,
    ) -> Result<Outcome, Error> {
        let progress = Progress::default();
        let taken = full(job, destinations, &places.catalog, &progress, raised(stop));
        self.context.runtime.block_on(taken)
    }

    fn told(&self, outcome: &Outcome) -> Taken {
        let missing = outcome.destinations.iter().filter_map(|written| {
            let error = written.result.as_ref().err()?;
            Some(format!(
                "destination {} does not have it: {}",
                written.destination,
                chain(error)
            ))
        });
        Taken {
            id: outcome.manifest.chain.clone(),
            missing: missing.collect(),
            warnings: outcome.unaccepted.iter().chain(&outcome.warnings).cloned().collect(),
            removed: 0,
        }
    }

    /// Applies retention to each destination that has the backup.
    fn prune(&self, config: &Config, outcome: &Outcome, taken: &mut Taken) {
        let places = match Places::configured(&self.context, config, None) {
            Ok(places) => places,
            Err(failure) => return taken.missing.push(format!("nothing is pruned: {}", failure.message())),
        };
        for written in outcome.destinations.iter().filter(|written| written.result.is_ok()) {
            let name = written.destination.as_str();
            let policy = config.destinations.get(name).and_then(|found| found.retention.as_ref());
            let (Some(policy), Some(store)) = (policy, places.stores.get(name)) else {
                continue;
            };
            let target = Target {
                destination: name,
                store,
                policy,
            };
            let plan = prune::plan(target, &places.catalog, host::now(), &TimeZone::system());
            match prune::carry_out(&plan, store) {
                Ok(gone) => taken.removed += gone.len(),
                Err(error) => taken
                    .missing
                    .push(format!("destination {name} is not pruned: {}", chain(&error))),
            }
        }
    }
}

/// Done when the agent is to stop.
async fn raised(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
