//! Backups that an operator has made anew: which, with the right to be the only job, and with room for the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Results, Run, carry_out, refuse_unproven, wanted};
use crate::config::Config;
use crate::jobs::backup::read_and_sweep;
use crate::jobs::give_way_to_restore::stop_for_restore;
use crate::jobs::stores::{open_to_write, read_configured};
use crate::jobs::{Failure, Listener, host};
use crate::pipeline::Identities;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Which backups; without any all.
    pub ids: &'a [String],
    /// Only what this destination has.
    pub destination: Option<&'a str>,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
    /// How long it is waited for another run to end.
    pub wait: Duration,
}

/// Makes what is asked for anew, for the present recipients; `at` hears how far it has come, of how much.
pub fn rewrap(
    config: &Config,
    identities: Option<Identities>,
    asked: &Asked<'_>,
    (listener, runtime): (&dyn Listener, &Handle),
    stop: &Arc<AtomicBool>,
    at: &(dyn Fn(u64, u64) + Sync),
) -> Result<Results, Failure> {
    let identities = refuse_unproven(config, identities)?;
    if !asked.dry_run {
        host::settle()?;
    }
    let state = host::state(&config.cluster.name)?;
    let (_lock, destinations) = match asked.dry_run {
        true => (None, read_configured(listener, config, asked.destination)?),
        false => {
            let lock = host::jobs_lock(&state, "rewrap", asked.wait)?;
            let only: Vec<String> = asked.destination.into_iter().map(str::to_owned).collect();
            let opened = open_to_write(config, &state, &only)?;
            let read = read_and_sweep(listener, config, &state, &opened, &|| {});
            (Some(lock), read)
        }
    };
    let run = Run {
        config,
        destinations: &destinations,
        identities: &identities,
        state: &state,
        runtime,
        stop,
        dry_run: asked.dry_run,
    };
    let snapshots = wanted(&destinations, asked.ids)?;
    let mut results = Results::default();
    for (name, error) in &destinations.unreadable {
        results.errors.push(format!("destination {name}: {error}"));
    }
    let total = snapshots.iter().map(|snapshot| snapshot.work()).sum();
    let done = AtomicU64::new(0);
    let each = |bytes: u64| {
        at((done.fetch_add(bytes, Ordering::Relaxed) + bytes).min(total), total);
        stop_for_restore(stop);
    };
    carry_out(&run, listener, &snapshots, &each, &mut results)?;
    Ok(results)
}
