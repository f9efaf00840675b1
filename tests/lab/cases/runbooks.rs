//! The runbooks: what README and manual page tell somebody to type at 3 a.m. is read out of them and typed, at a terminal.
//!
//! Only an ID, names, addresses and, on an old Debian, the name of a tool are put in.

use std::fs;
use std::thread;

use super::OFTEN;
use super::restores::{Before, assert_serves, backed_up, written_and_backed_up};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Done, Host, Lab, holds, until};
use crate::install::{CONFIG, IDENTITY, NAME, STORE, apt, enable, install, lifeboat};
use crate::preparation::Suite;
use crate::support::runbook::{manual, readme};

/// The ID that stands in the runbooks.
const ID: &str = "20261120T101530Z-9f3c4a1b";
/// What the package puts where the configuration is to be.
const SAMPLE: &str = include_str!("../../../packaging/config.toml");

pub fn one_host_is_restored_by_hand_and_with_nobody_at_the_terminal(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, before) = backed_up_with(&cluster, OFTEN);
    // It is at work all the time.
    enable(host);
    lose_everything(&cluster);
    for line in &only(readme("One host")) {
        type_in(host, line, &id);
    }
    assert_serves(&cluster, &before);
    wait_until_all_is_well(host);

    let latest = lifeboat(host, ["--json", "status"]).json()["latest"].clone();
    lose_everything(&cluster);
    for line in only(manual("FIRST"))
        .iter()
        .chain(&only(manual("NOBODY AT THE TERMINAL")))
    {
        type_in(host, line, latest.as_str().expect("there is one"));
    }
    assert_serves(&cluster, &before);
    assert!(!host.path("/etc/lifeboat/identity").exists());
    wait_until_all_is_well(host);
}

pub fn hosts_that_share_a_store_are_restored_with_systemd_and_without(lab: &Lab<'_>) {
    let (mut hosts, store) = (lab.hosts(3), lab.shared_directory());
    hosts.iter_mut().for_each(|host| host.bind(&store, STORE));
    let cluster = Cluster::start_on(hosts);
    let (id, before) = backed_up_with(&cluster, "shared = true\n");
    carry(&cluster, IDENTITY);
    let last = cluster.hosts.last().expect("there are three");
    let [first, each, end] = blocks(readme("Three hosts"));
    on_all(&cluster, &first, &id);
    destroy(&cluster);
    on_all(&cluster, &each, &id);
    // Nobody waits for the others.
    on_all(&cluster, &end, &id);
    assert_serves(&cluster, &before);
    assert_all_well(&cluster);

    cluster.hosts.iter().for_each(|host| {
        host.run(["systemctl", "stop", "etcd"]);
    });
    let [each, end] = blocks(readme("Without systemd"));
    on_all(&cluster, &each, &id);
    for host in &cluster.hosts {
        host.run(["systemctl", "start", "--no-block", "etcd"]);
    }
    cluster.wait_until_served();
    on_each(&cluster, &[last], &end, &id);
    assert_serves(&cluster, &before);
    assert_all_well(&cluster);
}

pub fn backups_of_one_host_are_carried_to_the_others(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 3);
    let (id, before) = backed_up(&cluster);
    carry(&cluster, IDENTITY);
    let [host, others @ ..] = cluster.hosts.as_slice() else {
        unreachable!("three were started")
    };
    let bare = others.last().expect("there are two");
    let configuration = fs::read_to_string(bare.path(CONFIG)).expect("it is there");
    bare.write(CONFIG, SAMPLE);

    let [first, here, there, end] = blocks(readme("The backups are only on one of three hosts"));
    on_all(&cluster, &first, &id);
    destroy(&cluster);
    for line in &here {
        type_in(host, line, &id);
    }
    let open = lifeboat(host, ["status"]).expect_code(1);
    assert!(open.stdout.contains("now: waiting for the other members"), "{open}");
    let other_user = host
        .run_any(["runuser", "-u", "lifeboat", "--", "lifeboat", "status"])
        .expect_code(1);
    assert!(
        other_user.stdout.contains("is open on this host: as root"),
        "{other_user}"
    );
    carry(&cluster, "/root/backups.tar");
    let others: Vec<&Host> = others.iter().collect();
    on_each(&cluster, &others, &there, &id);
    bare.write(CONFIG, &configuration);
    on_all(&cluster, &end, &id);
    assert_serves(&cluster, &before);
    assert_all_well(&cluster);
}

