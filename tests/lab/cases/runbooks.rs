//! The runbooks: what README and manual page tell somebody to type at 3 a.m. is read out of them and typed, at a terminal.
//!
//! Only an ID, names, addresses and, on an old Debian, the name of a tool are put in.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::OFTEN;
use super::restores::{Before, LATER, assert_serves, backed_up, restore, written_and_backed_up};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Done, Host, Lab, holds, until};
use crate::install::{CONFIG, IDENTITY, NAME, STORE, apt, enable, install, lifeboat, manifests};
use crate::packing::{Kind, Release, package};
use crate::preparation::Suite;
use crate::support::runbook::{manual, quick_start, readme};

/// The ID that stands in the runbooks.
const ID: &str = "20261120T101530Z-9f3c4a1b";
/// What the package puts where the configuration is to be.
const SAMPLE: &str = include_str!("../../../packaging/config.toml");

/// Only the members and the recipient are put in, and an interval that one can wait for.
pub fn the_quick_start_ends_with_an_agent_that_takes_backups(lab: &Lab<'_>) {
    let (mut hosts, store) = (lab.hosts(1), lab.shared_directory());
    hosts.iter_mut().for_each(|host| host.bind(&store, "/mnt/etcd-backups"));
    let cluster = Cluster::start_on(hosts);
    let host = &cluster.hosts[0];
    let deb = package(Kind::Deb, Release::Present);
    let name = deb.file_name().expect("it is a file").to_string_lossy();
    host.copy_in(&deb, &format!("/root/{name}"));
    let (blocks, configuration) = quick_start();
    let [install, key, destination, begin, look] = blocks.try_into().expect("the case knows its five blocks");
    for line in install.iter().chain(&key).chain(&destination) {
        type_in(host, &line.replace("apt install", "apt-get install --yes"), ID);
    }
    let made = fs::read_to_string(host.path("/root/backup-key.txt")).expect("it was made");
    let recipient = made.split_whitespace().find(|word| word.starts_with("age1"));
    let (above, below) = configuration.split_once("[members.m1]").expect("it shows a member");
    let (_, below) = below.split_once("\n\n").expect("something follows");
    let configuration = format!("{above}{}\n{below}", cluster.members())
        .replace("age1…", recipient.expect("the file names it"))
        .replace("when = \"hourly\"", "every = \"10s\"\njitter = \"0s\"");
    host.write(CONFIG, &configuration);
    for line in &begin {
        type_in(host, line, ID);
    }
    until("a scheduled backup", || {
        let found = manifests(&store.join("lifeboat"));
        holds(found.iter().any(|manifest| manifest["schedule"] == "hourly"), &found)
    });
    for line in &look {
        type_in(host, line, ID);
    }
    lifeboat(host, ["status"]).expect_code(0);
    assert_eq!(host.property("lifeboat.service", "UnitFileState"), "enabled");
}

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

    let latest = lifeboat(host, ["--json", "status"]).json()["latest"]["id"].clone();
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

/// The lines that the refusal prints are typed on one host, those of the runbook on another, while a client writes.
pub fn one_of_three_that_is_lost_comes_back_under_writes(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 3);
    backed_up(&cluster);
    let [first, second, third] = cluster.hosts.as_slice() else {
        unreachable!("three were started")
    };
    /// However the case ends, nobody writes on.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let client = cluster.client_of(first);
            let mut written = 0;
            while !is_over.load(Ordering::Relaxed) {
                written += usize::from(client.put(&format!("/under/{written:06}"), "value", 0).is_ok());
            }
            written
        });
        let over = Over(&is_over);
        for (host, is_printed) in [(third, true), (second, false)] {
            host.run(["systemctl", "kill", "--signal=KILL", "etcd"]);
            host.run(["systemctl", "stop", "etcd"]);
            fs::remove_dir_all(host.path(DATA_DIR).join("member/snap")).expect("root can remove it");
            let refused = typed(host, "lifeboat restore latest --dry-run", "").expect_code(7);
            let lines = match is_printed {
                true => printed(&refused.stdout),
                false => runbook_of_one(host, first, &refused.stdout),
            };
            for line in &lines {
                typed(host, line, "").expect_code(0);
            }
            let listed = first.run(["etcdctl", "member", "list"]).stdout;
            assert!(listed.lines().count() == 3 && !listed.contains("true"), "{listed}");
            cluster.wait_until_served();
        }
        drop(over);
        writing.join().expect("it only writes")
    });
    assert!(written > 0);
    for host in [first, second, third] {
        let client = cluster.client_of(host);
        for number in [0, written / 2, written - 1] {
            let value = client.get(&format!("/under/{number:06}")).expect("it serves");
            assert_eq!(value.as_deref(), Some(b"value".as_slice()), "{number} of {written}");
        }
        assert!(!host.path("/run/systemd/system/etcd.service.d/zzz-rejoin.conf").exists());
    }
}

/// The lines of a refusal that are to be typed.
fn printed(said: &str) -> Vec<String> {
    let lines = said
        .lines()
        .filter_map(|line| line.trim_end_matches('\r').strip_prefix("      "));
    lines.map(str::to_owned).collect()
}

