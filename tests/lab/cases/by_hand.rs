//! Restores that somebody begins at a terminal, and what becomes of them when that is gone.

use std::fs;

use super::restores::{KEY, LATER, LEDGERS, backed_up, has_guard, restore};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Lab, holds, until};
use crate::install::{STORE, files_below, lifeboat};
use crate::support::host::copy_tree;

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

pub fn a_restore_takes_paths_as_they_are_and_is_not_ended_by_a_hangup(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    let folder = "/root/all my $HOME %h %% backups";
    let (file, key) = (
        format!("{folder}/copy $1 %i.db.zst.age"),
        format!("{folder}/key ${{X}} %n.txt"),
    );
    copy_tree(&host.path(STORE), &host.path(&format!("{folder}/the store")));
    host.copy_in(&host.path(KEY), &key);
    let mut objects = files_below(&host.path(STORE)).into_iter();
    let object = objects.rfind(|path| path.ends_with("full.db.zst.age"));
    host.copy_in(&object.expect("a backup was taken"), &file);

    // A terminal that is closed, whenever the ledger is written.
    let strace = [
        "strace",
        "--follow-forks",
        "--quiet=all",
        "--output=/root/trace",
        "--trace=fsync",
    ];
    let command = [
        "--inject=fsync:signal=HUP",
        "-P",
        LEDGERS,
        "--",
        "lifeboat",
        "restore",
        &file,
    ];
    let keys = ["--identity", &key, "--yes"];
    host.run([&strace[..], &command, &keys].concat());
    let trace = fs::read_to_string(host.path("/root/trace")).expect("strace writes it");
    assert!(trace.contains("SIGHUP"), "{trace}");
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), None);

    let store = format!("{folder}/the store");
    let command = ["restore", "latest", "--from", &store, "--cluster-token", "again"];
    lifeboat(host, [&command[..], &keys].concat()).expect_code(0);
    cluster.wait_until_served();
    assert_eq!(cluster.client().get_all().expect("it serves").len(), 50);
}

pub fn a_restore_in_a_unit_of_the_operators_leaves_it_too(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    let run = ["systemd-run", "--quiet", "--wait", "--unit=lifeboat-nightly"];
    host.run([&run[..], &["lifeboat", "restore", &id, "--identity", KEY, "--yes"]].concat());
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), None);
    // Whoever stops that unit does not stop the restore, and it is taken up should it die.
    let journal = host.journal("lifeboat-restore-*.scope");
    assert!(
        journal.contains("Started") && journal.contains("begun by hand"),
        "{journal}"
    );
}
