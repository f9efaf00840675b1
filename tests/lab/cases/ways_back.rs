//! Restores that cannot work: what was there before is served again, or was never touched.

use super::restores::{KEY, LATER, LEDGERS, assert_serves, backed_up, has_guard, restore};
use crate::cluster::{Cluster, DATA_DIR, drop_in_etcd};
use crate::hosts::{Host, Lab};
use crate::install::{CONFIG, STORE, drop_in, lifeboat};
use crate::support::tools::{self, Version};

pub fn an_etcd_that_does_not_come_up_on_the_new_data_gets_the_old_back(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    let client = cluster.client();
    client.put(LATER, "old", 0).expect("it takes writes");
    host.write(
        "/etc/systemd/system/etcd.service.d/lab.conf",
        "[Service]\nExecStartPre=/bin/sh -c '! grep -q TOKEN /etc/lifeboat/restore/etcd.service.env'\n",
    );
    host.run(["systemctl", "daemon-reload"]);
    let failed = restore(host, &[&id, "--yes"]).expect_code(1);
    assert!(failed.stderr.contains("was rolled back"), "{failed}");
    cluster.wait_until_served();
    assert_eq!(client.get(LATER).expect("it serves"), Some(b"old".to_vec()));
    assert!(!has_guard(host));
}

pub fn an_address_that_something_else_took_meanwhile_brings_the_old_back(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");

    // Taken as soon as etcd is down for the first time, and given back when the new one has failed.
    host.write(
        "/etc/systemd/system/taker.socket",
        &format!("[Socket]\nListenStream={}:2380\n", host.address),
    );
    host.write(
        "/etc/systemd/system/taker.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    );
    let new = "/etc/lifeboat/restore/etcd.service.env";
    let free = "systemctl stop taker.socket taker.service";
    after_each_stop(
        host,
        &format!("if grep -qs ^ETCD_ {new}; then {free}; else systemctl start taker.socket; fi"),
    );
    let failed = restore(host, &[&id, "--yes"]).expect_code(1);
    assert!(failed.stderr.contains("was rolled back"), "{failed}");
    assert!(!failed.stderr.contains("on the old data"), "{failed}");
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), Some(b"old".to_vec()));
    assert_closed(host);

    // Kept for good: the old data is in place, and nobody can serve it yet.
    after_each_stop(host, "systemctl start taker.socket");
    let failed = restore(host, &[&id, "--yes"]).expect_code(1);
    assert!(
        failed.stderr.contains("was rolled back") && failed.stderr.contains("etcd.service failed on the old data too"),
        "{failed}"
    );
    assert_closed(host);
    host.run(["rm", TAKER]);
    host.run(["systemctl", "daemon-reload"]);
    host.shell(free);
    host.run(["systemctl", "start", "etcd"]);
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), Some(b"old".to_vec()));
    restore(host, &[&id, "--yes"]).expect_code(0);

    // The way back of somebody who asks for it ends no better where the old cannot start, and says so. The new data had not
    // failed.
    after_each_stop(host, "systemctl start taker.socket");
    let down = lifeboat(host, ["rollback", "--yes"]).expect_code(1);
    assert!(down.stderr.contains("etcd.service failed on the old data ("), "{down}");
    assert_closed(host);
    host.shell(free);
    host.run(["systemctl", "start", "etcd"]);
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), Some(b"old".to_vec()));
}

pub fn an_etcd_too_old_for_the_backup_serves_its_own_data_again(lab: &Lab<'_>) {
    let (Some(older), Some(newer)) = (tools::etcd(Version::V3_6), tools::etcd(Version::V3_7)) else {
        return;
    };
    let hosts = lab.hosts(1);
    drop_in_etcd(&hosts[0], &newer);
    let cluster = Cluster::start_on(hosts);
    let host = &cluster.hosts[0];
    let (id, before) = backed_up(&cluster);
    drop_in_etcd(host, &older);
    cluster.wipe();
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    let names_both = |text: &str| text.contains("made by etcd 3.7.2") && text.contains("etcd 3.6.15");

    let dry = restore(host, &[&id, "--dry-run"]).expect_code(0);
    assert!(names_both(&dry.stderr), "it is known beforehand: {dry}");
    let failed = restore(host, &[&id, "--yes"]).expect_code(1);
    assert!(
        failed.stderr.contains("was rolled back") && names_both(&failed.stderr),
        "{failed}"
    );
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), Some(b"old".to_vec()));
    assert_closed(host);

    // Said beforehand which one it is, etcd is not stopped for it.
    let pid = host.main_pid("etcd");
    drop_in(host, "line.toml", "[host]\netcd_version = \"3.6\"\n");
    let refused = restore(host, &[&id, "--yes"]).expect_code(7);
    assert!(refused.stderr.contains("3.7.0"), "{refused}");
    assert_eq!(host.main_pid("etcd"), pid, "etcd was never stopped");
    host.run(["rm", "/etc/lifeboat/config.d/line.toml"]);

    drop_in_etcd(host, &newer);
    host.run(["systemctl", "restart", "etcd"]);
    cluster.wait_until_served();
    restore(host, &[&id, "--yes"]).expect_code(0);
    assert_serves(&cluster, &before);
}