/// The lines of the runbook with the ID that the refusal tells, a member that is well, and this one's name and address.
fn runbook_of_one(host: &Host, well: &Host, refused: &str) -> Vec<String> {
    let [_, lines] = blocks(readme("One of three is lost"));
    let id = refused.split("member remove ").nth(1).expect("it is printed");
    let id = id.split_whitespace().next().expect("it is printed");
    let own = |line: &String| {
        line.replace("http://10.0.0.2:2379", &format!("http://{}:2379", well.address))
            .replace("http://10.0.0.1:2380", &format!("http://{}:2380", host.address))
            .replace("8e9e05c52164694d", id)
            .replace("member add m1", &format!("member add {}", host.name))
    };
    lines.iter().map(own).collect()
}

pub fn two_of_three_that_are_lost_come_back_with_what_the_third_has(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 3);
    backed_up(&cluster);
    cluster
        .client()
        .put(LATER, "after the backup", 0)
        .expect("it takes writes");
    let [first, others @ ..] = cluster.hosts.as_slice() else {
        unreachable!("three were started")
    };
    for host in others {
        host.run(["systemctl", "kill", "--signal=KILL", "etcd"]);
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR).join("member")).expect("root can remove it");
    }
    // The survivor says so, and so do the others of it.
    for host in &cluster.hosts {
        let refused = until("the loss to be seen", || {
            let refused = typed(host, "lifeboat restore latest --dry-run", "");
            holds(refused.stdout.contains("has lost its quorum"), &refused).map(|()| refused)
        });
        let said = refused.expect_code(7).stdout;
        assert!(
            said.contains("survivor.db --skip-hash-check") && said.contains("--despite-running-members"),
            "{said}"
        );
    }
    let [here, there, end] = blocks(readme("Two of three are lost"));
    for line in &here {
        type_in(first, line, "");
    }
    carry(&cluster, "/root/survivor.db");
    let others: Vec<&Host> = others.iter().collect();
    on_each(&cluster, &others, &there, "");
    cluster.wait_until_served();
    for host in &cluster.hosts {
        let value = cluster.client_of(host).get(LATER).expect("it serves");
        assert_eq!(value.as_deref(), Some(b"after the backup".as_slice()));
    }
    on_all(&cluster, &end, "");
    assert_all_well(&cluster);
}

pub fn keys_that_were_deleted_are_copied_back_and_a_full_quota_is_freed(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    // A new connection each time: etcd is started anew between, and what is sent on the connection to the old one fails.
    let client = || cluster.client();
    client().delete_range("/key/1", "/key/2").expect("it takes writes");
    client().put("/key/30", "changed", 0).expect("it takes writes");
    for line in &only(readme("Some keys were deleted")) {
        type_in(host, line, &id);
    }
    let get = |key: &str| client().get(key).expect("it serves");
    assert_eq!(get("/key/17").as_deref(), Some(b"value".as_slice()));
    assert_eq!(get("/key/18"), None, "nobody asked for it");
    assert_eq!(get("/key/30").as_deref(), Some(b"changed".as_slice()));

    let settings = format!("{}ETCD_QUOTA_BACKEND_BYTES=8388608\n", cluster.settings(host));
    host.write("/etc/default/etcd", &settings);
    host.run(["systemctl", "restart", "etcd"]);
    cluster.wait_until_served();
    let value = vec![7; 1 << 20];
    for _ in 0..6 {
        client().put("/large", value.clone(), 0).expect("there is room for it");
    }
    // Small ones at last: what is left then is less than a restore adds.
    until("the quota to be used up", || {
        let client = client();
        let refused = (0..200).find_map(|_| client.put("/large", vec![7; 4 << 10], 0).err());
        let refused = refused.map(|why| why.to_string()).unwrap_or_default();
        holds(refused.contains("database space exceeded"), &refused)
    });
    // Nearly all of it is history, which goes where revisions jump: what was taken from it takes writes again.
    let full = lifeboat(host, ["backup"]).expect_code(0).stdout.trim().to_owned();
    let said = restore(host, &[&full, "--yes"]).expect_code(0);
    assert!(
        said.stderr.contains("which fits") && said.stderr.contains("quota"),
        "{said}"
    );
    assert_eq!(get("/key/17").as_deref(), Some(b"value".as_slice()));
    client().put("/large", value.clone(), 0).expect("it takes writes");
    lifeboat(host, ["rollback", "--yes"]).expect_code(0);
    cluster.wait_until_served();
    for line in &only(readme("The data directory is full")) {
        type_in(host, line, "");
    }
    client().put("/afterwards", "value", 0).expect("it takes writes again");

    // Where all of it lives there is nothing to give up: it comes back for reads, and says why for no more.
    let larger = settings.replace("8388608", "33554432");
    host.write("/etc/default/etcd", &larger);
    host.run(["systemctl", "restart", "etcd"]);
    cluster.wait_until_served();
    for number in 0..10 {
        let key = format!("/large/{number}");
        client().put(&key, value.clone(), 0).expect("the larger quota has room");
    }
    host.write("/etc/default/etcd", &settings);
    host.run(["systemctl", "restart", "etcd"]);
    cluster.wait_until_served();
    let full = lifeboat(host, ["backup"]).expect_code(0).stdout.trim().to_owned();
    let said = restore(host, &[&full, "--yes"]).expect_code(0);
    assert!(
        said.stderr.contains("reads only") && said.stderr.contains("compacted it would have"),
        "{said}"
    );
    assert_eq!(get("/key/17").as_deref(), Some(b"value".as_slice()));
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
