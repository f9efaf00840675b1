//! Servers of other releases than the distribution's.

use std::fs;

use super::restores::{assert_serves, written_and_backed_up};
use super::{KEEP_TWO, OFTEN};
use crate::cluster::{Cluster, DATA_DIR, drop_in_etcd};
use crate::hosts::{Lab, holds, until};
use crate::install::{IDENTITY, STORE, UNIT, enable, install, lifeboat, manifests};
use crate::preparation::ETCDS;
use crate::support::tools;

pub fn servers_of_the_newest_releases_are_backed_up_and_restored(lab: &Lab<'_>) {
    for version in ETCDS {
        let Some(binary) = tools::etcd(version) else { continue };
        let hosts = lab.hosts(1);
        drop_in_etcd(&hosts[0], &binary);
        let cluster = Cluster::start_on(hosts);
        let host = &cluster.hosts[0];
        install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
        enable(host);
        until("a backup", || {
            let found = manifests(&host.path(STORE));
            let of_this = found
                .iter()
                .any(|manifest| manifest["etcd_version"] == version.number());
            holds(of_this, &found)
        });
        lifeboat(host, ["status"]).expect_code(0);
        host.run(["systemctl", "stop", UNIT]);

        let (id, before) = written_and_backed_up(&cluster);
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
        host.shell(&format!("install -m 600 {IDENTITY} /etc/lifeboat/identity"));
        host.run(["systemctl", "start", &format!("lifeboat-restore@{id}")]);
        assert_serves(&cluster, &before);
        assert_eq!(cluster.client().version().expect("it serves"), version.number());
    }
}
