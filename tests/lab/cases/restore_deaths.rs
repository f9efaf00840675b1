//! Restores that are killed, or lose their power, at each place where the ledger is written, on the way there and back.
//!
//! The place is hit by `strace`, which sends SIGKILL when the ledger's directory is synced for the nth time, right after a
//! step was recorded, or when any file is put into its place for the nth time, which is also when a step is done and the
//! next not recorded yet, or when something is about to be removed for the nth time. (Of a rename `-P` sees the old name only, which nobody knows beforehand.)

use std::collections::BTreeSet;
use std::fs;

use super::restores::{KEY, LATER, LEDGERS, backed_up, has_guard, restore};
use crate::cluster::Cluster;
use crate::hosts::{Done, Host, Lab, holds, until};
use crate::install::lifeboat;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    /// kill -9 of the run alone; then somebody starts etcd.
    OfTheRun,
    /// The same, where something is removed.
    AtARemoval,
    /// The host goes with it, and boots.
    OfTheHost,
}

impl Death {
    /// The nth place where it comes.
    fn place(self, number: usize) -> Place {
        match self {
            Death::OfTheRun => Place::Recorded(number),
            Death::AtARemoval => Place::Removing(number),
            Death::OfTheHost => Place::Renaming(number),
        }
    }
}

/// Where a run is killed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// When the ledger's directory is synced for the nth time.
    Recorded(usize),
    /// When a file is about to be put into its place for the nth time.
    Renaming(usize),
    /// When something is about to be removed for the nth time.
    Removing(usize),
}

/// The steps at which runs are to have died, as the ledger calls them: a single member meets nobody.
const THERE: [&str; 8] = ["build", "guard", "stop", "swap", "settings", "start", "serve", "settle"];
const BACK: [&str; 6] = ["hold", "halt", "return", "undo", "revive", "clear"];

pub fn a_restore_killed_at_any_step_ends_with_the_old_or_the_new(lab: &Lab<'_>) {
    there(lab, Death::OfTheRun);
}

pub fn a_restore_killed_at_any_removal_ends_with_the_old_or_the_new(lab: &Lab<'_>) {
    there(lab, Death::AtARemoval);
}

pub fn a_rollback_killed_at_any_removal_ends_with_the_old_or_the_new(lab: &Lab<'_>) {
    back(lab, Death::AtARemoval);
}

pub fn a_host_that_loses_its_power_at_any_step_of_a_restore_ends_with_the_old_or_the_new(lab: &Lab<'_>) {
    there(lab, Death::OfTheHost);
}

pub fn a_rollback_killed_at_any_step_ends_with_the_old_or_the_new(lab: &Lab<'_>) {
    back(lab, Death::OfTheRun);
}

pub fn a_host_that_loses_its_power_at_any_step_of_a_rollback_ends_with_the_old_or_the_new(lab: &Lab<'_>) {
    back(lab, Death::OfTheHost);
}

fn there(lab: &Lab<'_>, death: Death) {
    let mut cluster = Cluster::start(lab, 1);
    let (id, _) = backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    let command = ["lifeboat", "restore", &id, "--identity", KEY, "--yes"];
    let (mut steps, mut ends) = (BTreeSet::new(), BTreeSet::new());
    for place in 1.. {
        let is_over = cut_off(&mut cluster, &command, place, death, &mut steps);
        let is_old = is_old(&cluster);
        ends.insert(is_old);
        if !is_old {
            lifeboat(&cluster.hosts[0], ["rollback", "--yes"]).expect_code(0);
            cluster.wait_until_served();
        }
        assert!(self::is_old(&cluster), "the old data is there after place {place}");
        if is_over {
            break;
        }
    }
    assert_eq!(ends.len(), 2, "early it ends with the old data, late with the new");
    match death {
        // What holds etcd down, and the guard that looks at it.
        Death::AtARemoval => assert_hit(&["start", "settle"], &steps),
        Death::OfTheRun | Death::OfTheHost => assert_hit(&THERE, &steps),
    }
}

