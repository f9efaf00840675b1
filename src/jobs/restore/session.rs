//! The run and the login session it was started in.

use std::time::Duration;

use tokio::runtime::Handle;

use super::find_etcd::connect;
use crate::error_chain::with_causes;
use crate::jobs::Listener;
use crate::model::UnitName;
use crate::restore::{LedgerError, LedgerPaths, LedgerStore, OverDbus, RESUME_UNIT, Units};
use crate::systemd::Systemd;

/// As `TimeoutStopSec=` of the units: how long a run may take to a point where it can be left off.
const TO_A_SAFE_POINT: Duration = Duration::from_secs(5 * 60);

/// The commands that make themselves scopes.
const COMMANDS: [&str; 2] = ["restore", "rollback"];

/// How often the unit in the background is asked to leave off.
const ATTEMPTS: usize = 3;

/// Has the unit leave off that waits in the background, and opens the ledger in its place, so that somebody at a terminal can
/// go on.
pub fn take_over(runtime: &Handle, ledger_paths: &LedgerPaths) -> Result<LedgerStore, LedgerError> {
    let Ok(systemd) = connect(runtime) else {
        return LedgerStore::open(ledger_paths.clone());
    };
    let units = OverDbus::new(&systemd, runtime);
    for _ in 0..ATTEMPTS {
        // That it does not run is no failure; whether somebody is at it, the lock tells.
        units.stop(RESUME_UNIT).ok();
        match LedgerStore::open(ledger_paths.clone()) {
            // The end of the run that left the restore open has just had it started once more.
            Err(LedgerError::Locked) => {}
            opened => return opened,
        }
    }
    LedgerStore::open(ledger_paths.clone())
}

/// Goes on outside of the login session, which may end and take along what runs in it. What is left undone, should this
/// be killed, is taken up at once. Where this runs as a unit of ours, both is so already.
pub fn leave_session(runtime: &Handle, listener: &dyn Listener, systemd: &Systemd, command: &str) {
    let own = crate::durable::read_kernel("/proc/self/cgroup").unwrap_or_default();
    if own.lines().any(is_in_ours) {
        return;
    }
    let scope = format!("lifeboat-{command}-{}.scope", std::process::id());
    let name: UnitName = scope.parse().expect("it is made of what a name may have");
    let resume: UnitName = RESUME_UNIT.parse().expect("it is shipped under that name");
    let description = format!("lifeboat {command}, begun by hand");
    let left = systemd.leave_session(&name, &description, TO_A_SAFE_POINT, &resume);
    let left = runtime.block_on(left).map_err(|error| with_causes(&error));
    match left {
        Ok(()) => listener.detail(&format!(
            "this goes on, whatever becomes of the terminal; also seen with `journalctl -f -u {scope}`"
        )),
        Err(why) => listener.warn(&format!(
            "this stays a part of the login session and may end with it ({why}): keep the terminal open"
        )),
    }
}

/// Whether a line of `/proc/self/cgroup` leads through a unit of ours, after whose end a restore is taken up.
///
/// An operator's own unit may have a name that begins like those.
fn is_in_ours(line: &str) -> bool {
    let groups = line.split_once("::").or_else(|| line.rsplit_once(':'));
    groups.is_some_and(|(_, path)| path.split('/').any(is_ours))
}

fn is_ours(unit: &str) -> bool {
    let is_instance = || unit.starts_with("lifeboat-restore@") && unit.ends_with(".service");
    let is_scope = || {
        let process = unit
            .strip_prefix("lifeboat-")
            .and_then(|rest| rest.strip_suffix(".scope"));
        process
            .and_then(|rest| rest.split_once('-'))
            .is_some_and(|(command, pid)| {
                COMMANDS.contains(&command) && !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())
            })
    };
    unit == RESUME_UNIT || is_instance() || is_scope()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_units_of_ours_and_what_is_in_them_are_ours() {
        for ours in [
            "0::/system.slice/system-lifeboat\\x2drestore.slice/lifeboat-restore@latest.service",
            "0::/system.slice/system-lifeboat\\x2drestore.slice/lifeboat-restore@latest.service/payload",
            "0::/system.slice/lifeboat-restore-resume.service",
            "0::/user.slice/lifeboat-restore-4711.scope",
            "1:name=systemd:/system.slice/lifeboat-rollback-1.scope",
        ] {
            assert!(is_in_ours(ours), "{ours}");
        }
        for other in [
            "",
            "0::/",
            "0::/system.slice/lifeboat-nightly.service",
            "0::/system.slice/lifeboat.service",
            "0::/system.slice/lifeboat-restore-drill.service",
            "0::/user.slice/lifeboat-restore-x.scope",
            "0::/user.slice/lifeboat-restore-.scope",
            "0::/user.slice/user-0.slice/session-3.scope",
        ] {
            assert!(!is_in_ours(other), "{other}");
        }
    }
}
