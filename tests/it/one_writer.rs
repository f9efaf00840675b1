//! Three hosts with one store: each slot is one host's, whoever dies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use serde_json::Value;

use super::support::etcd::{Etcd, Options};
use super::support::gate::Gate;
use super::support::host::{CLUSTER, Host, files_below};
use super::support::running::{Running, until};
use super::support::tools::Version;

/// Three hosts, each with a member of one cluster and all with one directory.
struct Hosts {
    etcd: Etcd,
    hosts: Vec<Host>,
    store: tempfile::TempDir,
}

impl Hosts {
    fn new(schedule: &str) -> Option<Hosts> {
        let three = Options {
            members: 3,
            ..Options::default()
        };
        let etcd = Etcd::start(Version::V3_5, three)?;
        let client = etcd.client();
        for number in 0..20 {
            client.put(&format!("/key/{number}"), vec![b'x'; 20_000], 0).unwrap();
        }
        let store = tempfile::tempdir().unwrap();
        let hosts = (0..3).map(|index| {
            let host = Host::new(&etcd);
            let member = &etcd.members[index].name;
            host.configure(
                &etcd,
                &format!("{schedule}[host]\nmember = \"{member}\"\n[backup]\nmember = \"local\"\n"),
            );
            let (own, shared) = (host.store().display().to_string(), store.path().display());
            host.reconfigure(
                &format!("url = \"file://{own}\""),
                &format!("url = \"file://{shared}\"\nshared = true"),
            );
            host
        });
        Some(Hosts {
            hosts: hosts.collect(),
            etcd,
            store,
        })
    }

    /// The agent of a host, which has a name of its own where this test may give one.
    fn agent(&self, index: usize) -> Running {
        let command = self.hosts[index].command(["agent"]);
        if !nix::unistd::geteuid().is_root() {
            return Running::start(command);
        }
        let mut named = Command::new("unshare");
        named.args([
            "--uts",
            "sh",
            "-c",
            "echo \"$0\" >/proc/sys/kernel/hostname && exec \"$@\"",
        ]);
        named
            .arg(name(index))
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => named.env(key, value),
                None => named.env_remove(key),
            };
        }
        Running::start(named)
    }

    /// The manifests in the store, by slot.
    fn by_slot(&self) -> BTreeMap<Timestamp, Vec<Value>> {
        let mut slots: BTreeMap<Timestamp, Vec<Value>> = BTreeMap::new();
        for path in self.files("full-") {
            let manifest: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let slot = manifest["slot"].as_str().unwrap().parse().unwrap();
            slots.entry(slot).or_default().push(manifest);
        }
        slots
    }

    /// The documents in the store whose names begin so.
    fn files(&self, prefix: &str) -> Vec<PathBuf> {
        let files = files_below(self.store.path()).into_iter();
        let is_meant = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(prefix) && name.ends_with(".json")
        };
        files
            .filter(is_meant)
            .map(|path| self.store.path().join(path))
            .collect()
    }

    /// In which order the hosts go, by what etcd says.
    fn order(&self) -> Vec<usize> {
        let surveyed = self.hosts[0].lifeboat(["--json", "check", "--online"]).json();
        let members = surveyed["members"].as_array().unwrap();
        let mut places: Vec<(bool, u64, usize)> = members
            .iter()
            .enumerate()
            .map(|(index, member)| {
                let id = u64::from_str_radix(member["id"].as_str().unwrap(), 16).unwrap();
                (member["role"] == "leader", id, index)
            })
            .collect();
        places.sort_unstable();
        places.into_iter().map(|(_, _, index)| index).collect()
    }
}

fn name(index: usize) -> String {
    format!("h{}", index + 1)
}

fn status(host: &Host) -> Value {
    let path = host.path("state").join(CLUSTER).join("status.json");
    let text = fs::read_to_string(path).unwrap_or_else(|_| "null".to_owned());
    serde_json::from_str(&text).expect("it is replaced whole")
}

/// Which backup a host says that the last slot has.
fn said(host: &Host) -> (Option<String>, Option<String>) {
    let copy = &status(host)["schedules"][0]["last"]["copies"][0];
    let text = |key: &str| copy[key].as_str().map(str::to_owned);
    (text("id"), text("host"))
}

