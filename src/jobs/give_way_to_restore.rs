//! A restore on this host goes before every job.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Exit, Failure};
use crate::restore::LedgerPaths;

/// How often a running backup looks whether it has to give way.
const LOOK_FOR_RESTORE_EVERY: Duration = Duration::from_millis(500);

/// Done when a restore is opened on this host: whatever reads etcd gives way.
pub async fn restore_opened() {
    let ledger_paths = LedgerPaths::default();
    while !ledger_paths.is_open() {
        tokio::time::sleep(LOOK_FOR_RESTORE_EVERY).await;
    }
}

/// Raises `stop` if a restore is open on this host, for work that does not wait.
pub fn stop_for_restore(stop: &AtomicBool) {
    if LedgerPaths::default().is_open() {
        stop.store(true, Ordering::Relaxed);
    }
}

/// Refuses while a restore is open on this host, once it has waited so long for its end.
pub fn refuse_during_restore(wait: Duration) -> Result<(), Failure> {
    let (ledger_paths, begun) = (LedgerPaths::default(), Instant::now());
    while ledger_paths.is_open() {
        let left = wait.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(Failure::new(Exit::Locked, "a restore is open on this host")
                .next("wait until it is done, or finish it: `lifeboat restore --wait`"));
        }
        std::thread::sleep(left.min(LOOK_FOR_RESTORE_EVERY));
    }
    Ok(())
}
