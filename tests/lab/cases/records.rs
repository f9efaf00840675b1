//! What is written down before it is done, and what stands in the way: removals that are cut off, data on a disk that comes
//! late, an init system that forgets or refuses.

use std::fs;

use super::held::{AFTER_THE_SETTINGS, RESUME, nobody_takes_it_up};
use super::restore_deaths::{Place, step_of, under_strace};
use super::restores::{KEY, LATER, LEDGERS, backed_up, has_guard, restore};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Done, Host, Lab, holds, until};
use crate::install::{install, lifeboat};

/// The calls of the kernel by which a release records, takes names away, and deletes.
const CALLS: [&str; 3] = ["rename", "renameat2", "unlinkat"];

pub fn a_release_killed_at_any_call_is_finished_by_the_next_and_never_taken_back(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    // A new one each time: etcd is started over and over.
    let client = || cluster.client();
    client().put(LATER, "old", 0).expect("it takes writes");
    let (mut token, mut is_restored, mut refused) = (0, false, 0);
    for call in CALLS {
        for number in 1.. {
            if !is_restored {
                token += 1;
                restore(host, &[&id, "--yes", "--cluster-token", &format!("t{token}")]).expect_code(0);
                cluster.wait_until_served();
            }
            let at = format!("{call} {number}");
            let (trace, inject) = (
                format!("--trace={call}"),
                format!("--inject={call}:signal=KILL:when={number}"),
            );
            let strace = [
                "strace",
                "--follow-forks",
                "--quiet=all",
                "--output=/root/trace",
                &trace,
                &inject,
                "--",
            ];
            let done = host.run_any(strace.into_iter().chain(["lifeboat", "release", "--yes"]));
            let (kept, pid) = (last_kept(host), host.main_pid("etcd"));
            is_restored = kept == "here";
            if is_restored {
                // Nothing was begun: it can be taken back, and is put in once more.
                lifeboat(host, ["rollback", "--yes"]).expect_code(0);
                cluster.wait_until_served();
                assert_eq!(client().get(LATER).expect("it serves"), Some(b"old".to_vec()), "{at}");
                is_restored = false;
                release(host).expect_code(0);
                continue;
            }
            lifeboat(host, ["rollback", "--yes"]).expect_code(7);
            assert_eq!(host.main_pid("etcd"), pid, "{at}: etcd was not stopped");
            let told = lifeboat(host, ["status"]).expect_code(0);
            assert_eq!(
                told.stdout.contains("`lifeboat release` finishes it"),
                kept == "releasing",
                "{at}: {told}"
            );
            refused += usize::from(kept == "releasing");
            release(host).expect_code(0);
            assert_eq!(
                (last_kept(host).as_str(), host.main_pid("etcd")),
                ("released", pid),
                "{at}"
            );
            host.shell(&format!("test ! -e {DATA_DIR}/.lifeboat"));
            assert_eq!(client().get(LATER).expect("it serves"), None, "{at}");
            // What was restored is the old data of the next.
            client().put(LATER, "old", 0).expect("it takes writes");
            if done.code == 0 {
                break;
            }
        }
    }
    assert!(refused > 5, "it was killed in the middle of it only {refused} times");

    // A folder that cannot be changed.
    restore(host, &[&id, "--yes", "--cluster-token", "stuck"]).expect_code(0);
    let kept = format!("{DATA_DIR}/.lifeboat/kept-*/member/snap");
    host.shell(&format!(
        "mount --bind {kept} {kept} && mount -o remount,bind,ro {kept}"
    ));
    let pid = host.main_pid("etcd");
    let failed = release(host).expect_code(1);
    assert!(failed.stderr.contains("not all deleted"), "{failed}");
    lifeboat(host, ["rollback", "--yes"]).expect_code(7);
    host.shell(&format!("umount {DATA_DIR}/.lifeboat/gone-*/member/snap"));
    release(host).expect_code(0);
    host.shell(&format!("test ! -e {DATA_DIR}/.lifeboat"));
    assert_eq!(host.main_pid("etcd"), pid, "etcd was not touched");
}

/// Releases, once what looks after the end of a run has looked and given the lock back.
fn release(host: &Host) -> Done {
    until("nobody holds the lock of a restore", || {
        let done = lifeboat(host, ["release", "--yes"]);
        match done.code {
            6 => Err(done.to_string()),
            _ => Ok(done),
        }
    })
}

/// What the ledger of the last restore that ended says of its old data.
fn last_kept(host: &Host) -> String {
    let entries = fs::read_dir(host.path(LEDGERS).join("closed")).expect("a restore has ended");
    let last = entries.map(|entry| entry.expect("it can be read").path()).max();
    let text = fs::read_to_string(last.expect("a restore has ended")).expect("it can be read");
    let ledger: serde_json::Value = serde_json::from_str(&text).expect("it is replaced whole");
    ledger["kept"].as_str().expect("it has one").to_owned()
}

