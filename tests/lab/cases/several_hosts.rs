//! Three hosts of one cluster with the same configuration: who makes the backups.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;

use super::{KEEP_TWO, OFTEN};
use crate::cluster::Cluster;
use crate::hosts::{Lab, holds, until};
use crate::install::{STORE, UNIT, enable, install, lifeboat, manifests};

/// The distance of the slots that the hosts share: longer than the last of three lets the others go before it.
const SECONDS: i64 = 12;

pub fn hosts_with_stores_of_their_own_each_make_their_own_backups(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 3);
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    cluster.hosts.iter().for_each(enable);
    for host in &cluster.hosts {
        let mut slots = BTreeSet::new();
        until(&format!("backups of three slots on {}", host.name), || {
            for manifest in manifests(&host.path(STORE)) {
                assert_eq!(manifest["writer"]["host"], host.name.as_str());
                slots.insert(manifest["slot"].to_string());
            }
            holds(slots.len() >= 3, &slots)
        });
    }
    for host in &cluster.hosts {
        lifeboat(host, ["status"]).expect_code(0);
    }
}

pub fn hosts_that_share_a_store_make_one_backup_a_slot_whoever_leads_or_dies(lab: &Lab<'_>) {
    let (mut hosts, store) = (lab.hosts(3), lab.shared_directory());
    hosts.iter_mut().for_each(|host| host.bind(&store, STORE));
    let mut cluster = Cluster::start_on(hosts);
    let schedule = OFTEN.replace("2s", &format!("{SECONDS}s"));
    // The agent that is killed stays dead.
    for host in &cluster.hosts {
        host.write(
            "/etc/systemd/system/lifeboat.service.d/lab.conf",
            "[Service]\nRestart=no\n",
        );
    }
    install(&cluster, &format!("shared = true\n{schedule}"));
    cluster.hosts.iter().for_each(enable);

    wait_for_slots(&store, 2);
    cluster.move_leader();
    let quiet = wait_for_slots(&store, 1);
    let (first, last) = (quiet.keys().next().unwrap(), quiet.keys().next_back().unwrap());
    assert_eq!(
        quiet.len() as i64,
        (last.as_second() - first.as_second()) / SECONDS + 1,
        "slots are missing: {quiet:?}"
    );
    for host in &cluster.hosts {
        lifeboat(host, ["status"]).expect_code(0);
    }

    let on_duty = &quiet[last];
    let killed = cluster
        .hosts
        .iter()
        .position(|host| host.name == *on_duty)
        .expect("it is one of ours");
    cluster.hosts[killed].run(["systemctl", "kill", "--signal=KILL", UNIT]);
    wait_for_slots(&store, 2);

    let leader = cluster.leader().name.clone();
    cluster
        .hosts
        .iter_mut()
        .filter(|host| host.name == leader)
        .for_each(|host| host.cut_power());
    wait_for_slots(&store, 2);
}

/// Waits for so many more slots, and gives all that have a backup, with the host that made it. None has two.
#[track_caller]
fn wait_for_slots(store: &Path, more: usize) -> BTreeMap<Timestamp, String> {
    let before = taken(store).len();
    until(&format!("backups of {more} more slots"), || {
        let now = taken(store);
        holds(now.len() >= before + more, &now).map(|()| now)
    })
}

#[track_caller]
fn taken(store: &Path) -> BTreeMap<Timestamp, String> {
    let mut slots = BTreeMap::new();
    for manifest in manifests(store) {
        let text = |value: &serde_json::Value| value.as_str().expect("it is a text").to_owned();
        let slot = text(&manifest["slot"]).parse().expect("it is an instant");
        let other = slots.insert(slot, text(&manifest["writer"]["host"]));
        assert_eq!(other, None, "two backups of slot {slot}");
    }
    slots
}
