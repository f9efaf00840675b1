//! The daemon: follows the schedules, reads its configuration anew when it changes, and says how it is.
//!
//! One loop, in `daemon`, owns everything; a job runs on a thread of its own and tells the loop when it ends. `agenda`
//! decides what is next, `retry` when what failed is tried again, `schedule_memory` keeps what was done, `status_file`,
//! `metrics` and `journal` say it, `config_watch` notices changes. `notifier` knows who else is to be told: of what is
//! wrong (`alerts`, `store_probe`) a program (`on_failure`), that all is well an address (`heartbeat`), of a job that
//! hangs systemd (`watchdog`). `outside_events` notices what happens beside the agent and is to be judged at once. `capture` is the one thing that goes on beside the jobs. What a job does is the
//! caller's: see [`Work`]; what came of it is told by `job_log`, and what could not be kept by `write_failures`.
//!
//! Invariant: one job at a time. Invariant: a configuration is checked whole before anything of it is taken over, and a
//! job keeps the one that it began with.

mod agenda;
mod alerts;
mod capture;
mod config_watch;
mod daemon;
mod debounce;
mod heartbeat;
mod job_log;
mod journal;
mod metrics;
mod notifier;
pub mod notify_once;
mod on_failure;
mod outside_events;
mod publish;
mod reload;
mod retry;
mod run_log;
mod schedule_memory;
mod status_file;
mod store_probe;
mod wants_restart;
mod watchdog;
mod work;
mod write_failures;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

pub use agenda::{Agenda, Entry};
pub use daemon::run;
pub use journal::Log;
pub use metrics::{Flavour, Sample, render, samples};
pub use reload::of_another_cluster;
pub use run_log::RunLog;
pub use schedule_memory::{Memory, Success};
pub use status_file::{Report, Running, schedule_state};
pub use work::Work;

use crate::config::Config;
/// What an agent begins with.
pub struct Setup {
    /// The main file of the configuration.
    pub path: PathBuf,
    /// What was read from it.
    pub config: Config,
    /// What is wrong with a configuration though it can be read; empty if nothing is.
    pub faults: fn(&Config) -> Vec<String>,
    /// This host's state.
    pub base: PathBuf,
    /// The folder of the cluster in it.
    pub state: PathBuf,
    /// This host's name.
    pub host: String,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// What to do.
    pub work: Arc<dyn Work>,
}

/// Why the agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused signals.
    #[error("listen to signals")]
    Signals(#[source] std::io::Error),
    /// The directories of the configuration cannot be watched.
    #[error("watch the configuration {}", .path.display())]
    Watch {
        /// Its main file.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
    /// A job did not stop in time.
    #[error("the running job did not stop within {} s; the next run sweeps what it leaves", daemon::STOP_WITHIN.as_secs())]
    DidNotStop,
}
