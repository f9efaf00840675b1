//! Root's own runs beside the agent's: nothing that one leaves stands in the other's way.

use super::{KEEP_TWO, OFTEN, SELDOM};
use crate::cluster::Cluster;
use crate::hosts::{Host, Lab, holds, until};
use crate::install::{IDENTITY, STATE, STORE, UNIT, drop_in, enable, ids, install, lifeboat};

pub fn what_root_does_by_hand_the_agent_goes_on_with(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{SELDOM}"));
    // The very first run makes the store and the state.
    let first = backup(host);
    enable(host);
    let second = backup(host);
    for args in [
        &["pin", &first][..],
        &["unpin", &first],
        &["prune"],
        &["verify", "--identity", IDENTITY],
        &["accept-lineage"],
    ] {
        lifeboat(host, args.iter().copied()).expect_code(0);
        assert_all_is_the_agents(host);
    }

    drop_in(host, "20-often.toml", OFTEN);
    until("the agent to have rotated root's backups", || {
        let now = ids(host);
        holds(
            now.len() == 2 && !now.contains(&first) && !now.contains(&second),
            host.journal(UNIT),
        )
    });
    let third = backup(host);
    lifeboat(host, ["verify", &third, "--identity", IDENTITY]).expect_code(0);
    lifeboat(host, ["prune"]).expect_code(0);
    assert_all_is_the_agents(host);
    lifeboat(host, ["status"]).expect_code(0);
}

/// Root takes a backup.
#[track_caller]
fn backup(host: &Host) -> String {
    let done = lifeboat(host, ["backup", "--wait", "30s"]).expect_code(0);
    assert_all_is_the_agents(host);
    done.stdout.trim().to_owned()
}

#[track_caller]
fn assert_all_is_the_agents(host: &Host) {
    let strange = host.run(["find", STORE, STATE, "!", "-user", "lifeboat"]);
    assert_eq!(strange.stdout, "");
}