pub fn what_cannot_be_restored_touches_nothing(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    let pid = host.main_pid("etcd");
    lifeboat(host, ["keygen", "--identity", "/root/other.txt"]).expect_code(0);
    lifeboat(host, ["restore", &id, "--yes", "--identity", "/root/other.txt"]).expect_code(8);
    restore(host, &["20200101T000000Z-00000000", "--yes"]).expect_code(4);
    host.shell(&format!("truncate --size=-100 {STORE}/*/*/*/full.db.zst.age"));
    restore(host, &[&id, "--yes"]).expect_code(5);
    host.shell(&format!("rm {STORE}/*/*/*/full.db.zst.age"));
    restore(host, &[&id, "--yes"]).expect_code(5);
    host.shell(&format!("rm -r {STORE}/*/*/*"));
    // This host has seen what is gone.
    let gone = restore(host, &["latest", "--yes"]).expect_code(5);
    assert!(gone.stderr.contains("was rolled back"), "{gone}");
    lifeboat(host, ["check", "--accept-rollback", "local"]);
    restore(host, &["latest", "--yes"]).expect_code(4);
    assert_eq!(host.main_pid("etcd"), pid, "etcd was never stopped");
    assert!(!host.path(LEDGERS).join("ledger.json").exists() && !has_guard(host));
    assert!(!host.path(DATA_DIR).join(".lifeboat").exists());
}

pub fn a_disk_that_fills_while_the_new_data_is_made_leaves_etcd_as_it_was(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    host.run(["systemctl", "stop", "etcd"]);
    host.shell(&format!(
        "mount -t tmpfs -o size=400m,mode=700 tmpfs {DATA_DIR} && chown etcd:etcd {DATA_DIR} && systemctl start etcd"
    ));
    cluster.wait_until_served();
    let (id, _) = backed_up(&cluster);
    let pid = host.main_pid("etcd");
    let untouched = || {
        assert_eq!(host.main_pid("etcd"), pid, "etcd was never stopped");
        assert_closed(host);
        assert!(!host.path(LEDGERS).join("ledger.json").exists());
        host.shell(&format!("test ! -e {DATA_DIR}/.lifeboat"));
    };
    for more in [0, 2, 4, 6] {
        let used = format!("$(df --output=iused {DATA_DIR} | tail -n 1)");
        host.shell(&format!("mount -o remount,nr_inodes=$(({used} + {more})) {DATA_DIR}"));
        let failed = restore(host, &[&id, "--yes"]).expect_code(1);
        assert!(failed.stderr.contains("No space left on device"), "{failed}");
        untouched();
    }
    host.shell(&format!(
        "mount -o remount,nr_inodes=1000 {DATA_DIR} && fallocate --length \
         $(($(stat --file-system --format='%a * %S' {DATA_DIR}) - 8000000)) {DATA_DIR}/filler"
    ));
    let failed = restore(host, &[&id, "--yes"]).expect_code(1);
    assert!(failed.stderr.contains("are needed beside the old data"), "{failed}");
    untouched();
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
}

pub fn the_unit_of_a_restore_knows_what_the_agent_remembers(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    backed_up(&cluster);
    host.shell(&format!("install -m 600 {KEY} /etc/lifeboat/identity"));
    let pid = host.main_pid("etcd");
    let refused = |unit: &str, code: &str, why: &str| {
        host.run_any(["systemctl", "start", unit]).expect_code(1);
        assert_eq!(host.property(unit, "ExecMainStatus"), code);
        let journal = host.journal(unit);
        assert!(journal.contains(why), "{journal}");
        assert_eq!(host.main_pid("etcd"), pid, "etcd was never stopped");
    };

    // What is not mounted is not taken for a store without backups.
    host.shell(&format!(
        "mv {STORE} {STORE}.away && mkdir {STORE} && chown lifeboat: {STORE}"
    ));
    refused("lifeboat-restore@latest", "1", "mount it");
    host.shell(&format!("rmdir {STORE} && mv {STORE}.away {STORE}"));
    host.shell(&format!("mv {CONFIG} {CONFIG}.away"));
    refused("lifeboat-restore@latest", "78", "--from DIR");
    host.shell(&format!("mv {CONFIG}.away {CONFIG} && rm -rf {LEDGERS}"));

    host.run(["systemctl", "start", "lifeboat-restore@latest"]);
    cluster.wait_until_served();
    let mode = host.run(["stat", "--format=%a %U", LEDGERS]);
    assert_eq!(mode.stdout.trim(), "700 root");
}

const TAKER: &str = "/etc/systemd/system/etcd.service.d/taker.conf";

/// Has systemd run a line of shell whenever etcd has ended, as root.
fn after_each_stop(host: &Host, line: &str) {
    host.write(TAKER, &format!("[Service]\nExecStopPost=+/bin/sh -c '{line}'\n"));
    host.run(["systemctl", "daemon-reload"]);
}

/// Nothing is under way any more.
#[track_caller]
fn assert_closed(host: &Host) {
    assert!(!host.path(LEDGERS).join("ledger.json").exists() && !has_guard(host));
}
