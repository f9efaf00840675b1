//! Goes on with the restore that is open: by hand, and as the unit that does so at boot and in the background.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sd_notify::NotifyState;

use super::super::{Context, Exit, Failure, host, interrupted_flag};
use super::{Args, broken_off, need_root, report};
use crate::jobs::restore::{failure, leave_session, reach, settings_now, take_over};
use crate::restore::{LedgerError, LedgerPaths, LedgerStore, OverDbus, Patience, Run, Step, Tools, peers, strangers};

/// For how long a boot waits for the restore that is open: who needs etcd comes after it, if it is quick.
const HOLDS_A_BOOT_UP: Duration = Duration::from_secs(30);

/// Takes up the restore that is open.
pub(super) fn finish(context: &Context, args: &Args) -> Result<Exit, Failure> {
    need_root("restore")?;
    let interrupted = interrupted_flag(context);
    let ledger_paths = LedgerPaths::default();
    // Looking for one must not make the folder: it would look as if there had been one.
    if !ledger_paths.folder.exists() {
        return no_restore(args);
    }
    let opened = match args.resume {
        true => LedgerStore::open(ledger_paths),
        false => take_over(context.runtime.handle(), &ledger_paths),
    };
    let ledger_store = match opened {
        Ok(ledger_store) => ledger_store,
        // Whoever has it goes on with it.
        Err(LedgerError::Locked) if args.resume => return Ok(nothing_to_do()),
        Err(error) => return Err(failure(error.into())),
    };
    let Some(open) = ledger_store.ledger().map_err(|error| failure(error.into()))? else {
        return no_restore(args);
    };
    if args.resume {
        ready_soon();
    }
    let (systemd, access) = reach(context.runtime.handle(), &context.output, &context.config, &open)?;
    leave_session(context.runtime.handle(), &context.output, &systemd, "restore");
    if !args.resume {
        let answers = context.runtime.block_on(peers(&open.plan, &access));
        strangers(&open.plan, &answers)
            .iter()
            .for_each(|word| context.output.warn(word));
    }
    let units = OverDbus::new(&systemd, context.runtime.handle());
    let listener = |step: Step| {
        if step.is_of_rendezvous() || matches!(step, Step::Serve | Step::Settle | Step::BackSettle) {
            // From here on a boot need not wait: etcd may start, or is held down until the others come.
            sd_notify::notify(&[NotifyState::Ready]).ok();
        }
        context.output.detail(step.words());
        ControlFlow::Continue(())
    };
    let stop = || interrupted.load(Ordering::Relaxed);
    let tools = Tools {
        units: &units,
        access: &access,
        runtime: context.runtime.handle(),
        now: host::now,
        listener: &listener,
        stop: &stop,
        tell: &|words| context.output.detail(words),
    };
    let Some(mut run) = Run::resume(ledger_store, tools).map_err(failure)? else {
        return Ok(Exit::Done);
    };
    let outcome = run.go(Patience::Healthy).map_err(failure)?;
    let to_change = settings_now(context.runtime.handle(), &context.config, &run.ledger().plan).to_change;
    let exit = report::outcome(&context.output, &run, &outcome, &to_change).map_err(|mut failure| {
        if args.resume {
            // What was taken back is not tried again by the unit, which stays failed.
            failure.exit = Exit::Refused;
        }
        failure
    })?;
    // A unit that systemd stops has not failed.
    Ok(broken_off(&outcome, exit, stop() && !args.resume))
}

/// Nothing is open: for the unit that takes it up that is well, for an operator it is not.
fn no_restore(args: &Args) -> Result<Exit, Failure> {
    match args.resume {
        true => Ok(nothing_to_do()),
        false => Err(Failure::new(Exit::NotFound, "no restore is open on this host").next("name what to restore")),
    }
}

/// For the unit that takes up what is open: nothing is, and whoever waits for it may go on.
fn nothing_to_do() -> Exit {
    sd_notify::notify(&[NotifyState::Ready]).ok();
    Exit::Done
}

/// However long this takes, it does not hold a boot up: etcd is kept from starting by its guard until it may, and is
/// started by the step that lets it.
fn ready_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(HOLDS_A_BOOT_UP);
        sd_notify::notify(&[NotifyState::Ready]).ok();
    });
}
