//! One of three hosts drops out at each step of the rendezvous, whichever it is: its run is stopped, its network or its power
//! cut, it is rebooted. The others wait and name it, or go on where it has committed; no etcd runs before all have.
//!
//! `make lab` tries each step on each host, `make test` each step on one.
//!
//! The run stands still at a step by `strace`, which sends SIGSTOP when the ledger's directory is synced for the nth time.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use serde_json::Value;

use super::rendezvous::{COPY, RESUME, backup_of, lost, until_closed};
use super::restore_deaths::step_of;
use super::restores::{KEY, LATER, LEDGERS, restore};
use crate::cluster::Cluster;
use crate::hosts::{Host, Lab, holds, until};
use crate::install::lifeboat;
use crate::support::client::wait_for;

/// How a host drops out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// `systemctl stop` of what runs the restore.
    Stop,
    /// Its network is cut, while it goes on.
    Cut,
    /// Its power is cut.
    PowerCut,
    /// It is shut down in good order, and boots.
    Reboot,
}

/// Where it drops out, as the ledger calls it, and how often a run that waits has recorded something by then. At `meet` it
/// has committed and told nobody.
const STEPS: [(&str, usize); 3] = [("meet", 1), ("found", 2), ("agree", 3)];
/// How often a run has recorded something before it meets the others.
const BEFORE: usize = 5;

pub fn a_run_stopped_at_any_step_of_the_rendezvous_is_gone_on_with(lab: &Lab<'_>) {
    at_each_step_on_each_host(lab, Outage::Stop);
}

pub fn a_host_cut_off_at_any_step_of_the_rendezvous_is_waited_for(lab: &Lab<'_>) {
    at_each_step_on_each_host(lab, Outage::Cut);
}

pub fn a_host_without_power_at_any_step_of_the_rendezvous_is_waited_for(lab: &Lab<'_>) {
    at_each_step_on_each_host(lab, Outage::PowerCut);
}

pub fn a_host_rebooted_at_any_step_of_the_rendezvous_is_waited_for(lab: &Lab<'_>) {
    at_each_step_on_each_host(lab, Outage::Reboot);
}

fn at_each_step_on_each_host(lab: &Lab<'_>, outage: Outage) {
    let mut cluster = lost(lab, 3);
    let id = backup_of(&cluster);
    let mut founded = BTreeSet::new();
    for (number, (step, recorded)) in STEPS.into_iter().enumerate() {
        for victim in 0..cluster.hosts.len() {
            // Else one host a step, another with each kind of outage.
            if !lab.is_thorough && victim != (number + outage as usize) % cluster.hosts.len() {
                continue;
            }
            let at = format!("{outage:?} at {step} on {}", cluster.hosts[victim].name);
            let stopped = stand_still(&cluster, &id, victim, recorded);
            assert_eq!(step_of(&cluster.hosts[victim]).as_deref(), Some(step), "{at}");
            strike(&mut cluster.hosts[victim], outage, &stopped);
            for other in others(&cluster, victim) {
                until_it_waits_or_starts(other, &cluster.hosts[victim].name, &at);
            }
            assert_none_began_alone(&cluster, &at);
            mend(&mut cluster.hosts[victim], outage);
            until_closed(&cluster);
            cluster.wait_until_served();
            assert_none_began_alone(&cluster, &at);
            assert!(founded.insert(cluster_of(&cluster, &at)), "{at}: it had been before");
            assert_eq!(cluster.client().get(LATER).expect("it serves"), None, "{at}");
            cluster.client().put(LATER, at.as_str(), 0).expect("it takes writes");
            everywhere(&cluster, |host| {
                host.run(["systemctl", "stop", "etcd"]);
                host.run_any(["systemctl", "stop", "trial"]);
                lifeboat(host, ["release", "--yes"]).expect_code(0);
            });
        }
    }
}

/// All restore, the last after the others wait, and the run of one stands still once it has recorded something so often since
/// it met them. The number that its process has on its host.
fn stand_still(cluster: &Cluster, id: &str, victim: usize, recorded: usize) -> String {
    let (last, waiting) = cluster.hosts.split_last().expect("there are some");
    thread::scope(|scope| {
        for host in waiting {
            scope.spawn(|| {
                let said = restore(host, &[id, "--from", COPY, "--yes", "--json"]).expect_code(0);
                assert_eq!(said.json()["outcome"], "waiting", "{said}");
            });
        }
    });
    for host in waiting {
        // It says that it is ready once it has taken the restore up, which it records.
        until("it to wait in the background", || {
            holds(host.property(RESUME, "ActiveState") == "active", host.journal(RESUME))
        });
    }
    let run = format!("lifeboat restore {id} --from {COPY} --identity {KEY} --yes --wait");
    let host = &cluster.hosts[victim];
    if victim + 1 == cluster.hosts.len() {
        trap(host, BEFORE + recorded, &format!("-- {run}"));
    } else {
        let pid = host.main_pid(RESUME);
        trap(host, recorded, &format!("-p {pid}"));
        until("the run to be traced", || {
            let status = host.run_any(["cat", &format!("/proc/{pid}/status")]).stdout;
            holds(!status.contains("TracerPid:\t0\n") && !status.is_empty(), status)
        });
        last.run(["systemd-run", "--quiet", "--collect", "--unit=trial", "sh", "-c", &run]);
    }
    until("the run to stand still", || {
        let trace = fs::read_to_string(host.path("/root/trace")).unwrap_or_default();
        let stopped = trace.lines().find(|line| line.contains("stopped by SIGSTOP"));
        let pid = stopped.and_then(|line| line.split(' ').next()).map(str::to_owned);
        pid.ok_or_else(|| format!("{trace}; {:?}; {}", step_of(host), host.journal("trial")))
    })
}

