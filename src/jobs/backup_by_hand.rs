//! What every backup by hand does around the backup itself, whether etcd is asked or not.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::give_way_to_restore::{restore_opened, stop_for_restore};
use super::{Listener, copy, host, last_seen};
use crate::backup::{Outcome, Progress};
use crate::config::Config;
use crate::destinations::Destinations;
use crate::layout::Writer;
use crate::pipeline::Encoding;
use crate::process::Interrupt;
use crate::state::State;

/// Ends when the backup is to end: somebody asks it to stop, or a restore has begun.
pub(super) type GivesWay = Pin<Box<dyn Future<Output = ()>>>;

/// Takes the backup, while `show` shows how far it is.
pub(super) fn watched<T>(
    runtime: &Handle,
    interrupt: Interrupt,
    progress: &Arc<Progress>,
    show: impl FnOnce(Arc<Progress>) -> JoinHandle<()>,
    take: impl AsyncFnOnce(GivesWay) -> T,
) -> T {
    runtime.block_on(async {
        let watcher = show(progress.clone());
        let gives_way = async {
            tokio::select! {
                () = interrupt.raised() => {}
                () = restore_opened() => {}
            }
        };
        let taken = take(Box::pin(gives_way)).await;
        watcher.abort();
        // Wait until it is gone, so that no bar is drawn over the result.
        drop(watcher.await);
        taken
    })
}

/// What follows once it is stored: destinations that were too slow get it too, and this host remembers what there is.
pub(super) fn wind_up(
    (listener, state): (&dyn Listener, &State),
    destinations: &mut Destinations,
    outcome: &mut Outcome,
    stop: &Arc<AtomicBool>,
) {
    copy::bring_to_slow(listener, destinations, outcome, stop, &|_| stop_for_restore(stop));
    outcome.warnings.extend(last_seen::remember(state, destinations).err());
}

/// How it is compressed and encrypted.
pub(super) fn encoding(config: &Config) -> Encoding {
    Encoding {
        level: config.compression.level,
        threads: config.compression.threads,
        recipients: config.encryption.recipients.clone(),
        stall_limit: config.backup.idle_timeout,
    }
}

/// Who takes it, in the run of this number.
pub(super) fn writer(run: u32) -> Writer {
    Writer {
        host: host::host_name().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run: format!("{run:08x}"),
    }
}
