//! Servers of other releases than the distribution's.

use super::{KEEP_TWO, OFTEN};
use crate::cluster::{Cluster, drop_in_etcd};
use crate::hosts::{Lab, holds, until};
use crate::install::{STORE, enable, install, lifeboat, manifests};
use crate::preparation::ETCDS;
use crate::support::tools;

pub fn servers_of_the_newest_releases_are_backed_up(lab: &Lab<'_>) {
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
    }
}
