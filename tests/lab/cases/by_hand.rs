//! Restores that somebody begins at a terminal, and what becomes of them when that is gone.

use std::fs;

use super::restores::{KEY, LATER, LEDGERS, backed_up, has_guard, restore};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Lab, holds, until};
use crate::install::lifeboat;

pub fn a_restore_outlives_the_session_that_began_it(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    // So that it takes a while.
    cluster.fill(64);
    let id = lifeboat(host, ["backup"]).expect_code(0).stdout.trim().to_owned();
    cluster.client().put(LATER, "later", 0).expect("it takes writes");

    // A session's processes are in a scope, and all of them are killed when it ends.
    let begin = format!(
        "systemd-run --quiet --scope --unit=login sh -c 'lifeboat restore {id} --yes --identity {KEY} >/root/said 2>&1' \
         >/dev/null 2>&1 & echo"
    );
    host.shell(&begin);
    let ledger = host.path(LEDGERS).join("ledger.json");
    until("the restore to be begun", || {
        holds(ledger.exists(), fs::read_to_string(host.path("/root/said")))
    });
    host.run(["systemctl", "kill", "--signal=KILL", "login.scope"]);
    until("its end", || {
        holds(
            !ledger.exists() && !has_guard(host),
            host.journal("lifeboat-restore-*.scope"),
        )
    });
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), Some(b"old".to_vec()));
    until("the journal to have what nobody could read", || {
        let journal = host.journal("lifeboat-restore-*.scope");
        let has = |word: &str| journal.contains(word);
        holds(
            has("exchanging the data") && has("etcd.service serves backup"),
            journal.clone(),
        )
    });

    // What a program reads is one document, at a terminal or not.
    fs::remove_dir_all(host.path(DATA_DIR).join("member")).expect("root can remove it");
    host.run_any(["systemctl", "stop", "etcd"]);
    let said = restore(host, &[&id, "--yes", "--json", "--cluster-token", "again"]).expect_code(0);
    assert_eq!(said.json()["outcome"], "restored");
    assert_eq!(said.stdout.lines().count(), 1, "{said}");
}
