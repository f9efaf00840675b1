//! Goes on with the restore that is open: by hand, and as the unit that does so at boot and in the background.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::runtime::Handle;

use super::Ended;
use super::errors::failure;
use super::find_etcd::settings_now;
use super::first_backup::FirstBackup;
use super::member_access::reach;
use super::session::{leave_session, take_over};
use crate::jobs::{Exit, Failure, Listener, host};
use crate::restore::{LedgerError, LedgerPaths, LedgerStore, OverDbus, Patience, Run, Step, Tools, peers, strangers};

/// Who takes it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// An operator, who says so.
    Hand,
    /// The unit that does so at boot and in the background.
    Unit,
}

/// For how long a boot waits for the restore that is open: who needs etcd comes after it, if it is quick.
const HOLDS_A_BOOT_UP: Duration = Duration::from_secs(30);

/// Takes up the restore that is open; nothing where there is nothing to do for `by`.
pub fn finish(
    by: By,
    configuration: &Path,
    listener: &dyn Listener,
    runtime: &Handle,
    interrupted: &AtomicBool,
) -> Result<Option<Ended>, Failure> {
    let ledger_paths = LedgerPaths::default();
    // Looking for one must not make the folder: it would look as if there had been one.
    if !ledger_paths.folder.exists() {
        return no_restore(by);
    }
    let opened = match by {
        By::Unit => LedgerStore::open(ledger_paths),
        By::Hand => take_over(runtime, &ledger_paths),
    };
    let ledger_store = match opened {
        Ok(ledger_store) => ledger_store,
        // Whoever has it goes on with it.
        Err(LedgerError::Locked) if by == By::Unit => return Ok(nothing_to_do()),
        Err(error) => return Err(failure(error.into())),
    };
    let Some(open) = ledger_store.ledger().map_err(|error| failure(error.into()))? else {
        return no_restore(by);
    };
    if by == By::Unit {
        ready_soon();
    }
    let (systemd, access) = reach(runtime, listener, configuration, &open)?;
    leave_session(runtime, listener, &systemd, "restore");
    if by == By::Hand {
        let answers = runtime.block_on(peers(&open.plan, &access));
        strangers(&open.plan, &answers)
            .iter()
            .for_each(|word| listener.warn(word));
    }
    let units = OverDbus::new(&systemd, runtime);
    let step = |step: Step| {
        if step.is_of_rendezvous() || matches!(step, Step::Serve | Step::Settle | Step::BackSettle) {
            // From here on a boot need not wait: etcd may start, or is held down until the others come.
            sd_notify::notify(&[NotifyState::Ready]).ok();
        }
        listener.detail(step.words());
        ControlFlow::Continue(())
    };
    let stop = || interrupted.load(Ordering::Relaxed);
    let tools = Tools {
        units: &units,
        access: &access,
        runtime,
        now: host::now,
        listener: &step,
        stop: &stop,
        tell: &|words| listener.detail(words),
    };
    let Some(mut run) = Run::resume(ledger_store, tools).map_err(failure)? else {
        return Ok(None);
    };
    let outcome = run.go(Patience::Healthy).map_err(failure)?;
    let to_change = settings_now(runtime, configuration, &run.ledger().plan).to_change;
    Ok(Some(Ended::of(
        &run,
        outcome,
        to_change,
        FirstBackup::after(configuration),
    )))
}

/// Nothing is open: for the unit that takes it up that is well, for an operator it is not.
fn no_restore(by: By) -> Result<Option<Ended>, Failure> {
    match by {
        By::Unit => Ok(nothing_to_do()),
        By::Hand => Err(Failure::new(Exit::NotFound, "no restore is open on this host").next("name what to restore")),
    }
}

/// For the unit that takes up what is open: nothing is, and whoever waits for it may go on.
fn nothing_to_do() -> Option<Ended> {
    sd_notify::notify(&[NotifyState::Ready]).ok();
    None
}

/// However long this takes, it does not hold a boot up: etcd is kept from starting by its guard until it may, and is
/// started by the step that lets it.
fn ready_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(HOLDS_A_BOOT_UP);
        sd_notify::notify(&[NotifyState::Ready]).ok();
    });
}