/// A slot that came while no agent ran.
fn forget_everything_since_2020(host: &Host, schedule: &str) {
    let folder = host.path("state").join(CLUSTER).join("schedules");
    fs::create_dir_all(&folder).unwrap();
    let memory =
        r#"{"format":1,"when":"every 1 d","handled":{"since":"2020-01-01T00:00:00Z","runs":[]},"last_success":null}"#;
    fs::write(folder.join(format!("{schedule}.json")), memory).unwrap();
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test stands beside the hosts and looks at the clock on the wall"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

fn newest_claim(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn three_hosts_take_each_slot_once_and_go_on_without_the_one_that_went_first() {
    // The last host looks at a slot 10 s after it came, and is to have the time for that before the next one.
    const OFTEN: &str = "[schedules.often]\nkind = \"full\"\nevery = \"15s\"\njitter = \"0s\"\n";
    let Some(hosts) = Hosts::new(OFTEN) else { return };
    let order = hosts.order();
    let mut agents: BTreeMap<usize, Running> = (0..3).map(|index| (index, hosts.agent(index))).collect();
    until("three slots", || hosts.by_slot().len() >= 3);
    let first = agents.remove(&order[0]).unwrap();
    first.signal("KILL");
    first.wait().expect_code(-1);
    let killed_after = hosts.by_slot().len();
    until("two slots without it", || hosts.by_slot().len() >= killed_after + 2);
    // All hosts say the same of a slot, whoever took it.
    let survivors: Vec<&Host> = order[1..].iter().map(|&index| &hosts.hosts[index]).collect();
    until("both survivors to know the last slot", || {
        let known = said(survivors[0]);
        known.0.is_some() && known == said(survivors[1])
    });
    for (_, agent) in agents {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }

    let slots = hosts.by_slot();
    let taken: Vec<i64> = slots.keys().map(|slot| slot.as_second()).collect();
    assert!(taken.windows(2).all(|pair| pair[1] - pair[0] == 15), "{taken:?}");
    let twice: Vec<_> = slots.iter().filter(|(_, backups)| backups.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let members: Vec<&str> = slots
        .values()
        .map(|backups| backups[0]["member"]["name"].as_str().unwrap())
        .collect();
    let of = |index: usize| hosts.etcd.members[index].name.as_str();
    let (before, after) = members.split_at(killed_after);
    // The first slot may have come before all had started.
    assert!(before[1..].iter().all(|member| *member == of(order[0])), "{members:?}");
    assert!(after.iter().all(|member| *member == of(order[1])), "{members:?}");
}

#[test]
fn a_store_is_verified_and_pruned_by_one_host_and_verified_by_one_that_can_open_it() {
    const BOTH: &str = "[schedules.check]\nkind = \"verify\"\nevery = \"20s\"\njitter = \"0s\"\n\
        [schedules.tidy]\nkind = \"prune\"\nevery = \"20s\"\njitter = \"0s\"\n";
    let Some(hosts) = Hosts::new(BOTH) else { return };
    let able = &hosts.hosts[1];
    able.reconfigure(
        "[encryption]\n",
        &format!("[encryption]\nidentity = {{ file = {:?} }}\n", able.identity()),
    );
    for host in &hosts.hosts {
        host.reconfigure("shared = true", "shared = true\nretention = { keep_last = 1 }");
        // The member of the host that takes the backups may be the leader, which is not asked by itself.
        host.reconfigure("member = \"local\"\n", "member = \"local\"\nhash_kv = \"always\"\n");
    }
    (0..2).for_each(|_| drop(able.backup()));
    let agents: Vec<Running> = (0..3).map(|index| hosts.agent(index)).collect();
    // Of each slot that is done, who did it by which host's word.
    let mut done: BTreeMap<(usize, String), BTreeMap<usize, Value>> = BTreeMap::new();
    until("a slot of both schedules that all three know to be done", || {
        for (index, host) in hosts.hosts.iter().enumerate() {
            let status = status(host);
            for schedule in 0..2 {
                let last = &status["schedules"][schedule]["last"];
                if let Some(copy) = last["copies"].get(0) {
                    let known = done.entry((schedule, last["slot"].to_string())).or_default();
                    known.insert(index, copy["host"].clone());
                }
            }
        }
        let by_all = |schedule: usize| {
            done.iter()
                .any(|((of, _), known)| *of == schedule && known.len() == hosts.hosts.len())
        };
        by_all(0) && by_all(1)
    });
    for agent in agents {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }
    for ((schedule, slot), known) in &done {
        let hosts: Vec<&Value> = known.values().collect();
        assert!(hosts.windows(2).all(|pair| pair[0] == pair[1]), "{slot}: {known:?}");
        if nix::unistd::geteuid().is_root() && *schedule == 0 {
            assert_eq!(hosts[0], &name(1), "{slot}");
        }
    }
    let list = able.lifeboat(["--json", "list"]).json();
    let backups = list["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 1);
    assert_eq!(backups[0]["proof"], "hash_kv");
}

#[test]
fn what_another_host_has_stored_counts_though_this_hosts_own_store_is_gone() {
    const DAILY: &str = "[schedules.daily]\nkind = \"full\"\nevery = \"24h\"\njitter = \"0s\"\n";
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, DAILY);
    let nas = host.add_destination("nas");
    let url = format!("url = \"file://{}\"", nas.display());
    host.reconfigure(&url, &format!("{url}\nshared = true"));
    let id = host.backup();
    fs::remove_dir_all(host.store()).unwrap();
    let slots = nas.join(CLUSTER).join("slots/daily");
    fs::create_dir_all(&slots).unwrap();
    let today = now().as_second() / 86_400 * 86_400;
    let slot = Timestamp::from_second(today).unwrap();
    // The backup that another host has stored: a claim alone is not believed.
    let manifest = files_below(&nas).into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("full-")
    });
    let manifest = nas.join(manifest.unwrap());
    let text = fs::read_to_string(&manifest).unwrap();
    let of_slot = text
        .replace("\"schedule\":null", "\"schedule\":\"daily\"")
        .replace("\"slot\":null", &format!("\"slot\":\"{slot}\""));
    assert_ne!(of_slot, text);
    host.write_signed(&manifest, &of_slot);
    let claim = format!(
        "{{\"format\":1,\"host\":\"h9\",\"run\":\"1a2b\",\"chain\":\"{id}\",\
        \"state\":\"done\",\"expires_at\":\"{slot}\"}}\n"
    );
    fs::write(slots.join(format!("{}.1.json", slot.strftime("%Y%m%dT%H%M%SZ"))), claim).unwrap();
    forget_everything_since_2020(&host, "daily");
    let agent = host.start(["agent"]);
    until("two failures", || {
        status(&host)["schedules"][0]["failure"]["attempts"].as_u64() >= Some(2)
    });
    let schedule = status(&host)["schedules"][0].clone();
    let copies = schedule["last"]["copies"].as_array().cloned().unwrap_or_default();
    assert_eq!(copies.len(), 1, "{schedule}");
    assert_eq!(
        (&copies[0]["destination"], &copies[0]["host"]),
        (&"nas".into(), &"h9".into())
    );
    let error = schedule["failure"]["error"].to_string();
    assert!(error.contains("local") && !error.contains("nas"), "{error}");
    agent.signal("TERM");
    agent.wait().expect_code(0);
}

#[test]
fn when_the_host_that_works_is_killed_the_next_takes_over_once_its_claim_has_run_out() {
    const DAILY: &str =
        "[schedules.daily]\nkind = \"full\"\nevery = \"24h\"\njitter = \"0s\"\nlate_after = \"30 days\"\n";
    let Some(hosts) = Hosts::new(DAILY) else { return };
    let gates: Vec<Gate> = (0..3)
        .map(|index| {
            forget_everything_since_2020(&hosts.hosts[index], "daily");
            let url = &hosts.etcd.members[index].client_url;
            let gate = Gate::before(url, 64 << 10);
            hosts.hosts[index].reconfigure(url, &gate.url);
            gate
        })
        .collect();
    let mut agents: BTreeMap<usize, Running> = (0..3).map(|index| (index, hosts.agent(index))).collect();
    until("a host to be at work", || gates.iter().any(Gate::is_held));
    let working = gates.iter().position(Gate::is_held).unwrap();
    let other = (working + 1) % 3;
    until("another to wait for it", || {
        let waits = status(&hosts.hosts[other])["schedules"][0]["waits"].to_string();
        waits.contains("takes it")
    });
    assert_eq!(gates.iter().filter(|gate| gate.is_held()).count(), 1, "one host works");

    let killed = agents.remove(&working).unwrap();
    killed.signal("KILL");
    killed.wait().expect_code(-1);
    gates.iter().for_each(Gate::open);
    let claims = hosts.files("2");
    let claim = newest_claim(claims.iter().max().unwrap());
    let expires_at: Timestamp = claim["expires_at"].as_str().unwrap().parse().unwrap();
    if nix::unistd::geteuid().is_root() {
        assert_eq!(claim["host"], name(working));
    }
    until("the claim to run out", || {
        assert!(hosts.by_slot().is_empty() || now() > expires_at);
        now() > expires_at
    });
    until("the slot to be taken by another", || !hosts.by_slot().is_empty());
    until("the other two to know it", || {
        let mut known = agents.keys().map(|&index| said(&hosts.hosts[index]));
        let first = known.next().unwrap();
        first.0.is_some() && known.all(|other| other == first)
    });
    let slots = hosts.by_slot();
    let backups: Vec<&Value> = slots.values().flatten().collect();
    assert_eq!(backups.len(), 1);
    assert_ne!(backups[0]["member"]["name"], hosts.etcd.members[working].name.as_str());

    // Back again, it finds the slot taken.
    agents.insert(working, hosts.agent(working));
    until("the host that is back to know it", || {
        said(&hosts.hosts[working]).0.as_deref() == backups[0]["chain"].as_str()
    });
    for (_, agent) in agents {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }
    assert_eq!(hosts.by_slot().len(), 1);
}
