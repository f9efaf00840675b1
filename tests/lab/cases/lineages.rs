//! Another history under the same ids: it is noticed, and what was there before it stays.

use super::{KEEP_TWO, OFTEN};
use crate::cluster::Cluster;
use crate::hosts::{Lab, holds, until};
use crate::install::{IDENTITY, UNIT, enable, ids, install, lifeboat};

pub fn an_etcd_wiped_and_restarted_empty_displaces_nothing(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    for number in 0..50 {
        cluster.client().put(&format!("/key/{number}"), "value", 0).unwrap();
    }
    enable(host);
    until("two backups", || holds(ids(host).len() == 2, ids(host)));
    lifeboat(host, ["export", "latest", "/root/before.db", "--identity", IDENTITY]).expect_code(0);

    // Stopped meanwhile, so that it is known which backups are of before.
    host.run(["systemctl", "stop", UNIT]);
    let before = ids(host);
    cluster.wipe();
    host.run(["systemctl", "start", UNIT]);
    until("two backups of the empty etcd", || {
        holds(ids(host).difference(&before).count() >= 2, ids(host))
    });
    let first = ids(host);
    until("the first backups of the empty etcd to be rotated", || {
        let now = ids(host);
        holds(first.difference(&before).all(|id| !now.contains(id)), now)
    });
    assert!(
        ids(host).is_superset(&before),
        "{before:?} are not all in {:?}",
        ids(host)
    );

    let wrong = lifeboat(host, ["status"]).expect_code(1);
    assert!(wrong.stdout.contains("latest"), "{wrong}");
    lifeboat(host, ["export", "latest", "/root/after.db", "--identity", IDENTITY]).expect_code(7);
    assert!(!host.path("/root/after.db").exists());
}
