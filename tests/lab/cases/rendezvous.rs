//! The members of a restored cluster meet before any of them starts: hosts that die, lose their network or their disk,
//! come late, or come twice.

use std::fs;

use super::restore_deaths::step_of;
use super::restores::{KEY, LATER, LEDGERS, backed_up, has_guard, restore};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Host, Lab, holds, until};
use crate::install::{STORE, install, lifeboat};
use crate::support::host::copy_tree;

pub(super) const RESUME: &str = "lifeboat-restore-resume.service";
pub(super) const COPY: &str = "/root/copy";

/// While two of three wait for the third, everything happens to them.
pub fn hosts_killed_stopped_cut_off_and_rebooted_meanwhile_found_one_cluster(lab: &Lab<'_>) {
    let mut cluster = lost(lab, 3);
    let id = backup_of(&cluster);
    for host in &cluster.hosts[..2] {
        let said = restore(host, &[&id, "--from", COPY, "--yes", "--json"])
            .expect_code(0)
            .json();
        assert_eq!(said["outcome"], "waiting", "{said}");
    }
    until_met(&cluster.hosts[0], "h2 is there");

    let host = &cluster.hosts[0];
    let killed = host.main_pid(RESUME);
    host.signal(killed, "KILL");
    until("another run in its place", || {
        let pid = host.main_pid(RESUME);
        holds(pid != 0 && pid != killed, host.journal(RESUME))
    });
    until_met(host, "h2 is there");
    assert_waits(host);

    host.run(["systemctl", "stop", RESUME]);
    until_met(&cluster.hosts[1], "h1 does not answer");
    assert_waits(host);
    host.run(["systemctl", "start", "--no-block", RESUME]);
    until_met(&cluster.hosts[1], "h1 is there");

    host.run(["ip", "link", "set", "host0", "down"]);
    until_met(&cluster.hosts[1], "h1 does not answer");
    assert_waits(host);
    host.run(["ip", "link", "set", "host0", "up"]);
    until_met(&cluster.hosts[1], "h1 is there");

    let host = &mut cluster.hosts[0];
    host.cut_power();
    until_met(&cluster.hosts[1], "h1 does not answer");
    let host = &mut cluster.hosts[0];
    host.boot();
    until_met(host, "h2 is there");
    assert_waits(host);
    let host = &mut cluster.hosts[1];
    host.shut_down();
    host.boot();
    until_met(&cluster.hosts[1], "h1 is there");
    assert_waits(&cluster.hosts[1]);

    let third = &cluster.hosts[2];
    let said = restore(third, &[&id, "--from", COPY, "--yes", "--wait", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(said["outcome"], "restored", "{said}");
    cluster.wait_until_served();
    until_closed(&cluster);
}

/// The same backup is restored again while a member of the first time is off. It comes back with the data of the first
/// time, and stays out.
pub fn a_backup_restored_twice_lets_no_member_of_the_first_time_in(lab: &Lab<'_>) {
    let mut cluster = lost(lab, 3);
    let id = backup_of(&cluster);
    restore_all(&cluster, &id);
    cluster.client().put(LATER, "first", 0).expect("it takes writes");
    let third = cluster.hosts.last_mut().expect("there are three");
    third.run(["systemctl", "disable", "etcd"]);
    third.shut_down();

    let [first, second, _] = cluster.hosts.as_slice() else {
        panic!("there are three")
    };
    for host in [first, second] {
        host.run(["systemctl", "stop", "etcd"]);
    }
    let again = [id.as_str(), "--from", COPY, "--yes", "--json", "--without", "h3"];
    let waits = restore(first, &again).expect_code(0).json();
    assert_eq!(waits["outcome"], "waiting", "{waits}");
    let done = restore(second, &[again.as_slice(), &["--wait"]].concat())
        .expect_code(0)
        .json();
    assert_eq!(done["outcome"], "restored", "{done}");
    until("both to serve", || {
        let client = cluster.client_of(first);
        client
            .put(LATER, "second", 0)
            .map(drop)
            .map_err(|error| error.to_string())
    });

    let third = cluster.hosts.last_mut().expect("there are three");
    third.boot();
    third.run(["systemctl", "start", "--no-block", "etcd"]);
    until("the new cluster to turn it away", || {
        let said = third.journal("etcd");
        holds(said.contains("cluster ID mismatch"), said)
    });
    let third = cluster.hosts.last().expect("there are three");
    assert!(cluster.client_of(third).revision().is_err(), "it has no quorum");
    for host in &cluster.hosts[..2] {
        let value = cluster.client_of(host).get(LATER).expect("it serves");
        assert_eq!(value.as_deref(), Some(b"second".as_slice()));
    }
}

/// After a restore a host loses its disk. Whether the others are up, down, or without a quorum: what they have acknowledged
/// is there afterwards, and the host does not come back under the id that it has forgotten the log of.
pub fn a_disk_lost_after_a_restore_costs_no_acknowledged_write(lab: &Lab<'_>) {
    let cluster = lost(lab, 3);
    let id = backup_of(&cluster);
    restore_all(&cluster, &id);
    let [first, second, third] = cluster.hosts.as_slice() else {
        panic!("there are three")
    };
    // h2 does not see what the others acknowledge.
    second.run(["systemctl", "stop", "etcd"]);
    let client = cluster.client_of(first);
    until("two of three to take a write", || {
        client
            .put(LATER, "acknowledged", 0)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    third.run(["systemctl", "stop", "etcd"]);
    third.shell(&format!(
        "rm -rf {DATA_DIR} {LEDGERS} /etc/lifeboat/restore /etc/systemd/system/etcd.service.d; systemctl daemon-reload"
    ));

    // The others are up, without a quorum, and with one.
    let again = [id.as_str(), "--from", COPY, "--yes"];
    let refused = restore(third, &again).expect_code(7);
    assert!(refused.stderr.contains("h1"), "{refused}");
    second.run(["systemctl", "start", "--no-block", "etcd"]);
    until("two of three to serve", || {
        client.revision().map(drop).map_err(|error| error.to_string())
    });
    restore(third, &again).expect_code(7);
    // They are down.
    for host in [first, second] {
        host.run(["systemctl", "stop", "etcd"]);
    }
    restore(third, &again).expect_code(0);
    assert_waits(third);
    second.run(["systemctl", "start", "--no-block", "etcd"]);
    until_met(third, "runs at h2: that cluster lives");
    assert_waits(third);
    first.run(["systemctl", "start", "--no-block", "etcd"]);
    until("two of three to serve", || {
        client.revision().map(drop).map_err(|error| error.to_string())
    });
    let value = client.get(LATER).expect("it serves");
    assert_eq!(
        value.as_deref(),
        Some(b"acknowledged".as_slice()),
        "nothing was voted away"
    );
    // It turns back by itself, and is kept down: there was nothing before.
    until("it to turn back", || {
        holds(step_of(third).is_none(), third.journal(RESUME))
    });
    assert_eq!(third.main_pid("etcd"), 0);
}

/// One backup of a shared store; two of the hosts have newer ones of their own beside it, the third has none.
pub fn hosts_that_see_different_stores_found_one_cluster(lab: &Lab<'_>) {
    let (mut hosts, shared) = (lab.hosts(3), lab.shared_directory());
    hosts.iter_mut().for_each(|host| host.bind(&shared, "/srv/shared"));
    let cluster = Cluster::start_on(hosts);
    install(
        &cluster,
        "[destinations.shared]\nurl = \"file:///srv/shared\"\nshared = true\n",
    );
    let [first, second, third] = cluster.hosts.as_slice() else {
        panic!("there are three")
    };
    first.run(["chown", "lifeboat:", "/srv/shared"]);
    cluster.client().put("/key", "value", 0).expect("it takes writes");
    let id = lifeboat(first, ["backup", "--to", "shared"])
        .expect_code(0)
        .stdout
        .trim()
        .to_owned();
    for (host, writes) in [(first, 3), (second, 9)] {
        for number in 0..writes {
            cluster
                .client()
                .put(LATER, format!("{number}"), 0)
                .expect("it takes writes");
        }
        lifeboat(host, ["backup", "--to", "local"]).expect_code(0);
    }
    for host in [second, third] {
        host.copy_in(&first.path(KEY), KEY);
    }
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", "etcd"]);
    }
    for host in [first, second] {
        let said = restore(host, &[&id, "--yes", "--json"]).expect_code(0).json();
        assert_eq!(said["outcome"], "waiting", "{said}");
    }
    let said = restore(third, &[&id, "--yes", "--wait", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(said["outcome"], "restored", "{said}");
    cluster.wait_until_served();
    for host in &cluster.hosts {
        let client = cluster.client_of(host);
        assert_eq!(client.get("/key").expect("it serves"), Some(b"value".to_vec()));
        assert_eq!(client.get(LATER).expect("it serves"), None);
    }
    until_closed(&cluster);
}

/// A cluster with a backup, of which everything is lost; each host has the backup in a copy.
pub(super) fn lost(lab: &Lab<'_>, members: usize) -> Cluster {
    let cluster = Cluster::start(lab, members);
    backed_up(&cluster);
    let [first, others @ ..] = cluster.hosts.as_slice() else {
        panic!("there are some")
    };
    for host in others {
        copy_tree(&first.path(STORE), &host.path(COPY));
        host.copy_in(&first.path(KEY), KEY);
    }
    first.shell(&format!("cp -a {STORE} {COPY}"));
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
    }
    cluster
}

/// The one backup that there is.
pub(super) fn backup_of(cluster: &Cluster) -> String {
    let ids = crate::install::ids(&cluster.hosts[0]);
    ids.into_iter().next().expect("one was taken")
}

/// Restores every host, one after the other.
fn restore_all(cluster: &Cluster, id: &str) {
    let (last, others) = cluster.hosts.split_last().expect("there are some");
    for host in others {
        restore(host, &[id, "--from", COPY, "--yes"]).expect_code(0);
    }
    restore(last, &[id, "--from", COPY, "--yes", "--wait"]).expect_code(0);
    cluster.wait_until_served();
    until_closed(cluster);
}

/// Waits until a host says so of another one.
#[track_caller]
fn until_met(host: &Host, words: &str) {
    until(&format!("{} to say that {words}", host.name), || {
        let said = lifeboat(host, ["status"]).stdout;
        holds(said.contains(words), (said, host.journal(RESUME)))
    });
}

/// The host has not started, and cannot be made to.
#[track_caller]
fn assert_waits(host: &Host) {
    host.run_any(["systemctl", "start", "etcd"]);
    assert_eq!(host.main_pid("etcd"), 0, "it would be alone: {}", host.journal("etcd"));
    assert_eq!(step_of(host).as_deref(), Some("meet"), "{}", host.journal(RESUME));
}

pub(super) fn until_closed(cluster: &Cluster) {
    for host in &cluster.hosts {
        until("its ledger to be closed", || {
            holds(step_of(host).is_none() && !has_guard(host), host.journal(RESUME))
        });
    }
}
