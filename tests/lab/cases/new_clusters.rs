//! Restores after which several members are one new cluster, or must not become one.

use std::fs;

use super::restores::{KEY, LATER, LEDGERS, assert_serves, backed_up, has_guard, restore};
use crate::cluster::{CERTIFICATES, Cluster, DATA_DIR};
use crate::hosts::{Host, Lab, holds, until};
use crate::install::{CLUSTER, IDENTITY, STATE, STORE, drop_in, lifeboat};
use crate::support::client::wait_for;
use crate::support::host::copy_tree;

const UNIT: &str = "lifeboat-restore@latest";

/// The backups are on one host only and are carried to the others. On each the same unit is started, the next only after
/// the one before has done what it can alone.
pub fn the_same_unit_on_each_host_makes_one_cluster_that_grows_and_lets_no_old_member_in(lab: &Lab<'_>) {
    let mut hosts = lab.hosts(4);
    let mut fourth = hosts.pop().expect("there are four");
    let cluster = Cluster::start_on(hosts);
    let (_, before) = backed_up(&cluster);
    let [first, second, third] = cluster.hosts.as_slice() else {
        panic!("there are three")
    };
    let packed = "/root/backups.tar";
    first.shell(&format!("tar -C {STORE} -cf {packed} ."));
    for host in [second, third] {
        host.copy_in(&first.path(packed), packed);
        host.shell(&format!("tar -C {STORE} -xf {packed}"));
        host.copy_in(&first.path(IDENTITY), IDENTITY);
    }
    third.shell(&format!("cp -a {DATA_DIR} /root/old"));
    for host in &cluster.hosts {
        host.shell(&format!("install -m 600 {IDENTITY} /etc/lifeboat/identity"));
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
    }

    first.run(["systemctl", "start", UNIT]);
    let said = first.journal(UNIT);
    assert!(said.contains("waiting for 2 of 2 peers"), "{said}");
    assert!(stays_down(first), "it would start alone");
    lifeboat(first, ["status"]).expect_code(1);
    second.run(["systemctl", "start", UNIT]);
    let said = second.journal(UNIT);
    assert!(said.contains("waiting for 1 of 2 peers"), "{said}");
    assert!(
        stays_down(second),
        "two of three are a quorum, and the third has not agreed"
    );
    until("the first to hear the second", || {
        let said = lifeboat(first, ["status"]).expect_code(1).stdout;
        holds(
            said.contains("h3 does not answer") && said.contains("h2 is there"),
            said,
        )
    });
    third.run(["systemctl", "start", UNIT]);
    assert_serves(&cluster, &before);
    until_closed(&cluster);
    assert_ne!(first.property("etcd", "TimeoutStartUSec"), "infinity");

    // A member of the cluster that was lost, back with its data in the place of one of the new.
    third.run(["systemctl", "stop", "etcd"]);
    third.run([
        "systemd-run",
        "--quiet",
        "--unit=old",
        "sh",
        "-c",
        &format!(
            "set -a && . /etc/default/etcd && exec etcd --name {} --data-dir /root/old",
            third.name
        ),
    ]);
    until("the new cluster to turn it away", || {
        let said = third.journal("old");
        holds(said.contains("cluster ID mismatch"), said)
    });
    let old = cluster.client_of(third);
    assert!(old.revision().is_err(), "it has no quorum");
    let rest = cluster.client_of(first);
    rest.put(LATER, "new", 0).expect("two of three are enough");
    third.run(["systemctl", "stop", "old"]);
    third.run(["systemctl", "start", "etcd"]);
    cluster.wait_until_served();
    assert_eq!(
        cluster.client_of(third).get(LATER).expect("it serves"),
        Some(b"new".to_vec())
    );

    // A member that was never restored gets everything from the others.
    fourth.boot();
    let peer = cluster.peer_url(&fourth);
    // Members are only taken when all have been connected for a while.
    until("the cluster to take another member", || {
        let added = wait_for(rest.raw().member_add([peer.clone()], None));
        added.map(drop).map_err(|error| error.to_string())
    });
    let settings = cluster.settings(&fourth).replace(
        "ETCD_INITIAL_CLUSTER_TOKEN",
        "ETCD_INITIAL_CLUSTER_STATE=existing\nETCD_INITIAL_CLUSTER_TOKEN",
    );
    let with_fourth = format!("\nETCD_INITIAL_CLUSTER={}={peer},", fourth.name);
    fourth.write(
        "/etc/default/etcd",
        &settings.replace("\nETCD_INITIAL_CLUSTER=", &with_fourth),
    );
    fourth.run(["systemctl", "enable", "--now", "--quiet", "etcd"]);
    let client = cluster.client_of(&fourth);
    until("the new member to have the same", || before.is_served_by(&client));
    assert_eq!(client.get(LATER).expect("it serves"), Some(b"new".to_vec()));
}

