//! A command that works in a child process, where the kernel refuses what it needs for that.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::gate::Gate;
use super::support::host::Host;
use super::support::running::{Running, until};
use super::support::{preload, shared};

/// Stands before `signalfd(2)` and `fork(2)`: the one that is named fails, `signalfd` after 2 s.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int is_refused(const char *name) {
    const char *refused = getenv("REFUSED");
    return refused && !strcmp(refused, name);
}
int signalfd(int fd, const sigset_t *mask, int flags) {
    if (is_refused("signalfd")) { sleep(2); errno = EMFILE; return -1; }
    int (*real)(int, const sigset_t *, int) = dlsym(RTLD_NEXT, "signalfd");
    return real(fd, mask, flags);
}
pid_t fork(void) {
    if (is_refused("fork")) { errno = EAGAIN; return -1; }
    pid_t (*real)(void) = dlsym(RTLD_NEXT, "fork");
    return real();
}
"#;

fn refusing(host: &Host) -> Option<PathBuf> {
    preload::shim(
        &host.path("refusing"),
        SOURCE,
        "a library that stands before signalfd(2) and fork(2)",
    )
}

/// Starts a program of which such a call fails.
fn start(mut command: Command, library: &Path, refused: &str) -> Running {
    preload::into(&mut command, library);
    command.env("REFUSED", refused);
    Running::start(command)
}

#[test]
fn the_work_is_done_once_though_there_is_no_way_to_hand_signals_on() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let Some(library) = refusing(&host) else { return };
    host.backup();
    let listed = start(host.command(["--json", "list"]), &library, "signalfd").wait();
    // Said twice, it is no document.
    let listed = listed.expect_code(0).json();
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[test]
fn a_command_without_a_child_is_still_ended_by_a_signal() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let Some(library) = refusing(&host) else { return };
    let gate = Gate::before(&etcd.members[0].client_url, 1 << 20);
    host.reconfigure(&etcd.members[0].client_url, &gate.url);
    let backup = start(host.command(["backup"]), &library, "fork");
    gate.wait_until_held();
    backup.signal("TERM");
    until("the end of the backup", || backup.has_ended());
    assert_ne!(backup.wait().code, 0, "it was interrupted");
    assert!(
        host.stored_files()
            .iter()
            .all(|file| !file.ends_with("full.db.zst.age"))
    );
}
