//! `lifeboat agent`: the daemon, and what it does when a slot has come.

use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::host::{self, failed};
use super::{Context, Exit, Failure};
use crate::agent::{self, Report, Setup, Work};
use crate::config::Config;
use crate::durable;
use crate::health::Look;
use crate::jobs::{self, Ended, Order, Trouble};
use crate::model::ClusterName;
use crate::state::State;

/// Run the daemon: backups, verification and retention on their schedules
///
/// It is made to be started by systemd (lifeboat.service). SIGHUP, or a change of a configuration file, makes it read
/// its configuration anew; a wrong one is refused and the one before goes on. SIGTERM ends it: a backup that is being
/// taken is given up and leaves nothing.
///
/// What it says are lines of a log, whatever of --json, -v and -q is given; `lifeboat status --json` tells programs how it
/// is.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  lifeboat agent")]
pub struct Args {
    /// Only say whether the configuration can be taken over: what `systemctl reload` asks first
    #[arg(long, hide = true)]
    check: bool,
}

/// The file whose lock says that an agent runs.
const LOCK: &str = "agent.lock";
const LOCK_MODE: u32 = 0o644;

pub(super) fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let path = context.config.clone();
    let config = host::configuration_and_doubts(&context)?;
    // Secrets are read again for each job, so the agent must be able to as the user it is.
    host::settle()?;
    let faults = match args.check {
        // systemd 252 hands a reload no credentials; the agent itself looks at them.
        true => faults_of(&config, false),
        false => faults(&config),
    };
    if !faults.is_empty() {
        return Err(Failure::new(Exit::Configuration, faults.join("; ")).next("correct it and run `lifeboat check`"));
    }
    if args.check {
        return match agents_other_name(&path, &config.cluster.name) {
            Some(before) => {
                let refused = agent::of_another_cluster(&before, &config.cluster.name);
                Err(Failure::new(Exit::Configuration, refused)
                    .next("`systemctl restart lifeboat`, or give the cluster its name back"))
            }
            None => Ok(Exit::Done),
        };
    }
    let state = host::state(&config.cluster.name)?;
    durable::create_dirs(state.folder(), 0o755).map_err(failed)?;
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

/// The cluster of the agent that runs with the configuration at `path`, if it is not `own`.
fn agents_other_name(path: &Path, own: &ClusterName) -> Option<ClusterName> {
    let path = std::path::absolute(path).ok()?;
    let base = crate::state::base_folder().ok()?;
    let folders = std::fs::read_dir(&base).ok()?.flatten();
    let names = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<ClusterName>().ok());
    let mut others = names.filter(|name| name != own);
    others.find(|name| {
        let state = State::at(&base, name);
        let report = || Report::read(state.folder()).ok().flatten();
        is_running(&state) && report().is_some_and(|report| report.configuration == path)
    })
}

/// What the agent leaves to the jobs.
struct Jobs {
    context: Context,
}

impl Work for Jobs {
    fn carry_out(&self, order: &Order) -> Result<Ended, Trouble> {
        jobs::carry_out(order, &self.context.output, self.context.runtime.handle())
    }

    fn look(&self, config: &Config) -> Look {
        jobs::look::look(config)
    }
}

/// What no backup can be taken with, though it can be read.
fn faults(config: &Config) -> Vec<String> {
    faults_of(config, true)
}

fn faults_of(config: &Config, with_credentials: bool) -> Vec<String> {
    let secrets = config.check_secrets();
    let unloaded = secrets.unloaded.iter().filter(|_| with_credentials);
    let unread = secrets.problems.iter().chain(unloaded);
    let needed = unread.filter(|unread| unread.is_needed);
    let mut faults: Vec<String> = needed.map(|unread| unread.problem.to_string()).collect();
    if config.has_sample_recipient() {
        faults.push("the recipient is the sample's: nobody could open the backups".to_owned());
    }
    faults
}

fn lock(state: &State) -> Result<File, Failure> {
    let path = lock_path(state);
    let refused = |error: std::io::Error| Failure::new(Exit::Failed, format!("lock `{}`: {error}", path.display()));
    let file = durable::open_lock(&path, LOCK_MODE).map_err(refused)?;
    // Whoever asks for the status opens it.
    file.set_permissions(Permissions::from_mode(LOCK_MODE))
        .map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(Exit::Locked, "another agent runs for this cluster")
            .next("see `systemctl status lifeboat` and `lifeboat status`")),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

/// Whether an agent runs for the cluster.
pub(super) fn is_running(state: &State) -> bool {
    let held = |path: &Path| match durable::open_plain(path).map(|file| file.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => true,
        Ok(Ok(()) | Err(TryLockError::Error(_))) | Err(_) => false,
    };
    held(&lock_path(state))
}

fn lock_path(state: &State) -> PathBuf {
    state.folder().join(LOCK)
}
