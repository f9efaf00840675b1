//! The agent and its host, killed when it suits least.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::{KEEP_TWO, OFTEN};
use crate::cluster::Cluster;
use crate::hosts::{Host, Lab, PATIENCE, holds, until};
use crate::install::{CLUSTER, STORE, UNIT, backups, enable, files_below, ids, install, lifeboat, manifests};

/// The size of the database, so that a backup takes a while.
const MEBIBYTES: usize = 64;
const KILLS: usize = 3;
const POLL: Duration = Duration::from_millis(2);

pub fn an_agent_killed_in_mid_backup_leaves_nothing_visible_and_no_growing_rubbish(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    cluster.fill(MEBIBYTES);
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    enable(host);
    let mut left = BTreeSet::new();
    until("kills in the middle of a backup", || {
        let begun = wait_for_the_middle_of_a_backup(host, &left);
        host.run(["systemctl", "kill", "--signal=KILL", UNIT]);
        until("the agent to be dead", || {
            holds(host.main_pid(UNIT) == 0, host.main_pid(UNIT))
        });
        let earlier: Vec<_> = left.iter().filter(|path: &&PathBuf| path.exists()).collect();
        assert!(
            earlier.is_empty(),
            "the run that was killed last had not swept {earlier:?}"
        );
        // It may have been quicker than the kill.
        if begun.exists() {
            left.insert(begun);
        }
        assert_all_good(host);
        // Killed so often, systemd would start it no more.
        host.run(["systemctl", "reset-failed", UNIT]);
        host.run(["systemctl", "start", UNIT]);
        holds(left.len() == KILLS, &left)
    });
    assert_only_what_is_visible_stays(host);
}

pub fn a_host_whose_power_is_cut_in_mid_backup_goes_on_by_itself_when_it_boots(lab: &Lab<'_>) {
    let mut cluster = Cluster::start(lab, 1);
    cluster.fill(MEBIBYTES);
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    enable(&cluster.hosts[0]);
    until("a first backup", || holds(!ids(&cluster.hosts[0]).is_empty(), "none"));
    wait_for_the_middle_of_a_backup(&cluster.hosts[0], &BTreeSet::new());
    cluster.hosts[0].cut_power();
    cluster.hosts[0].boot();
    cluster.wait_until_served();
    let host = &cluster.hosts[0];
    assert_all_good(host);
    assert_only_what_is_visible_stays(host);
    lifeboat(host, ["status"]).expect_code(0);
}

/// Waits until a backup is being written, other than those that are known, and gives the file that is.
pub(super) fn wait_for_the_middle_of_a_backup(host: &Host, known: &BTreeSet<PathBuf>) -> PathBuf {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut files = files_below(&host.path(STORE)).into_iter();
        let begun = files.find(|path| {
            let partial = path.extension().is_some_and(|extension| extension == "partial");
            partial && !known.contains(path) && path.metadata().is_ok_and(|file| file.len() > 1 << 20)
        });
        if let Some(begun) = begun {
            return begun;
        }
        assert!(Instant::now() < deadline, "no backup was begun in {PATIENCE:?}");
        thread::sleep(POLL);
    }
}

/// What is visible is whole.
#[track_caller]
fn assert_all_good(host: &Host) {
    for backup in backups(host) {
        assert_eq!(backup["proof"], "hash_kv", "{backup}");
    }
}

/// Waits until nothing is in the store but the backups that `list` shows.
#[track_caller]
fn assert_only_what_is_visible_stays(host: &Host) {
    let before = ids(host);
    until("a good backup afterwards", || {
        holds(ids(host).iter().any(|id| !before.contains(id)), &before)
    });
    until("everything else to be swept", || {
        let visible: BTreeSet<String> = manifests(&host.path(STORE))
            .iter()
            .map(|manifest| manifest["chain"].as_str().expect("each is of a chain").to_owned())
            .collect();
        let files = files_below(&host.path(STORE)).into_iter();
        let own = host.path(STORE).join(CLUSTER).join("store.json");
        let rubbish: Vec<PathBuf> = files
            .filter(|path| {
                let of_a_backup = path.parent().and_then(|chain| chain.file_name());
                *path != own && !of_a_backup.is_some_and(|chain| visible.contains(&*chain.to_string_lossy()))
            })
            .collect();
        holds(rubbish.is_empty(), rubbish)
    });
}
