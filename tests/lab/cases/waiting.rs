//! Restored members that wait for others: whatever is done to their host meanwhile, only a fault of the new takes it back.

use super::restore_deaths::step_of;
use super::restores::{Before, KEY, LATER, LEDGERS, assert_serves, backed_up, has_guard, restore};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Host, Lab, holds, until};
use crate::install::STORE;
use crate::support::host::copy_tree;

/// With a token of the operator's each member starts by itself, and waits in etcd for the others.
const TOKEN: &str = "never-used-before";
const RESUME: &str = "lifeboat-restore-resume.service";
/// Longer than an etcd may be down that was never up.
const LONG: u64 = 65;

pub fn a_member_that_waits_goes_on_after_a_stop_and_after_a_boot(lab: &Lab<'_>) {
    let (mut cluster, id, before) = one_waits(lab);
    let host = &mut cluster.hosts[0];
    until_watched_for(host, LONG);
    host.run(["systemctl", "stop", "etcd"]);
    until_watched_for(host, LONG + 10);
    assert_eq!(step_of(host).as_deref(), Some("serve"), "{}", host.journal(RESUME));
    host.run(["systemctl", "start", "--no-block", "etcd"]);
    until("etcd to run", || holds(host.main_pid("etcd") != 0, ""));

    // Of a host that shuts down etcd is stopped first.
    until_watched_for(host, LONG);
    host.shut_down();
    assert_eq!(step_of(host).as_deref(), Some("serve"));
    host.begin_to_boot();
    until_watched_for(host, 1);
    assert_eq!(step_of(host).as_deref(), Some("serve"));
    the_other_comes(&cluster, &id, &before);

    // A token is used once: who lost its data does not come back by it under the id that has served.
    let second = &cluster.hosts[1];
    second.run(["systemctl", "stop", "etcd"]);
    second.shell(&format!("rm -rf {DATA_DIR} {LEDGERS}"));
    let refused = restore(
        second,
        &[&id, "--from", "/root/copy", "--yes", "--cluster-token", TOKEN],
    )
    .expect_code(7);
    assert!(refused.stderr.contains("token was used"), "{refused}");
    assert_eq!(second.main_pid("etcd"), 0);
}

pub fn a_run_that_loses_the_bus_is_begun_again_and_one_that_nothing_can_mend_is_not(lab: &Lab<'_>) {
    let (cluster, id, before) = one_waits(lab);
    let host = &cluster.hosts[0];
    until_watched_for(host, 1);
    let blind = host.main_pid(RESUME);
    host.run(["systemctl", "kill", "--signal=KILL", "dbus.service"]);
    until("another run in its place", || {
        let pid = host.main_pid(RESUME);
        holds(pid != 0 && pid != blind, host.journal(RESUME))
    });
    until_watched_for(host, 1);
    assert_eq!(step_of(host).as_deref(), Some("serve"), "{}", host.journal(RESUME));
    the_other_comes(&cluster, &id, &before);

    // The end of it is no failure, and a ledger that nobody understands is left to somebody.
    assert_eq!(host.property(RESUME, "ActiveState"), "inactive");
    let ledger = format!("{LEDGERS}/ledger.json");
    host.write(&ledger, "{}");
    host.run_any(["systemctl", "start", RESUME]).expect_code(1);
    assert_eq!(host.property(RESUME, "ActiveState"), "failed");
    assert_eq!(host.property(RESUME, "ExecMainStatus"), "5");
    assert_eq!(host.property(RESUME, "NRestarts"), "0");
    let said = host.journal(RESUME);
    assert!(said.contains(&format!("`{ledger}` cannot be understood")), "{said}");
}

/// A cluster of two that was lost and of which one host is restored; the backup.
fn one_waits(lab: &Lab<'_>) -> (Cluster, String, Before) {
    let cluster = Cluster::start(lab, 2);
    let (id, before) = backed_up(&cluster);
    let [first, second] = cluster.hosts.as_slice() else {
        panic!("there are two")
    };
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    copy_tree(&first.path(STORE), &second.path("/root/copy"));
    second.copy_in(&first.path(KEY), KEY);
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", "etcd"]);
    }
    let said = restore(first, &[&id, "--yes", "--json", "--cluster-token", TOKEN])
        .expect_code(0)
        .json();
    assert_eq!(said["outcome"], "waiting", "{said}");
    (cluster, id, before)
}

/// Waits until a run has looked at the member for so many seconds, in the background.
#[track_caller]
fn until_watched_for(host: &Host, seconds: u64) {
    until("it to be watched", || {
        let pid = host.main_pid(RESUME).to_string();
        let shown = host.run_any(["ps", "-o", "etimes=", "-p", &pid]).stdout;
        let age: u64 = shown.trim().parse().unwrap_or(0);
        holds(age >= seconds, (age, host.journal(RESUME)))
    });
}

/// Restores the other host too, with which the first is finished.
#[track_caller]
fn the_other_comes(cluster: &Cluster, id: &str, before: &Before) {
    let args = [id, "--from", "/root/copy", "--yes", "--json", "--cluster-token", TOKEN];
    let said = restore(&cluster.hosts[1], &args).expect_code(0).json();
    assert_eq!(said["outcome"], "restored", "{said}");
    assert_serves(cluster, before);
    assert_eq!(cluster.client().get(LATER).expect("it serves"), None);
    for host in &cluster.hosts {
        until("its ledger to be closed", || {
            holds(step_of(host).is_none() && !has_guard(host), host.journal(RESUME))
        });
    }
}