/// Whoever restores another backup on one host does not end with two histories in one cluster.
pub fn hosts_that_restore_different_backups_do_not_become_one_cluster(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 3);
    let (older, _) = backed_up(&cluster);
    cluster.client().put(LATER, "newer", 0).expect("it takes writes");
    let [first, rest @ ..] = cluster.hosts.as_slice() else {
        panic!("there are three")
    };
    let newer = lifeboat(first, ["backup"]).expect_code(0).stdout.trim().to_owned();
    for host in rest {
        copy_tree(&first.path(STORE), &host.path("/root/copy"));
        host.copy_in(&first.path(KEY), KEY);
    }
    first.shell(&format!("cp -a {STORE} /root/copy"));
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", "etcd"]);
    }
    let from = ["--from", "/root/copy", "--yes", "--json"];
    let alone = restore(first, &[&[older.as_str()], from.as_slice()].concat())
        .expect_code(0)
        .json();
    assert_eq!(alone["outcome"], "waiting", "{alone}");
    // Who comes with another backup is told of the host that has begun, and has lost nothing.
    for host in rest {
        let refused = restore(host, &[&[newer.as_str()], from.as_slice()].concat()).expect_code(7);
        let says = |word: &str| refused.stderr.contains(word);
        assert!(
            says(&format!("{} restores something else: backup {older}", first.name)) && says("lifeboat rollback"),
            "{refused}"
        );
        assert!(!is_open(host) && !has_guard(host));
    }
    assert!(cluster.client_of(first).revision().is_err(), "it is held down");
    // The way out is to take back what was begun.
    lifeboat(first, ["rollback", "--yes"]).expect_code(0);
    first.run(["systemctl", "stop", "etcd"]);
    for (host, outcome) in cluster.hosts.iter().zip(["waiting", "waiting", "restored"]) {
        let said = restore(host, &[&[newer.as_str()], from.as_slice()].concat())
            .expect_code(0)
            .json();
        assert_eq!(said["outcome"], outcome, "{said}");
    }
    cluster.wait_until_served();
    until_closed(&cluster);
    for host in &cluster.hosts {
        let value = cluster.client_of(host).get(LATER).expect("it serves");
        assert_eq!(value.as_deref(), Some(b"newer".as_slice()));
    }
}

/// Everything is lost, each host has backups of its own, and the newest of each is another one.
pub fn hosts_that_lost_everything_and_restored_different_backups_come_together_on_one(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 2);
    let (_, before) = backed_up(&cluster);
    let [first, second] = cluster.hosts.as_slice() else {
        panic!("there are two")
    };
    second.copy_in(&first.path(IDENTITY), IDENTITY);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    lifeboat(second, ["backup"]).expect_code(0);
    for host in &cluster.hosts {
        host.shell(&format!("install -m 600 {IDENTITY} /etc/lifeboat/identity"));
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
    }

    first.run(["systemctl", "start", UNIT]);
    let said = refused_by_unit(second);
    assert!(
        said.contains("h1 restores something else") && said.contains("`lifeboat rollback`"),
        "{said}"
    );
    assert!(!second.path(DATA_DIR).join("member").exists());

    // Its own backups make way for those that are carried over, which it does not know.
    let packed = "/root/backups.tar";
    first.run(["tar", "-C", "/var/backups", "-cf", packed, "lifeboat"]);
    second.copy_in(&first.path(packed), packed);
    second.run(["mv", STORE, "/var/backups/own"]);
    second.run(["tar", "-C", "/var/backups", "-xf", packed]);
    let said = refused_by_unit(second);
    let known = format!("{STATE}/{CLUSTER}/stores");
    assert!(
        said.contains(&format!("`--from {STORE}/{CLUSTER}`")) && said.contains(&known),
        "{said}"
    );
    second.run(["rm", &format!("{known}/local.json")]);
    second.run(["systemctl", "start", UNIT]);
    assert_serves(&cluster, &before);
    assert_eq!(cluster.client().get(LATER).expect("it serves"), None);
    until_closed(&cluster);
    // The agent's user can go on in what root has unpacked.
    lifeboat(second, ["backup"]).expect_code(0);
}

pub fn a_cluster_in_which_everybody_shows_a_certificate_comes_back(lab: &Lab<'_>) {
    let cluster = Cluster::start_with_tls(lab, 2);
    let [first, second] = cluster.hosts.as_slice() else {
        panic!("there are two")
    };
    crate::install::install(&cluster, "");
    for host in &cluster.hosts {
        let file = |name: &str| format!("{{ file = \"{CERTIFICATES}/{name}.pem\" }}");
        let (ca, cert, key) = (file("ca"), file("client"), file("client-key"));
        drop_in(
            host,
            "tls.toml",
            &format!("[cluster]\ntls = {{ ca = {ca}, cert = {cert}, key = {key} }}\n"),
        );
    }
    let (id, before) = super::restores::written_and_backed_up(&cluster);
    copy_tree(&first.path(STORE), &second.path("/root/copy"));
    second.copy_in(&first.path(KEY), KEY);
    first.shell(&format!("cp -a {STORE} /root/copy"));
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
    }
    for (host, outcome) in cluster.hosts.iter().zip(["waiting", "restored"]) {
        let said = restore(host, &[&id, "--from", "/root/copy", "--yes", "--json"])
            .expect_code(0)
            .json();
        assert_eq!(said["outcome"], outcome, "{said}");
        assert_eq!(said["warnings"], serde_json::json!([]), "{said}");
    }
    assert_serves(&cluster, &before);
    until_closed(&cluster);
}

/// Whether etcd cannot be started on a host.
fn stays_down(host: &Host) -> bool {
    host.run_any(["systemctl", "start", "etcd"]);
    host.main_pid("etcd") == 0
}

/// Starts the unit, which must not end well; what its last run said.
#[track_caller]
fn refused_by_unit(host: &Host) -> String {
    host.run_any(["systemctl", "start", UNIT]).expect_code(1);
    until("its end in the journal", || {
        let journal = host.journal(UNIT);
        let last = journal.rsplit("Starting lifeboat-restore@").next().unwrap_or_default();
        holds(last.contains("Failed to start"), last).map(|()| last.to_owned())
    })
}

fn until_closed(cluster: &Cluster) {
    for host in &cluster.hosts {
        until("its ledger to be closed", || {
            holds(
                !is_open(host) && !has_guard(host),
                host.journal("lifeboat-restore-resume"),
            )
        });
    }
}

fn is_open(host: &Host) -> bool {
    host.path(LEDGERS).join("ledger.json").exists()
}
