//! `lifeboat agent`: the daemon, and what it does when a slot has come.

use std::sync::Arc;

use super::host::{self, failed};
use super::{Context, Exit, Failure};
use crate::agent::{self, Setup, Work};
use crate::config::Config;
use crate::durable;
use crate::health::Look;
use crate::jobs::capture::CaptureOrder;
use crate::jobs::{self, Ended, Order, Trouble, configuration};
use crate::status::agents_other_name;

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

pub(super) fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let path = context.config.clone();
    let config = host::configuration_and_doubts(&context)?;
    // Secrets are read again for each job, so the agent must be able to as the user it is.
    host::settle()?;
    let faults = match args.check {
        // systemd 252 hands a reload no credentials; the agent itself looks at them.
        true => configuration::faults(&config, false),
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
    let _only = host::agent_lock(&state)?;
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

/// What the agent leaves to the jobs.
struct Jobs {
    context: Context,
}

impl Work for Jobs {
    fn carry_out(&self, order: &Order) -> Result<Ended, Trouble> {
        jobs::carry_out(order, &self.context.output, self.context.runtime.handle())
    }

    fn look(&self, config: &Config) -> Look {
        jobs::survey_destinations::look(config)
    }

    fn capture(&self, order: &CaptureOrder) {
        jobs::capture::capture(order, self.context.runtime.handle());
    }
}

/// What no backup can be taken with, though it can be read.
fn faults(config: &Config) -> Vec<String> {
    configuration::faults(config, true)
}