pub fn a_host_is_restored_without_lifeboat(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, before) = backed_up(&cluster);
    apt(host, ["purge", NAME]).expect_code(0);
    host.run(["systemctl", "stop", "etcd"]);
    fs::remove_dir_all(host.path(DATA_DIR).join("member")).expect("root can remove it");
    for line in &only(readme("Without lifeboat")) {
        let line = match lab.suite {
            Suite::Trixie => line.clone(),
            Suite::Bookworm => line.replace("etcdutl", "etcdctl"),
        };
        type_in(host, &of_members(&line, &cluster, host), &id);
    }
    host.run(["systemctl", "start", "etcd"]);
    assert_serves(&cluster, &before);
}

/// Types a line at a terminal, at home, and says yes to what is asked.
#[track_caller]
fn type_in(host: &Host, line: &str, id: &str) {
    typed(host, line, id).expect_code(0);
}

fn typed(host: &Host, line: &str, id: &str) -> Done {
    // A pipe that stays open: at the end of its input `script` would wait for two seconds.
    let at_a_terminal = "cd && rm -f .answers && mkfifo .answers && exec 3<>.answers && echo yes >&3 && \
                         exec script --quiet --return --command \"$0\" /dev/null <&3";
    host.run_any(["sh", "-c", at_a_terminal, &line.replace(ID, id)])
}

/// Types lines on all hosts, at the same time.
#[track_caller]
fn on_all(cluster: &Cluster, lines: &[String], id: &str) {
    let hosts: Vec<&Host> = cluster.hosts.iter().collect();
    on_each(cluster, &hosts, lines, id);
}

#[track_caller]
fn on_each(cluster: &Cluster, hosts: &[&Host], lines: &[String], id: &str) {
    let on = |host: &Host| -> Vec<Done> {
        let mut said = Vec::new();
        for line in lines {
            let done = typed(host, &of_members(line, cluster, host), id);
            let has_failed = done.code != 0;
            said.push(done);
            if has_failed {
                break;
            }
        }
        said
    };
    let said: Vec<Vec<Done>> = thread::scope(|scope| {
        let typing: Vec<_> = hosts.iter().map(|host| scope.spawn(|| on(host))).collect();
        typing
            .into_iter()
            .map(|typing| typing.join().expect("a line is typed or says why not"))
            .collect()
    });
    for done in said.into_iter().flatten() {
        done.expect_code(0);
    }
}

/// A line with the cluster's members and this one's own name and address.
fn of_members(line: &str, cluster: &Cluster, own: &Host) -> String {
    let url = "--initial-advertise-peer-urls http://";
    let mut line = line
        .replace("--name m1", &format!("--name {}", own.name))
        .replace(&format!("{url}10.0.0.1"), &format!("{url}{}", own.address));
    for (number, host) in (1..).zip(&cluster.hosts) {
        let (name, address) = (&host.name, host.address);
        line = line.replace(
            &format!("m{number}=http://10.0.0.{number}:"),
            &format!("{name}=http://{address}:"),
        );
    }
    line
}

#[track_caller]
fn blocks<const N: usize>(blocks: Vec<Vec<String>>) -> [Vec<String>; N] {
    blocks
        .try_into()
        .unwrap_or_else(|blocks| panic!("not {N} blocks to type: {blocks:?}"))
}

#[track_caller]
fn only(all: Vec<Vec<String>>) -> Vec<String> {
    let [block] = blocks(all);
    block
}

fn backed_up_with(cluster: &Cluster, more: &str) -> (String, Before) {
    install(cluster, more);
    written_and_backed_up(cluster)
}

/// Takes a file from the first host to the others.
fn carry(cluster: &Cluster, path: &str) {
    let [first, others @ ..] = cluster.hosts.as_slice() else {
        unreachable!("a cluster has hosts")
    };
    for host in others {
        host.copy_in(&first.path(path), path);
    }
}

fn lose_everything(cluster: &Cluster) {
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", "etcd"]);
    }
    destroy(cluster);
}

fn destroy(cluster: &Cluster) {
    for host in &cluster.hosts {
        fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
    }
}

#[track_caller]
fn wait_until_all_is_well(host: &Host) {
    until("all to be well", || {
        let status = lifeboat(host, ["status"]);
        holds(status.code == 0, status)
    });
}

#[track_caller]
fn assert_all_well(cluster: &Cluster) {
    for host in &cluster.hosts {
        lifeboat(host, ["status"]).expect_code(0);
    }
}
