//! The user that commands write as: what root starts by hand leaves nothing that the agent cannot read or remove.
//!
//! Invariant: once a command has settled there is no way back to root, in no thread of the process; what cannot be
//! shown to be so is an error, and nothing is written.
//!
//! Source: the section "Files and users on a host" of the contract; `setresuid(2)`, `capabilities(7)`, `proc(5)`.

use std::ffi::CString;
use std::fs;
use std::io;

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setresgid, setresuid};

use super::child_process;
use crate::durable::{self, Dir};
use crate::state;

/// Why this process is not the agent's user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses it.
    #[error("user {NAME}: {doing}")]
    Refused {
        /// What was attempted.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// There is no place for the state.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The state's folder cannot be made.
    #[error(transparent)]
    Files(#[from] durable::Error),
}

/// The user of the agent.
const NAME: &str = state::AGENTS_USER;

const STATE_MODE: u32 = 0o755;

/// Becomes the agent's user, where root runs this and that user exists. For commands that write to a store or to the
/// state, after they have read the configuration and its secrets and before they write.
pub fn settle() -> Result<(), Error> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let asked = User::from_name(NAME).map_err(|errno| refused("ask for it", errno.into()))?;
    let Some(user) = asked.filter(|user| !user.uid.is_root()) else {
        return Ok(());
    };
    make_state(&user)?;
    let name = CString::new(NAME).expect("the name has no zero byte");
    initgroups(&name, user.gid).map_err(|errno| refused("take its groups", errno.into()))?;
    setresgid(user.gid, user.gid, user.gid).map_err(|errno| refused("take its group", errno.into()))?;
    setresuid(user.uid, user.uid, user.uid).map_err(|errno| refused("become it", errno.into()))?;
    // The kernel forgets it with the user.
    child_process::end_with_parent();
    if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        let source = io::Error::other("root can still be had");
        return Err(refused("leave root behind", source));
    }
    every_thread_is(user.uid, user.gid).map_err(|source| refused("become it in every thread", source))
}

/// Makes the folder of the state for the user, where it is missing. One that is there is left as it is, with all that is
/// in it: whatever root has put beside the state stays root's.
fn make_state(user: &User) -> Result<(), Error> {
    let base = state::base_folder()?;
    let (Some(above), Some(name)) = (base.parent(), base.file_name()) else {
        return Ok(());
    };
    if base.exists() {
        return Ok(());
    }
    durable::create_dirs(above, STATE_MODE)?;
    let made = match Dir::open(above).and_then(|above| above.make(name)) {
        // Another run was faster.
        Err(durable::Error::Exists { .. }) => return Ok(()),
        made => made?,
    };
    made.set_mode(STATE_MODE)?;
    Ok(made.give((user.uid.as_raw(), user.gid.as_raw()))?)
}

/// Whether no thread of this process has kept another user, another group or a capability.
fn every_thread_is(user: Uid, group: Gid) -> io::Result<()> {
    for thread in fs::read_dir("/proc/self/task")? {
        let status = match durable::read_kernel(thread?.path().join("status")) {
            // It has ended.
            Err(source) if matches!(source.kind(), io::ErrorKind::NotFound) => continue,
            // As `ESRCH`: it has ended while it was read.
            Err(source) if source.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => continue,
            read => read?,
        };
        if let Some(line) = foreign_line(&status, user.as_raw(), group.as_raw()) {
            return Err(io::Error::other(format!("a thread has `{line}`")));
        }
    }
    Ok(())
}

/// The line of a thread's status that says more than this user and group may have.
fn foreign_line(status: &str, user: u32, group: u32) -> Option<&str> {
    let all = |values: &str, id: u32| values.split_whitespace().all(|value| value.parse() == Ok(id));
    status.lines().find(|line| match line.split_once(':') {
        Some(("Uid", values)) => !all(values, user),
        Some(("Gid", values)) => !all(values, group),
        Some(("Groups", values)) => values.split_whitespace().any(|group| group == "0"),
        Some(("CapPrm" | "CapEff" | "CapAmb", values)) => values.trim().chars().any(|digit| digit != '0'),
        Some(_) | None => false,
    })
}

fn refused(doing: &'static str, source: io::Error) -> Error {
    Error::Refused { doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tlifeboat\nUid:\t990\t990\t990\t990\nGid:\t991\t991\t991\t991\nGroups:\t991 33 \n\
                          CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
                          CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n";

    #[test]
    fn a_thread_that_has_kept_anything_of_root_is_found() {
        assert_eq!(foreign_line(STATUS, 990, 991), None);
        for (own, kept) in [
            ("990\t990\t990\t990", "990\t990\t0\t990"),
            ("991\t991\t991\t991", "991\t991\t991\t0"),
            ("991 33", "991 0"),
            ("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001"),
            ("CapEff:\t0000000000000000", "CapEff:\t000001ffffffffff"),
        ] {
            let status = STATUS.replace(own, kept);
            assert!(foreign_line(&status, 990, 991).is_some(), "{kept}");
        }
    }
}