pub fn a_unit_that_systemd_forgets_once_it_is_stopped_is_restored_and_taken_back(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    let client = cluster.client();
    // Nothing refers to it any more but its process.
    host.run(["systemctl", "disable", "--quiet", "etcd"]);
    for number in 0..3 {
        client.put(LATER, "old", 0).expect("it takes writes");
        let token = format!("t{number}");
        restore(host, &[&id, "--yes", "--cluster-token", &token]).expect_code(0);
        cluster.wait_until_served();
        assert_eq!(client.get(LATER).expect("it serves"), None);
        lifeboat(host, ["rollback", "--yes"]).expect_code(0);
        cluster.wait_until_served();
        assert_eq!(client.get(LATER).expect("it serves"), Some(b"old".to_vec()));
    }
}

pub fn a_start_that_systemd_refuses_brings_the_old_data_back(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    let command = ["lifeboat", "restore", &id, "--identity", KEY, "--yes"];
    let hold = nobody_takes_it_up(host);
    under_strace(host, &command, AFTER_THE_SETTINGS);
    assert_eq!(step_of(host).as_deref(), Some("start"));
    host.run(["systemctl", "mask", "--runtime", "--quiet", "etcd"]);
    fs::remove_file(hold).expect("root can remove it");
    host.run_any(["systemctl", "restart", RESUME]);
    until("it to be taken back", || {
        holds(step_of(host).is_none() && !has_guard(host), host.journal(RESUME))
    });
    until("it to say why", || {
        let said = host.journal(RESUME);
        holds(said.contains("masked"), said)
    });
    host.run(["systemctl", "unmask", "--runtime", "--quiet", "etcd"]);
    host.run(["systemctl", "start", "etcd"]);
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), Some(b"old".to_vec()));

    // A guard that is read, and emptied by what is read later.
    host.write(
        "/etc/systemd/system/etcd.service.d/override.conf",
        "[Unit]\nConditionPathExists=\n",
    );
    host.run(["systemctl", "daemon-reload"]);
    let pid = host.main_pid("etcd");
    let failed = restore(host, &[&id, "--yes"]).expect_code(1);
    assert!(failed.stderr.contains("empties `ConditionPathExists=`"), "{failed}");
    assert_eq!(host.main_pid("etcd"), pid, "etcd was not stopped");
    assert!(step_of(host).is_none() && !has_guard(host));
}

pub fn data_on_a_disk_that_comes_late_is_waited_for_after_a_boot(lab: &Lab<'_>) {
    const DISK: &str = "/srv/disk";
    let mut cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let mount = format!("mount --bind {DISK} {DATA_DIR}");
    host.run(["systemctl", "stop", "etcd"]);
    host.shell(&format!(
        "cp --archive {DATA_DIR} {DISK} && rm -r {DATA_DIR}/* && {mount} && systemctl start etcd"
    ));
    cluster.wait_until_served();
    install(&cluster, "");
    let (id, _) = super::restores::written_and_backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");

    // One that waits to be finished, and in which etcd serves already.
    let host = &mut cluster.hosts[0];
    let hold = nobody_takes_it_up(host);
    let command = ["lifeboat", "restore", &id, "--identity", KEY, "--yes"];
    under_strace(host, &command, Place::Recorded(9));
    assert_eq!(step_of(host).as_deref(), Some("serve"));
    cluster.wait_until_served();
    cluster.client().put("/new", "write", 0).expect("it takes writes");
    let host = &mut cluster.hosts[0];
    host.cut_power();
    // Nor does whoever takes it up come to its first step.
    host.boot();
    let stays_down = |host: &Host, when: &str| {
        host.run_any(["systemctl", "start", "etcd"]);
        assert_eq!(host.main_pid("etcd"), 0, "{when}: it would begin on the mount point");
        host.shell(&format!("test -z \"$(ls -A {DATA_DIR})\""));
    };
    stays_down(host, "before");
    fs::remove_file(hold).expect("root can remove it");
    host.run_any(["systemctl", "restart", RESUME]).expect_code(1);
    stays_down(host, "without the disk");
    host.shell(&mount);
    cluster.wait_until_served();
    let host = &cluster.hosts[0];
    until("the ledger to be closed", || {
        holds(step_of(host).is_none() && !has_guard(host), host.journal(RESUME))
    });
    let client = cluster.client();
    assert_eq!(client.get("/new").expect("it serves"), Some(b"write".to_vec()));
    assert_eq!(client.get(LATER).expect("it serves"), None);
}