fn back(lab: &Lab<'_>, death: Death) {
    let mut cluster = Cluster::start(lab, 1);
    let (id, _) = backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    let command = ["lifeboat", "rollback", "--yes"];
    let mut steps = BTreeSet::new();
    for place in 1.. {
        if is_old(&cluster) {
            restore(&cluster.hosts[0], &[&id, "--yes"]).expect_code(0);
            cluster.wait_until_served();
        }
        assert!(!is_old(&cluster), "the backup is served before place {place}");
        if cut_off(&mut cluster, &command, place, death, &mut steps) {
            break;
        }
    }
    assert!(is_old(&cluster), "what nobody cuts off comes to its end");
    match death {
        // What was laid on, what holds etcd down, and the guard.
        Death::AtARemoval => assert_hit(&["undo", "revive", "clear"], &steps),
        Death::OfTheRun | Death::OfTheHost => assert_hit(&BACK, &steps),
    }
}

/// Runs a command that dies at a place, and what comes after such a death; waits until a ledger is open no more and etcd
/// serves. Whether the command came to its end before that place.
fn cut_off(cluster: &mut Cluster, command: &[&str], place: usize, death: Death, steps: &mut BTreeSet<String>) -> bool {
    let host = &mut cluster.hosts[0];
    let done = under_strace(host, command, death.place(place));
    let is_over = done.code == 0;
    assert!(is_over || !(1..=78).contains(&done.code), "it was to be killed: {done}");
    if !is_over {
        steps.extend(step_of(host));
    }
    match death {
        Death::OfTheRun | Death::AtARemoval => {
            // Somebody cannot wait: whoever starts etcd has the restore taken up first.
            host.run_any(["systemctl", "start", "etcd"]);
        }
        Death::OfTheHost => {
            host.cut_power();
            host.boot();
        }
    }
    let host = &cluster.hosts[0];
    until(&format!("the ledger to be closed after place {place}"), || {
        let step = step_of(host);
        // What only builds has changed nothing; after a boot it waits for the next restore to be removed.
        let is_closed = step
            .as_deref()
            .is_none_or(|step| death == Death::OfTheHost && step == "build");
        holds(
            is_closed && !has_guard(host),
            (step, host.journal("lifeboat-restore-resume")),
        )
    });
    cluster.wait_until_served();
    let servers = host.run(["pgrep", "--count", "--exact", "etcd"]).stdout;
    assert_eq!(servers.trim(), "1", "one etcd after place {place}");
    is_over
}

/// Runs a command that is killed at a place.
pub(super) fn under_strace(host: &Host, command: &[&str], place: Place) -> Done {
    let strace = ["strace", "--follow-forks", "--quiet=all", "--output=/root/trace"];
    let filter = match place {
        Place::Recorded(number) => vec![
            format!("--inject=fsync:signal=KILL:when={number}"),
            "-P".to_owned(),
            LEDGERS.to_owned(),
        ],
        Place::Renaming(number) => vec![format!("--inject=rename:signal=KILL:when={number}")],
        Place::Removing(number) => vec![format!("--inject=unlink,unlinkat,rmdir:signal=KILL:when={number}")],
    };
    let filter = ["--trace=rename,fsync,unlink,unlinkat,rmdir"]
        .into_iter()
        .chain(filter.iter().map(String::as_str));
    host.run_any(
        strace
            .into_iter()
            .chain(filter)
            .chain(["--"])
            .chain(command.iter().copied()),
    )
}

/// The step that the ledger is at.
pub(super) fn step_of(host: &Host) -> Option<String> {
    let text = fs::read_to_string(host.path(LEDGERS).join("ledger.json")).ok()?;
    let ledger: serde_json::Value = serde_json::from_str(&text).expect("it is replaced whole");
    Some(ledger["step"].as_str().expect("it has one").to_owned())
}

/// Whether what is served is the data from before the restore; it must be that or what was backed up.
fn is_old(cluster: &Cluster) -> bool {
    let client = cluster.client();
    let keys = client.get_all().expect("it serves").len();
    assert!(keys >= 50, "neither the old nor the new: {keys} keys");
    client.get(LATER).expect("it serves").is_some()
}

fn assert_hit(expected: &[&str], hit: &BTreeSet<String>) {
    let missed: Vec<_> = expected.iter().filter(|step| !hit.contains(**step)).collect();
    assert!(missed.is_empty(), "no run died at {missed:?}, only at {hit:?}");
}
