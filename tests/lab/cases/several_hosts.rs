//! Three hosts of one cluster with the same configuration: who makes the backups.

use std::collections::BTreeSet;

use super::{KEEP_TWO, OFTEN};
use crate::cluster::Cluster;
use crate::hosts::{Lab, holds, until};
use crate::install::{STORE, enable, install, lifeboat, manifests};

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