/// Has a run stopped when it records something for the nth time.
fn trap(host: &Host, number: usize, what: &str) {
    let strace = format!(
        "exec strace --follow-forks --quiet=all --output=/root/trace --trace=fsync \
         --inject=fsync:signal=STOP:when={number} -P {LEDGERS} {what}"
    );
    fs::remove_file(host.path("/root/trace")).ok();
    host.run([
        "systemd-run",
        "--quiet",
        "--collect",
        "--unit=trial",
        "sh",
        "-c",
        &strace,
    ]);
}

fn strike(host: &mut Host, outage: Outage, stopped: &str) {
    match outage {
        Outage::Stop => {
            // One of them is it; the end of a run by hand has the other started. A run that only needs to start etcd does
            // that, and systemd then tells whoever wanted it to stop that it does not.
            host.run_any(["systemctl", "stop", RESUME, "lifeboat-restore-*.scope"]);
        }
        Outage::Cut => {
            host.run(["ip", "link", "set", "host0", "down"]);
            host.run(["kill", "-CONT", stopped]);
        }
        Outage::PowerCut => host.cut_power(),
        Outage::Reboot => host.shut_down(),
    }
}

fn mend(host: &mut Host, outage: Outage) {
    match outage {
        // It may have been started and have come to its end.
        Outage::Stop => drop(host.run_any(["systemctl", "start", "--no-block", RESUME])),
        Outage::Cut => drop(host.run(["ip", "link", "set", "host0", "up"])),
        Outage::PowerCut | Outage::Reboot => host.begin_to_boot(),
    }
}

fn others(cluster: &Cluster, victim: usize) -> impl Iterator<Item = &Host> {
    let hosts = cluster.hosts.iter().enumerate();
    hosts.filter(move |(index, _)| *index != victim).map(|(_, host)| host)
}

/// Does something on each host at once.
fn everywhere(cluster: &Cluster, what: impl Fn(&Host) + Sync) {
    thread::scope(|scope| {
        for host in &cluster.hosts {
            scope.spawn(|| what(host));
        }
    });
}

#[track_caller]
fn until_it_waits_or_starts(host: &Host, missing: &str, at: &str) {
    until(&format!("{at}: {} to wait or to start", host.name), || {
        let said = lifeboat(host, ["status"]).stdout;
        let waits = said.contains(&format!("{missing} does not answer"));
        holds(
            waits || host.main_pid("etcd") != 0 || step_of(host).is_none(),
            (said, host.journal(RESUME)),
        )
    });
}

/// Where one etcd runs, all hosts have committed to the same founders, each in its ledger.
#[track_caller]
fn assert_none_began_alone(cluster: &Cluster, at: &str) {
    let runs = |host: &Host| host.is_on() && host.main_pid("etcd") != 0;
    if cluster.hosts.iter().any(runs) {
        let committed: Vec<_> = cluster.hosts.iter().map(founders).collect();
        assert!(
            committed[0].is_object() && committed.iter().all(|founders| *founders == committed[0]),
            "{at}: {committed:?}"
        );
    }
}

/// To whom a host has committed, by the ledger of its last restore.
fn founders(host: &Host) -> Value {
    let folder = host.path(LEDGERS);
    let open = fs::read(folder.join("ledger.json")).ok();
    let text = open.unwrap_or_else(|| {
        let closed = fs::read_dir(folder.join("closed")).expect("a restore has ended");
        let last = closed.map(|entry| entry.expect("it can be read").path()).max();
        fs::read(last.expect("a restore has ended")).expect("it can be read")
    });
    let ledger: Value = serde_json::from_slice(&text).expect("it is replaced whole");
    ledger["plan"]["stand"]["founders"].clone()
}

/// The id of the one cluster that all hosts serve.
#[track_caller]
fn cluster_of(cluster: &Cluster, at: &str) -> u64 {
    let ids = cluster.hosts.iter().map(|host| {
        let mut client = cluster.client_of(host).raw();
        let status = wait_for(client.status()).expect("it serves");
        status.header().expect("it has one").cluster_id()
    });
    let ids: BTreeSet<u64> = ids.collect();
    assert_eq!(ids.len(), 1, "{at}: {ids:?}");
    ids.into_iter().next().expect("there is one")
}
